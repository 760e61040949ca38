//! DISCOVER and REQUEST as three kinds of client send them. What options each has was read off
//! packets of real ones (provisioner/tests/packets).

use crate::machine::Machine;
use std::net::Ipv4Addr;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// EDK2's PXE on x64.
    Edk2,
    /// iPXE as `snponly.efi`.
    Ipxe,
    /// The system that booted.
    Linux,
}

impl Client {
    /// Whether it is after something to boot too.
    pub fn boots(self) -> bool {
        self != Self::Linux
    }
}

/// What of a request differs from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub seconds: u16,
    /// The relay that it comes through.
    pub giaddr: Option<Ipv4Addr>,
    /// None for DISCOVER; server and address that are taken for REQUEST.
    pub taken: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// The magic number between header and options (RFC 2131 section 3).
pub const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Replies to everyone: a client without an address hears nothing else (RFC 2131 section 4.1).
const BROADCAST: u16 = 0x8000;
/// EDK2's option 60: x64, UNDI 3.0.
const EDK2_CLASS: &[u8] = b"PXEClient:Arch:00007:UNDI:003000";
const EDK2_WANTED: &[u8] = &[
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66,
    67, 97, 128, 129, 130, 131, 132, 133, 134, 135,
];
const IPXE_WANTED: &[u8] = &[
    1, 3, 6, 7, 12, 15, 17, 26, 42, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135,
    175, 203,
];
/// iPXE's features (option 175): HTTP, EFI and what else `snponly.efi` is built with.
const IPXE_FEATURES: &[u8] = &[
    177, 5, 1, 26, 244, 16, 0, 235, 3, 1, 0, 0, 38, 1, 1, 23, 1, 1, 39, 1, 1, 36, 1, 1, 19, 1, 1,
    20, 1, 1, 17, 1, 1, 41, 1, 1, 21, 1, 1, 18, 1, 1,
];

/// The bytes of a request.
pub fn bytes(client: Client, machine: &Machine, terms: &Terms) -> Vec<u8> {
    let mut packet = header(machine, terms);
    let mut option = |code: u8, value: &[u8]| {
        packet.extend([code, value.len() as u8]);
        packet.extend(value);
    };
    option(53, &[if terms.taken.is_some() { 3 } else { 1 }]);
    let guid = [&[0][..], &machine.guid].concat();
    let id = [&[1][..], &machine.mac.0].concat();
    let taken = |option: &mut dyn FnMut(u8, &[u8])| {
        if let Some((server, address)) = terms.taken {
            option(54, &server.octets());
            option(50, &address.octets());
        }
    };
    match client {
        Client::Edk2 => {
            taken(&mut option);
            option(57, &[0x05, 0xc0]);
            option(55, EDK2_WANTED);
            option(97, &guid);
            option(94, &[1, 3, 0]);
            option(93, &[0, 7]);
            option(60, EDK2_CLASS);
        }
        Client::Ipxe => {
            option(57, &[0x05, 0xc0]);
            option(93, &[0, 7]);
            option(94, &[1, 3, 10]);
            option(60, b"PXEClient");
            option(77, b"iPXE");
            option(55, IPXE_WANTED);
            option(175, IPXE_FEATURES);
            option(61, &id);
            option(97, &guid);
            taken(&mut option);
        }
        Client::Linux => {
            option(57, &[0x05, 0xc0]);
            option(61, &id);
            option(55, &[1, 3, 6, 12, 15, 26, 42, 51, 54, 58, 59, 121]);
            taken(&mut option);
        }
    }
    packet.push(255);
    packet
}

/// The fixed part: 236 bytes, then the magic number (RFC 2131 section 2).
fn header(machine: &Machine, terms: &Terms) -> Vec<u8> {
    let mut packet = vec![0; 236];
    let hops = u8::from(terms.giaddr.is_some());
    packet[..4].copy_from_slice(&[1, 1, 6, hops]);
    packet[4..8].copy_from_slice(&terms.xid.to_be_bytes());
    packet[8..10].copy_from_slice(&terms.seconds.to_be_bytes());
    packet[10..12].copy_from_slice(&BROADCAST.to_be_bytes());
    if let Some(giaddr) = terms.giaddr {
        packet[24..28].copy_from_slice(&giaddr.octets());
    }
    packet[28..34].copy_from_slice(&machine.mac.0);
    packet.extend(MAGIC);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use provisioner::dhcp::{classify, parse};

    const PLAIN: Terms = Terms { xid: 0x0102_0304, seconds: 4, giaddr: None, taken: None };

    #[test]
    fn the_provisioner_takes_each_client_for_what_it_plays() {
        let machine = Machine::new(5, 1);
        for (client, wanted) in [
            (Client::Edk2, "UEFI x64 firmware (PXE)"),
            (Client::Ipxe, "iPXE on UEFI x64"),
            (Client::Linux, "a running system"),
        ] {
            let request = parse(&bytes(client, &machine, &PLAIN)).unwrap();
            assert_eq!(classify(&request).to_string(), wanted);
            assert_eq!((request.mac.0, request.xid), (machine.mac.0, PLAIN.xid));
            assert_eq!(request.flags, BROADCAST);
            if client.boots() {
                assert_eq!(request.uuid(), Some(machine.uuid()));
            }
        }
    }

    #[test]
    fn a_request_names_server_and_address_and_a_relay_its_own() {
        let (server, address) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 9));
        let relay = Ipv4Addr::new(10, 0, 0, 2);
        let terms = Terms { giaddr: Some(relay), taken: Some((server, address)), ..PLAIN };
        for client in [Client::Edk2, Client::Ipxe, Client::Linux] {
            let request = parse(&bytes(client, &Machine::new(5, 1), &terms)).unwrap();
            assert_eq!((request.server, request.requested), (Some(server), Some(address)));
            assert_eq!(request.giaddr, relay);
        }
    }
}
