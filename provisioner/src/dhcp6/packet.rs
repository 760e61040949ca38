//! A DHCPv6 request as foreign bytes, and what we read out of it.
//!
//! Codes are `dhcproto`'s; the options are walked here, as in DHCPv4: the library's readers take
//! lengths for granted (options 11, 13, 16 and 17 shorter than their heads end in an overflow), and
//! stop at the first option that they dislike.

use super::whose::{Evidence, whose};
use crate::{dhcp::packet::architecture_in_class, machine::Mac};
use dhcproto::v6::{MessageType, OptionCode};
use std::{fmt, net::Ipv6Addr};

/// The longest request looked at: one Ethernet frame's. Nothing that boots sends more.
pub const MAX_LEN: usize = 1500;
/// The most relays that a request comes through: hop counts 0 to `HOP_COUNT_LIMIT` (RFC 8415
/// section 7.6).
pub const MAX_RELAYS: usize = 9;
/// The shortest and the longest DUID: a type, and 1 to 128 bytes (RFC 8415 section 11.1).
const DUID_LEN: std::ops::RangeInclusive<usize> = 3..=130;
/// The most identity associations looked at, and addresses in one: clients have one of each.
const MAX_ASSOCIATIONS: usize = 8;

/// A request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked: SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE or
    /// INFORMATION-REQUEST.
    pub message: MessageType,
    /// The transaction.
    pub xid: [u8; 3],
    /// The machine.
    pub mac: Mac,
    /// What told that.
    pub evidence: Evidence,
    /// Option 1: the client's DUID; only an INFORMATION-REQUEST may have none.
    pub client: Option<Vec<u8>>,
    /// Option 2: the DUID of the server that it chose.
    pub server: Option<Vec<u8>>,
    /// Option 3: addresses that it wants or has, by association.
    pub associations: Vec<Association>,
    /// Options 4 and 25: what nobody gets from us, by code and association.
    pub others: Vec<(u16, u32)>,
    /// Option 14: it takes a REPLY at once.
    pub rapid: bool,
    /// Option 16: vendor class data, of whatever enterprise.
    pub vendor_class: Vec<u8>,
    /// Option 15: one of its user classes is iPXE's.
    pub ipxe: bool,
    /// Option 61, or what option 16 says in its `Arch:` part.
    pub architectures: Vec<u16>,
    /// Relays, from the one next to us to the one next to the client.
    pub relays: Vec<Relay>,
}

/// An identity association for addresses (IA_NA).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// Its number.
    pub iaid: u32,
    /// Addresses in it.
    pub addresses: Vec<Ipv6Addr>,
}

/// A relay that a request came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// How many came before it.
    pub hops: u8,
    /// An address of the link that its client is on; unspecified where it does not say.
    pub link: Ipv6Addr,
    /// Whom it heard.
    pub peer: Ipv6Addr,
    /// Option 18 as sent: goes back.
    pub interface: Option<Vec<u8>>,
    /// Option 135 as sent (RFC 8357): goes back, and the reply goes to the port that was sent from.
    pub port: Option<Vec<u8>>,
}

impl Request {
    /// The association that is served.
    pub fn association(&self) -> Option<&Association> {
        self.associations.first()
    }

    /// The address that this request is about.
    pub fn wanted(&self) -> Option<Ipv6Addr> {
        self.association()?.addresses.first().copied()
    }

    /// An address of the link that the client is on, where a relay tells (RFC 8415 section 13.1):
    /// the one nearest to the client that says.
    pub fn link(&self) -> Option<Ipv6Addr> {
        let told = self.relays.iter().rev().map(|relay| relay.link);
        told.into_iter().find(|link| !link.is_unspecified() && !link.is_unicast_link_local())
    }
}

/// Why a packet gets no answer. All of them are the sender's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Fewer bytes than a header.
    #[error("{0} bytes are no DHCPv6 message")]
    TooShort(usize),
    /// More bytes than a frame.
    #[error("more than {MAX_LEN} bytes: no client that boots sends so long a request")]
    TooLong,
    /// A server's message, or an unknown one.
    #[error("message type {0} is not one that clients send")]
    NotAClients(u8),
    /// Relays in relays.
    #[error("it came through more than {MAX_RELAYS} relays: they send it round in a circle")]
    TooManyRelays,
    /// A relay's envelope without a letter.
    #[error("a relay's message without the client's (option 9)")]
    NothingRelayed,
    /// Not from this link, and not by a relay.
    #[error("it came neither from this link nor by a relay")]
    Stranger,
    /// An option says that it is longer than what is there.
    #[error("option {code} says {length} bytes, {left} are there: the packet is cut off or forged")]
    CutOff {
        /// The option.
        code: u16,
        /// What it says.
        length: usize,
        /// What is there.
        left: usize,
    },
    /// An option of a wrong length.
    #[error("option {code} has {found} bytes, at least {wanted} are wanted")]
    Length {
        /// The option.
        code: u16,
        /// Its length.
        found: usize,
        /// The shortest.
        wanted: usize,
    },
    /// No client id, or none that can be one.
    #[error("its DUID has {0} bytes: 3 to 130 are wanted")]
    Duid(usize),
    /// Nothing tells which machine it is.
    #[error(
        "nothing tells its MAC address, by which machines are known here: its DUID is no DUID-LL \
         or DUID-LLT, no relay names it (option 79), and its link-local address is made up; set \
         one of the three on it"
    )]
    NoMachine,
}

impl Refused {
    /// One word for the counter of such packets.
    pub fn counter(&self) -> &'static str {
        match self {
            Self::TooShort(_) | Self::CutOff { .. } => "dhcp6-truncated",
            Self::TooLong => "dhcp6-too-long",
            Self::NotAClients(_) => "dhcp6-not-a-request",
            Self::TooManyRelays | Self::NothingRelayed => "dhcp6-bad-relay",
            Self::Stranger => "dhcp6-stranger",
            Self::Length { .. } | Self::Duid(_) => "dhcp6-bad-option",
            Self::NoMachine => "dhcp6-no-machine",
        }
    }
}

/// RFC 8357's option, which `dhcproto` names for itself alone.
pub(super) const RELAY_PORT: u16 = 135;

/// Reads a request from `sender`. Never panics, whatever the bytes.
pub fn parse(bytes: &[u8], sender: Ipv6Addr) -> Result<Request, Refused> {
    if bytes.len() > MAX_LEN {
        return Err(Refused::TooLong);
    }
    let (mut rest, mut relays, mut named) = (bytes, Vec::new(), Vec::new());
    while rest.first().is_some_and(|kind| *kind == u8::from(MessageType::RelayForw)) {
        if relays.len() == MAX_RELAYS {
            return Err(Refused::TooManyRelays);
        }
        let (relay, options) = relay(rest)?;
        relays.push(relay);
        named.extend(options.get(OptionCode::ClientLinklayerAddr));
        rest = options.get(OptionCode::RelayMsg).ok_or(Refused::NothingRelayed)?;
    }
    // The relay next to the client is the one that sees its frames (RFC 6939 section 5).
    named.reverse();
    let source = relays.last().map_or(sender, |relay| relay.peer);
    if relays.is_empty() && !sender.is_unicast_link_local() {
        return Err(Refused::Stranger);
    }
    let (&[kind, x, y, z], body) = rest.split_first_chunk().ok_or(Refused::TooShort(rest.len()))?;
    let message = match MessageType::from(kind) {
        known @ (MessageType::Solicit
        | MessageType::Request
        | MessageType::Confirm
        | MessageType::Renew
        | MessageType::Rebind
        | MessageType::Release
        | MessageType::Decline
        | MessageType::InformationRequest) => known,
        _ => return Err(Refused::NotAClients(kind)),
    };
    let options = Options::read(body)?;
    let client = options.get(OptionCode::ClientId);
    match client {
        Some(duid) if !DUID_LEN.contains(&duid.len()) => return Err(Refused::Duid(duid.len())),
        None if message != MessageType::InformationRequest => return Err(Refused::Duid(0)),
        _ => {}
    }
    let (mac, evidence) =
        whose(client.unwrap_or_default(), &named, source).ok_or(Refused::NoMachine)?;
    let vendor_class = match options.get(OptionCode::VendorClass) {
        Some(class) => text(class.get(4..).unwrap_or_default()).unwrap_or_default().to_vec(),
        None => Vec::new(),
    };
    let architectures = options.get(OptionCode::ClientArchType).map_or_else(
        || architecture_in_class(&vendor_class).into_iter().collect(),
        |list| list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
    );
    Ok(Request {
        message,
        xid: [x, y, z],
        mac,
        evidence,
        client: client.map(<[u8]>::to_vec),
        server: options.get(OptionCode::ServerId).map(<[u8]>::to_vec),
        associations: options.associations()?,
        others: options.others(),
        rapid: options.get(OptionCode::RapidCommit).is_some(),
        ipxe: options.get(OptionCode::UserClass).is_some_and(is_ipxe),
        vendor_class,
        architectures,
        relays,
    })
}

/// A relay's header (RFC 8415 section 9) and its options.
fn relay(bytes: &[u8]) -> Result<(Relay, Options<'_>), Refused> {
    let short = || Refused::TooShort(bytes.len());
    let (&[_, hops], rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (link, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (peer, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let options = Options::read(rest)?;
    let relay = Relay {
        hops,
        link: Ipv6Addr::from(*link),
        peer: Ipv6Addr::from(*peer),
        interface: options.get(OptionCode::InterfaceId).map(<[u8]>::to_vec),
        port: options.get(OptionCode::Unknown(RELAY_PORT)).map(<[u8]>::to_vec),
    };
    Ok((relay, options))
}

/// The first of the texts in a class, each with its length before it.
fn text(class: &[u8]) -> Option<&[u8]> {
    let (length, rest) = class.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

fn is_ipxe(class: &[u8]) -> bool {
    // The bare word too, as in DHCPv4.
    class == b"iPXE" || text(class) == Some(b"iPXE")
}

/// Options in their order.
struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    fn read(mut rest: &'a [u8]) -> Result<Self, Refused> {
        let mut options = Vec::new();
        while let [a, b, c, d, tail @ ..] = rest {
            let (code, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            let length = usize::from(length);
            let left = tail.len();
            let (value, tail) =
                tail.split_at_checked(length).ok_or(Refused::CutOff { code, length, left })?;
            options.push((code, value));
            rest = tail;
        }
        match rest {
            [] => Ok(Self(options)),
            rest => Err(Refused::CutOff { code: 0, length: 4, left: rest.len() }),
        }
    }

    /// The first of a code: those that we read come once (RFC 8415 section 24).
    fn get(&self, code: OptionCode) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    fn all(&self, code: OptionCode) -> impl Iterator<Item = &'a [u8]> {
        let code = u16::from(code);
        self.0.iter().filter(move |option| option.0 == code).map(|option| option.1)
    }

    fn associations(&self) -> Result<Vec<Association>, Refused> {
        self.all(OptionCode::IANA).take(MAX_ASSOCIATIONS).map(association).collect()
    }

    fn others(&self) -> Vec<(u16, u32)> {
        let codes = [OptionCode::IATA, OptionCode::IAPD];
        let all = codes.into_iter().flat_map(|code| {
            let iaid = |value: &[u8]| value.first_chunk().copied().map(u32::from_be_bytes);
            self.all(code).filter_map(iaid).map(move |iaid| (u16::from(code), iaid))
        });
        all.take(MAX_ASSOCIATIONS).collect()
    }
}

/// An IA_NA (RFC 8415 section 21.4): number, T1, T2, options.
fn association(value: &[u8]) -> Result<Association, Refused> {
    let code = u16::from(OptionCode::IANA);
    let short = Refused::Length { code, found: value.len(), wanted: 12 };
    let (iaid, rest) = value.split_first_chunk().ok_or(short.clone())?;
    let options = Options::read(rest.get(8..).ok_or(short)?)?;
    let address = |value: &[u8]| value.first_chunk::<16>().copied().map(Ipv6Addr::from);
    Ok(Association {
        iaid: u32::from_be_bytes(*iaid),
        addresses: options
            .all(OptionCode::IAAddr)
            .filter_map(address)
            .take(MAX_ASSOCIATIONS)
            .collect(),
    })
}

/// Every field on a line of its own, for logs and for the readable form beside a captured packet.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
        let raw = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".into(), hex::encode);
        writeln!(
            f,
            "message        {:?}{}",
            self.message,
            if self.rapid { ", rapid" } else { "" }
        )?;
        writeln!(f, "machine        {} by {}", self.mac, self.evidence)?;
        writeln!(f, "xid            {}", hex::encode(self.xid))?;
        writeln!(f, "client (1)     {}", raw(&self.client))?;
        writeln!(f, "server (2)     {}", raw(&self.server))?;
        for each in &self.associations {
            let addresses: Vec<String> = each.addresses.iter().map(Ipv6Addr::to_string).collect();
            writeln!(f, "IA_NA (3)      {:08x} {}", each.iaid, addresses.join(" "))?;
        }
        writeln!(f, "class (16)     {}", text(&self.vendor_class))?;
        writeln!(f, "iPXE (15)      {}", self.ipxe)?;
        writeln!(f, "arch (61, 16)  {:?}", self.architectures)?;
        for relay in &self.relays {
            let id = raw(&relay.interface);
            writeln!(f, "relay          link {} peer {} interface {id}", relay.link, relay.peer)?;
        }
        Ok(())
    }
}
