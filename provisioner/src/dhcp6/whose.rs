//! Which machine sent a request: its MAC address, by what the request itself tells. Never by the
//! kernel's table of neighbours, which is small, late, and anybody's to fill.

use crate::machine::Mac;
use std::{fmt, net::Ipv6Addr};

/// What told a machine's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its DUID (DUID-LLT or DUID-LL, RFC 8415 section 11).
    Duid,
    /// The relay next to it (option 79, RFC 6939).
    Relay,
    /// Its link-local address (RFC 4291 appendix A). EDK2 has no other: its DUID is the SMBIOS UUID.
    LinkLocal,
}

/// Ethernet in IANA's "Hardware Types".
const ETHERNET: [u8; 2] = [0, 1];

/// Tells whose a request is, by the first that can; each only as one machine's address.
pub fn whose(duid: &[u8], relayed: &[&[u8]], source: Ipv6Addr) -> Option<(Mac, Evidence)> {
    let found = [
        (of_duid(duid), Evidence::Duid),
        (relayed.iter().find_map(|option| of_relay(option)), Evidence::Relay),
        (of_link_local(source), Evidence::LinkLocal),
    ];
    found
        .into_iter()
        .find_map(|(mac, evidence)| mac.filter(Mac::is_unicast).map(|mac| (mac, evidence)))
}

/// Type 1 is link-layer address and time, type 3 link-layer address alone.
fn of_duid(duid: &[u8]) -> Option<Mac> {
    match duid {
        [0, 1, a, b, _, _, _, _, mac @ ..] | [0, 3, a, b, mac @ ..] if [*a, *b] == ETHERNET => {
            mac.try_into().ok().map(Mac)
        }
        _ => None,
    }
}

/// Option 79: hardware type and address.
fn of_relay(option: &[u8]) -> Option<Mac> {
    let (kind, mac) = option.split_first_chunk()?;
    (*kind == ETHERNET).then(|| mac.try_into().ok().map(Mac)).flatten()
}

/// `fe80::` and a modified EUI-64: the address with ff:fe in its middle and its second bit turned.
fn of_link_local(source: Ipv6Addr) -> Option<Mac> {
    match source.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => {
            Some(Mac([a ^ 2, b, c, d, e, f]))
        }
        _ => None,
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duid => "its DUID",
            Self::Relay => "its relay",
            Self::LinkLocal => "its link-local address",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUID: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    const RELAY: Mac = Mac([0x52, 0x54, 0, 4, 5, 6]);
    const LINK: Mac = Mac([0x52, 0x54, 0, 7, 8, 9]);

    fn told(duid: &[u8], relayed: &[&[u8]], source: &str) -> Option<(Mac, Evidence)> {
        whose(duid, relayed, source.parse().unwrap())
    }

    #[test]
    fn a_machine_is_told_by_its_duid_then_by_its_relay_then_by_its_address() {
        let ll = [&[0, 3, 0, 1][..], &DUID.0].concat();
        let llt = [&[0, 1, 0, 1, 9, 9, 9, 9][..], &DUID.0].concat();
        let uuid = [&[0, 4][..], &[7; 16]].concat();
        let option = [&[0, 1][..], &RELAY.0].concat();
        let source = "fe80::5054:ff:fe07:809";
        assert_eq!(told(&ll, &[&option], source), Some((DUID, Evidence::Duid)));
        assert_eq!(told(&llt, &[&option], source), Some((DUID, Evidence::Duid)));
        assert_eq!(told(&uuid, &[&option], source), Some((RELAY, Evidence::Relay)));
        assert_eq!(told(&uuid, &[], source), Some((LINK, Evidence::LinkLocal)));
    }

    #[test]
    fn what_is_no_machines_address_tells_nothing() {
        let source = "fe80::1234:5678:9abc:def0";
        assert_eq!(told(&[], &[], source), None, "a made-up interface id");
        assert_eq!(told(&[0, 3, 0, 1, 1, 2], &[], source), None, "cut off");
        assert_eq!(told(&[0, 3, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[], source), None);
        assert_eq!(told(&[0, 3, 0, 32, 2, 2, 3, 4, 5, 6], &[], source), None, "InfiniBand");
        assert_eq!(told(&[], &[&[0, 1, 2, 3]], source), None);
        assert_eq!(told(&[], &[], "2001:db8::5054:ff:fe07:809"), None, "not of this link");
        assert_eq!(told(&[], &[], "fe80::1:5054:ff:fe07:809"), None, "not fe80::/64");
    }
}
