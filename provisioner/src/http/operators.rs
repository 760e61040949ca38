//! What operators ask of machines. Who asks shows a token.

use super::{App, Problem, mac, nodes::body};
use crate::{
    access,
    life::{self, Actor, Cause},
    store::Moved,
    timeline::unix_ms,
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, State, rejection::JsonRejection},
    http::{StatusCode, header, request::Parts},
};
use protocol::fleet::Life;
use serde::Deserialize;
use std::sync::Arc;

/// An operator, by name: a handler that asks for one is for operators alone.
pub(super) struct Operator(pub(super) String);

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let shown = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let stranger = |why: &str| {
            let text = format!(
                "{why}: give an operator's token as `Authorization: Bearer TOKEN`; `provisioner \
                 token add NAME` on the provisioner's host makes one"
            );
            Problem::new(StatusCode::UNAUTHORIZED, text)
        };
        let token = shown.and_then(access::bearer).ok_or_else(|| stranger("only operators may"))?;
        let digest = access::digest(token);
        let name = app.store.run(move |store| store.operator(&digest)).await?;
        name.map(Self).ok_or_else(|| stranger("that token is nobody's, or was revoked"))
    }
}

/// What is asked of a machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// `approve`, `drain`, `reimage`, `quarantine`, `release`, `retire` or `restore`.
    #[serde(rename = "do")]
    what: String,
}

/// `POST /v1/machines/{mac}/state`.
pub(super) async fn state(
    State(app): State<Arc<App>>,
    Operator(name): Operator,
    Path(machine): Path<String>,
    posted: Result<Json<Command>, JsonRejection>,
) -> Result<Json<Life>, Problem> {
    let mac = mac(&machine)?;
    let wrong =
        |error: life::UnknownCause| Problem::new(StatusCode::BAD_REQUEST, error.to_string());
    let cause: Cause = body(posted)?.what.parse().map_err(wrong)?;
    let actor = Actor::Operator(name);
    let (moved, life) = app
        .store
        .run(move |store| {
            let now = unix_ms();
            let moved = match (cause, store.pending(mac)?) {
                // The key that waits is the one that is approved.
                (Cause::Approve, Some(node)) => {
                    store.approve(mac, &node, &actor, now)?;
                    Moved::To(store.life(mac)?.unwrap_or_default().state)
                }
                (Cause::Approve, None) => Moved::Not(store.life(mac)?.unwrap_or_default().state),
                (cause, _) => store.pass(mac, cause, &actor, now)?,
            };
            Ok((moved, store.life(mac)?))
        })
        .await?;
    let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("no machine {mac} is known here"));
    let life = life.ok_or_else(unknown)?;
    match moved {
        Moved::To(_) => Ok(Json(life)),
        Moved::Unknown => Err(unknown()),
        Moved::Not(state) => {
            let may: Vec<&str> = life::commands(state).map(Cause::as_str).collect();
            let text = format!(
                "{} does nothing while a machine is {}; what may be asked of it: {}",
                cause.as_str(),
                state.as_str(),
                may.join(", ")
            );
            Err(Problem::new(StatusCode::CONFLICT, text))
        }
    }
}
