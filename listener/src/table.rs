//! Who is in, and who goes where there is no room for one more.
//!
//! Whoever holds a place and does nothing with it keeps others out: a head that comes byte by byte, a
//! handshake that is never ended, a connection kept for later. Where all places are taken, those that got
//! nothing for longest go, of the peer that has most of them first. Who asked for something and waits for
//! us to answer does not.

use crate::peers::network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A peer with more places than this is crowding: what never got anything there goes at once.
const CROWD: usize = 64;
/// How many go at a time: finding them takes longer than ending them.
const AT_ONCE: usize = 64;
/// How often somebody to go is looked for while nobody can be asked to.
const AGAIN: Duration = Duration::from_millis(250);

/// So many places.
#[derive(Debug)]
pub(crate) struct Table {
    places: Arc<Semaphore>,
    /// No more entries than places.
    entries: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    began: Instant,
    patience: Duration,
}

#[derive(Debug)]
struct Entry {
    peer: IpAddr,
    progress: Progress,
    end: Arc<Notify>,
}

/// When something was done with a place, in milliseconds since its table began.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    began: Instant,
    since: u64,
    at: Arc<AtomicU64>,
    owed: Arc<AtomicBool>,
}

impl Progress {
    fn new(began: Instant) -> Self {
        let since = millis(began);
        Self { began, since, at: Arc::new(AtomicU64::new(since)), owed: Arc::default() }
    }

    /// Whether it is we who have something to do now.
    pub(crate) fn owes(&self, something: bool) {
        self.owed.store(something, Ordering::Relaxed);
    }

    pub(crate) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Relaxed)
    }

    /// Something was done now.
    pub(crate) fn note(&self) {
        self.at.store(millis(self.began), Ordering::Relaxed);
    }

    fn idle(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.at.load(Ordering::Relaxed)))
    }

    fn never(&self) -> bool {
        self.at.load(Ordering::Relaxed) == self.since
    }
}

fn millis(began: Instant) -> u64 {
    began.elapsed().as_millis() as u64
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<Table>,
    number: u64,
    /// For whoever uses it.
    pub(crate) progress: Progress,
    end: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Ends when it is to be given back for somebody else.
    pub(crate) async fn wanted(&self) {
        self.end.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.entries().remove(&self.number);
    }
}

impl Table {
    /// Who got nothing for as long as `patience` may be asked to go.
    pub(crate) fn new(places: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            entries: Mutex::default(),
            next: AtomicU64::new(0),
            began: Instant::now(),
            patience,
        })
    }

    /// Whether there is no room.
    #[cfg(feature = "tls")]
    pub(crate) fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Room for one more, made where there is none.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Some(permit);
        }
        loop {
            self.make_room();
            if let Ok(permit) = timeout(AGAIN, self.places.clone().acquire_owned()).await {
                return permit.ok();
            }
        }
    }

    /// That room as somebody's place.
    pub(crate) fn place(self: &Arc<Self>, room: OwnedSemaphorePermit, peer: IpAddr) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let progress = Progress::new(self.began);
        let end = Arc::new(Notify::new());
        let entry = Entry { peer: network(peer), progress: progress.clone(), end: end.clone() };
        self.entries().insert(number, entry);
        Place { table: self.clone(), number, progress, end, _permit: room }
    }

    fn make_room(&self) {
        let now = millis(self.began);
        let mut entries = self.entries();
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for entry in entries.values() {
            *counts.entry(entry.peer).or_default() += 1;
        }
        let mut idle: Vec<(usize, Duration, u64)> = entries
            .iter()
            .filter(|(_, entry)| !entry.progress.is_owed())
            .map(|(&number, entry)| {
                let count = counts.get(&entry.peer).copied().unwrap_or_default();
                let crowds = count > CROWD && entry.progress.never();
                (count, entry.progress.idle(now), number, crowds)
            })
            .filter(|&(_, idle, _, crowds)| crowds || idle >= self.patience)
            .map(|(count, idle, number, _)| (count, idle, number))
            .collect();
        idle.sort_unstable_by(|a, b| b.cmp(a));
        for (.., number) in idle.into_iter().take(AT_ONCE) {
            // Asked once; its place is free when it is gone.
            if let Some(entry) = entries.remove(&number) {
                entry.end.notify_one();
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;

    async fn taken(table: &Arc<Table>, peer: u8) -> Place {
        let room = table.room().await.unwrap();
        table.place(room, [10, 0, 0, peer].into())
    }

    async fn is_wanted(place: &Place) -> bool {
        timeout(Duration::from_millis(20), place.wanted()).await.is_ok()
    }

    #[tokio::test]
    async fn who_got_nothing_for_longest_goes_and_who_is_busy_stays() {
        let table = Table::new(3, Duration::from_millis(100));
        let (idle, busy) = (taken(&table, 1).await, taken(&table, 2).await);
        tokio::time::sleep(Duration::from_millis(120)).await;
        busy.progress.note();
        let young = taken(&table, 3).await;
        let waits = tokio::spawn({
            let table = table.clone();
            async move { taken(&table, 4).await }
        });
        assert!(is_wanted(&idle).await);
        assert!(!is_wanted(&busy).await && !is_wanted(&young).await && !waits.is_finished());
        drop(idle);
        let _new = timeout(Duration::from_secs(5), waits).await.unwrap().unwrap();
        assert_eq!(table.entries().len(), 3);
    }

    #[tokio::test]
    async fn of_two_that_wait_the_one_whose_peer_has_more_goes_first() {
        let table = Table::new(AT_ONCE + 2, Duration::ZERO);
        let alone = taken(&table, 1).await;
        let mut crowd = Vec::new();
        for _ in 0..=AT_ONCE {
            crowd.push(taken(&table, 2).await);
        }
        table.make_room();
        assert!(!is_wanted(&alone).await);
        let mut wanted = 0;
        for place in &crowd {
            wanted += usize::from(is_wanted(place).await);
        }
        assert_eq!(wanted, AT_ONCE);
    }

    #[tokio::test]
    async fn who_waits_for_us_stays_until_it_is_answered() {
        let table = Table::new(CROWD + 1, Duration::ZERO);
        let mut crowd = Vec::new();
        for _ in 0..=CROWD {
            crowd.push(taken(&table, 2).await);
        }
        for place in &crowd[..2] {
            place.progress.owes(true);
        }
        crowd[1].progress.owes(false);
        table.make_room();
        assert!(!is_wanted(&crowd[0]).await, "we owe it an answer");
        assert!(is_wanted(&crowd[1]).await && is_wanted(&crowd[2]).await);
    }

    #[tokio::test]
    async fn one_peer_that_crowds_is_not_waited_for() {
        let table = Table::new(CROWD + 1, Duration::from_secs(60));
        let mut crowd = Vec::new();
        for _ in 0..=CROWD {
            crowd.push(taken(&table, 2).await);
        }
        crowd[0].progress.note();
        tokio::time::sleep(Duration::from_millis(5)).await;
        crowd[0].progress.note();
        table.make_room();
        assert!(!is_wanted(&crowd[0]).await, "it got something");
        assert!(is_wanted(&crowd[1]).await);
    }
}
