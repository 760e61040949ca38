//! What is configured, and what was.

use crate::{
    groups::{Document, Everything, Json, change, text},
    http::{App, Problem, mac, precondition::tag},
};
use axum::{
    Json as Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::configuration::{Change, History};
use serde::Deserialize;
use std::sync::Arc;

/// `GET /v1/config`.
pub(super) async fn document(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let (revision, document) = app.store.run(|store| store.configuration()).await?;
    Ok((tag(revision), Body(document)).into_response())
}

/// `GET /v1/config/history`.
pub(super) async fn history(State(app): State<Arc<App>>) -> Result<Body<History>, Problem> {
    Ok(Body(app.store.run(|store| store.configuration_history()).await?))
}

/// `GET /v1/config/history/{revision}`.
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    from: u64,
    to: Option<u64>,
}

/// `GET /v1/config/diff`.
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    format: text::Format,
}

/// `GET /v1/config/export`.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    asked: Result<Query<Written>, QueryRejection>,
) -> Result<Response, Problem> {
    let Written { format } = query(asked)?;
    let (revision, everything) = everything(&app).await?;
    let written = text::write(&everything, format)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok((tag(revision), [(header::CONTENT_TYPE, format.media_type())], written).into_response())
}

/// The document, where rules put machines, and the revision.
pub(super) async fn everything(app: &App) -> Result<(u64, Everything), Problem> {
    let (mark, document, placed) = app.store.run(|store| store.configuration_whole()).await?;
    Ok((mark.revision, Everything { document, placed }))
}

/// `GET /v1/machines/{mac}/config`.
pub(super) async fn effective(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let effective = app.configured.own(mac(&name)?).await.effective;
    Ok((tag(effective.revision), Body(effective)).into_response())
}

/// `GET /v1/machines/{mac}/labels`.
pub(super) async fn labels(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let effective = app.configured.own(mac(&name)?).await.effective;
    Ok((tag(effective.revision), Body(effective.labels)).into_response())
}
