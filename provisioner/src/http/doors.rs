//! By which door a request may come: plain HTTP, or TLS.
//!
//! Firmware and iPXE speak plain HTTP, and so does a node before it was taken in: what it fetches is
//! signed, and what it says is signed, or is a report that anybody could make up and that is taken as such
//! (`store/believed.rs`). People read pages,
//! and make no change by them. So those paths are open by both doors; a path that is not in the table
//! is open by TLS alone.

use super::{App, Problem, mutual};
use crate::tls::node::Node;
use axum::{
    Extension,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use listener::Secured;
use std::{net::SocketAddr, sync::Arc};

/// Where a path is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// By plain HTTP and by TLS.
    Both,
    /// By TLS alone; from this host itself by plain HTTP too, since nothing lies between.
    Tls,
    /// To read by both; to act by TLS alone.
    Read,
    /// By TLS, for a node that shows the certificate that it was given, and its own machine's path
    /// alone.
    Node,
}

/// The paths, as the router has them.
const DOORS: &[(&str, Door)] = &[
    ("/", Door::Both),
    ("/approvals", Door::Both),
    ("/boot.ipxe", Door::Both),
    ("/boot/{name}", Door::Both),
    ("/ca-rsa.der", Door::Both),
    ("/ca-rsa.pem", Door::Both),
    ("/ca.der", Door::Both),
    ("/ca.pem", Door::Both),
    ("/healthz", Door::Both),
    ("/image/{digest}/{file}", Door::Both),
    ("/ipxe/{file}", Door::Both),
    ("/jobs", Door::Both),
    ("/jobs/{job}", Door::Both),
    ("/machines/{mac}", Door::Both),
    ("/metrics", Door::Both),
    ("/readyz", Door::Both),
    ("/uki/{file}", Door::Both),
    ("/v1/events", Door::Both),
    ("/v1/machines", Door::Both),
    ("/v1/machines/{mac}", Door::Both),
    ("/v1/machines/{mac}/alive", Door::Node),
    ("/v1/machines/{mac}/approve", Door::Both),
    ("/v1/machines/{mac}/certificate", Door::Both),
    ("/v1/machines/{mac}/challenge", Door::Both),
    ("/v1/machines/{mac}/console", Door::Both),
    ("/v1/machines/{mac}/console/live", Door::Both),
    ("/v1/machines/{mac}/crashes", Door::Both),
    ("/v1/machines/{mac}/crashes/{id}", Door::Both),
    ("/v1/machines/{mac}/enrol", Door::Both),
    ("/v1/machines/{mac}/events", Door::Both),
    ("/v1/machines/{mac}/lines", Door::Node),
    ("/v1/machines/{mac}/pieces", Door::Both),
    // Reading is open; who acts shows a token, and that travels by TLS alone.
    ("/v1/machines/{mac}/state", Door::Read),
    ("/v1/machines/{mac}/timeline", Door::Both),
    ("/v1/machines/{mac}/work", Door::Both),
    ("/v1/openapi.json", Door::Both),
    ("/v1/pieces/{file}", Door::Both),
    ("/v1/status", Door::Both),
    ("/v1/time", Door::Both),
];

/// The door of a path.
pub(super) fn door(path: &str) -> Door {
    DOORS.iter().find(|(known, _)| *known == path).map_or(Door::Tls, |&(_, door)| door)
}

/// Turns away who came by the wrong door, and every request of a node that is none of ours any
/// more, on connections that are open too.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    matched: Option<MatchedPath>,
    secured: Option<Extension<Secured>>,
    mut request: Request,
    next: Next,
) -> Response {
    // What matches nothing is answered so.
    let door = match matched.map_or(Door::Both, |matched| door(matched.as_str())) {
        Door::Read if request.method().is_safe() => Door::Both,
        Door::Read => Door::Tls,
        door => door,
    };
    let forbidden = |text: String| Problem::new(StatusCode::FORBIDDEN, text).into_response();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let here = peer.is_some_and(|ConnectInfo(peer)| peer.ip().is_loopback());
    let certificate = secured.as_ref().and_then(|secured| secured.certificate.as_ref());
    let node = certificate.map(Node::read);
    match node {
        Some(None) => return forbidden("this is no node's certificate".into()),
        Some(Some(node)) => {
            if let Err(problem) = mutual::admit(&app, node, request.uri().path()).await {
                return problem.into_response();
            }
            request.extensions_mut().insert(node);
        }
        None => {}
    }
    match (door, secured, node) {
        (Door::Both, ..) | (Door::Tls | Door::Read, Some(_), _) | (Door::Node, _, Some(_)) => {
            next.run(request).await
        }
        (Door::Tls | Door::Read, None, _) if here => next.run(request).await,
        (Door::Tls | Door::Read, None, _) if wants_a_page(&request) => {
            let place = request.uri().path_and_query().map_or("/", |place| place.as_str());
            Redirect::temporary(&format!("{}{place}", app.https)).into_response()
        }
        (Door::Tls | Door::Read, None, _) => {
            let path = request.uri().path();
            forbidden(format!("this is open by TLS alone: ask {}{path}", app.https))
        }
        (Door::Node, _, None) => {
            forbidden("this is for nodes that show the certificate that they were given".into())
        }
    }
}

/// Whether it is somebody in a browser who looks, and can be sent to the other door.
fn wants_a_page(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accepts.is_some_and(|kinds| kinds.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_nobody_thought_of_is_open_by_tls_alone() {
        assert_eq!(door("/v1/time"), Door::Both);
        assert_eq!(door("/v1/machines/{mac}/timeline"), Door::Both);
        assert_eq!(door("/v1/everything"), Door::Tls);
        // What an owner's signature or a token travels on, and what says which key to pin.
        for path in ["/miners", "/miners/medium", "/v1/media", "/v1/machines/{mac}/claim"] {
            assert_eq!(door(path), Door::Tls, "{path}");
        }
        let mut sorted = DOORS.to_vec();
        sorted.sort_by_key(|(path, _)| *path);
        sorted.dedup_by_key(|(path, _)| *path);
        assert_eq!(sorted, DOORS);
    }
}
