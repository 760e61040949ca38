//! A DHCP server's offer, as the client library read it.
#![no_main]

use arbitrary::Arbitrary;
use fuzz::target;
use node_init::net::lease::{self, MAX_LISTED, Offer};
use std::net::Ipv4Addr;

#[derive(Arbitrary, Debug)]
struct Offered {
    address: Ipv4Addr,
    mask: Ipv4Addr,
    routers: Vec<Ipv4Addr>,
    classless: Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>>,
    name_servers: Vec<Ipv4Addr>,
    time_servers: Vec<Ipv4Addr>,
    mtu: Option<u16>,
    server: Ipv4Addr,
    seconds: u32,
}

target!(|offered: Offered| {
    let Offered { address, mask, routers, classless, mtu, server, seconds, .. } = offered;
    let Offered { name_servers, time_servers, .. } = offered;
    let offer = Offer {
        address,
        mask,
        routers,
        classless,
        name_servers,
        time_servers,
        mtu,
        server,
        seconds,
    };
    let Ok(lease) = lease::check(&offer) else { return };
    assert!((1..=32).contains(&lease.prefix) && lease.mtu.is_none_or(|mtu| mtu >= 576));
    assert!(lease.routes.len() <= MAX_LISTED && lease.name_servers.len() <= MAX_LISTED);
    assert!(lease.time_servers.len() <= MAX_LISTED);
    for route in &lease.routes {
        assert!(route.prefix <= 32);
        let host_bits = u32::MAX.checked_shr(route.prefix.into()).unwrap_or(0);
        assert_eq!(u32::from(route.to) & host_bits, 0, "{route:?}");
    }
    assert!(lease.on_link(lease.address) && lease.same_configuration(&lease.clone()));
    assert!(lease.resolv_conf().lines().count() <= 3);
    lease.detail();
});
