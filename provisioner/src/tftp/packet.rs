//! TFTP packets: what clients send, read; what we send, written.

/// The longest request (RFC 2347).
pub const MAX_REQUEST_LEN: usize = 512;
/// The longest text of a client's error that is kept.
const MAX_ERROR_LEN: usize = 120;

/// TFTP's error codes (RFC 1350, appendix; 8 by RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    /// See the text.
    NotDefined = 0,
    /// File not found.
    NotFound = 1,
    /// Access violation.
    Access = 2,
    /// Illegal operation.
    Illegal = 4,
    /// The options were refused.
    Options = 8,
}

/// A request to read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The name as sent.
    pub name: String,
    /// Options as sent, in order, names in lower case.
    pub options: Vec<(String, String)>,
}

/// Why a first packet opens no transfer, with the code of the answer (none: no answer).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a request at all: answering could start a quarrel between two servers.
    #[error("operation {0} opens no transfer")]
    NotARequest(u16),
    /// Too short, too long, or not made of texts that end in zero.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// Somebody wants to write.
    #[error("files are only given here, none is taken")]
    Write,
    /// A mode that alters bytes.
    #[error("mode {0:?} is not served: files are given as they are (octet)")]
    Mode(String),
}

impl Refused {
    /// The error code that the client is told, where it is told anything.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::NotARequest(_) | Self::Malformed(_) => None,
            Self::Write => Some(Code::Access),
            Self::Mode(_) => Some(Code::Illegal),
        }
    }
}

/// Reads the packet that opens a transfer.
pub fn parse_request(bytes: &[u8]) -> Result<ReadRequest, Refused> {
    let [a, b, rest @ ..] = bytes else { return Err(Refused::Malformed("shorter than 2 bytes")) };
    match u16::from_be_bytes([*a, *b]) {
        1 => {}
        2 => return Err(Refused::Write),
        other => return Err(Refused::NotARequest(other)),
    }
    if bytes.len() > MAX_REQUEST_LEN {
        return Err(Refused::Malformed("longer than 512 bytes"));
    }
    // Some ROMs pad the packet with zeros behind the last text.
    let mut rest = rest;
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(Refused::Malformed("a text without its final zero"))?;
        let text = std::str::from_utf8(&rest[..end])
            .map_err(|_| Refused::Malformed("a text that is not UTF-8"))?;
        texts.push(text);
        rest = &rest[end + 1..];
    }
    let mut texts = texts.into_iter();
    let name = texts.next().filter(|name| !name.is_empty());
    let name = name.ok_or(Refused::Malformed("no file name"))?.to_string();
    let mode = texts.next().ok_or(Refused::Malformed("no mode"))?;
    if !mode.eq_ignore_ascii_case("octet") {
        return Err(Refused::Mode(mode.chars().take(20).collect()));
    }
    let mut options = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        if !name.is_empty() {
            options.push((name.to_ascii_lowercase(), value.to_string()));
        }
    }
    Ok(ReadRequest { name, options })
}

/// What a client sends within a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// It has this block, and all before it.
    Ack(u16),
    /// It gives up.
    Error(u16, String),
    /// Something that does not belong here.
    Other,
}

/// Reads a packet within a transfer.
pub fn parse(bytes: &[u8]) -> FromClient {
    match bytes {
        [0, 4, a, b, ..] => FromClient::Ack(u16::from_be_bytes([*a, *b])),
        [0, 5, a, b, text @ ..] => {
            let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
            let text = String::from_utf8_lossy(&text[..end]);
            let text = text.chars().filter(|c| !c.is_control()).take(MAX_ERROR_LEN).collect();
            FromClient::Error(u16::from_be_bytes([*a, *b]), text)
        }
        _ => FromClient::Other,
    }
}

/// An ERROR packet.
pub fn error(code: Code, text: &str) -> Vec<u8> {
    let mut bytes = vec![0, 5];
    bytes.extend((code as u16).to_be_bytes());
    bytes.extend(text.bytes().filter(|&byte| byte != 0).take(MAX_REQUEST_LEN));
    bytes.push(0);
    bytes
}

/// An OACK packet.
pub fn oack(options: &[(String, String)]) -> Vec<u8> {
    let mut bytes = vec![0, 6];
    for text in options.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    bytes
}

/// Begins a DATA packet in `packet`; its content comes behind.
pub fn data(packet: &mut Vec<u8>, block: u16) {
    packet.clear();
    packet.extend([0, 3]);
    packet.extend(block.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_with_options_is_read_in_any_case_of_letters() {
        let request = b"\0\x01/a/b.efi\0OCTET\0BlkSize\x001468\0tsize\x000\0windowsize\x004\0";
        let request = parse_request(request).unwrap();
        assert_eq!(request.name, "/a/b.efi");
        let option = |name: &str, value: &str| (name.to_string(), value.to_string());
        let wanted = [option("blksize", "1468"), option("tsize", "0"), option("windowsize", "4")];
        assert_eq!(request.options, wanted);
    }

    #[test]
    fn what_opens_no_transfer_is_told_so_or_met_with_silence() {
        assert_eq!(parse_request(b"\0\x02f\0octet\0"), Err(Refused::Write));
        assert!(matches!(parse_request(b"\0\x01f\0netascii\0"), Err(Refused::Mode(_))));
        for silent in
            [&b""[..], b"\0", b"\0\x03\0\x01data", b"\0\x04\0\x01", b"\0\x01f", b"\0\x01\0octet\0"]
        {
            let refused = parse_request(silent).unwrap_err();
            assert_eq!(refused.code(), None, "{refused}");
        }
        let long = [b"\0\x01".as_slice(), &[b'x'; 600], b"\0octet\0"].concat();
        assert!(parse_request(&long).is_err());
    }

    #[test]
    fn a_clients_error_text_loses_its_control_characters() {
        let packet = b"\0\x05\0\x08user \x1b[31maborted\0";
        assert_eq!(parse(packet), FromClient::Error(8, "user [31maborted".into()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = parse_request(&bytes);
            let _ = parse(&bytes);
            let with_opcode = [&[0, 1], bytes.as_slice()].concat();
            let _ = parse_request(&with_opcode);
        }
    }
}
