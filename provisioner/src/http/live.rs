//! Server-sent events: what happens, as it happens.

use super::{App, Problem, openapi::Refused};
use crate::{
    store::{Store, StoreError},
    timeline::News,
};
use axum::{
    extract::{ConnectInfo, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use protocol::fleet::TimelineEvent;
use serde::Deserialize;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

/// A line now and then keeps proxies from closing the connection, and finds watchers who left.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a browser, or a program, says of the last event that it had (HTML, section 9.2).
const LAST: &str = "last-event-id";
/// The most events that are told again; whoever missed more looks at the whole.
const MOST: u32 = 1_000;

/// From where on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// Events after this one, where no `Last-Event-ID` says so.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
}

/// What happens, as it happens.
///
/// Events `timeline` and `upstream` have JSON as their data, `missed` the number of events that this
/// watcher was too slow for. Whoever says which event he had last (`Last-Event-ID`, or `after`) is
/// told first what happened since, a thousand events at the most.
#[utoipa::path(
    get, path = "/v1/events", tag = "site", operation_id = "events", params(From,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was had")),
    responses(
        (status = 200, description = "Events, without end", body = String,
         content_type = "text/event-stream"),
        Refused,
    )
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    from: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(from) = from.map_err(|error| bad(error.body_text()))?;
    // A number of another kind is another server's.
    let last = headers.get(LAST).and_then(|value| value.to_str().ok()?.parse().ok());
    let place = app.watch(peer, "/v1/machines")?;
    // Watched before the store is asked: nothing falls between.
    let news = app.timeline.watch();
    let missed = match last.or(from.after) {
        Some(after) => app.store.run(move |store| since(store, after)).await?,
        None => Vec::new(),
    };
    let told = missed.last().map_or(0, |(number, _)| *number);
    let live = stream::unfold((news, place), |(mut news, place)| async {
        let event = match news.recv().await {
            Ok(News::Timeline(number, event)) => (number, timeline(number, &event)),
            Ok(News::Upstream(status)) => {
                (u64::MAX, Event::default().event("upstream").json_data(&*status))
            }
            // Too slow for what happens: told so, to look at the whole again.
            Err(RecvError::Lagged(missed)) => {
                (u64::MAX, Ok(Event::default().event("missed").data(missed.to_string())))
            }
            Err(RecvError::Closed) => return None,
        };
        Some((event, (news, place)))
    });
    let again = stream::iter(missed).map(|(number, event)| (number, timeline(number, &event)));
    // What was told from the store is not told twice.
    let live = live.filter(move |(number, _)| std::future::ready(*number > told));
    // Our own types always have a JSON form.
    let events = again.chain(live).map(|(_, event)| Ok(event.unwrap_or_default()));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn timeline(number: u64, event: &TimelineEvent) -> Result<Event, axum::Error> {
    Event::default().event("timeline").id(number.to_string()).json_data(event)
}

/// The events after that one, where they are few enough to be told.
fn since(store: &Store, after: u64) -> Result<Vec<(u64, TimelineEvent)>, StoreError> {
    let newest = store.newest_event()?;
    store.events_after(after.max(newest.saturating_sub(u64::from(MOST))), MOST)
}
