//! For whoever looks after us: metrics, and whether we live and are ready.

use super::{App, Problem};
use crate::{
    metrics::{self, Code, Metered, Moment},
    readiness::{self, Seen},
    store::Store,
    timeline::unix_ms,
};
use axum::{
    Json,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use listener::Secured;
use protocol::readiness::Readiness;
use std::{sync::Arc, time::Instant};
use tokio::task::spawn_blocking;

/// What Prometheus is told that it gets.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The route of what matches none.
const NO_ROUTE: &str = "none";

/// `GET /healthz`: whoever answers lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, Json<Readiness>) {
    let store = app.store.run(Store::answers).await;
    let shared = app.clone();
    let image = spawn_blocking(move || shared.setup.image.as_ref().map(readiness::openable));
    let seen = Seen {
        store,
        listening: app.counters.metrics.listening.all(),
        image: image.await.unwrap_or_else(|_| Some(Err("the program is stopping".into()))),
        key: app.authority.is_some(),
    };
    let readiness = readiness::judge(seen);
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness))
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
) -> Result<([(header::HeaderName, &'static str); 1], String), Problem> {
    let counters = &app.counters;
    let pool = counters.metrics.pools.get().and_then(|pools| pools.four);
    let began = Instant::now();
    let figures = app.store.run(move |store| store.figures(pool, unix_ms() / 1000)).await;
    let moment = Moment {
        // A database that is gone says so by `store_up`; all else is told anyhow.
        figures: figures.ok(),
        waited: began.elapsed().as_secs_f64(),
        store: app.store.meter.clone(),
        counters: counters.clone(),
        serves: (app.setup.image.is_some(), app.authority.is_some()),
    };
    let text = metrics::text(&counters.metrics, moment).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text))
}

/// Counts requests and their answers' bytes.
pub(super) async fn meter(
    State(app): State<Arc<App>>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let secured = request.extensions().get::<Secured>().is_some();
    let door = if secured { metrics::Door::Https } else { metrics::Door::Http };
    let began = Instant::now();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let metrics = &app.counters.metrics;
    let code = Code::from(response.status().as_u16());
    metrics.request(door, route, code, 1, began.elapsed());
    let taken = metrics.sent(door, route);
    response.map(|body| Metered::body(body, taken))
}
