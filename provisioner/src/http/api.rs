//! What is known, as JSON: the types of `protocol::fleet`.

use super::{
    App, Problem, cache,
    listing::{self, Wanted},
    mac,
    openapi::{OfMachine, Refused},
};
use crate::timeline::unix_ms;
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{
    PublicKey,
    earnings::MachineWork,
    fleet::{ImageStatus, Life, MachineDetail, MachineStatus, ProvisionerStatus},
};
use std::sync::Arc;

/// The machines, in the order of their names.
///
/// Where there are more than were asked for, the header `Link` names the next page (RFC 8288).
#[utoipa::path(
    get, path = "/v1/machines", tag = "machines", operation_id = "machines", params(Wanted),
    responses(
        (status = 200, description = "The machines", body = Vec<MachineStatus>,
         headers(("Link" = String, description = "The next page, where there is one"))),
        Refused,
    )
)]
pub(super) async fn machines(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    let filter = wanted.filter().map_err(|error| bad(error.to_string()))?;
    // One more tells whether there is a next page.
    let most = filter.most as usize;
    let filter = crate::store::Filter { most: filter.most + 1, ..filter };
    let mut machines = app.store.run(move |store| store.listed(&filter, unix_ms())).await?;
    let next = (machines.len() > most).then(|| {
        machines.truncate(most);
        machines.last().map(|last| wanted.next(last))
    });
    Ok(listing::paged(Json(machines), next.flatten()))
}

/// One machine, with its inventory, its timeline and its kernel's deaths.
#[utoipa::path(
    get, path = "/v1/machines/{mac}", tag = "machines", operation_id = "machine",
    params(OfMachine),
    responses(
        (status = 200, description = "The machine", body = MachineDetail),
        Refused,
    )
)]
pub(super) async fn machine(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<MachineDetail>, Problem> {
    detail(&app, &name).await.map(Json)
}

/// Where a machine stands in its life. The tag goes into `If-Match` of what is asked of it.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/state", tag = "machines", operation_id = "life",
    params(OfMachine),
    responses(
        (status = 200, description = "Its state", body = Life,
         headers(("ETag" = String, description = "Another one with each transition"))),
        Refused,
    )
)]
pub(super) async fn life(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let mac = mac(&name)?;
    let life = app.store.run(move |store| store.life(mac)).await?;
    let life = life.ok_or_else(|| unknown(&mac.to_string()))?;
    Ok(([(header::ETAG, cache::tag_of(&life))], Json(life)).into_response())
}

/// A machine's work, as the ledger told of it last: its receipts, how many are confirmed, and how many
/// wait. Asked of the ledger in the background, so that it is some seconds old; not proven.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/work", tag = "machines", operation_id = "work",
    params(OfMachine),
    responses(
        (status = 200, description = "Its work", body = MachineWork),
        Refused,
    )
)]
pub(super) async fn work(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<MachineWork>, Problem> {
    let detail = detail(&app, &name).await?;
    Ok(Json(work_of(&app, detail.machine.node)))
}

/// The work of a node, where there is one.
pub(super) fn work_of(app: &App, node: Option<PublicKey>) -> MachineWork {
    let book = app.ledger.book();
    MachineWork {
        ledger: app.upstream.borrow().ledger.clone(),
        node,
        standing: node.and_then(|node| book.standing(&node)),
        receipts: node.map(|node| book.receipts(&node)).unwrap_or_default(),
    }
}

/// The provisioner as a whole, with what it heard from ledger and parameter servers.
#[utoipa::path(
    get, path = "/v1/status", tag = "site", operation_id = "status",
    responses(
        (status = 200, description = "The provisioner", body = ProvisionerStatus),
        Refused,
    )
)]
pub(super) async fn status(
    State(app): State<Arc<App>>,
) -> Result<Json<ProvisionerStatus>, Problem> {
    overview(&app).await.map(Json)
}

/// Nobody knows that machine.
pub(super) fn unknown(mac: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("machine {mac} has never been seen here"))
}

/// One machine with all that is kept of it.
pub(super) async fn detail(app: &App, name: &str) -> Result<MachineDetail, Problem> {
    let mac = mac(name)?;
    let found = app.store.run(move |store| store.machine(mac, unix_ms())).await?;
    found.ok_or_else(|| unknown(&mac.to_string()))
}

/// The provisioner as a whole.
pub(super) async fn overview(app: &App) -> Result<ProvisionerStatus, Problem> {
    let states = app.store.run(|store| store.count_by_state()).await?;
    let work = app.ledger.sums(&app.store).await?;
    let setup = &app.setup;
    Ok(ProvisionerStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        dhcp: app.dhcp.into(),
        url: setup.base_url.clone(),
        https: Some(app.https.clone()),
        chain: setup.chain.clone(),
        key: setup.key,
        image: setup
            .image
            .as_ref()
            .map(|image| ImageStatus { digest: image.digest, manifest: image.manifest.clone() }),
        machines: states.values().sum(),
        states,
        counters: app.counters.all(),
        upstream: (**app.upstream.borrow()).clone(),
        work,
    })
}
