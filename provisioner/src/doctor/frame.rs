//! Ethernet frames: what the doctor reads of one, and how it writes its own.

use crate::machine::Mac;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, NetSlice, PacketBuilder,
    SlicedPacket, TransportSlice,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// Everybody.
pub(super) const EVERYBODY: Mac = Mac([0xff; 6]);
/// IEEE 802.1Q and 802.1ad tags.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// LLDP (IEEE 802.1AB).
const LLDP: u16 = 0x88cc;
/// A frame whose type field is no more than this carries its length there (IEEE 802.3).
const MAX_LENGTH: u16 = 1500;

/// What a frame carries, of all that the doctor listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// UDP over IPv4.
    Udp4 { from: SocketAddrV4, to: SocketAddrV4, payload: &'a [u8] },
    /// UDP over IPv6.
    Udp6 { from: Ipv6Addr, ports: (u16, u16), payload: &'a [u8] },
    /// ICMPv6, from its type on.
    Icmp6 { from: Ipv6Addr, message: &'a [u8] },
    /// ARP over Ethernet for IPv4: who sends, and the address it says is its own.
    Arp { sender: Mac, address: Ipv4Addr },
    /// LLC (IEEE 802.2), from its header on.
    Llc(&'a [u8]),
    /// LLDP.
    Lldp(&'a [u8]),
}

/// A frame as far as the doctor reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its sender.
    pub(super) sender: Mac,
    /// What is in it.
    pub(super) carried: Carried<'a>,
}

/// Reads a frame; none where it carries nothing that is listened for, or is cut off.
pub(super) fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let sender = Mac(bytes.get(6..12)?.try_into().ok()?);
    let mut at = 12;
    let mut kind = word(bytes, at)?;
    // One tag, or two (IEEE 802.1ad).
    for _ in 0..2 {
        if TAGS.contains(&kind) {
            at += 4;
            kind = word(bytes, at)?;
        }
    }
    let rest = bytes.get(at + 2..)?;
    let carried = match kind {
        LLDP => Carried::Lldp(rest),
        // What follows is padding.
        length @ ..=MAX_LENGTH => Carried::Llc(rest.get(..usize::from(length))?),
        _ => packet(bytes)?,
    };
    Some(Frame { sender, carried })
}

fn packet(bytes: &[u8]) -> Option<Carried<'_>> {
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    match (packet.net?, packet.transport) {
        (NetSlice::Arp(arp), _) => Some(Carried::Arp {
            sender: Mac(arp.sender_hw_addr().try_into().ok()?),
            address: Ipv4Addr::from(<[u8; 4]>::try_from(arp.sender_protocol_addr()).ok()?),
        }),
        (NetSlice::Ipv4(ip), Some(TransportSlice::Udp(udp))) => {
            let header = ip.header();
            Some(Carried::Udp4 {
                from: SocketAddrV4::new(header.source_addr(), udp.source_port()),
                to: SocketAddrV4::new(header.destination_addr(), udp.destination_port()),
                payload: udp.payload(),
            })
        }
        (NetSlice::Ipv6(ip), Some(TransportSlice::Udp(udp))) => Some(Carried::Udp6 {
            from: ip.header().source_addr(),
            ports: (udp.source_port(), udp.destination_port()),
            payload: udp.payload(),
        }),
        (NetSlice::Ipv6(ip), Some(TransportSlice::Icmpv6(icmp))) => {
            Some(Carried::Icmp6 { from: ip.header().source_addr(), message: icmp.slice() })
        }
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A UDP datagram over IPv4 in its frame.
pub(super) fn udp4(
    (sender, receiver): (Mac, Mac),
    (from, to): (SocketAddrV4, SocketAddrV4),
    payload: &[u8],
) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(sender.0, receiver.0)
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port());
    let mut bytes = Vec::with_capacity(packet.size(payload.len()));
    // A vector takes all that is written.
    let _ = packet.write(&mut bytes, payload);
    bytes
}

/// The Ethernet address of an IPv6 group (RFC 2464 section 7).
fn group(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// A UDP datagram to an IPv6 group in its frame.
pub(super) fn udp6(
    sender: Mac,
    (from, to): (Ipv6Addr, Ipv6Addr),
    (source, destination): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(sender.0, group(to).0)
        .ipv6(from.octets(), to.octets(), 1)
        .udp(source, destination);
    let mut bytes = Vec::with_capacity(packet.size(payload.len()));
    let _ = packet.write(&mut bytes, payload);
    bytes
}

/// A router solicitation (RFC 4861 section 4.1) with its sender's Ethernet address.
pub(super) fn router_solicitation(sender: Mac, from: Ipv6Addr) -> Vec<u8> {
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    // The hop limit shows that no router passed it on.
    let packet = PacketBuilder::ethernet2(sender.0, group(routers).0)
        .ipv6(from.octets(), routers.octets(), 255)
        .icmpv6(Icmpv6Type::RouterSolicitation);
    let option = [&[1, 1][..], &sender.0].concat();
    let mut bytes = Vec::with_capacity(packet.size(option.len()));
    let _ = packet.write(&mut bytes, &option);
    bytes
}

/// An ARP probe: who has this address? Its sender names none, so that nobody's table changes
/// (RFC 5227 section 2.1.1).
pub(super) fn arp_probe(sender: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(42);
    let probe = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &sender.0,
        &Ipv4Addr::UNSPECIFIED.octets(),
        &[0; 6],
        &address.octets(),
    );
    if let Ok(probe) = probe {
        let _ = PacketBuilder::ethernet2(sender.0, EVERYBODY.0).arp(probe).write(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn what_is_written_is_read_again() {
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let bytes = udp4((US, EVERYBODY), (from, to), b"question");
        let carried = Carried::Udp4 { from, to, payload: b"question" };
        assert_eq!(read(&bytes), Some(Frame { sender: US, carried }));

        let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
        let servers = "ff02::1:2".parse().unwrap();
        let bytes = udp6(US, (link_local, servers), (546, 547), b"six");
        assert_eq!(bytes[..6], [0x33, 0x33, 0, 1, 0, 2]);
        let carried = Carried::Udp6 { from: link_local, ports: (546, 547), payload: b"six" };
        assert_eq!(read(&bytes), Some(Frame { sender: US, carried }));

        let bytes = router_solicitation(US, link_local);
        let Some(Frame { carried: Carried::Icmp6 { message, .. }, .. }) = read(&bytes) else {
            panic!("no ICMPv6")
        };
        assert_eq!((message[0], message.len()), (133, 16));
    }

    #[test]
    fn a_probe_asks_for_an_address_and_claims_none() {
        let bytes = arp_probe(US, Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(bytes.len(), 42);
        assert_eq!(bytes[38..], [10, 0, 0, 9]);
        let carried = Carried::Arp { sender: US, address: Ipv4Addr::UNSPECIFIED };
        assert_eq!(read(&bytes), Some(Frame { sender: US, carried }));
    }

    #[test]
    fn padding_and_tags_are_no_part_of_a_bpdu() {
        let plain = [&[1, 0x80, 0xc2, 0, 0, 0][..], &US.0, &[0, 3, 0x42, 0x42, 3, 0, 0]].concat();
        let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat();
        for bytes in [plain, tagged] {
            let frame = read(&bytes).unwrap();
            assert_eq!(frame.carried, Carried::Llc(&[0x42, 0x42, 3]));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
