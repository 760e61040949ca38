//! What the doctor asks: the requests that firmware would send.

use super::frame::{self, EVERYBODY};
use crate::machine::Mac;
use dhcproto::{
    v4::{Architecture, DhcpOption, Encodable, Flags, Message, MessageType, OptionCode},
    v6,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// As whom we ask. Servers may answer each otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Firmware {
    /// UEFI x64, PXE.
    Uefi,
    /// BIOS, PXE.
    Bios,
    /// UEFI x64, HTTP boot.
    UefiHttp,
}

impl Firmware {
    pub(super) const ALL: [Self; 3] = [Self::Uefi, Self::Bios, Self::UefiHttp];

    fn class(self) -> &'static str {
        match self {
            Self::Uefi => "PXEClient:Arch:00007:UNDI:003016",
            Self::Bios => "PXEClient:Arch:00000:UNDI:002001",
            Self::UefiHttp => "HTTPClient:Arch:00016:UNDI:003016",
        }
    }

    fn architecture(self) -> Architecture {
        Architecture::from(match self {
            Self::Uefi => 7,
            Self::Bios => 0,
            Self::UefiHttp => 16,
        })
    }
}

/// Who asks, and by which numbers an answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The machine that we say to be: nobody's address, so that no lease of anybody's is touched.
    pub(super) client: Mac,
    /// Each question's transaction, in the order of [`Firmware::ALL`].
    pub(super) transactions: [u32; 3],
    /// DHCPv6's.
    pub(super) six: [u8; 3],
}

impl Asked {
    /// From random bytes.
    pub fn new(random: [u8; 20]) -> Self {
        let [a, b, c, d, e, f, rest @ ..] = random;
        let number =
            |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let first = number(0);
        Self {
            // Locally administered, and one machine's.
            client: Mac([a & 0xfc | 2, b, c, d, e, f]),
            // Never two alike.
            transactions: [first, first.wrapping_add(1), first.wrapping_add(2)],
            six: [rest[4], rest[5], rest[6]],
        }
    }

    /// As whom we asked what this transaction answers.
    pub(super) fn of(&self, transaction: u32) -> Option<Firmware> {
        let at = self.transactions.iter().position(|&known| known == transaction)?;
        Some(Firmware::ALL[at])
    }

    fn message(&self, firmware: Firmware, kind: MessageType, ciaddr: Ipv4Addr) -> Message {
        let any = Ipv4Addr::UNSPECIFIED;
        let xid = self.transactions[firmware as usize];
        let mut message = Message::new_with_id(xid, ciaddr, any, any, any, &self.client.0);
        let guid = [&[0][..], &self.client.0, &[0; 10]].concat();
        for option in [
            DhcpOption::MessageType(kind),
            DhcpOption::ClassIdentifier(firmware.class().into()),
            DhcpOption::ClientSystemArchitecture(firmware.architecture()),
            DhcpOption::ClientNetworkInterface(1, 3, 16),
            DhcpOption::ClientMachineIdentifier(guid),
            DhcpOption::MaxMessageSize(1472),
            DhcpOption::ParameterRequestList(vec![
                OptionCode::SubnetMask,
                OptionCode::Router,
                OptionCode::DomainNameServer,
                OptionCode::InterfaceMtu,
                OptionCode::NtpServers,
                OptionCode::VendorExtensions,
                OptionCode::ServerIdentifier,
                OptionCode::ClassIdentifier,
                OptionCode::TFTPServerName,
                OptionCode::BootfileName,
            ]),
        ] {
            message.opts_mut().insert(option);
        }
        message
    }

    /// A DISCOVER as this firmware sends it, in its frame. The frame is from the interface's own
    /// address: a switch may close a port at which a stranger's turns up.
    pub(super) fn discover(&self, firmware: Firmware, from: Mac) -> Vec<u8> {
        let mut message = self.message(firmware, MessageType::Discover, Ipv4Addr::UNSPECIFIED);
        message.set_flags(Flags::default().set_broadcast());
        let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        let bytes = message.to_vec().unwrap_or_default();
        frame::udp4((from, EVERYBODY), (source, everybody), &bytes)
    }

    /// The question to a boot server on port 4011 (PXE 2.1 section 2.2.4).
    pub(super) fn boot_server(
        &self,
        firmware: Firmware,
        (from, our): (Mac, Ipv4Addr),
        (to, server): (Mac, Ipv4Addr),
        item: Option<u16>,
    ) -> Vec<u8> {
        let mut message = self.message(firmware, MessageType::Request, our);
        if let Some(item) = item {
            // Its layer 0.
            let [a, b] = item.to_be_bytes();
            message.opts_mut().insert(DhcpOption::VendorExtensions(vec![71, 4, a, b, 0, 0, 255]));
        }
        let ends = (SocketAddrV4::new(our, 68), SocketAddrV4::new(server, 4011));
        frame::udp4((from, to), ends, &message.to_vec().unwrap_or_default())
    }

    /// A SOLICIT as UEFI sends it (RFC 8415 section 16.2, RFC 5970), in its frame.
    pub(super) fn solicit(&self, from: Mac, address: Ipv6Addr) -> Vec<u8> {
        let mut message = v6::Message::new_with_id(v6::MessageType::Solicit, self.six);
        let duid = [&[0, 3, 0, 1][..], &self.client.0].concat();
        let wanted = vec![v6::OptionCode::DomainNameServers, v6::OptionCode::OptBootfileUrl];
        for option in [
            v6::DhcpOption::ClientId(duid),
            v6::DhcpOption::IANA(v6::IANA { id: 1, t1: 0, t2: 0, opts: Default::default() }),
            v6::DhcpOption::ORO(v6::ORO { opts: wanted }),
            v6::DhcpOption::ElapsedTime(0),
            v6::DhcpOption::ClientArchType(vec![Architecture::from(7)]),
        ] {
            message.opts_mut().insert(option);
        }
        let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
        let bytes = v6::Encodable::to_vec(&message).unwrap_or_default();
        frame::udp6(from, (address, servers), (546, 547), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frame::Carried, *};
    use crate::dhcp::{Client, Platform, classify, classify::Way, parse};

    #[test]
    fn our_questions_are_those_of_firmware() {
        let asked = Asked::new([0xff; 20]);
        assert!(asked.client.is_unicast() && asked.client.0[0] & 2 != 0);
        let from = Mac([2, 0, 0, 0, 0, 1]);
        for (firmware, client) in Firmware::ALL.into_iter().zip([
            Client::Firmware(Platform::Uefi, Way::Pxe),
            Client::Firmware(Platform::Bios, Way::Pxe),
            Client::Firmware(Platform::Uefi, Way::Http),
        ]) {
            let bytes = asked.discover(firmware, from);
            let frame = frame::read(&bytes).unwrap();
            let Carried::Udp4 { to, payload, .. } = frame.carried else { panic!("no UDP") };
            let request = parse(payload).unwrap();
            assert_eq!((frame.sender, to.port(), request.mac), (from, 67, asked.client));
            assert_eq!((classify(&request), request.flags), (client, 0x8000));
            assert_eq!(asked.of(request.xid), Some(firmware));
        }
    }

    #[test]
    fn a_boot_server_is_asked_for_the_item_of_its_menu() {
        let us = (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1));
        let bytes = Asked::new([1; 20]).boot_server(Firmware::Uefi, us, us, Some(0x8001));
        let Some(Carried::Udp4 { to, payload, .. }) = frame::read(&bytes).map(|f| f.carried) else {
            panic!("no UDP")
        };
        let request = parse(payload).unwrap();
        assert_eq!((to.port(), request.ciaddr), (4011, us.1));
        assert_eq!(request.vendor_options.unwrap()[..4], [71, 4, 0x80, 1]);
    }
}
