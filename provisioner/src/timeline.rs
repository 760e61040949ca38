//! What happens to machines, as a stream: recorded in the store, then shown to whoever watches.
//!
//! The servers hand records over without waiting: a reply to a machine never stands behind the
//! database or a slow browser. (In a boot storm, a script handler that published before it
//! flushed has stalled whole fleets.) What the queue cannot hold is counted as lost.

use crate::{
    counters::Counters,
    machine::Mac,
    progress::Mark,
    store::{Store, StoreError},
};
use protocol::{
    Digest,
    fleet::{TimelineEvent, UpstreamStatus},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::broadcast;

/// Records that wait for the store: a thousand machines' burst of eight each.
const QUEUE: usize = 8_192;
/// Records written in one transaction: one commit for many, none held back long.
const BATCH: usize = 64;
/// News that a slow watcher may be behind; then it misses some, and its next look at the whole
/// mends that.
const NEWS: usize = 1_024;
/// How often the store is asked for news: what others wrote is in it too.
const LOOK: Duration = Duration::from_millis(250);
/// The most events asked for at once.
const MOST: u32 = 1_000;
/// Between two attempts at a store that is full.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest text of an event.
pub const MAX_TEXT_LEN: usize = 2_400;

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A DHCP exchange.
    Dhcp,
    /// A TFTP transfer.
    Tftp,
    /// A script or file fetched by HTTP.
    Http,
    /// The machine's own report.
    Boot,
    /// The kernel had died before this boot.
    Crash,
    /// Taken in.
    Enrol,
    /// Turned away, with the reason.
    Refused,
    /// Two machines claim one identity.
    Conflict,
}

impl Kind {
    /// As written in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Tftp => "tftp",
            Self::Http => "http",
            Self::Boot => "boot",
            Self::Crash => "crash",
            Self::Enrol => "enrol",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
        }
    }
}

/// Something that happened to a machine, and what was learnt of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The machine.
    pub mac: Mac,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The kind of event.
    pub kind: Kind,
    /// For people.
    pub text: String,
    /// How it moves the boot on, step by step.
    pub marks: Vec<Mark>,
    /// Boot id and sequence number, where the machine itself reports: each counts once.
    pub report: Option<(Digest, u32)>,
    /// What the event tells of the machine.
    pub sighting: Sighting,
    /// Where whoever says so speaks from, where nothing but that says who it is.
    pub claimed_at: Option<IpAddr>,
}

/// What an event tells of a machine. Of what enrolment established it replaces the address alone,
/// which changes with a lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    /// Whether a machine not known so far becomes known: one that boots from us does, a telephone
    /// that asks for an address does not.
    pub boots: bool,
    /// SMBIOS UUID.
    pub uuid: Option<String>,
    /// SMBIOS serial number.
    pub serial: Option<String>,
    /// `bios` or `uefi`.
    pub firmware: Option<&'static str>,
    /// `pxe`, `http` or `ipxe`.
    pub boot_mode: Option<&'static str>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// A peer's address, as it is shown and kept.
pub fn seen_at(peer: SocketAddr) -> Option<IpAddr> {
    Some(peer.ip().to_canonical())
}

impl Record {
    /// A record of this moment with nothing more to tell.
    pub fn new(mac: Mac, kind: Kind, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if text.len() > MAX_TEXT_LEN {
            let end = (0..=MAX_TEXT_LEN).rev().find(|&end| text.is_char_boundary(end));
            text.truncate(end.unwrap_or(0));
        }
        let sighting = Sighting::default();
        let (at, marks) = (unix_ms(), vec![]);
        Self { mac, at, kind, text, marks, report: None, sighting, claimed_at: None }
    }

    /// On the word of whoever is at that address.
    pub fn claimed(self, peer: SocketAddr) -> Self {
        Self { claimed_at: seen_at(peer), ..self }
    }

    /// With steps in the boot.
    pub fn marks(mut self, marks: impl IntoIterator<Item = Mark>) -> Self {
        self.marks.extend(marks);
        self
    }

    /// With what was learnt.
    pub fn sighting(mut self, sighting: Sighting) -> Self {
        self.sighting = sighting;
        self
    }

    /// As shown.
    pub fn event(&self) -> TimelineEvent {
        TimelineEvent {
            mac: self.mac.to_string(),
            at: self.at,
            kind: self.kind.as_str().into(),
            text: self.text.clone(),
        }
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sent to everyone who watches.
#[derive(Clone, Debug)]
pub enum News {
    /// An event, now in the store, and its number there.
    Timeline(u64, TimelineEvent),
    /// Ledger or parameter servers moved.
    Upstream(Arc<UpstreamStatus>),
}

/// Where records are handed over, and news is had.
#[derive(Clone)]
pub struct Timeline {
    queue: SyncSender<Message>,
    news: broadcast::Sender<News>,
    counters: Arc<Counters>,
    /// Records in the queue: more by one who just handed one over, fewer by one who just took it.
    waiting: Arc<AtomicI64>,
}

enum Message {
    Record(Box<Record>),
    /// Answered when all before it is in the store.
    Flush(SyncSender<()>),
}

impl Timeline {
    /// Starts the thread that writes records.
    pub fn start(store: Arc<Store>, counters: Arc<Counters>) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let news = broadcast::Sender::new(NEWS);
        let left = Arc::new(AtomicI64::new(0));
        let shown = left.clone();
        let entries = move || shown.load(Ordering::Relaxed).max(0).unsigned_abs();
        counters.metrics.tables.show("events-waiting", QUEUE as u64, entries);
        let timeline =
            Self { queue, news: news.clone(), counters: counters.clone(), waiting: left.clone() };
        let followed = Arc::downgrade(&store);
        thread::Builder::new().name("news".into()).spawn(move || follow(&followed, &news))?;
        thread::Builder::new()
            .name("timeline".into())
            .spawn(move || write(&waiting, &store, &counters, &left))?;
        Ok(timeline)
    }

    /// Hands a record over; never waits.
    pub fn record(&self, record: Record) {
        log(&record);
        match self.queue.try_send(Message::Record(Box::new(record))) {
            Ok(()) => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.counters.count("events-lost");
            }
        }
    }

    /// Writes records before it returns: for what a machine must not have to send again. Gives how
    /// many were new. Blocks.
    pub fn record_now(&self, store: &Store, records: Vec<Record>) -> Result<usize, StoreError> {
        let new = store.record(&records)?;
        for record in &new {
            log(record);
            self.counters.metrics.event(record);
        }
        Ok(new.len())
    }

    /// Tells watchers about ledger and parameter servers.
    pub fn publish(&self, upstream: Arc<UpstreamStatus>) {
        // An error says that nobody watches.
        let _ = self.news.send(News::Upstream(upstream));
    }

    /// News from now on.
    pub fn watch(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Waits, at most `patience`, until everything handed over so far is in the store. Blocks.
    pub fn flush(&self, patience: Duration) {
        let (done, wait) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

fn log(record: &Record) {
    let kind = record.kind.as_str();
    tracing::info!(target: "timeline", mac = %record.mac, kind, "{}", record.text);
}

/// Writes records, again and again while the disk is full: meanwhile others wait in the queue,
/// and only what that cannot hold is lost.
fn record_patiently<'a>(store: &Store, batch: &'a [Record]) -> Result<Vec<&'a Record>, StoreError> {
    let mut told = false;
    loop {
        match store.record(batch) {
            Err(error) if error.may_pass() => {
                if !told {
                    tracing::error!("events wait to be written: {error}");
                    told = true;
                }
                thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

/// Tells what comes into the store, by whatever front-end, until that is closed.
fn follow(store: &Weak<Store>, news: &broadcast::Sender<News>) {
    let mut last: Option<u64> = None;
    while let Some(store) = store.upgrade() {
        // A store that fails says so elsewhere; what came meanwhile is told once it answers.
        let events = last.map(|after| store.events_after(after, MOST).unwrap_or_default());
        for (number, event) in events.iter().flatten() {
            last = Some(*number);
            // An error says that nobody watches.
            let _ = news.send(News::Timeline(*number, event.clone()));
        }
        if events.is_none_or(|events| events.is_empty()) {
            // SQLite numbers anew what stands behind the end, where the last events went with their
            // machine.
            let newest = store.newest_event().ok();
            last = last.and_then(|last| newest.map(|newest| newest.min(last))).or(newest);
        }
        drop(store);
        thread::sleep(LOOK);
    }
}

fn write(waiting: &Receiver<Message>, store: &Store, counters: &Counters, left: &AtomicI64) {
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH);
    let mut flushed: Vec<SyncSender<()>> = Vec::new();
    loop {
        // Wait for the first, then take what is there already.
        match waiting.recv_timeout(Duration::from_secs(60)) {
            Ok(Message::Record(record)) => batch.push(*record),
            Ok(Message::Flush(done)) => flushed.push(done),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while batch.len() < BATCH {
            let Ok(message) = waiting.try_recv() else { break };
            match message {
                Message::Record(record) => batch.push(*record),
                Message::Flush(done) => flushed.push(done),
            }
        }
        left.fetch_sub(batch.len() as i64, Ordering::Relaxed);
        match record_patiently(store, &batch) {
            Ok(new) => new.iter().for_each(|record| counters.metrics.event(record)),
            Err(error) => {
                counters.add("events-lost", batch.len() as u64);
                tracing::error!("{} events are lost: {error}", batch.len());
            }
        }
        batch.clear();
        for done in flushed.drain(..) {
            let _ = done.try_send(());
        }
    }
}
