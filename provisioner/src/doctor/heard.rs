//! All that the doctor hears on the wire, kept frame by frame within bounds.

use super::{
    bpdu::{self, Bpdu},
    frame::{self, Carried},
    neighbour::{self, Neighbour},
    offer::{Advert, Offer, Router},
    question::Asked,
};
use crate::{dhcp::pool::Pool, machine::Mac};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Servers, routers, switches: more of one kind than this are no network but an attack.
const MAX_OF_A_KIND: usize = 64;
/// Addresses that answer: as many as are probed.
const MAX_ANSWERS: usize = 1024;

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// DHCP servers' answers, one a server, question and port.
    pub(super) offers: Vec<Offer>,
    /// DHCPv6 servers' answers, one a server.
    pub(super) adverts: Vec<Advert>,
    /// IPv6 routers.
    pub(super) routers: Vec<Router>,
    /// Switches' names.
    pub(super) neighbours: Vec<Neighbour>,
    /// Addresses of the pool that somebody has.
    pub(super) taken: BTreeMap<Ipv4Addr, Mac>,
    /// How many were not kept, a bound being reached.
    pub(super) dropped: u64,
}

/// Bridges' messages: the last of each sender and VLAN, whether any told of a change, and how many
/// came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bridge {
    pub(super) sender: Mac,
    pub(super) last: Bpdu,
    pub(super) changed: bool,
}

/// What is listened to.
#[derive(Clone, Debug)]
pub struct Ear {
    /// What was asked.
    pub(super) asked: Asked,
    /// Addresses that are probed.
    pub(super) pool: Option<Pool>,
    /// Our own Ethernet addresses.
    pub(super) own: Vec<Mac>,
    /// What was heard so far.
    pub(super) heard: Heard,
    /// Bridges.
    pub(super) bridges: Vec<Bridge>,
}

impl Ear {
    /// One that has heard nothing yet.
    pub fn new(asked: Asked, pool: Option<Pool>, own: Vec<Mac>) -> Self {
        Self { asked, pool, own, heard: Heard::default(), bridges: Vec::new() }
    }

    /// Takes in a frame. Never panics, whatever the bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some(frame) = frame::read(bytes) else { return };
        let heard = &mut self.heard;
        let kept = match frame.carried {
            Carried::Udp4 { from, to, payload } if to.port() == 68 => {
                let offer = Offer::read(&self.asked, frame.sender, from, payload);
                let same = |a: &Offer, b: &Offer| {
                    (a.server, a.firmware, a.port) == (b.server, b.firmware, b.port)
                };
                keep(&mut heard.offers, offer, same)
            }
            Carried::Udp6 { from, ports: (_, 546), payload } => {
                let advert = Advert::read(&self.asked, frame.sender, from, payload);
                keep(&mut heard.adverts, advert, |a, b| a.from == b.from)
            }
            Carried::Icmp6 { from, message } => {
                let router = Router::read(from, message);
                keep(&mut heard.routers, router, |a, b| a.from == b.from)
            }
            Carried::Lldp(bytes) => {
                keep(&mut heard.neighbours, neighbour::lldp(bytes), PartialEq::eq)
            }
            Carried::Llc(bytes) => match bpdu::parse(bytes) {
                Some(bpdu) => self.bridge(frame.sender, bpdu),
                None => keep(&mut heard.neighbours, neighbour::cdp(bytes), PartialEq::eq),
            },
            Carried::Arp { sender, address } => {
                let probed = self.pool.is_some_and(|pool| pool.contains(address));
                match probed && !self.own.contains(&sender) {
                    true if heard.taken.len() < MAX_ANSWERS => {
                        heard.taken.insert(address, sender);
                        true
                    }
                    // One that is known already takes no more room.
                    true => heard.taken.contains_key(&address),
                    false => true,
                }
            }
            Carried::Udp4 { .. } | Carried::Udp6 { .. } => true,
        };
        if !kept {
            self.heard.dropped += 1;
        }
    }

    fn bridge(&mut self, sender: Mac, last: Bpdu) -> bool {
        let known = |bridge: &&mut Bridge| bridge.sender == sender && bridge.last.vlan == last.vlan;
        if let Some(bridge) = self.bridges.iter_mut().find(known) {
            bridge.changed |= last.changes;
            // A bare notification says no more than that.
            if last.says.is_some() {
                bridge.last = last;
            }
            return true;
        }
        let room = self.bridges.len() < MAX_OF_A_KIND;
        if room {
            self.bridges.push(Bridge { sender, last, changed: last.changes });
        }
        room
    }
}

/// Puts what was read in the place of what is the same, or behind; says whether there was room.
fn keep<T>(list: &mut Vec<T>, read: Option<T>, same: impl Fn(&T, &T) -> bool) -> bool {
    let Some(read) = read else { return true };
    match list.iter().position(|known| same(known, &read)) {
        Some(at) => list[at] = read,
        None if list.len() < MAX_OF_A_KIND => list.push(read),
        None => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{
        super::{frame::arp_probe, offer::tests::asked},
        *,
    };
    use proptest::prelude::*;

    fn ear() -> Ear {
        Ear::new(asked(), Some("10.0.0.0-10.0.255.255".parse().unwrap()), vec![])
    }

    /// An ARP message of this sender for itself.
    fn claim(sender: Mac, address: Ipv4Addr) -> Vec<u8> {
        let mut bytes = arp_probe(sender, address);
        bytes.copy_within(38..42, 28);
        bytes
    }

    #[test]
    fn who_answers_for_an_address_of_the_pool_is_kept_within_bounds() {
        let mut ear = ear();
        ear.own.push(Mac([2, 0, 0, 0, 0, 1]));
        ear.take(&claim(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)));
        ear.take(&claim(Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(192, 168, 0, 1)));
        ear.take(&arp_probe(Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 7)));
        assert!(ear.heard.taken.is_empty());
        for n in 0..2 * MAX_ANSWERS as u32 {
            ear.take(&claim(Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::from_bits(0x0a00_0000 + n)));
        }
        assert_eq!((ear.heard.taken.len(), ear.heard.dropped), (MAX_ANSWERS, 1024));
    }

    #[test]
    fn a_flood_of_bridges_is_bounded() {
        let mut ear = ear();
        for n in 0..=255 {
            let head = [1, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, n, 0, 7];
            ear.take(&[&head[..], &[0x42, 0x42, 3, 0, 0, 0, 0x80]].concat());
        }
        assert_eq!((ear.bridges.len(), ear.heard.dropped), (MAX_OF_A_KIND, 192));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut ear = ear();
            ear.take(&bytes);
            let _ = ear.findings();
        }
    }
}
