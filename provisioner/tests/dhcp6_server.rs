//! DHCPv6 with its store: whole exchanges, as they come to the server's socket.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[allow(dead_code, reason = "the other tests of DHCPv6 use the rest")]
mod common6;

use common6::{
    IAID, MAC, SOURCE, address, association, client, find, option, options, relayed, request,
    settings, vendor,
};
use provisioner::{
    counters::Counters,
    dhcp6::{
        server::{Handled, Server},
        settings::Settings,
    },
    quirks::matching::Rules,
    store::{Place, Store},
    timeline::Timeline,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv6Addr, SocketAddrV6},
    path::Path,
    sync::Arc,
    time::Duration,
};

fn server(folder: &Path, settings: Settings) -> Server {
    let store =
        Arc::new(Store::open(&Place::File(folder.join("p.sqlite")), BTreeMap::new()).unwrap());
    let counters = Arc::new(Counters::default());
    let timeline = Timeline::start(store.clone(), counters.clone()).unwrap();
    Server { settings, rules: Rules::default(), store, timeline, counters }
}

/// A machine's DUID-LL.
fn duid(n: u8) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &[2, 0, 0, 0, 0, n]].concat()
}

fn ask(message: u8, client: &[u8], wanted: &[Ipv6Addr], us: bool) -> Vec<u8> {
    let mut all = vec![
        option(1, client),
        association(IAID, wanted),
        vendor(b"PXEClient:Arch:00007:UNDI:003000"),
        option(61, &[0, 7]),
    ];
    all.extend(us.then(|| option(2, &settings().duid)));
    request(message, &all)
}

fn handle(server: &Server, bytes: &[u8]) -> Handled {
    let handled = server.handle(bytes, SocketAddrV6::new(SOURCE, 546, 0, 7));
    if let Some(record) = handled.record.clone() {
        server.timeline.record(record);
    }
    handled
}

/// The message type of a reply and the address in it.
fn given(handled: &Handled) -> (u8, Option<Ipv6Addr>) {
    let (bytes, to) = handled.reply.as_ref().unwrap();
    assert_eq!(*to, SocketAddrV6::new(SOURCE, 546, 0, 7), "by the link that it came by");
    let association = find(&options(&bytes[4..]), 3).unwrap();
    let inside = find(&options(&association[12..]), 5);
    let octets = inside.map(|inside| <[u8; 16]>::try_from(&inside[..16]).unwrap());
    (bytes[0], octets.map(Ipv6Addr::from))
}

#[test]
fn an_exchange_gives_an_address_that_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let offered = {
        let server = server(folder.path(), settings());
        let (advertise, offered) = given(&handle(&server, &ask(1, &client(), &[], false)));
        assert_eq!(advertise, 2);
        let wanted = [offered.unwrap()];
        let (reply, granted) = given(&handle(&server, &ask(3, &client(), &wanted, true)));
        assert_eq!((reply, granted), (7, offered));
        server.timeline.flush(Duration::from_secs(5));
        let machine = server.store.machine(MAC, 0).unwrap().unwrap();
        assert_eq!(machine.machine.address, offered.map(|offered| offered.to_string()));
        assert_eq!(machine.machine.boot_mode.as_deref(), Some("pxe"));
        offered.unwrap()
    };
    let again = server(folder.path(), settings());
    let (_, kept) = given(&handle(&again, &ask(5, &client(), &[offered], true)));
    assert_eq!(kept, Some(offered), "renewed after a restart");
    // Another machine cannot have it, whatever it says.
    for message in [1, 3, 5, 6] {
        let us = message == 3 || message == 5;
        let (_, other) = given(&handle(&again, &ask(message, &duid(9), &[offered], us)));
        assert_ne!(other, Some(offered), "{message}");
    }
}

#[test]
fn a_hundred_machines_have_an_address_each_and_the_next_is_told_that_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let pool = "fd00:77::100-fd00:77::163".parse().unwrap();
    let server = server(folder.path(), Settings { pool, ..settings() });
    let mut all = BTreeSet::new();
    for n in 0..100 {
        let (_, offered) = given(&handle(&server, &ask(1, &duid(n), &[], false)));
        let wanted = [offered.unwrap()];
        let (_, granted) = given(&handle(&server, &ask(3, &duid(n), &wanted, true)));
        assert!(all.insert(granted.unwrap()), "{n}");
    }
    assert_eq!(given(&handle(&server, &ask(1, &duid(200), &[], false))), (2, None));
    // What one gives back another has.
    let first = *all.first().unwrap();
    let holder = (0..100).find(|&n| {
        let renewed = given(&handle(&server, &ask(5, &duid(n), &[first], true)));
        renewed.1 == Some(first)
    });
    let release = handle(&server, &ask(8, &duid(holder.unwrap()), &[first], true));
    assert!(release.reply.is_some());
    assert_eq!(given(&handle(&server, &ask(1, &duid(200), &[], false))), (2, Some(first)));
}

#[test]
fn who_cannot_be_told_is_counted_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), settings());
    let nobody = SocketAddrV6::new(address("fe80::9"), 546, 0, 7);
    let handled = server.handle(&ask(1, &client(), &[], false), nobody);
    assert!(handled.reply.is_none() && handled.record.is_none());
    assert_eq!(server.counters.all().get("dhcp6-no-machine"), Some(&1));
    assert_eq!(server.store.count_machines().unwrap(), 0);
    // By its relay's word it is known.
    let named = option(79, &[&[0, 1][..], &MAC.0].concat());
    let link = relayed(0, "::", address("fe80::9"), &named, &ask(1, &client(), &[], false));
    let handled = server.handle(&link, SocketAddrV6::new(address("fd00:77::fe"), 9_999, 0, 0));
    let (_, to) = handled.reply.unwrap();
    assert_eq!(to, SocketAddrV6::new(address("fd00:77::fe"), 547, 0, 0));
    assert_eq!(handled.record.unwrap().mac, MAC);
}
