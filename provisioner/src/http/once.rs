//! Requests that may come twice and are done once: those that name a key
//! (draft-ietf-httpapi-idempotency-key-header-07). A program whose connection broke asks again with
//! the same key, and gets what was answered.

use super::{App, Problem, operators::Operator};
use crate::{store::Asked, timeline::unix_ms};
use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::{Digest, problem::ProblemDetails};
use std::sync::Arc;

/// The header.
const KEY: &str = "idempotency-key";
/// The longest key.
const MAX_KEY_LEN: usize = 255;
/// The longest body of an operator's request, and of an answer that is kept.
const MAX_LEN: usize = 64 << 10;
/// What an answer has that was given before.
const REPLAYED: &str = "idempotent-replayed";

/// Does a request with a key once. Who is no operator gets no further.
pub(super) async fn once(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let Some(key) = key(&parts.headers)? else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let Operator(operator) = Operator::from_request_parts(&mut parts, &app).await?;
    let body = to_bytes(body, MAX_LEN).await.map_err(|error| {
        let text = format!("the body cannot be read, or has more than {MAX_LEN} bytes: {error}");
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
    let body = to_bytes(body, MAX_LEN).await.unwrap_or_default();
    let text = String::from_utf8(body.to_vec()).ok();
    // What failed on our side may be asked again by the same key.
    let answer = text.filter(|_| !parts.status.is_server_error());
    let status = parts.status.as_u16();
    let kept = app.store.run(move |store| {
        store.answered(&operator, &key, answer.as_deref().map(|body| (status, body)))
    });
    if let Err(error) = kept.await {
        // It is done, and its asker learns so; who asks again is told that it is at work.
        tracing::error!("the answer to a request is not kept: {error}");
    }
    Response::from_parts(parts, Body::from(body))
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
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
