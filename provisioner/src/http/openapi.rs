//! The description of the API (OpenAPI 3.1), made of what serves it.

use super::App;
use axum::{Extension, Json, response::IntoResponse, response::Response};
use protocol::{
    configuration::{Change, Taken},
    node::Delegation,
    problem::ProblemDetails,
};
use std::sync::Arc;
use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi, PartialSchema,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

/// A machine in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
pub(super) struct OfMachine {
    /// Its MAC address.
    #[param(pattern = "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$")]
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

/// What is meant: a request for what is not so any more is refused (412).
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
pub(super) struct Meant {
    /// The `ETag` of what was read; `*` is for whatever is there.
    #[param(rename = "If-Match", required = false, nullable = false)]
    if_match: Option<String>,
}

/// Which revision of the configuration is changed.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
pub(super) struct OfRevision {
    /// The `ETag` of what was read. Without it nothing is changed (428), and nothing where the
    /// configuration moved on (412); `*` is for whatever is there.
    #[param(rename = "If-Match")]
    if_match: String,
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
                       provisioner's own host, or something that he signed. An operator's request \
                       that names an Idempotency-Key is done once, however often it comes; one that \
                       was signed is, by what was signed. What was read has an ETag, by which \
                       If-Match says what is meant. What is refused is told as problem details \
                       (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Token, &OfTypes),
    tags(
        (name = "machines", description = "Machines"),
        (name = "configuration", description = "What machines have in common, and each of its own"),
        (name = "media", description = "What miners' machines boot from"),
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

/// Schemas that are referred to by types with parameters, where utoipa does not find them.
struct OfTypes;

impl Modify for OfTypes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let found = [
            ("Delegation", Delegation::schema()),
            ("String", String::schema()),
            ("Change_Value", Change::<serde_json::Value>::schema()),
            ("Taken_Value", Taken::<serde_json::Value>::schema()),
        ];
        let schemas = &mut openapi.components.get_or_insert_default().schemas;
        schemas.extend(found.map(|(name, schema)| (name.to_owned(), schema)));
    }
}

/// A router whose paths are described.
pub(super) fn router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
}

/// `GET /v1/openapi.json`.
pub(super) async fn answer(
    Extension(description): Extension<Arc<utoipa::openapi::OpenApi>>,
) -> Response {
    Json(&*description).into_response()
}
