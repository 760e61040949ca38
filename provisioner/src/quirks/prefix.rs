//! The beginning of a MAC address: a maker's block, or less than that.

use crate::machine::Mac;
use serde::Deserialize;
use std::{fmt, str::FromStr};

/// The first 3 to 6 bytes of MAC addresses: 3 are a maker's block (IEEE's OUI), 6 one machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(Vec<u8>);

/// Why a text is no prefix.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no MAC prefix: three to six pairs of hex digits, as in 52:54:00, are wanted, and no \
     group's address"
)]
pub struct NotAPrefix(String);

impl Prefix {
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether an address begins so.
    pub fn fits(&self, mac: Mac) -> bool {
        mac.0.starts_with(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let refused = || NotAPrefix(text.chars().take(40).collect());
        let mut bytes = Vec::new();
        for pair in text.split([':', '-']).take(7) {
            let mut byte = [0];
            let two = Some(pair).filter(|pair| pair.len() == 2).ok_or_else(refused)?;
            hex::decode_to_slice(two, &mut byte).map_err(|_| refused())?;
            bytes.extend(byte);
        }
        let machines = bytes.first().is_some_and(|first| first & 1 == 0);
        if (3..=6).contains(&bytes.len()) && machines { Ok(Self(bytes)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Prefix {
    type Error = NotAPrefix;
    fn try_from(text: String) -> Result<Self, NotAPrefix> {
        text.parse()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&pairs.join(":"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_three_to_six_bytes_and_is_no_groups() {
        for (text, fits) in [("52:54:00", true), ("52-54-00-AA-00-09", true), ("52:54:01", false)] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.fits(Mac([0x52, 0x54, 0, 0xaa, 0, 9])), fits, "{text}");
            assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        }
        for text in
            ["", "52:54", "52:54:0", "525400", "01:00:5e", "1:2:3:4:5:6:7", "00:11:22:33:44:55:66"]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
