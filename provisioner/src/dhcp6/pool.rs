//! Addresses to give out, and in which order to try them.

use super::lease::Key;
use crate::net6::Network6;
use std::{fmt, net::Ipv6Addr, str::FromStr};

pub use crate::dhcp::pool::MAX_POOL;

/// IPv6 addresses to give out, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool6 {
    first: u128,
    /// One less than its size: at most [`MAX_POOL`] - 1.
    last: u32,
}

/// Why a text is no pool.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a pool of IPv6 addresses: FIRST-LAST is wanted, as in \
     fd00:77::1:0-fd00:77::1:ffff, at most {MAX_POOL} addresses"
)]
pub struct NotAPool6(String);

impl Pool6 {
    /// What is given out where no pool is configured: `…::1:0` to `…::1:ffff` of a network. People
    /// number their own machines below that, and addresses made of MAC addresses lie far above.
    /// None where the network has no such addresses.
    pub fn usual(network: Network6) -> Option<Self> {
        let first = network.first().to_bits() + u128::from(MAX_POOL);
        let pool = Self { first, last: MAX_POOL - 1 };
        let (first, last) = pool.ends();
        (network.prefix <= 64 && network.contains(first) && network.contains(last)).then_some(pool)
    }

    /// Whether an address may be given out.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        let place = address.to_bits().checked_sub(self.first);
        place.is_some_and(|place| place <= u128::from(self.last))
    }

    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        self.last + 1
    }

    /// The lowest and the highest address.
    pub fn ends(&self) -> (Ipv6Addr, Ipv6Addr) {
        let last = self.first + u128::from(self.last);
        (Ipv6Addr::from_bits(self.first), Ipv6Addr::from_bits(last))
    }

    /// The network of 64 bits that it is of: what a link has (RFC 4291 section 2.5.4).
    pub fn link(&self) -> Network6 {
        Network6 { address: self.ends().0, prefix: 64 }
    }

    /// Every address, from a place that depends on the client: it is likely to get the same one
    /// again even from an empty database, and two clients seldom want the same.
    pub fn candidates(&self, key: &Key) -> impl Iterator<Item = Ipv6Addr> + use<> {
        // FNV-1a: any even spread will do.
        let bytes = key.duid.iter().copied().chain(key.iaid.to_be_bytes());
        let hash = bytes
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let (first, size) = (self.first, self.size());
        (0..size).map(move |step| {
            let place = (u64::from(hash) + u64::from(step)) % u64::from(size);
            Ipv6Addr::from_bits(first + u128::from(place))
        })
    }
}

impl FromStr for Pool6 {
    type Err = NotAPool6;
    fn from_str(text: &str) -> Result<Self, NotAPool6> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let first: Ipv6Addr = first.trim().parse().ok()?;
            let last: Ipv6Addr = last.trim().parse().ok()?;
            let one_link = Network6 { address: first, prefix: 64 }.contains(last);
            let last = u32::try_from(last.to_bits().checked_sub(first.to_bits())?).ok()?;
            let unicast = !(first.is_multicast() || first.is_unicast_link_local());
            (one_link && unicast && last < MAX_POOL)
                .then_some(Self { first: first.to_bits(), last })
        });
        parsed.ok_or_else(|| NotAPool6(text.chars().take(100).collect()))
    }
}

impl fmt::Display for Pool6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.ends();
        write!(f, "{first}-{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn candidates_are_the_whole_pool_each_address_once() {
        let pool: Pool6 = "fd00:77::fff8-fd00:77::1:3".parse().unwrap();
        let key = Key { duid: vec![0, 4, 9], iaid: 7 };
        let all: BTreeSet<Ipv6Addr> = pool.candidates(&key).collect();
        assert_eq!((all.len(), pool.size()), (12, 12));
        assert!(all.iter().all(|&address| pool.contains(address)));
        assert!(!pool.contains("fd00:77::1:4".parse().unwrap()));
        assert!(!pool.contains("fd00:77::fff7".parse().unwrap()));
    }

    #[test]
    fn a_pool_backwards_or_too_large_or_of_two_links_or_of_other_words_is_refused() {
        for text in [
            "fd00::9-fd00::1",
            "fd00::-fd00::1:0",
            "fd00::ffff:ffff:ffff:fff0-fd00:0:0:1::f",
            "fe80::1-fe80::9",
            "ff02::1-ff02::9",
            "fd00::1",
            "10.0.0.1-10.0.0.9",
            "a-b",
            "",
        ] {
            assert!(text.parse::<Pool6>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_usual_pool_is_within_its_network() {
        let network = Network6 { address: "fd00:77::1".parse().unwrap(), prefix: 64 };
        let pool = Pool6::usual(network).unwrap();
        assert_eq!(pool.to_string(), "fd00:77::1:0-fd00:77::1:ffff");
        assert_eq!(pool.to_string().parse::<Pool6>().unwrap(), pool);
        assert!(pool.link().contains(network.address));
        assert!(Pool6::usual(Network6 { prefix: 120, ..network }).is_none());
        assert!(Pool6::usual(Network6 { prefix: 128, ..network }).is_none());
    }
}
