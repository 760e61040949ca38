//! The scheduler in a small world with a clock of its own: peers that lie, stall, die or are busy, a
//! provisioner that grants, refuses or is away.

use super::*;
use proptest::prelude::*;
use protocol::SecretKey;

fn key(number: u8) -> PublicKey {
    SecretKey::from_seed([number; 32]).public()
}

/// How a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    Liar,
    Stalls,
    Dead,
    Busy,
    /// Has only every second piece.
    Half,
    /// Dies after some pieces.
    Dies(u8),
}

#[derive(Clone, Debug)]
struct World {
    pieces: u32,
    peers: Vec<Kind>,
    /// The provisioner gives what it is asked for between these times.
    origin: (Duration, Duration),
    /// And answers who has what between these.
    tracker: (Duration, Duration),
    grants: usize,
    seed: u64,
}

#[derive(Debug, Default)]
struct Seen {
    from_origin: u32,
    from_peers: u32,
    asked: BTreeMap<PublicKey, u32>,
    lied: Vec<PublicKey>,
    took: Duration,
    gave_up: bool,
}

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3_600);

impl World {
    fn run(&self) -> Seen {
        let mut seen = Seen::default();
        let mut schedule = Schedule::new(Duration::ZERO, self.pieces, self.seed);
        let mut queue: BTreeSet<(Duration, u64)> = BTreeSet::new();
        let mut events: BTreeMap<u64, (Option<Source>, u64, Event)> = BTreeMap::new();
        let mut number = 0;
        // The generation of each source's fetch: what was cancelled is heard of no more.
        let mut turns: BTreeMap<Source, u64> = BTreeMap::new();
        let mut gave: BTreeMap<usize, u8> = BTreeMap::new();
        let (mut now, mut event) = (Duration::ZERO, Event::Tick);
        for _ in 0..200_000 {
            let actions = schedule.step(now, event);
            let mut later = |at: Duration, of: Option<Source>, turn: u64, event: Event| {
                number += 1;
                queue.insert((at, number));
                events.insert(number, (of, turn, event));
            };
            for action in actions {
                match action {
                    Action::Done => {
                        seen.took = now;
                        assert!(schedule.held().is_whole());
                        assert!(schedule.wake().is_none());
                        return seen;
                    }
                    Action::GiveUp => {
                        (seen.took, seen.gave_up) = (now, true);
                        return seen;
                    }
                    Action::Cancel(from) => *turns.entry(from).or_default() += 1,
                    Action::Ask { avoid, .. } => {
                        assert!(avoid.len() <= MAX_AVOIDED);
                        let there = now >= self.tracker.0 && now < self.tracker.1;
                        let answer = if there { self.told(&schedule) } else { Event::Untold };
                        later(now + 2 * MS, None, 0, answer);
                    }
                    Action::Fetch { from, first, count } => {
                        let turn = *turns.entry(from).and_modify(|turn| *turn += 1).or_default();
                        assert!((first..first + count).any(|p| !schedule.held().has(p)));
                        match from {
                            Source::Origin(lane) => {
                                assert!(lane < LANES && count <= LONGEST_RUN);
                                if now < self.origin.0 || now >= self.origin.1 {
                                    let how = End::Failed;
                                    later(now + MS, Some(from), turn, Event::Ended { from, how });
                                    continue;
                                }
                                for piece in first..first + count {
                                    seen.from_origin += 1;
                                    let at = now + 3 * MS * (piece - first + 1);
                                    later(at, Some(from), turn, Event::Came { from, piece });
                                }
                                let (at, how) = (now + 3 * MS * count + MS, End::Whole);
                                later(at, Some(from), turn, Event::Ended { from, how });
                            }
                            Source::Peer(peer) => {
                                assert_eq!(count, 1);
                                assert!(!seen.lied.contains(&peer), "a liar is asked again");
                                *seen.asked.entry(peer).or_default() += 1;
                                let at = (0..self.peers.len()).find(|n| key(*n as u8) == peer);
                                let at = at.unwrap();
                                let how = match self.peers[at] {
                                    Kind::Good | Kind::Half => End::Whole,
                                    Kind::Dies(after) => {
                                        let gave = gave.entry(at).or_default();
                                        *gave = gave.saturating_add(1);
                                        if *gave > after { End::Failed } else { End::Whole }
                                    }
                                    Kind::Liar => {
                                        seen.lied.push(peer);
                                        End::Lied
                                    }
                                    Kind::Stalls => continue,
                                    Kind::Dead => End::Failed,
                                    Kind::Busy => End::Busy,
                                };
                                if how == End::Whole {
                                    seen.from_peers += 1;
                                    let came = Event::Came { from, piece: first };
                                    later(now + 4 * MS, Some(from), turn, came);
                                }
                                later(now + 4 * MS, Some(from), turn, Event::Ended { from, how });
                            }
                        }
                    }
                }
            }
            let busy = schedule.flights.keys().filter(|from| matches!(from, Source::Peer(_)));
            assert!(busy.count() <= PEERS_AT_A_TIME && schedule.peers.len() <= MAX_PEERS);
            let wake = schedule.wake().unwrap();
            assert!(wake > now, "{now:?}");
            (now, event) = loop {
                let first = queue.first().copied().filter(|(at, _)| *at <= wake);
                let Some(first @ (at, number)) = first else { break (wake, Event::Tick) };
                queue.remove(&first);
                let (of, turn, event) = events.remove(&number).unwrap();
                if of.is_none_or(|of| turns[&of] == turn) {
                    break (at, event);
                }
            };
        }
        panic!("it goes on for ever: {schedule:?}");
    }

    fn told(&self, schedule: &Schedule) -> Event {
        let held = |kind: &Kind| {
            let mut held = Held::none(self.pieces);
            for piece in (0..self.pieces).filter(|p| *kind != Kind::Half || p % 2 == 0) {
                held.put(piece);
            }
            held
        };
        let givers = self.peers.iter().enumerate().map(|(n, kind)| (key(n as u8), held(kind)));
        Event::Told {
            givers: givers.collect(),
            granted: schedule.held().missing().take(self.grants).collect(),
            again: Duration::from_millis(500),
        }
    }
}

fn world(pieces: u32, peers: &[Kind]) -> World {
    let always = (Duration::ZERO, LONG);
    World { pieces, peers: peers.to_vec(), origin: always, tracker: always, grants: 0, seed: 7 }
}

#[test]
fn a_machine_alone_is_served_by_the_provisioner_without_a_pause() {
    let seen = World { grants: 16, ..world(100, &[]) }.run();
    assert_eq!((seen.from_origin, seen.from_peers), (100, 0));
    // 3 ms for each piece, over two lanes.
    assert!(seen.took < Duration::from_millis(350), "{:?}", seen.took);
}

#[test]
fn where_peers_have_all_nothing_comes_from_the_provisioner() {
    let seen = world(100, &[Kind::Good; 8]).run();
    assert_eq!((seen.from_origin, seen.from_peers), (0, 100));
    assert!(seen.asked.len() >= PEERS_AT_A_TIME, "{:?}", seen.asked);
}

#[test]
fn liars_are_asked_once_and_the_dead_and_those_who_stall_twice() {
    let kinds = [Kind::Liar, Kind::Dead, Kind::Stalls, Kind::Good];
    let seen = world(400, &kinds).run();
    let asked = |n: u8| seen.asked.get(&key(n)).copied().unwrap_or_default();
    assert_eq!(asked(0), 1);
    assert!(asked(1) <= FAILURES && asked(2) <= FAILURES);
    assert!(!seen.gave_up && seen.from_origin == 0, "{seen:?}");
}

#[test]
fn where_nobody_gives_what_they_say_that_they_have_the_provisioner_is_asked() {
    for kind in [Kind::Busy, Kind::Stalls, Kind::Dead, Kind::Liar] {
        let seen = world(40, &[kind; 6]).run();
        assert!(!seen.gave_up && seen.from_origin >= 40, "{kind:?}: {seen:?}");
        let most = PATIENCE + PAUSES * 500 * MS + 4 * PEER_STALL;
        assert!(seen.took < most, "{kind:?}: {:?}", seen.took);
    }
}

#[test]
fn a_provisioner_that_dies_midway_is_not_missed_while_peers_go_on() {
    let dies = Duration::from_millis(5);
    let world = World {
        origin: (Duration::ZERO, dies),
        tracker: (Duration::ZERO, dies),
        grants: 4,
        ..world(200, &[Kind::Good, Kind::Good])
    };
    let seen = world.run();
    assert!(!seen.gave_up && seen.from_peers >= 190, "{seen:?}");
    assert!(seen.took < Duration::from_secs(2), "{:?}", seen.took);
}

#[test]
fn where_nobody_at_all_is_left_it_ends_and_says_so() {
    let never = (LONG, LONG);
    let seen = World { origin: never, tracker: never, ..world(3, &[Kind::Dead]) }.run();
    assert!(seen.gave_up && seen.took >= END && seen.took < END + Duration::from_secs(5));
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Good),
        1 => Just(Kind::Liar),
        1 => Just(Kind::Stalls),
        1 => Just(Kind::Dead),
        1 => Just(Kind::Busy),
        1 => Just(Kind::Half),
        1 => (0u8..20).prop_map(Kind::Dies),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever peers do: while the provisioner gives, every machine gets all.
    #[test]
    fn whatever_peers_do_all_pieces_come(
        pieces in 1u32..300,
        peers in proptest::collection::vec(kind(), 0..12),
        grants in 0usize..20,
        away in 0u64..30_000,
        tracked in 0u64..40_000,
        seed: u64,
    ) {
        let world = World {
            pieces,
            peers,
            origin: (Duration::from_millis(away), LONG),
            tracker: (Duration::ZERO, Duration::from_millis(tracked)),
            grants,
            seed,
        };
        let seen = world.run();
        prop_assert!(!seen.gave_up, "{seen:?}");
        prop_assert!(seen.took < Duration::from_secs(60), "{seen:?}");
    }
}
