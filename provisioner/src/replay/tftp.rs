//! TFTP requests in a capture: what we would grant, and what was granted.

use super::{compare, frame::Datagram, report::Said};
use crate::{
    machine::Mac,
    tftp::{
        name,
        options::negotiate,
        packet::{self, FromClient},
        server::{HEADERS, max_blksize},
    },
};
use std::{collections::BTreeMap, path::Path};

/// The MTU of what is captured, where nothing says otherwise.
const MTU: u16 = 1500;

/// A request and its answers.
pub struct Asked {
    /// What is asked for.
    pub asks: String,
    /// Whose it is, where the name tells.
    pub mac: Option<Mac>,
    /// The file's path, where it is a request for one.
    pub path: Option<String>,
    /// What we say.
    pub ours: Said,
    /// What was said.
    pub captured: Vec<Said>,
    /// On what it differs.
    pub differences: Vec<compare::Difference>,
    /// The client acknowledged a block: it loads the file, and does not only ask its size.
    pub loads: bool,
}

/// Looks at a request, with all that passed between the client's port and the server afterwards.
/// `folder` has the files, where they are at hand.
pub fn asked(request: &Datagram<'_>, after: &[Datagram<'_>], folder: Option<&Path>) -> Asked {
    let (asks, mac, path, ours) = ours(request.payload, folder);
    let server = request.destination.ip();
    let reply = after.iter().find(|datagram| datagram.source.ip() == server);
    let captured: Vec<Said> = reply
        .map(|datagram| said(datagram.source.to_string(), datagram.payload))
        .into_iter()
        .collect();
    let loads = after.iter().any(|datagram| {
        datagram.source == request.source
            && matches!(packet::parse(datagram.payload), FromClient::Ack(block) if block > 0)
    });
    let differences = captured
        .first()
        .map(|theirs| {
            // A length that we do not know is no difference.
            let mut theirs = theirs.fields.clone();
            if !ours.fields.contains_key("tsize") {
                theirs.remove("tsize");
            }
            compare::fields(&ours.fields, &theirs)
        })
        .unwrap_or_default();
    Asked { asks, mac, path, ours, captured, differences, loads }
}

type Ours = (String, Option<Mac>, Option<String>, Said);

fn ours(bytes: &[u8], folder: Option<&Path>) -> Ours {
    let silence = |why: String| Said { says: "nothing".into(), why: Some(why), ..Said::default() };
    let request = match packet::parse_request(bytes) {
        Ok(request) => request,
        Err(refused) => {
            let says = match refused.code() {
                Some(code) => format!("ERROR {}", code as u16),
                None => "nothing".into(),
            };
            let said = Said { says, why: Some(refused.to_string()), ..Said::default() };
            return ("a TFTP packet".into(), None, None, said);
        }
    };
    let options: Vec<String> =
        request.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let asks = format!("TFTP read of {:?} {}", request.name, options.join(" "));
    let asks: String = asks.trim_end().chars().filter(|c| !c.is_control()).take(300).collect();
    let wanted = match name::wanted(&request.name) {
        Ok(wanted) => wanted,
        Err(error) => {
            let said = Said {
                says: "ERROR 2".into(),
                why: Some(error.to_string()),
                ..silence(String::new())
            };
            return (asks, None, None, said);
        }
    };
    let path = wanted.path.display().to_string();
    let length = folder.map(|folder| std::fs::metadata(folder.join(&wanted.path)));
    let length = match length {
        None => None,
        Some(Ok(meta)) if meta.is_file() => Some(meta.len()),
        Some(_) => {
            let why = format!("there is no file {path:?} here");
            let said = Said { says: "ERROR 1".into(), why: Some(why), ..Said::default() };
            return (asks, wanted.mac, Some(path), said);
        }
    };
    let terms =
        negotiate(&request.options, length.unwrap_or(0), max_blksize(MTU, HEADERS), &wanted.care);
    let known = |(name, _): &&(String, String)| name != "tsize" || length.is_some();
    let fields: BTreeMap<String, String> = terms.oack.iter().filter(known).cloned().collect();
    let says = if terms.oack.is_empty() { "DATA" } else { "OACK" };
    let mut why = format!("blocks of {}, window {}", terms.blksize, terms.window);
    let care = wanted.care.to_string();
    if !care.is_empty() {
        why += &format!("; its name asks for {care}");
    }
    let said = Said { says: says.into(), why: Some(why), fields, ..Said::default() };
    (asks, wanted.mac, Some(path), said)
}

/// A server's first packet.
fn said(from: String, bytes: &[u8]) -> Said {
    let mut fields = BTreeMap::new();
    let says = match bytes {
        [0, 3, ..] => "DATA".into(),
        [0, 5, a, b, ..] => format!("ERROR {}", u16::from_be_bytes([*a, *b])),
        [0, 6, rest @ ..] => {
            let texts: Vec<String> = rest
                .split(|&byte| byte == 0)
                .take(20)
                .map(|text| String::from_utf8_lossy(text).to_ascii_lowercase())
                .collect();
            for pair in texts.chunks_exact(2).filter(|pair| !pair[0].is_empty()) {
                let plain =
                    |text: &String| text.chars().filter(|c| !c.is_control()).take(40).collect();
                fields.insert(plain(&pair[0]), plain(&pair[1]));
            }
            "OACK".into()
        }
        _ => "something else".into(),
    };
    Said { from: Some(from), says, why: None, fields }
}
