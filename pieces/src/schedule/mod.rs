//! Which piece from whom next: pure, one step for each thing that happens.
//!
//! - Pieces that the provisioner granted come from it, in runs, so that a machine that is alone is
//!   served as fast as by one download.
//! - Everything else comes from peers, one piece at a time from each, some peers at a time: first what
//!   the fewest of those that we know have, so that what is rare spreads.
//! - A peer that lies is never asked again; one that stands still, breaks off or cannot be reached twice
//!   in a row neither. One that is busy rests.
//! - Near the end, what takes long is asked of a second peer too.
//! - Nothing waits for ever: who asks is answered or asks again, and where no piece came for
//!   [`PATIENCE`] and longer where many machines fetch, pieces are fetched from the provisioner whether it
//!   granted them or not.

mod assign;
mod peer;
#[cfg(test)]
mod tests;

use crate::held::Held;
use peer::Peer;
use protocol::{PublicKey, pieces::MAX_AVOIDED};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Peers that are asked at a time: enough that one that is slow does not matter.
pub const PEERS_AT_A_TIME: usize = 6;
/// Requests to the provisioner at a time: while one run comes the next is on its way.
pub const LANES: u8 = 2;
/// The longest run of pieces that the provisioner is asked for at once.
pub const LONGEST_RUN: u32 = 16;
/// The most peers that are known at a time.
pub const MAX_PEERS: usize = 48;
/// How long a peer may take for a piece, and the provisioner for the next piece of a run.
const PEER_STALL: Duration = Duration::from_secs(4);
const ORIGIN_STALL: Duration = Duration::from_secs(15);
/// Who takes longer than this for one of the last pieces is raced by another.
const SLOW: Duration = Duration::from_secs(1);
/// How long no piece may come before the provisioner is asked for what it did not grant: longer than
/// it takes to be granted more, or a site's machines would all do so when its network is slow.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// And so many times the pause that the provisioner asked for: it is longer the more machines fetch at a
/// time, and each then gets its pieces the later.
const PAUSES: u32 = 16;
/// How long no piece may come at all.
pub const END: Duration = Duration::from_secs(60);
/// How long a peer rests that is busy, at first and at most; and the provisioner, when it fails.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// How often a peer may fail in a row.
const FAILURES: u32 = 2;
/// How long a question to the provisioner who has pieces may take, and the pause where it failed.
const ANSWER: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Who gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The provisioner, by one of [`LANES`].
    Origin(u8),
    /// Another node.
    Peer(PublicKey),
}

/// How a fetch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it came.
    Whole,
    /// The peer gives nothing now, or has not got that piece.
    Busy,
    /// What came is not what it was said to be.
    Lied,
    /// It cannot be reached, broke off, or speaks otherwise than we do.
    Failed,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time went by.
    Tick,
    /// The provisioner said who has what, what to fetch from it, and when to ask again.
    Told {
        /// Peers with what they had.
        givers: Vec<(PublicKey, Held)>,
        /// Pieces to fetch from the provisioner.
        granted: Vec<u32>,
        /// When to ask again.
        again: Duration,
    },
    /// It said nothing.
    Untold,
    /// What a peer has.
    Has {
        /// The peer.
        peer: PublicKey,
        /// What.
        held: Held,
    },
    /// A piece came, was verified and is kept.
    Came {
        /// From whom.
        from: Source,
        /// Which.
        piece: u32,
    },
    /// A fetch ended, by itself.
    Ended {
        /// From whom.
        from: Source,
        /// How.
        how: End,
    },
}

/// Something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch pieces. It ends by [`Event::Ended`], unless it is cancelled.
    Fetch {
        /// From whom.
        from: Source,
        /// The first.
        first: u32,
        /// How many; one of a peer.
        count: u32,
    },
    /// End a fetch; nothing more is heard of it.
    Cancel(Source),
    /// Ask the provisioner. It ends by [`Event::Told`] or [`Event::Untold`].
    Ask {
        /// Peers that are of no use.
        avoid: Vec<PublicKey>,
        /// How long no piece came.
        stuck: Duration,
    },
    /// All pieces are there.
    Done,
    /// Nothing came for [`END`].
    GiveUp,
}

/// A fetch under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    first: u32,
    count: u32,
    until: Duration,
}

impl Flight {
    fn pieces(&self) -> std::ops::Range<u32> {
        self.first..self.first + self.count
    }
}

/// One machine's fetch of one file.
#[derive(Debug)]
pub struct Schedule {
    held: Held,
    peers: BTreeMap<PublicKey, Peer>,
    flights: BTreeMap<Source, Flight>,
    granted: BTreeSet<u32>,
    /// Peers that are not asked again, the newest last.
    avoided: VecDeque<PublicKey>,
    /// Breaks ties, so that no two machines choose alike.
    seed: u64,
    asking: Option<Duration>,
    ask_at: Duration,
    /// As the provisioner last asked for.
    pause: Duration,
    came: Duration,
    origin_rests: Duration,
    origin_failures: u32,
    /// Whether the last answer granted something.
    generous: bool,
    /// Questions without an answer, in a row.
    untold: u32,
    /// Whether pieces are fetched from the provisioner that it did not grant.
    alone: bool,
    now: Duration,
    ended: bool,
}

impl Schedule {
    /// A fetch that begins now, of so many pieces; `seed` is another one on each machine.
    pub fn new(now: Duration, pieces: u32, seed: u64) -> Self {
        Self::with(now, Held::none(pieces), seed)
    }

    /// The same where some pieces are there.
    pub fn with(now: Duration, held: Held, seed: u64) -> Self {
        Self {
            held,
            peers: BTreeMap::new(),
            flights: BTreeMap::new(),
            granted: BTreeSet::new(),
            avoided: VecDeque::new(),
            seed,
            asking: None,
            ask_at: now,
            pause: Duration::ZERO,
            came: now,
            origin_rests: Duration::ZERO,
            origin_failures: 0,
            generous: false,
            untold: 0,
            alone: false,
            now,
            ended: false,
        }
    }

    /// What is there.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// What is to be done about something that happened.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ended {
            return actions;
        }
        self.now = now;
        match event {
            Event::Tick => {}
            Event::Told { givers, granted, again } => self.told(now, givers, granted, again),
            Event::Untold => {
                self.asking = None;
                self.untold += 1;
                self.generous = false;
                self.ask_at = now + ASK_AGAIN;
            }
            Event::Has { peer, held } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.held = held;
                }
            }
            Event::Came { from, piece } => self.came(now, from, piece, &mut actions),
            Event::Ended { from, how } => self.over(now, from, how),
        }
        if self.held.is_whole() {
            self.ended = true;
            actions.extend(self.flights.keys().map(|from| Action::Cancel(*from)));
            actions.push(Action::Done);
            return actions;
        }
        if now.saturating_sub(self.came) >= END {
            self.ended = true;
            actions.extend(self.flights.keys().map(|from| Action::Cancel(*from)));
            actions.push(Action::GiveUp);
            return actions;
        }
        self.expire(now, &mut actions);
        // The provisioner says nothing of pieces any more, and nobody is known who gives any; or all that
        // it said leads nowhere.
        let nobody = self.untold >= 2 && self.flights.is_empty();
        self.alone |= nobody || now.saturating_sub(self.came) >= self.patience();
        self.assign(now, &mut actions);
        self.ask(now, &mut actions);
        actions
    }

    /// When to step by [`Event::Tick`] at the latest, whatever happens until then.
    pub fn wake(&self) -> Option<Duration> {
        if self.ended {
            return None;
        }
        let flights = self.flights.iter().flat_map(|(from, flight)| {
            // Slow first, and over later.
            [flight.until.saturating_sub(stall(*from)) + SLOW, flight.until]
        });
        let rests = self.peers.values().map(|peer| peer.rests);
        let asks = self.asking.unwrap_or(self.ask_at);
        let ends = [self.came + self.patience(), self.came + END, self.origin_rests, asks];
        flights.chain(rests).chain(ends).filter(|time| *time > self.now).min()
    }

    fn told(
        &mut self,
        now: Duration,
        givers: Vec<(PublicKey, Held)>,
        granted: Vec<u32>,
        again: Duration,
    ) {
        self.asking = None;
        self.untold = 0;
        self.generous = !granted.is_empty();
        self.alone &= !self.generous;
        self.pause = again.max(REST);
        self.ask_at = now + self.pause;
        let held = &self.held;
        self.granted.extend(granted.into_iter().filter(|p| *p < held.count() && !held.has(*p)));
        for (key, held) in givers {
            if self.avoided.contains(&key) {
                continue;
            }
            if let Some(known) = self.peers.get_mut(&key) {
                // What it said itself may be newer.
                if !known.held.helps(&held) {
                    known.held = held;
                }
                continue;
            }
            if self.peers.len() >= MAX_PEERS {
                self.forget_one();
            }
            if self.peers.len() < MAX_PEERS {
                self.peers.insert(key, Peer::new(held));
            }
        }
    }

    /// Makes room: of the peers that are not being asked, the one that helps least.
    fn forget_one(&mut self) {
        let idle =
            self.peers.iter().filter(|(key, _)| !self.flights.contains_key(&Source::Peer(**key)));
        let useless = |peer: &Peer| (peer.held.helps(&self.held), peer.held.len());
        let worst = idle.min_by_key(|(_, peer)| useless(peer)).map(|(key, _)| *key);
        if let Some(worst) = worst {
            self.peers.remove(&worst);
        }
    }

    fn came(&mut self, now: Duration, from: Source, piece: u32, actions: &mut Vec<Action>) {
        if self.held.put(piece) {
            self.came = now;
        }
        self.granted.remove(&piece);
        match from {
            Source::Peer(key) => {
                self.alone = false;
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.worked();
                }
            }
            Source::Origin(_) => self.origin_failures = 0,
        }
        if let Some(flight) = self.flights.get_mut(&from) {
            flight.until = now + stall(from);
        }
        // Whoever else was asked for the same piece alone need not bring it.
        let others: Vec<Source> = self
            .flights
            .iter()
            .filter(|(other, flight)| **other != from && flight.pieces() == (piece..piece + 1))
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            self.flights.remove(&other);
            actions.push(Action::Cancel(other));
        }
    }

    fn over(&mut self, now: Duration, from: Source, how: End) {
        self.flights.remove(&from);
        match (from, how) {
            (_, End::Whole) => {}
            (Source::Origin(_), _) => {
                self.origin_failures = (self.origin_failures + 1).min(8);
                self.origin_rests = now + pause(self.origin_failures);
            }
            (Source::Peer(key), End::Lied) => self.avoid(key),
            (Source::Peer(key), End::Busy) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.busy(now);
                }
            }
            (Source::Peer(key), End::Failed) => self.failed(now, key),
        }
    }

    fn failed(&mut self, now: Duration, key: PublicKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.failed(now) >= FAILURES {
            self.avoid(key);
        }
    }

    fn avoid(&mut self, key: PublicKey) {
        self.peers.remove(&key);
        self.avoided.push_back(key);
        if self.avoided.len() > MAX_AVOIDED {
            self.avoided.pop_front();
        }
    }

    /// Ends what takes too long.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let late = self.flights.iter().filter(|(_, flight)| flight.until <= now);
        let late: Vec<Source> = late.map(|(from, _)| *from).collect();
        for from in late {
            actions.push(Action::Cancel(from));
            self.over(now, from, End::Failed);
        }
        if self.asking.is_some_and(|until| until <= now) {
            self.asking = None;
            self.ask_at = now;
        }
    }

    fn ask(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.asking.is_some() {
            return;
        }
        let open = |piece: &&u32| !self.is_coming(**piece);
        let runs_out = self.generous && !self.granted.iter().any(|piece| open(&piece));
        // Who was granted something and has asked for all of it asks for more before that is there.
        let early = runs_out && self.held.missing().any(|piece| !self.is_coming(piece));
        if self.ask_at <= now || early {
            self.asking = Some(now + ANSWER);
            self.generous = false;
            let stuck = now.saturating_sub(self.came);
            actions.push(Action::Ask { avoid: self.avoided.iter().copied().collect(), stuck });
        }
    }

    /// How long no piece may come while the provisioner grants none.
    fn patience(&self) -> Duration {
        (PATIENCE + PAUSES * self.pause).min(END / 2)
    }

    fn is_coming(&self, piece: u32) -> bool {
        self.flights.values().any(|flight| flight.pieces().contains(&piece))
    }
}

fn stall(from: Source) -> Duration {
    match from {
        Source::Origin(_) => ORIGIN_STALL,
        Source::Peer(_) => PEER_STALL,
    }
}

/// Twice as long each time.
fn pause(failures: u32) -> Duration {
    (REST * 2u32.saturating_pow(failures)).min(LONGEST_REST)
}
