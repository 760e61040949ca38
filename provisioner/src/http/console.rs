//! Machines' consoles: what nodes send of them, and what is kept for whoever looks.

use super::{
    App, Problem, mac,
    nodes::body,
    openapi::{OfMachine, Refused},
    speaks,
};
use crate::{
    machine::Mac,
    places::Place,
    store::{Lines, Store, StoreError},
    timeline::unix_ms,
    tls::node::Node,
};
use axum::{
    Extension, Json,
    extract::{
        ConnectInfo, Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, stream};
use protocol::{
    Digest,
    console::{ConsoleBatch, ConsoleEntry, ConsolePage, MAX_CONSOLE_LINES},
};
use serde::Deserialize;
use std::{
    collections::VecDeque, convert::Infallible, fmt, net::SocketAddr, sync::Arc, time::Duration,
};
use tokio::time::sleep;
use url::form_urlencoded;
use utoipa::IntoParams;

/// Lines of a page where nobody says.
const USUAL: u32 = 1_000;
/// The most lines of a page: all that are kept of a machine.
const MOST: u32 = 4_000;
/// The longest text to search for, in characters.
const MAX_SEARCH_LEN: usize = 100;
/// The largest number that JSON's readers agree on (RFC 8259, section 6).
const MAX_ID: u64 = 9_007_199_254_740_991;
/// How often the store is asked for a watcher: other front-ends write to it too.
const LOOK: Duration = Duration::from_millis(500);
/// A line now and then keeps proxies from closing the connection, and finds watchers who left.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Lines told at once.
const AT_ONCE: u32 = 500;

/// What became of a batch.
#[derive(serde::Serialize)]
pub(super) struct Accepted {
    /// How many lines were new.
    new: usize,
}

/// `POST /v1/machines/{mac}/lines`: a node's own, by its certificate.
pub(super) async fn lines(
    State(app): State<Arc<App>>,
    Extension(node): Extension<Node>,
    headers: HeaderMap,
    posted: Result<Json<ConsoleBatch>, JsonRejection>,
) -> Result<Json<Accepted>, Problem> {
    speaks(&headers)?;
    let batch = body(posted)?;
    if batch.lines.len() > MAX_CONSOLE_LINES {
        let text =
            format!("{} lines at once; at most {MAX_CONSOLE_LINES} are taken", batch.lines.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    if batch.boot_id != node.boot_id {
        let text = "it speaks of another boot than its certificate does";
        return Err(Problem::new(StatusCode::BAD_REQUEST, text));
    }
    // Written before the answer: what is acknowledged is not sent again.
    let new = app.store.run(move |store| store.add_console(node.mac, batch, unix_ms())).await?;
    Ok(Json(Accepted { new }))
}

/// Which lines, and from where on.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Those that contain this, whatever its case.
    #[param(required = false, nullable = false, pattern = "^[^\\x00]{0,100}$")]
    search: Option<String>,
    /// Those of this boot alone.
    #[param(required = false, nullable = false)]
    boot: Option<Digest>,
    /// Those behind the line of this number.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
    /// The last ones before the line of this number: of the largest number, the newest.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    before: Option<u64>,
    /// So many at the most; 1000 where nobody says.
    #[param(required = false, nullable = false, minimum = 1, maximum = 4_000)]
    limit: Option<u32>,
}

/// What is asked for cannot be.
#[derive(Debug, PartialEq, Eq)]
enum BadWanted {
    Limit,
    Search,
    Number,
}

impl fmt::Display for BadWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit => write!(f, "limit is a number from 1 to {MOST}"),
            Self::Search => {
                write!(f, "search has at most {MAX_SEARCH_LEN} characters, NUL not among them")
            }
            Self::Number => write!(f, "after and before are numbers from 0 to {MAX_ID}"),
        }
    }
}

impl Wanted {
    fn lines(&self) -> Result<Lines, BadWanted> {
        let most = self.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&most) {
            return Err(BadWanted::Limit);
        }
        if self.after.max(self.before).is_some_and(|number| number > MAX_ID) {
            return Err(BadWanted::Number);
        }
        let search = self.search.clone().filter(|text| !text.is_empty());
        // PostgreSQL has no text with a NUL.
        if search.as_ref().is_some_and(|s| s.chars().count() > MAX_SEARCH_LEN || s.contains('\0')) {
            return Err(BadWanted::Search);
        }
        Ok(Lines { boot: self.boot, search, after: self.after, before: self.before, most })
    }

    /// The header that names the page behind its last line, or, where it was asked for backwards, the
    /// one before its first.
    fn link(&self, mac: Mac, page: &ConsolePage) -> Option<HeaderValue> {
        let backwards = self.before.is_some() && self.after.is_none();
        let (place, end, relation) = match backwards {
            true => ("before", page.lines.first()?, "prev"),
            false => ("after", page.lines.last()?, "next"),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.search.as_ref().map(|search| ("search", search)));
        query.extend_pairs(self.boot.map(|boot| ("boot", boot.to_string())));
        query.extend_pairs(self.limit.map(|limit| ("limit", limit.to_string())));
        query.extend_pairs(self.before.filter(|_| !backwards).map(|n| ("before", n.to_string())));
        query.append_pair(place, &end.id.to_string());
        let query = query.finish();
        let link = format!("</v1/machines/{mac}/console?{query}>; rel=\"{relation}\"");
        HeaderValue::from_str(&link).ok()
    }
}

/// A page of a machine's console: what its kernel, its PID 1 and its service said, oldest line first.
///
/// Where there are more lines than were asked for, the header `Link` names the page behind this one
/// (`next`), or, with `before`, the one before it (`prev`; RFC 8288). Of a machine 4,000 lines and 256
/// KiB are kept, of all machines 512 MiB: the oldest go, and `gone` counts them. A line's `missing`
/// counts those before it that never came.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/console", tag = "machines", operation_id = "console", params(OfMachine, Wanted),
    responses(
        (status = 200, description = "The lines", body = ConsolePage,
         headers(("Link" = String, description = "The page behind, or before, where there is one"))),
        Refused,
    )
)]
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let mac = mac(&name)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    let lines = wanted.lines().map_err(|error| bad(error.to_string()))?;
    known(&app, mac).await?;
    let (page, more) = look(&app, mac, lines).await?;
    let link = wanted.link(mac, &page).filter(|_| more);
    let mut response = Json(page).into_response();
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// A page, and whether there is more behind it or, backwards, before it.
pub(super) async fn look(
    app: &App,
    mac: Mac,
    wanted: Lines,
) -> Result<(ConsolePage, bool), Problem> {
    let most = wanted.most as usize;
    let backwards = wanted.before.is_some() && wanted.after.is_none();
    // One more tells.
    let asked = Lines { most: wanted.most + 1, ..wanted };
    let mut page = app.store.run(move |store| store.console(mac, &asked)).await?;
    let more = page.lines.len() > most;
    if more && backwards {
        page.lines.remove(0);
    }
    page.lines.truncate(most);
    Ok((page, more))
}

/// That a machine is known, or a refusal.
pub(super) async fn known(app: &App, mac: Mac) -> Result<(), Problem> {
    let life = app.store.run(move |store| store.life(mac)).await?;
    life.map(drop).ok_or_else(|| super::api::unknown(&mac.to_string()))
}

/// What is followed.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Followed {
    /// Lines that contain this, whatever its case.
    #[param(required = false, nullable = false, pattern = "^[^\\x00]{0,100}$")]
    search: Option<String>,
    /// Lines behind this one, where no `Last-Event-ID` says so; from now on where nobody says.
    #[param(required = false, nullable = false, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    after: Option<u64>,
}

/// A machine's console, as its lines come.
///
/// Events `line` have a line as JSON, and its number as their id. Whoever says which line he had last
/// (`Last-Event-ID`, or `after`) is told first what came since, as far as it is kept.
#[utoipa::path(
    get, path = "/v1/machines/{mac}/console/live", tag = "machines",
    operation_id = "console_live",
    params(OfMachine, Followed,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last line that was had")),
    responses(
        (status = 200, description = "Lines, without end", body = String,
         content_type = "text/event-stream"),
        Refused,
    )
)]
pub(super) async fn live(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    followed: Result<Query<Followed>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let mac = mac(&name)?;
    let bad = |text: String| Problem::new(StatusCode::BAD_REQUEST, text);
    let Query(Followed { search, after }) = followed.map_err(|error| bad(error.body_text()))?;
    let wanted = Wanted { search, after, limit: Some(AT_ONCE), ..Wanted::default() };
    let mut wanted = wanted.lines().map_err(|error| bad(error.to_string()))?;
    known(&app, mac).await?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let place = app.watch(peer, "/console")?;
    wanted.after = match last.filter(|last| *last <= MAX_ID).or(wanted.after) {
        Some(after) => Some(after),
        None => Some(app.store.run(move |store| store.newest_line(mac)).await?),
    };
    let follower = Follower { app, mac, wanted, waiting: VecDeque::new(), _place: place };
    let events = stream::unfold(follower, |mut follower| async {
        let line = follower.next().await?;
        let event = Event::default().event("line").id(line.id.to_string()).json_data(&line);
        // Our own types always have a JSON form.
        Some((Ok(event.unwrap_or_default()), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Somebody who watches a console.
struct Follower {
    app: Arc<App>,
    mac: Mac,
    wanted: Lines,
    waiting: VecDeque<ConsoleEntry>,
    _place: Place,
}

impl Follower {
    /// The next line, whenever it comes.
    async fn next(&mut self) -> Option<ConsoleEntry> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some(line);
            }
            let (mac, wanted) = (self.mac, self.wanted.clone());
            let asked = move |store: &Store| store.console_after(mac, &wanted);
            match self.app.store.run(asked).await {
                Ok(lines) => {
                    self.wanted.after = lines.last().map(|line| line.id).or(self.wanted.after);
                    self.waiting.extend(lines);
                }
                Err(StoreError::Stopping) => return None,
                // It says so elsewhere; what came meanwhile is told once it answers.
                Err(_) => {}
            }
            if self.waiting.is_empty() {
                sleep(LOOK).await;
            }
        }
    }
}

/// Which lines a machine's page shows. What makes no sense is as if it were not there, since somebody
/// looks at a page.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Sought {
    #[serde(default)]
    search: String,
    #[serde(default)]
    boot: String,
    #[serde(default)]
    before: String,
}

/// Lines on a machine's page.
const ON_PAGE: u32 = 200;

impl Sought {
    /// As the store takes it.
    pub(super) fn lines(&self) -> Lines {
        let (search, boot, before) = self.shown();
        let before = Some(before.unwrap_or(MAX_ID));
        let search = Some(search).filter(|search| !search.is_empty());
        Lines { boot, search, after: None, before, most: ON_PAGE }
    }

    /// Search, boot, and where the page ends.
    pub(super) fn shown(&self) -> (String, Option<Digest>, Option<u64>) {
        let search = self.search.trim().replace('\0', "");
        let search = search.chars().take(MAX_SEARCH_LEN).collect();
        let before = self.before.parse().ok().filter(|before| *before <= MAX_ID);
        (search, self.boot.parse().ok(), before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_console_is_bounded() {
        let asked = |limit, search: &str, after| {
            let search = Some(search.to_string());
            Wanted { limit, search, after, ..Wanted::default() }.lines()
        };
        assert_eq!(asked(None, "", None).unwrap().most, USUAL);
        assert_eq!(asked(Some(0), "", None), Err(BadWanted::Limit));
        assert_eq!(asked(Some(MOST + 1), "", None), Err(BadWanted::Limit));
        assert_eq!(asked(None, &"x".repeat(101), None), Err(BadWanted::Search));
        assert_eq!(asked(None, "", Some(u64::MAX)), Err(BadWanted::Number));
        let sought = Sought { before: "x".into(), boot: "y".into(), ..Sought::default() };
        let lines = sought.lines();
        assert_eq!((lines.before, lines.boot, lines.search), (Some(MAX_ID), None, None));
    }
}
