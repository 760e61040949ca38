//! HTTP: boot scripts and images for machines, reports and enrolment from nodes, API and page for
//! everyone else.
//!
//! | path | for | what |
//! |---|---|---|
//! | `GET /ca.pem`, `/ca.der` | firmware's menus, browsers | our CA |
//! | `GET /ca-rsa.pem`, `/ca-rsa.der` | menus of firmware without elliptic curves | our CA of RSA keys |
//! | `GET /boot.ipxe` | iPXE | the script that asks for the machine's own |
//! | `GET /boot/{mac}.ipxe` | iPXE | the machine's own |
//! | `GET /ipxe/{file}` | UEFI HTTP boot | iPXE itself |
//! | `GET /uki/{file}` | UEFI HTTP boot | the signed UKI |
//! | `GET /image/{digest}/{file}` | iPXE, node-init | kernel, initramfs, root, `release.bundle` |
//! | `POST /v1/time` | node-init | the time, signed |
//! | `POST /v1/machines/{mac}/events` | node-init | what its boot stages came to |
//! | `POST /v1/machines/{mac}/challenge` | node-init | what its TPM is asked |
//! | `POST /v1/machines/{mac}/crashes` | node-init | what the kernel kept of its own death |
//! | `POST /v1/machines/{mac}/enrol` | node-init | to be taken in |
//! | `POST /v1/machines/{mac}/certificate` | node-init | its certificate for TLS |
//! | `POST /v1/machines/{mac}/alive` | node-init | that it is there, by that certificate alone |
//! | `POST /v1/machines/{mac}/pieces` | node-init | who at its site has pieces of its root |
//! | `GET /v1/pieces/{file}` | node-init | what verifies a root's pieces |
//! | `POST /v1/machines/{mac}/lines` | node-init | its console's lines, by that certificate alone |
//! | `GET /v1/machines/{mac}/console`, `…/console/live` | people, programs | what is kept of them |
//! | `GET /v1/machines/{mac}/work` | people, programs | its receipts, as the ledger told of them |
//! | `POST /v1/machines/{mac}/approve` | the owner | to let a node key in, signed |
//! | `GET, POST /v1/machines/{mac}/state` | operators | where a machine stands, and to move it on |
//! | `POST /v1/machines/{mac}/revoke` | operators | to put a machine's node key out |
//! | `GET, POST /v1/operators`, `DELETE /v1/operators/{name}` | operators | who may act |
//! | `GET /v1/machines`, `/v1/machines/{mac}`, `/v1/status` | programs | what is known |
//! | `GET /v1/machines/{mac}/timeline` | programs | what happened to it, page by page |
//! | `GET /v1/machines/{mac}/crashes`, `…/crashes/{id}` | people | its kernel's deaths, and the log of one |
//! | `GET /v1/openapi.json` | programs | the description of what is for programs |
//! | `GET /v1/events` | programs, the page | what happens, as server-sent events |
//! | `/v1/config`, `/v1/groups`, … | operators | machines' configuration: `configuration` has the table |
//! | `GET /`, `/approvals`, `/jobs`, `/jobs/{job}`, `/machines/{mac}` | people | the page |
//! | `/sign-in`, `/sign-out`, `POST /machines/{mac}/do` | operators in a browser | to act |
//! | `GET /metrics`, `/healthz`, `/readyz` | Prometheus, supervisors | how we are |
//! | `GET`, `POST /miners`, `GET /miners/{address}` | miners | registering, an owner's tokens |
//! | `GET`, `POST /miners/medium` | miners | the medium, as it is or made theirs |
//! | `GET`, `POST /v1/media` | `alia` | what there is for miners; to register a token |
//! | `GET /v1/media/{token}`, `/v1/media/of/{address}` | `alia` | how tokens stand |
//! | `POST /v1/media/{token}/revoke` | its owner, operators | to take it back |
//! | `POST /v1/machines/{mac}/claim` | node-init | whose it is, by a token |
//!
//! `doors` says which of them are open by plain HTTP.

mod api;
mod boot;
mod ca;
mod cache;
mod configuration;
mod console;
mod crashes;
mod doors;
mod file;
mod listing;
mod live;
mod media;
mod miners;
mod mutual;
mod nodes;
mod once;
mod openapi;
mod operators;
mod ops;
mod pages;
mod pieces;
mod precondition;
mod refused;
mod routes;
mod session;
mod time;
mod timeline;
mod watched;

use self::routes::Routes;
use crate::{
    counters::Counters,
    enrol::Authority,
    groups::Configured,
    ledger::Work,
    machine::Mac,
    miners::Miners,
    peers::Peers,
    places::{NoPlace, Place, Places},
    script,
    store::{Store, StoreError},
    timeline::Timeline,
    tls::ca::Ca,
};
use axum::{
    Extension, Json, Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use protocol::{Digest, fleet::UpstreamStatus, problem::ProblemDetails, version};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::sync::watch;
use utoipa_axum::routes;

/// The longest body of a request: an inventory of the largest server takes some 300 kB.
const MAX_BODY: usize = 2 << 20;
/// The most watchers of server-sent events: each holds a connection for as long as it likes.
pub(crate) const MAX_WATCHERS: usize = 64;
/// The most of them of one peer: the browsers of some operators behind one tunnel.
pub(crate) const MAX_WATCHERS_EACH: usize = 16;

/// What handlers share.
pub struct App {
    /// Machines, leases, events.
    pub store: Arc<Store>,
    /// Where events are recorded and watched.
    pub timeline: Timeline,
    /// Counts.
    pub counters: Arc<Counters>,
    /// What boot scripts are made from.
    pub setup: script::Setup,
    /// What single machines and groups of them have of their own.
    pub configured: Arc<Configured>,
    /// The folder of iPXE's files, and those of them that are given out.
    pub ipxe: (PathBuf, Vec<String>),
    /// The UKI that UEFI firmware gets.
    pub uki: Option<PathBuf>,
    /// What nodes are taken in with, where that is configured.
    pub authority: Option<Authority>,
    /// What ledger and parameter servers said last.
    pub upstream: watch::Receiver<Arc<UpstreamStatus>>,
    /// What the ledger said last of nodes and receipts.
    pub ledger: Work,
    /// `full`, `proxy` or `off`.
    pub dhcp: &'static str,
    /// Our CA.
    pub ca: Arc<Ca>,
    /// The one of RSA keys, where there is one.
    pub ca_rsa: Option<Arc<Ca>>,
    /// Whether it vouches for us, and not the operator's.
    pub own_certificate: bool,
    /// Base of our URLs by TLS.
    pub https: String,
    /// Its port.
    pub https_port: u16,
    /// Places for watchers.
    pub watchers: Places,
    /// Who of the machines has which pieces of what they boot.
    pub peers: Arc<Peers>,
    /// What miners are served, where they are.
    pub miners: Option<Miners>,
}

impl App {
    /// Places for as many watchers as there may be.
    pub fn places() -> Places {
        Places::new(MAX_WATCHERS, MAX_WATCHERS_EACH)
    }

    /// A place for a watcher; `instead` says what else he may ask.
    fn watch(&self, peer: SocketAddr, instead: &str) -> Result<Place, Problem> {
        self.watchers.take(peer.ip()).map_err(|none| {
            let (status, text) = match none {
                NoPlace::Yours => (
                    StatusCode::TOO_MANY_REQUESTS,
                    format!(
                        "{MAX_WATCHERS_EACH} watch from your address already, as many as may: \
                         close another page, or ask for {instead}"
                    ),
                ),
                NoPlace::All => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!(
                        "as many watch already as may; close another page, or ask for {instead}"
                    ),
                ),
            };
            Problem::new(status, text)
        })
    }

    /// Which boot in a row a machine is told that this is: what `count` says for the image served.
    /// Without an image, or where the store fails, it is the first: a full disk is no reason to
    /// boot nothing, or to tell no time.
    async fn attempt(
        &self,
        count: impl FnOnce(&Store, &Digest) -> Result<u32, StoreError> + Send + 'static,
    ) -> u32 {
        let image = self.setup.image.as_ref().map(|image| image.digest);
        self.attempt_of(image, count).await
    }

    /// The same for an image of some flavour.
    async fn attempt_of(
        &self,
        image: Option<Digest>,
        count: impl FnOnce(&Store, &Digest) -> Result<u32, StoreError> + Send + 'static,
    ) -> u32 {
        let Some(image) = image else { return 1 };
        self.store.run(move |store| count(store, &image)).await.unwrap_or(1)
    }
}

/// All routes.
fn table() -> Routes {
    let api = Routes::new()
        .api(routes!(api::machines))
        .api(routes!(api::machine))
        .api(routes!(api::life, operators::command))
        .api(routes!(operators::revoke))
        .api(routes!(nodes::approve))
        .api(routes!(timeline::page))
        .api(routes!(crashes::list, nodes::crash))
        .api(routes!(crashes::log))
        .api(routes!(api::work))
        .api(routes!(console::page))
        .api(routes!(console::live))
        .api(routes!(api::status))
        .api(routes!(live::events))
        .api(routes!(operators::list, operators::add))
        .api(routes!(operators::one, operators::remove))
        .api(routes!(media::offer, media::register))
        .api(routes!(media::of))
        .api(routes!(media::token))
        .api(routes!(media::revoke));
    let pages = configuration::routes(api)
        .other("/", get(pages::overview))
        .other("/machines/{mac}", get(pages::machine))
        .other("/machines/{mac}/do", post(pages::act))
        .other("/approvals", get(pages::approvals))
        .other("/jobs", get(pages::jobs))
        .other("/jobs/{job}", get(pages::job))
        .other("/sign-in", get(session::form).post(session::sign_in))
        .other("/sign-out", post(session::sign_out))
        .other("/miners", get(miners::page).post(miners::register))
        .other("/miners/medium", get(miners::medium).post(miners::filled))
        .other("/miners/{address}", get(miners::owner));
    let of_nodes = pages
        .other("/v1/machines/{mac}/events", post(nodes::events))
        .other("/v1/machines/{mac}/challenge", post(nodes::challenge))
        .other("/v1/machines/{mac}/enrol", post(nodes::enrol))
        .other("/v1/machines/{mac}/certificate", post(mutual::certificate))
        .other("/v1/machines/{mac}/alive", post(mutual::alive))
        .other("/v1/machines/{mac}/pieces", post(pieces::ask))
        .other("/v1/pieces/{file}", get(pieces::outline))
        .other("/v1/machines/{mac}/lines", post(console::lines))
        .other("/v1/machines/{mac}/claim", post(media::claim))
        .other("/v1/time", post(time::time));
    of_nodes
        .other("/ca.pem", get(ca::pem))
        .other("/ca.der", get(ca::der))
        .other("/ca-rsa.pem", get(ca::rsa_pem))
        .other("/ca-rsa.der", get(ca::rsa_der))
        .other("/boot.ipxe", get(boot::entry))
        .other("/boot/{name}", get(boot::machine))
        .other("/ipxe/{file}", get(boot::ipxe))
        .other("/uki/{file}", get(boot::uki))
        .other("/image/{digest}/{file}", get(boot::image))
        .other("/v1/openapi.json", get(openapi::answer))
        .other("/healthz", get(ops::healthz))
        .other("/metrics", get(ops::metrics))
        .other("/readyz", get(ops::readyz))
}

/// All of it, as it is served.
pub fn router(app: Arc<App>) -> Router {
    let once = middleware::from_fn_with_state(app.clone(), once::once);
    // Not of methods that are not there.
    let (api, description, others) = table().parts(|methods| methods.route_layer(once.clone()));
    let api = api.layer(middleware::from_fn(cache::tag));
    Router::new()
        .merge(api)
        .merge(others)
        .layer(Extension(Arc::new(description)))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here; see /") })
        .layer(middleware::from_fn(refused::told))
        .layer(middleware::from_fn_with_state(app.clone(), doors::guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), ops::meter))
        .with_state(app)
}

/// A request that was not fulfilled: a status and a text, as problem details (RFC 9457).
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = ProblemDetails::new(self.status.as_u16(), title, self.text);
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ProblemDetails::MEDIA_TYPE));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        let status = if error.may_pass() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, error.to_string())
    }
}

/// A MAC address in a path.
fn mac(text: &str) -> Result<Mac, Problem> {
    text.parse::<Mac>().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Whether node and provisioner understand each other; a node that says nothing speaks ours.
fn speaks(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(offered) = headers.get(version::HEADER) else { return Ok(()) };
    version::negotiate(offered.to_str().unwrap_or_default())
        .map(drop)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}
