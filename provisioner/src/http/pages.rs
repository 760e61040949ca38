//! The page's handlers: look up, then let `page` write.

use super::{App, Problem, api};
use crate::{page, timeline::unix_ms};
use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use maud::Markup;
use std::sync::Arc;

/// Nothing is loaded from elsewhere, and nothing here is to be framed by others.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'";

pub(super) fn html(markup: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, markup.into_string()).into_response()
}

/// `GET /`.
pub(super) async fn overview(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(html(page::overview(&seen(&app).await?)))
}

/// `GET /live`: the part of the page that changes.
pub(super) async fn live(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    Ok(html(page::live(&seen(&app).await?)))
}

/// `GET /machines/{mac}`.
pub(super) async fn machine(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    Ok(html(page::machine(&api::detail(&app, &name).await?)))
}

async fn seen(app: &App) -> Result<page::Seen, Problem> {
    let status = api::overview(app).await?;
    let now = unix_ms();
    let machines = app.store.run(move |store| store.machines(now)).await?;
    Ok(page::Seen { now, status, machines })
}
