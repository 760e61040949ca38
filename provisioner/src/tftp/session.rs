//! One transfer as a pure state machine: `step(session, now, event) -> (session, actions)`.
//!
//! Blocks count from 1 in 64 bits; on the wire their number is the low 16 bits, and rolls over to
//! 0 in files of more than 65,535 blocks, as every client that loads such files expects.

use super::options::Terms;
use std::time::Duration;

/// How often a silence is met by sending again. With the waits doubling up to
/// [`MAX_BACK_OFF`], a client is given up after 1 + 2 + 4 + 8 + 8 + 8 s by default.
const MAX_TRIES: u32 = 5;
/// The most that the first wait is multiplied by.
const MAX_BACK_OFF: u32 = 8;
/// The code by which EDK2 ends a transfer that was only to ask the size.
const SIZE_KNOWN: u16 = 8;

/// The shortest wait for what a client seems to miss; timers tell no less apart.
const MIN_PATIENCE: Duration = Duration::from_millis(2);

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    blocks: u64,
    window: u64,
    timeout: Duration,
    /// The OACK was sent and is not acknowledged yet.
    opening: bool,
    /// The client has this block and all before it.
    acked: u64,
    /// The last block sent.
    sent: u64,
    /// Silences in a row.
    tries: u32,
    /// When packets were last sent, on the caller's clock.
    sent_at: Duration,
    /// The shortest time from a sending to its ACK.
    round_trip: Option<Duration>,
    /// Nothing since the last measure was sent twice, so the next ACK measures a round trip.
    clean: bool,
    /// The client seems to miss a block: it goes again at this time, unless the client gets on.
    gap: Option<Duration>,
    /// Packets sent more than once.
    resent: u64,
}

/// What happens to a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client acknowledges.
    Ack(u16),
    /// The client gives up.
    Error(u16, String),
    /// [`Session::deadline`] passed.
    Silence,
    /// Nobody listens at the client's port any more (ICMP).
    Gone,
}

/// What is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the OACK.
    Oack,
    /// Send these blocks.
    Data {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Tell the client that it is given up.
    GiveUp,
    /// The transfer is over.
    End(End),
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client has it all.
    Complete,
    /// All was sent, and the client fell silent before it acknowledged the last block.
    Unconfirmed,
    /// The client only wanted to know the size.
    SizeAsked,
    /// The client gave up, with its code and text.
    Aborted(u16, String),
    /// The client fell silent.
    Silent,
}

impl Session {
    /// Opens a transfer of `file_len` bytes.
    pub fn open(now: Duration, file_len: u64, terms: &Terms) -> (Self, Vec<Action>) {
        let mut session = Self {
            // A file that fills its last block is followed by an empty one.
            blocks: file_len / u64::from(terms.blksize) + 1,
            window: terms.window.into(),
            timeout: terms.timeout,
            opening: !terms.oack.is_empty(),
            acked: 0,
            sent: 0,
            tries: 0,
            sent_at: now,
            round_trip: None,
            clean: true,
            gap: None,
            resent: 0,
        };
        let action = if session.opening { Action::Oack } else { session.send(now) };
        (session, vec![action])
    }

    /// When silence becomes an event.
    pub fn deadline(&self) -> Duration {
        let patience = self.sent_at + self.timeout * 2u32.pow(self.tries).min(MAX_BACK_OFF);
        self.gap.map_or(patience, |gap| gap.min(patience))
    }

    /// Packets sent more than once.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// Whether the client has answered at all.
    pub fn is_under_way(&self) -> bool {
        self.acked > 0 || (!self.opening && self.round_trip.is_some())
    }

    /// What comes of an event at `now`.
    pub fn step(mut self, now: Duration, event: Event) -> (Self, Vec<Action>) {
        let actions = match event {
            Event::Ack(block) => self.ack(now, block),
            Event::Error(SIZE_KNOWN, _) if self.acked == 0 => vec![Action::End(End::SizeAsked)],
            Event::Error(code, text) => vec![Action::End(End::Aborted(code, text))],
            Event::Gone => vec![Action::End(self.silent_end())],
            Event::Silence => self.silence(now),
        };
        (self, actions)
    }

    fn ack(&mut self, now: Duration, block: u16) -> Vec<Action> {
        if self.opening {
            if block != 0 {
                return vec![];
            }
            self.opening = false;
            self.measure(now);
            return vec![self.send(now)];
        }
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        // Later than anything sent: so it is an old one, late.
        if self.acked + ahead > self.sent {
            return vec![];
        }
        self.acked += ahead;
        if self.acked == self.blocks {
            return vec![Action::End(End::Complete)];
        }
        if self.acked < self.sent {
            return self.part(now, ahead > 0);
        }
        if ahead == 0 {
            return vec![];
        }
        self.measure(now);
        self.gap = None;
        vec![self.send(now)]
    }

    /// An ACK of less than what was sent: the next block is lost (RFC 7440 section 4), or packets
    /// were doubled or overtook each other. The first wants it sent again; in the second that
    /// would multiply the traffic, as the Sorcerer's Apprentice did. Time tells: what is only
    /// late comes within a round trip. In lock step only silence counts.
    fn part(&mut self, now: Duration, further: bool) -> Vec<Action> {
        if self.window == 1 {
            return vec![];
        }
        if further || self.gap.is_none() {
            let patience = self.round_trip.map_or(self.timeout, |round_trip| round_trip * 2);
            self.gap = Some(now + patience.max(MIN_PATIENCE));
        }
        // Meanwhile what the window has come to cover, so that the client's own count of it
        // comes to an end.
        let (first, last) = (self.sent + 1, (self.acked + self.window).min(self.blocks));
        if first > last {
            return vec![];
        }
        self.sent = last;
        self.sent_at = now;
        self.tries = 0;
        vec![Action::Data { first, last }]
    }

    fn silence(&mut self, now: Duration) -> Vec<Action> {
        if self.gap.take().is_some_and(|gap| now >= gap) {
            return vec![self.send(now)];
        }
        if self.tries >= MAX_TRIES {
            return vec![Action::GiveUp, Action::End(self.silent_end())];
        }
        let tries = self.tries + 1;
        let action = if self.opening {
            self.sent_at = now;
            self.resent += 1;
            self.clean = false;
            Action::Oack
        } else {
            self.send(now)
        };
        self.tries = tries;
        vec![action]
    }

    fn silent_end(&self) -> End {
        if self.sent == self.blocks { End::Unconfirmed } else { End::Silent }
    }

    /// The window after what the client has.
    fn send(&mut self, now: Duration) -> Action {
        let first = self.acked + 1;
        let last = (self.acked + self.window).min(self.blocks);
        let again = (self.sent + 1).saturating_sub(first).min(last + 1 - first);
        self.resent += again;
        self.clean &= again == 0;
        self.sent = last;
        self.sent_at = now;
        self.tries = 0;
        Action::Data { first, last }
    }

    /// Only what was sent once tells a round trip (Karn's rule).
    fn measure(&mut self, now: Duration) {
        if self.clean {
            let round_trip = now.saturating_sub(self.sent_at);
            self.round_trip = Some(self.round_trip.map_or(round_trip, |best| best.min(round_trip)));
        }
        self.clean = true;
    }
}
