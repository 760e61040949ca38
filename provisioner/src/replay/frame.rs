//! From frames to UDP datagrams: Ethernet with VLAN tags or Linux's cooked header, IPv4 and IPv6.

use super::capture::{Capture, Frame, Link};
use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// A datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its frame's number.
    pub number: usize,
    /// Since 1970.
    pub at: Duration,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// What it carries, as much as was captured.
    pub payload: &'a [u8],
}

/// All datagrams of a capture, in its order. What is anything else, or in fragments, is left out:
/// nothing that boots fragments its requests.
pub fn datagrams<'a>(capture: &Capture<'a>) -> Vec<Datagram<'a>> {
    capture.frames.iter().filter_map(datagram).collect()
}

fn datagram<'a>(frame: &Frame<'a>) -> Option<Datagram<'a>> {
    let bytes = frame.bytes;
    let sliced = match frame.link {
        Link::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok()?,
        // 16 bytes with the protocol at their end; 20 with it at their beginning.
        Link::Cooked => cooked(bytes.get(14..16)?, bytes.get(16..)?),
        Link::Cooked2 => cooked(bytes.get(..2)?, bytes.get(20..)?),
    };
    let (source, destination): (IpAddr, IpAddr) = match sliced.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else { return None };
    Some(Datagram {
        number: frame.number,
        at: frame.at,
        source: SocketAddr::new(source, udp.source_port()),
        destination: SocketAddr::new(destination, udp.destination_port()),
        payload: udp.payload(),
    })
}

fn cooked<'a>(protocol: &[u8], rest: &'a [u8]) -> LaxSlicedPacket<'a> {
    let protocol = protocol.iter().fold(0, |number, &byte| number << 8 | u16::from(byte));
    LaxSlicedPacket::from_ether_type(EtherType(protocol), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn read(link: Link, bytes: &[u8]) -> Option<Datagram<'_>> {
        datagram(&Frame { number: 1, at: Duration::ZERO, link, bytes })
    }

    fn written(tags: usize) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [0xff; 6]);
        let vlan = |id: u16| id.try_into().unwrap();
        let mut bytes = Vec::new();
        match tags {
            0 => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(67, 68).write(&mut bytes, b"text"),
            1 => link
                .single_vlan(vlan(7))
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(67, 68)
                .write(&mut bytes, b"text"),
            _ => link
                .double_vlan(vlan(7), vlan(8))
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .udp(67, 68)
                .write(&mut bytes, b"text"),
        }
        .unwrap();
        bytes
    }

    #[test]
    fn a_datagram_is_found_behind_vlan_tags_and_cooked_headers() {
        let plain = written(0);
        let cooked = [&[0; 14][..], &plain[12..]].concat();
        let cooked2 = [&plain[12..14], &[0; 18], &plain[14..]].concat();
        for (link, bytes) in [
            (Link::Ethernet, &plain),
            (Link::Ethernet, &written(1)),
            (Link::Ethernet, &written(2)),
            (Link::Cooked, &cooked),
            (Link::Cooked2, &cooked2),
        ] {
            let found = read(link, bytes).unwrap();
            assert_eq!(found.source, "10.0.0.1:67".parse().unwrap());
            assert_eq!(found.destination, "10.0.0.2:68".parse().unwrap());
            assert_eq!(found.payload, b"text");
        }
    }

    #[test]
    fn a_datagram_over_ipv6_is_found_too_and_one_that_was_cut_off_as_far_as_it_goes() {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [0xff; 6])
            .ipv6([1; 16], [2; 16], 64)
            .udp(546, 547)
            .write(&mut bytes, b"solicit")
            .unwrap();
        let found = read(Link::Ethernet, &bytes).unwrap();
        assert_eq!((found.destination.port(), found.payload), (547, &b"solicit"[..]));
        let found = read(Link::Ethernet, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(found.payload, b"soli");
    }

    #[test]
    fn what_is_no_datagram_is_left_out() {
        let mut fragment = written(0);
        fragment[20] |= 0x20;
        assert!(read(Link::Ethernet, &fragment).is_none());
        assert!(read(Link::Ethernet, &[0; 60]).is_none());
        assert!(read(Link::Cooked, &[0; 15]).is_none());
        assert!(read(Link::Ethernet, &[]).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            real in any::<bool>(),
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let mut bytes = if real { written(2) } else { bytes };
            if !bytes.is_empty() {
                *at.get_mut(&mut bytes) = value;
            }
            for link in [Link::Ethernet, Link::Cooked, Link::Cooked2] {
                let _ = read(link, &bytes);
            }
        }
    }
}
