//! What is known of a peer.

use super::{Held, pause};
use std::time::Duration;

/// A peer that may be asked.
#[derive(Debug)]
pub(super) struct Peer {
    /// What it has, as far as it was heard of.
    pub(super) held: Held,
    /// Until when it is left alone.
    pub(super) rests: Duration,
    failures: u32,
    busy: u32,
}

impl Peer {
    pub(super) fn new(held: Held) -> Self {
        Self { held, rests: Duration::ZERO, failures: 0, busy: 0 }
    }

    /// It gave a piece.
    pub(super) fn worked(&mut self) {
        (self.failures, self.busy) = (0, 0);
    }

    /// It gives nothing now.
    pub(super) fn busy(&mut self, now: Duration) {
        self.rests = now + pause(self.busy);
        self.busy = (self.busy + 1).min(8);
    }

    /// It failed; gives how often in a row.
    pub(super) fn failed(&mut self, now: Duration) -> u32 {
        self.failures += 1;
        self.rests = now + pause(self.failures);
        self.failures
    }
}
