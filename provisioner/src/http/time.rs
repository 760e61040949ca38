//! The time for machines whose own clock may say anything.

use super::{App, Problem, nodes::body, speaks};
use crate::{
    machine::Mac,
    store::{Sign, Store},
    timeline::{seen_at, unix_ms},
};
use axum::{
    Json,
    extract::{ConnectInfo, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    Digest, Signed,
    release::{TimeAnswer, TimeRequest},
};
use std::{net::SocketAddr, sync::Arc};

/// `POST /v1/time`. Whoever asks is told: there is nothing in it that a clock on the wall would
/// not say, but for how its boots went. A boot that its script did not count is counted here.
pub(super) async fn time(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    posted: Result<Json<TimeRequest>, JsonRejection>,
) -> Result<Json<Signed<TimeAnswer>>, Problem> {
    speaks(&headers)?;
    let TimeRequest { nonce, mac, boot_id, scripted } = body(posted)?;
    let mac: Mac = mac.parse().map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{mac:.40}: {error}"))
    })?;
    let Some(authority) = &app.authority else {
        let text = "this provisioner has no key to sign the time with: give it --key, \
                    --delegation and --chain";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text));
    };
    let (from, sign) = (seen_at(peer), Sign::Time(boot_id, scripted));
    let (_, believed) =
        app.store.run(move |store| store.caller(mac, from)).await.unwrap_or_default();
    if believed {
        app.peers.tracker().gone(mac, Some(boot_id));
    }
    let count =
        move |store: &Store, image: &Digest| store.count_attempt(mac, image, sign, from, unix_ms());
    let attempt = app.attempt(count).await;
    let answer = TimeAnswer { nonce, unix_time: unix_ms() / 1000, attempt };
    Ok(Json(Signed::sign(&authority.chain, answer, &authority.key)))
}
