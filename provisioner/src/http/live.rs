//! Server-sent events: what happens, as it happens.

use super::{App, Problem};
use crate::timeline::News;
use axum::{
    extract::State,
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;

/// A line now and then keeps proxies from closing the connection, and finds watchers who left.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /v1/events`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = app.watchers.clone().try_acquire_owned().map_err(|_| {
        let text = "as many watch already as may; close another page, or ask /v1/machines";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    let news = app.timeline.watch();
    let events = stream::unfold((news, place), |(mut news, place)| async {
        let event = match news.recv().await {
            Ok(News::Timeline(event)) => Event::default().event("timeline").json_data(event),
            Ok(News::Upstream(status)) => Event::default().event("upstream").json_data(&*status),
            // Too slow for what happens: told so, to look at the whole again.
            Err(RecvError::Lagged(missed)) => {
                Ok(Event::default().event("missed").data(missed.to_string()))
            }
            Err(RecvError::Closed) => return None,
        };
        // Our own types always have a JSON form.
        let event = event.unwrap_or_default();
        Some((Ok(event), (news, place)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
