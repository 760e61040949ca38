//! The page's handlers: look up, then let `page` write.

use super::{
    App, Problem, api, console,
    listing::{self, Sought},
    mac,
    session::{Acting, Visitor},
    timeline,
};
use crate::{
    life::{self, Actor, Cause},
    page,
    store::{Filter, Moved},
    timeline::unix_ms,
};
use axum::{
    Form,
    extract::{Path, Query, State, rejection::FormRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use maud::Markup;
use protocol::{
    PublicKey,
    fleet::{Life, MachineState, MachineStatus, UpstreamStatus},
};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};

/// Nothing is loaded from elsewhere, and nothing here is to be framed by others.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";
/// Machines on one page.
const A_PAGE: u32 = 50;
/// Events on one page.
const EVENTS: u32 = 100;
/// Machines that need somebody, shown first.
const FIRST: u32 = 12;

pub(super) fn html(markup: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, markup.into_string()).into_response()
}

/// `GET /`.
pub(super) async fn overview(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Query(sought): Query<Sought>,
) -> Result<Response, Problem> {
    Ok(html(page::overview(&seen(&app, &sought).await?, operator.as_deref())))
}

/// `GET /live`: the part of the page that changes.
pub(super) async fn live(
    State(app): State<Arc<App>>,
    Query(sought): Query<Sought>,
) -> Result<Response, Problem> {
    Ok(html(page::live(&seen(&app, &sought).await?)))
}

/// `GET /approvals`: the machines that wait for somebody's word.
pub(super) async fn approvals(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Query(sought): Query<Sought>,
) -> Result<Response, Problem> {
    let now = unix_ms();
    let state = Some(MachineState::Pending);
    let filter = Filter { state, most: A_PAGE + 1, ..sought.filter() };
    let waiting = app.store.run(move |store| store.listed(&filter, now)).await?;
    let (waiting, next) = page_of(waiting, |last| sought.next("/approvals", last));
    Ok(html(page::approvals(&waiting, next.as_deref(), operator.as_deref(), now)))
}

/// A page of machines of which one more was asked for, and where the list goes on.
fn page_of(
    mut machines: Vec<MachineStatus>,
    next: impl FnOnce(&MachineStatus) -> String,
) -> (Vec<MachineStatus>, Option<String>) {
    let more = machines.len() > A_PAGE as usize;
    machines.truncate(A_PAGE as usize);
    let next = machines.last().filter(|_| more).map(next);
    (machines, next)
}

/// What the machines are called that work at jobs.
async fn names(app: &App, upstream: &UpstreamStatus) -> Result<page::Names, Problem> {
    let jobs = upstream.parameter_servers.iter().flat_map(|server| &server.jobs);
    let nodes: BTreeSet<PublicKey> = jobs.flat_map(page::job::nodes).collect();
    Ok(app.store.run(move |store| store.names_of(&nodes)).await?)
}

/// `GET /jobs`: what the parameter servers work at.
pub(super) async fn jobs(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
) -> Result<Response, Problem> {
    let upstream = (**app.upstream.borrow()).clone();
    let names = names(&app, &upstream).await?;
    Ok(html(page::jobs(&upstream, &names, operator.as_deref())))
}

/// `GET /machines/{mac}`.
pub(super) async fn machine(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Path(name): Path<String>,
    Query(sought): Query<console::Sought>,
    Query(past): Query<Past>,
) -> Result<Response, Problem> {
    let shown = shown(&app, &name, &sought, &past).await?;
    Ok(html(page::machine(&shown, operator.as_deref(), None)))
}

/// Which events and deaths a machine's page shows. What makes no sense is as if it were not there.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Past {
    /// Events before that one.
    #[serde(default)]
    events: String,
    /// Deaths whose log contains this.
    #[serde(default)]
    crash: String,
}

/// What a machine's page shows.
async fn shown(
    app: &App,
    name: &str,
    sought: &console::Sought,
    past: &Past,
) -> Result<page::Machine, Problem> {
    let mac = mac(name)?;
    let mut detail = api::detail(app, name).await?;
    let before = past.events.parse().ok();
    let (timeline, older) = timeline::look(app, mac, before, EVENTS).await?;
    detail.timeline = timeline;
    let crash = listing::sought(&past.crash);
    let died = !detail.crashes.is_empty();
    if let Some(text) = crash.clone() {
        detail.crashes = app.store.run(move |store| store.crashes(mac, Some(&text))).await?;
    }
    let past = page::Past { died, crash, older, newest: before.is_none() };
    let (console, before) = console::look(app, mac, sought.lines()).await?;
    let work = api::work_of(app, detail.machine.node);
    let groups = app.configured.own(mac).await.effective.groups;
    let sought = sought.shown();
    Ok(page::Machine { now: unix_ms(), detail, past, groups, work, console, before, sought })
}

/// What an operator asks of a machine by its page.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "do")]
    what: String,
    /// The machine's state, and since when, as the page showed it.
    state: String,
    since: u64,
    /// The key that the page showed, where one waits.
    #[serde(default)]
    node: Option<PublicKey>,
    /// Where to go then.
    #[serde(default)]
    from: String,
}

/// `POST /machines/{mac}/do`.
pub(super) async fn act(
    State(app): State<Arc<App>>,
    Acting(operator): Acting,
    Path(name): Path<String>,
    asked: Result<Form<Asked>, FormRejection>,
) -> Result<Response, Problem> {
    let mac = mac(&name)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let asked = asked.map_err(|error| bad(error.body_text()))?.0;
    let cause: Cause =
        asked.what.parse().map_err(|error: life::UnknownCause| bad(error.to_string()))?;
    let actor = Actor::Operator(operator.clone());
    let (state, since, node) = (asked.state.clone(), asked.since, asked.node);
    let expected = move |life: &Life| life.state.as_str() == state && life.since == since;
    let commanded = app
        .store
        .run(move |store| store.command(mac, cause, node.as_ref(), expected, &actor, unix_ms()));
    let (moved, _) = commanded.await?;
    let wrong = match moved {
        Moved::To(_) => {
            let to = if asked.from == "approvals" {
                "/approvals".into()
            } else {
                format!("/machines/{mac}")
            };
            return Ok(Redirect::to(&to).into_response());
        }
        Moved::Unknown => return Err(api::unknown(&mac.to_string())),
        Moved::Changed => "The machine changed since the page was loaded. This is how it is now; \
                           nothing was done."
            .to_owned(),
        Moved::Not(state) => {
            format!("{} does nothing while a machine is {}.", cause.as_str(), state.as_str())
        }
    };
    let shown = shown(&app, &name, &console::Sought::default(), &Past::default()).await?;
    let mut response = html(page::machine(&shown, Some(&operator), Some(&wrong)));
    *response.status_mut() = StatusCode::CONFLICT;
    Ok(response)
}

async fn seen(app: &App, sought: &Sought) -> Result<page::Seen, Problem> {
    let status = api::overview(app).await?;
    let now = unix_ms();
    let filter = Filter { most: A_PAGE + 1, ..sought.filter() };
    let is_whole = sought.is_all();
    let (machines, first) = app
        .store
        .run(move |store| {
            let first = if is_whole { store.in_need(FIRST, now)? } else { Vec::new() };
            Ok((store.listed(&filter, now)?, first))
        })
        .await?;
    let (machines, next) = page_of(machines, |last| sought.next("/", last));
    let names = names(app, &status.upstream).await?;
    Ok(page::Seen {
        now,
        names,
        status,
        machines,
        first,
        sought: sought.shown(),
        next,
        medium: app.miners.is_some(),
    })
}
