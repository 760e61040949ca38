//! Our IPv6 address on an interface, and the networks that such addresses are of.

use crate::{machine::Mac, net::NetError};
use nix::ifaddrs::getifaddrs;
use std::{fmt, fs, net::Ipv6Addr};

/// An IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network6 {
    /// An address in it.
    pub address: Ipv6Addr,
    /// Bits of its prefix, 0 to 128.
    pub prefix: u8,
}

impl Network6 {
    /// Whether an address belongs to it.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Its first address: all of the host's bits are zero. Every router's (RFC 4291 section
    /// 2.6.1), so it is nobody's own.
    pub fn first(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() & self.mask())
    }

    fn mask(&self) -> u128 {
        let hosts = 128u32.saturating_sub(self.prefix.into());
        u128::MAX.checked_shl(hosts).unwrap_or(0)
    }
}

impl fmt::Display for Network6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

/// An interface's IPv6 side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface6 {
    /// Our address and the network on it.
    pub network: Network6,
    /// The interface's number.
    pub index: u32,
    /// Its Ethernet address; all zero where it has none.
    pub mac: Mac,
    /// Its link-local address.
    pub link_local: Option<Ipv6Addr>,
}

/// A line of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    address: Ipv6Addr,
    index: u32,
    prefix: u8,
    flags: u32,
    name: &'a str,
}

/// if_addr.h: made up for privacy, and gone tomorrow.
const TEMPORARY: u32 = 0x01;
/// Somebody else has it too.
const DAD_FAILED: u32 = 0x08;
/// Not for new connections.
const DEPRECATED: u32 = 0x20;
/// Not known yet to be ours alone: nothing can listen there.
const TENTATIVE: u32 = 0x40;
/// It stays until it is taken away.
const PERMANENT: u32 = 0x80;

/// The interface's address to serve at: the one named, or the best that can be told to machines,
/// global or unique local (RFC 4193), one that stays before one that an advertisement gave.
pub fn find(name: &str, address: Option<Ipv6Addr>) -> Result<Interface6, NetError> {
    // A kernel without IPv6 has no such file.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let chosen = choose(&table, name, address).ok_or_else(|| NetError::NoIpv6 {
        name: name.into(),
        wanted: match address {
            Some(address) => format!("address {address}"),
            None => "global or unique local IPv6 address".into(),
        },
    })?;
    // Not by /sys, which may show another network namespace's.
    let ours = getifaddrs().map_err(NetError::List)?.filter(|entry| entry.interface_name == name);
    let macs = ours.filter_map(|entry| entry.address?.as_link_addr()?.addr());
    let mac = macs.map(Mac).next().unwrap_or(Mac([0; 6]));
    let network = Network6 { address: chosen.address, prefix: chosen.prefix };
    let own = table.lines().filter_map(entry).filter(|entry| entry.name == name);
    let link_local = own.map(|entry| entry.address).find(Ipv6Addr::is_unicast_link_local);
    Ok(Interface6 { network, index: chosen.index, mac, link_local })
}

fn choose<'a>(table: &'a str, name: &str, wanted: Option<Ipv6Addr>) -> Option<Entry<'a>> {
    let entries = table.lines().filter_map(entry).filter(|entry| entry.name == name);
    let usable = entries.filter(|entry| entry.flags & (DAD_FAILED | TENTATIVE) == 0);
    match wanted {
        Some(wanted) => usable.into_iter().find(|entry| entry.address == wanted),
        None => usable
            .filter(|entry| entry.flags & (TEMPORARY | DEPRECATED) == 0)
            .filter(|entry| is_routable(entry.address))
            // The first of those that are equal.
            .min_by_key(|entry| entry.flags & PERMANENT == 0),
    }
}

/// Whether an address means the same to a machine as to us: neither link-local nor loopback.
fn is_routable(address: Ipv6Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unicast_link_local())
}

/// `fd000077…01 03 40 00 80 eth0`: address, number, prefix, scope, flags, name; hexadecimal.
fn entry(line: &str) -> Option<Entry<'_>> {
    let mut words = line.split_whitespace();
    let mut hex = || u128::from_str_radix(words.next()?, 16).ok();
    let address = Ipv6Addr::from_bits(hex()?);
    let index = u32::try_from(hex()?).ok()?;
    let prefix = u8::try_from(hex()?).ok().filter(|prefix| *prefix <= 128)?;
    let (_scope, flags) = (hex()?, u32::try_from(hex()?).ok()?);
    Some(Entry { address, index, prefix, flags, name: words.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
fe80000000000000500400fffe123456 03 40 20 80     eth0
20010db8000000000000000000000bad 03 40 00 01     eth0
20010db800000000500400fffe123456 03 40 00 00     eth0
fd000077000000000000000000000001 03 40 00 80     eth0
fd000077000000000000000000000002 03 40 00 c0     eth0
fd000078000000000000000000000001 04 30 00 80     eth1
00000000000000000000000000000001 01 80 10 80       lo
nonsense
fd000079000000000000000000000001 05 ff 00 80     eth2
";

    fn chosen(name: &str, wanted: Option<&str>) -> Option<(String, u8, u32)> {
        let wanted = wanted.map(|wanted| wanted.parse().unwrap());
        let found = choose(TABLE, name, wanted)?;
        Some((found.address.to_string(), found.prefix, found.index))
    }

    #[test]
    fn an_address_that_stays_comes_before_one_that_an_advertisement_gave() {
        assert_eq!(chosen("eth0", None), Some(("fd00:77::1".into(), 64, 3)));
        assert_eq!(chosen("eth1", None), Some(("fd00:78::1".into(), 48, 4)));
    }

    #[test]
    fn what_a_machine_could_not_reach_is_never_chosen() {
        assert_eq!(chosen("lo", None), None);
        assert_eq!(chosen("eth2", None), None, "a prefix of 255 bits is none");
        assert_eq!(chosen("eth0", Some("fd00:77::2")), None, "tentative");
        assert_eq!(chosen("eth0", Some("fd00:78::1")), None, "another interface's");
    }

    #[test]
    fn the_one_that_was_named_is_taken_as_it_is() {
        assert_eq!(chosen("lo", Some("::1")), Some(("::1".into(), 128, 1)));
        let global = chosen("eth0", Some("2001:db8::5004:ff:fe12:3456"));
        assert_eq!(global.map(|found| found.1), Some(64));
    }

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        let network = Network6 { address: "fd00:77::1".parse().unwrap(), prefix: 64 };
        assert_eq!(network.to_string(), "fd00:77::/64");
        assert!(network.contains("fd00:77::ffff:1".parse().unwrap()));
        assert!(!network.contains("fd00:77:0:1::1".parse().unwrap()));
        let all = Network6 { address: network.address, prefix: 0 };
        assert!(all.contains("::1".parse().unwrap()));
        let one = Network6 { address: network.address, prefix: 128 };
        assert!(one.contains(network.address) && !one.contains(network.first()));
    }
}
