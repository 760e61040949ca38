//! What node-init posts: reports and enrolment.

use super::{App, Problem, mac, speaks};
use crate::{
    enrol::{self, EnrolError},
    machine::Mac,
    progress::Mark,
    store::Enrolled,
    timeline::{Kind, Record, Sighting, unix_ms},
};
use axum::{
    Json,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    Signed,
    boot::{BootEvent, Enrol, MAX_DETAIL_LEN, MAX_EVENTS, NodeConfig, StageState},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The longest name of a stage.
const MAX_STAGE_LEN: usize = 32;

/// What became of reports.
#[derive(serde::Serialize)]
pub(super) struct Accepted {
    /// How many were new.
    new: usize,
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => Err(Problem::new(rejection.status(), rejection.body_text())),
    }
}

fn sighting(peer: SocketAddr) -> Sighting {
    let address = match peer.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Sighting { boots: true, address, ..Sighting::default() }
}

/// `POST /v1/machines/{mac}/events`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
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
    let records = events.into_iter().map(|event| report(mac, event, peer)).collect();
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
    let Some(authority) = &app.authority else {
        let text = "this provisioner takes no machines in yet: give it --key, --delegation and \
                    --chain";
        refuse(&app, mac, peer, text);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let address = Some(peer.ip());
    let newcomer = match enrol::check(&authority.chain, mac, request, address) {
        Ok(newcomer) => newcomer,
        Err(error) => {
            refuse(&app, mac, peer, &error.to_string());
            return Err(Problem::new(StatusCode::BAD_REQUEST, error.to_string()));
        }
    };
    let node = newcomer.node;
    let (name, image) = match take_in(&app, newcomer).await? {
        Ok(taken) => taken,
        Err(error) => {
            conflict(&app, mac, peer, &error);
            return Err(Problem::new(StatusCode::CONFLICT, error.to_string()));
        }
    };
    let config = authority
        .configuration(node, name.clone(), unix_ms() / 1000)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let text = format!("taken in as {name} with node key {}, running {image}", node.short());
    app.timeline.record(Record::new(mac, Kind::Enrol, text).sighting(sighting(peer)));
    Ok(Json(config))
}

/// Writes the machine down, unless its identity is another's; gives its name and its image's.
async fn take_in(
    app: &App,
    newcomer: Enrolled,
) -> Result<Result<(String, String), EnrolError>, Problem> {
    let work = move |store: &crate::store::Store| {
        let now = unix_ms();
        let image = store.image(&newcomer.release)?.map_or_else(
            || format!("an image that was never served here ({})", newcomer.release.short()),
            |image| format!("image {} ({})", image.version, newcomer.release.short()),
        );
        let judge = |known: &[crate::store::Known]| enrol::judge(&newcomer, known, now);
        Ok(store.enrol(&newcomer, now, judge)?.map(|name| (name, image)))
    };
    Ok(app.store.run(work).await?)
}

fn refuse(app: &App, mac: Mac, peer: SocketAddr, reason: &str) {
    let text = format!("not taken in: {reason}");
    app.timeline.record(Record::new(mac, Kind::Refused, text).sighting(sighting(peer)));
}

/// Both machines' timelines tell of it: one of the two has to be changed.
fn conflict(app: &App, mac: Mac, peer: SocketAddr, error: &EnrolError) {
    let text = format!("two machines, one identity: {mac} was not taken in: {error}");
    let holder = error.holder().map(|holder| holder.mac).filter(|&holder| holder != mac);
    for mac in [Some(mac), holder].into_iter().flatten() {
        let sighting = if Some(mac) == holder { Sighting::default() } else { sighting(peer) };
        app.timeline.record(Record::new(mac, Kind::Conflict, text.clone()).sighting(sighting));
    }
}
