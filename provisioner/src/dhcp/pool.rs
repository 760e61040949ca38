//! Networks and address pools: which addresses may be given out, and in which order to try them.

use crate::machine::Mac;
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// The largest pool: as many addresses as a /16 has. More machines than that on one wire want
/// more than one network.
pub const MAX_POOL: u32 = 65_536;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub address: Ipv4Addr,
    /// Its mask.
    pub mask: Ipv4Addr,
}

impl Network {
    /// Whether an address belongs to it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask.to_bits() == self.address.to_bits() & self.mask.to_bits()
    }

    /// Its broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask.to_bits())
    }

    /// The upper half of the network without the broadcast address and ours: what is given out
    /// where no pool is configured. None where the network is too small to have one.
    pub fn upper_half(&self) -> Option<Pool> {
        let hosts = !self.mask.to_bits();
        let base = self.address.to_bits() & self.mask.to_bits();
        let first = base + hosts / 2 + 1;
        let last = (base + hosts).checked_sub(1)?.min(first.saturating_add(MAX_POOL - 1));
        (hosts >= 3 && first <= last).then_some(Pool { first, last, prefix: None })
    }
}

/// Addresses to give out, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    first: u32,
    last: u32,
    /// Bits of their network's mask, where that is not ours but a relay's.
    prefix: Option<u8>,
}

/// Why a text is no pool.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an address pool: FIRST-LAST is wanted, as in 10.0.0.100-10.0.0.199, \
     at most {MAX_POOL} addresses; where they are of a relay's network, with its prefix: \
     10.1.0.100-10.1.0.199/24"
)]
pub struct NotAPool(String);

impl Pool {
    /// A pool of one address.
    pub fn single(address: Ipv4Addr) -> Self {
        Self { first: address.to_bits(), last: address.to_bits(), prefix: None }
    }

    /// Whether an address may be given out.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.to_bits())
    }

    /// The network that the addresses are of, `own` being ours.
    pub fn link(&self, own: Network) -> Network {
        let mask = |bits: u8| Ipv4Addr::from_bits(u32::MAX << (32 - bits));
        match self.prefix {
            Some(bits) => Network { address: Ipv4Addr::from_bits(self.first), mask: mask(bits) },
            None => own,
        }
    }

    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        self.last - self.first + 1
    }

    /// The lowest and the highest address.
    pub fn ends(&self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::from_bits(self.first), Ipv4Addr::from_bits(self.last))
    }

    /// Every address, from a place that depends on the MAC: a machine is likely to get the same
    /// one again even from an empty database, and two machines seldom want the same.
    pub fn candidates(&self, mac: Mac) -> impl Iterator<Item = Ipv4Addr> + use<> {
        // FNV-1a: any even spread will do.
        let hash = mac
            .0
            .iter()
            .fold(0x811c_9dc5u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let (first, size) = (self.first, self.size());
        (0..size).map(move |step| {
            let place = (u64::from(hash) + u64::from(step)) % u64::from(size);
            Ipv4Addr::from_bits(first + place as u32)
        })
    }
}

impl FromStr for Pool {
    type Err = NotAPool;
    fn from_str(text: &str) -> Result<Self, NotAPool> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let (last, prefix) = match last.split_once('/') {
                Some((last, prefix)) => (last, Some(prefix.trim().parse::<u8>().ok()?)),
                None => (last, None),
            };
            let first: Ipv4Addr = first.trim().parse().ok()?;
            let last: Ipv4Addr = last.trim().parse().ok()?;
            Some(Self { first: first.to_bits(), last: last.to_bits(), prefix })
        });
        parsed
            .filter(|pool| pool.first <= pool.last && pool.last - pool.first < MAX_POOL)
            // A network has room for its own address, a relay, a machine and all of them.
            .filter(|pool| pool.prefix.is_none_or(|bits| (8..=30).contains(&bits)))
            .filter(|pool| {
                let network = pool.link(Network { address: pool.ends().0, mask: [0; 4].into() });
                network.contains(pool.ends().1)
            })
            .ok_or_else(|| NotAPool(text.into()))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ends();
        write!(f, "{first}-{last}")?;
        self.prefix.map_or(Ok(()), |bits| write!(f, "/{bits}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn candidates_are_the_whole_pool_each_address_once() {
        let pool: Pool = "10.0.0.250-10.0.1.5".parse().unwrap();
        let all: BTreeSet<Ipv4Addr> = pool.candidates(Mac([2, 0, 0, 0, 0, 7])).collect();
        assert_eq!(all.len(), 12);
        assert!(all.iter().all(|&address| pool.contains(address)));
    }

    #[test]
    fn a_pool_backwards_or_too_large_or_of_other_words_is_refused() {
        for text in ["10.0.0.9-10.0.0.1", "10.0.0.0-10.9.0.0", "10.0.0.1", "a-b", ""] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_with_a_prefix_is_of_a_network_of_its_own() {
        let own = Network { address: [10, 7, 0, 1].into(), mask: [255, 0, 0, 0].into() };
        let pool: Pool = "10.8.1.9-10.8.1.20/23".parse().unwrap();
        assert_eq!(pool.to_string(), "10.8.1.9-10.8.1.20/23");
        let link = pool.link(own);
        assert_eq!(link.mask, Ipv4Addr::new(255, 255, 254, 0));
        assert!(link.contains([10, 8, 0, 1].into()) && !link.contains([10, 8, 2, 1].into()));
        assert_eq!("10.8.1.9-10.8.1.20".parse::<Pool>().unwrap().link(own), own);
        for bad in ["/31", "/32", "/0", "/33", "/-1", "/", "/28"] {
            assert!(format!("10.8.1.9-10.8.1.20{bad}").parse::<Pool>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_upper_half_of_a_network_leaves_the_broadcast_address_out() {
        let network = Network { address: [10, 7, 0, 1].into(), mask: [255, 255, 255, 0].into() };
        assert_eq!(network.upper_half().unwrap().to_string(), "10.7.0.128-10.7.0.254");
        let point = Network { address: [10, 7, 0, 1].into(), mask: [255, 255, 255, 255].into() };
        assert!(point.upper_half().is_none());
        assert!(network.contains([10, 7, 0, 200].into()));
        assert!(!network.contains([10, 7, 1, 200].into()));
    }
}
