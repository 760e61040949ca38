//! Bytes of every kind as DHCPv6, which must do no harm.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[allow(dead_code, reason = "the other tests of DHCPv6 use the rest")]
mod common6;

use common6::{
    IAID, SOURCE, address, answer, association, bytes, client, option, options, relayed, request,
    settings, vendor,
};
use proptest::prelude::*;
use provisioner::dhcp6::{
    Refused,
    decide::Facts,
    packet::{MAX_LEN, MAX_RELAYS},
    parse,
};
use std::{collections::BTreeMap, fmt::Write, fs, net::Ipv6Addr, path::Path};

/// What firmware sent in QEMU, by the names of the files.
fn captured() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets6");
    let mut packets = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hex") {
            let text: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            packets.insert(name, hex::decode(text).unwrap());
        }
    }
    packets
}

/// One of each kind, with all that is read.
fn made_up() -> Vec<Vec<u8>> {
    let kinds = [1, 3, 4, 5, 6, 8, 9, 11];
    let all = kinds.map(|kind| {
        let mut options = vec![
            option(1, &client()),
            vendor(b"HTTPClient:Arch:00016:UNDI:003000"),
            option(61, &[0, 16]),
            option(6, &[0, 59, 0, 60, 0, 23]),
        ];
        if kind != 11 {
            options.push(association(IAID, &[address("fd00:77::150")]));
        }
        if [3, 5, 8, 9].contains(&kind) {
            options.push(option(2, &settings().duid));
        }
        request(kind, &options)
    });
    let relayed =
        all.clone().map(|letter| relayed(0, "fd00:77::fe", SOURCE, &option(18, b"7"), &letter));
    all.into_iter().chain(relayed).collect()
}

/// The source address of captured packets: the lab's first machine's.
fn lab() -> Ipv6Addr {
    address("fe80::5054:ff:fea1:1a01")
}

#[test]
fn real_firmware_is_read_and_answered_as_written_beside_its_packets() {
    for (name, packet) in captured() {
        let request = parse(&packet, lab()).unwrap();
        let client = provisioner::dhcp6::classify(&request);
        let mut found = format!("{request}\nis             {client}\n\n");
        // What it chose was the lab's server.
        let duid = request.server.clone().unwrap_or_else(|| settings().duid);
        let settings = provisioner::dhcp6::settings::Settings { duid, ..settings() };
        let facts = Facts { free: Some(address("fd00:77::150")), ..Facts::default() };
        let answer = provisioner::dhcp6::decide(&settings, &facts, &request, client);
        let _ = writeln!(found, "{}", answer.note.as_ref().map_or("no answer", |note| &note.text));
        if let Some(reply) = answer.reply {
            let bytes = reply.bytes(&settings, &request);
            let _ = writeln!(found, "  {:?}", reply.message);
            for (code, value) in options(&bytes[4..]) {
                let printable = value.len() > 1 && value.iter().all(|b| b.is_ascii_graphic());
                let shown = match printable {
                    true => String::from_utf8_lossy(&value).into_owned(),
                    false => hex::encode(value),
                };
                let _ = writeln!(found, "  option {code} {shown}");
            }
        }
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/packets6/{name}.parsed"));
        if std::env::var_os("ALIA_UPDATE").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: ALIA_UPDATE=1 writes what is found");
    }
}

#[test]
fn each_kind_of_hostile_packet_has_its_own_reason() {
    let refused = |bytes: &[u8]| parse(bytes, SOURCE).unwrap_err();
    let good = request(1, &[option(1, &client())]);
    assert!(parse(&good, SOURCE).is_ok());
    assert_eq!(refused(&[]), Refused::TooShort(0));
    assert_eq!(refused(&good[..3]), Refused::TooShort(3));
    assert_eq!(refused(&vec![1; MAX_LEN + 1]), Refused::TooLong);
    for kind in [0, 2, 7, 10, 13, 14, 36, 255] {
        let bytes = request(kind, &[option(1, &client())]);
        assert_eq!(refused(&bytes), Refused::NotAClients(kind), "{kind}");
    }
    let cut = [&good[..], &[0, 3, 0, 200, 1]].concat();
    assert_eq!(refused(&cut), Refused::CutOff { code: 3, length: 200, left: 1 });
    assert_eq!(
        refused(&[&good[..], &[0]].concat()),
        Refused::CutOff { code: 0, length: 4, left: 1 }
    );
    let short = request(1, &[option(1, &client()), option(3, &[0; 11])]);
    assert_eq!(refused(&short), Refused::Length { code: 3, found: 11, wanted: 12 });
    let inside = option(3, &[&[0; 12][..], &[0, 5, 0, 24, 1]].concat());
    let inside = request(1, &[option(1, &client()), inside]);
    assert_eq!(refused(&inside), Refused::CutOff { code: 5, length: 24, left: 1 });
    assert_eq!(refused(&request(1, &[])), Refused::Duid(0));
    assert_eq!(refused(&request(1, &[option(1, &[0, 4])])), Refused::Duid(2));
    assert_eq!(refused(&request(1, &[option(1, &[0; 131])])), Refused::Duid(131));
    assert_eq!(refused(&relayed(0, "::", SOURCE, &[], &[])), Refused::TooShort(0));
    let empty = [&[12, 0][..], &[0; 32]].concat();
    assert_eq!(refused(&empty), Refused::NothingRelayed);
    assert_eq!(refused(&empty[..30]), Refused::TooShort(30));
    let strange = parse(&good, address("fd00:77::9")).unwrap_err();
    assert_eq!(strange, Refused::Stranger);
    let unknown = parse(&good, address("fe80::9")).unwrap_err();
    assert_eq!(unknown, Refused::NoMachine);
    assert!(unknown.to_string().contains("option 79") && unknown.counter() == "dhcp6-no-machine");
}

#[test]
fn relays_nest_to_their_limit_and_no_further() {
    let mut bytes = request(1, &[option(1, &client())]);
    for hops in 0..MAX_RELAYS {
        bytes = relayed(hops as u8, "::", SOURCE, &[], &bytes);
        assert_eq!(parse(&bytes, SOURCE).unwrap().relays.len(), hops + 1);
    }
    let more = relayed(9, "::", SOURCE, &[], &bytes);
    assert_eq!(parse(&more, SOURCE), Err(Refused::TooManyRelays));
}

#[test]
fn options_that_trip_the_library_do_no_harm() {
    // Its readers of these take the head's length for granted, at the top and within an IA_NA.
    for code in [11, 13, 16, 17] {
        for length in 0..4 {
            let bad = option(code, &vec![0; length]);
            let within = option(3, &[&[0; 12][..], &bad].concat());
            let bytes = request(1, &[option(1, &client()), bad, within]);
            assert_eq!(parse(&bytes, SOURCE).unwrap().associations.len(), 1);
        }
    }
}

#[test]
fn every_cut_of_a_request_is_refused_or_read_but_never_a_panic() {
    for bytes in made_up().into_iter().chain(captured().into_values()) {
        for length in 0..bytes.len() {
            answered(&bytes[..length], SOURCE);
        }
    }
}

/// Whatever is read is answered by a message that ends in its own bounds, and is not much longer
/// than what was asked: nobody is flooded through us.
fn answered(packet: &[u8], source: Ipv6Addr) {
    let Ok(request) = parse(packet, source) else { return };
    let _ = request.to_string();
    let held = provisioner::dhcp6::lease::Lease { address: address("fd00:77::150"), expires: 5 };
    for lease in [None, Some(held)] {
        let free = Some(address("fd00:77::160"));
        let facts = Facts { lease, free, ..Facts::default() };
        let client = provisioner::dhcp6::classify(&request);
        let answer = provisioner::dhcp6::decide(&settings(), &facts, &request, client);
        if let Some(reply) = answer.reply {
            let bytes = reply.bytes(&settings(), &request);
            assert!(bytes.len() < 1_000 + 2 * packet.len(), "{} bytes", bytes.len());
            options(&bytes[if request.relays.is_empty() { 4 } else { 34 }..]);
        }
    }
}

#[test]
fn every_made_up_request_is_answered() {
    for packet in made_up() {
        let facts = Facts { free: Some(address("fd00:77::160")), ..Facts::default() };
        let answer = answer(&settings(), &facts, &packet);
        assert!(!bytes(&answer, &settings(), &packet).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_reading_or_answering_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        head in any::<bool>(),
    ) {
        if head {
            let kind = bytes.first().map_or(1, |byte| 1 + byte % 12);
            bytes = [request(kind, &[option(1, &client())]), bytes].concat();
        }
        answered(&bytes, SOURCE);
    }

    #[test]
    fn no_alteration_of_a_request_makes_reading_or_answering_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = which.get(&made_up()).clone();
        for (place, value) in changes {
            *place.get_mut(&mut bytes) = value;
        }
        answered(&bytes, SOURCE);
    }
}
