//! The rules of answering, one by one.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use common::{MAC, request, settings};
use dhcproto::v4::MessageType;
use provisioner::{
    dhcp::{
        Answer,
        answerer::{Answerer, Handled, Packet, Unanswered},
        classify, decide,
        decide::{Facts, Port},
        lease::{Lease, LeaseChange},
        parse,
        reply::{Boot, To},
        settings::{BootMethod, HttpBoot, Mode, Settings},
    },
    progress::Mark,
    quirks::{Applied, OptionValue, Quirks, matching::Rules},
    store::{Place, Store},
    tftp::care::Care,
    timeline::Kind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

const NOW: u64 = 1_000_000;
const US: [u8; 4] = [10, 77, 0, 1];
const FREE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 150);

const UEFI: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
const HTTP: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
const ARM: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00011:UNDI:003000"), (93, &[0, 11])];
const SYSTEM: &[(u8, &[u8])] = &[(12, b"telephone")];
/// iPXE with HTTP (0x13), bzImage (0x18) and EFI (0x24).
const IPXE: &[(u8, &[u8])] = &[
    (60, b"PXEClient"),
    (77, b"iPXE"),
    (93, &[0, 7]),
    (175, &[0x13, 1, 1, 0x18, 1, 1, 0x24, 1, 1]),
];
/// The same without HTTP.
const POOR_IPXE: &[(u8, &[u8])] =
    &[(60, b"PXEClient"), (77, b"iPXE"), (93, &[0, 0]), (175, &[0x15, 1, 1, 0x18, 1, 1])];

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

fn free() -> Facts {
    Facts { now: NOW, free: Some(FREE), ..Facts::default() }
}

fn holding(address: Ipv4Addr) -> Facts {
    let lease = Lease { address, mac: Some(MAC), expires: NOW + 60 };
    Facts { now: NOW, lease: Some(lease), ..Facts::default() }
}

fn ask(mode: Mode, port: Port, facts: &Facts, bytes: &[u8]) -> Answer {
    let request = parse(bytes).unwrap();
    decide(&settings(mode), facts, &request, classify(&request), port)
}

fn full(facts: &Facts, message: u8, options: &[&[(u8, &[u8])]]) -> Answer {
    ask(Mode::Full, Port::Dhcp, facts, &request(message, &options.concat()))
}

fn proxy(port: Port, facts: &Facts, message: u8, options: &[(u8, &[u8])]) -> Answer {
    ask(Mode::Proxy, port, facts, &request(message, options))
}

fn bytes(answer: &Answer, mode: Mode, asked: &[u8]) -> Vec<u8> {
    answer.reply.as_ref().unwrap().bytes(&settings(mode), &parse(asked).unwrap())
}

fn option(bytes: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let mut rest = &bytes[240..];
    while let [code, length, tail @ ..] = rest {
        if *code == 255 {
            break;
        }
        let (value, tail) = tail.split_at(usize::from(*length));
        if *code == wanted {
            return Some(value.to_vec());
        }
        rest = tail;
    }
    None
}

fn text(answer: &Answer) -> &str {
    &answer.note.as_ref().unwrap().text
}

#[test]
fn firmware_is_offered_an_address_and_its_own_platforms_file() {
    for (client, file) in [(UEFI, "snponly.efi"), (BIOS, "undionly.kpxe")] {
        let answer = full(&free(), DISCOVER, &[client]);
        let reply = answer.reply.clone().unwrap();
        assert_eq!(reply.message, MessageType::Offer);
        assert_eq!(reply.address, Some(FREE));
        let name = format!("52-54-00-aa-00-09/{file}");
        assert_eq!(reply.boot, Some(Boot::File { name: name.clone(), direct: true }));
        assert_eq!(answer.lease, LeaseChange::Offer(FREE, NOW + 60));
        let bytes = bytes(&answer, Mode::Full, &request(DISCOVER, client));
        assert_eq!(&bytes[20..24], &US, "next server");
        assert_eq!(&bytes[108..108 + name.len()], name.as_bytes());
        assert_eq!(option(&bytes, 54).unwrap(), US, "EDK2 drops an offer without it");
        assert_eq!(option(&bytes, 60).unwrap(), b"PXEClient");
        assert_eq!(option(&bytes, 43).unwrap(), [6, 1, 8, 255]);
        assert_eq!(option(&bytes, 51).unwrap(), 3600u32.to_be_bytes());
    }
}

#[test]
fn http_boot_gets_a_url_and_its_own_class_back() {
    let answer = full(&free(), DISCOVER, &[HTTP]);
    let bytes = bytes(&answer, Mode::Full, &request(DISCOVER, HTTP));
    let url = "http://10.77.0.1:8080/ipxe/snponly.efi?mac=52-54-00-aa-00-09";
    assert_eq!(option(&bytes, 67).unwrap(), url.as_bytes());
    assert_eq!(option(&bytes, 60).unwrap(), b"HTTPClient");
}

#[test]
fn http_boot_is_told_https_where_the_configuration_says_so_for_all_or_for_one() {
    let url = |all: HttpBoot, own: Option<bool>| {
        let settings = Settings { http_boot: all, ..settings(Mode::Full) };
        let quirks = Quirks { https: own, ..Quirks::default() };
        let request = parse(&request(DISCOVER, HTTP)).unwrap();
        let facts = Facts { quirks, ..free() };
        let answer = decide(&settings, &facts, &request, classify(&request), Port::Dhcp);
        answer.reply.unwrap().boot.unwrap()
    };
    let by = |base: &str| Boot::Url(format!("{base}/ipxe/snponly.efi?mac=52-54-00-aa-00-09"));
    let (plain, secure) = (by("http://10.77.0.1:8080"), by("https://10.77.0.1:8443"));
    assert_eq!(url(HttpBoot::Http, None), plain);
    assert_eq!(url(HttpBoot::Https, None), secure);
    assert_eq!(url(HttpBoot::Https, Some(false)), plain);
    assert_eq!(url(HttpBoot::Http, Some(true)), secure);
}

#[test]
fn uefi_firmware_gets_the_uki_where_there_is_one_and_others_what_they_had() {
    let settings = Settings { uki: Some("aliaos.efi".into()), ..settings(Mode::Full) };
    let boot = |client: &[(u8, &[u8])]| {
        let request = parse(&request(DISCOVER, client)).unwrap();
        let answer = decide(&settings, &free(), &request, classify(&request), Port::Dhcp);
        answer.reply.unwrap().boot.unwrap()
    };
    let file = |name: &str| Boot::File { name: format!("52-54-00-aa-00-09/{name}"), direct: true };
    assert_eq!(boot(UEFI), file("aliaos.efi"));
    let url = "http://10.77.0.1:8080/uki/aliaos.efi?mac=52-54-00-aa-00-09";
    assert_eq!(boot(HTTP), Boot::Url(url.into()));
    assert_eq!(boot(BIOS), file("undionly.kpxe"));
    assert!(matches!(boot(IPXE), Boot::Script(_)));
}

#[test]
fn firmware_that_took_the_uki_and_asks_again_may_have_refused_it() {
    let took = Facts { took_uki: true, ..free() };
    let answer = full(&took, DISCOVER, &[HTTP]);
    assert!(text(&answer).contains("has not reported since"), "{}", text(&answer));
    assert!(answer.reply.is_some(), "it is answered all the same");
    let note = answer.note.unwrap();
    assert_eq!(note.kind, Kind::Refused);
    let failed = |mark: &Mark| matches!(mark, Mark::Failed("uki", _));
    assert!(failed(&note.marks[0]), "before the marks that begin the next try");
    // The kernel that it started asks for an address too.
    assert_eq!(full(&took, DISCOVER, &[SYSTEM]).note.unwrap().kind, Kind::Dhcp);
}

#[test]
fn ipxe_gets_the_script_and_does_not_wait_for_a_proxy() {
    let answer = full(&free(), DISCOVER, &[IPXE]);
    let bytes = bytes(&answer, Mode::Full, &request(DISCOVER, IPXE));
    assert_eq!(option(&bytes, 67).unwrap(), b"http://10.77.0.1:8080/boot.ipxe");
    assert_eq!(option(&bytes, 175).unwrap(), [176, 1, 1]);
    assert_eq!(option(&bytes, 60), None);
}

#[test]
fn an_ipxe_without_http_loads_ours_once_in_a_boot_and_then_goes_on_as_it_can() {
    let file = |answer: Answer| answer.reply.unwrap().boot.unwrap();
    let first = full(&free(), DISCOVER, &[POOR_IPXE]);
    assert!(matches!(file(first), Boot::File { .. }));
    let again = Facts { loaded_ipxe: true, ..free() };
    assert!(matches!(file(full(&again, DISCOVER, &[POOR_IPXE])), Boot::Script(_)));

    let replaced = Facts { quirks: Quirks { replace_ipxe: true, ..Quirks::default() }, ..free() };
    assert!(matches!(file(full(&replaced, DISCOVER, &[IPXE])), Boot::File { .. }));
    let ours = Facts { loaded_ipxe: true, ..replaced };
    assert!(matches!(file(full(&ours, DISCOVER, &[IPXE])), Boot::Script(_)));
}

#[test]
fn a_running_system_gets_a_plain_lease() {
    let answer = full(&free(), DISCOVER, &[SYSTEM]);
    let bytes = bytes(&answer, Mode::Full, &request(DISCOVER, SYSTEM));
    assert_eq!((option(&bytes, 60), option(&bytes, 67)), (None, None));
    assert_eq!(&bytes[20..24], &[0; 4], "no next server");
    assert!(!answer.note.unwrap().sighting.boots, "and is no machine of ours by that alone");
}

#[test]
fn firmware_of_an_architecture_without_image_is_refused_with_the_reason() {
    for mode in [Mode::Full, Mode::Proxy] {
        let answer = ask(mode, Port::Dhcp, &free(), &request(DISCOVER, ARM));
        assert!(answer.reply.is_none());
        assert_eq!(answer.lease, LeaseChange::Keep);
        assert!(text(&answer).contains("64-bit ARM UEFI (architecture 11)"), "{}", text(&answer));
        let note = answer.note.unwrap();
        assert!(note.kind == Kind::Refused && note.sighting.boots, "it is on the page");
    }
}

#[test]
fn a_client_is_offered_what_it_holds_before_what_it_asks_and_that_before_any_other() {
    let asked: &[(u8, &[u8])] = &[(50, &[10, 77, 0, 120])];
    let offered = |facts: &Facts| full(facts, DISCOVER, &[asked]).reply.unwrap().address.unwrap();
    let held = Ipv4Addr::new(10, 77, 0, 111);
    assert_eq!(offered(&holding(held)), held);
    assert_eq!(offered(&free()), Ipv4Addr::new(10, 77, 0, 120));
    assert_eq!(offered(&Facts { wanted_is_taken: true, ..free() }), FREE);
    let ours: &[(u8, &[u8])] = &[(50, &US)];
    assert_eq!(full(&free(), DISCOVER, &[ours]).reply.unwrap().address, Some(FREE));
}

#[test]
fn an_offer_changes_nothing_of_a_lease_that_runs() {
    let mut facts = holding(FREE);
    facts.lease = facts.lease.map(|lease| Lease { expires: NOW + 3_000, ..lease });
    assert_eq!(full(&facts, DISCOVER, &[]).lease, LeaseChange::Keep);
    facts.lease = facts.lease.map(|lease| Lease { expires: NOW, ..lease });
    assert_eq!(full(&facts, DISCOVER, &[]).lease, LeaseChange::Offer(FREE, NOW + 60));
}

#[test]
fn a_full_pool_is_told_and_not_answered() {
    let answer = full(&Facts { now: NOW, ..Facts::default() }, DISCOVER, &[UEFI]);
    assert!(answer.reply.is_none());
    assert!(text(&answer).contains("all 101 addresses"), "{}", text(&answer));
}

#[test]
fn a_request_for_what_was_offered_is_acknowledged_for_the_whole_lease() {
    let chosen: &[(u8, &[u8])] = &[(54, &US), (50, &[10, 77, 0, 150])];
    let answer = full(&holding(FREE), REQUEST, &[UEFI, chosen]);
    assert_eq!(answer.reply.as_ref().unwrap().message, MessageType::Ack);
    assert_eq!(answer.reply.as_ref().unwrap().to, To::Broadcast);
    assert_eq!(answer.lease, LeaseChange::Hold(FREE, NOW + 3_600));
}

#[test]
fn a_client_that_took_another_servers_offer_loses_ours_and_the_operator_is_told() {
    let chosen: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 2]), (50, &[10, 77, 0, 20])];
    let answer = full(&holding(FREE), REQUEST, &[UEFI, chosen]);
    assert!(answer.reply.is_none());
    assert_eq!(answer.lease, LeaseChange::Release);
    assert!(text(&answer).contains("10.77.0.2"), "{}", text(&answer));
    assert!(text(&answer).contains("--dhcp proxy"), "{}", text(&answer));
}

#[test]
fn wrong_addresses_are_denied_so_that_the_client_asks_anew_at_once() {
    let denied = |facts: &Facts, address: [u8; 4]| {
        let wanted: &[(u8, &[u8])] = &[(50, &address)];
        let answer = full(facts, REQUEST, &[wanted]);
        let reply = answer.reply.unwrap();
        assert_eq!((reply.message, reply.to), (MessageType::Nak, To::Broadcast));
        assert_eq!(answer.lease, LeaseChange::Keep);
        reply.message_text.unwrap()
    };
    assert!(denied(&free(), [192, 168, 1, 5]).contains("another network"));
    assert!(denied(&free(), [10, 77, 0, 5]).contains("not in the pool"));
    let taken = Facts { wanted_is_taken: true, ..free() };
    assert!(denied(&taken, [10, 77, 0, 120]).contains("another machine's"));
    let answer = full(&free(), REQUEST, &[]);
    assert_eq!(answer.reply.unwrap().message, MessageType::Nak, "no address at all");
}

#[test]
fn a_lease_is_renewed_at_the_clients_own_address() {
    let mut asked = request(REQUEST, SYSTEM);
    asked[12..16].copy_from_slice(&FREE.octets());
    let answer = ask(Mode::Full, Port::Dhcp, &holding(FREE), &asked);
    assert_eq!(answer.reply.as_ref().unwrap().to, To::Address(FREE));
    assert_eq!(answer.lease, LeaseChange::Hold(FREE, NOW + 3_600));
    let bytes = bytes(&answer, Mode::Full, &asked);
    assert_eq!(&bytes[12..16], &FREE.octets());
    assert_eq!(&bytes[16..20], &FREE.octets());
}

#[test]
fn after_our_database_was_lost_a_client_keeps_its_address() {
    let wanted: &[(u8, &[u8])] = &[(50, &[10, 77, 0, 120])];
    let answer = full(&free(), REQUEST, &[SYSTEM, wanted]);
    assert_eq!(answer.reply.unwrap().message, MessageType::Ack);
}

#[test]
fn release_and_decline_count_for_the_clients_own_address_alone() {
    let mut asked = request(RELEASE, &[(54, &US)]);
    asked[12..16].copy_from_slice(&FREE.octets());
    let release = |facts: &Facts| ask(Mode::Full, Port::Dhcp, facts, &asked);
    assert_eq!(release(&holding(FREE)).lease, LeaseChange::Release);
    assert_eq!(release(&holding([10, 77, 0, 120].into())).lease, LeaseChange::Keep);

    let declined: &[(u8, &[u8])] = &[(50, &[10, 77, 0, 150])];
    let answer = full(&holding(FREE), DECLINE, &[declined]);
    assert_eq!(answer.lease, LeaseChange::Decline(FREE, NOW + 600));
    assert!(answer.reply.is_none());
    assert_eq!(full(&free(), DECLINE, &[declined]).lease, LeaseChange::Keep);
}

#[test]
fn inform_is_answered_without_a_lease() {
    let mut asked = request(INFORM, SYSTEM);
    asked[12..16].copy_from_slice(&[10, 77, 0, 30]);
    let answer = ask(Mode::Full, Port::Dhcp, &free(), &asked);
    assert_eq!(answer.lease, LeaseChange::Keep);
    let bytes = bytes(&answer, Mode::Full, &asked);
    assert_eq!((option(&bytes, 51), &bytes[16..20]), (None, &[0; 4][..]));
    assert_eq!(option(&bytes, 1).unwrap(), [255, 255, 255, 0]);
}

#[test]
fn through_a_relay_the_answer_goes_to_it_with_its_own_option_last() {
    let mut asked = request(DISCOVER, &[UEFI, &[(82, b"\x01\x04port")]].concat());
    asked[24..28].copy_from_slice(&[10, 77, 0, 254]);
    let answer = ask(Mode::Full, Port::Dhcp, &free(), &asked);
    assert_eq!(answer.reply.as_ref().unwrap().to, To::Relay([10, 77, 0, 254].into()));
    let bytes = bytes(&answer, Mode::Full, &asked);
    assert_eq!(&bytes[24..28], &[10, 77, 0, 254]);
    let end = bytes.iter().rposition(|&byte| byte == 255).unwrap();
    assert_eq!(&bytes[end - 8..end], b"\x52\x06\x01\x04port");

    asked[24..28].copy_from_slice(&[10, 99, 0, 254]);
    let answer = ask(Mode::Full, Port::Dhcp, &free(), &asked);
    assert!(answer.reply.is_none());
    assert!(text(&answer).contains("10.99.0.254"), "{}", text(&answer));
}

#[test]
fn a_pool_of_a_relays_network_is_for_machines_behind_that_relay_alone() {
    let relayed = Settings {
        pool: "10.78.0.100-10.78.0.200/23".parse().unwrap(),
        routers: vec![[10, 78, 0, 1].into()],
        ..settings(Mode::Full)
    };
    let (us, theirs) = (Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 78, 0, 150));
    let facts = Facts { free: Some(theirs), ..free() };
    let ask = |message, options: &[_], relay: [u8; 4], renewed: [u8; 4]| {
        let mut asked = request(message, &[UEFI, options].concat());
        asked[24..28].copy_from_slice(&relay);
        asked[12..16].copy_from_slice(&renewed);
        let read = parse(&asked).unwrap();
        let answer = decide(&relayed, &facts, &read, classify(&read), Port::Dhcp);
        let bytes = answer.reply.as_ref().map(|reply| reply.bytes(&relayed, &read));
        (answer, bytes)
    };
    let (answer, bytes) = ask(DISCOVER, &[], [10, 78, 1, 1], [0; 4]);
    let bytes = bytes.unwrap();
    assert_eq!(answer.reply.unwrap().to, To::Relay([10, 78, 1, 1].into()));
    assert_eq!(bytes[16..20], theirs.octets());
    assert_eq!(option(&bytes, 1).unwrap(), [255, 255, 254, 0]);
    assert_eq!(option(&bytes, 28).unwrap(), [10, 78, 1, 255]);
    assert_eq!(
        (option(&bytes, 3).unwrap(), option(&bytes, 54).unwrap()),
        (vec![10, 78, 0, 1], US.into())
    );
    // Who renews comes by itself.
    let (answer, _) = ask(REQUEST, &[], [0; 4], theirs.octets());
    assert_eq!(answer.reply.unwrap().to, To::Address(theirs));
    for (relay, renewed) in [([0; 4], [0; 4]), ([0; 4], us.octets()), ([10, 77, 0, 9], [0; 4])] {
        let (answer, _) = ask(DISCOVER, &[], relay, renewed);
        assert!(answer.reply.is_none() && text(&answer).contains("not served"), "{relay:?}");
    }
}

#[test]
fn a_proxy_gives_no_address_and_leaves_all_else_to_the_other_server() {
    let answer = proxy(Port::Dhcp, &free(), DISCOVER, UEFI);
    assert_eq!(answer.lease, LeaseChange::Keep);
    let bytes = bytes(&answer, Mode::Proxy, &request(DISCOVER, UEFI));
    assert_eq!(&bytes[16..20], &[0; 4]);
    assert_eq!((option(&bytes, 51), option(&bytes, 1)), (None, None));
    assert_eq!(option(&bytes, 54).unwrap(), US);
    assert_eq!(option(&bytes, 60).unwrap(), b"PXEClient");
    assert_eq!(option(&bytes, 43).unwrap(), [6, 1, 8, 255]);
    for message in [REQUEST, DECLINE, RELEASE, INFORM] {
        assert!(proxy(Port::Dhcp, &free(), message, UEFI).reply.is_none());
    }
    let telephone = proxy(Port::Dhcp, &free(), DISCOVER, SYSTEM);
    assert!(telephone.reply.is_none() && telephone.note.is_none());
}

#[test]
fn a_proxy_marks_itself_to_ipxe_too() {
    let answer = proxy(Port::Dhcp, &free(), DISCOVER, IPXE);
    let bytes = bytes(&answer, Mode::Proxy, &request(DISCOVER, IPXE));
    assert_eq!(option(&bytes, 60).unwrap(), b"PXEClient");
    assert_eq!(option(&bytes, 175), None);
}

#[test]
fn the_boot_server_method_offers_no_shortcut_and_names_the_file_on_4011() {
    let quirks = Quirks { method: BootMethod::BootServer, ..Quirks::default() };
    let facts = Facts { quirks, ..free() };
    for mode in [Mode::Full, Mode::Proxy] {
        let offer = ask(mode, Port::Dhcp, &facts, &request(DISCOVER, UEFI));
        assert_eq!(option(&bytes(&offer, mode, &request(DISCOVER, UEFI)), 43), None);
        let mut asked = request(REQUEST, &[UEFI, &[(43, &[71, 4, 0, 0, 0, 0, 255])]].concat());
        asked[12..16].copy_from_slice(&[10, 77, 0, 33]);
        let answer = ask(mode, Port::Binl, &facts, &asked);
        let reply = answer.reply.as_ref().unwrap();
        assert_eq!((reply.message, reply.to), (MessageType::Ack, To::Sender));
        let bytes = bytes(&answer, mode, &asked);
        assert_eq!(&bytes[16..20], &[0; 4], "a boot server gives no address");
        assert_eq!(option(&bytes, 43).unwrap(), [6, 1, 8, 71, 4, 0, 0, 0, 0, 255]);
        assert_eq!(option(&bytes, 67).unwrap(), b"52-54-00-aa-00-09/snponly.efi");
    }
}

#[test]
fn a_boot_server_request_to_somebody_else_is_not_ours() {
    let elsewhere = [UEFI, &[(54, &[10, 77, 0, 2][..])]].concat();
    assert!(proxy(Port::Binl, &free(), REQUEST, &elsewhere).reply.is_none());
    assert!(proxy(Port::Binl, &free(), REQUEST, SYSTEM).reply.is_none());
    assert!(proxy(Port::Binl, &free(), DISCOVER, UEFI).reply.is_none());
}

#[test]
fn client_identifiers_go_back_as_they_came() {
    let guid = [0; 17];
    let ids: &[(u8, &[u8])] = &[(61, b"\x01any id"), (97, &guid)];
    let answer = full(&free(), DISCOVER, &[UEFI, ids]);
    let bytes = bytes(&answer, Mode::Full, &request(DISCOVER, &[UEFI, ids].concat()));
    assert_eq!(option(&bytes, 61).unwrap(), b"\x01any id");
    assert_eq!(option(&bytes, 97).unwrap(), guid);
}

#[test]
fn what_firmware_cannot_take_travels_in_the_name_of_its_file() {
    let care = Care { blksize: Some(1024), window: None, rate: Some(500_000) };
    let facts = Facts { quirks: Quirks { care, ..Quirks::default() }, ..free() };
    let name = b"52-54-00-aa-00-09/care-b1024-r500000/snponly.efi";
    let offer = full(&facts, DISCOVER, &[UEFI]);
    let bytes = bytes(&offer, Mode::Full, &request(DISCOVER, UEFI));
    assert_eq!(option(&bytes, 67).unwrap(), name);
    assert_eq!(&bytes[108..108 + name.len()], name);
}

#[test]
fn firmware_gets_the_options_that_it_wants_and_none_that_it_must_not() {
    let add = vec![
        OptionValue { code: 43, value: vec![6, 1, 8, 10, 4, 0, 80, 88, 69, 255] },
        OptionValue { code: 209, value: b"a".into() },
    ];
    let quirks = Quirks { add_options: add, drop_options: vec![60, 66], ..Quirks::default() };
    let facts = Facts { quirks, ..free() };
    let offer = full(&facts, DISCOVER, &[UEFI]);
    let offered = bytes(&offer, Mode::Full, &request(DISCOVER, UEFI));
    assert_eq!(option(&offered, 43).unwrap(), [6, 1, 8, 10, 4, 0, 80, 88, 69, 255]);
    assert_eq!(option(&offered, 209).unwrap(), b"a");
    assert_eq!((option(&offered, 60), option(&offered, 66)), (None, None));
    assert!(option(&offered, 67).is_some());
    let system = full(&facts, DISCOVER, &[SYSTEM]);
    let plain = bytes(&system, Mode::Full, &request(DISCOVER, SYSTEM));
    assert_eq!(option(&plain, 209), None, "a running system boots nothing");
}

#[test]
fn the_machines_timeline_tells_which_quirk_was_applied_and_why() {
    let applied = vec![Applied { name: Some("slow".into()), why: "MAC 52:54:00".into() }];
    let facts = Facts { quirks: Quirks { applied, ..Quirks::default() }, ..free() };
    let told = full(&facts, DISCOVER, &[UEFI]);
    assert!(text(&told).ends_with("; quirks: slow (MAC 52:54:00)"), "{}", text(&told));
    let told = full(&facts, DISCOVER, &[SYSTEM]);
    assert!(!text(&told).contains("quirk"), "{}", text(&told));
}

/// IANA's "Processor Architecture Types": what is answered, and why the others are not.
#[test]
fn every_architecture_of_ianas_list_is_answered_or_refused_with_a_reason() {
    enum Gets {
        Bios,
        Uefi,
        Nothing(&'static str),
    }
    use Gets::{Bios, Nothing, Uefi};
    const ALONE: &str = "images for x86-64 alone";
    const MEDIUM: &str = "boot the machine from a medium";
    const NARROW: &str = "32-bit programs alone";
    let table = [
        Bios,
        Nothing(MEDIUM),
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing(MEDIUM),
        Nothing(MEDIUM),
        Nothing(NARROW),
        Uefi,
        Nothing(ALONE),
        Uefi,
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing(NARROW),
        Uefi,
        Nothing("byte code"),
        Nothing(ALONE),
        Nothing(ALONE),
        Nothing("no BIOS loader runs from HTTP"),
    ];
    let rest = std::iter::repeat_with(|| Nothing(ALONE)).take(41 - 20);
    let listed = table.into_iter().chain(rest);
    let unknown = std::iter::repeat_with(|| Nothing("not in IANA's list"));
    let all = (0u16..)
        .zip(listed.chain(unknown))
        .take(64)
        .chain([(255, Nothing("not in IANA's list")), (u16::MAX, Nothing("not in IANA's list"))]);
    for (arch, gets) in all {
        for (mode, port) in [(Mode::Full, Port::Dhcp), (Mode::Proxy, Port::Dhcp)] {
            // By option 93, and by option 60 where that is missing.
            let class = format!("PXEClient:Arch:{arch:05}:UNDI:003016");
            let wide = arch.to_be_bytes();
            let said: [&[(u8, &[u8])]; 2] =
                [&[(60, b"PXEClient"), (93, &wide)], &[(60, class.as_bytes())]];
            for options in said {
                let answer = ask(mode, port, &free(), &request(DISCOVER, options));
                let boot = answer.reply.as_ref().map(|reply| reply.boot.clone().unwrap());
                let file = |name: &str| {
                    let name = format!("52-54-00-aa-00-09/{name}");
                    Some(Boot::File { name, direct: true })
                };
                match gets {
                    Bios => assert_eq!(boot, file("undionly.kpxe"), "{arch}"),
                    Uefi => assert_eq!(boot, file("snponly.efi"), "{arch}"),
                    Nothing(reason) => {
                        assert_eq!(boot, None, "{arch}");
                        assert!(text(&answer).contains(reason), "{arch}: {}", text(&answer));
                        let number = format!("(architecture {arch})");
                        assert!(text(&answer).contains(&number), "{arch}: {}", text(&answer));
                        assert_eq!(answer.note.unwrap().kind, Kind::Refused);
                    }
                }
            }
        }
    }
    let unnamed = full(&free(), DISCOVER, &[&[(60, b"PXEClient")]]);
    assert!(unnamed.reply.is_none());
    assert!(text(&unnamed).contains("does not name"), "{}", text(&unnamed));
}

#[test]
fn packets_that_come_together_are_answered_each_in_its_place_and_get_an_address_each() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("p.sqlite"));
    let store = Arc::new(Store::open(&place, BTreeMap::new()).unwrap());
    let answerer = Answerer::new(settings(Mode::Full), Rules::default(), store);
    let from = |last: u8| {
        let mut bytes = request(DISCOVER, UEFI);
        bytes[33] = last;
        Packet { bytes, sender: "0.0.0.0:68".parse().unwrap() }
    };
    let mut packets: Vec<Packet> = (0..20).map(from).collect();
    packets.insert(7, Packet { bytes: vec![1, 2, 3], ..packets[0].clone() });
    let handled = answerer.handle(&packets, Port::Dhcp, NOW);
    assert_eq!(handled.len(), packets.len());
    assert!(matches!(handled[7], Err(Unanswered::Refused(_))));
    let mut given = BTreeSet::new();
    for (packet, handled) in packets.iter().zip(&handled).filter(|(_, handled)| handled.is_ok()) {
        let (bytes, _) = handled.as_ref().unwrap().reply.as_ref().unwrap();
        assert_eq!(bytes[28..34], packet.bytes[28..34], "the answer is to who asked");
        assert!(given.insert(bytes[16..20].to_vec()), "{:?} twice", &bytes[16..20]);
    }
    assert_eq!(given.len(), 20);
    let again = answerer.handle(&packets, Port::Dhcp, NOW + 1);
    let address = |handled: &[Result<Handled, Unanswered>]| {
        handled[0].as_ref().unwrap().reply.as_ref().unwrap().0[16..20].to_vec()
    };
    assert_eq!(address(&again), address(&handled), "the offer stands");
}
