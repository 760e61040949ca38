//! The page's handlers: look up, then let `page` write.

use super::{
    App, Problem, api, console,
    listing::{self, Sought},
    mac, operators,
    session::{Acting, Visitor},
};
use crate::{
    life::{self, Actor, Cause},
    machine::Mac,
    page,
    store::{Filter, Moved, Revocation, StoreError},
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
    api::JobStatus,
    fleet::{Life, MachineState, MachineStatus},
};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};

/// Nothing is loaded from elsewhere, and nothing here is to be framed by others.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";
/// Machines on one page.
const A_PAGE: u32 = 50;
/// The longest text that jobs are searched for.
const MAX_SEARCH_LEN: usize = 100;
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
    let asks = app.store.run(move |store| {
        let asks = |machine: MachineStatus| {
            let mac = machine.mac.parse::<Mac>().ok();
            let hardware = mac.map(|mac| store.hardware(mac)).transpose()?.unwrap_or_default();
            Ok(page::Asks { machine, hardware })
        };
        waiting.into_iter().map(asks).collect::<Result<Vec<_>, StoreError>>()
    });
    Ok(html(page::approvals(&asks.await?, next.as_deref(), operator.as_deref(), now)))
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

/// The machines that work at a job.
async fn names(app: &App, job: &JobStatus) -> Result<page::Names, Problem> {
    let nodes: BTreeSet<PublicKey> = page::jobs::nodes(job).collect();
    Ok(app.store.run(move |store| store.names_of(&nodes)).await?)
}

/// Which jobs are shown: as the page's form and its links say.
#[derive(Deserialize)]
pub(super) struct Jobs {
    #[serde(default)]
    search: String,
    #[serde(default)]
    phase: String,
    #[serde(default)]
    skip: String,
}

/// `GET /jobs`: what the parameter servers work at.
pub(super) async fn jobs(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Query(Jobs { search, phase, skip }): Query<Jobs>,
) -> Response {
    let wanted = page::jobs::Wanted {
        search: search.trim().chars().take(MAX_SEARCH_LEN).collect(),
        phase: Some(phase).filter(|phase| !phase.is_empty()),
        skip: skip.parse().unwrap_or(0),
    };
    let upstream = app.upstream.borrow().clone();
    html(page::jobs::list(&upstream, &wanted, operator.as_deref()))
}

/// `GET /jobs/{job}`: one, with who works at it and what was done last.
pub(super) async fn job(
    State(app): State<Arc<App>>,
    Visitor(operator): Visitor,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let upstream = app.upstream.borrow().clone();
    let missing = "no parameter server told of that job: see /jobs";
    let job = page::jobs::find(&upstream, &id)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, missing))?;
    let names = names(&app, job).await?;
    Ok(html(page::jobs::job(&upstream, job, &names, operator.as_deref())))
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

/// Which part of a machine's timeline, and which deaths, its page shows. What makes no sense is as if it
/// were not there.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Past {
    #[serde(default)]
    event: String,
    #[serde(default)]
    skip: String,
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
    let crash = listing::sought(&past.crash);
    let died = !detail.crashes.is_empty();
    if let Some(text) = crash.clone() {
        detail.crashes = app.store.run(move |store| store.crashes(mac, Some(&text))).await?;
    }
    let deaths = page::Deaths { died, sought: crash };
    let (console, before) = console::look(app, mac, sought.lines()).await?;
    let work = api::work_of(app, detail.machine.node);
    let groups = app.configured.own(mac).await.effective.groups;
    let sought = sought.shown();
    let revoked = match detail.machine.node {
        Some(node) => app.store.run(move |store| store.is_revoked(&node)).await?,
        None => false,
    };
    let part = page::Part {
        kind: Some(past.event.clone()).filter(|kind| !kind.is_empty()),
        skip: past.skip.parse().unwrap_or(0),
    };
    let now = unix_ms();
    let shown =
        page::Machine { now, detail, revoked, deaths, groups, work, console, before, sought, part };
    Ok(shown)
}

/// What an operator asks of a machine by its page.
#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "do")]
    what: String,
    /// The machine's state, and since when, as the page showed it.
    #[serde(default)]
    state: String,
    #[serde(default)]
    since: u64,
    /// The key that the page showed: the one that waits, or the one to be revoked.
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
    let changed =
        "The machine changed since the page was loaded. This is how it is now; nothing was done.";
    let wrong = if asked.what == page::REVOKE {
        let key = asked.node.ok_or_else(|| bad("which key is to be revoked is not said".into()))?;
        match operators::put_out(&app, mac, Some(key), &operator).await? {
            Revocation::Done(_) => None,
            Revocation::NoNode => Some(changed.to_owned()),
            Revocation::Full => Some(operators::NO_ROOM.to_owned()),
        }
    } else {
        let cause: Cause =
            asked.what.parse().map_err(|error: life::UnknownCause| bad(error.to_string()))?;
        let actor = Actor::Operator(operator.clone());
        let (state, since, node) = (asked.state, asked.since, asked.node);
        let expected = move |life: &Life| life.state.as_str() == state && life.since == since;
        let commanded = app.store.run(move |store| {
            store.command(mac, cause, node.as_ref(), expected, &actor, unix_ms())
        });
        match commanded.await?.0 {
            Moved::To(_) => None,
            Moved::Unknown => return Err(api::unknown(&mac.to_string())),
            Moved::Changed => Some(changed.to_owned()),
            Moved::Not(state) => Some(format!(
                "{} does nothing while a machine is {}.",
                cause.as_str(),
                state.as_str()
            )),
        }
    };
    let Some(wrong) = wrong else {
        let queue = asked.from == "approvals";
        let to = if queue { "/approvals".into() } else { format!("/machines/{mac}") };
        return Ok(Redirect::to(&to).into_response());
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
    Ok(page::Seen {
        now,
        status,
        machines,
        first,
        sought: sought.shown(),
        next,
        medium: app.miners.is_some(),
    })
}
