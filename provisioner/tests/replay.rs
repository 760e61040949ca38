//! Captures, replayed: those in `captures/`, and ones that are made here.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use clap::Parser;
use etherparse::PacketBuilder;
use provisioner::{
    machine::Mac,
    replay::{self, ReplayOptions, Report},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    options: ReplayOptions,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn replayed(path: &Path, words: &[&str]) -> Report {
    let name = path.to_str().unwrap();
    let flags = [&["replay", name], words].concat();
    replay::run(Flags::try_parse_from(flags).unwrap().options).unwrap()
}

/// A request of real firmware.
fn packet(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder("packets").join(format!("{name}.hex"))).unwrap();
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
}

/// A server's reply to a request: message type, address, next server, file, options.
fn reply(
    request: &[u8],
    message: u8,
    address: [u8; 4],
    next: [u8; 4],
    file: &str,
    options: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut bytes = request[..240].to_vec();
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address);
    bytes[20..24].copy_from_slice(&next);
    bytes[108..108 + file.len()].copy_from_slice(file.as_bytes());
    bytes.extend([53, 1, message]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes
}

type End = ([u8; 4], u16);

const NOBODY: End = ([0; 4], 68);
const ALL: End = ([255; 4], 67);
const ALL_CLIENTS: End = ([255; 4], 68);

/// Frames, each some milliseconds after the one before.
#[derive(Default)]
struct Tape {
    frames: Vec<(u64, Vec<u8>)>,
    now: u64,
}

impl Tape {
    fn udp(&mut self, after_ms: u64, from: End, to: End, payload: &[u8]) -> &mut Self {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0xff; 6])
            .ipv4(from.0, to.0, 64)
            .udp(from.1, to.1)
            .write(&mut frame, payload)
            .unwrap();
        self.frame(after_ms, frame)
    }

    fn frame(&mut self, after_ms: u64, frame: Vec<u8>) -> &mut Self {
        self.now += after_ms;
        self.frames.push((self.now, frame));
        self
    }

    fn pcap(&self) -> Vec<u8> {
        let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        bytes.extend([0, 0, 65_535, 1u32].map(u32::to_le_bytes).concat());
        for (ms, frame) in &self.frames {
            let length = frame.len() as u32;
            let (seconds, micros) = (1_700_000_000 + ms / 1000, ms % 1000 * 1000);
            let head = [seconds as u32, micros as u32, length, length];
            bytes.extend(head.map(u32::to_le_bytes).concat());
            bytes.extend(frame);
        }
        bytes
    }
}

const SERVER: [u8; 4] = [10, 77, 0, 1];
const CLIENT: [u8; 4] = [10, 77, 0, 150];

/// OVMF by PXE, from a server that names another loader and no discovery control.
fn by_another_server() -> Tape {
    let (discover, request) = (packet("ovmf-pxe-discover"), packet("ovmf-pxe-request"));
    let mask: (u8, &[u8]) = (1, &[255, 255, 255, 0]);
    let told: &[(u8, &[u8])] =
        &[(54, &SERVER), (51, &[0, 0, 14, 16]), mask, (60, b"PXEClient"), (67, b"grubx64.efi")];
    let mut tape = Tape::default();
    let server = (SERVER, 67);
    tape.udp(0, NOBODY, ALL, &discover);
    tape.udp(4, server, ALL_CLIENTS, &reply(&discover, 2, CLIENT, SERVER, "grubx64.efi", told));
    tape.udp(3_900, NOBODY, ALL, &request);
    tape.udp(2, server, ALL_CLIENTS, &reply(&request, 5, CLIENT, SERVER, "grubx64.efi", told));
    // The size, then the file; each transfer from a port of its own.
    let (first, second) = ((CLIENT, 1801), (CLIENT, 1802));
    let size = b"\0\x01grubx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
    tape.udp(9, first, (SERVER, 69), size);
    tape.udp(1, (SERVER, 40_001), first, b"\0\x06tsize\x002594304\0blksize\x001468\0");
    tape.udp(1, first, (SERVER, 40_001), b"\0\x05\0\x08User aborted the transfer\0");
    let load = b"\0\x01grubx64.efi\0octet\0blksize\x001468\0windowsize\x004\0";
    tape.udp(1, second, (SERVER, 69), load);
    tape.udp(1, (SERVER, 40_002), second, b"\0\x06blksize\x001468\0");
    tape.udp(1, second, (SERVER, 40_002), &[0, 4, 0, 0]);
    tape.udp(1, (SERVER, 40_002), second, &[&[0, 3, 0, 1], &[0x90; 1468][..]].concat());
    tape.udp(1, second, (SERVER, 40_002), &[0, 4, 0, 1]);
    tape
}

/// OVMF's HTTP boot in a network with two servers: one gives the address, one says what to boot.
fn beside_a_router() -> Tape {
    let mut discover = packet("ovmf-http-discover");
    discover[4..8].copy_from_slice(&[9, 9, 9, 9]);
    let router = [10, 77, 0, 2];
    let lease: &[(u8, &[u8])] =
        &[(54, &router), (51, &[0, 0, 14, 16]), (1, &[255, 255, 255, 0]), (3, &router)];
    let url = b"http://10.77.0.1/boot.efi";
    let told: &[(u8, &[u8])] = &[(54, &SERVER), (60, b"HTTPClient"), (67, url)];
    let mut tape = Tape::default();
    tape.udp(0, NOBODY, ALL, &discover);
    tape.udp(
        3,
        (router, 67),
        ALL_CLIENTS,
        &reply(&discover, 2, [10, 77, 0, 60], [0; 4], "", lease),
    );
    tape.udp(1, (SERVER, 67), ALL_CLIENTS, &reply(&discover, 2, [0; 4], SERVER, "", told));
    let mut request = discover.clone();
    request[242] = 3;
    tape.udp(2_000, NOBODY, ALL, &request);
    tape.udp(3, (router, 67), ALL_CLIENTS, &reply(&request, 5, [10, 77, 0, 60], [0; 4], "", lease));
    tape
}

/// The whole way through iPXE with nobody answering: what a machine says alone.
fn unanswered() -> Tape {
    let mut tape = Tape::default();
    let client = (CLIENT, 2070);
    tape.udp(0, NOBODY, ALL, &packet("undionly-discover"));
    tape.udp(5, NOBODY, ALL, &packet("undionly-request"));
    let file = b"\0\x0152-54-00-aa-00-01/care-b1024-w1/undionly.kpxe\0octet\0blksize\x001456\0";
    tape.udp(5, client, (SERVER, 69), file);
    tape.udp(5, client, (SERVER, 69), b"\0\x01../../etc/passwd\0octet\0");
    tape.udp(5, client, (SERVER, 69), b"\0\x02written\0octet\0");
    // ARM, which gets nothing; and a Raspberry Pi that says it is a PC.
    let mut arm = packet("ovmf-pxe-discover");
    let at = arm.windows(4).position(|bytes| bytes == [93, 2, 0, 7]).unwrap();
    arm[at + 3] = 11;
    tape.udp(5, NOBODY, ALL, &arm);
    arm[at + 3] = 0;
    arm[28..31].copy_from_slice(&[0xdc, 0xa6, 0x32]);
    tape.udp(5, NOBODY, ALL, &arm);
    tape.udp(5, NOBODY, ALL, &[1, 1, 6, 0]);
    let mut tagged = Vec::new();
    PacketBuilder::ethernet2([2; 6], [0xff; 6])
        .single_vlan(42u16.try_into().unwrap())
        .ipv4([0; 4], [255; 4], 64)
        .udp(68, 67)
        .write(&mut tagged, &packet("seabios-ipxe-rom-discover"))
        .unwrap();
    tape.frame(5, tagged);
    let mut solicit = Vec::new();
    PacketBuilder::ethernet2([2; 6], [0x33; 6])
        .ipv6([0xfe; 16], [0xff; 16], 1)
        .udp(546, 547)
        .write(&mut solicit, b"\x01abc")
        .unwrap();
    tape.frame(5, solicit);
    tape
}

#[test]
fn captures_are_answered_as_written_beside_them() {
    let folder = folder("captures");
    let update = std::env::var_os("ALIA_UPDATE").is_some();
    let made = [
        ("made-another-server", by_another_server()),
        ("made-beside-a-router", beside_a_router()),
        ("made-unanswered", unanswered()),
    ];
    for (name, tape) in made {
        let path = folder.join(format!("{name}.pcap"));
        if update {
            fs::write(&path, tape.pcap()).unwrap();
        }
        assert!(fs::read(&path).unwrap() == tape.pcap(), "{name}: ALIA_UPDATE=1 writes it");
    }
    let mut captures = BTreeSet::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("pcap" | "pcapng")) {
            captures.insert(path);
        }
    }
    assert!(captures.len() >= 3, "captures are missing");
    for path in captures {
        let words = fs::read_to_string(path.with_extension("options")).unwrap_or_default();
        let found = replayed(&path, &words.lines().collect::<Vec<_>>()).to_string();
        let beside = path.with_extension("txt");
        if update {
            fs::write(&beside, &found).unwrap();
        }
        let wanted = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(found, wanted, "{}: ALIA_UPDATE=1 writes what is found", path.display());
    }
}

fn written(tape: &Tape) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tape.pcap");
    fs::write(&path, tape.pcap()).unwrap();
    (folder, path)
}

#[test]
fn we_stand_where_the_captured_server_stood_unless_told_otherwise() {
    let (_folder, path) = written(&by_another_server());
    let report = replayed(&path, &[]);
    assert!(report.we.starts_with("10.77.0.1/24, in the place"), "{}", report.we);
    let ours = &report.steps[0];
    assert_eq!(ours.ours.fields["option 54"], "10.77.0.1");
    let what: Vec<&str> = ours.differences.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, ["file", "option 43", "option 66", "option 67"]);

    // From elsewhere, what was asked of that server is not for us.
    let report = replayed(&path, &["--address", "10.77.0.9"]);
    assert!(report.we.starts_with("10.77.0.9/24, as told"), "{}", report.we);
    let why = report.steps[1].ours.why.as_deref().unwrap();
    assert!(why.contains("took the offer of another DHCP server, 10.77.0.1"), "{why}");
}

#[test]
fn beside_a_server_of_addresses_we_are_compared_with_whom_we_replace() {
    let (_folder, path) = written(&beside_a_router());
    let report = replayed(&path, &[]);
    assert!(report.we.contains("a ProxyDHCP server"), "{}", report.we);
    assert!(report.we.starts_with("10.77.0.1/24"), "{}", report.we);
    let offer = &report.steps[0];
    assert_eq!(
        (offer.ours.says.as_str(), offer.captured.len()),
        ("OFFER to 255.255.255.255:68", 2)
    );
    let what: Vec<&str> = offer.differences.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, ["file", "option 67"]);
    let request = &report.steps[1];
    assert_eq!((request.ours.says.as_str(), request.differences.len()), ("nothing", 0));
}

#[test]
fn the_same_options_as_serves_change_the_answers() {
    let (folder, path) = written(&by_another_server());
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let config = file(
        "p.toml",
        "uefi-file = 'other.efi'\n[machine.'52:54:00:aa:00:02']\nboot-method = 'boot-server'\n",
    );
    let report = replayed(&path, &["--config", &config]);
    let mac: Mac = report.steps[0].client.parse().unwrap();
    let name = format!("{}/other.efi", mac.hyphenated());
    assert_eq!(report.steps[0].ours.fields["option 67"], name);

    let quirks = file(
        "q.toml",
        "[[quirk]]\nname = 'slow'\nabout = 'a test'\nmatch.mac = ['52:54:00']\nset.rate = 50000\n",
    );
    let report = replayed(&path, &["--quirks", &quirks]);
    let name = format!("{}/care-r50000/snponly.efi", mac.hyphenated());
    assert_eq!(report.steps[0].ours.fields["option 67"], name);
    let why = report.steps[0].ours.why.as_deref().unwrap();
    assert!(why.contains("quirks: slow (operator's file, MAC 52:54:00)"), "{why}");

    let report = replayed(&path, &["--uki", "any.efi"]);
    assert!(report.steps[0].ours.fields["option 67"].ends_with("/aliaos.efi"));

    fs::write(folder.path().join("grubx64.efi"), [0; 5_000]).unwrap();
    let report = replayed(&path, &["--ipxe", folder.path().to_str().unwrap()]);
    assert_eq!(report.steps[2].ours.fields["tsize"], "5000");
}

#[test]
fn json_has_what_the_text_has() {
    let (_folder, path) = written(&by_another_server());
    let report = replayed(&path, &[]);
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    let differences = &json["steps"][0]["differences"];
    assert_eq!(differences[0]["what"], "file");
    assert_eq!(differences[0]["captured"], "grubx64.efi");
    assert_eq!(json["steps"].as_array().unwrap().len(), report.steps.len());
}

#[test]
fn what_is_no_capture_is_told_with_what_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pcap");
    fs::write(&path, "not a capture").unwrap();
    let options = ReplayOptions { file: path, ..ReplayOptions::default() };
    let error = replay::run(options).unwrap_err().to_string();
    assert!(error.contains("neither pcap nor pcapng"), "{error}");
    let nowhere = ReplayOptions { file: folder.path().join("none"), ..ReplayOptions::default() };
    assert!(replay::run(nowhere).is_err());
}
