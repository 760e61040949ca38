//! Kernels' deaths: which there were of a machine, what their logs say of something, and one log whole.

use super::{
    App, Problem, console, listing, mac,
    openapi::{OfMachine, Refused},
};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
};
use protocol::fleet::CrashStatus;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which deaths.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those in whose log a line contains this, whatever its case; `found` has such lines.
    #[param(required = false, nullable = false, pattern = "^[^\\x00]{0,100}$")]
    search: Option<String>,
}

/// A machine's kernel's deaths, newest first: eight are kept of each.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/crashes", tag = "machines", operation_id = "crashes",
    params(OfMachine, Wanted),
    responses(
        (status = 200, description = "The deaths", body = Vec<CrashStatus>),
        Refused,
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<CrashStatus>>, Problem> {
    let mac = mac(&name)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(Wanted { search }) = wanted.map_err(|error| bad(error.body_text()))?;
    let search = listing::text(search.as_deref()).map_err(|error| bad(error.to_string()))?;
    console::known(&app, mac).await?;
    let found = app.store.run(move |store| store.crashes(mac, search.as_deref())).await?;
    Ok(Json(found))
}

/// The log of a kernel that died, in its own words.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/crashes/{id}", tag = "machines", operation_id = "crash",
    params(OfMachine,
           ("id" = u64, Path, description = "Which death", minimum = 0, maximum = 9_007_199_254_740_991_u64)),
    responses(
        (status = 200, description = "The log", body = String, content_type = "text/plain"),
        Refused,
    )
)]
pub(super) async fn log(
    State(app): State<Arc<App>>,
    Path((name, id)): Path<(String, String)>,
) -> Result<([(header::HeaderName, &'static str); 2], String), Problem> {
    let mac = mac(&name)?;
    let missing = || Problem::new(StatusCode::NOT_FOUND, "there is no such crash of this machine");
    let id: u64 = id.parse().map_err(|_| missing())?;
    let found = app.store.run(move |store| store.crash(mac, id)).await?;
    // Text, whatever a browser would make of what stands in it.
    let plain = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let headers = [plain, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, found.ok_or_else(missing)?))
}
