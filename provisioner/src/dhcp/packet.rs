//! A DHCP request as foreign bytes, and what we read out of it.
//!
//! The header is read by `dhcproto`; the options are walked here, because a library that stops at
//! the first option it dislikes (a host name that is not UTF-8) would lose the ones behind it,
//! and because it reads only the first architecture of option 93.

use crate::machine::{Mac, uuid_of_guid};
use dhcproto::v4::{self, MessageType, OptionCode, borrowed};
use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

/// The longest request looked at: one Ethernet frame's. Nothing that boots sends more.
pub const MAX_LEN: usize = 1500;

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// DISCOVER, REQUEST, DECLINE, RELEASE or INFORM.
    pub message: MessageType,
    /// The transaction.
    pub xid: u32,
    /// Flags as sent; the reply repeats them.
    pub flags: u16,
    /// The client's address, once it has one.
    pub ciaddr: Ipv4Addr,
    /// The relay that the request came through, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// The client.
    pub mac: Mac,
    /// Option 50: the address it wants.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: the server that it chose.
    pub server: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Option 77.
    pub user_class: Vec<u8>,
    /// Option 93, or what option 60 says in its `Arch:` part.
    pub architectures: Vec<u16>,
    /// Option 97 as sent.
    pub guid: Option<Vec<u8>>,
    /// Option 61 as sent.
    pub client_id: Option<Vec<u8>>,
    /// Option 82 as sent.
    pub relay: Option<Vec<u8>>,
    /// Option 43 as sent.
    pub vendor_options: Option<Vec<u8>>,
    /// Option 175 as sent: iPXE's own.
    pub ipxe: Option<Vec<u8>>,
}

impl Request {
    /// The SMBIOS UUID, where option 97 has a usable one.
    pub fn uuid(&self) -> Option<String> {
        self.guid.as_deref().and_then(uuid_of_guid)
    }

    /// The address that this request is about: the one asked for, or the one in use.
    pub fn wanted(&self) -> Option<Ipv4Addr> {
        self.requested.or((!self.ciaddr.is_unspecified()).then_some(self.ciaddr))
    }
}

/// Why a packet gets no answer. All of them are the sender's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Fewer bytes than a header.
    #[error("{0} bytes are no DHCP message: the header alone takes 240")]
    TooShort(usize),
    /// More bytes than a frame.
    #[error("more than {MAX_LEN} bytes: no client that boots sends so long a request")]
    TooLong,
    /// A reply, or nonsense.
    #[error("operation {0} is not a request")]
    NotARequest(u8),
    /// No Ethernet.
    #[error(
        "hardware type {kind} with addresses of {length} bytes: only Ethernet (1, 6) is served"
    )]
    NotEthernet {
        /// `htype`.
        kind: u8,
        /// `hlen`.
        length: u8,
    },
    /// A group's or no address.
    #[error("{0} cannot be one machine's address")]
    NotAMachine(Mac),
    /// BOOTP without DHCP.
    #[error("no DHCP magic number: plain BOOTP is not served")]
    NoMagic,
    /// An option says that it is longer than what is there.
    #[error("option {code} says {length} bytes, {left} are there: the packet is cut off or forged")]
    CutOff {
        /// The option.
        code: u8,
        /// What it says.
        length: usize,
        /// What is there.
        left: usize,
    },
    /// An option that must be there is not.
    #[error("no message type (option 53): plain BOOTP is not served")]
    NoMessageType,
    /// An option of a wrong length.
    #[error("option {code} has {found} bytes, {wanted} are wanted")]
    Length {
        /// The option.
        code: u8,
        /// Its length.
        found: usize,
        /// The right one.
        wanted: usize,
    },
    /// A server's message, or an unknown one.
    #[error("message type {0} is not one that clients send")]
    NotAClients(u8),
}

impl Refused {
    /// One word for the counter of such packets.
    pub fn counter(&self) -> &'static str {
        match self {
            Self::TooShort(_) | Self::CutOff { .. } => "truncated",
            Self::TooLong => "too-long",
            Self::NotARequest(_) | Self::NotAClients(_) => "not-a-request",
            Self::NotEthernet { .. } | Self::NotAMachine(_) => "bad-address",
            Self::NoMagic | Self::NoMessageType => "plain-bootp",
            Self::Length { .. } => "bad-option",
        }
    }
}

/// Reads a request. Never panics, whatever the bytes.
pub fn parse(bytes: &[u8]) -> Result<Request, Refused> {
    if bytes.len() > MAX_LEN {
        return Err(Refused::TooLong);
    }
    let header = borrowed::Message::new(bytes).map_err(|_| Refused::TooShort(bytes.len()))?;
    if header.opcode() != v4::Opcode::BootRequest {
        return Err(Refused::NotARequest(header.opcode().into()));
    }
    // Before anything reads the address: a length above 16 would reach past its field.
    let (kind, length) = (u8::from(header.htype()), header.hlen());
    if (kind, length) != (1, 6) {
        return Err(Refused::NotEthernet { kind, length });
    }
    let mut mac = Mac([0; 6]);
    mac.0.copy_from_slice(header.chaddr());
    if !mac.is_unicast() {
        return Err(Refused::NotAMachine(mac));
    }
    if bytes[236..240] != v4::MAGIC {
        return Err(Refused::NoMagic);
    }
    let options = Options::read(bytes)?;

    let message = options.fixed::<1>(OptionCode::MessageType)?.ok_or(Refused::NoMessageType)?[0];
    let message = match MessageType::from(message) {
        known @ (MessageType::Discover
        | MessageType::Request
        | MessageType::Decline
        | MessageType::Release
        | MessageType::Inform) => known,
        _ => return Err(Refused::NotAClients(message)),
    };
    let address = |code| Ok(options.fixed::<4>(code)?.map(Ipv4Addr::from));
    let vendor_class = options.bytes(OptionCode::ClassIdentifier).unwrap_or_default();
    let architectures = options
        .bytes(OptionCode::ClientSystemArchitecture)
        .map(|list| {
            list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
        })
        .filter(|list: &Vec<u16>| !list.is_empty())
        .unwrap_or_else(|| architecture_in_class(&vendor_class).into_iter().collect());
    Ok(Request {
        message,
        xid: header.xid(),
        flags: header.flags().into(),
        ciaddr: header.ciaddr(),
        giaddr: header.giaddr(),
        mac,
        requested: address(OptionCode::RequestedIpAddress)?,
        server: address(OptionCode::ServerIdentifier)?,
        vendor_class,
        user_class: options.bytes(OptionCode::UserClass).unwrap_or_default(),
        architectures,
        guid: options.bytes(OptionCode::ClientMachineIdentifier),
        client_id: options.bytes(OptionCode::ClientIdentifier),
        relay: options.bytes(OptionCode::RelayAgentInformation),
        vendor_options: options.bytes(OptionCode::VendorExtensions),
        ipxe: options.bytes(OptionCode::Unknown(IPXE_OPTIONS)),
    })
}

/// iPXE's own option space, registered as "Etherboot" (175).
pub const IPXE_OPTIONS: u8 = 175;

/// Options by code, parts of one option joined (RFC 3396).
pub(crate) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Reads those of a message with its whole header.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let mut options = Self(BTreeMap::new());
        options.walk(&bytes[240..])?;
        // Option overload (RFC 2132 9.3): more of them in `file`, then in `sname`.
        let overload = options.fixed::<1>(OptionCode::OptionOverload)?.map_or(0, |[bits]| bits);
        if overload & 1 != 0 {
            options.walk(&bytes[108..236])?;
        }
        if overload & 2 != 0 {
            options.walk(&bytes[44..108])?;
        }
        Ok(options)
    }

    fn walk(&mut self, mut rest: &[u8]) -> Result<(), Refused> {
        loop {
            match rest {
                [] | [255, ..] => return Ok(()),
                [0, tail @ ..] => rest = tail,
                [code] => return Err(Refused::CutOff { code: *code, length: 0, left: 0 }),
                [code, length, tail @ ..] => {
                    let length = usize::from(*length);
                    let (value, tail) = tail.split_at_checked(length).ok_or(Refused::CutOff {
                        code: *code,
                        length,
                        left: tail.len(),
                    })?;
                    self.0.entry(*code).or_default().extend_from_slice(value);
                    rest = tail;
                }
            }
        }
    }

    pub(crate) fn bytes(&self, code: OptionCode) -> Option<Vec<u8>> {
        self.0.get(&code.into()).cloned()
    }

    pub(crate) fn fixed<const N: usize>(
        &self,
        code: OptionCode,
    ) -> Result<Option<[u8; N]>, Refused> {
        let code = code.into();
        let Some(value) = self.0.get(&code) else { return Ok(None) };
        let wrong = |_| Refused::Length { code, found: value.len(), wanted: N };
        value.as_slice().try_into().map(Some).map_err(wrong)
    }
}

/// `PXEClient:Arch:00007:UNDI:003000` -> 7.
pub(crate) fn architecture_in_class(class: &[u8]) -> Option<u16> {
    let mut parts = class.split(|&byte| byte == b':');
    parts.find(|part| *part == b"Arch")?;
    std::str::from_utf8(parts.next()?).ok()?.parse().ok()
}

/// Every field on a line of its own, for logs and for the readable form beside a captured packet.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
        let raw = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".into(), hex::encode);
        let address = |address: Option<Ipv4Addr>| address.map_or("-".into(), |a| a.to_string());
        writeln!(f, "message        {:?}", self.message)?;
        writeln!(f, "client         {}", self.mac)?;
        writeln!(f, "xid            {:08x}", self.xid)?;
        writeln!(f, "flags          {:04x}", self.flags)?;
        writeln!(f, "ciaddr         {}", self.ciaddr)?;
        writeln!(f, "giaddr         {}", self.giaddr)?;
        writeln!(f, "requested (50) {}", address(self.requested))?;
        writeln!(f, "server (54)    {}", address(self.server))?;
        writeln!(f, "class (60)     {}", text(&self.vendor_class))?;
        writeln!(f, "user (77)      {}", text(&self.user_class))?;
        writeln!(f, "arch (93, 60)  {:?}", self.architectures)?;
        writeln!(f, "uuid (97)      {}", self.uuid().unwrap_or("-".into()))?;
        writeln!(f, "id (61)        {}", raw(&self.client_id))?;
        writeln!(f, "relay (82)     {}", raw(&self.relay))?;
        writeln!(f, "vendor (43)    {}", raw(&self.vendor_options))?;
        writeln!(f, "iPXE (175)     {}", raw(&self.ipxe))
    }
}
