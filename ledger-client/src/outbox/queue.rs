//! The outbox as a state machine: no socket, no clock. Times are [`Duration`]s since any moment.

use crate::submit::{Standing, SubmitError, Submitted};
use protocol::{ReceiptId, SignedReceipt, refusal::RefusalCode, transaction::MAX_RECEIPTS};
use std::{collections::BTreeMap, time::Duration};

/// How an outbox behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most receipts that wait or are not yet seen on the chain; 1 KB each.
    pub capacity: usize,
    /// The most receipts of one transaction.
    pub most_in_one: usize,
    /// How long a new receipt waits for others to go along.
    pub gather: Duration,
    /// How soon the chain is asked for a receipt that was handed in; each time twice as long, up
    /// to `longest_pause`.
    pub ask_after: Duration,
    /// A receipt that was handed in and is on no block by then is handed in again.
    pub resend_after: Duration,
    /// The first pause after a failure; each time twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// A receipt whose assignment (or job, or node) the chain does not know for so long, though
    /// it answers, is given up: it was never on this chain.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: 4_096,
            most_in_one: 64,
            gather: Duration::from_millis(200),
            ask_after: Duration::from_secs(1),
            resend_after: Duration::from_secs(60),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            patience: Duration::from_secs(3_600),
        }
    }
}

/// The outbox is full and took nothing: what was to go in stays the caller's, who tries again
/// later and takes no new work meanwhile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{capacity} receipts wait for the ledger already: take no new work until it answers")]
pub struct Full {
    /// How many it holds.
    pub capacity: usize,
}

/// What becomes of a receipt in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The server says that it stands on the chain.
    Stands(ReceiptId),
    /// It will never stand, for this reason.
    Refused(ReceiptId, String),
}

/// What the driver is to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Hand these in as one transaction, then call [`Queue::submitted`].
    Submit(Vec<SignedReceipt>),
    /// Ask whether this one stands, then call [`Queue::asked`].
    Ask(ReceiptId),
    /// Nothing before this time (none: before something is added).
    Wait(Option<Duration>),
}

/// What the chain says of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It stands.
    Stands,
    /// It does not.
    Absent,
    /// No server answered.
    Away,
}

/// Counts for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Not handed in, or to be handed in again.
    pub waiting: usize,
    /// Handed in and not seen on the chain yet.
    pub handed_in: usize,
    /// Seen on the chain so far.
    pub stood: u64,
    /// Refused for good so far.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    id: ReceiptId,
    receipt: SignedReceipt,
    place: Place,
    /// The most receipts of a transaction that it goes in: halved when one is refused and nobody
    /// says which receipt is at fault.
    most: usize,
    /// Since when the chain answers that something which it leans on is not there.
    not_yet: Option<(Duration, u32)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// To be handed in from then on.
    Waiting { from: Duration },
    /// Handed in; asked for at `ask`, handed in again where it is absent at `resend`.
    HandedIn { ask: Duration, resend: Duration, asked: u32 },
}

/// Receipts on their way to the chain, oldest first.
#[derive(Clone, Debug)]
pub struct Queue {
    settings: Settings,
    entries: BTreeMap<u64, Entry>,
    ids: BTreeMap<ReceiptId, u64>,
    next: u64,
    /// Nothing is asked of any server before then; how often in a row none answered.
    pause: (Duration, u32),
    reports: Vec<Report>,
    stood: u64,
    refused: u64,
}

impl Queue {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        let most_in_one = settings.most_in_one.clamp(1, MAX_RECEIPTS);
        Self {
            settings: Settings { most_in_one, ..settings },
            entries: BTreeMap::new(),
            ids: BTreeMap::new(),
            next: 0,
            pause: (Duration::ZERO, 0),
            reports: Vec::new(),
            stood: 0,
            refused: 0,
        }
    }

    /// Takes a receipt in; one that is there already is not taken twice.
    pub fn add(&mut self, now: Duration, receipt: &SignedReceipt) -> Result<(), Full> {
        let id = receipt.body.id();
        if self.ids.contains_key(&id) {
            return Ok(());
        }
        if self.entries.len() >= self.settings.capacity {
            return Err(Full { capacity: self.settings.capacity });
        }
        let entry = Entry {
            id,
            receipt: receipt.clone(),
            place: Place::Waiting { from: now + self.settings.gather },
            most: self.settings.most_in_one,
            not_yet: None,
        };
        self.entries.insert(self.next, entry);
        self.ids.insert(id, self.next);
        self.next += 1;
        Ok(())
    }

    /// What to do now. Asked twice without an answer in between, it says the same.
    pub fn step(&self, now: Duration) -> Step {
        if self.entries.is_empty() {
            return Step::Wait(None);
        }
        if now < self.pause.0 {
            return Step::Wait(Some(self.pause.0));
        }
        let due = self
            .entries
            .values()
            .find(|entry| matches!(entry.place, Place::HandedIn { ask, .. } if ask <= now));
        if let Some(entry) = due {
            return Step::Ask(entry.id);
        }
        let group = self.group(now);
        if !group.is_empty() {
            return Step::Submit(group);
        }
        let times = self.entries.values().map(|entry| match entry.place {
            Place::Waiting { from } => from,
            Place::HandedIn { ask, .. } => ask,
        });
        Step::Wait(times.min())
    }

    fn group(&self, now: Duration) -> Vec<SignedReceipt> {
        let mut group = Vec::new();
        let mut most = self.settings.most_in_one;
        for entry in self.entries.values() {
            if matches!(entry.place, Place::Waiting { from } if from <= now) {
                most = most.min(entry.most);
                if group.len() >= most {
                    break;
                }
                group.push(entry.receipt.clone());
            }
        }
        group
    }

    /// What became of a [`Step::Submit`].
    pub fn submitted(
        &mut self,
        now: Duration,
        group: &[SignedReceipt],
        outcome: &Result<Submitted, SubmitError>,
    ) {
        let ids: Vec<ReceiptId> = group.iter().map(|receipt| receipt.body.id()).collect();
        let answered = !matches!(outcome, Err(SubmitError::Busy { .. } | SubmitError::Rpc(_)));
        self.note_server(now, answered);
        match outcome {
            Ok(Submitted { standing: Standing::Already(_), .. }) => {
                ids.iter().for_each(|id| self.hand_in(*id, now, Duration::ZERO));
            }
            Ok(_) => {
                let pause = self.settings.ask_after;
                ids.iter().for_each(|id| self.hand_in(*id, now, pause));
            }
            Err(SubmitError::Refused { code, item: Some(item), log }) => {
                let Some(id) = ids.get(*item as usize) else {
                    return self.split(&ids, &format!("it names receipt {item}: {log}"));
                };
                // In a block, or waiting for one: the chain will say.
                if *code == RefusalCode::AlreadySubmitted {
                    self.hand_in(*id, now, Duration::ZERO);
                } else {
                    self.refuse(*id, log.clone());
                }
            }
            Err(SubmitError::NotYet { item: Some(item), log, .. }) => {
                let Some(id) = ids.get(*item as usize) else {
                    return self.split(&ids, &format!("it names receipt {item}: {log}"));
                };
                self.put_off(*id, now, log);
            }
            Err(SubmitError::NotYet { item: None, log, .. }) => {
                ids.iter().for_each(|id| self.put_off(*id, now, log));
            }
            Err(
                error @ (SubmitError::Refused { item: None, .. }
                | SubmitError::Unknown { .. }
                | SubmitError::Unencodable(_)),
            ) => self.split(&ids, &error.to_string()),
            Err(SubmitError::Busy { .. } | SubmitError::Rpc(_)) => {}
        }
    }

    /// What became of a [`Step::Ask`].
    pub fn asked(&mut self, now: Duration, id: ReceiptId, answer: Answer) {
        self.note_server(now, answer != Answer::Away);
        let settings = self.settings;
        let Some(entry) = self.entry(&id) else { return };
        match (answer, entry.place) {
            (Answer::Stands, _) => {
                self.remove(&id);
                self.stood += 1;
                self.reports.push(Report::Stands(id));
            }
            (Answer::Absent, Place::HandedIn { resend, .. }) if resend <= now => {
                entry.place = Place::Waiting { from: now };
            }
            (Answer::Absent, Place::HandedIn { resend, asked, .. }) => {
                let ask = now + doubled(settings.ask_after, asked + 1, settings.longest_pause);
                entry.place = Place::HandedIn { ask: ask.min(resend), resend, asked: asked + 1 };
            }
            (Answer::Absent, Place::Waiting { .. }) | (Answer::Away, _) => {}
        }
    }

    /// What became of receipts since this was asked last.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Receipts that do not stand yet, oldest first: what an owner with a disk keeps.
    pub fn pending(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.entries.values().map(|entry| &entry.receipt)
    }

    /// Counts for people.
    pub fn status(&self) -> Status {
        let waits = |entry: &&Entry| matches!(entry.place, Place::Waiting { .. });
        let waiting = self.entries.values().filter(waits).count();
        Status {
            waiting,
            handed_in: self.entries.len() - waiting,
            stood: self.stood,
            refused: self.refused,
        }
    }

    fn entry(&mut self, id: &ReceiptId) -> Option<&mut Entry> {
        self.entries.get_mut(self.ids.get(id)?)
    }

    fn remove(&mut self, id: &ReceiptId) {
        if let Some(sequence) = self.ids.remove(id) {
            self.entries.remove(&sequence);
        }
    }

    fn note_server(&mut self, now: Duration, answered: bool) {
        let Settings { first_pause, longest_pause, .. } = self.settings;
        self.pause = if answered {
            (now, 0)
        } else {
            let failed = self.pause.1.saturating_add(1);
            (now + doubled(first_pause, failed - 1, longest_pause), failed)
        };
    }

    fn hand_in(&mut self, id: ReceiptId, now: Duration, ask_after: Duration) {
        let resend = now + self.settings.resend_after;
        if let Some(entry) = self.entry(&id) {
            entry.place = Place::HandedIn { ask: now + ask_after, resend, asked: 0 };
            entry.not_yet = None;
        }
    }

    fn refuse(&mut self, id: ReceiptId, why: String) {
        self.remove(&id);
        self.refused += 1;
        self.reports.push(Report::Refused(id, why));
    }

    /// What it leans on is not there yet.
    fn put_off(&mut self, id: ReceiptId, now: Duration, why: &str) {
        let Settings { first_pause, longest_pause, patience, .. } = self.settings;
        let Some(entry) = self.entry(&id) else { return };
        let (since, times) = entry.not_yet.unwrap_or((now, 0));
        if now - since > patience {
            return self.refuse(id, format!("for {} s: {why}", (now - since).as_secs()));
        }
        entry.not_yet = Some((since, times.saturating_add(1)));
        entry.place = Place::Waiting { from: now + doubled(first_pause, times, longest_pause) };
    }

    /// A whole group is refused and nobody says for which receipt: smaller groups find it.
    fn split(&mut self, ids: &[ReceiptId], why: &str) {
        if let [one] = ids {
            return self.refuse(*one, why.into());
        }
        for id in ids {
            if let Some(entry) = self.entry(id) {
                entry.most = (ids.len() / 2).max(1);
            }
        }
    }
}

fn doubled(pause: Duration, times: u32, most: Duration) -> Duration {
    pause.saturating_mul(1u32 << times.min(20)).min(most)
}
