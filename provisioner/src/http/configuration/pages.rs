//! The configuration's pages: groups, and the history of all of it. What is changed by them goes the way
//! of the API.

use super::{
    change::{self, Asked, How},
    members, read,
};
use crate::{
    groups::{self, Document, Json, change as changes, text},
    http::{
        App, Problem,
        pages::html,
        session::{Acting, Visitor},
    },
    page::groups::{self as page, Configuration, Import, Members, Revised, Tried},
};
use axum::{
    Form,
    extract::{Path, Query, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use std::sync::Arc;

/// Machines of a group on one page.
const MEMBERS: u32 = 200;
/// Revisions on one page.
const REVISIONS: u32 = 50;
/// The longest name of a group.
const MAX_NAME: usize = 64;

async fn configuration(app: &App) -> Result<Configuration, Problem> {
    let (mark, document, placed) = app.store.run(|store| store.configuration_whole()).await?;
    Ok(Configuration { revision: mark.revision, document, placed })
}

/// `GET /groups`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
) -> Result<Response, Problem> {
    Ok(html(page::list(&configuration(&app).await?, operator.as_deref(), None)))
}

/// `GET /groups/{name}`.
pub(super) async fn group(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Path(name): Path<String>,
    Query(behind): Query<Behind>,
) -> Result<Response, Problem> {
    show(&app, &name, operator.as_deref(), &Tried::default(), &behind).await
}

/// Behind which machine a group's page begins.
#[derive(Default, Deserialize)]
pub(super) struct Behind {
    #[serde(default)]
    after: String,
}

async fn show(
    app: &App,
    name: &str,
    operator: Option<&str>,
    tried: &Tried<'_>,
    behind: &Behind,
) -> Result<Response, Problem> {
    let configuration = configuration(app).await?;
    let Some(group) = configuration.document.group.get(name) else {
        let name: String = name.chars().take(MAX_NAME).collect();
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no group {name}")));
    };
    let text = text::write(group, text::Format::Toml)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let members = groups::members(&configuration.document, &configuration.placed, name);
    let all = members.len();
    let (page, next) = members::behind(members, Some(&behind.after), MEMBERS);
    let members = Members { all, page, next };
    Ok(html(page::group(&configuration, name, (&text, &members), operator, tried)))
}

/// A form that changes something, and the revision that it was made for.
#[derive(Deserialize)]
pub(super) struct Changed {
    revision: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    table: String,
    #[serde(default)]
    why: String,
}

fn form<T>(posted: Result<Form<T>, FormRejection>) -> Result<T, Problem> {
    let bad =
        |rejection: FormRejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text());
    posted.map(|Form(form)| form).map_err(bad)
}

/// What is asked for by a form: for the revision that it showed.
fn asked(operator: String, revision: u64, why: &str, what: String) -> Asked {
    let mut headers = HeaderMap::new();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        headers.insert(header::IF_MATCH, tag);
    }
    Asked { operator, headers, how: How::because(why, false), what }
}

/// The table of a group in a document, as a change puts it there.
fn put(document: &mut Json, name: &str, table: Option<Json>) -> Result<(), Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "the configuration has no such group");
    let document = document.as_object_mut().ok_or_else(missing)?;
    let groups = document.entry("group").or_insert_with(|| Json::Object(Default::default()));
    let groups = groups.as_object_mut().ok_or_else(missing)?;
    match table {
        Some(table) => drop(groups.insert(name.into(), table)),
        None => drop(groups.remove(name).ok_or_else(missing)?),
    }
    Ok(())
}

/// `POST /groups`: a new one, without anything set.
pub(super) async fn make(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    posted: Result<Form<Changed>, FormRejection>,
) -> Result<Response, Problem> {
    let Changed { revision, name, .. } = form(posted)?;
    let name = name.trim().to_owned();
    let asked = asked(operator.clone(), revision, "", format!("group {name} was made"));
    let made = change::edit(&app, asked, |document| {
        if document.get("group").and_then(|groups| groups.get(&name)).is_some() {
            return Err(Problem::new(StatusCode::CONFLICT, "there is a group of that name"));
        }
        put(document, &name, Some(Json::Object(Default::default())))
    });
    match made.await {
        Ok(_) => Ok(Redirect::to(&format!("/groups/{}", encoded(&name))).into_response()),
        Err(problem) => {
            let page =
                page::list(&configuration(&app).await?, Some(&operator), Some(&problem.text));
            Ok((problem.status, html(page)).into_response())
        }
    }
}

/// `POST /groups/{name}/set`.
pub(super) async fn set(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    Path(name): Path<String>,
    posted: Result<Form<Changed>, FormRejection>,
) -> Result<Response, Problem> {
    let Changed { revision, table, why, .. } = form(posted)?;
    let asked = asked(operator.clone(), revision, &why, format!("group {name} was set"));
    let set = change::edit(&app, asked, |document| {
        let wrong = |error: crate::groups::Mistake| {
            Problem::new(StatusCode::BAD_REQUEST, format!("this is no TOML: {error}"))
        };
        let parsed = text::parse(&table, text::Format::Toml).map_err(wrong)?;
        put(document, &name, Some(parsed))
    });
    done(&app, set.await, &name, &operator, Some(&table)).await
}

/// `POST /groups/{name}/delete`.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    Path(name): Path<String>,
    posted: Result<Form<Changed>, FormRejection>,
) -> Result<Response, Problem> {
    let Changed { revision, why, .. } = form(posted)?;
    let asked = asked(operator.clone(), revision, &why, format!("group {name} was taken away"));
    match change::edit(&app, asked, |document| put(document, &name, None)).await {
        Ok(_) => Ok(Redirect::to("/groups").into_response()),
        failed => done(&app, failed, &name, &operator, None).await,
    }
}

/// The group's page, where what was asked is done; and the reason on it, where it is not.
async fn done(
    app: &App,
    done: Result<Response, Problem>,
    name: &str,
    operator: &str,
    text: Option<&str>,
) -> Result<Response, Problem> {
    let problem = match done {
        Ok(_) => return Ok(Redirect::to(&format!("/groups/{}", encoded(name))).into_response()),
        Err(problem) => problem,
    };
    let tried = Tried { wrong: Some(&problem.text), text };
    let page = show(app, name, Some(operator), &tried, &Behind::default()).await?;
    Ok((problem.status, page).into_response())
}

fn encoded(name: &str) -> String {
    // A path's part has no `+` for a space.
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Before which revision the page of the history begins.
#[derive(Deserialize)]
pub(super) struct Before {
    #[serde(default)]
    before: String,
}

/// `GET /history`.
pub(super) async fn history(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Query(before): Query<Before>,
) -> Result<Response, Problem> {
    let (history, next) = read::look(&app, before.before.parse().ok(), REVISIONS).await?;
    Ok(html(page::history(&history, next, operator.as_deref())))
}

/// With what a revision is compared; with the one before it where nothing is said.
#[derive(Deserialize)]
pub(super) struct Compared {
    #[serde(default)]
    from: String,
}

/// `GET /history/{revision}`.
pub(super) async fn revision(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Path(revision): Path<u64>,
    Query(compared): Query<Compared>,
) -> Result<Response, Problem> {
    let from = compared.from.parse().unwrap_or(revision.saturating_sub(1));
    let shown = revised(&app, revision, from).await?;
    Ok(html(page::revision(&shown, operator.as_deref(), None)))
}

async fn revised(app: &App, revision: u64, from: u64) -> Result<Revised, Problem> {
    let after = read::at(app, revision).await?;
    let found = app.store.run(move |store| store.configuration_at(from)).await?;
    // Before the first, and before what is kept, stands nothing.
    let before: Document = found.unwrap_or_default();
    let changes = changes::between(&changes::json(&before), &changes::json(&after));
    let current = app.store.run(|store| store.configuration_mark()).await?.revision;
    Ok(Revised { revision, changes, from, current })
}

/// `POST /history/{revision}/rollback`.
pub(super) async fn rollback(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    Path(revision): Path<u64>,
    posted: Result<Form<Changed>, FormRejection>,
) -> Result<Response, Problem> {
    let Changed { revision: meant, why, .. } = form(posted)?;
    let old = read::at(&app, revision).await?;
    let what = format!("rolled back to revision {revision}");
    let asked = asked(operator.clone(), meant, &why, what);
    let rolled = change::edit(&app, asked, |document| {
        *document = changes::json(&old);
        Ok(())
    });
    match rolled.await {
        Ok(_) => Ok(Redirect::to("/history").into_response()),
        Err(problem) => {
            let shown = revised(&app, revision, revision.saturating_sub(1)).await?;
            let page = page::revision(&shown, Some(&operator), Some(&problem.text));
            Ok((problem.status, html(page)).into_response())
        }
    }
}

/// A file to be imported, or to be looked at first.
#[derive(Deserialize)]
pub(super) struct Imported {
    revision: u64,
    file: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    look: String,
}

/// `POST /import`.
pub(super) async fn import(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    posted: Result<Form<Imported>, FormRejection>,
) -> Result<Response, Problem> {
    let Imported { revision, file, why, look } = form(posted)?;
    let looks = !look.is_empty();
    let mut asked = asked(operator.clone(), revision, &why, change::IMPORTED.into());
    asked.how = How::because(&why, looks);
    let (status, changes) = match change::imported(&app, asked, &file).await {
        Ok(_) if !looks => return Ok(Redirect::to("/history").into_response()),
        Ok(taken) => (StatusCode::OK, Ok(taken.changes)),
        Err(problem) => (problem.status, Err(problem.text)),
    };
    // Whoever looks again looks at what holds now.
    let revision = app.store.run(|store| store.configuration_mark()).await?.revision;
    let changes = changes.as_deref().map_err(String::as_str);
    let page = page::import(&Import { revision, text: &file, why: &why, changes }, &operator);
    Ok((status, html(page)).into_response())
}
