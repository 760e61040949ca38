//! The time for machines whose own clock may say anything.

use super::{App, Problem, nodes::body, speaks};
use crate::{machine::Mac, timeline::unix_ms};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    Signed,
    release::{TimeAnswer, TimeRequest},
};
use std::sync::Arc;

/// `POST /v1/time`. Whoever asks is told: there is nothing in it that a clock on the wall would
/// not say, but for how its boots went. A machine that no script of ours booted is counted here.
pub(super) async fn time(
    State(app): State<Arc<App>>,
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
    app.peers.tracker().gone(mac, Some(boot_id));
    let boot = (!scripted).then_some(boot_id);
    let attempt = app
        .attempt(move |store, image| match boot {
            None => store.attempt(mac),
            boot => store.count_attempt(mac, image, boot, unix_ms()),
        })
        .await;
    let answer = TimeAnswer { nonce, unix_time: unix_ms() / 1000, attempt };
    Ok(Json(Signed::sign(&authority.chain, answer, &authority.key)))
}
