//! A clock that jumps: who has an address keeps it, and nobody else gets it.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;
#[path = "common/place.rs"]
mod place;

use common::settings;
use provisioner::{
    dhcp::{
        answerer::{Answerer, Packet},
        decide::Port,
        settings::Mode,
    },
    quirks::Rules,
    store::Store,
};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

const YEAR: u64 = 365 * 86_400;
const NOW: u64 = 1_800_000_000;

struct Network {
    answerer: Answerer,
    _folder: tempfile::TempDir,
}

impl Network {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = place::fresh(folder.path()).parse().unwrap();
        let store = Arc::new(Store::open(&place, BTreeMap::new()).unwrap());
        let rules = Rules::load(None, BTreeMap::new()).unwrap();
        let mut settings = settings(Mode::Full);
        settings.pool = "10.77.0.100-10.77.0.101".parse().unwrap();
        Self { answerer: Answerer::new(settings, rules, store), _folder: folder }
    }

    /// The address that a machine is told, if any, where it asks at that time.
    fn asks(
        &self,
        machine: u8,
        message: u8,
        wanted: Option<Ipv4Addr>,
        now: u64,
    ) -> Option<Ipv4Addr> {
        let wanted = wanted.map(|address| address.octets());
        let options: Vec<(u8, &[u8])> =
            wanted.iter().map(|octets| (50, octets.as_slice())).collect();
        let mut bytes = common::request(message, &options);
        bytes[33] = machine;
        let packet = Packet { bytes, sender: "10.77.0.9:68".parse().unwrap() };
        let handled = self.answerer.handle(&[packet], Port::Dhcp, now).remove(0).unwrap();
        let (reply, _) = handled.reply?;
        let told = Ipv4Addr::new(reply[16], reply[17], reply[18], reply[19]);
        (!told.is_unspecified()).then_some(told)
    }

    fn boots(&self, machine: u8, now: u64) -> Option<Ipv4Addr> {
        let offered = self.asks(machine, 1, None, now)?;
        assert_eq!(self.asks(machine, 3, Some(offered), now), Some(offered));
        Some(offered)
    }
}

#[test]
fn a_year_forward_and_back_every_machine_boots_with_the_address_that_it_had() {
    let network = Network::new();
    let first = network.boots(1, NOW).unwrap();
    let second = network.boots(2, NOW).unwrap();
    assert_ne!(first, second);
    for now in [NOW + YEAR, NOW, NOW - YEAR, 0, NOW + 10] {
        assert_eq!(network.boots(1, now), Some(first), "at {now}");
        assert_eq!(network.boots(2, now), Some(second), "at {now}");
        assert_eq!(network.asks(3, 1, None, now), None, "there is no third address, at {now}");
    }
}

#[test]
fn where_the_clock_is_set_while_we_run_leases_go_with_it() {
    let network = Network::new();
    let store = &network.answerer.store;
    network.boots(1, NOW).unwrap();
    network.boots(2, NOW).unwrap();
    // Back by a year: without more, nobody new would get an address for a year.
    let year = i64::try_from(YEAR).unwrap() * 1_000;
    store.shift_deadlines(-year).unwrap();
    assert_eq!(network.asks(3, 1, None, NOW - YEAR + 60), None, "both still hold theirs");
    assert!(network.asks(3, 1, None, NOW - YEAR + 3_700).is_some(), "both are over in an hour");
}

#[test]
fn leases_are_judged_by_the_clock_that_front_ends_share() {
    let network = Network::new();
    let store = &network.answerer.store;
    assert_eq!(store.lease_time(NOW * 1_000), NOW);
    store.set_ahead(i64::try_from(YEAR).unwrap() * 1_000);
    assert_eq!(store.lease_time((NOW + YEAR) * 1_000), NOW);
    store.set_ahead(-1_000_000);
    assert_eq!(store.lease_time(NOW * 1_000), NOW + 1_000);
}
