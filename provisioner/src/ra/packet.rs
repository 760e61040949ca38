//! An advertisement's bytes, and what we read of others'.

use crate::{machine::Mac, net6::Network6};
use std::net::Ipv6Addr;

/// ICMPv6's type of a solicitation (RFC 4861 section 4.1).
const SOLICITATION: u8 = 133;
/// ICMPv6's type of an advertisement (RFC 4861 section 4.2).
const ADVERTISEMENT: u8 = 134;
/// Addresses come by DHCPv6, and so does the rest (flags M and O).
const MANAGED: u8 = 0x80 | 0x40;
/// The prefix is on the link (flag L): its addresses are reached without a router.
const ON_LINK: u8 = 0x80;
/// Machines make addresses of the prefix (flag A): node-init's way to one.
const AUTONOMOUS: u8 = 0x40;
/// For packets that machines send; what RFC 1700 has.
const HOP_LIMIT: u8 = 64;
/// How long the prefix holds and is preferred, seconds: RFC 4861's defaults (section 6.2.1), 30
/// days and 7. Where we are gone for less, nobody loses an address.
const VALID: u32 = 2_592_000;
const PREFERRED: u32 = 604_800;
/// How long a router is a router without a word, seconds: three times the longest pause (RFC 4861
/// section 6.2.1).
pub const ROUTER_SECONDS: u16 = 1_800;

/// What we advertise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The prefix on the link.
    pub network: Network6,
    /// Whether this host is the way out.
    pub router: bool,
    /// Our Ethernet address, which saves machines a question.
    pub mac: Mac,
    /// The link's MTU.
    pub mtu: u16,
    /// DNS servers (RFC 8106).
    pub dns: Vec<Ipv6Addr>,
}

impl Advertisement {
    /// Its bytes. The checksum is the kernel's to write (RFC 3542 section 3.1).
    pub fn bytes(&self) -> Vec<u8> {
        let lifetime = if self.router { ROUTER_SECONDS } else { 0 };
        let mut bytes = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, MANAGED];
        bytes.extend(lifetime.to_be_bytes());
        // Reachable time and retransmission timer: unspecified.
        bytes.extend([0; 8]);
        // Source link-layer address.
        bytes.extend([1, 1]);
        bytes.extend(self.mac.0);
        // MTU.
        bytes.extend([5, 1, 0, 0]);
        bytes.extend(u32::from(self.mtu).to_be_bytes());
        // Prefix information. Only of 64 bits can an address be made (RFC 4862 section 5.5.3).
        let flags = if self.network.prefix == 64 { ON_LINK | AUTONOMOUS } else { ON_LINK };
        bytes.extend([3, 4, self.network.prefix, flags]);
        bytes.extend(VALID.to_be_bytes());
        bytes.extend(PREFERRED.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.network.first().octets());
        // Recursive DNS servers: units of eight bytes, one before the addresses.
        let dns = self.dns.get(..MAX_DNS.min(self.dns.len())).unwrap_or_default();
        if !dns.is_empty() {
            bytes.extend([25, 1 + 2 * dns.len() as u8, 0, 0]);
            bytes.extend(VALID.to_be_bytes());
            dns.iter().for_each(|server| bytes.extend(server.octets()));
        }
        bytes
    }
}

/// The most DNS servers told: resolvers look at three.
const MAX_DNS: usize = 8;

/// What comes to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A machine asks for an advertisement.
    Solicitation,
    /// Somebody else advertises.
    Other {
        /// Whether machines are told to ask for addresses by DHCPv6.
        managed: bool,
        /// Whether it is a way out.
        router: bool,
    },
}

/// Reads a packet of ICMPv6. Both kinds are only believed with a hop limit of 255, which nobody
/// behind a router can send, and advertisements only from link-local addresses (RFC 4861 sections
/// 6.1.1 and 6.1.2).
pub fn read(bytes: &[u8], source: Ipv6Addr, hops: u8) -> Option<Heard> {
    let &[kind, code, _, _, _, flags, a, b, ..] = bytes else { return None };
    if hops != 255 || code != 0 {
        return None;
    }
    match kind {
        SOLICITATION => Some(Heard::Solicitation),
        ADVERTISEMENT if bytes.len() >= 16 && source.is_unicast_link_local() => {
            Some(Heard::Other { managed: flags & 0x80 != 0, router: [a, b] != [0, 0] })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn advertisement() -> Advertisement {
        Advertisement {
            network: Network6 { address: "fd00:77::1".parse().unwrap(), prefix: 64 },
            router: false,
            mac: Mac([2, 0xa1, 0x1a, 0, 0, 1]),
            mtu: 1500,
            dns: vec!["fd00:77::53".parse().unwrap()],
        }
    }

    #[test]
    fn an_advertisement_has_rfc_4861s_layout() {
        #[rustfmt::skip]
        let wanted = [
            // Type, code, checksum; hop limit, M and O, router lifetime.
            134, 0, 0, 0,  64, 0xc0, 0, 0,
            // Reachable time; retransmission timer.
            0, 0, 0, 0,  0, 0, 0, 0,
            // Source link-layer address.
            1, 1, 2, 0xa1, 0x1a, 0, 0, 1,
            // MTU 1500.
            5, 1, 0, 0, 0, 0, 0x05, 0xdc,
            // Prefix information: 64 bits, L and A, 30 days, 7 days, reserved.
            3, 4, 64, 0xc0,  0, 0x27, 0x8d, 0,  0, 0x09, 0x3a, 0x80,  0, 0, 0, 0,
            0xfd, 0, 0, 0x77, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
            // RFC 8106: three units, reserved, lifetime, an address.
            25, 3, 0, 0,  0, 0x27, 0x8d, 0,
            0xfd, 0, 0, 0x77, 0, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0x53,
        ];
        assert_eq!(advertisement().bytes(), wanted);
    }

    #[test]
    fn only_a_host_that_is_the_way_out_has_a_lifetime_as_a_router() {
        let out = Advertisement { router: true, ..advertisement() }.bytes();
        assert_eq!(out[6..8], ROUTER_SECONDS.to_be_bytes());
        assert_eq!(advertisement().bytes()[6..8], [0, 0]);
    }

    #[test]
    fn of_a_prefix_that_is_not_of_64_bits_no_addresses_are_made() {
        let network = Network6 { prefix: 80, ..advertisement().network };
        let bytes = Advertisement { network, ..advertisement() }.bytes();
        assert_eq!(bytes[34..36], [80, ON_LINK]);
    }

    #[test]
    fn what_came_through_a_router_is_not_believed() {
        let link: Ipv6Addr = "fe80::1".parse().unwrap();
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(&solicitation, link, 255), Some(Heard::Solicitation));
        let unspecified = Ipv6Addr::UNSPECIFIED;
        assert_eq!(read(&solicitation, unspecified, 255), Some(Heard::Solicitation));
        assert_eq!(read(&solicitation, link, 254), None);
        let other = advertisement().bytes();
        assert_eq!(read(&other, link, 255), Some(Heard::Other { managed: true, router: false }));
        assert_eq!(read(&other, "fd00:77::9".parse().unwrap(), 255), None);
        assert_eq!(read(&other[..15], link, 255), None);
        assert_eq!(read(&[128, 0, 0, 0, 0, 0, 0, 0], link, 255), None, "an echo request");
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            hops: u8,
        ) {
            let _ = read(&bytes, Ipv6Addr::LOCALHOST, hops);
        }
    }
}
