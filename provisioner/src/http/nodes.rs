//! What node-init posts: reports and enrolment.

use super::{
    App, Problem, cache, mac,
    openapi::{Meant, OfMachine, Once, Refused},
    speaks,
};
use crate::{
    attest,
    enrol::{self, Admitted, Authority, EnrolError, Entry},
    hardware::Hardware,
    life::{Actor, Cause},
    machine::Mac,
    miners,
    progress::Mark,
    store::{Came, Enrolled, Known, Store},
    timeline::{Kind, Record, Sighting, seen_at, unix_ms},
    tls::node::Node,
};
use axum::{
    Extension, Json,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    Digest, PublicKey, Signed,
    boot::{
        BootEvent, CrashReport, Enrol, MAX_CRASH_LEN, MAX_DETAIL_LEN, MAX_EVENTS, NodeConfig,
        StageState,
    },
    evidence::{Approval, Challenge, Chip},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

/// The longest name of a stage.
const MAX_STAGE_LEN: usize = 32;
/// The longest word of a kernel for its own death, in characters.
const MAX_REASON_LEN: usize = 200;

/// What became of reports.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(super) struct Accepted {
    /// How many were new.
    new: usize,
}

pub(super) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
    }
}

pub(super) fn sighting(peer: SocketAddr) -> Sighting {
    Sighting { boots: true, address: seen_at(peer), ..Sighting::default() }
}

/// Who reports: the node that a certificate names; or somebody of whom nothing is known, who may speak
/// of boots that were not taken in. Of the boot that was a report is its certificate's.
async fn reporter(
    app: &App,
    mac: Mac,
    node: Option<Extension<Node>>,
    boots: impl IntoIterator<Item = Digest>,
) -> Result<Option<Node>, Problem> {
    let boots: BTreeSet<Digest> = boots.into_iter().collect();
    if let Some(Extension(node)) = node {
        if boots.iter().any(|boot| *boot != node.boot_id) {
            let text = "it speaks of another boot than its certificate does";
            return Err(Problem::new(StatusCode::BAD_REQUEST, text));
        }
        return Ok(Some(node));
    }
    let known = move |store: &Store| {
        boots.iter().try_fold(false, |known, boot| Ok(known || store.was_taken_in(mac, boot)?))
    };
    if app.store.run(known).await? {
        let text = "this boot was taken in: it is reported of by TLS, with the certificate that its \
                    node was given (POST …/certificate)";
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    Ok(None)
}

/// `POST /v1/machines/{mac}/events`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    node: Option<Extension<Node>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Vec<BootEvent>>, JsonRejection>,
) -> Result<Json<Accepted>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let events = body(posted)?;
    if events.len() > MAX_EVENTS {
        let text = format!("{} events at once; at most {MAX_EVENTS} are taken", events.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let proven = reporter(&app, mac, node, events.iter().map(|event| event.boot_id)).await?;
    let said = |event| {
        let record = report(mac, event, peer);
        if proven.is_some() { record } else { record.claimed(peer) }
    };
    let records = events.into_iter().map(said).collect();
    // Written before the answer: what is acknowledged is not sent again.
    let timeline = app.timeline.clone();
    let new = app.store.run(move |store| timeline.record_now(store, records)).await?;
    Ok(Json(Accepted { new }))
}

fn report(mac: Mac, mut event: BootEvent, peer: SocketAddr) -> Record {
    event.stage = event.stage.chars().take(MAX_STAGE_LEN).collect();
    event.detail = event.detail.chars().take(MAX_DETAIL_LEN).collect();
    let state = match event.state {
        StageState::Started => "began",
        StageState::Done => "done",
        StageState::Retrying => "failed, trying again",
        StageState::Failed => "failed",
    };
    let at = event.at_ms as f64 / 1000.0;
    let mut text = format!("{} {state} at {at:.3} s", event.stage);
    if !event.detail.is_empty() {
        text = format!("{text}: {}", event.detail);
    }
    let id = (event.boot_id, event.sequence);
    let record = Record::new(mac, Kind::Boot, text).marks([Mark::Node(event)]);
    Record { report: Some(id), ..record.sighting(sighting(peer)) }
}

/// Takes what a machine's kernel kept of its death, from node-init at the next boot: once.
#[utoipa::path(
    post, path = "/v1/machines/{mac}/crashes", tag = "machines", operation_id = "report_crash",
    params(OfMachine), request_body = CrashReport,
    responses((status = 200, description = "Whether it is new", body = Accepted), Refused)
)]
pub(super) async fn crash(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    node: Option<Extension<Node>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<CrashReport>, JsonRejection>,
) -> Result<Json<Accepted>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let mut report = body(posted)?;
    if report.text.len() > MAX_CRASH_LEN {
        let text =
            format!("a log of {} bytes; at most {MAX_CRASH_LEN} are taken", report.text.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let proven = reporter(&app, mac, node, [report.boot_id]).await?;
    let printable = |c: char| !c.is_control();
    report.reason = report.reason.chars().filter(|c| printable(*c)).take(MAX_REASON_LEN).collect();
    report.text.retain(|c| printable(c) || c == '\n' || c == '\t');
    let text = format!("the kernel died before this boot: {}", report.reason);
    let source = proven.is_none().then(|| listener::network(peer.ip()));
    let work = move |store: &Store| store.add_crash(mac, &report, source, unix_ms());
    let added = app.store.run(work).await?;
    // The machine keeps it until somebody has it.
    let Some(new) = added else {
        let text = format!("no machine {mac} is known here: report a stage of its boot first");
        return Err(Problem::new(StatusCode::NOT_FOUND, text));
    };
    if new {
        let record = Record::new(mac, Kind::Crash, text).sighting(sighting(peer));
        app.timeline.record(if proven.is_some() { record } else { record.claimed(peer) });
    }
    Ok(Json(Accepted { new: usize::from(new) }))
}

/// `POST /v1/machines/{mac}/enrol`.
pub(super) async fn enrol(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Signed<Enrol>>, JsonRejection>,
) -> Result<Json<Signed<NodeConfig>>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let request = body(posted)?;
    let authority =
        authority(&app).inspect_err(|problem| refuse(&app, mac, peer, &problem.text))?;
    let (address, now) = (Some(peer.ip()), unix_ms() / 1000);
    let checked = enrol::check(&authority.chain, &authority.key, now, mac, request, address);
    let newcomer = match checked {
        Ok(newcomer) => newcomer,
        Err(error) => {
            refuse(&app, mac, peer, &error.to_string());
            return Err(Problem::new(StatusCode::BAD_REQUEST, error.to_string()));
        }
    };
    let (node, boot_id) = (newcomer.node, newcomer.boot_id);
    if app.store.run(move |store| store.is_revoked(&node)).await? {
        let error = EnrolError::Revoked { mac, node };
        refuse(&app, mac, peer, &error.to_string());
        return Err(Problem::new(StatusCode::FORBIDDEN, error.to_string()));
    }
    let (held, chip, hardware) = (newcomer.held, newcomer.chip, newcomer.hardware());
    let came = app.store.run(move |store| store.came_by(&node)).await?;
    let (name, image, admitted) = match take_in(&app, authority, newcomer, came.clone()).await? {
        Ok(taken) => taken,
        Err(error @ (EnrolError::Waits { .. } | EnrolError::Changed { .. })) => {
            waits(&app, mac, peer, node, hardware, &error).await?;
            return Err(Problem::new(StatusCode::FORBIDDEN, error.to_string()));
        }
        Err(error @ (EnrolError::Barred { .. } | EnrolError::Replayed { .. })) => {
            refuse(&app, mac, peer, &error.to_string());
            return Err(Problem::new(StatusCode::FORBIDDEN, error.to_string()));
        }
        Err(error) => {
            if error.approval_lifts() {
                let another = error.holder().is_some();
                let cause = if another { Cause::Waits } else { Cause::Changed };
                let from = seen_at(peer);
                let pend = move |store: &Store| {
                    store.pend(mac, (&node, from), Some(&hardware), cause, unix_ms())
                };
                app.store.run(pend).await?;
            }
            conflict(&app, mac, peer, &error);
            return Err(Problem::new(StatusCode::CONFLICT, error.to_string()));
        }
    };
    let own = app.configured.own(mac).await;
    let of = came.as_ref().map_or(String::new(), |came| {
        format!("; it came by a medium and is {}'s (token {})", came.owner, came.token.short())
    });
    let now = unix_ms() / 1000;
    let config = match came {
        None => authority.configuration(node, boot_id, &own, name.clone(), now),
        Some(came) => {
            let machine = (&own, name.clone());
            authority.configuration_of(node, boot_id, machine, now, came.ownership)
        }
    };
    let config = config
        .inspect_err(|error| refuse(&app, mac, peer, &error.to_string()))
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let vouched = chip.map_or(String::new(), |(chip, resets)| {
        format!("; TPM {} vouches for its boot (reset {resets})", chip.short())
    });
    let text = format!(
        "taken in as {name} with node key {}, kept in {}, running {image}{vouched}{of}{}",
        node.short(),
        held.as_str(),
        how(&admitted)
    );
    app.timeline.record(Record::new(mac, Kind::Enrol, text).sighting(sighting(peer)));
    Ok(Json(config))
}

pub(super) fn authority(app: &App) -> Result<&Authority, Problem> {
    app.authority.as_ref().ok_or_else(|| {
        let text = "this provisioner takes no machines in yet: give it --key, --delegation and \
                    --chain";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })
}

/// `POST /v1/machines/{mac}/challenge`.
pub(super) async fn challenge(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Chip>, JsonRejection>,
) -> Result<Json<Challenge>, Problem> {
    speaks(&headers)?;
    mac(&name)?;
    let chip = body(posted)?;
    let challenge = attest::challenge(&authority(&app)?.key, &chip, unix_ms() / 1000);
    let challenge =
        challenge.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(challenge))
}

/// Lets a node's key take a machine's place, by its owner's signature or the provisioner's own.
///
/// What an operator's token approves goes by `POST /v1/machines/{mac}/state`. It is done once by what is
/// signed: the key and the machine.
#[utoipa::path(
    post, path = "/v1/machines/{mac}/approve", tag = "machines", operation_id = "approve",
    params(OfMachine, Meant, Once), request_body = Signed<Approval>,
    responses(
        (status = 204, description = "The key may come"),
        Refused,
    )
)]
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Signed<Approval>>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let mac = mac(&name)?;
    let approval = body(posted)?;
    let node = enrol::approved(authority(&app)?, mac, &approval, unix_ms() / 1000)
        .map_err(|error| Problem::new(StatusCode::FORBIDDEN, error.to_string()))?;
    cache::hold(&app, mac, &headers).await?;
    let actor = Actor::Operator(approval.signer.short());
    if !app.store.run(move |store| store.approve(mac, &node, &actor, unix_ms())).await? {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such machine is known"));
    }
    let text = format!("node key {} was approved from {}", node.short(), peer.ip());
    app.timeline.record(Record::new(mac, Kind::Enrol, text));
    Ok(StatusCode::NO_CONTENT)
}

/// By which rule it came in, and what is new of it.
fn how(admitted: &Admitted) -> String {
    let placed = admitted.placed.as_ref().map(|placed| {
        let group = placed.group.as_ref().map(|group| format!(" into group {group}"));
        format!("; let in by rule {}{}", placed.rule, group.unwrap_or_default())
    });
    let changed = Some(admitted.changes.join(", ")).filter(|changes| !changes.is_empty());
    let changed = changed.map(|changes| format!("; its hardware changed: {changes}"));
    placed.unwrap_or_default() + &changed.unwrap_or_default()
}

/// A key that waits is told of once, however often its machine asks.
async fn waits(
    app: &App,
    mac: Mac,
    peer: SocketAddr,
    node: PublicKey,
    hardware: Hardware,
    error: &EnrolError,
) -> Result<(), Problem> {
    let cause = match error {
        EnrolError::Changed { .. } => Cause::Changed,
        _ => Cause::Waits,
    };
    let from = seen_at(peer);
    let pend =
        move |store: &Store| store.pend(mac, (&node, from), Some(&hardware), cause, unix_ms());
    if app.store.run(pend).await? {
        refuse(app, mac, peer, &error.to_string());
    }
    Ok(())
}

/// Writes the machine down, unless its identity is another's; gives its name, its image's, and by
/// what it came in.
async fn take_in(
    app: &App,
    authority: &Authority,
    newcomer: Enrolled,
    came: Option<Came>,
) -> Result<Result<(String, String, Admitted), EnrolError>, Problem> {
    let (approval, configured) = (authority.approval, app.configured.clone());
    let work = move |store: &Store| {
        let now = unix_ms();
        let image = store.image(&newcomer.release)?.map_or_else(
            || format!("an image that was never served here ({})", newcomer.release.short()),
            |image| format!("image {} ({})", image.version, newcomer.release.short()),
        );
        let rules = configured.rules()?;
        let judge = |known: &[Known], taken: &BTreeMap<String, u64>| match &came {
            None => enrol::admit(&newcomer, known, Entry { approval, rules: &rules, taken }, now),
            Some(came) => miners::judge::judge(&newcomer, known, came, now),
        };
        let taken = store.enrol(&newcomer, now, judge)?;
        Ok(taken.map(|(name, admitted)| (name, image, admitted)))
    };
    Ok(app.store.run(work).await?)
}

pub(super) fn refuse(app: &App, mac: Mac, peer: SocketAddr, reason: &str) {
    let text = format!("not taken in: {reason}");
    let record = Record::new(mac, Kind::Refused, text);
    app.timeline.record(record.sighting(sighting(peer)).claimed(peer));
}

/// Both machines' timelines tell of it: one of the two has to be changed.
fn conflict(app: &App, mac: Mac, peer: SocketAddr, error: &EnrolError) {
    let what = if error.holder().is_some() { "two machines, one identity" } else { "cloned" };
    let text = format!("{what}: {mac} was not taken in: {error}");
    let holder = error.holder().map(|holder| holder.mac).filter(|&holder| holder != mac);
    for mac in [Some(mac), holder].into_iter().flatten() {
        let sighting = if Some(mac) == holder { Sighting::default() } else { sighting(peer) };
        app.timeline.record(Record::new(mac, Kind::Conflict, text.clone()).sighting(sighting));
    }
}
