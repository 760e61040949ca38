//! Machines that give each other what they boot: who has pieces, and what verifies them.

use super::{App, Problem, mac, nodes::authority, nodes::body, speaks};
use crate::{
    life,
    peers::{self, Asker, RATE},
};
use axum::{
    Json,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use pieces::{Held, Layout};
use protocol::{
    Digest, Signed,
    pieces::{MAX_AVOIDED, PiecesAsk, Swarm},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// `POST /v1/machines/{mac}/pieces`. Whoever asks is told: addresses of machines at his own site, and
/// which pieces to fetch that anybody may fetch. What machines say of themselves counts for as much as it
/// is worth: pieces are verified by whom they are given to.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<PiecesAsk>, JsonRejection>,
) -> Result<Json<Signed<Swarm>>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let asked = body(posted)?;
    let authority = authority(&app)?;
    let wrong = |text: &str| Problem::new(StatusCode::BAD_REQUEST, text);
    let bytes = app
        .peers
        .bytes(asked.file)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no image here has such a root"))?;
    let layout = Layout::of(bytes)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, error.to_string()))?;
    let held = Held::from_hex(layout.count(), &asked.held)
        .ok_or_else(|| wrong("what is held is no hex, or of more pieces than there are"))?;
    if asked.avoid.len() > MAX_AVOIDED {
        return Err(wrong("more peers are avoided than anybody was told of"));
    }
    let life = app.store.run(move |store| store.life(mac)).await?;
    let barred = life.is_some_and(|life| life::is_barred(life.state));
    let own = app.configured.own(mac).await.settings;
    let site = peers::site(app.peers.near(), peer.ip(), asked.address, &own).filter(|_| !barred);
    if barred || own.peers == Some(false) {
        // By our own word, which a stranger's question in its name does not change.
        app.peers.tracker().gone(mac, None);
    }
    let mut swarm = Swarm {
        boot_id: asked.boot_id,
        number: asked.number,
        site: None,
        rate: own.peer_rate.map_or(RATE, u64::from),
        givers: Vec::new(),
        granted: Vec::new(),
        again_ms: 60_000,
    };
    if let Some(site) = site {
        // At the address that it was seen at, and nowhere else: nobody is sent to a third.
        let seen = peer.ip().to_canonical();
        let giver = asked.door.map(|door| (door.key, SocketAddr::new(seen, door.port)));
        let asker = Asker {
            mac,
            boot_id: asked.boot_id,
            site,
            file: asked.file,
            held,
            from: seen,
            giver,
            avoid: asked.avoid,
            stuck: Duration::from_millis(asked.stuck_ms),
        };
        let told = app.peers.tracker().ask(app.peers.now(), &asker);
        match told {
            Some(told) => {
                swarm.site = Some(site);
                swarm.givers = told.givers;
                swarm.granted = told.granted;
                swarm.again_ms = u32::try_from(told.again.as_millis()).unwrap_or(u32::MAX);
            }
            None => {
                app.counters.count("sites without peers: too many");
            }
        }
    }
    Ok(Json(Signed::sign(&authority.chain, swarm, &authority.key)))
}

/// `GET /v1/pieces/{file}`: what verifies the pieces of a root.
pub(super) async fn outline(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
) -> Result<Response, Problem> {
    let absent = || Problem::new(StatusCode::NOT_FOUND, "no image here has such a root");
    let file: Digest = file.parse().map_err(|_| absent())?;
    let outline = app.peers.outline(file).await.ok_or_else(absent)?.map_err(|error| {
        tracing::error!("the outline of {file}: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the root cannot be read")
    })?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], outline).into_response())
}
