//! A reply: what it says, and its bytes.

use super::{
    boot::Boot,
    packet::{RELAY_PORT, Relay, Request},
    settings::Settings,
};
use dhcproto::v6::{
    DhcpOption, DhcpOptions, Encodable, Encoder, IAAddr, IANA, MessageType, OptionCode, Status,
    StatusCode, UnknownOption,
};
use std::net::{Ipv6Addr, SocketAddrV6};

/// Where clients listen (RFC 8415 section 7.2).
pub const CLIENT_PORT: u16 = 546;
/// Where servers and relays listen.
pub const SERVER_PORT: u16 = 547;
/// Intel's number among IANA's enterprises, by which PXE's and HTTP boot's classes go.
const INTEL: u32 = 343;

/// A reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// ADVERTISE or REPLY.
    pub message: MessageType,
    /// What becomes of the client's association.
    pub association: Option<Given>,
    /// Associations of other kinds, or beyond the one, are told that there is nothing for them.
    pub refuse_others: bool,
    /// Option 13, with a text for people.
    pub status: Option<(Status, String)>,
    /// Option 14: this REPLY is the answer to a SOLICIT.
    pub rapid: bool,
    /// What the client boots.
    pub boot: Option<Boot>,
}

/// What becomes of an association.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// It has this address for the whole lease; others that it named end now.
    Address(Ipv6Addr),
    /// All addresses that it named end now.
    Nothing,
    /// A status, with a text for people.
    Refused(Status, String),
}

/// Where a reply goes: to the relay next to us, or to the client; in both cases to who sent.
pub fn to(request: &Request, sender: SocketAddrV6) -> SocketAddrV6 {
    let mut to = sender;
    match request.relays.first() {
        None => to.set_port(CLIENT_PORT),
        Some(Relay { port: None, .. }) => to.set_port(SERVER_PORT),
        // RFC 8357: it sends from, and listens at, a port of its own.
        Some(Relay { port: Some(_), .. }) => {}
    }
    to
}

impl Reply {
    /// A reply that says nothing more yet.
    pub fn new(message: MessageType) -> Self {
        Self {
            message,
            association: None,
            refuse_others: false,
            status: None,
            rapid: false,
            boot: None,
        }
    }

    /// The reply's bytes, in the envelopes of the relays that the request came through.
    pub fn bytes(&self, settings: &Settings, request: &Request) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.message)];
        bytes.extend(request.xid);
        // First of all, and so never last: firmware reads a URL up to the next zero byte.
        if let Some(boot) = &self.boot {
            let url = boot.url.clone().into_bytes();
            put(&mut bytes, raw(OptionCode::OptBootfileUrl, url));
            if boot.http {
                put(&mut bytes, raw(OptionCode::VendorClass, http_class()));
            }
        }
        if let Some(client) = &request.client {
            put(&mut bytes, DhcpOption::ClientId(client.clone()));
        }
        put(&mut bytes, DhcpOption::ServerId(settings.duid.clone()));
        if self.message == MessageType::Advertise {
            put(&mut bytes, DhcpOption::Preference(u8::MAX));
        }
        if self.rapid {
            put(&mut bytes, DhcpOption::RapidCommit);
        }
        if let Some((status, text)) = &self.status {
            put(&mut bytes, told(*status, text));
        }
        if let (Some(given), Some(asked)) = (&self.association, request.association()) {
            let options = given.options(&asked.addresses, settings.lease_seconds);
            put(&mut bytes, association(asked.iaid, given, options, settings.lease_seconds));
        }
        if self.refuse_others {
            refuse(&mut bytes, request);
        }
        if !settings.dns.is_empty() {
            put(&mut bytes, DhcpOption::DomainNameServers(settings.dns.clone()));
        }
        request.relays.iter().rev().fold(bytes, envelope)
    }
}

impl Given {
    fn options(&self, asked: &[Ipv6Addr], seconds: u32) -> DhcpOptions {
        let address = |addr, seconds| {
            DhcpOption::IAAddr(IAAddr {
                addr,
                preferred_life: seconds,
                valid_life: seconds,
                opts: DhcpOptions::new(),
            })
        };
        let ended = |kept| {
            let others = asked.iter().filter(move |asked| Some(**asked) != kept);
            others.map(|asked| address(*asked, 0))
        };
        match self {
            Self::Address(given) => {
                std::iter::once(address(*given, seconds)).chain(ended(Some(*given))).collect()
            }
            Self::Nothing => ended(None).collect(),
            Self::Refused(status, text) => std::iter::once(told(*status, text)).collect(),
        }
    }
}

/// T1 and T2 as RFC 8415 section 21.4 recommends them: a half and four fifths of the lease.
fn association(iaid: u32, given: &Given, opts: DhcpOptions, seconds: u32) -> DhcpOption {
    let (t1, t2) = match given {
        Given::Address(_) => (seconds / 2, seconds / 5 * 4),
        Given::Nothing | Given::Refused(..) => (0, 0),
    };
    DhcpOption::IANA(IANA { id: iaid, t1, t2, opts })
}

/// What nobody gets from us: a second address, a temporary one, a prefix.
fn refuse(bytes: &mut Vec<u8>, request: &Request) {
    let no_address = told(Status::NoAddrsAvail, "one address a client");
    for asked in request.associations.iter().skip(1) {
        let given = Given::Refused(Status::NoAddrsAvail, "one address a client".into());
        put(bytes, association(asked.iaid, &given, given.options(&[], 0), 0));
    }
    for (code, iaid) in &request.others {
        let prefix = *code == u16::from(OptionCode::IAPD);
        let mut value = iaid.to_be_bytes().to_vec();
        let status = if prefix {
            // T1 and T2 (RFC 8415 section 21.21).
            value.extend([0; 8]);
            told(Status::NoPrefixAvail, "no prefixes are given out here")
        } else {
            no_address.clone()
        };
        put(&mut value, status);
        put(bytes, raw(OptionCode::from(*code), value));
    }
}

fn told(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: text.chars().take(200).collect() })
}

/// Option 16 as HTTP boot wants it (UEFI 2.10 section 24.7.3.1). By hand: `dhcproto` counts its
/// parts where it should count its bytes.
fn http_class() -> Vec<u8> {
    const CLASS: &[u8] = b"HTTPClient";
    [&INTEL.to_be_bytes()[..], &(CLASS.len() as u16).to_be_bytes(), CLASS].concat()
}

fn raw(code: OptionCode, value: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code, value))
}

/// Appends an option. One by one, and not as the library's set of them: that would sort them.
fn put(bytes: &mut Vec<u8>, option: DhcpOption) {
    let mut encoded = Vec::new();
    // A reply's options are far from the 64 KiB at which this could fail.
    if option.encode(&mut Encoder::new(&mut encoded)).is_ok() {
        bytes.extend(encoded);
    }
}

/// A RELAY-REPL for the relay of a RELAY-FORW (RFC 8415 section 19.3).
fn envelope(letter: Vec<u8>, relay: &Relay) -> Vec<u8> {
    let mut bytes = vec![u8::from(MessageType::RelayRepl), relay.hops];
    bytes.extend(relay.link.octets());
    bytes.extend(relay.peer.octets());
    if let Some(id) = &relay.interface {
        put(&mut bytes, DhcpOption::InterfaceId(id.clone()));
    }
    if let Some(port) = &relay.port {
        put(&mut bytes, raw(OptionCode::Unknown(RELAY_PORT), port.clone()));
    }
    put(&mut bytes, raw(OptionCode::RelayMsg, letter));
    bytes
}
