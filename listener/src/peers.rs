//! Who has how many connections.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Connections by peer. No more entries than connections.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// A place for one more connection of a peer; none where it has `most`.
    pub fn seat(&self, address: IpAddr, most: usize) -> Option<Seat> {
        let peer = network(address);
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat { peers: self.clone(), peer })
    }
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    peers: Peers,
    peer: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// What counts as one peer, an address for all of it: an IPv6 host has a network of 64 bits to choose its address from.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_peer_and_a_mapped_ipv4_address_itself() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::2:1"));
        assert_ne!(parse("2001:db8:0:1::1"), parse("2001:db8::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
        assert_ne!(parse("10.0.0.1"), parse("10.0.0.2"));
        let peers = Peers::default();
        let seat = peers.seat("10.0.0.1".parse().unwrap(), 1);
        assert!(peers.seat("10.0.0.1".parse().unwrap(), 1).is_none());
        drop(seat);
        assert!(peers.0.lock().unwrap().is_empty());
    }
}
