//! The edge: asks, and listens, for some seconds.
//!
//! By whole frames (AF_PACKET) and not by sockets: a DHCP client of this host's may have port 68,
//! an interface without an address can ask all the same, and what switches say to each other
//! reaches no socket. The card listens to everything meanwhile (promiscuous), which ends with the
//! socket.

use super::{
    frame,
    heard::Ear,
    link::probes,
    offer::Offer,
    question::{Asked, Firmware},
};
use crate::{dhcp::pool::Pool, machine::Mac};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender, channel, interfaces};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a reader waits for a frame before it looks whether the time is up.
const POLL: Duration = Duration::from_millis(100);
/// Between two ARP probes: 100 a second harm nobody.
const PROBE_PAUSE: Duration = Duration::from_millis(10);
/// Jumbo frames, too.
const FRAME: usize = 16 << 10;
/// Boot servers that are asked on port 4011.
const MAX_BOOT_SERVERS: usize = 8;
/// When firmware asks a second time, in seconds; a server that pings an address before it gives it
/// takes up to 3.
const AGAIN: u64 = 4;

/// What is to be asked where.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The interface to ask on.
    pub(super) interface: String,
    /// Those to listen on, it among them: a bridge keeps what its ports hear of spanning tree.
    pub(super) listen: Vec<String>,
    /// Our Ethernet address on it.
    pub(super) mac: Option<Mac>,
    /// All of this host's.
    pub(super) own: Vec<Mac>,
    /// Our address, to ask boot servers from.
    pub(super) address: Option<Ipv4Addr>,
    /// Our link-local address.
    pub(super) link_local: Option<Ipv6Addr>,
    /// Addresses to probe.
    pub(super) pool: Option<Pool>,
    /// For how long.
    pub(super) seconds: u64,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ear: Ear,
    /// Why nothing was asked or heard.
    pub(super) deaf: Option<String>,
    /// How many addresses were probed.
    pub(super) probed: u32,
}

/// Asks and listens; tells `progress` how many seconds have gone.
pub(super) fn listen(plan: &Plan, random: [u8; 20], progress: &dyn Fn(u64)) -> Outcome {
    let asked = Asked::new(random);
    let mut ear = Ear::new(asked, plan.pool, plan.own.clone());
    let deaf = |ear, why: String| Outcome { ear, deaf: Some(why), probed: 0 };
    let Some(mac) = plan.mac.filter(Mac::is_unicast) else {
        return deaf(ear, format!("{} is no Ethernet interface", plan.interface));
    };
    let (mut sender, receiver) = match open(&plan.interface) {
        Ok(both) => both,
        Err(why) => return deaf(ear, why),
    };
    let others = plan.listen.iter().filter(|name| **name != plan.interface);
    // A port that cannot be listened on is one ear less, no more: the interface itself is open.
    let receivers: Vec<_> =
        others.filter_map(|name| Some(open(name).ok()?.1)).chain([receiver]).collect();

    let heard = Mutex::new(&mut ear);
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        for receiver in receivers {
            scope.spawn(|| hear(receiver, &heard, &done));
        }
        let offers = || heard.lock().unwrap_or_else(PoisonError::into_inner).heard.offers.clone();
        let result = ask(plan, &asked, mac, sender.as_mut(), &offers, progress);
        done.store(true, Ordering::Relaxed);
        result
    });
    match result {
        Ok(probed) => Outcome { ear, deaf: None, probed },
        Err(error) => deaf(ear, format!("{} cannot be asked on: {error}", plan.interface)),
    }
}

type Ends = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

fn open(name: &str) -> Result<Ends, String> {
    let interface = interfaces().into_iter().find(|interface| interface.name == name);
    let interface = interface.ok_or_else(|| format!("there is no interface {name}"))?;
    let config = Config {
        read_timeout: Some(POLL),
        write_timeout: Some(POLL),
        read_buffer_size: FRAME,
        ..Config::default()
    };
    match channel(&interface, config) {
        Ok(Channel::Ethernet(sender, receiver)) => Ok((sender, receiver)),
        Ok(_) => Err(format!("{name} is no Ethernet interface")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("this user may not send and see whole frames on {name}"))
        }
        Err(error) => Err(format!("frames on {name}: {error}")),
    }
}

/// Reads until the time is up.
fn hear(mut receiver: Box<dyn DataLinkReceiver>, ear: &Mutex<&mut Ear>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        match receiver.next() {
            Ok(bytes) => ear.lock().unwrap_or_else(PoisonError::into_inner).take(bytes),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            // The interface went down: it says so at each read.
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Sends all questions when they are due; says how many addresses were probed.
fn ask(
    plan: &Plan,
    asked: &Asked,
    mac: Mac,
    sender: &mut dyn DataLinkSender,
    offers: &dyn Fn() -> Vec<Offer>,
    progress: &dyn Fn(u64),
) -> io::Result<u32> {
    let (mut questions, probed) = questions(plan, asked, mac);
    questions.reverse();
    let (start, total) = (Instant::now(), Duration::from_secs(plan.seconds));
    // Late enough for slow servers, early enough for an answer.
    let mut boot_servers_at = Some(total.mul_f32(0.7));
    let mut told = u64::MAX;
    while start.elapsed() < total {
        let now = start.elapsed();
        while let Some((_, frame)) = questions.pop_if(|(due, _)| *due <= now) {
            send(sender, &frame)?;
        }
        if boot_servers_at.is_some_and(|due| due <= now) {
            boot_servers_at = None;
            for frame in boot_servers(plan, asked, mac, &offers()) {
                send(sender, &frame)?;
            }
        }
        if now.as_secs() != told {
            told = now.as_secs();
            progress(told);
        }
        let due = questions.last().map_or(total, |(due, _)| *due);
        thread::sleep(due.saturating_sub(start.elapsed()).clamp(Duration::from_millis(1), POLL));
    }
    Ok(probed)
}

fn send(sender: &mut dyn DataLinkSender, frame: &[u8]) -> io::Result<()> {
    match sender.send_to(frame, None) {
        // A full queue: the next question is another chance.
        Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Ok(()),
        Some(result) => result,
        None => Ok(()),
    }
}

/// All questions and when each is sent, in order; and how many addresses they probe.
fn questions(plan: &Plan, asked: &Asked, mac: Mac) -> (Vec<(Duration, Vec<u8>)>, u32) {
    let mut all = Vec::new();
    let rounds = [0, AGAIN].into_iter().filter(|&at| at == 0 || at + 2 <= plan.seconds);
    for at in rounds.map(Duration::from_secs) {
        for firmware in Firmware::ALL {
            all.push((at, asked.discover(firmware, mac)));
        }
        if let Some(address) = plan.link_local {
            all.push((at, frame::router_solicitation(mac, address)));
            all.push((at, asked.solicit(mac, address)));
        }
    }
    let addresses = plan.pool.map(probes).unwrap_or_default();
    // As many as there is time for, with a second left for the last answer.
    let room = Duration::from_secs(plan.seconds.saturating_sub(1));
    let fit = (room.as_millis() / PROBE_PAUSE.as_millis()).min(addresses.len() as u128) as u32;
    for (n, address) in (0..fit).zip(addresses) {
        all.push((PROBE_PAUSE * n, frame::arp_probe(mac, address)));
    }
    all.sort_by_key(|(due, _)| *due);
    (all, fit)
}

/// Those that call themselves boot servers and name no file, asked for one on port 4011.
fn boot_servers(plan: &Plan, asked: &Asked, mac: Mac, offers: &[Offer]) -> Vec<Vec<u8>> {
    let Some(address) = plan.address else { return Vec::new() };
    let silent = offers.iter().filter(|offer| {
        offer.port == 67 && offer.is_pxe() && offer.boot_file.is_none() && offer.relay.is_none()
    });
    silent
        .take(MAX_BOOT_SERVERS)
        .map(|offer| {
            let server = (offer.sender, offer.server);
            asked.boot_server(offer.firmware, (mac, address), server, offer.boot_item)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seconds: u64) -> Plan {
        Plan {
            interface: "lo".into(),
            listen: vec![],
            mac: None,
            own: vec![],
            address: None,
            link_local: Some("fe80::1".parse().unwrap()),
            pool: Some("10.0.0.1-10.0.3.200".parse().unwrap()),
            seconds,
        }
    }

    #[test]
    fn questions_fit_into_the_time_and_come_in_order() {
        let asked = Asked::new([3; 20]);
        for (seconds, count, probed) in [(1, 5, 0), (2, 5 + 100, 100), (10, 10 + 256, 256)] {
            let (all, fit) = questions(&plan(seconds), &asked, Mac([2; 6]));
            assert_eq!((all.len(), fit), (count, probed), "{seconds}");
            assert!(all.is_sorted_by_key(|(due, _)| *due));
            assert!(all.last().unwrap().0 < Duration::from_secs(seconds));
        }
    }

    #[test]
    fn what_is_no_ethernet_is_deaf_and_says_so() {
        let outcome = listen(&plan(1), [0; 20], &|_| {});
        assert!(outcome.deaf.unwrap().contains("no Ethernet interface"));
    }
}
