//! Who has what, of all sites and files: pure, and bounded.

use super::crowd::{Crowd, Question};
use crate::machine::Mac;
use pieces::Held;
use protocol::{
    Digest, PublicKey,
    pieces::{Giver, Run, Subnet},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The most machines that are known at a time: some 500 bytes each.
pub const MAX_MEMBERS: usize = 20_000;
/// The most sites, counted once for each file.
pub const MAX_CROWDS: usize = 512;
/// A site's file that nobody asks for is forgotten after this.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Who has what.
#[derive(Debug, Default)]
pub struct Tracker {
    crowds: BTreeMap<(Subnet, Digest), Crowd>,
    turn: u64,
}

/// Somebody who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The machine.
    pub mac: Mac,
    /// Its boot.
    pub boot_id: Digest,
    /// Its site.
    pub site: Subnet,
    /// What it wants, or has.
    pub file: Digest,
    /// Which pieces it has.
    pub held: Held,
    /// Where it was seen: so many machines of one address are known and no more.
    pub from: IpAddr,
    /// Where it gives them itself.
    pub giver: Option<(PublicKey, SocketAddr)>,
    /// Peers that are of no use to it.
    pub avoid: Vec<PublicKey>,
    /// How long it got none.
    pub stuck: Duration,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whom to ask.
    pub givers: Vec<Giver>,
    /// What to fetch from us.
    pub granted: Vec<Run>,
    /// When to ask again.
    pub again: Duration,
}

impl Tracker {
    /// What somebody is told; none where there are too many sites.
    pub fn ask(&mut self, now: Duration, asker: &Asker) -> Option<Told> {
        let place = (asker.site, asker.file);
        if !self.crowds.contains_key(&place) {
            self.crowds.retain(|_, crowd| now.saturating_sub(crowd.seen) < FORGOTTEN);
            if self.crowds.len() >= MAX_CROWDS {
                return None;
            }
        }
        let room = self.members() < MAX_MEMBERS;
        self.turn += 1;
        let crowd = self.crowds.entry(place).or_insert_with(|| Crowd::new(now, asker.held.count()));
        let question = Question {
            mac: asker.mac,
            boot_id: asker.boot_id,
            from: asker.from,
            giver: asker.giver,
            held: asker.held.clone(),
            avoid: &asker.avoid,
            stuck: asker.stuck,
            turn: self.turn,
            room,
        };
        let (givers, granted, again) = crowd.ask(now, &question);
        Some(Told { givers, granted, again })
    }

    /// A machine boots: what it had in another boot than this one it has no more.
    pub fn gone(&mut self, mac: Mac, boot_id: Option<Digest>) {
        self.crowds.values_mut().for_each(|crowd| crowd.gone(mac, boot_id));
    }

    /// How many sites, counted once for each file.
    pub fn crowds(&self) -> usize {
        self.crowds.len()
    }

    /// How many machines are known.
    pub fn members(&self) -> usize {
        self.crowds.values().map(Crowd::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::SecretKey;
    use std::collections::BTreeSet;

    const PIECES: u32 = 24;

    fn key(number: u16) -> PublicKey {
        let mut seed = [9; 32];
        seed[..2].copy_from_slice(&number.to_be_bytes());
        SecretKey::from_seed(seed).public()
    }

    fn asker(number: u16) -> Asker {
        let [high, low] = number.to_be_bytes();
        Asker {
            mac: Mac([2, 0, 0, 0, high, low]),
            boot_id: Digest([1; 32]),
            site: "10.0.0.0/16".parse().unwrap(),
            file: Digest([2; 32]),
            held: Held::none(PIECES),
            from: [10, 0, high, low].into(),
            giver: Some((key(number), SocketAddr::from(([10, 0, high, low], 7443)))),
            avoid: vec![],
            stuck: Duration::ZERO,
        }
    }

    fn pieces(told: &Told) -> Vec<u32> {
        told.granted.iter().flat_map(|run| run.first..run.first + run.count).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_machine_alone_is_granted_all_in_a_few_answers() {
        let mut tracker = Tracker::default();
        let mut one = asker(1);
        let mut answers = 0;
        while !one.held.is_whole() {
            let told = tracker.ask(SECOND, &one).unwrap();
            assert!(told.givers.is_empty() && !told.granted.is_empty());
            for piece in pieces(&told) {
                one.held.put(piece);
            }
            answers += 1;
        }
        assert_eq!(answers, 3);
        assert!(tracker.ask(SECOND, &one).unwrap().again >= Duration::from_secs(30));
    }

    #[test]
    fn each_piece_is_granted_once_to_a_site_and_to_another_site_anew() {
        let mut tracker = Tracker::default();
        let mut all = Vec::new();
        for number in 0..200 {
            all.extend(pieces(&tracker.ask(SECOND, &asker(number)).unwrap()));
        }
        let once: BTreeSet<u32> = all.iter().copied().collect();
        assert_eq!((all.len(), once.len()), (PIECES as usize, PIECES as usize));
        let far = Asker { site: "10.1.0.0/16".parse().unwrap(), ..asker(1) };
        assert!(!tracker.ask(SECOND, &far).unwrap().granted.is_empty());
        let other = Asker { file: Digest([3; 32]), ..asker(1) };
        assert!(!tracker.ask(SECOND, &other).unwrap().granted.is_empty());
    }

    #[test]
    fn what_was_granted_to_a_machine_that_died_is_granted_anew() {
        let mut tracker = Tracker::default();
        let dead = pieces(&tracker.ask(SECOND, &asker(1)).unwrap());
        let mut two = asker(2);
        for piece in 0..PIECES {
            if !dead.contains(&piece) {
                two.held.put(piece);
            }
        }
        assert!(tracker.ask(2 * SECOND, &two).unwrap().granted.is_empty());
        let anew = pieces(&tracker.ask(8 * SECOND, &two).unwrap());
        assert!(!anew.is_empty() && anew.iter().all(|piece| dead.contains(piece)));
    }

    #[test]
    fn givers_are_of_the_same_site_have_what_is_lacked_and_are_not_avoided() {
        let mut tracker = Tracker::default();
        for number in 1..100 {
            let held = Held::all(PIECES);
            tracker.ask(SECOND, &Asker { held, ..asker(number) }).unwrap();
        }
        let mut one = Asker { avoid: vec![key(7)], ..asker(200) };
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            let told = tracker.ask(SECOND, &one).unwrap();
            assert_eq!(told.givers.len(), protocol::pieces::MAX_GIVERS);
            assert!(told.granted.is_empty(), "others have it");
            seen.extend(told.givers.into_iter().map(|giver| giver.key));
        }
        assert!(seen.len() > 80 && !seen.contains(&key(7)), "{}", seen.len());
        // Those who have all are known for three minutes, and no longer.
        one.avoid.clear();
        let told = tracker.ask(300 * SECOND, &one).unwrap();
        assert!(told.givers.is_empty() && !told.granted.is_empty());
    }

    #[test]
    fn where_all_who_have_a_piece_are_of_no_use_it_comes_from_us() {
        let mut tracker = Tracker::default();
        tracker.ask(SECOND, &Asker { held: Held::all(PIECES), ..asker(1) }).unwrap();
        let told = tracker.ask(SECOND, &Asker { avoid: vec![key(1)], ..asker(2) }).unwrap();
        assert!(told.givers.is_empty() && !told.granted.is_empty());
        // One that is only slow leads to a piece now and then.
        let stuck = Asker { stuck: 4 * SECOND, ..asker(3) };
        let helped = |tracker: &mut Tracker, at| pieces(&tracker.ask(at, &stuck).unwrap()).len();
        assert_eq!(helped(&mut tracker, 2 * SECOND), 1);
        assert_eq!(helped(&mut tracker, 3 * SECOND), 1, "no more than that");
        assert_eq!(helped(&mut tracker, 8 * SECOND), 2);
    }

    #[test]
    fn whom_two_machines_cannot_use_and_who_boots_anew_is_named_no_more() {
        let mut tracker = Tracker::default();
        let whole = |number| Asker { held: Held::all(PIECES), ..asker(number) };
        let named = |tracker: &mut Tracker| tracker.ask(SECOND, &asker(9)).unwrap().givers.len();
        for number in [1, 2] {
            tracker.ask(SECOND, &whole(number)).unwrap();
        }
        let avoids = |number| Asker { avoid: vec![key(1)], ..asker(number) };
        tracker.ask(SECOND, &avoids(7)).unwrap();
        tracker.ask(SECOND, &avoids(7)).unwrap();
        assert_eq!(named(&mut tracker), 2, "one machine's word is not enough");
        tracker.ask(SECOND, &avoids(8)).unwrap();
        assert_eq!(named(&mut tracker), 1);
        tracker.ask(SECOND, &whole(1)).unwrap();
        assert_eq!(named(&mut tracker), 2, "it is there, and says so");
        tracker.gone(whole(2).mac, Some(whole(2).boot_id));
        assert_eq!(named(&mut tracker), 2, "that boot it is");
        tracker.gone(whole(2).mac, Some(Digest([8; 32])));
        assert_eq!(named(&mut tracker), 1);
    }

    #[test]
    fn who_boots_anew_is_not_told_to_fetch_what_its_last_boot_was() {
        let mut tracker = Tracker::default();
        let one = asker(1);
        assert!(!tracker.ask(SECOND, &one).unwrap().granted.is_empty());
        tracker.ask(SECOND, &Asker { held: Held::all(PIECES), ..asker(2) }).unwrap();
        let again = Asker { boot_id: Digest([8; 32]), ..one };
        tracker.gone(again.mac, Some(again.boot_id));
        let told = tracker.ask(60 * SECOND, &again).unwrap();
        assert_eq!((told.givers.len(), told.granted), (1, vec![]));
    }

    #[test]
    fn a_stranger_of_many_names_is_two_machines_and_no_more() {
        let mut tracker = Tracker::default();
        for number in 1..500 {
            let held = Held::all(PIECES);
            let from = [10, 0, 200, 1].into();
            tracker.ask(SECOND, &Asker { held, from, ..asker(number) }).unwrap();
        }
        assert_eq!(tracker.members(), 2);
        // He who boots goes on with what is left of the site: his word is a small one.
        let told =
            tracker.ask(SECOND, &Asker { avoid: vec![key(1), key(2)], ..asker(600) }).unwrap();
        assert!(told.givers.is_empty() && !told.granted.is_empty());
    }

    #[test]
    fn tables_are_bounded() {
        let mut tracker = Tracker::default();
        for number in 0..600u16 {
            let [high, low] = number.to_be_bytes();
            let site = Subnet::of([10, high, low, 0].into(), 24);
            let told = tracker.ask(SECOND, &Asker { site, ..asker(number) });
            assert_eq!(told.is_some(), usize::from(number) < MAX_CROWDS);
        }
        let again = Asker { site: "10.200.0.0/24".parse().unwrap(), ..asker(1) };
        assert!(tracker.ask(400 * SECOND, &again).is_some());
    }

    proptest! {
        /// Whatever is asked: figures stay right, and nothing is granted that is there.
        #[test]
        fn whatever_is_asked_figures_stay_right(
            questions in proptest::collection::vec(
                (0u16..12, 0u32..40, any::<u32>(), 0u64..3_000, any::<bool>()), 1..120),
        ) {
            let mut tracker = Tracker::default();
            let mut now = SECOND;
            for (number, avoid, bits, later, gives) in questions {
                now += Duration::from_millis(later);
                let held = Held::read(PIECES, &bits.to_be_bytes());
                let mut asker = Asker { held: held.clone(), avoid: vec![key(avoid as u16)], ..asker(number) };
                if !gives {
                    asker.giver = None;
                }
                let told = tracker.ask(now, &asker).unwrap();
                prop_assert!(pieces(&told).iter().all(|piece| !held.has(*piece)));
                prop_assert!(told.givers.iter().all(|giver| giver.key != key(number)));
                tracker.crowds.values().for_each(Crowd::check);
            }
        }
    }
}
