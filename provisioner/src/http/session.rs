//! Operators in a browser: signed in by a token, known by a cookie from then on.
//!
//! The cookie goes to no script and to no other site, and by TLS alone where it was given so. Whoever
//! acts by it comes from our own pages: the browser says so itself.

use super::{App, Problem, pages};
use crate::{access, page, store::SESSION_LASTS, timeline::unix_ms};
use axum::{
    Extension, Form,
    extract::{FromRequestParts, Query, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use listener::Secured;
use protocol::Digest;
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc};

/// The cookie.
const COOKIE: &str = "alia-session";

/// Who looks at a page: an operator, or anybody.
pub(super) struct Visitor(pub(super) Option<String>);

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let Some(digest) = session(&parts.headers) else { return Ok(Self(None)) };
        // A store that fails shows the page as anybody sees it; the page says the rest.
        let found = app.store.run(move |store| store.session(&digest, unix_ms())).await;
        Ok(Self(found.unwrap_or_default()))
    }
}

/// An operator who acts from one of our pages.
pub(super) struct Acting(pub(super) String);

impl FromRequestParts<Arc<App>> for Acting {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        if !is_ours(&parts.headers) {
            let text = "this comes from another site's page; nothing was done";
            return Err(Problem::new(StatusCode::FORBIDDEN, text).into_response());
        }
        let Ok(Visitor(operator)) = Visitor::from_request_parts(parts, app).await;
        operator.map(Self).ok_or_else(|| Redirect::to("/sign-in").into_response())
    }
}

/// The digest of the session that a cookie names.
fn session(headers: &HeaderMap) -> Option<Digest> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).map(str::trim);
    let value = pairs.find_map(|pair| pair.strip_prefix(COOKIE)?.strip_prefix('='))?;
    Some(digest(value))
}

fn digest(session: &str) -> Digest {
    Digest::of("aliaOS session v1", &session)
}

/// Whether a browser says that our own page sends this (the Fetch standard's `Origin`).
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority == Some(host)
}

/// Where to go once signed in.
#[derive(Deserialize)]
pub(super) struct To {
    #[serde(default)]
    to: String,
}

/// `GET /sign-in`.
pub(super) async fn form(Visitor(operator): Visitor, Query(to): Query<To>) -> Response {
    pages::html(page::sign_in(operator.as_deref(), local(&to.to), None))
}

/// A token, as it was typed.
#[derive(Deserialize)]
pub(super) struct Typed {
    token: String,
    #[serde(default)]
    to: String,
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    secured: Option<Extension<Secured>>,
    headers: HeaderMap,
    typed: Result<Form<Typed>, FormRejection>,
) -> Result<Response, Problem> {
    let typed = typed.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?.0;
    if !is_ours(&headers) {
        let text = "this comes from another site's page; nobody was signed in";
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    let token = access::digest(typed.token.trim());
    let operator = app.store.run(move |store| store.operator(&token)).await?;
    let Some(operator) = operator else {
        let wrong = Some("That token is nobody's, or was revoked.");
        let mut response = pages::html(page::sign_in(None, local(&typed.to), wrong));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(response);
    };
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("there is no randomness: {error}"))
    })?;
    let session = hex::encode(bytes);
    let kept = digest(&session);
    app.store.run(move |store| store.begin_session(&kept, &operator, unix_ms())).await?;
    let cookie = cookie(&session, SESSION_LASTS / 1_000, secured.is_some());
    let headers = [(header::SET_COOKIE, cookie)];
    Ok((headers, Redirect::to(local(&typed.to))).into_response())
}

/// `POST /sign-out`.
pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    secured: Option<Extension<Secured>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(digest) = session(&headers).filter(|_| is_ours(&headers)) {
        app.store.run(move |store| store.end_session(&digest)).await?;
    }
    let headers = [(header::SET_COOKIE, cookie("", 0, secured.is_some()))];
    Ok((headers, Redirect::to("/")).into_response())
}

fn cookie(session: &str, seconds: u64, secured: bool) -> HeaderValue {
    let secure = if secured { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// A path here, whatever was asked for: nobody is sent elsewhere.
fn local(to: &str) -> &str {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:?=&%+".contains(c);
    let here = to.starts_with('/') && !to.starts_with("//") && to.chars().all(plain);
    if here { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        let value = |pair: &(header::HeaderName, &'static str)| {
            (pair.0.clone(), HeaderValue::from_static(pair.1))
        };
        pairs.iter().map(value).collect()
    }

    #[test]
    fn only_our_own_pages_act() {
        let from = |origin| headers(&[(header::ORIGIN, origin), (header::HOST, "10.0.0.1:8443")]);
        assert!(is_ours(&from("https://10.0.0.1:8443")));
        for other in ["https://10.0.0.1", "null", "https://evil.example", "10.0.0.1:8443"] {
            assert!(!is_ours(&from(other)), "{other}");
        }
        assert!(
            !is_ours(&headers(&[(header::HOST, "10.0.0.1:8443")])),
            "a browser says where from"
        );
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(local("/machines/52:54:00:00:00:01?x=1"), "/machines/52:54:00:00:00:01?x=1");
        for bad in ["", "//evil.example", "https://evil.example", "/\\evil", "x", "/a\r\nb"] {
            assert_eq!(local(bad), "/", "{bad}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = |cookies| session(&headers(&[(header::COOKIE, cookies)]));
        assert_eq!(found("a=b; alia-session=x"), Some(digest("x")));
        assert_eq!(found("alia-sessions=x"), None);
        assert_eq!(session(&HeaderMap::new()), None);
    }
}
