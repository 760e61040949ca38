//! Single tables of the document: defaults, one group, rule or owner, one machine's own.

use super::change::{Asked, Became, How, body, edit, merge};
use crate::{
    groups::{Group, Json, Machine, Rule, change},
    http::{
        App, Problem, mac,
        openapi::{OfMachine, OfRevision, Once, Refused},
        operators::Operator,
        precondition::tag,
    },
};
use axum::{
    Json as Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use protocol::{Signed, node::Delegation};
use std::sync::Arc;
use utoipa::IntoParams;

/// An owner's table: what he signed.
type Owner = Signed<Delegation>;

/// One of several in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is described, and read elsewhere")]
struct Named {
    /// What it is called.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    name: String,
}

/// What is done to a table.
enum Do {
    Put(Json),
    Patch(Json),
    Delete,
}

/// Does it to the table at a place of the document.
async fn one(
    app: &App,
    asked: (Operator, HeaderMap, Result<Query<How>, QueryRejection>),
    place: &[&str],
    what: Do,
) -> Result<Response, Problem> {
    let (operator, headers, how) = asked;
    let done = match what {
        Do::Put(_) => "set",
        Do::Patch(_) => "changed",
        Do::Delete => "taken away",
    };
    let asked = Asked::new(operator, headers, how, format!("{} was {done}", place.join(" ")))?;
    edit(app, asked, |document| apply(document, place, what)).await
}

/// Pure.
fn apply(document: &mut Json, place: &[&str], what: Do) -> Result<(), Problem> {
    let Some((last, above)) = place.split_last() else { return Ok(()) };
    let mut table = document;
    for name in above {
        let Some(members) = table.as_object_mut() else { return Err(missing(place)) };
        let fresh = || Json::Object(serde_json::Map::new());
        table = members.entry(*name).or_insert_with(fresh);
    }
    let Some(members) = table.as_object_mut() else { return Err(missing(place)) };
    match what {
        Do::Put(value) => drop(members.insert((*last).into(), value)),
        Do::Patch(value) => merge(members.entry(*last).or_insert(Json::Null), value),
        Do::Delete => drop(members.remove(*last).ok_or_else(|| missing(place))?),
    }
    Ok(())
}

fn missing(place: &[&str]) -> Problem {
    let place: String = place.join(" ").chars().take(100).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("the configuration has no {place}"))
}

async fn look(app: &App, place: &[&str]) -> Result<Response, Problem> {
    let (revision, document) = app.store.run(|store| store.configuration()).await?;
    let document = change::json(&document);
    let mut table = Some(&document);
    for name in place {
        table = table.and_then(|table| table.get(name));
    }
    // A part that nobody wrote is empty.
    let empty = Json::Object(serde_json::Map::new());
    let table = table.or_else(|| (place.len() == 1).then_some(&empty));
    let table = table.ok_or_else(|| missing(place))?;
    Ok((tag(revision), Body(table)).into_response())
}

/// The handlers of one kind of named tables.
macro_rules! named {
    ($module:ident, $part:literal, $all:tt, $one:tt, $kind:ident) => {
        pub(super) mod $module {
            use super::*;

            #[utoipa::path(
                get, path = $all, tag = "configuration", operation_id = concat!($part, "s"),
                summary = concat!("Each ", $part, " of the configuration, by name."),
                responses(
                    (status = 200, description = "Them all", body = BTreeMap<String, $kind>,
                     headers(("ETag" = String, description = "The configuration's revision"))),
                    Refused,
                )
            )]
            pub(in super::super) async fn all(
                State(app): State<Arc<App>>,
            ) -> Result<Response, Problem> {
                look(&app, &[$part]).await
            }

            #[utoipa::path(
                get, path = $one, tag = "configuration", operation_id = concat!("get_", $part),
                summary = concat!("One ", $part, "."),
                params(Named),
                responses(
                    (status = 200, description = "Its table", body = $kind,
                     headers(("ETag" = String, description = "The configuration's revision"))),
                    Refused,
                )
            )]
            pub(in super::super) async fn get(
                State(app): State<Arc<App>>,
                Path(name): Path<String>,
            ) -> Result<Response, Problem> {
                look(&app, &[$part, &name]).await
            }

            #[utoipa::path(
                put, path = $one, tag = "configuration", operation_id = concat!("put_", $part),
                summary = concat!("Makes one ", $part, ", or replaces its table."),
                security(("operator" = [])), params(Named, How, OfRevision, Once),
                request_body = $kind, responses(Became, Refused)
            )]
            pub(in super::super) async fn put(
                State(app): State<Arc<App>>,
                operator: Operator,
                Path(name): Path<String>,
                how: Result<Query<How>, QueryRejection>,
                headers: HeaderMap,
                text: String,
            ) -> Result<Response, Problem> {
                let what = Do::Put(body(&headers, &text)?);
                one(&app, (operator, headers, how), &[$part, &name], what).await
            }

            #[utoipa::path(
                patch, path = $one, tag = "configuration", operation_id = concat!("patch_", $part),
                summary = concat!("Changes one ", $part, " by a merge patch (RFC 7396)."),
                security(("operator" = [])), params(Named, How, OfRevision, Once),
                request_body = Json, responses(Became, Refused)
            )]
            pub(in super::super) async fn patch(
                State(app): State<Arc<App>>,
                operator: Operator,
                Path(name): Path<String>,
                how: Result<Query<How>, QueryRejection>,
                headers: HeaderMap,
                text: String,
            ) -> Result<Response, Problem> {
                let what = Do::Patch(body(&headers, &text)?);
                one(&app, (operator, headers, how), &[$part, &name], what).await
            }

            #[utoipa::path(
                delete, path = $one, tag = "configuration",
                operation_id = concat!("delete_", $part),
                summary = concat!("Takes one ", $part, " away."),
                security(("operator" = [])), params(Named, How, OfRevision, Once),
                responses(Became, Refused)
            )]
            pub(in super::super) async fn delete(
                State(app): State<Arc<App>>,
                operator: Operator,
                Path(name): Path<String>,
                how: Result<Query<How>, QueryRejection>,
                headers: HeaderMap,
            ) -> Result<Response, Problem> {
                one(&app, (operator, headers, how), &[$part, &name], Do::Delete).await
            }
        }
    };
}

named!(groups, "group", "/v1/groups", "/v1/groups/{name}", Group);
named!(rules, "rule", "/v1/rules", "/v1/rules/{name}", Rule);
named!(owners, "owner", "/v1/owners", "/v1/owners/{name}", Owner);

/// What holds where nobody says otherwise.
pub(super) mod defaults {
    use super::*;

    /// What holds for machines where nobody says otherwise.
    #[utoipa::path(
        get, path = "/v1/defaults", tag = "configuration", operation_id = "defaults",
        responses(
            (status = 200, description = "Values by their keys", body = BTreeMap<String, Json>,
             headers(("ETag" = String, description = "The configuration's revision"))),
            Refused,
        )
    )]
    pub(in super::super) async fn get(State(app): State<Arc<App>>) -> Result<Response, Problem> {
        look(&app, &["defaults"]).await
    }

    /// Replaces them.
    #[utoipa::path(
        put, path = "/v1/defaults", tag = "configuration", operation_id = "put_defaults",
        security(("operator" = [])), params(How, OfRevision, Once),
        request_body = BTreeMap<String, Json>, responses(Became, Refused)
    )]
    pub(in super::super) async fn put(
        State(app): State<Arc<App>>,
        operator: Operator,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let what = Do::Put(body(&headers, &text)?);
        one(&app, (operator, headers, how), &["defaults"], what).await
    }

    /// Changes them by a merge patch (RFC 7396).
    #[utoipa::path(
        patch, path = "/v1/defaults", tag = "configuration", operation_id = "patch_defaults",
        security(("operator" = [])), params(How, OfRevision, Once),
        request_body = Json, responses(Became, Refused)
    )]
    pub(in super::super) async fn patch(
        State(app): State<Arc<App>>,
        operator: Operator,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let what = Do::Patch(body(&headers, &text)?);
        one(&app, (operator, headers, how), &["defaults"], what).await
    }
}

/// A machine's own table.
pub(super) mod machine {
    use super::*;

    /// Replaces a machine's own table: groups, labels, values.
    #[utoipa::path(
        put, path = "/v1/machines/{mac}/config", tag = "configuration",
        operation_id = "put_machine_configuration", security(("operator" = [])),
        params(OfMachine, How, OfRevision, Once), request_body = Machine,
        responses(Became, Refused)
    )]
    pub(in super::super) async fn put(
        State(app): State<Arc<App>>,
        operator: Operator,
        Path(name): Path<String>,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let (mac, what) = (mac(&name)?.to_string(), Do::Put(body(&headers, &text)?));
        one(&app, (operator, headers, how), &["machine", &mac], what).await
    }

    /// Changes a machine's own table by a merge patch (RFC 7396).
    #[utoipa::path(
        patch, path = "/v1/machines/{mac}/config", tag = "configuration",
        operation_id = "patch_machine_configuration", security(("operator" = [])),
        params(OfMachine, How, OfRevision, Once), request_body = Json,
        responses(Became, Refused)
    )]
    pub(in super::super) async fn patch(
        State(app): State<Arc<App>>,
        operator: Operator,
        Path(name): Path<String>,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let (mac, what) = (mac(&name)?.to_string(), Do::Patch(body(&headers, &text)?));
        one(&app, (operator, headers, how), &["machine", &mac], what).await
    }

    /// Takes a machine's own table away.
    #[utoipa::path(
        delete, path = "/v1/machines/{mac}/config", tag = "configuration",
        operation_id = "delete_machine_configuration", security(("operator" = [])),
        params(OfMachine, How, OfRevision, Once), responses(Became, Refused)
    )]
    pub(in super::super) async fn delete(
        State(app): State<Arc<App>>,
        operator: Operator,
        Path(name): Path<String>,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
    ) -> Result<Response, Problem> {
        let mac = mac(&name)?.to_string();
        one(&app, (operator, headers, how), &["machine", &mac], Do::Delete).await
    }
}

/// A machine's own labels.
pub(super) mod labels {
    use super::*;

    /// Replaces a machine's own labels.
    #[utoipa::path(
        put, path = "/v1/machines/{mac}/labels", tag = "configuration",
        operation_id = "put_labels", security(("operator" = [])),
        params(OfMachine, How, OfRevision, Once), request_body = BTreeMap<String, String>,
        responses(Became, Refused)
    )]
    pub(in super::super) async fn put(
        State(app): State<Arc<App>>,
        operator: Operator,
        Path(name): Path<String>,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let (mac, what) = (mac(&name)?.to_string(), Do::Put(body(&headers, &text)?));
        one(&app, (operator, headers, how), &["machine", &mac, "labels"], what).await
    }

    /// Changes a machine's own labels by a merge patch (RFC 7396).
    #[utoipa::path(
        patch, path = "/v1/machines/{mac}/labels", tag = "configuration",
        operation_id = "patch_labels", security(("operator" = [])),
        params(OfMachine, How, OfRevision, Once), request_body = Json,
        responses(Became, Refused)
    )]
    pub(in super::super) async fn patch(
        State(app): State<Arc<App>>,
        operator: Operator,
        Path(name): Path<String>,
        how: Result<Query<How>, QueryRejection>,
        headers: HeaderMap,
        text: String,
    ) -> Result<Response, Problem> {
        let (mac, what) = (mac(&name)?.to_string(), Do::Patch(body(&headers, &text)?));
        one(&app, (operator, headers, how), &["machine", &mac, "labels"], what).await
    }
}
