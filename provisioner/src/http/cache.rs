//! Entity tags (RFC 9110, section 8.8): who asks again for what he has is told so.

use super::{App, Problem};
use crate::machine::Mac;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::{Digest, fleet::Life};
use serde::Serialize;

/// The longest answer that is tagged: what is longer is sent as it is.
const MAX_TAGGED: usize = 64 << 20;

/// Tags answers of JSON that have no tag yet by what they say, and leaves out what the asker has.
pub(super) async fn tag(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::GET).then(|| request.headers().clone());
    let response = next.run(request).await;
    let Some(asked) = asked.filter(|_| is_json(&response)) else { return response };
    let (mut parts, body) = response.into_parts();
    let body = match to_bytes(body, MAX_TAGGED).await {
        Ok(body) => body,
        Err(error) => {
            let text = format!("the answer cannot be put together: {error}");
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    };
    if !parts.headers.contains_key(header::ETAG)
        && let Ok(tag) = HeaderValue::from_str(&tag_of_bytes(&body))
    {
        parts.headers.insert(header::ETAG, tag);
    }
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let tag = parts.headers.get(header::ETAG);
    if tag.is_some_and(|tag| named(&asked, &header::IF_NONE_MATCH, tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    response.status() == StatusCode::OK && kind.is_some_and(|kind| kind == "application/json")
}

fn tag_of_bytes(body: &[u8]) -> String {
    let digest = Digest::of_bytes(body).to_string();
    format!("\"{}\"", &digest[..32])
}

/// The tag that an answer has that says so.
pub(super) fn tag_for(said: &impl Serialize) -> String {
    // Our own types always have a JSON form.
    tag_of_bytes(&serde_json::to_vec(said).unwrap_or_default())
}

/// That a machine stands where a request means it to, where that says so.
pub(super) async fn hold(app: &App, mac: Mac, headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(());
    }
    let life = app.store.run(move |store| store.life(mac)).await?;
    let Some(life) = life else { return Err(super::api::unknown(&mac.to_string())) };
    if expects(headers, &tag_of(&life)) {
        return Ok(());
    }
    let text = format!("the machine is {} by now; look at it again", life.state.as_str());
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, text))
}

/// Whether a header of tags names this one, or any.
fn named(headers: &HeaderMap, header: &header::HeaderName, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    let lists = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == tag)
}

/// The tag of a machine's state: another one with each transition.
pub(super) fn tag_of(life: &Life) -> String {
    format!("\"{}-{}\"", life.state.as_str(), life.since)
}

/// Whether a request is for what is so tagged; one that names no tag is for whatever is there.
pub(super) fn expects(headers: &HeaderMap, tag: &str) -> bool {
    let tag = HeaderValue::from_str(tag);
    !headers.contains_key(header::IF_MATCH)
        || tag.is_ok_and(|tag| named(headers, &header::IF_MATCH, &tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_as_the_rfc_has_it() {
        let tag = HeaderValue::from_static("\"a\"");
        let says = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            named(&headers, &header::IF_MATCH, &tag)
        };
        assert!(says("\"a\"") && says("*") && says("\"b\", W/\"a\""));
        assert!(!says("\"b\"") && !says("a") && !says(""));
        assert!(expects(&HeaderMap::new(), "\"a\""));
    }
}
