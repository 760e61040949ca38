//! A DHCPv6 packet, from bytes to the reply's bytes, and an advertisement that somebody else sent.
#![no_main]

use fuzz::{switches, target};
use provisioner::{
    dhcp::settings::HttpBoot,
    dhcp6::{
        classify, decide,
        decide::Facts,
        lease::{Lease, LeaseChange},
        packet::{MAX_LEN, MAX_RELAYS},
        parse,
        reply::Given,
        settings::{Settings, duid},
    },
    machine::Mac,
    net6::Network6,
    quirks::Quirks,
    ra,
};
use std::net::Ipv6Addr;

const US: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfeaa, 0x0009);

target!(|bytes: &[u8]| {
    let Some((switch, packet)) = switches(bytes) else { return };
    let _ = ra::packet::read(packet, SOURCE, 255);
    let Ok(request) = parse(packet, SOURCE) else { return };
    assert!(packet.len() <= MAX_LEN && request.mac.is_unicast());
    assert!(request.relays.len() <= MAX_RELAYS);
    let _ = request.to_string();
    let settings = Settings {
        network: Network6 { address: US, prefix: 64 },
        duid: duid(Mac([2, 0xa1, 0x1a, 0, 0, 1])),
        // Our own address lies in it, and that of all routers; neither must be given out.
        pool: "fd00:77::-fd00:77::1ff".parse().expect("a pool"),
        dns: vec![US; if switch(0) { 2 } else { 0 }],
        lease_seconds: 3600,
        base_url: "http://[fd00:77::1]:8080".into(),
        https_url: "https://[fd00:77::1]:8443".into(),
        http_boot: HttpBoot::Https,
        bios_file: "undionly.kpxe".into(),
        uefi_file: "snponly.efi".into(),
        uki: Some("aliaos.efi".into()).filter(|_| switch(1)),
    };
    // An address that was in the pool before the pool was changed.
    let held = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, if switch(2) { 0x150 } else { 0x250 });
    let facts = Facts {
        now: 1_000,
        lease: Some(Lease { address: held, expires: 2_000 }).filter(|_| switch(3)),
        wanted_is_taken: switch(4),
        free: Some(Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x160)).filter(|_| switch(5)),
        quirks: Quirks { replace_ipxe: switch(6), ..Quirks::default() },
        loaded_ipxe: switch(7),
        took_uki: switch(6),
    };
    let answer = decide(&settings, &facts, &request, classify(&request));
    let given = |address: Ipv6Addr| {
        let known = settings.pool.contains(address)
            && address != US
            && address != settings.pool.link().first();
        assert!(known || facts.lease.is_some_and(|lease| lease.address == address));
    };
    if let LeaseChange::Hold(address, _) | LeaseChange::Decline(address, _) = answer.lease {
        given(address);
    }
    let Some(reply) = answer.reply else { return };
    if let Some(Given::Address(address)) = &reply.association {
        given(*address);
    }
    let bytes = reply.bytes(&settings, &request);
    assert!(bytes.len() < 1_000 + 2 * packet.len(), "{} bytes", bytes.len());
    check(&bytes, request.relays.len(), request.xid);
});

/// A reply must be one: as many envelopes as came, and options that end in their own bounds.
fn check(mut bytes: &[u8], relays: usize, xid: [u8; 3]) {
    for _ in 0..relays {
        assert_eq!(bytes[0], 13);
        bytes = options(&bytes[34..]).expect("what was relayed");
    }
    assert!(matches!(bytes[0], 2 | 7) && bytes[1..4] == xid);
    options(&bytes[4..]);
}

/// Walks options; gives the relayed message among them.
fn options(mut rest: &[u8]) -> Option<&[u8]> {
    let mut letter = None;
    while let [a, b, c, d, tail @ ..] = rest {
        let (value, tail) = tail.split_at(usize::from(u16::from_be_bytes([*c, *d])));
        if [*a, *b] == [0, 9] {
            letter = Some(value);
        }
        rest = tail;
    }
    assert!(rest.is_empty());
    letter
}
