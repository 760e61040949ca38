//! Nodes by mutual TLS: their certificates, and what only they may say.

use super::{
    App, Problem, mac,
    nodes::{authority, body},
    speaks,
};
use crate::{
    store::{Standing, Store},
    timeline::unix_ms,
    tls::{ca::NODE_SECONDS, node::Node},
};
use axum::{
    Extension, Json,
    extract::{ConnectInfo, Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode},
};
use protocol::{
    Signed,
    certificate::{Alive, CertificateRequest, MAX_CARDS_READ, NodeCertificate, Readings, Wished},
};
use std::{net::SocketAddr, sync::Arc};

/// `POST /v1/machines/{mac}/certificate`: the first one, and each that follows. Signed both ways, so
/// that plain HTTP will do.
pub(super) async fn certificate(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    posted: Result<Json<Signed<CertificateRequest>>, JsonRejection>,
) -> Result<Json<Signed<NodeCertificate>>, Problem> {
    speaks(&headers)?;
    let mac = mac(&name)?;
    let request = body(posted)?;
    let authority = authority(&app)?;
    let wanted = request
        .verify(&authority.chain)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    if wanted.mac.parse() != Ok(mac) {
        let text = format!("the request is for {:.40}, not for {mac}", wanted.mac);
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    let (node, boot_id, nonce) = (request.signer, wanted.boot_id, wanted.nonce);
    let standing = app.store.run(move |store| store.standing(mac, &node, &boot_id)).await?;
    stands(standing)?;
    let made = app.ca.node(mac, &node, &boot_id, unix_ms() / 1000).map_err(|error| {
        tracing::error!(%mac, "{error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })?;
    let answer = NodeCertificate {
        node,
        nonce,
        certificate: made.to_vec(),
        seconds: NODE_SECONDS,
        port: app.https_port,
    };
    Ok(Json(Signed::sign(&authority.chain, answer, &authority.key)))
}

/// `POST /v1/machines/{mac}/alive`. Answers what the node is to do.
pub(super) async fn alive(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(node): Extension<Node>,
    headers: HeaderMap,
    posted: Result<Json<Alive>, JsonRejection>,
) -> Result<Json<Wished>, Problem> {
    speaks(&headers)?;
    let Alive { boot_id, readings, drained } = body(posted)?;
    if boot_id != node.boot_id {
        let text = "it speaks of another boot than its certificate does";
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    let readings = readings.map(sane);
    let said = move |store: &Store| {
        store.alive(node.mac, Some(peer.ip()), readings.as_ref(), drained, unix_ms())
    };
    Ok(Json(Wished { wish: app.store.run(said).await? }))
}

/// The longest name of a card, and of its address.
const MAX_NAME: usize = 64;

/// Bounded, and nothing in it that a page or a terminal would not take.
fn sane(mut readings: Readings) -> Readings {
    readings.cards.truncate(MAX_CARDS_READ);
    for card in &mut readings.cards {
        for text in [&mut card.name, &mut card.address] {
            *text = protocol::plain(text).chars().take(MAX_NAME).collect();
        }
    }
    readings
}

/// Whether the node of a certificate may go on: it has not ended, is for this path's machine, and
/// the store says of the node that it is whom we took in.
pub(super) async fn admit(app: &App, node: Node, path: &str) -> Result<(), Problem> {
    if unix_ms() / 1000 > node.until {
        let text = "the certificate has ended: fetch another one, and connect anew";
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    let machine = path.strip_prefix("/v1/machines/").and_then(|rest| rest.split('/').next());
    if machine.is_some_and(|machine| machine.parse() != Ok(node.mac)) {
        let text = format!("the certificate is for machine {}", node.mac);
        return Err(Problem::new(StatusCode::FORBIDDEN, text));
    }
    let Node { mac, key, boot_id, .. } = node;
    stands(app.store.run(move |store| store.standing(mac, &key, &boot_id)).await?)
}

fn stands(standing: Standing) -> Result<(), Problem> {
    let text = match standing {
        Standing::Good => return Ok(()),
        Standing::Revoked => {
            "this node's key was revoked: if it is to come back, approve it by `provisioner approve`"
        }
        Standing::Superseded => {
            "this node is not taken in, or another boot or key has its machine's place: restart it"
        }
    };
    Err(Problem::new(StatusCode::FORBIDDEN, text))
}
