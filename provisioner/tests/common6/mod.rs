//! What tests of DHCPv6 share: settings, and requests made of options.

use provisioner::{
    dhcp::settings::HttpBoot,
    dhcp6::{
        Answer, classify, decide,
        decide::Facts,
        parse, reply,
        settings::{Settings, duid},
    },
    machine::Mac,
    net6::Network6,
};
use std::net::{Ipv6Addr, SocketAddrV6};

/// The client of made-up requests; its link-local address below is made of it.
pub(crate) const MAC: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 9]);
/// The client's link-local address.
pub(crate) const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfeaa, 0x0009);
/// The number of the client's association.
pub(crate) const IAID: u32 = 0xa11a;

/// A DUID-UUID, as EDK2 sends it.
pub(crate) fn client() -> Vec<u8> {
    [&[0, 4][..], &[0x77; 16]].concat()
}

pub(crate) fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// fd00:77::1/64 with the pool ::100 to ::1ff.
pub(crate) fn settings() -> Settings {
    Settings {
        network: Network6 { address: address("fd00:77::1"), prefix: 64 },
        duid: duid(Mac([2, 0xa1, 0x1a, 0, 0, 1])),
        pool: "fd00:77::100-fd00:77::1ff".parse().unwrap(),
        dns: vec![],
        lease_seconds: 3600,
        base_url: "http://[fd00:77::1]:8080".into(),
        https_url: "https://[fd00:77::1]:8443".into(),
        http_boot: HttpBoot::Https,
        bios_file: "undionly.kpxe".into(),
        uefi_file: "snponly.efi".into(),
        uki: None,
    }
}

/// An option's bytes.
pub(crate) fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// An IA_NA with addresses in it.
pub(crate) fn association(iaid: u32, addresses: &[Ipv6Addr]) -> Vec<u8> {
    let mut value = [&iaid.to_be_bytes()[..], &[0; 8]].concat();
    for address in addresses {
        value.extend(option(5, &[&address.octets()[..], &[0; 8]].concat()));
    }
    option(3, &value)
}

/// A vendor class of Intel's enterprise number.
pub(crate) fn vendor(class: &[u8]) -> Vec<u8> {
    let text = [&(class.len() as u16).to_be_bytes()[..], class].concat();
    option(16, &[&343u32.to_be_bytes()[..], &text].concat())
}

/// A request with these options' bytes.
pub(crate) fn request(message: u8, options: &[Vec<u8>]) -> Vec<u8> {
    [&[message, 1, 2, 3][..], &options.concat()].concat()
}

/// A RELAY-FORW around a message.
pub(crate) fn relayed(hops: u8, link: &str, peer: Ipv6Addr, more: &[u8], letter: &[u8]) -> Vec<u8> {
    let header = [&[12, hops][..], &address(link).octets(), &peer.octets()].concat();
    [header, more.to_vec(), option(9, letter)].concat()
}

pub(crate) fn answer(settings: &Settings, facts: &Facts, bytes: &[u8]) -> Answer {
    let request = parse(bytes, SOURCE).unwrap();
    decide(settings, facts, &request, classify(&request))
}

/// The reply's bytes.
pub(crate) fn bytes(answer: &Answer, settings: &Settings, asked: &[u8]) -> Vec<u8> {
    answer.reply.as_ref().unwrap().bytes(settings, &parse(asked, SOURCE).unwrap())
}

/// Where the reply to a request from `SOURCE` goes.
pub(crate) fn to(asked: &[u8], port: u16) -> SocketAddrV6 {
    reply::to(&parse(asked, SOURCE).unwrap(), SocketAddrV6::new(SOURCE, port, 0, 7))
}

/// A message's options in their order.
pub(crate) fn options(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        options.push((u16::from_be_bytes([*a, *b]), tail[..length].to_vec()));
        rest = &tail[length..];
    }
    assert!(rest.is_empty(), "options end in their own bounds");
    options
}

/// One of them.
pub(crate) fn find(options: &[(u16, Vec<u8>)], code: u16) -> Option<Vec<u8>> {
    options.iter().find(|option| option.0 == code).map(|option| option.1.clone())
}
