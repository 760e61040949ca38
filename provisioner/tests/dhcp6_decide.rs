//! The rules of answering by DHCPv6, one by one.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common6;

use common6::{
    IAID, MAC, SOURCE, address, answer, association, bytes, client, find, option, options, relayed,
    request, settings, to, vendor,
};
use dhcproto::v6::{MessageType, Status};
use provisioner::{
    dhcp6::{
        Answer,
        decide::Facts,
        lease::{Lease, LeaseChange},
        reply::Given,
        settings::Settings,
    },
    progress::Mark,
    quirks::Quirks,
    timeline::Kind,
};
use std::net::{IpAddr, Ipv6Addr};

const NOW: u64 = 1_000_000;
const FREE: &str = "fd00:77::150";

const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORM: u8 = 11;

fn free() -> Facts {
    Facts { now: NOW, free: Some(address(FREE)), ..Facts::default() }
}

fn holding(text: &str) -> Facts {
    let lease = Lease { address: address(text), expires: NOW + 60 };
    Facts { now: NOW, lease: Some(lease), ..Facts::default() }
}

fn pxe() -> Vec<Vec<u8>> {
    vec![vendor(b"PXEClient:Arch:00007:UNDI:003000"), option(61, &[0, 7])]
}

fn http() -> Vec<Vec<u8>> {
    vec![vendor(b"HTTPClient:Arch:00016:UNDI:003000"), option(61, &[0, 16])]
}

fn ipxe() -> Vec<Vec<u8>> {
    vec![option(15, b"\0\x04iPXE"), option(61, &[0, 7])]
}

/// From the client, with an association; to us where the kind of message names its server.
fn asked(message: u8, more: &[Vec<u8>], wanted: &[&str]) -> Vec<u8> {
    let wanted: Vec<Ipv6Addr> = wanted.iter().map(|text| address(text)).collect();
    let mut all = vec![option(1, &client()), association(IAID, &wanted)];
    if [REQUEST, RENEW, RELEASE, DECLINE].contains(&message) {
        all.push(option(2, &settings().duid));
    }
    request(message, &[all, more.to_vec()].concat())
}

fn ask(facts: &Facts, message: u8, more: &[Vec<u8>], wanted: &[&str]) -> Answer {
    answer(&settings(), facts, &asked(message, more, wanted))
}

fn text(answer: &Answer) -> &str {
    &answer.note.as_ref().unwrap().text
}

fn given(answer: &Answer) -> &Given {
    answer.reply.as_ref().unwrap().association.as_ref().unwrap()
}

fn url(answer: &Answer) -> String {
    answer.reply.as_ref().unwrap().boot.as_ref().unwrap().url.clone()
}

/// The addresses of the reply's IA_NA with their lifetimes, and its T1 and T2.
fn addresses(bytes: &[u8]) -> (Vec<(Ipv6Addr, u32, u32)>, u32, u32) {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let value = find(&options(&bytes[4..]), 3).unwrap();
    assert_eq!(number(&value[..4]), IAID);
    let all = options(&value[12..]).into_iter().filter(|option| option.0 == 5).map(|option| {
        let octets: [u8; 16] = option.1[..16].try_into().unwrap();
        (octets.into(), number(&option.1[16..20]), number(&option.1[20..24]))
    });
    (all.collect(), number(&value[4..8]), number(&value[8..12]))
}

#[test]
fn firmware_is_offered_an_address_and_a_file_by_tftp() {
    let answer = ask(&free(), SOLICIT, &pxe(), &[]);
    assert_eq!(answer.lease, LeaseChange::Hold(address(FREE), NOW + 60));
    let bytes = bytes(&answer, &settings(), &asked(SOLICIT, &pxe(), &[]));
    assert_eq!(bytes[..4], [2, 1, 2, 3], "ADVERTISE, and the client's transaction");
    let all = options(&bytes[4..]);
    let wanted = b"tftp://[fd00:77::1]/52-54-00-aa-00-09/snponly.efi";
    assert_eq!(find(&all, 59).unwrap(), wanted);
    assert_eq!(find(&all, 1).unwrap(), client());
    assert_eq!(find(&all, 2).unwrap(), settings().duid);
    assert_eq!(find(&all, 7).unwrap(), [255], "or it waits for other servers");
    assert_eq!(find(&all, 16), None, "or it takes us for a boot server to ask");
    assert_eq!(find(&all, 60), None, "or it takes that for the file's size");
    assert_eq!(addresses(&bytes), (vec![(address(FREE), 3600, 3600)], 1800, 2880));
    let marks = &answer.note.unwrap().marks;
    assert!(matches!(marks[..], [Mark::Asks(_)]), "{marks:?}");
}

#[test]
fn http_boot_gets_a_url_and_its_own_class_back() {
    let answer = ask(&free(), SOLICIT, &http(), &[]);
    let all = options(&bytes(&answer, &settings(), &asked(SOLICIT, &http(), &[]))[4..]);
    let url = "https://[fd00:77::1]:8443/ipxe/snponly.efi?mac=52-54-00-aa-00-09";
    assert_eq!(find(&all, 59).unwrap(), url.as_bytes());
    assert_eq!(find(&all, 16).unwrap(), b"\0\0\x01\x57\0\x0aHTTPClient");
    let last = &all.last().unwrap();
    assert!(last.0 < 256 && last.0 != 59, "firmware reads the URL up to the next zero byte");
}

#[test]
fn uefi_firmware_gets_the_uki_where_there_is_one_and_others_what_they_had() {
    let settings = Settings { uki: Some("aliaos.efi".into()), ..settings() };
    let boot = |more: &[Vec<u8>]| url(&answer(&settings, &free(), &asked(SOLICIT, more, &[])));
    assert_eq!(boot(&pxe()), "tftp://[fd00:77::1]/52-54-00-aa-00-09/aliaos.efi");
    let url = "https://[fd00:77::1]:8443/uki/aliaos.efi?mac=52-54-00-aa-00-09";
    assert_eq!(boot(&http()), url);
    assert_eq!(boot(&ipxe()), "http://[fd00:77::1]:8080/boot.ipxe");
}

#[test]
fn ipxe_gets_the_script_unless_ours_is_to_replace_it_once() {
    let boot = |facts: &Facts| url(&ask(facts, SOLICIT, &ipxe(), &[]));
    assert_eq!(boot(&free()), "http://[fd00:77::1]:8080/boot.ipxe");
    let quirks = Quirks { replace_ipxe: true, ..Quirks::default() };
    let replaced = Facts { quirks, ..free() };
    assert_eq!(boot(&replaced), "tftp://[fd00:77::1]/52-54-00-aa-00-09/snponly.efi");
    let loaded = Facts { loaded_ipxe: true, ..replaced.clone() };
    assert_eq!(boot(&loaded), "http://[fd00:77::1]:8080/boot.ipxe");
}

#[test]
fn a_running_system_gets_a_plain_lease_and_is_no_machine_of_ours_by_that_alone() {
    let settings = Settings { dns: vec![address("fd00:77::53")], ..settings() };
    let asked = asked(SOLICIT, &[], &[]);
    let answer = answer(&settings, &free(), &asked);
    let all = options(&bytes(&answer, &settings, &asked)[4..]);
    assert_eq!((find(&all, 59), find(&all, 16)), (None, None));
    assert_eq!(find(&all, 23).unwrap(), address("fd00:77::53").octets());
    assert!(!answer.note.unwrap().sighting.boots);
}

#[test]
fn firmware_of_an_architecture_without_image_is_refused_with_the_reason() {
    let arm = [vendor(b"PXEClient:Arch:00011:UNDI:003000"), option(61, &[0, 11])];
    let answer = ask(&free(), SOLICIT, &arm, &[]);
    assert!(answer.reply.is_none() && answer.lease == LeaseChange::Keep);
    assert!(text(&answer).contains("64-bit ARM UEFI (architecture 11)"), "{}", text(&answer));
    let note = answer.note.unwrap();
    assert!(note.kind == Kind::Refused && note.sighting.boots, "it is on the page");
}

#[test]
fn without_option_61_the_vendor_class_tells_the_architecture() {
    let answer = ask(&free(), SOLICIT, &[vendor(b"PXEClient:Arch:00007:UNDI:003000")], &[]);
    assert!(url(&answer).ends_with("/snponly.efi"));
}

#[test]
fn firmware_that_took_the_uki_and_asks_again_may_have_refused_it() {
    let took = Facts { took_uki: true, ..free() };
    let answer = ask(&took, SOLICIT, &http(), &[]);
    assert!(text(&answer).contains("has not reported since"), "{}", text(&answer));
    assert!(answer.reply.is_some(), "it is answered all the same");
    let note = answer.note.unwrap();
    assert!(matches!(note.marks[0], Mark::Failed("uki", _)) && note.kind == Kind::Refused);
    assert_eq!(ask(&took, SOLICIT, &[], &[]).note.unwrap().kind, Kind::Dhcp, "its kernel too");
}

#[test]
fn a_client_is_offered_what_it_holds_before_what_it_asks_and_that_before_any_other() {
    let offered = |facts: &Facts, wanted: &str| match given(&ask(facts, SOLICIT, &[], &[wanted])) {
        Given::Address(address) => *address,
        other => panic!("{other:?}"),
    };
    assert_eq!(offered(&holding("fd00:77::111"), "fd00:77::120"), address("fd00:77::111"));
    assert_eq!(offered(&free(), "fd00:77::120"), address("fd00:77::120"));
    let taken = Facts { wanted_is_taken: true, ..free() };
    assert_eq!(offered(&taken, "fd00:77::120"), address(FREE));
    for never in ["fd00:77::1", "fd00:77::", "fd00:77::5", "2001:db8::1"] {
        assert_eq!(offered(&free(), never), address(FREE), "{never}");
    }
}

#[test]
fn an_offer_never_shortens_a_lease_that_runs() {
    let mut facts = holding(FREE);
    facts.lease = facts.lease.map(|lease| Lease { expires: NOW + 3_000, ..lease });
    let answer = ask(&facts, SOLICIT, &[], &[]);
    assert_eq!(answer.lease, LeaseChange::Hold(address(FREE), NOW + 3_000));
}

#[test]
fn who_takes_a_reply_at_once_gets_one_with_the_whole_lease() {
    let rapid = [vec![option(14, &[])], ipxe()].concat();
    let answer = ask(&free(), SOLICIT, &rapid, &[]);
    assert_eq!(answer.lease, LeaseChange::Hold(address(FREE), NOW + 3_600));
    let bytes = bytes(&answer, &settings(), &asked(SOLICIT, &rapid, &[]));
    let all = options(&bytes[4..]);
    assert_eq!((bytes[0], find(&all, 14), find(&all, 7)), (7, Some(vec![]), None));
    let note = answer.note.unwrap();
    assert_eq!(note.sighting.address, Some(IpAddr::V6(address(FREE))));
    assert_eq!(note.marks.len(), 2);
}

#[test]
fn a_full_pool_is_told_to_the_client_and_to_people() {
    let none = Facts { now: NOW, ..Facts::default() };
    let answer = ask(&none, SOLICIT, &pxe(), &[]);
    assert!(text(&answer).contains("all 256 addresses"), "{}", text(&answer));
    assert_eq!(answer.lease, LeaseChange::Keep);
    assert!(matches!(given(&answer), Given::Refused(Status::NoAddrsAvail, _)));
    let all = options(&bytes(&answer, &settings(), &asked(SOLICIT, &pxe(), &[]))[4..]);
    assert_eq!(find(&all, 13).unwrap()[..2], [0, 2], "the whole ADVERTISE says so");
    assert_eq!(find(&all, 59), None);
}

#[test]
fn a_request_for_what_was_offered_is_granted_for_the_whole_lease() {
    let answer = ask(&holding(FREE), REQUEST, &pxe(), &[FREE]);
    assert_eq!(answer.lease, LeaseChange::Hold(address(FREE), NOW + 3_600));
    let bytes = bytes(&answer, &settings(), &asked(REQUEST, &pxe(), &[FREE]));
    assert_eq!(bytes[0], 7, "REPLY");
    let all = options(&bytes[4..]);
    assert!(find(&all, 59).unwrap().ends_with(b"/snponly.efi"), "firmware reads it of this one");
    assert_eq!((find(&all, 7), find(&all, 14)), (None, None), "EDK2 drops a rapid REPLY here");
    assert_eq!(answer.note.unwrap().sighting.address, Some(IpAddr::V6(address(FREE))));
}

#[test]
fn a_client_that_took_another_servers_address_loses_ours_and_the_operator_is_told() {
    let foreign = request(
        REQUEST,
        &[vec![option(1, &client()), option(2, &[0, 3, 0, 1, 9, 9, 9, 9, 9, 9])], pxe()].concat(),
    );
    let answer = answer(&settings(), &holding(FREE), &foreign);
    assert!(answer.reply.is_none());
    assert_eq!(answer.lease, LeaseChange::Release);
    assert!(text(&answer).contains("00030001090909090909"), "{}", text(&answer));
    assert!(text(&answer).contains("--dhcp6 off"), "{}", text(&answer));
}

#[test]
fn messages_that_name_no_server_where_they_must_or_one_where_they_must_not_get_silence() {
    let us = || option(2, &settings().duid);
    let association = || association(IAID, &[address(FREE)]);
    for message in [REQUEST, RENEW, RELEASE, DECLINE] {
        let bytes = request(message, &[option(1, &client()), association()]);
        let answer = answer(&settings(), &holding(FREE), &bytes);
        assert!(answer.reply.is_none() && answer.lease == LeaseChange::Keep, "{message}");
    }
    for message in [SOLICIT, CONFIRM, REBIND] {
        let bytes = request(message, &[option(1, &client()), us(), association()]);
        let answer = answer(&settings(), &holding(FREE), &bytes);
        assert!(answer.reply.is_none() && answer.lease == LeaseChange::Keep, "{message}");
    }
}

#[test]
fn wrong_addresses_are_denied_with_a_status() {
    let status = |facts: &Facts, message: u8, wanted: &str| match given(&ask(
        facts,
        message,
        &[],
        &[wanted],
    )) {
        Given::Refused(status, _) => Some(*status),
        Given::Nothing => None,
        Given::Address(address) => panic!("{address}"),
    };
    assert_eq!(status(&free(), REQUEST, "2001:db8::1"), Some(Status::NotOnLink));
    let none = Facts { now: NOW, wanted_is_taken: true, ..Facts::default() };
    assert_eq!(status(&none, REQUEST, "fd00:77::120"), Some(Status::NoAddrsAvail));
    let taken = Facts { wanted_is_taken: true, ..free() };
    for message in [RENEW, REBIND] {
        assert_eq!(status(&taken, message, "fd00:77::120"), Some(Status::NoBinding));
        assert_eq!(status(&free(), message, "fd00:77::5"), Some(Status::NoBinding));
        assert_eq!(status(&free(), message, "2001:db8::1"), None);
    }
    let answer = ask(&free(), REBIND, &[], &["2001:db8::1"]);
    let bytes = bytes(&answer, &settings(), &asked(REBIND, &[], &["2001:db8::1"]));
    assert_eq!(addresses(&bytes), (vec![(address("2001:db8::1"), 0, 0)], 0, 0), "it ends now");
}

#[test]
fn a_lease_is_extended_and_what_else_the_client_names_ends() {
    for message in [RENEW, REBIND] {
        let wanted = [FREE, "fd00:77::151"];
        let answer = ask(&holding(FREE), message, &[], &wanted);
        assert_eq!(answer.lease, LeaseChange::Hold(address(FREE), NOW + 3_600));
        let bytes = bytes(&answer, &settings(), &asked(message, &[], &wanted));
        let other = (address("fd00:77::151"), 0, 0);
        assert_eq!(addresses(&bytes).0, [(address(FREE), 3600, 3600), other]);
    }
    // After our database was lost a client keeps its address.
    let answer = ask(&free(), RENEW, &[], &["fd00:77::120"]);
    assert_eq!(*given(&answer), Given::Address(address("fd00:77::120")));
}

#[test]
fn a_client_that_comes_back_learns_whether_its_addresses_are_of_this_link() {
    let status = |wanted: &[&str]| {
        let answer = ask(&free(), CONFIRM, &[], wanted);
        assert_eq!(answer.lease, LeaseChange::Keep);
        answer.reply.map(|reply| reply.status.unwrap().0)
    };
    assert_eq!(status(&[FREE]), Some(Status::Success));
    assert_eq!(status(&[FREE, "2001:db8::1"]), Some(Status::NotOnLink));
    assert_eq!(status(&[]), None, "RFC 8415 18.3.3: silence");
}

#[test]
fn release_and_decline_count_for_the_clients_own_address_alone() {
    let change = |message: u8, facts: &Facts| {
        let answer = ask(facts, message, &[], &[FREE]);
        let reply = answer.reply.unwrap();
        assert_eq!(reply.message, MessageType::Reply);
        assert_eq!(reply.status.unwrap().0, Status::Success);
        (answer.lease, reply.association)
    };
    assert_eq!(change(RELEASE, &holding(FREE)), (LeaseChange::Release, None));
    let rests = LeaseChange::Decline(address(FREE), NOW + 600);
    assert_eq!(change(DECLINE, &holding(FREE)), (rests, None));
    for message in [RELEASE, DECLINE] {
        for facts in [free(), holding("fd00:77::151")] {
            let (lease, association) = change(message, &facts);
            assert_eq!(lease, LeaseChange::Keep);
            assert!(matches!(association, Some(Given::Refused(Status::NoBinding, _))));
        }
    }
}

#[test]
fn who_wants_no_address_is_told_the_rest() {
    let bytes_of = |more: Vec<Vec<u8>>| request(INFORM, &more);
    let asked = bytes_of(pxe());
    let answer = answer(&settings(), &free(), &asked);
    assert_eq!(answer.lease, LeaseChange::Keep);
    let all = options(&bytes(&answer, &settings(), &asked)[4..]);
    assert!(find(&all, 59).is_some() && find(&all, 3).is_none() && find(&all, 1).is_none());
    let wrong = bytes_of(vec![option(1, &client()), association(IAID, &[])]);
    assert!(common6::answer(&settings(), &free(), &wrong).reply.is_none(), "RFC 8415 16.12");
}

#[test]
fn prefixes_temporary_addresses_and_second_addresses_are_not_given_and_that_is_said() {
    let more = [
        association(7, &[]),
        option(4, &8u32.to_be_bytes()),
        option(25, &[&9u32.to_be_bytes()[..], &[0; 8]].concat()),
    ];
    let asked = asked(SOLICIT, &more, &[]);
    let answer = answer(&settings(), &free(), &asked);
    let all = options(&bytes(&answer, &settings(), &asked)[4..]);
    let status = |code: u16, head: usize, iaid: u32| {
        let option =
            all.iter().find(|option| option.0 == code && option.1[..4] == iaid.to_be_bytes());
        find(&options(&option.unwrap().1[head..]), 13).unwrap()[..2].to_vec()
    };
    assert_eq!(status(3, 12, 7), [0, 2]);
    assert_eq!(status(4, 4, 8), [0, 2]);
    assert_eq!(status(25, 12, 9), [0, 6]);
    // A router at home wants a prefix alone.
    let prefix = request(SOLICIT, &[option(1, &client()), more[2].clone()]);
    let answer = common6::answer(&settings(), &free(), &prefix);
    assert!(answer.reply.is_some() && answer.lease == LeaseChange::Keep);
}

#[test]
fn through_relays_the_answer_goes_back_in_the_same_envelopes() {
    let inner =
        relayed(0, "fd00:77::fe", SOURCE, &option(18, b"port 7"), &asked(SOLICIT, &pxe(), &[]));
    let outer = relayed(1, "::", address("fe80::7"), &option(18, b"uplink"), &inner);
    let answer = answer(&settings(), &free(), &outer);
    let reply = bytes(&answer, &settings(), &outer);
    assert_eq!(reply[..34], [&[13, 1][..], &[0; 16], &address("fe80::7").octets()].concat());
    let all = options(&reply[34..]);
    assert_eq!(find(&all, 18).unwrap(), b"uplink");
    let reply = find(&all, 9).unwrap();
    assert_eq!(reply[..18], [&[13, 0][..], &address("fd00:77::fe").octets()].concat());
    assert_eq!(reply[18..34], SOURCE.octets());
    let all = options(&reply[34..]);
    assert_eq!(find(&all, 18).unwrap(), b"port 7");
    assert_eq!(find(&all, 9).unwrap()[0], 2, "an ADVERTISE");
    assert_eq!(to(&outer, 1_234).port(), 547);
    let own_port =
        relayed(0, "fd00:77::fe", SOURCE, &option(135, &[0, 0]), &asked(SOLICIT, &[], &[]));
    assert_eq!(to(&own_port, 1_234).port(), 1_234, "RFC 8357");
    assert_eq!(to(&asked(SOLICIT, &[], &[]), 1_234).port(), 546);
    let back = bytes(&common6::answer(&settings(), &free(), &own_port), &settings(), &own_port);
    assert_eq!(find(&options(&back[34..]), 135).unwrap(), [0, 0]);
}

#[test]
fn a_link_that_the_pool_is_not_of_is_refused_and_the_operator_told_what_to_change() {
    let far = relayed(0, "fd00:99::fe", SOURCE, &[], &asked(SOLICIT, &pxe(), &[]));
    let refused = answer(&settings(), &free(), &far);
    assert!(refused.reply.is_none() && refused.lease == LeaseChange::Keep);
    assert!(text(&refused).contains("--pool6"), "{}", text(&refused));

    let pool = "fd00:99::100-fd00:99::1ff".parse().unwrap();
    let settings = Settings { pool, ..settings() };
    let facts = Facts { now: NOW, free: Some(address("fd00:99::150")), ..Facts::default() };
    let served = answer(&settings, &facts, &far);
    assert_eq!(*given(&served), Given::Address(address("fd00:99::150")));
    let near = answer(&settings, &facts, &asked(SOLICIT, &pxe(), &[]));
    assert!(near.reply.is_none() && text(&near).contains("our own link"), "{}", text(&near));
}

#[test]
fn the_machine_that_a_relay_names_is_the_one_that_its_files_are_named_for() {
    let named = [&[0, 1][..], &[0x52, 0x54, 0, 1, 2, 3]].concat();
    let asked =
        relayed(0, "::", address("fe80::9"), &option(79, &named), &asked(SOLICIT, &pxe(), &[]));
    assert!(url(&answer(&settings(), &free(), &asked)).contains("/52-54-00-01-02-03/"));
    assert_ne!(MAC.0, [0x52, 0x54, 0, 1, 2, 3]);
}
