//! The TFTP state machine over a simulated wire that loses, doubles and reorders packets.

use provisioner::tftp::{
    care::Care,
    options::negotiate,
    session::{Action, End, Event, Session},
};
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

const BLKSIZE: u64 = 1000;

/// A wire with a fixed seed: each run of a test sees the same.
struct Wire {
    seed: u64,
    /// In a thousand packets.
    lost: u64,
    doubled: u64,
    /// Microseconds on the way, from and to.
    delay: (u64, u64),
}

impl Wire {
    fn random(&mut self, below: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are even enough here.
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.seed >> 33) % below.max(1)
    }

    /// When a packet sent at `now` arrives: never, once, or twice.
    fn arrivals(&mut self, now: u64) -> Vec<u64> {
        let copies = match self.random(1000) {
            dice if dice < self.lost => 0,
            dice if dice < self.lost + self.doubled => 2,
            _ => 1,
        };
        let (from, to) = self.delay;
        (0..copies).map(|_| now + from + self.random(to - from + 1)).collect()
    }
}

/// What is on the wire. A block knows its true number besides the 16 bits that TFTP sends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Oack,
    Data { wire: u16, number: u64, last: bool },
    Ack(u16),
}

/// A client as RFC 7440 has it; `eager` ones acknowledge every block they see twice, too.
struct Client {
    window: u64,
    eager: bool,
    has: u64,
    since_ack: u64,
    done: bool,
    last_ack: Option<u16>,
    heard: u64,
}

impl Client {
    fn take(&mut self, now: u64, packet: &Packet) -> Option<Packet> {
        self.heard = now;
        let answer = match packet {
            Packet::Oack => (self.has == 0).then_some(0),
            Packet::Data { wire, number, last } => {
                let next = self.has + 1;
                if *wire == next as u16 {
                    assert_eq!(*number, next, "the client took one block for another");
                    self.has = next;
                    self.since_ack += 1;
                    self.done |= last;
                    (self.since_ack == self.window || *last).then_some(*wire)
                } else if wire.wrapping_sub(next as u16) < 0x8000 {
                    // A gap: what came last in order.
                    Some(self.has as u16)
                } else {
                    self.eager.then_some(self.has as u16)
                }
            }
            Packet::Ack(_) => None,
        }?;
        self.since_ack = 0;
        self.last_ack = Some(answer);
        Some(Packet::Ack(answer))
    }
}

struct Outcome {
    end: End,
    blocks_sent: u64,
    resent: u64,
    client_has: u64,
    client_done: bool,
    took: f64,
}

/// Runs one transfer of so many whole blocks and a bit.
fn transfer(wire: Wire, blocks: u64, window: u64, eager: bool) -> Outcome {
    gently(wire, blocks, window, eager, Care::default())
}

/// The same, to a client treated with care.
fn gently(mut wire: Wire, blocks: u64, window: u64, eager: bool, care: Care) -> Outcome {
    let option = |name: &str, value: u64| (name.to_string(), value.to_string());
    let asked = [option("blksize", BLKSIZE), option("windowsize", window), option("tsize", 0)];
    let length = (blocks - 1) * BLKSIZE + 17;
    let terms = negotiate(&asked, length, 1468, &care);
    assert_eq!(u64::from(terms.window), window);

    let micros = Duration::from_micros;
    // (arrival, order of sending, to the client?, packet)
    let mut flying: BinaryHeap<Reverse<(u64, u64, bool, Packet)>> = BinaryHeap::new();
    let (mut order, mut blocks_sent, mut now) = (0, 0, 0);
    let mut client =
        Client { window, eager, has: 0, since_ack: 0, done: false, last_ack: None, heard: 0 };
    let (mut session, mut actions) = Session::open(micros(0), length, &terms);
    loop {
        for action in std::mem::take(&mut actions) {
            let packets = match action {
                Action::Oack => vec![Packet::Oack],
                Action::Data { first, last } => {
                    assert!(last - first < window, "more than a window at once");
                    blocks_sent += last + 1 - first;
                    let data = |number| Packet::Data {
                        wire: number as u16,
                        number,
                        last: number == blocks,
                    };
                    (first..=last).map(data).collect()
                }
                Action::GiveUp => vec![],
                Action::End(end) => {
                    return Outcome {
                        end,
                        blocks_sent,
                        resent: session.resent(),
                        client_has: client.has,
                        client_done: client.done,
                        took: now as f64 / 1e6,
                    };
                }
            };
            for packet in packets {
                for at in wire.arrivals(now) {
                    order += 1;
                    flying.push(Reverse((at, order, true, packet.clone())));
                }
            }
        }
        let deadline = session.deadline().as_micros() as u64;
        // A client that hears nothing repeats its last ACK after a second and a half.
        let client_due = match client.last_ack {
            Some(_) if !client.done => client.heard + 1_500_000,
            _ => u64::MAX,
        };
        let arrival = flying.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        now = arrival.min(deadline).min(client_due);
        let mut reply = None;
        if now == arrival {
            let Some(Reverse((_, _, to_client, packet))) = flying.pop() else { continue };
            if to_client {
                reply = client.take(now, &packet);
            } else if let Packet::Ack(block) = packet {
                (session, actions) = session.step(micros(now), Event::Ack(block));
            }
        } else if now == deadline {
            (session, actions) = session.step(micros(now), Event::Silence);
        } else {
            client.heard = now;
            reply = client.last_ack.map(Packet::Ack);
        }
        if let Some(packet) = reply {
            for at in wire.arrivals(now) {
                order += 1;
                flying.push(Reverse((at, order, false, packet.clone())));
            }
        }
    }
}

fn quiet(seed: u64) -> Wire {
    Wire { seed, lost: 0, doubled: 0, delay: (500, 500) }
}

#[test]
fn over_a_good_wire_each_block_is_sent_once() {
    for window in [1, 4, 16, 64] {
        for blocks in [1, 2, 3, 15, 16, 17, 200] {
            let outcome = transfer(quiet(1), blocks, window, true);
            assert_eq!(outcome.end, End::Complete);
            assert_eq!((outcome.blocks_sent, outcome.resent), (blocks, 0));
            assert!(outcome.client_done);
        }
    }
}

#[test]
fn a_window_divides_the_round_trips() {
    let seconds = |window| transfer(quiet(1), 480, window, false).took;
    let plain = seconds(1);
    assert!((0.480..0.485).contains(&plain), "{plain}");
    assert!(plain / seconds(4) > 3.9);
    assert!(plain / seconds(16) > 15.0);
}

#[test]
fn loss_doubling_and_reordering_never_alter_or_stop_a_transfer() {
    let mut silent = 0;
    for seed in 0..400 {
        for window in [1, 4, 16] {
            let wire = Wire { seed, lost: 60, doubled: 60, delay: (200, 1_500) };
            let outcome = transfer(wire, 150, window, seed % 2 == 0);
            match outcome.end {
                End::Complete => assert!(outcome.client_done && outcome.client_has == 150),
                End::Unconfirmed => {}
                other => {
                    silent += 1;
                    assert_eq!(other, End::Silent);
                }
            }
        }
    }
    assert_eq!(silent, 0, "at 6 % loss six silences in a row are rare");
}

#[test]
fn doubled_packets_do_not_double_the_traffic() {
    // The Sorcerer's Apprentice: a tenth of the packets is doubled, none is lost.
    for seed in 0..100 {
        for window in [1, 4, 16] {
            let wire = Wire { seed, lost: 0, doubled: 100, delay: (500, 500) };
            let outcome = transfer(wire, 400, window, true);
            assert_eq!(outcome.end, End::Complete);
            let most = if window == 1 { 400 } else { 420 };
            assert!(outcome.blocks_sent <= most, "window {window}: {} sent", outcome.blocks_sent);
        }
    }
}

#[test]
fn a_second_ack_is_believed_only_when_nothing_follows_it() {
    let terms = negotiate(&[("windowsize".into(), "4".into())], 512 * 100, 1468, &Care::default());
    let ms = Duration::from_millis;
    let (session, _) = Session::open(ms(0), 512 * 100, &terms);
    let (session, actions) = session.step(ms(5), Event::Ack(0));
    assert_eq!(actions, [Action::Data { first: 1, last: 4 }]);
    let (session, _) = session.step(ms(10), Event::Ack(4));
    let (session, actions) = session.step(ms(10), Event::Ack(4));
    assert!(actions.is_empty(), "it may be a copy");
    let (copy, actions) = session.clone().step(ms(15), Event::Ack(8));
    assert_eq!(actions, [Action::Data { first: 9, last: 12 }], "it was one");
    assert!(copy.deadline() > ms(1_000));
    assert_eq!(session.deadline(), ms(20), "two round trips on");
    let (session, actions) = session.step(ms(20), Event::Silence);
    assert_eq!(actions, [Action::Data { first: 5, last: 8 }], "block 5 was lost");
    assert_eq!(session.resent(), 4);
}

#[test]
fn silence_is_met_with_patience_that_grows_and_ends() {
    let terms = negotiate(&[], 5_000, 1468, &Care::default());
    let (mut session, _) = Session::open(Duration::ZERO, 5_000, &terms);
    let mut waits = Vec::new();
    let mut now = Duration::ZERO;
    loop {
        let deadline = session.deadline();
        waits.push((deadline - now).as_secs());
        now = deadline;
        let (next, actions) = session.step(now, Event::Silence);
        session = next;
        if actions.last() == Some(&Action::End(End::Silent)) {
            assert_eq!(actions[0], Action::GiveUp);
            break;
        }
        assert_eq!(actions, [Action::Data { first: 1, last: 1 }]);
    }
    assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
}

#[test]
fn block_numbers_roll_over_in_files_of_more_than_65535_blocks() {
    let outcome = transfer(quiet(3), 70_000, 16, false);
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(outcome.client_has, 70_000);
}

#[test]
fn edk2_asking_for_the_size_is_no_failure() {
    let terms = negotiate(&[("tsize".into(), "0".into())], 5_000, 1468, &Care::default());
    let (session, actions) = Session::open(Duration::ZERO, 5_000, &terms);
    assert_eq!(actions, [Action::Oack]);
    let aborted = Event::Error(8, "User aborted the transfer".into());
    let (_, actions) = session.step(Duration::from_millis(1), aborted);
    assert_eq!(actions, [Action::End(End::SizeAsked)]);
}

#[test]
fn acks_from_nowhere_change_nothing() {
    let terms = negotiate(&[("windowsize".into(), "4".into())], 512 * 100, 1468, &Care::default());
    let now = Duration::from_millis(1);
    let (session, _) = Session::open(Duration::ZERO, 512 * 100, &terms);
    let (session, actions) = session.step(now, Event::Ack(7));
    assert!(actions.is_empty(), "before the OACK is acknowledged only ACK 0 counts");
    let (session, _) = session.step(now, Event::Ack(0));
    let before = session.clone();
    for stray in [5, 6, 1_000, 40_000, 65_535] {
        let (after, actions) = session.clone().step(now, Event::Ack(stray));
        assert!(actions.is_empty(), "{stray}");
        assert_eq!(after, before, "{stray}");
    }
}

#[test]
fn a_port_that_closed_ends_the_transfer_at_once() {
    let terms = negotiate(&[], 5_000, 1468, &Care::default());
    let (session, _) = Session::open(Duration::ZERO, 5_000, &terms);
    let (_, actions) = session.step(Duration::from_millis(1), Event::Gone);
    assert_eq!(actions, [Action::End(End::Silent)]);
    let (session, _) =
        Session::open(Duration::ZERO, 100, &negotiate(&[], 100, 1468, &Care::default()));
    let (_, actions) = session.step(Duration::from_millis(1), Event::Gone);
    assert_eq!(actions, [Action::End(End::Unconfirmed)]);
}

#[test]
fn loss_and_reordering_where_block_numbers_roll_over_alter_nothing() {
    for (seed, window) in [(5, 1), (6, 4), (7, 16), (8, 64)] {
        let wire = Wire { seed, lost: 10, doubled: 10, delay: (100, 400) };
        let outcome = transfer(wire, 66_000, window, true);
        assert_eq!((outcome.end, outcome.client_has), (End::Complete, 66_000), "window {window}");
        assert!(outcome.client_done);
    }
}

#[test]
fn after_a_loss_in_the_middle_of_a_window_it_goes_on_from_the_lost_block() {
    let terms = negotiate(&[("windowsize".into(), "8".into())], 512 * 100, 1468, &Care::default());
    let ms = Duration::from_millis;
    let (session, _) = Session::open(ms(0), 512 * 100, &terms);
    let (session, actions) = session.step(ms(4), Event::Ack(0));
    assert_eq!(actions, [Action::Data { first: 1, last: 8 }]);
    // Block 4 was lost: RFC 7440 section 4 has the client say 3, and the window begin there.
    let (session, actions) = session.step(ms(8), Event::Ack(3));
    assert_eq!(actions, [Action::Data { first: 9, last: 11 }], "what its window has room for");
    let (session, actions) = session.clone().step(session.deadline(), Event::Silence);
    assert_eq!(actions, [Action::Data { first: 4, last: 11 }]);
    assert_eq!(session.resent(), 8);
    let (_, actions) = session.step(ms(30), Event::Ack(11));
    assert_eq!(actions, [Action::Data { first: 12, last: 19 }]);
}

#[test]
fn a_bios_asking_for_the_size_is_no_failure_and_any_other_abort_is_one() {
    let care = Care::default();
    let aborted = || Event::Error(0, "TFTP Aborted".into());
    let later = Duration::from_millis(1);
    let terms = negotiate(&[("tsize".into(), "0".into())], 5_000, 1468, &care);
    let (session, _) = Session::open(Duration::ZERO, 5_000, &terms);
    let (_, actions) = session.clone().step(later, aborted());
    assert_eq!(actions, [Action::End(End::SizeAsked)]);
    let failed = [Action::End(End::Aborted(0, "TFTP Aborted".into()))];
    let (session, _) = session.step(later, Event::Ack(0));
    assert_eq!(session.step(later, aborted()).1, failed, "it has begun to load");
    let terms = negotiate(&[("blksize".into(), "1024".into())], 5_000, 1468, &care);
    let (session, _) = Session::open(Duration::ZERO, 5_000, &terms);
    assert_eq!(session.step(later, aborted()).1, failed, "it did not ask");
}

#[test]
fn a_paced_client_gets_its_blocks_no_faster_and_none_twice() {
    // 1,000 bytes each 2 ms.
    let care = Care { rate: Some(500_000), ..Care::default() };
    for window in [1, 4, 16, 64] {
        let outcome = gently(quiet(1), 500, window, true, care);
        assert_eq!((outcome.end, outcome.blocks_sent, outcome.resent), (End::Complete, 500, 0));
        assert!((0.990..1.100).contains(&outcome.took), "window {window}: {} s", outcome.took);
    }
    let slow = Care { rate: Some(10_000), ..Care::default() };
    let outcome = gently(quiet(1), 40, 16, true, slow);
    assert_eq!((outcome.end, outcome.resent), (End::Complete, 0));
    assert!(outcome.took > 3.8, "its window takes longer than a time-out: {} s", outcome.took);
}

#[test]
fn pacing_outlives_loss_and_the_silence_of_a_paced_client_ends() {
    let care = Care { rate: Some(1_000_000), ..Care::default() };
    for seed in 0..60 {
        for window in [1, 4, 16] {
            let wire = Wire { seed, lost: 40, doubled: 40, delay: (200, 1_500) };
            let outcome = gently(wire, 150, window, seed % 2 == 0, care);
            assert!(matches!(outcome.end, End::Complete | End::Unconfirmed), "{:?}", outcome.end);
            assert!(outcome.client_done, "seed {seed}, window {window}");
        }
    }
    let dead = Wire { seed: 1, lost: 1_000, doubled: 0, delay: (500, 500) };
    assert_eq!(gently(dead, 150, 16, false, care).end, End::Silent);
}
