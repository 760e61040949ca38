//! Single tables of the document: defaults, one group, rule or owner, one machine's own.

use super::change::{Asked, How, body, edit, merge};
use crate::{
    groups::{Json, change},
    http::{App, Problem, mac, operators::Operator, precondition::tag},
};
use axum::{
    Json as Body,
    extract::{MatchedPath, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// What is done to a table.
enum Do {
    Put(Json),
    Patch(Json),
    Delete,
}

/// Which part of the document a path is of.
fn part(matched: &MatchedPath) -> &'static str {
    match matched.as_str().split('/').nth(2) {
        Some("rules") => "rule",
        Some("owners") => "owner",
        _ => "group",
    }
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

async fn get(app: &App, place: &[&str]) -> Result<Response, Problem> {
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

/// `GET /v1/groups`, `/v1/rules`, `/v1/owners`.
pub(super) async fn get_all(
    State(app): State<Arc<App>>,
    matched: MatchedPath,
) -> Result<Response, Problem> {
    get(&app, &[part(&matched)]).await
}

/// `GET /v1/groups/{name}` and so on.
pub(super) async fn get_one(
    State(app): State<Arc<App>>,
    matched: MatchedPath,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    get(&app, &[part(&matched), &name]).await
}

/// `PUT /v1/groups/{name}` and so on.
pub(super) async fn put_one(
    State(app): State<Arc<App>>,
    matched: MatchedPath,
    operator: Operator,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let what = Do::Put(body(&headers, &text)?);
    one(&app, (operator, headers, how), &[part(&matched), &name], what).await
}

/// `PATCH /v1/groups/{name}` and so on.
pub(super) async fn patch_one(
    State(app): State<Arc<App>>,
    matched: MatchedPath,
    operator: Operator,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let what = Do::Patch(body(&headers, &text)?);
    one(&app, (operator, headers, how), &[part(&matched), &name], what).await
}

/// `DELETE /v1/groups/{name}` and so on.
pub(super) async fn delete_one(
    State(app): State<Arc<App>>,
    matched: MatchedPath,
    operator: Operator,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    one(&app, (operator, headers, how), &[part(&matched), &name], Do::Delete).await
}

/// `GET /v1/defaults`.
pub(super) async fn get_defaults(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    get(&app, &["defaults"]).await
}

/// `PUT /v1/defaults`.
pub(super) async fn put_defaults(
    State(app): State<Arc<App>>,
    operator: Operator,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let what = Do::Put(body(&headers, &text)?);
    one(&app, (operator, headers, how), &["defaults"], what).await
}

/// `PATCH /v1/defaults`.
pub(super) async fn patch_defaults(
    State(app): State<Arc<App>>,
    operator: Operator,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
    text: String,
) -> Result<Response, Problem> {
    let what = Do::Patch(body(&headers, &text)?);
    one(&app, (operator, headers, how), &["defaults"], what).await
}

/// `PUT /v1/machines/{mac}/config`.
pub(super) async fn put_machine(
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

/// `PATCH /v1/machines/{mac}/config`.
pub(super) async fn patch_machine(
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

/// `DELETE /v1/machines/{mac}/config`.
pub(super) async fn delete_machine(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(name): Path<String>,
    how: Result<Query<How>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mac = mac(&name)?.to_string();
    one(&app, (operator, headers, how), &["machine", &mac], Do::Delete).await
}

/// `PUT /v1/machines/{mac}/labels`.
pub(super) async fn put_labels(
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

/// `PATCH /v1/machines/{mac}/labels`.
pub(super) async fn patch_labels(
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
