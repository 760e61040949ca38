//! What a DHCP server answers: foreign bytes, of which little is looked at.

use super::request::MAGIC;
use crate::machine::Mac;
use std::net::Ipv4Addr;

/// Kinds of answers (RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which.
    pub kind: Kind,
    /// The transaction.
    pub xid: u32,
    /// To whom.
    pub mac: Mac,
    /// The address; none where it is a ProxyDHCP server's.
    pub address: Option<Ipv4Addr>,
    /// Option 54: who answers.
    pub server: Option<Ipv4Addr>,
    /// What to boot: option 67, else the `file` field.
    pub file: Option<String>,
    /// Whose file it is: option 66 where it is an address, else `siaddr`.
    pub file_server: Option<Ipv4Addr>,
    /// Option 56: why not.
    pub message: Option<String>,
}

/// The transaction of an answer, before anything else of it is read.
pub fn xid(bytes: &[u8]) -> Option<u32> {
    let xid: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes(xid))
}

/// Reads an answer; none where it is no DHCP answer to an Ethernet client.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    if bytes.len() < 240 || bytes[..3] != [2, 1, 6] || bytes[236..240] != MAGIC {
        return None;
    }
    let field = |at: usize| {
        let octets: [u8; 4] = bytes[at..at + 4].try_into().ok()?;
        Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
    };
    let mut mac = Mac([0; 6]);
    mac.0.copy_from_slice(&bytes[28..34]);
    let mut reply = Reply {
        kind: Kind::Offer,
        xid: xid(bytes)?,
        mac,
        address: field(16),
        server: None,
        file: text(&bytes[108..236]),
        file_server: field(20),
        message: None,
    };
    let (mut kind, mut rest) = (None, &bytes[240..]);
    loop {
        match rest {
            [] | [255, ..] => break,
            [0, tail @ ..] => rest = tail,
            [_] => return None,
            [code, length, tail @ ..] => {
                let (value, tail) = tail.split_at_checked(usize::from(*length))?;
                rest = tail;
                let address = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?));
                match code {
                    53 => kind = value.first().copied(),
                    54 => reply.server = address(),
                    56 => reply.message = text(value),
                    66 => {
                        let named = text(value).and_then(|name| name.parse().ok());
                        reply.file_server = named.or(reply.file_server);
                    }
                    67 => reply.file = text(value).or(reply.file),
                    _ => {}
                }
            }
        }
    }
    reply.kind = match kind? {
        2 => Kind::Offer,
        5 => Kind::Ack,
        6 => Kind::Nak,
        _ => return None,
    };
    Some(reply)
}

/// Text up to its first zero, where there is any.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer's bytes.
    pub(crate) fn answer(
        kind: u8,
        xid: u32,
        mac: Mac,
        address: [u8; 4],
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&xid.to_be_bytes());
        bytes[16..20].copy_from_slice(&address);
        bytes[28..34].copy_from_slice(&mac.0);
        bytes.extend(MAGIC);
        bytes.extend([53, 1, kind]);
        for (code, value) in options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(*value);
        }
        bytes.push(255);
        bytes
    }

    #[test]
    fn an_offer_is_read_and_option_67_outweighs_the_field() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let options: [(u8, &[u8]); 3] = [(54, &[10, 0, 0, 1]), (66, b"10.0.0.7"), (67, b"a/b.efi")];
        let mut bytes = answer(2, 9, mac, [10, 0, 0, 50], &options);
        bytes[108..111].copy_from_slice(b"old");
        let reply = parse(&bytes).unwrap();
        assert_eq!((reply.kind, reply.xid, reply.mac), (Kind::Offer, 9, mac));
        assert_eq!(reply.address, Some([10, 0, 0, 50].into()));
        assert_eq!(reply.server, Some([10, 0, 0, 1].into()));
        assert_eq!(reply.file.as_deref(), Some("a/b.efi"));
        assert_eq!(reply.file_server, Some([10, 0, 0, 7].into()));
        assert_eq!(parse(&bytes[..240]), None, "no message type");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            head in prop::collection::vec(any::<u8>(), 0..300),
            options in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = parse(&head);
            let mut bytes = answer(2, 1, Mac([2, 0, 0, 0, 0, 1]), [0; 4], &[]);
            bytes.pop();
            bytes.extend(options);
            let _ = parse(&bytes);
        }
    }
}
