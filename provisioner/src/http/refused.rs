//! What is refused before a handler is reached (a method, a body that is no text, a number that is
//! none in a path) is told as all else is: as problem details.

use super::Problem;
use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::problem::ProblemDetails;

/// The longest text of a refusal: the libraries' are a sentence.
const MAX_TEXT: usize = 4 << 10;

/// Makes a refusal problem details where it is none, and no page.
pub(super) async fn told(request: Request, next: Next) -> Response {
    let is_head = request.method() == axum::http::Method::HEAD;
    let response = next.run(request).await;
    let status = response.status();
    if is_head || !(status.is_client_error() || status.is_server_error()) || is_told(&response) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let text = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            "that is not asked for here: the header Allow says what is".into()
        }
        _ if text.is_empty() => status.canonical_reason().unwrap_or("it is refused").to_owned(),
        _ => text,
    };
    let mut told = Problem::new(status, text).into_response();
    for (name, value) in &parts.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            told.headers_mut().append(name, value.clone());
        }
    }
    told
}

/// Whether it says what is wrong already: to a program (`/readyz` has a form of its own), or as a
/// page.
fn is_told(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let forms = [ProblemDetails::MEDIA_TYPE, "application/json", "text/html"];
    kind.is_some_and(|kind| forms.iter().any(|form| kind.starts_with(form.as_bytes())))
}
