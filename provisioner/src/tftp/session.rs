//! One transfer as a pure state machine: `step(session, now, event) -> (session, actions)`.
//!
//! What is to be sent is a *round*: the blocks after what the client has, as far as its window
//! reaches. It goes at once, or block by block where the client is paced; an ACK that changes what
//! the client lacks begins another.
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
/// The code by which EDK2 ends a transfer that was only to ask the size (RFC 2347: the options
/// are refused).
const SIZE_KNOWN: u16 = 8;
/// The one by which the ROMs of PC BIOSes do, with the text "TFTP Aborted".
const SIZE_KNOWN_TO_BIOS: u16 = 0;

/// How much of its time a paced client may make up for: what a coarse timer, or a busy server,
/// came late by.
const CATCH_UP: Duration = Duration::from_millis(4);
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
    /// Our OACK tells the size.
    tells_size: bool,
    /// The time that a block takes, of a paced client.
    pace: Option<Duration>,
    /// Of a paced client: when its next block may go.
    next_at: Duration,
    /// The client has this block and all before it.
    acked: u64,
    /// The last block sent so far.
    sent: u64,
    /// The last block that went in this round, and the last that belongs to it.
    round: (u64, u64),
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
    /// [`Session::deadline`] passed and nothing was heard.
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
            tells_size: terms.tells_size,
            pace: terms.pace,
            next_at: now,
            acked: 0,
            sent: 0,
            round: (0, 0),
            tries: 0,
            sent_at: now,
            round_trip: None,
            clean: true,
            gap: None,
            resent: 0,
        };
        let actions = if session.opening { vec![Action::Oack] } else { session.send(now) };
        (session, actions)
    }

    /// When silence becomes an event: nothing was heard in time, or more may be sent.
    pub fn deadline(&self) -> Duration {
        // Before the round's last block the client has nothing to say.
        let due = if self.is_mid_round() {
            self.next_at
        } else {
            self.sent_at + self.timeout * 2u32.pow(self.tries).min(MAX_BACK_OFF)
        };
        self.gap.map_or(due, |gap| gap.min(due))
    }

    /// Whether blocks of the round wait for their time.
    fn is_mid_round(&self) -> bool {
        self.round.0 < self.round.1
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
            Event::Error(SIZE_KNOWN_TO_BIOS, _) if self.opening && self.tells_size => {
                vec![Action::End(End::SizeAsked)]
            }
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
            return self.send(now);
        }
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        // Later than anything sent: so it is an old one, late.
        if self.acked + ahead > self.sent {
            return vec![];
        }
        self.acked += ahead;
        self.round.0 = self.round.0.max(self.acked);
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
        self.send(now)
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
        let last = (self.acked + self.window).min(self.blocks);
        if last <= self.round.1 {
            return vec![];
        }
        self.round.1 = last;
        self.tries = 0;
        self.emit(now)
    }

    fn silence(&mut self, now: Duration) -> Vec<Action> {
        if self.gap.is_some_and(|gap| now >= gap) {
            self.gap = None;
            return self.send(now);
        }
        if self.is_mid_round() {
            return self.emit(now);
        }
        self.gap = None;
        if self.tries >= MAX_TRIES {
            return vec![Action::GiveUp, Action::End(self.silent_end())];
        }
        let tries = self.tries + 1;
        let actions = if self.opening {
            self.sent_at = now;
            self.resent += 1;
            self.clean = false;
            vec![Action::Oack]
        } else {
            self.send(now)
        };
        self.tries = tries;
        actions
    }

    fn silent_end(&self) -> End {
        if self.sent == self.blocks { End::Unconfirmed } else { End::Silent }
    }

    /// The window after what the client has.
    fn send(&mut self, now: Duration) -> Vec<Action> {
        self.round = (self.acked, (self.acked + self.window).min(self.blocks));
        self.tries = 0;
        self.emit(now)
    }

    /// What of the round may go now: all of it, or of a paced client as much as its time allows.
    fn emit(&mut self, now: Duration) -> Vec<Action> {
        let (gone, end) = self.round;
        let mut most = end - gone;
        if let Some(pace) = self.pace {
            if now < self.next_at {
                return vec![];
            }
            let from = self.next_at.max(now.saturating_sub(CATCH_UP));
            let allowed = now.saturating_sub(from).as_nanos() / pace.as_nanos().max(1) + 1;
            most = most.min(u64::try_from(allowed).unwrap_or(u64::MAX));
            self.next_at = from + pace * u32::try_from(most).unwrap_or(u32::MAX);
        }
        let (first, last) = (gone + 1, gone + most);
        let again = (self.sent + 1).saturating_sub(first).min(last + 1 - first);
        self.resent += again;
        self.clean &= again == 0;
        self.sent = self.sent.max(last);
        self.round.0 = last;
        self.sent_at = now;
        vec![Action::Data { first, last }]
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
