//! A DHCP packet, from bytes to the reply's bytes, in every part that we can play.
#![no_main]

use fuzz::{switches, target};
use provisioner::dhcp::{
    classify, decide,
    decide::{Facts, Port},
    lease::{Lease, LeaseChange},
    packet::MAX_LEN,
    parse,
    pool::Network,
    settings::{BootMethod, HttpBoot, Mode, Settings},
};
use provisioner::{
    quirks::{OptionValue, Quirks, Rules},
    tftp::care::Care,
};
use std::net::Ipv4Addr;

thread_local! {
    static RULES: Rules = Rules::load(None, Default::default()).expect("the built-in table");
}

target!(|bytes: &[u8]| {
    let Some((switch, packet)) = switches(bytes) else { return };
    let Ok(request) = parse(packet) else { return };
    assert!(packet.len() <= MAX_LEN && request.mac.is_unicast());
    let _ = request.to_string();
    let matched = RULES.with(|rules| rules.quirks(&request));
    let request = matched.corrected(request);
    let settings = Settings {
        mode: if switch(0) { Mode::Full } else { Mode::Proxy },
        network: Network { address: [10, 77, 0, 1].into(), mask: [255, 255, 255, 0].into() },
        // Our own address lies in it, and must not be given out all the same.
        pool: "10.77.0.0-10.77.0.200".parse().expect("a pool"),
        routers: vec![[10, 77, 0, 1].into()],
        dns: vec![[10, 77, 0, 1].into(), [10, 77, 0, 2].into()],
        lease_seconds: 3600,
        base_url: "http://10.77.0.1:8080".into(),
        https_url: "https://10.77.0.1:8443".into(),
        http_boot: if switch(0) { HttpBoot::Https } else { HttpBoot::Http },
        bios_file: "undionly.kpxe".into(),
        uefi_file: "snponly.efi".into(),
        uki: Some("aliaos.efi".into()).filter(|_| switch(7)),
    };
    // An address that was in the pool before the pool was changed.
    let held = Ipv4Addr::new(10, 77, 0, if switch(1) { 150 } else { 250 });
    let lease = Lease { address: held, mac: Some(request.mac), expires: 2_000 };
    let facts = Facts {
        now: 1_000,
        lease: Some(lease).filter(|_| switch(2)),
        wanted_is_taken: switch(3),
        free: Some(Ipv4Addr::new(10, 77, 0, 160)).filter(|_| switch(4)),
        quirks: Quirks {
            method: if switch(5) { BootMethod::BootServer } else { BootMethod::File },
            replace_ipxe: switch(6),
            https: Some(switch(2)).filter(|_| switch(5)),
            care: Care { window: Some(1).filter(|_| switch(3)), ..Care::default() },
            add_options: vec![OptionValue { code: 209, value: vec![7; 64] }],
            drop_options: vec![60, 66],
            ..matched
        },
        loaded_ipxe: switch(7),
        took_uki: switch(6),
    };
    for port in [Port::Dhcp, Port::Binl] {
        let answer = decide(&settings, &facts, &request, classify(&request), port);
        let given = |address: Ipv4Addr| {
            let known = settings.pool.contains(address) && address != settings.server();
            assert!(known || facts.lease.is_some_and(|lease| lease.address == address));
            assert!(settings.mode == Mode::Full && port == Port::Dhcp);
        };
        if let LeaseChange::Hold(address, _) | LeaseChange::Decline(address, _) = answer.lease {
            given(address);
        }
        let Some(reply) = answer.reply else { continue };
        reply.address.into_iter().for_each(given);
        check(&reply.bytes(&settings, &request), request.xid, packet.len());
    }
});

/// A reply must be one: its header, and options that end in their own bounds.
fn check(reply: &[u8], xid: u32, asked: usize) {
    assert!((300..=asked + 600).contains(&reply.len()), "{} bytes for {asked}", reply.len());
    assert_eq!((reply[0], &reply[4..8]), (2, &xid.to_be_bytes()[..]));
    assert_eq!(reply[236..240], [99, 130, 83, 99]);
    let mut rest = &reply[240..];
    loop {
        match rest {
            [255, padding @ ..] => return assert!(padding.iter().all(|byte| *byte == 0)),
            [0, tail @ ..] => rest = tail,
            [_, length, tail @ ..] => rest = &tail[usize::from(*length)..],
            _ => panic!("options without an end"),
        }
    }
}
