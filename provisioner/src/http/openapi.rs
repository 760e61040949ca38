//! The description of the API (OpenAPI 3.1), made of what serves it.

use super::App;
use axum::{Json, response::IntoResponse, response::Response};
use protocol::problem::ProblemDetails;
use std::sync::Arc;
use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

/// A machine in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
pub(super) struct OfMachine {
    /// Its MAC address.
    #[param(pattern = "^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
    mac: String,
}

/// What makes a request be done once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
pub(super) struct Once {
    /// A text of the asker's choice: what comes twice with it is done once.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]([ -~]*[!-~])?$"
    )]
    idempotency_key: Option<String>,
}

/// What was wrong with a request, and what to do.
#[derive(IntoResponses)]
#[response(status = "default", content_type = "application/problem+json")]
#[expect(dead_code, reason = "it is described, and made by `Problem`")]
pub(super) struct Refused(ProblemDetails);

/// What stands before the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "aliaOS provisioner",
        description = "Machines that boot from the network, and what operators ask of them. \
                       Reading is open. Whoever acts shows an operator's token, by TLS or from the \
                       provisioner's own host; a request that names an Idempotency-Key is done \
                       once, however often it comes. What is refused is told as problem details \
                       (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Token),
    tags(
        (name = "machines", description = "Machines"),
        (name = "operators", description = "Who may act"),
        (name = "site", description = "The provisioner"),
    )
)]
struct Description;

/// An operator's token.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("`provisioner token add NAME` makes one".into());
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("operator", SecurityScheme::Http(scheme));
    }
}

/// A router whose paths are described.
pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
}

/// `GET /v1/openapi.json`.
pub(super) fn answer(description: &utoipa::openapi::OpenApi) -> Response {
    Json(description).into_response()
}
