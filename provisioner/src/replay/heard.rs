//! A server's reply as a client hears it: ours and a captured one are read alike.

use crate::{
    dhcp::packet::{Options, Refused},
    machine::Mac,
};
use dhcproto::v4::{MAGIC, MessageType, OptionCode};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// The options that say what is booted, besides the header's own fields.
pub const TOLD: [u8; 6] = [43, 54, 60, 66, 67, 175];

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The transaction.
    pub xid: u32,
    /// Whose.
    pub mac: Mac,
    /// OFFER, ACK or NAK; none of plain BOOTP.
    pub message: Option<u8>,
    /// The address given.
    pub address: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// What is told of booting, by field (`file`, `next server`) and option (`option 67`).
    pub fields: BTreeMap<String, String>,
}

impl Heard {
    /// Reads a reply; none where it is something else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 240 || bytes[..3] != [2, 1, 6] || bytes[236..240] != MAGIC {
            return None;
        }
        let options: Result<Options, Refused> = Options::read(bytes);
        let options = options.ok()?;
        let field =
            |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let some = |address: Ipv4Addr| Some(address).filter(|address| !address.is_unspecified());
        let address = |code| options.fixed::<4>(code).ok().flatten().map(Ipv4Addr::from);
        let overload =
            options.fixed::<1>(OptionCode::OptionOverload).ok().flatten().map_or(0, |[bits]| bits);

        let mut fields = BTreeMap::new();
        if overload & 1 == 0 {
            let file: Vec<u8> = bytes[108..236].iter().copied().take_while(|&b| b != 0).collect();
            if !file.is_empty() {
                fields.insert("file".into(), shown(&file));
            }
        }
        if let Some(next) = some(field(20)) {
            fields.insert("next server".into(), next.to_string());
        }
        for code in TOLD {
            if let Some(value) = options.bytes(code.into()) {
                let value = match code {
                    54 => <[u8; 4]>::try_from(&value[..]).map_or_else(
                        |_| shown(&value),
                        |octets| Ipv4Addr::from(octets).to_string(),
                    ),
                    _ => shown(&value),
                };
                fields.insert(format!("option {code}"), value);
            }
        }
        let mut mac = Mac([0; 6]);
        mac.0.copy_from_slice(&bytes[28..34]);
        Some(Self {
            xid: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            mac,
            message: options.fixed::<1>(OptionCode::MessageType).ok().flatten().map(|[kind]| kind),
            address: some(field(16)),
            server: address(OptionCode::ServerIdentifier),
            mask: address(OptionCode::SubnetMask),
            fields,
        })
    }

    /// Whether it says anything of booting.
    pub fn boots(&self) -> bool {
        ["file", "option 67", "option 43", "option 60"]
            .iter()
            .any(|field| self.fields.contains_key(*field))
    }

    /// A boot server's or ProxyDHCP's: no address, and a word on who speaks.
    pub fn is_proxy(&self) -> bool {
        self.address.is_none() && self.message != Some(6) && self.fields.contains_key("option 60")
    }

    /// `OFFER of 10.0.0.9`.
    pub fn says(&self) -> String {
        let kind = match self.message {
            None => "plain BOOTP".into(),
            Some(kind) => format!("{:?}", MessageType::from(kind)).to_uppercase(),
        };
        match self.address {
            Some(address) => format!("{kind} of {address}"),
            None => kind,
        }
    }
}

/// The longest value shown.
const MAX_SHOWN: usize = 160;

/// As text where it is text, else in hex.
pub fn shown(bytes: &[u8]) -> String {
    // Some servers count a final zero in.
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let printable = text.len() > 1 && text.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    match printable {
        true => String::from_utf8_lossy(&text[..text.len().min(MAX_SHOWN)]).into_owned(),
        false => hex::encode(&bytes[..bytes.len().min(MAX_SHOWN / 2)]),
    }
}
