//! What is known, as JSON: the types of `protocol::fleet`.

use super::{App, Problem, mac};
use crate::timeline::unix_ms;
use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
};
use protocol::fleet::{ImageStatus, MachineDetail, MachineStatus, ProvisionerStatus};
use std::sync::Arc;

/// `GET /v1/machines`.
pub(super) async fn machines(
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<MachineStatus>>, Problem> {
    Ok(Json(app.store.run(|store| store.machines(unix_ms())).await?))
}

/// `GET /v1/machines/{mac}`.
pub(super) async fn machine(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<MachineDetail>, Problem> {
    detail(&app, &name).await.map(Json)
}

/// `GET /v1/machines/{mac}/crashes/{id}`: as text, in a machine's own words.
pub(super) async fn crash(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, u64)>,
) -> Result<([(header::HeaderName, &'static str); 2], String), Problem> {
    let mac = mac(&name)?;
    let found = app.store.run(move |store| store.crash(mac, id)).await?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such crash of this machine");
    // Text, whatever a browser would make of what stands in it.
    let plain = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let headers = [plain, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, found.ok_or_else(missing)?))
}

/// `GET /v1/status`.
pub(super) async fn status(
    State(app): State<Arc<App>>,
) -> Result<Json<ProvisionerStatus>, Problem> {
    overview(&app).await.map(Json)
}

/// One machine with all that is kept of it.
pub(super) async fn detail(app: &App, name: &str) -> Result<MachineDetail, Problem> {
    let mac = mac(name)?;
    let found = app.store.run(move |store| store.machine(mac, unix_ms())).await?;
    found.ok_or_else(|| {
        let text = format!("machine {mac} has never been seen here");
        Problem::new(StatusCode::NOT_FOUND, text)
    })
}

/// The provisioner as a whole.
pub(super) async fn overview(app: &App) -> Result<ProvisionerStatus, Problem> {
    let machines = app.store.run(|store| store.count_machines()).await?;
    let setup = &app.setup;
    Ok(ProvisionerStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        dhcp: app.dhcp.into(),
        url: setup.base_url.clone(),
        chain: setup.chain.clone(),
        key: setup.key,
        image: setup
            .image
            .as_ref()
            .map(|image| ImageStatus { digest: image.digest, manifest: image.manifest.clone() }),
        machines,
        counters: app.counters.all(),
        upstream: (**app.upstream.borrow()).clone(),
    })
}
