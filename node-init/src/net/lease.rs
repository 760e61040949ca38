//! What a DHCP lease tells us, checked: the answer of a server that nobody vouched for.

use std::{fmt::Write as _, net::Ipv4Addr};

/// The most routes and the most name servers that are taken from a lease: an answer of 1,500
/// bytes could hold hundreds.
pub const MAX_LISTED: usize = 32;
/// The least MTU that is taken: what every host must accept (RFC 791).
const MIN_MTU: u16 = 576;

/// A DHCPv4 lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix, 1 to 32.
    pub prefix: u8,
    /// Routes, the default route among them.
    pub routes: Vec<Route>,
    /// Name servers.
    pub name_servers: Vec<Ipv4Addr>,
    /// NTP servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// The link's MTU where the server says one.
    pub mtu: Option<u16>,
    /// The server.
    pub server: Ipv4Addr,
    /// How long it holds, in seconds.
    pub seconds: u32,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Ipv4Addr,
    /// Length of the destination's prefix, 0 to 32.
    pub prefix: u8,
    /// By which router; none where the destination is on the link.
    pub by: Option<Ipv4Addr>,
}

/// What a server offered, as the DHCP client read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `yiaddr`.
    pub address: Ipv4Addr,
    /// Option 1; all zero where there is none.
    pub mask: Ipv4Addr,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 121: destination, prefix length, router.
    pub classless: Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>>,
    /// Option 6.
    pub name_servers: Vec<Ipv4Addr>,
    /// Option 42.
    pub time_servers: Vec<Ipv4Addr>,
    /// Option 26.
    pub mtu: Option<u16>,
    /// Option 54.
    pub server: Ipv4Addr,
    /// Option 51.
    pub seconds: u32,
}

/// An offer makes no sense. The DHCP server is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Its address is none for a host.
    #[error("DHCP server {server} offers {address}, which no host can have: mend its pool")]
    Address {
        /// The server.
        server: Ipv4Addr,
        /// The address.
        address: Ipv4Addr,
    },
    /// Its mask has holes.
    #[error("DHCP server {server} offers subnet mask {mask}, which is none: mend its option 1")]
    Mask {
        /// The server.
        server: Ipv4Addr,
        /// The mask.
        mask: Ipv4Addr,
    },
}

/// Checks an offer.
pub fn check(offer: &Offer) -> Result<Lease, LeaseError> {
    let Offer { address, mask, server, .. } = *offer;
    if !is_host(address) {
        return Err(LeaseError::Address { server, address });
    }
    let prefix = match mask {
        Ipv4Addr::UNSPECIFIED => natural_prefix(address),
        mask => {
            let bits = u32::from(mask);
            if bits.leading_ones() != bits.count_ones() {
                return Err(LeaseError::Mask { server, mask });
            }
            bits.leading_ones() as u8
        }
    };
    let routes = match &offer.classless {
        // RFC 3442: who gets option 121 must pass over option 3.
        Some(routes) => routes.iter().filter_map(|route| classless(*route)).collect(),
        None => {
            let router = offer.routers.iter().copied().find(|router| is_host(*router));
            let default = |by| Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, by: Some(by) };
            router.map(default).into_iter().collect::<Vec<_>>()
        }
    };
    let bounded = |list: &[Ipv4Addr]| {
        list.iter().copied().filter(|server| is_host(*server)).take(MAX_LISTED).collect()
    };
    Ok(Lease {
        address,
        prefix,
        routes: routes.into_iter().take(MAX_LISTED).collect(),
        name_servers: bounded(&offer.name_servers),
        time_servers: bounded(&offer.time_servers),
        mtu: offer.mtu.filter(|mtu| *mtu >= MIN_MTU),
        server,
        seconds: offer.seconds,
    })
}

fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_broadcast()
        && !address.is_loopback()
        && address.octets()[0] != 0
}

/// Without a mask the address's class decides (RFC 950).
fn natural_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

fn classless((to, prefix, router): (Ipv4Addr, u8, Ipv4Addr)) -> Option<Route> {
    if prefix > 32 || !(router.is_unspecified() || is_host(router)) {
        return None;
    }
    // Bits after the prefix would make the kernel refuse the route.
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let to = Ipv4Addr::from(u32::from(to) & mask);
    Some(Route { to, prefix, by: (!router.is_unspecified()).then_some(router) })
}

impl Lease {
    /// Whether an address is on the lease's own network.
    pub fn on_link(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.address) & mask
    }

    /// Whether two leases mean the same configuration; how long they hold may differ.
    pub fn same_configuration(&self, other: &Self) -> bool {
        *self == Self { seconds: self.seconds, server: self.server, ..other.clone() }
    }

    /// For `/etc/resolv.conf` (resolv.conf(5)).
    pub fn resolv_conf(&self) -> String {
        let mut text = String::new();
        // The resolver takes three.
        for server in self.name_servers.iter().take(3) {
            let _ = writeln!(text, "nameserver {server}");
        }
        text
    }

    /// `10.1.2.3/24 by DHCP from 10.1.2.1`.
    pub fn detail(&self) -> String {
        format!("{}/{} by DHCP from {}", self.address, self.prefix, self.server)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn offer() -> Offer {
        Offer {
            address: Ipv4Addr::new(10, 1, 2, 3),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            routers: vec![Ipv4Addr::new(10, 1, 2, 1)],
            classless: None,
            name_servers: vec![Ipv4Addr::new(10, 1, 2, 1)],
            time_servers: vec![Ipv4Addr::new(10, 1, 2, 7)],
            mtu: None,
            server: Ipv4Addr::new(10, 1, 2, 1),
            seconds: 600,
        }
    }

    #[test]
    fn an_ordinary_offer_is_a_lease_with_a_default_route() {
        let lease = check(&offer()).unwrap();
        assert_eq!(lease.detail(), "10.1.2.3/24 by DHCP from 10.1.2.1");
        let by = Some(Ipv4Addr::new(10, 1, 2, 1));
        assert_eq!(lease.routes, [Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, by }]);
        assert_eq!(lease.resolv_conf(), "nameserver 10.1.2.1\n");
        assert!(lease.on_link(Ipv4Addr::new(10, 1, 2, 200)));
        assert!(!lease.on_link(Ipv4Addr::new(10, 1, 3, 200)));
    }

    #[test]
    fn classless_routes_take_the_routers_place() {
        let on_link = (Ipv4Addr::new(10, 9, 8, 7), 16, Ipv4Addr::UNSPECIFIED);
        let routed = (Ipv4Addr::UNSPECIFIED, 0, Ipv4Addr::new(10, 1, 2, 254));
        let wrong = (Ipv4Addr::UNSPECIFIED, 40, Ipv4Addr::new(10, 1, 2, 254));
        let offer = Offer { classless: Some(vec![on_link, routed, wrong]), ..offer() };
        let wanted = [
            Route { to: Ipv4Addr::new(10, 9, 0, 0), prefix: 16, by: None },
            Route { to: Ipv4Addr::UNSPECIFIED, prefix: 0, by: Some(Ipv4Addr::new(10, 1, 2, 254)) },
        ];
        assert_eq!(check(&offer).unwrap().routes, wanted);
    }

    #[test]
    fn without_a_mask_the_class_decides_and_a_mask_with_holes_is_refused() {
        let none = Offer { mask: Ipv4Addr::UNSPECIFIED, ..offer() };
        assert_eq!(check(&none).unwrap().prefix, 8);
        let mask = Ipv4Addr::new(255, 0, 255, 0);
        let error = check(&Offer { mask, ..offer() }).unwrap_err();
        assert_eq!(error, LeaseError::Mask { server: offer().server, mask });
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused() {
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [255; 4], [224, 0, 0, 1], [0, 1, 2, 3]] {
            let address = Ipv4Addr::from(address);
            assert!(check(&Offer { address, ..offer() }).is_err(), "{address}");
        }
    }

    #[test]
    fn a_renewal_that_changes_nothing_is_told_from_one_that_does() {
        let lease = check(&offer()).unwrap();
        assert!(lease.same_configuration(&Lease { seconds: 9, ..lease.clone() }));
        assert!(!lease.same_configuration(&Lease { prefix: 16, ..lease.clone() }));
    }

    #[test]
    fn a_tiny_mtu_is_passed_over() {
        assert_eq!(check(&Offer { mtu: Some(68), ..offer() }).unwrap().mtu, None);
        assert_eq!(check(&Offer { mtu: Some(1450), ..offer() }).unwrap().mtu, Some(1450));
    }

    fn address() -> impl Strategy<Value = Ipv4Addr> {
        any::<u32>().prop_map(Ipv4Addr::from)
    }

    proptest! {
        #[test]
        fn no_offer_panics_and_every_lease_is_bounded(
            (address, mask, server) in (address(), address(), address()),
            routers in proptest::collection::vec(address(), 0..50),
            classless in proptest::option::of(
                proptest::collection::vec((address(), any::<u8>(), address()), 0..50)),
            name_servers in proptest::collection::vec(address(), 0..50),
            time_servers in proptest::collection::vec(address(), 0..50),
            mtu: Option<u16>,
            seconds: u32,
        ) {
            let offer =
                Offer { address, mask, routers, classless, name_servers, time_servers, mtu, server, seconds };
            if let Ok(lease) = check(&offer) {
                prop_assert!((1..=32).contains(&lease.prefix));
                prop_assert!(lease.routes.len() <= MAX_LISTED);
                prop_assert!(lease.on_link(lease.address));
                prop_assert!(lease.resolv_conf().lines().count() <= 3);
            }
        }
    }
}
