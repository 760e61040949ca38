//! What is fetched from whom, of all that could be.

use super::{Action, Flight, LANES, LONGEST_RUN, PEERS_AT_A_TIME, SLOW, Schedule, Source, stall};
use protocol::PublicKey;
use std::time::Duration;

impl Schedule {
    /// Gives everybody who is free something to bring.
    pub(super) fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for lane in 0..LANES {
            let from = Source::Origin(lane);
            if self.origin_rests > now || self.flights.contains_key(&from) {
                continue;
            }
            if let Some((first, count)) = self.run() {
                self.begin(now, from, first, count, actions);
            }
        }
        let asked = |schedule: &Self| {
            schedule.flights.keys().filter(|from| matches!(from, Source::Peer(_))).count()
        };
        let mut free = PEERS_AT_A_TIME.saturating_sub(asked(self));
        let rarity = self.rarity();
        while free > 0 {
            let Some((peer, piece)) =
                self.rarest(now, &rarity).or_else(|| self.slowest(now, &rarity))
            else {
                break;
            };
            self.begin(now, Source::Peer(peer), piece, 1, actions);
            free -= 1;
        }
    }

    fn begin(
        &mut self,
        now: Duration,
        from: Source,
        first: u32,
        count: u32,
        actions: &mut Vec<Action>,
    ) {
        self.flights.insert(from, Flight { first, count, until: now + stall(from) });
        actions.push(Action::Fetch { from, first, count });
    }

    /// Pieces that the provisioner is to be asked for: granted ones; any, where nobody else gives.
    fn run(&self) -> Option<(u32, u32)> {
        let wanted = |piece: u32| {
            piece < self.held.count()
                && !self.held.has(piece)
                && !self.is_coming(piece)
                && (self.alone || self.granted.contains(&piece))
        };
        let all = self.held.count();
        // Machines that help themselves at a time do not begin at the same place.
        let begin = if self.alone { (self.mix(0, &[]) % u64::from(all.max(1))) as u32 } else { 0 };
        let first = (begin..all).chain(0..begin).find(|piece| wanted(*piece))?;
        let count = (0..LONGEST_RUN).take_while(|more| wanted(first + more)).count();
        Some((first, count as u32))
    }

    /// How many of those that we know have each piece.
    fn rarity(&self) -> Vec<u32> {
        let count = |piece| self.peers.values().filter(|peer| peer.held.has(piece)).count() as u32;
        (0..self.held.count())
            .map(|piece| if self.held.has(piece) { 0 } else { count(piece) })
            .collect()
    }

    fn is_free(&self, now: Duration, key: &PublicKey) -> bool {
        let peer = self.peers.get(key);
        peer.is_some_and(|peer| peer.rests <= now)
            && !self.flights.contains_key(&Source::Peer(*key))
    }

    /// Of those who are free and have a piece, one.
    fn giver(&self, now: Duration, piece: u32) -> Option<PublicKey> {
        let has =
            self.peers.iter().filter(|(key, peer)| peer.held.has(piece) && self.is_free(now, key));
        has.map(|(key, _)| *key).min_by_key(|key| self.mix(piece, &key.0))
    }

    /// The piece that is on its way from nobody and that the fewest have, and who is to bring it.
    fn rarest(&self, now: Duration, rarity: &[u32]) -> Option<(PublicKey, u32)> {
        let known = |piece: &u32| rarity.get(*piece as usize).is_some_and(|count| *count > 0);
        let mut open: Vec<u32> =
            self.held.missing().filter(|piece| known(piece) && !self.is_coming(*piece)).collect();
        open.sort_by_key(|piece| (rarity.get(*piece as usize).copied(), self.mix(*piece, &[])));
        open.into_iter().find_map(|piece| Some((self.giver(now, piece)?, piece)))
    }

    /// Where nothing else is left to ask for: a piece that takes long, from somebody else.
    fn slowest(&self, now: Duration, rarity: &[u32]) -> Option<(PublicKey, u32)> {
        let slow = self
            .flights
            .iter()
            .filter(|(from, flight)| flight.until.saturating_sub(stall(**from)) + SLOW <= now);
        let mut pieces = slow.flat_map(|(_, flight)| flight.pieces()).filter(|piece| {
            let alone = self.flights.values().filter(|flight| flight.pieces().contains(piece));
            !self.held.has(*piece)
                && alone.count() == 1
                && rarity.get(*piece as usize).is_some_and(|count| *count > 0)
        });
        pieces.find_map(|piece| Some((self.giver(now, piece)?, piece)))
    }

    /// A number that is another one on each machine (splitmix64's last step).
    fn mix(&self, piece: u32, key: &[u8]) -> u64 {
        let key = key.iter().take(8).fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        let mut mixed =
            self.seed ^ key ^ (u64::from(piece) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
