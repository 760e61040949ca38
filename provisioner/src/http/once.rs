//! Requests that may come twice and are done once: those that name a key
//! (draft-ietf-httpapi-idempotency-key-header-07). A program whose connection broke asks again with
//! the same key, and gets what was answered.

use super::{App, MAX_BODY, Problem, operators::Operator};
use crate::{store::Asked, timeline::unix_ms};
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::{Digest, problem::ProblemDetails};
use std::sync::Arc;

/// The header.
const KEY: &str = "idempotency-key";
/// The longest key.
const MAX_KEY_LEN: usize = 255;
/// The longest answer that is kept.
const MAX_KEPT: usize = 64 << 10;
/// The longest answer at all: what a change of the largest document changes.
const MAX_ANSWER: usize = 64 << 20;
/// What an answer has that was given before.
const REPLAYED: &str = "idempotent-replayed";

/// Does an operator's request with a key once. Who shows no token is refused by what he asks for, or
/// asks by a signature: what is signed is done once by itself, whatever key is named.
pub(super) async fn once(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let shows = request.headers().contains_key(header::AUTHORIZATION);
    if request.method().is_safe() || !shows {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let Some(key) = key(&parts.headers)? else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let Operator(operator) = Operator::from_request_parts(&mut parts, &app).await?;
    let body = to_bytes(body, MAX_BODY).await.map_err(|error| {
        let text = format!("the body cannot be read, or has more than {MAX_BODY} bytes: {error}");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    })?;
    let asked = (parts.method.as_str(), parts.uri.to_string(), body.to_vec());
    let digest = Digest::of("aliaOS operator's request v1", &asked);
    let (who, named) = (operator.clone(), key.clone());
    match app.store.run(move |store| store.ask(&who, &named, &digest, unix_ms())).await? {
        Asked::New => {}
        Asked::Answered(status, body) => return Ok(again(status, body)),
        Asked::AtWork => {
            let text =
                "a request with this Idempotency-Key is being worked on; ask again in a moment";
            return Err(Problem::new(StatusCode::CONFLICT, text));
        }
        Asked::Another => {
            let text = "this Idempotency-Key was another request's; a new request wants a new key";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
    }
    // Whoever leaves meanwhile does not stop it half way: it is done, and kept.
    let request = Request::from_parts(parts, Body::from(body));
    let done =
        tokio::spawn(async move { keep(&app, operator, key, next.run(request).await).await });
    done.await.map_err(|error| {
        let text = format!("the request was begun and not done: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// Keeps an answer for whoever asks again.
async fn keep(app: &App, operator: String, key: String, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = match to_bytes(body, MAX_ANSWER).await {
        Ok(body) => body,
        Err(error) => {
            let text =
                format!("the request was done, and its answer cannot be put together: {error}");
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
        }
    };
    // What failed on our side may be asked again by the same key.
    let failed = parts.status.is_server_error();
    let kept = (!failed).then(|| kept(parts.status, &parts.headers, &body));
    let written = app.store.run(move |store| {
        let answer = kept.as_ref().map(|(status, body)| (*status, body.as_str()));
        store.answered(&operator, &key, answer)
    });
    if let Err(error) = written.await {
        // It is done, and its asker learns so; who asks again is told that it is at work.
        tracing::error!("the answer to a request is not kept: {error}");
    }
    Response::from_parts(parts, Body::from(body))
}

/// What whoever asks again is told: pure. A secret is told once, and what is long is not kept.
fn kept(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> (u16, String) {
    let secret = headers.get(header::CACHE_CONTROL).is_some_and(|value| value == "no-store");
    let text = std::str::from_utf8(body).ok().filter(|_| !secret && body.len() <= MAX_KEPT);
    if let Some(text) = text {
        return (status.as_u16(), text.into());
    }
    let text = if secret {
        "this was done, and what it gave was shown that once and is kept nowhere: take it back, and \
         ask anew with another Idempotency-Key"
    } else {
        "this was done, and its answer was too long to be kept: look at what is there now"
    };
    let status = StatusCode::CONFLICT;
    let title = status.canonical_reason().unwrap_or_default();
    let problem = ProblemDetails::new(status.as_u16(), title, text);
    (status.as_u16(), serde_json::to_string(&problem).unwrap_or_default())
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let fits = (1..=MAX_KEY_LEN).contains(&text.len()) && values.next().is_none();
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Ok(Some(text.into()));
    }
    let text = format!("Idempotency-Key is one text of 1 to {MAX_KEY_LEN} plain characters");
    Err(Problem::new(StatusCode::BAD_REQUEST, text))
}

fn again(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { ProblemDetails::MEDIA_TYPE };
    let is_empty = body.is_empty();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    if is_empty {
        headers.remove(header::CONTENT_TYPE);
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
