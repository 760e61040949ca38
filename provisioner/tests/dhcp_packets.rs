//! Real firmware's packets, read and answered; and bytes of every other kind, which must do no
//! harm.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use common::{MAC, request, settings};
use proptest::prelude::*;
use provisioner::dhcp::{
    Client, Refused, classify, decide,
    decide::{Facts, Port},
    packet::MAX_LEN,
    parse,
    settings::Mode,
};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

fn captured() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets");
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

/// The readable form: what is read, and what is answered in each mode.
fn readable(name: &str, bytes: &[u8]) -> String {
    let request = parse(bytes).unwrap();
    let client = classify(&request);
    let port = if name.ends_with("-4011") { Port::Binl } else { Port::Dhcp };
    let mut text = format!("{request}\nis             {client}\n");
    for mode in [Mode::Full, Mode::Proxy] {
        let settings = settings(mode);
        let facts = Facts { free: Some([10, 77, 0, 150].into()), ..Facts::default() };
        let answer = decide(&settings, &facts, &request, client, port);
        let _ = write!(text, "\nin {mode:?} mode");
        let _ = match &answer.note {
            Some(note) => writeln!(text, ": {}", note.text),
            None => writeln!(text, ": no answer"),
        };
        if let Some(reply) = answer.reply {
            let bytes = reply.bytes(&settings, &request);
            let _ = writeln!(text, "  {:?} to {:?}", reply.message, reply.to);
            text += &options(&bytes);
        }
    }
    text
}

/// A reply's options, as a person wants to see them.
fn options(bytes: &[u8]) -> String {
    let mut text = String::new();
    let address = |b: &[u8]| b.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
    let _ =
        writeln!(text, "  yiaddr {} siaddr {}", address(&bytes[16..20]), address(&bytes[20..24]));
    let file: Vec<u8> = bytes[108..236].iter().copied().take_while(|&b| b != 0).collect();
    let _ = writeln!(text, "  file {}", String::from_utf8_lossy(&file));
    let mut rest = &bytes[240..];
    while let [code, length, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        let (value, tail) = tail.split_at(usize::from(*length));
        let printable = value.len() > 1 && value.iter().all(|b| b.is_ascii_graphic());
        let shown = match printable {
            true => String::from_utf8_lossy(value).into_owned(),
            false => hex::encode(value),
        };
        let _ = writeln!(text, "  option {code} {shown}");
        rest = tail;
    }
    text
}

#[test]
fn real_firmware_is_read_and_answered_as_written_beside_its_packets() {
    let packets = captured();
    assert!(packets.len() >= 18, "captured packets are missing");
    for (name, bytes) in packets {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/packets/{name}.parsed"));
        let found = readable(&name, &bytes);
        if std::env::var_os("ALIA_UPDATE").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{name}: ALIA_UPDATE=1 writes what is found");
    }
}

#[test]
fn every_cut_of_a_real_packet_is_refused_or_read_but_never_a_panic() {
    for (name, bytes) in captured() {
        let whole = parse(&bytes).unwrap();
        for length in 0..bytes.len() {
            match parse(&bytes[..length]) {
                Ok(part) => assert_eq!(part.mac, whole.mac, "{name} cut at {length}"),
                Err(refused) => {
                    if length < 240 {
                        assert_eq!(refused, Refused::TooShort(length));
                    }
                }
            }
        }
    }
}

#[test]
fn each_kind_of_hostile_packet_has_its_own_reason() {
    let good = request(1, &[]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse(&bytes).unwrap_err()
    };
    assert_eq!(parse(&[]), Err(Refused::TooShort(0)));
    assert_eq!(parse(&vec![0; MAX_LEN + 1]), Err(Refused::TooLong));
    assert_eq!(with(0, 2), Refused::NotARequest(2));
    assert_eq!(with(1, 32), Refused::NotEthernet { kind: 32, length: 6 });
    assert_eq!(with(2, 255), Refused::NotEthernet { kind: 1, length: 255 });
    assert!(matches!(with(28, 0xff), Refused::NotAMachine(_)));
    assert_eq!(with(236, 0), Refused::NoMagic);
    assert_eq!(with(242, 5), Refused::NotAClients(5), "an ACK is a server's");
    assert_eq!(with(242, 99), Refused::NotAClients(99));

    assert_eq!(parse(&good[..240]), Err(Refused::NoMessageType));
    let cut = [&good[..243], &[60, 200, b'P', b'X']].concat();
    assert_eq!(parse(&cut), Err(Refused::CutOff { code: 60, length: 200, left: 2 }));
    assert_eq!(
        parse(&request(1, &[(50, &[10, 0, 0])])),
        Err(Refused::Length { code: 50, found: 3, wanted: 4 })
    );
    assert_eq!(
        parse(&request(1, &[(54, &[])])),
        Err(Refused::Length { code: 54, found: 0, wanted: 4 })
    );
}

#[test]
fn options_that_trip_a_strict_library_do_not_hide_those_behind_them() {
    // A host name that is not UTF-8, an interface option of the wrong length, a bad FQDN.
    let bytes = request(
        1,
        &[(12, &[0xff, 0xfe]), (94, &[1]), (81, &[]), (60, b"PXEClient"), (93, &[0, 7])],
    );
    let read = parse(&bytes).unwrap();
    assert_eq!(read.architectures, [7]);
    assert!(matches!(classify(&read), Client::Firmware(..)));
}

#[test]
fn options_in_the_file_and_name_fields_and_in_parts_are_found() {
    let mut bytes = request(1, &[(52, &[3]), (60, b"PXECl")]);
    bytes[108..115].copy_from_slice(&[60, 4, b'i', b'e', b'n', b't', 255]);
    bytes[44..49].copy_from_slice(&[93, 2, 0, 9, 255]);
    let read = parse(&bytes).unwrap();
    assert_eq!(read.vendor_class, b"PXEClient");
    assert_eq!(read.architectures, [9]);
}

#[test]
fn without_option_93_the_vendor_class_tells_the_architecture() {
    let bytes = request(1, &[(60, b"PXEClient:Arch:00007:UNDI:003016")]);
    let read = parse(&bytes).unwrap();
    assert_eq!((read.architectures.as_slice(), read.guid), (&[7][..], None));
    let nonsense = request(1, &[(60, b"PXEClient:Arch:abc"), (93, &[7])]);
    let read = parse(&nonsense).unwrap();
    assert_eq!(classify(&read), Client::Unsupported(None));
}

#[test]
fn of_several_architectures_one_that_is_served_counts() {
    let read = parse(&request(1, &[(60, b"PXEClient"), (93, &[0, 6, 0, 7])])).unwrap();
    assert!(matches!(classify(&read), Client::Firmware(..)));
    for arch in (0..=45).filter(|arch| ![0, 7, 9, 16].contains(arch)) {
        let read = parse(&request(1, &[(60, b"PXEClient"), (93, &[0, arch])])).unwrap();
        assert_eq!(classify(&read), Client::Unsupported(Some(arch.into())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_reading_or_answering_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..800),
        header in any::<bool>(),
    ) {
        if header && bytes.len() >= 243 {
            let good = request(1 + bytes[0] % 8, &[]);
            bytes[..32].copy_from_slice(&good[..32]);
            bytes[28..34].copy_from_slice(&MAC.0);
            bytes[236..243].copy_from_slice(&good[236..243]);
        }
        answer_in_all_ways(&bytes);
    }

    #[test]
    fn no_alteration_of_a_real_packet_makes_reading_or_answering_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let packets: Vec<Vec<u8>> = captured().into_values().collect();
        let mut bytes = which.get(&packets).clone();
        for (place, value) in changes {
            *place.get_mut(&mut bytes) = value;
        }
        answer_in_all_ways(&bytes);
    }
}

fn answer_in_all_ways(bytes: &[u8]) {
    let Ok(request) = parse(bytes) else { return };
    for mode in [Mode::Full, Mode::Proxy] {
        for port in [Port::Dhcp, Port::Binl] {
            let settings = settings(mode);
            let facts = Facts { free: Some([10, 77, 0, 150].into()), ..Facts::default() };
            let answer = decide(&settings, &facts, &request, classify(&request), port);
            if let Some(reply) = answer.reply {
                let bytes = reply.bytes(&settings, &request);
                assert!(bytes.len() >= 300 && bytes.len() < 3_000, "{} bytes", bytes.len());
                assert_eq!(&bytes[4..8], &request.xid.to_be_bytes());
            }
        }
    }
}
