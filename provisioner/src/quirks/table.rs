//! A table of quirks: read from TOML, every key known, every value checked.

use super::prefix::Prefix;
use crate::{dhcp::settings::BootMethod, tftp::care::Care};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

/// The table built in.
pub const BUILT_IN: &str = include_str!("../quirks.toml");

/// The longest file read; each request goes through all of its entries.
const MAX_FILE_LEN: u64 = 256 * 1024;
const MAX_ENTRIES: usize = 256;
const MAX_NAME_LEN: usize = 40;
/// Of one line for people.
const MAX_TEXT_LEN: usize = 200;
/// Of lists in an entry.
const MAX_LIST: usize = 64;
/// Of one more option: several of them must leave room in a message of 576 bytes (RFC 2131
/// section 2), the least that every client takes.
const MAX_OPTION_LEN: usize = 64;
const MAX_OPTIONS: usize = 4;

/// Options that are the protocol's own, or the client's and the relay's to say: neither added nor
/// left out. Message type, lease, server identifier, overload, what is echoed.
const UNTOUCHABLE: [u8; 11] = [0, 50, 51, 52, 53, 54, 55, 61, 82, 97, 255];

/// Entries, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    quirk: Vec<Entry>,
}

/// One kind of firmware, and what it needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Entry {
    /// Its name in the table: lower case, digits, hyphens.
    pub name: String,
    /// What is wrong with it, in a line.
    pub about: String,
    /// What it fits; none where machines name it.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// What it sets.
    pub set: Set,
    /// Where it was seen.
    #[serde(default)]
    pub evidence: Vec<String>,
}

/// What an entry fits: all that is given here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Match {
    /// Any of these MAC prefixes.
    pub mac: Vec<Prefix>,
    /// How option 60 begins.
    pub vendor_class: Option<String>,
    /// Any of these in option 93.
    pub architectures: Vec<u16>,
    /// Whether iPXE asks.
    pub ipxe: Option<bool>,
}

/// What an entry sets; what is not given is left to weaker ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Set {
    /// How it takes its boot file.
    pub boot_method: Option<BootMethod>,
    /// Whether the iPXE in its ROM is to load ours first.
    pub replace_ipxe: Option<bool>,
    /// Whether its HTTP boot takes HTTPS alone.
    pub https: Option<bool>,
    /// What it is, whatever it says (IANA's "Processor Architecture Types").
    pub architecture: Option<u16>,
    /// The most bytes of a TFTP block; 512 and less refuse the option.
    pub blksize: Option<u16>,
    /// The most TFTP blocks before an ACK; 1 refuses the option.
    pub window: Option<u16>,
    /// The most bytes a second by TFTP.
    pub rate: Option<u32>,
    /// Options to send besides.
    pub add_options: Vec<OptionValue>,
    /// Options to leave out.
    pub drop_options: Vec<u8>,
}

impl Set {
    /// What concerns TFTP.
    pub fn care(&self) -> Care {
        Care { blksize: self.blksize, window: self.window, rate: self.rate }
    }
}

/// An option and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenOption")]
pub struct OptionValue {
    /// Its code.
    pub code: u8,
    /// Its value, at most 64 bytes.
    pub value: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOption {
    code: u8,
    text: Option<String>,
    hex: Option<String>,
    addresses: Option<Vec<Ipv4Addr>>,
}

impl TryFrom<WrittenOption> for OptionValue {
    type Error = String;
    fn try_from(written: WrittenOption) -> Result<Self, String> {
        let code = written.code;
        let value = match (written.text, written.hex, written.addresses) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(digits), None) => hex::decode(digits.replace([' ', ':'], ""))
                .map_err(|error| format!("option {code}: {error}"))?,
            (None, None, Some(addresses)) => addresses.iter().flat_map(Ipv4Addr::octets).collect(),
            _ => return Err(format!("option {code}: one of text, hex and addresses is wanted")),
        };
        if value.is_empty() || value.len() > MAX_OPTION_LEN {
            let length = value.len();
            return Err(format!(
                "option {code} has {length} bytes: 1 to {MAX_OPTION_LEN} are taken"
            ));
        }
        Ok(Self { code, value })
    }
}

/// The table is wrong. Whoever wrote it has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("the quirks {path}: {source}; name another file by --quirks, or leave it out")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Too long.
    #[error("the quirks {path}: {found} bytes, at most {MAX_FILE_LEN} are read")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("the quirks {path}: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The reason, with the place.
        source: Box<toml::de::Error>,
    },
    /// An entry that cannot be.
    #[error("the quirks {path}: {name:?} {wrong}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        name: String,
        /// What is wrong, and wanted.
        wrong: String,
    },
    /// More than anybody has.
    #[error("the quirks {path}: {found} entries, at most {MAX_ENTRIES} are taken")]
    TooMany {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
    },
}

impl Table {
    /// The table that comes with this program.
    pub fn built_in() -> Result<Self, TableError> {
        Self::parse(Path::new("built in"), BUILT_IN)
    }

    /// Reads an operator's file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let failed = |source| TableError::Read { path: path.into(), source };
        let found = std::fs::metadata(path).map_err(failed)?.len();
        if found > MAX_FILE_LEN {
            return Err(TableError::TooLong { path: path.into(), found });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(failed)?)
    }

    /// Reads a table's text; `path` is for errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, TableError> {
        let file: File = toml::from_str(text)
            .map_err(|source| TableError::Toml { path: path.into(), source: Box::new(source) })?;
        let entries = file.quirk;
        if entries.len() > MAX_ENTRIES {
            return Err(TableError::TooMany { path: path.into(), found: entries.len() });
        }
        let mut names = BTreeSet::new();
        for entry in &entries {
            let twice = || "is there twice: give each its own name".to_string();
            let fresh = names.insert(entry.name.as_str()).then_some(()).ok_or_else(twice);
            fresh.and_then(|()| entry.check()).map_err(|wrong| {
                let name = entry.name.chars().take(MAX_NAME_LEN).collect();
                TableError::Entry { path: path.into(), name, wrong }
            })?;
        }
        Ok(Self { entries })
    }

    /// An entry by its name.
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > MAX_NAME_LEN || !self.name.bytes().all(plain) {
            return Err("is no name: 1 to 40 of a-z, 0-9 and - are wanted".into());
        }
        for text in self.evidence.iter().chain([&self.about]) {
            if text.is_empty() || text.len() > MAX_TEXT_LEN || text.chars().any(char::is_control) {
                return Err("has a text that is no line of 1 to 200 bytes".into());
            }
        }
        if self.evidence.len() > MAX_LIST {
            return Err("has more evidence than is kept".into());
        }
        if let Some(matches) = &self.matches {
            matches.check()?;
        }
        self.set.check()
    }
}

impl Match {
    fn check(&self) -> Result<(), String> {
        let nothing = self.mac.is_empty()
            && self.vendor_class.is_none()
            && self.architectures.is_empty()
            && self.ipxe.is_none();
        if nothing {
            return Err(
                "matches everything: say what it fits, or leave out its match and name it \
                        at the machines that need it"
                    .into(),
            );
        }
        if self.mac.len() > MAX_LIST || self.architectures.len() > MAX_LIST {
            return Err("lists more than 64 prefixes or architectures: make it two".into());
        }
        if self.vendor_class.as_ref().is_some_and(|class| class.is_empty() || class.len() > 255) {
            return Err("has a vendor-class that no option 60 begins with".into());
        }
        Ok(())
    }
}

impl Set {
    /// Whether every value can be; the reason otherwise.
    pub fn check(&self) -> Result<(), String> {
        if *self == Self::default() {
            return Err("sets nothing".into());
        }
        self.care().check()?;
        if self.add_options.len() > MAX_OPTIONS || self.drop_options.len() > MAX_LIST {
            return Err(format!("adds more than {MAX_OPTIONS} options, or drops more than 64"));
        }
        let added = self.add_options.iter().map(|option| option.code);
        let mut seen = BTreeSet::new();
        for code in added.chain(self.drop_options.iter().copied()) {
            if UNTOUCHABLE.contains(&code) {
                return Err(format!("touches option {code}, which the protocol itself needs"));
            }
            if !seen.insert(code) {
                return Err(format!("names option {code} twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Table::parse(Path::new("q.toml"), text).unwrap_err().to_string()
    }

    fn entry(rest: &str) -> String {
        format!("[[quirk]]\nname = \"a\"\nabout = \"b\"\n{rest}\n")
    }

    #[test]
    fn the_built_in_table_is_read_and_every_entry_has_its_evidence() {
        let table = Table::built_in().unwrap();
        assert!(table.entries.len() >= 5);
        for entry in &table.entries {
            assert!(!entry.evidence.is_empty(), "{}: on hearsay", entry.name);
        }
        let pi = table.named("raspberry-pi").unwrap();
        assert_eq!(pi.set.architecture, Some(41));
    }

    #[test]
    fn what_is_unknown_or_cannot_be_is_refused_with_what_is_wanted() {
        for (text, reason) in [
            (entry("[quirk.set]\nwindw = 1"), "unknown field"),
            (entry("[quirk.match]\nmac = ['zz:00:00']\n[quirk.set]\nwindow = 1"), "MAC prefix"),
            (entry("[quirk.match]\n[quirk.set]\nwindow = 1"), "matches everything"),
            (entry("[quirk.set]"), "sets nothing"),
            (entry("[quirk.set]\nwindow = 0"), "window"),
            (entry("[quirk.set]\nblksize = 7"), "blksize"),
            (entry("[quirk.set]\nrate = 10"), "rate"),
            (entry("[quirk.set]\ndrop-options = [54]"), "option 54"),
            (entry("[quirk.set]\ndrop-options = [66, 66]"), "twice"),
            (entry("[quirk.set]\nadd-options = [{code = 66}]"), "one of text, hex"),
            (entry("[quirk.set]\nadd-options = [{code = 66, hex = 'zz'}]"), "option 66"),
            (entry("[quirk.set]\nadd-options = [{code = 66, text = ''}]"), "0 bytes"),
            (
                entry(
                    "[quirk.set]\nwindow = 1\n[[quirk]]\nname = 'A'\nabout = 'b'\nset.window = 1",
                ),
                "no name",
            ),
            ("[[quirks]]".into(), "unknown field"),
        ] {
            let said = wrong(&text);
            assert!(said.contains(reason), "{text}\n{said}");
        }
        let two = entry("[quirk.set]\nwindow = 1").repeat(2);
        assert!(wrong(&two).contains("twice"));
    }

    #[test]
    fn options_are_written_as_text_digits_or_addresses() {
        let text = entry(
            "[quirk.set]\nadd-options = [{ code = 43, hex = '06:01 08ff' }, \
             { code = 209, text = 'x.cfg' }, { code = 66, addresses = ['10.0.0.1'] }]",
        );
        let table = Table::parse(Path::new("q.toml"), &text).unwrap();
        let values: Vec<&[u8]> =
            table.entries[0].set.add_options.iter().map(|option| &option.value[..]).collect();
        assert_eq!(values, [&[6, 1, 8, 255][..], b"x.cfg", &[10, 0, 0, 1]]);
    }
}
