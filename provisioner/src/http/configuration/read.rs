//! What is configured, and what was.

use crate::{
    groups::{Document, Everything, Json, change, text},
    http::{
        App, Problem, listing, mac,
        openapi::{OfMachine, Refused},
        precondition::{tag, tag_of},
    },
};
use axum::{
    Json as Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::configuration::{Change, Effective, History, Sourced};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// A label, and whence.
type Label = Sourced<String>;
/// What differs.
type Differs = Change<Json>;

/// Revisions of a page where nobody says.
const USUAL: u32 = 100;
/// The most revisions of a page: all that are kept.
const MOST: u32 = 500;

/// The configuration of all machines, as one document.
#[utoipa::path(
    get, path = "/v1/config", tag = "configuration", operation_id = "configuration",
    responses(
        (status = 200, description = "The document", body = Document,
         headers(("ETag" = String, description = "Its revision"))),
        Refused,
    )
)]
pub(super) async fn document(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let (revision, document) = app.store.run(|store| store.configuration()).await?;
    Ok((tag(revision), Body(document)).into_response())
}

/// Which revisions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those before this one, as `Link` of the page before has it.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// So many at the most; 100 where nobody says.
    #[param(required = false, nullable = false, minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// The revisions of the configuration, newest first.
///
/// 500 are kept; where there are more than were asked for, the header `Link` names the next page (RFC
/// 8288).
#[utoipa::path(
    get, path = "/v1/config/history", tag = "configuration", operation_id = "history",
    params(Wanted),
    responses(
        (status = 200, description = "Revisions", body = History,
         headers(("Link" = String, description = "The next page, where there is one"))),
        Refused,
    )
)]
pub(super) async fn history(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let Wanted { before, limit } = query(wanted)?;
    let most = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&most) {
        let text = format!("limit is a number from 1 to {MOST}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    let bad = |error: listing::BadWanted| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let before = listing::number(before).map_err(bad)?;
    let (history, next) = look(&app, before, most).await?;
    let next = next.map(|next| {
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        listing::link("/v1/config/history", limit.into_iter().chain([("before", next.to_string())]))
    });
    Ok(listing::paged(Body(history), next))
}

/// So many revisions, newest first, and before which one there are more.
pub(super) async fn look(
    app: &App,
    before: Option<u64>,
    most: u32,
) -> Result<(History, Option<u64>), Problem> {
    let asked = move |store: &crate::store::Store| store.configuration_history(before, most + 1);
    let mut history = app.store.run(asked).await?;
    let more = history.revisions.len() > most as usize;
    history.revisions.truncate(most as usize);
    let next = history.revisions.last().filter(|_| more).map(|last| last.revision);
    Ok((history, next))
}

/// The document of a revision; that of revision 0 is empty.
#[utoipa::path(
    get, path = "/v1/config/history/{revision}", tag = "configuration", operation_id = "revision",
    params(("revision" = u64, Path, description = "Which", maximum = 9_007_199_254_740_991_u64)),
    responses(
        (status = 200, description = "Its document", body = Document),
        Refused,
    )
)]
pub(super) async fn revision(
    State(app): State<Arc<App>>,
    Path(revision): Path<u64>,
) -> Result<Body<Document>, Problem> {
    at(&app, revision).await.map(Body)
}

/// The document of a revision.
pub(super) async fn at(app: &App, revision: u64) -> Result<Document, Problem> {
    let found = app.store.run(move |store| store.configuration_at(revision)).await?;
    found.ok_or_else(|| {
        let text = format!(
            "revision {revision} is not kept, or never was: /v1/config/history has those that are"
        );
        Problem::new(StatusCode::NOT_FOUND, text)
    })
}

/// Of what a difference is asked.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Between {
    /// From this revision.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    from: u64,
    /// To this one; to the one that holds where nobody says.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    to: Option<u64>,
}

/// What differs between two revisions.
#[utoipa::path(
    get, path = "/v1/config/diff", tag = "configuration", operation_id = "diff", params(Between),
    responses(
        (status = 200, description = "What differs", body = Vec<Differs>),
        Refused,
    )
)]
pub(super) async fn diff(
    State(app): State<Arc<App>>,
    asked: Result<Query<Between>, QueryRejection>,
) -> Result<Body<Vec<Change<Json>>>, Problem> {
    let Between { from, to } = query(asked)?;
    let before = at(&app, from).await?;
    let after = match to {
        Some(to) => at(&app, to).await?,
        None => app.store.run(|store| store.configuration()).await?.1,
    };
    Ok(Body(change::between(&change::json(&before), &change::json(&after))))
}

pub(super) fn query<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    let wrong = |rejection: QueryRejection| Problem::new(rejection.status(), rejection.body_text());
    asked.map(|Query(asked)| asked).map_err(wrong)
}

/// How an export is written.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Written {
    /// `toml`, for people, or `json`; `toml` where nobody says.
    #[serde(default)]
    #[param(required = false, nullable = false, value_type = String, pattern = "^(toml|json)$")]
    format: text::Format,
}

/// Everything as one file: the document, and where rules put machines.
#[utoipa::path(
    get, path = "/v1/config/export", tag = "configuration", operation_id = "export",
    params(Written),
    responses(
        (status = 200, description = "The file",
         content((String = "application/toml"), (Everything = "application/json")),
         headers(("ETag" = String, description = "The configuration's revision, and what rules did"))),
        Refused,
    )
)]
pub(super) async fn export(
    State(app): State<Arc<App>>,
    asked: Result<Query<Written>, QueryRejection>,
) -> Result<Response, Problem> {
    let Written { format } = query(asked)?;
    let (revision, everything) = everything(&app).await?;
    let tag = tag_of(revision, &everything);
    let written = text::write(&everything, format)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok((tag, [(header::CONTENT_TYPE, format.media_type())], written).into_response())
}

/// The document, where rules put machines, and the revision.
pub(super) async fn everything(app: &App) -> Result<(u64, Everything), Problem> {
    let (mark, document, placed) = app.store.run(|store| store.configuration_whole()).await?;
    Ok((mark.revision, Everything { document, placed }))
}

/// What holds for a machine, and whence: the file's values, its own, its groups', the defaults.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/config", tag = "configuration", operation_id = "effective",
    params(OfMachine),
    responses(
        (status = 200, description = "What holds", body = Effective<Json>,
         headers(("ETag" = String, description = "The configuration's revision, and what rules did"))),
        Refused,
    )
)]
pub(super) async fn effective(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let effective = app.configured.own(mac(&name)?).await.effective;
    Ok((tag_of(effective.revision, &effective), Body(effective)).into_response())
}

/// A machine's labels, and whence.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/labels", tag = "configuration", operation_id = "labels",
    params(OfMachine),
    responses(
        (status = 200, description = "Its labels", body = BTreeMap<String, Label>,
         headers(("ETag" = String, description = "The configuration's revision, and what rules did"))),
        Refused,
    )
)]
pub(super) async fn labels(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let effective = app.configured.own(mac(&name)?).await.effective;
    Ok((tag_of(effective.revision, &effective), Body(effective.labels)).into_response())
}
