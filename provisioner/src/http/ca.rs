//! Our CA's certificate, for firmware's menus and browsers. Fetched by plain HTTP it is what
//! whoever answers says: `provisioner ca` shows the fingerprint to compare it with.

use super::{App, Problem};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// `GET /ca.pem`.
pub(super) async fn pem(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    Ok((kind, own(&app)?.pem().to_owned()).into_response())
}

/// `GET /ca.der`.
pub(super) async fn der(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    // RFC 2585, 4.1.
    let kind = [(header::CONTENT_TYPE, "application/pkix-cert")];
    Ok((kind, own(&app)?.certificate().to_vec()).into_response())
}

fn own(app: &App) -> Result<&crate::tls::ca::Ca, Problem> {
    if app.own_certificate {
        return Ok(&app.ca);
    }
    let text = "this provisioner shows its operator's certificate: what to trust is the CA that \
                made that one, and the operator has it";
    Err(Problem::new(StatusCode::NOT_FOUND, text))
}
