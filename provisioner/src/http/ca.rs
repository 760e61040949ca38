//! Our CA's certificate, for firmware's menus and browsers. Fetched by plain HTTP it is what
//! whoever answers says: `provisioner ca` shows the fingerprint to compare it with.

use super::{App, Problem};
use crate::tls::ca::Ca;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// `GET /ca.pem`.
pub(super) async fn pem(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(as_pem(own(&app)?))
}

/// `GET /ca.der`.
pub(super) async fn der(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(as_der(own(&app)?))
}

/// `GET /ca-rsa.pem`.
pub(super) async fn rsa_pem(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(as_pem(rsa(&app)?))
}

/// `GET /ca-rsa.der`.
pub(super) async fn rsa_der(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(as_der(rsa(&app)?))
}

fn as_pem(ca: &Ca) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    (kind, ca.pem().to_owned()).into_response()
}

fn as_der(ca: &Ca) -> Response {
    // RFC 2585, 4.1.
    let kind = [(header::CONTENT_TYPE, "application/pkix-cert")];
    (kind, ca.certificate().to_vec()).into_response()
}

fn rsa(app: &App) -> Result<&Ca, Problem> {
    own(app)?;
    app.ca_rsa.as_deref().ok_or_else(|| {
        let text = "there is no CA of RSA keys: it is made where firmware boots by HTTPS \
                    (--http-boot https, or https = true for one machine)";
        Problem::new(StatusCode::NOT_FOUND, text)
    })
}

fn own(app: &App) -> Result<&Ca, Problem> {
    if app.own_certificate {
        return Ok(&app.ca);
    }
    let text = "this provisioner shows its operator's certificate: what to trust is the CA that \
                made that one, and the operator has it";
    Err(Problem::new(StatusCode::NOT_FOUND, text))
}
