//! What happened to one machine, page by page.

use super::{
    App, Problem, console, listing, mac,
    openapi::{OfMachine, Refused},
};
use crate::machine::Mac;
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use protocol::fleet::TimelineEvent;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Events of a page where nobody says.
const USUAL: u32 = 100;
/// The most events of a page: all that are kept of a machine.
const MOST: u32 = 500;

/// Which events.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those before the event of this number, as `Link` of the page before has it.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// So many at the most; 100 where nobody says.
    #[param(required = false, nullable = false, minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// What happened to a machine, newest first.
///
/// 500 events are kept of each; where there are more than were asked for, the header `Link` names the
/// next page (RFC 8288).
#[utoipa::path(
    get, path = "/v1/machines/{mac}/timeline", tag = "machines", operation_id = "timeline",
    params(OfMachine, Wanted),
    responses(
        (status = 200, description = "Events", body = Vec<TimelineEvent>,
         headers(("Link" = String, description = "The next page, where there is one"))),
        Refused,
    )
)]
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let mac = mac(&name)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(Wanted { before, limit }) = wanted.map_err(|error| bad(error.body_text()))?;
    let most = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&most) {
        return Err(bad(format!("limit is a number from 1 to {MOST}")));
    }
    let before = listing::number(before).map_err(|error| bad(error.to_string()))?;
    console::known(&app, mac).await?;
    let (events, next) = look(&app, mac, before, most).await?;
    let next = next.map(|next| {
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        let query = limit.into_iter().chain([("before", next.to_string())]);
        listing::link(&format!("/v1/machines/{mac}/timeline"), query)
    });
    Ok(listing::paged(Json(events), next))
}

/// So many of a machine's events, newest first, and before which event there are more.
pub(super) async fn look(
    app: &App,
    mac: Mac,
    before: Option<u64>,
    most: u32,
) -> Result<(Vec<TimelineEvent>, Option<u64>), Problem> {
    // One more tells whether there is a next page.
    let mut events = app.store.run(move |store| store.timeline(mac, before, most + 1)).await?;
    let more = events.len() > most as usize;
    events.truncate(most as usize);
    let next = events.last().filter(|_| more).map(|(number, _)| *number);
    Ok((events.into_iter().map(|(_, event)| event).collect(), next))
}
