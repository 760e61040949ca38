//! What DHCP servers answer: IPv4's OFFERs and boot servers' ACKs, DHCPv6's ADVERTISEs, and router
//! advertisements.

use super::{
    question::{Asked, Firmware},
    text::said,
};
use crate::{
    dhcp::packet::{MAX_LEN, Options},
    machine::Mac,
};
use dhcproto::{
    Decodable, Decoder,
    v4::{self, OptionCode, borrowed},
    v6,
};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// The most addresses that are read of a list.
const MAX_LIST: usize = 8;

/// The boot server's port (PXE 2.1).
const BOOT_SERVER: u16 = 4011;

/// A DHCP server's answer to one of our questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// As whom we asked.
    pub(super) firmware: Firmware,
    /// Who answers: option 54, or where the answer came from.
    pub(super) server: Ipv4Addr,
    /// The port that it answers from: 67, or 4011 of a boot server.
    pub(super) port: u16,
    /// Where its frame came from: the server, or the relay or router on our wire.
    pub(super) sender: Mac,
    /// The relay that it came by.
    pub(super) relay: Option<Ipv4Addr>,
    /// The address that it gives.
    pub(super) address: Option<Ipv4Addr>,
    /// The network's mask (1).
    pub(super) mask: Option<Ipv4Addr>,
    /// Routers (3).
    pub(super) routers: Vec<Ipv4Addr>,
    /// The file to boot: `file`, or option 67.
    pub(super) boot_file: Option<String>,
    /// Where it lies: option 66, or `siaddr`.
    pub(super) boot_server: Option<String>,
    /// Option 60.
    pub(super) class: Option<String>,
    /// The first server of the boot menu in option 43, by its type (PXE 2.1, option 43.9).
    pub(super) boot_item: Option<u16>,
    /// The MTU (26).
    pub(super) mtu: Option<u16>,
    /// NTP servers (42).
    pub(super) time_servers: Vec<Ipv4Addr>,
}

impl Offer {
    /// Reads what came to port 68; none where it answers none of our questions.
    pub(super) fn read(
        asked: &Asked,
        sender: Mac,
        from: SocketAddrV4,
        bytes: &[u8],
    ) -> Option<Self> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let header = borrowed::Message::new(bytes).ok()?;
        let ours = header.opcode() == v4::Opcode::BootReply
            // Before anything reads the address: a length above 16 would reach past its field.
            && header.hlen() == 6
            && header.chaddr() == asked.client.0
            && bytes.get(236..240)? == v4::MAGIC;
        let firmware = asked.of(header.xid()).filter(|_| ours)?;
        let options = Options::read(bytes).ok()?;
        let text = |code| options.bytes(code).and_then(|bytes| said(&bytes));
        let address = |code| options.fixed::<4>(code).ok().flatten().map(Ipv4Addr::from);
        let list = |code| -> Vec<Ipv4Addr> {
            let bytes = options.bytes(code).unwrap_or_default();
            let quads = bytes.chunks_exact(4).take(MAX_LIST);
            quads.map(|quad| Ipv4Addr::new(quad[0], quad[1], quad[2], quad[3])).collect()
        };
        let given = |address: Ipv4Addr| Some(address).filter(|a| !a.is_unspecified());
        // `sname` and `file` hold options where 52 says so.
        let overload =
            options.fixed::<1>(OptionCode::OptionOverload).ok().flatten().map_or(0, |[bits]| bits);
        let file = said(&bytes[108..236]).filter(|_| overload & 1 == 0);
        let mtu = options.fixed::<2>(OptionCode::InterfaceMtu).ok().flatten();
        Some(Self {
            firmware,
            server: address(OptionCode::ServerIdentifier).unwrap_or(*from.ip()),
            port: from.port(),
            sender,
            relay: given(header.giaddr()),
            // A boot server repeats there the address that it was asked from.
            address: given(header.yiaddr()).filter(|_| from.port() != BOOT_SERVER),
            mask: address(OptionCode::SubnetMask),
            routers: list(OptionCode::Router),
            boot_file: text(OptionCode::BootfileName).or(file),
            boot_server: text(OptionCode::TFTPServerName)
                .or_else(|| given(header.siaddr()).map(|address| address.to_string())),
            class: text(OptionCode::ClassIdentifier),
            boot_item: options.bytes(OptionCode::VendorExtensions).and_then(|menu| item(&menu)),
            mtu: mtu.map(u16::from_be_bytes),
            time_servers: list(OptionCode::NtpServers),
        })
    }

    /// Whether it speaks of booting at all.
    pub(super) fn boots(&self) -> bool {
        self.boot_file.is_some() || self.is_pxe()
    }

    /// Whether it calls itself a PXE or HTTP boot server.
    pub(super) fn is_pxe(&self) -> bool {
        let named = |class: &str| class.starts_with("PXEClient") || class.starts_with("HTTPClient");
        self.class.as_deref().is_some_and(named)
    }
}

/// The first item of option 43's boot menu that is no local boot (type 0).
fn item(vendor_options: &[u8]) -> Option<u16> {
    let mut rest = vendor_options;
    while let [code, length, tail @ ..] = rest {
        let (value, tail) = tail.split_at_checked(usize::from(*length))?;
        if *code == 9 {
            let mut menu = value;
            while let [a, b, length, tail @ ..] = menu {
                let kind = u16::from_be_bytes([*a, *b]);
                if kind != 0 {
                    return Some(kind);
                }
                menu = tail.get(usize::from(*length)..)?;
            }
        }
        rest = tail;
    }
    None
}

/// A DHCPv6 server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advert {
    /// Where it came from.
    pub(super) from: Ipv6Addr,
    /// The sender of its frame.
    pub(super) sender: Mac,
    /// The address that it gives.
    pub(super) address: Option<Ipv6Addr>,
    /// What to boot (59).
    pub(super) boot_url: Option<String>,
}

impl Advert {
    /// Reads what came to port 546; none where it does not answer us.
    pub(super) fn read(asked: &Asked, sender: Mac, from: Ipv6Addr, bytes: &[u8]) -> Option<Self> {
        // Advertise, and our transaction.
        if bytes.len() > MAX_LEN || bytes.first() != Some(&2) || bytes.get(1..4)? != asked.six {
            return None;
        }
        let message = v6::Message::decode(&mut Decoder::new(bytes)).ok()?;
        let address = message.opts().iter().find_map(|option| match option {
            v6::DhcpOption::IANA(identity) => {
                identity.opts.iter().find_map(|option| match option {
                    v6::DhcpOption::IAAddr(address) => Some(address.addr),
                    _ => None,
                })
            }
            _ => None,
        });
        let boot_url = message.opts().iter().find_map(|option| match option {
            v6::DhcpOption::Unknown(option) if option.code() == v6::OptionCode::OptBootfileUrl => {
                said(option.data())
            }
            _ => None,
        });
        Some(Self { from, sender, address, boot_url })
    }
}

/// A router's advertisement (RFC 4861 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Router {
    /// Its link-local address.
    pub(super) from: Ipv6Addr,
    /// Addresses are to be had by DHCPv6 (M).
    pub(super) managed: bool,
    /// It is a way out: its lifetime is not 0.
    pub(super) default: bool,
    /// Machines may make an address of a prefix of its own (A).
    pub(super) autonomous: bool,
    /// The link's MTU.
    pub(super) mtu: Option<u32>,
}

impl Router {
    /// Reads an ICMPv6 message; none where it is no advertisement.
    pub(super) fn read(from: Ipv6Addr, message: &[u8]) -> Option<Self> {
        let [134, 0, _, _, _, flags, life @ ..] = message else { return None };
        let default = life.get(..2)? != [0, 0];
        let mut router =
            Self { from, managed: flags & 0x80 != 0, default, autonomous: false, mtu: None };
        let mut rest = message.get(16..)?;
        while let [kind, length, ..] = rest {
            // In units of eight bytes; 0 is forged (4.6).
            let length = usize::from(*length) * 8;
            let (true, Some((option, tail))) = (length > 0, rest.split_at_checked(length)) else {
                break;
            };
            match kind {
                3 => router.autonomous |= option.get(3).is_some_and(|flags| flags & 0x40 != 0),
                5 => {
                    let bytes = option.get(4..8).and_then(|bytes| bytes.try_into().ok());
                    router.mtu = bytes.map(u32::from_be_bytes);
                }
                _ => {}
            }
            rest = tail;
        }
        Some(router)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use dhcproto::v4::{DhcpOption, Encodable, Message, MessageType, Opcode};
    use proptest::prelude::*;

    pub(in crate::doctor) const SENDER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 67);

    pub(in crate::doctor) fn asked() -> Asked {
        Asked::new([7; 20])
    }

    fn message(asked: &Asked, options: Vec<DhcpOption>) -> Vec<u8> {
        let any = Ipv4Addr::UNSPECIFIED;
        let given = Ipv4Addr::new(10, 0, 0, 50);
        let xid = asked.transactions[1];
        let mut message = Message::new_with_id(xid, any, given, any, any, &asked.client.0);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Offer));
        for option in options {
            message.opts_mut().insert(option);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn a_home_routers_offer_gives_an_address_and_no_file() {
        let asked = asked();
        let ntp = DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 0, 0, 3)]);
        let bytes = message(&asked, vec![ntp, DhcpOption::InterfaceMtu(1400)]);
        let offer = Offer::read(&asked, SENDER, SERVER, &bytes).unwrap();
        assert_eq!((offer.firmware, offer.server), (Firmware::Bios, *SERVER.ip()));
        assert_eq!(offer.address, Some(Ipv4Addr::new(10, 0, 0, 50)));
        assert!(!offer.boots());
        assert_eq!((offer.mtu, offer.time_servers.len()), (Some(1400), 1));
    }

    #[test]
    fn a_boot_server_is_known_by_file_and_class() {
        let asked = asked();
        let file = DhcpOption::BootfileName("lpxelinux.0\0".into());
        let class = DhcpOption::ClassIdentifier("PXEClient".into());
        let own = DhcpOption::ServerIdentifier([10, 0, 0, 5].into());
        // Local boot, then a server of type 0x8001.
        let menu = b"\x06\x01\x03\x09\x0c\0\0\x02hd\x80\x01\x04boot\xff".to_vec();
        let menu = DhcpOption::VendorExtensions(menu);
        let bytes = message(&asked, vec![file, class, own, menu]);
        let offer = Offer::read(&asked, SENDER, SERVER, &bytes).unwrap();
        assert_eq!(offer.boot_file.as_deref(), Some("lpxelinux.0"));
        assert_eq!(offer.server, Ipv4Addr::new(10, 0, 0, 5));
        assert!(offer.boots() && offer.is_pxe());
        assert_eq!(offer.boot_item, Some(0x8001));
        // What it answers on its own port gives nobody an address.
        let binl = SocketAddrV4::new(*SERVER.ip(), 4011);
        assert_eq!(Offer::read(&asked, SENDER, binl, &bytes).unwrap().address, None);
    }

    #[test]
    fn an_answer_to_somebody_else_is_none_to_us() {
        let bytes = message(&Asked::new([8; 20]), vec![]);
        assert_eq!(Offer::read(&asked(), SENDER, SERVER, &bytes), None);
    }

    #[test]
    fn a_dhcpv6_server_is_known_by_its_url() {
        let asked = asked();
        let mut message = v6::Message::new_with_id(v6::MessageType::Advertise, asked.six);
        message.opts_mut().insert(v6::DhcpOption::IANA(v6::IANA {
            id: 1,
            t1: 0,
            t2: 0,
            opts: [v6::DhcpOption::IAAddr(v6::IAAddr {
                addr: "fd00::9".parse().unwrap(),
                preferred_life: 60,
                valid_life: 60,
                opts: Default::default(),
            })]
            .into_iter()
            .collect(),
        }));
        let url = b"tftp://[fd00::1]/x.efi".to_vec();
        let option = v6::UnknownOption::new(v6::OptionCode::OptBootfileUrl, url);
        message.opts_mut().insert(v6::DhcpOption::Unknown(option));
        let bytes = v6::Encodable::to_vec(&message).unwrap();
        let from = "fe80::1".parse().unwrap();
        let advert = Advert::read(&asked, SENDER, from, &bytes).unwrap();
        assert_eq!(advert.boot_url.as_deref(), Some("tftp://[fd00::1]/x.efi"));
        assert_eq!(advert.address, Some("fd00::9".parse().unwrap()));
        assert_eq!(Advert::read(&Asked::new([9; 20]), SENDER, from, &bytes), None);
    }

    #[test]
    fn a_router_says_where_addresses_come_from() {
        let from = "fe80::1".parse().unwrap();
        let head = [134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let mtu = [5, 1, 0, 0, 0, 0, 0x05, 0x78];
        let router = Router::read(from, &[&head[..], &mtu].concat()).unwrap();
        assert!(router.managed && router.default && !router.autonomous);
        assert_eq!(router.mtu, Some(1400));
        // An option of no length would be read for ever.
        assert!(Router::read(from, &[&head[..], &[3, 0, 0, 0, 0, 0, 0, 0]].concat()).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let asked = asked();
            let mut offer = message(&asked, vec![]);
            offer.truncate(240);
            let _ = Offer::read(&asked, SENDER, SERVER, &[offer, bytes.clone()].concat());
            let from = Ipv6Addr::UNSPECIFIED;
            let six = [&[2][..], &asked.six, &bytes].concat();
            let _ = Advert::read(&asked, SENDER, from, &six);
            let _ = Router::read(from, &[&[134, 0][..], &bytes].concat());
            let _ = item(&[&[9, 40][..], &bytes].concat());
        }
    }
}
