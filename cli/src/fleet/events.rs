//! What happens on a site, as it happens: server-sent events (HTML, section 9.2), asked for again
//! from the last one that came where the connection ends.

use super::{Fleet, FleetError};
use http_body_util::BodyExt;
use hyper::Method;
use protocol::{console::ConsoleEntry, fleet::TimelineEvent, told};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use url::form_urlencoded;

/// The server says something at least each fifteen seconds; after this it is gone.
const SILENCE: Duration = Duration::from_secs(40);
/// Between two attempts at a connection.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest event that is read.
const MAX_EVENT: usize = 1 << 20;

/// The fields of a stream that has come so far: pure.
#[derive(Debug, Default)]
struct Parser {
    rest: Vec<u8>,
}

/// An event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    id: Option<u64>,
    data: String,
}

impl Parser {
    /// Takes bytes; gives the events that are complete now. None: one is too long to be any.
    fn take(&mut self, bytes: &[u8]) -> Option<Vec<Event>> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.rest.drain(..end + 2).collect();
            let event = event(&String::from_utf8_lossy(&block));
            events.extend((event != Event::default()).then_some(event));
        }
        (self.rest.len() <= MAX_EVENT).then_some(events)
    }
}

fn event(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.into(),
            "id" => event.id = value.parse().ok(),
            "data" => event.data += value,
            // A comment, or a field that says nothing here.
            _ => {}
        }
    }
    event
}

impl Fleet {
    /// Shows each event of machines, without end. A connection that ends is made anew, and goes on
    /// where the last one was.
    ///
    /// # Errors
    /// [`FleetError`], where the first connection fails.
    pub async fn follow(
        &self,
        mut show: impl FnMut(TimelineEvent),
        mut note: impl FnMut(String),
    ) -> Result<(), FleetError> {
        self.follow_at("/v1/events", "timeline", None, &mut show, &mut note).await
    }

    /// Shows each line of a machine's console behind that one, without end; of those that contain a
    /// text alone, where one is given.
    ///
    /// # Errors
    /// [`FleetError`], where the first connection fails.
    pub async fn follow_console(
        &self,
        mac: &str,
        search: Option<&str>,
        after: u64,
        mut show: impl FnMut(ConsoleEntry),
        mut note: impl FnMut(String),
    ) -> Result<(), FleetError> {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(search.map(|search| ("search", search)))
            .append_pair("after", &after.to_string())
            .finish();
        let path = format!("/v1/machines/{mac}/console/live?{query}");
        self.follow_at(&path, "line", Some(after), &mut show, &mut note).await
    }

    /// Shows each event of that name at a path.
    async fn follow_at<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        mut last: Option<u64>,
        show: &mut impl FnMut(T),
        note: &mut impl FnMut(String),
    ) -> Result<(), FleetError> {
        let mut connected = false;
        loop {
            match self.follow_once((path, name), &mut last, &mut connected, show).await {
                Err(error) if !connected => return Err(error),
                Err(error @ FleetError::Refused { .. }) => return Err(error),
                Err(error) => note(format!("{error}; it is tried again")),
                Ok(()) => {}
            }
            sleep(AGAIN).await;
        }
    }

    async fn follow_once<T: DeserializeOwned>(
        &self,
        (path, name): (&str, &str),
        last: &mut Option<u64>,
        connected: &mut bool,
        show: &mut impl FnMut(T),
    ) -> Result<(), FleetError> {
        let after = last.map(|last| last.to_string());
        let headers: Vec<_> = after.iter().map(|after| ("last-event-id", after.as_str())).collect();
        let mut stream = self.send(Method::GET, path, &headers, None).await?.into_body();
        *connected = true;
        let mut parser = Parser::default();
        let ended = |why: String| FleetError::Away { url: "the stream of events".into(), why };
        loop {
            let frame = timeout(SILENCE, stream.frame()).await;
            let frame = frame.map_err(|_| ended(format!("silent for {} s", SILENCE.as_secs())))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| ended(told(&error)))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let events = parser.take(bytes);
            let events = events.ok_or_else(|| FleetError::Answer("an event without end".into()))?;
            for event in events {
                *last = event.id.or(*last);
                if event.name == name {
                    let read = serde_json::from_str(&event.data);
                    show(read.map_err(|error| FleetError::Answer(error.to_string()))?);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_are_read_however_the_bytes_come() {
        let text = ": hello\n\nevent: timeline\nid: 7\ndata: {}\n\nevent: missed\ndata: 3\n\n";
        let told = [
            Event { name: "timeline".into(), id: Some(7), data: "{}".into() },
            Event { name: "missed".into(), id: None, data: "3".into() },
        ];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let chunks = text.as_bytes().chunks(size);
            let events: Vec<Event> = chunks.flat_map(|bytes| parser.take(bytes).unwrap()).collect();
            assert_eq!(events, told, "{size} bytes at once");
        }
        assert_eq!(Parser::default().take(&vec![b'x'; MAX_EVENT + 1]), None);
    }

    proptest! {
        #[test]
        fn no_stream_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parser::default().take(&bytes);
        }
    }
}
