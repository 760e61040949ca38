//! What a site is: pure.

use crate::groups::Settings;
use protocol::pieces::Subnet;
use std::net::IpAddr;

/// Bits of the network that is a site where nobody says otherwise.
const V4: u8 = 24;
const V6: u8 = 64;

/// Networks that are sites of themselves: those that we are on.
#[derive(Clone, Debug, Default)]
pub struct Near(pub Vec<Subnet>);

/// The site of a machine that is seen at one address and says that it speaks from another; none where it
/// has none, and fetches from us alone.
///
/// It is the network that the operator names, else the one that we are on too, else the machine's /24 or
/// /64. Where nobody named one, public addresses have none: at home a neighbour's address is a
/// stranger's. Behind a router that translates addresses nobody reaches a machine.
pub fn site(near: &Near, seen: IpAddr, says: IpAddr, own: &Settings) -> Option<Subnet> {
    let seen = seen.to_canonical();
    if own.peers == Some(false) || seen != says.to_canonical() {
        return None;
    }
    if let Some(site) = own.site {
        return site.contains(seen).then_some(site);
    }
    if !is_private(seen) {
        return None;
    }
    let ours = near.0.iter().find(|subnet| subnet.contains(seen));
    let length = if seen.is_ipv4() { V4 } else { V6 };
    Some(ours.copied().unwrap_or_else(|| Subnet::of(seen, length)))
}

/// Whether an address is of a network that routers of the internet do not lead to (RFC 1918, RFC 4193).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str, says: &str, own: &Settings) -> Option<String> {
        let near = Near(vec!["10.77.0.0/16".parse().unwrap()]);
        let site = site(&near, address.parse().unwrap(), says.parse().unwrap(), own);
        site.map(|site| site.to_string())
    }

    #[test]
    fn a_site_is_what_the_operator_names_or_our_network_or_the_machines() {
        let own = Settings::default();
        let alone = |address| of(address, address, &own);
        assert_eq!(alone("10.77.200.3").as_deref(), Some("10.77.0.0/16"));
        assert_eq!(alone("10.78.200.3").as_deref(), Some("10.78.200.0/24"));
        assert_eq!(alone("fd00::7:1").as_deref(), Some("fd00::/64"));
        assert_eq!(of("::ffff:10.77.0.9", "10.77.0.9", &own).as_deref(), Some("10.77.0.0/16"));
        let named = Settings { site: "203.0.113.0/24".parse().ok(), ..Settings::default() };
        assert_eq!(of("203.0.113.9", "203.0.113.9", &named).as_deref(), Some("203.0.113.0/24"));
        assert_eq!(of("10.77.0.9", "10.77.0.9", &named), None);
    }

    #[test]
    fn strangers_and_machines_behind_a_translating_router_have_none() {
        let own = Settings::default();
        assert_eq!(of("203.0.113.9", "203.0.113.9", &own), None);
        assert_eq!(of("2001:db8::1", "2001:db8::1", &own), None);
        assert_eq!(of("10.77.0.1", "192.168.1.9", &own), None);
        let off = Settings { peers: Some(false), ..Settings::default() };
        assert_eq!(of("10.77.0.9", "10.77.0.9", &off), None);
    }
}
