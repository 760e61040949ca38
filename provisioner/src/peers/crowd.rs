//! The machines of one site that fetch or have one file: pure.

use crate::machine::Mac;
use pieces::Held;
use protocol::{
    Digest, PublicKey,
    pieces::{Giver, MAX_GIVERS, Run},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::Bound::{Excluded, Included, Unbounded},
    time::Duration,
};

/// The most pieces that are granted at once: a machine that is alone asks for the next while these come,
/// and where many begin together those who come after the first have some to fetch, too.
const BATCH: u32 = 8;
/// A granted piece that nobody has is granted anew after so long, if the machine that it was granted to
/// is heard of no more, or after the longer time, whatever that machine says.
const LATE: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(6);
const TOO_LATE: Duration = Duration::from_secs(20);
/// Who got no piece for so long is granted some that others have: they may be too busy.
const STUCK: Duration = Duration::from_secs(3);
/// In that way at most one image in two minutes leaves us for a site.
const HELP: Duration = Duration::from_secs(120);
/// Who fetches and is not heard of for so long is gone; who has all asks every [`WHOLE_AGAIN`].
const GONE: Duration = Duration::from_secs(20);
const WHOLE_GONE: Duration = Duration::from_secs(200);
pub(super) const WHOLE_AGAIN: Duration = Duration::from_secs(60);
/// Between two looks for who is gone.
const SWEEP: Duration = Duration::from_secs(1);

/// Names a member in an order that has nothing to do with its address.
type Lot = (u64, Mac);

/// The most members of one address: a machine, and the one that had it before.
const OF_ONE_ADDRESS: u32 = 2;
/// The most members of one site: no site takes all places of the others.
const OF_ONE_SITE: usize = 10_000;

/// One machine.
#[derive(Debug)]
struct Member {
    boot_id: Digest,
    from: IpAddr,
    giver: Option<(PublicKey, SocketAddr)>,
    held: Held,
    seen: Duration,
    /// Who says that it is of no use.
    accused: Option<Mac>,
}

/// A piece that one machine was told to fetch from us.
#[derive(Clone, Copy, Debug)]
struct Grant {
    to: Mac,
    at: Duration,
}

/// The machines, and what they have.
#[derive(Debug)]
pub(super) struct Crowd {
    members: BTreeMap<Lot, Member>,
    by_key: BTreeMap<PublicKey, Lot>,
    by_address: BTreeMap<IpAddr, u32>,
    /// How many members that give have each piece.
    holders: Vec<u32>,
    granted: Vec<Option<Grant>>,
    fetching: u32,
    helped: Duration,
    swept: Duration,
    pub(super) seen: Duration,
}

/// Somebody asks.
pub(super) struct Question<'a> {
    pub(super) mac: Mac,
    pub(super) boot_id: Digest,
    pub(super) from: IpAddr,
    pub(super) giver: Option<(PublicKey, SocketAddr)>,
    pub(super) held: Held,
    pub(super) avoid: &'a [PublicKey],
    pub(super) stuck: Duration,
    /// Another number each time.
    pub(super) turn: u64,
    /// Whether there is room for one member more.
    pub(super) room: bool,
}

impl Crowd {
    pub(super) fn new(now: Duration, pieces: u32) -> Self {
        Self {
            members: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_address: BTreeMap::new(),
            holders: vec![0; pieces as usize],
            granted: vec![None; pieces as usize],
            fetching: 0,
            helped: Duration::ZERO,
            swept: now,
            seen: now,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// What somebody is told who asks, and when to ask again.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        question: &Question<'_>,
    ) -> (Vec<Giver>, Vec<Run>, Duration) {
        self.seen = now;
        self.sweep(now);
        self.accuse(question);
        self.know(now, question);
        if question.held.is_whole() {
            return (Vec::new(), Vec::new(), WHOLE_AGAIN);
        }
        let givers = self.givers(question);
        let granted = self.grant(now, question);
        // As often as makes some hundred questions a second of the largest sites; who knows nobody asks
        // sooner.
        let others = u64::from(self.fetching.min(2_000));
        let again = if givers.is_empty() { 100 + others } else { 500 + 2 * others };
        let again = Duration::from_millis(again);
        (givers, runs(&granted), again)
    }

    fn know(&mut self, now: Duration, question: &Question<'_>) {
        let lot = (lot(question.mac), question.mac);
        let known = self.remove(&lot);
        let room = question.room && self.members.len() < OF_ONE_SITE;
        let here = self.by_address.get(&question.from).copied().unwrap_or_default();
        if known.is_none() && !room || here >= OF_ONE_ADDRESS {
            return;
        }
        // A key names one member: who shows another's is not listed.
        let giver = question.giver.filter(|(key, _)| !self.by_key.contains_key(key));
        // Of one boot pieces are not lost again.
        let mut held = question.held.clone();
        if let Some(known) = known.filter(|known| known.boot_id == question.boot_id) {
            for piece in (0..held.count()).filter(|piece| known.held.has(*piece)) {
                held.put(piece);
            }
        }
        self.fetching += u32::from(!held.is_whole());
        if let Some((key, _)) = giver {
            self.by_key.insert(key, lot);
            self.count(&held, |count| count + 1);
        }
        *self.by_address.entry(question.from).or_default() += 1;
        let (boot_id, from) = (question.boot_id, question.from);
        let member = Member { boot_id, from, giver, held, seen: now, accused: None };
        self.members.insert(lot, member);
    }

    /// Whom two machines could not use is not named any more until it asks again itself: machines that
    /// were turned off are many at a time.
    fn accuse(&mut self, question: &Question<'_>) {
        for key in question.avoid {
            let Some(lot) = self.by_key.get(key).copied() else { continue };
            let Some(member) = self.members.get_mut(&lot) else { continue };
            match member.accused {
                None => member.accused = Some(question.mac),
                Some(first) if first == question.mac => {}
                Some(_) => drop(self.remove(&lot)),
            }
        }
    }

    /// A machine boots anew: it has nothing any more, and what it was told to fetch is not its to fetch.
    pub(super) fn gone(&mut self, mac: Mac, boot_id: Option<Digest>) {
        let lot = (lot(mac), mac);
        if self.members.get(&lot).is_some_and(|member| Some(member.boot_id) == boot_id) {
            return;
        }
        self.remove(&lot);
        let mine = |grant: &mut Grant| grant.to == mac;
        for place in &mut self.granted {
            place.take_if(mine);
        }
    }

    fn remove(&mut self, lot: &Lot) -> Option<Member> {
        let member = self.members.remove(lot)?;
        self.fetching -= u32::from(!member.held.is_whole());
        if let Some(count) = self.by_address.get_mut(&member.from) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&member.from);
            }
        }
        if let Some((key, _)) = member.giver {
            self.by_key.remove(&key);
            self.count(&member.held, |count| count.saturating_sub(1));
        }
        Some(member)
    }

    fn count(&mut self, held: &Held, change: impl Fn(u32) -> u32) {
        for (piece, count) in (0..).zip(&mut self.holders) {
            if held.has(piece) {
                *count = change(*count);
            }
        }
    }

    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        let gone = |member: &Member| {
            let most = if member.held.is_whole() { WHOLE_GONE } else { GONE };
            now.saturating_sub(member.seen) > most
        };
        let gone = self.members.iter().filter(|(_, member)| gone(member));
        let gone: Vec<Lot> = gone.map(|(lot, _)| *lot).collect();
        for lot in gone {
            self.remove(&lot);
        }
    }

    /// Some that have what the asker lacks, other ones each time.
    fn givers(&self, question: &Question<'_>) -> Vec<Giver> {
        let from = (mix(question.turn), Mac([0; 6]));
        let rest = self.members.range((Included(from), Unbounded));
        let around = rest.chain(self.members.range((Unbounded, Excluded(from))));
        let useful = around.filter_map(|((_, mac), member)| {
            let (key, address) = member.giver?;
            let useful = *mac != question.mac
                && !question.avoid.contains(&key)
                && member.held.helps(&question.held);
            useful.then(|| Giver { key, address, held: member.held.bytes().to_vec() })
        });
        useful.take(MAX_GIVERS).collect()
    }

    /// Pieces that the asker is to fetch from us: those that it was told to and has not got, and some more
    /// that nobody has whom it could ask.
    fn grant(&mut self, now: Duration, question: &Question<'_>) -> Vec<u32> {
        let mine = |grant: &Option<Grant>| grant.is_some_and(|grant| grant.to == question.mac);
        let mut granted: Vec<u32> = question
            .held
            .missing()
            .filter(|p| self.granted.get(*p as usize).is_some_and(mine))
            .collect();
        let others = self.fetching.max(1);
        let batch = (question.held.count() / others).clamp(1, BATCH) as usize;
        let most = granted.len().min(batch) + batch;
        let mut help = question.stuck >= STUCK;
        let useless = self.useless(question.avoid);
        let all = 0..question.held.count();
        let nobodys: Vec<bool> = all.map(|piece| self.holders_for(piece, &useless) == 0).collect();
        for piece in question.held.missing() {
            if granted.len() >= most {
                break;
            }
            let grant = self.granted.get(piece as usize).copied();
            let (Some(grant), Some(free)) = (grant, nobodys.get(piece as usize).copied()) else {
                break;
            };
            if grant.is_some_and(|grant| grant.to == question.mac) {
                continue;
            }
            let helps = !free && help && self.helped <= now;
            let granted_anew = free && grant.is_none_or(|grant| self.is_void(now, &grant));
            if !helps && !granted_anew {
                continue;
            }
            if helps {
                help = false;
                self.helped = now + HELP / question.held.count().max(1);
            }
            if let Some(place) = self.granted.get_mut(piece as usize) {
                *place = Some(Grant { to: question.mac, at: now });
            }
            granted.push(piece);
        }
        granted.sort_unstable();
        granted
    }

    /// Whether somebody else may be told to fetch what was granted.
    fn is_void(&self, now: Duration, grant: &Grant) -> bool {
        let age = now.saturating_sub(grant.at);
        let to = self.members.get(&(lot(grant.to), grant.to));
        let silent = to.is_none_or(|member| {
            now.saturating_sub(member.seen) > SILENT || member.giver.is_none()
        });
        age > TOO_LATE || age > LATE && silent
    }

    /// How many have a piece, but for those who are of no use to the asker.
    fn holders_for(&self, piece: u32, useless: &[&Held]) -> u32 {
        let all = self.holders.get(piece as usize).copied().unwrap_or_default();
        all.saturating_sub(useless.iter().filter(|held| held.has(piece)).count() as u32)
    }

    /// What those have whom the asker avoids.
    fn useless(&self, avoid: &[PublicKey]) -> Vec<&Held> {
        let keys: BTreeSet<&PublicKey> = avoid.iter().collect();
        let lots = keys.into_iter().filter_map(|key| self.by_key.get(key));
        lots.filter_map(|lot| Some(&self.members.get(lot)?.held)).collect()
    }
}

fn runs(pieces: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run) if run.first + run.count == *piece => run.count += 1,
            _ => runs.push(Run { first: *piece, count: 1 }),
        }
    }
    runs
}

/// A machine's place in the order.
fn lot(mac: Mac) -> u64 {
    mix(mac.0.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

/// A number's place in another order (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
impl Crowd {
    /// Holds what is counted against what there is.
    pub(super) fn check(&self) {
        for (piece, count) in (0..).zip(&self.holders) {
            let has = |member: &&Member| member.giver.is_some() && member.held.has(piece);
            assert_eq!(self.members.values().filter(has).count() as u32, *count);
        }
        let fetching = self.members.values().filter(|member| !member.held.is_whole()).count();
        assert_eq!(fetching as u32, self.fetching);
        let addresses: u32 = self.by_address.values().sum();
        assert_eq!(addresses as usize, self.members.len());
        assert!(self.by_address.values().all(|count| (1..=OF_ONE_ADDRESS).contains(count)));
        let keys = self.members.values().filter(|member| member.giver.is_some()).count();
        assert_eq!(keys, self.by_key.len());
    }
}
