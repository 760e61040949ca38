//! What single kinds of firmware need that others do not: data in `quirks.toml`, in an operator's
//! file of the same form, and by hand for single machines.
//!
//! `table` reads and checks entries; `matching` finds those that fit a request and settles what
//! they come to. Both are pure. DHCP alone decides: what concerns the transfer that follows
//! travels in the name of the boot file (`tftp::care`), so that neither a restart nor another
//! front-end has to remember anything.
//!
//! By hand outweighs the operator's file, and that the built-in table; within each a longer MAC
//! prefix a shorter one, then a longer vendor class, then who says more.

pub mod matching;
pub mod prefix;
pub mod table;

pub use matching::{Hand, Rules, UnknownQuirk};
pub use table::{OptionValue, Set, Table, TableError};

use crate::{
    dhcp::{packet::Request, settings::BootMethod},
    tftp::care::Care,
};
use std::fmt;

/// What one machine needs, all told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// How its firmware takes its boot file.
    pub method: BootMethod,
    /// The iPXE in its NIC's ROM is to load ours first: some are old, or drive their NIC badly.
    pub replace_ipxe: bool,
    /// Whether its HTTP boot is told to use HTTPS; none: as all are.
    pub https: Option<bool>,
    /// What it is, where it says something else in option 93.
    pub architecture: Option<u16>,
    /// How gently TFTP treats it.
    pub care: Care,
    /// Options that it gets besides, each code once.
    pub add_options: Vec<OptionValue>,
    /// Options that it must not get.
    pub drop_options: Vec<u8>,
    /// Where all this comes from, strongest first.
    pub applied: Vec<Applied>,
}

/// An entry that had a say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its name; none for what is set by hand.
    pub name: Option<String>,
    /// Why it counts, in a few words.
    pub why: String,
}

impl Quirks {
    /// The request as if the machine had told the truth.
    pub fn corrected(&self, mut request: Request) -> Request {
        if let Some(architecture) = self.architecture {
            request.architectures = vec![architecture];
        }
        request
    }

    /// What was applied and why, as one phrase; none where nothing was.
    pub fn told(&self) -> Option<String> {
        if self.applied.is_empty() {
            return None;
        }
        let all: Vec<String> = self.applied.iter().map(Applied::to_string).collect();
        Some(format!("quirks: {}", all.join(", ")))
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.why),
            None => f.write_str(&self.why),
        }
    }
}
