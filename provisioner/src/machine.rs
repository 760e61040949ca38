//! What names a machine: its MAC address, and its SMBIOS UUID where firmware gives a usable one.

use std::{fmt, str::FromStr};

/// An Ethernet address. Shown in lower case with colons; read with colons or hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Why a text is not a MAC address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a MAC address: six pairs of hex digits, as in 52:54:00:12:34:56, are wanted")]
pub struct NotAMac(String);

impl Mac {
    /// With hyphens, as iPXE's `${mac:hexhyp}` and PXELINUX write it: safe in URLs and file names.
    pub fn hyphenated(&self) -> String {
        self.joined("-")
    }

    /// Whether it can be one machine's: not zero, not a group's.
    pub fn is_unicast(&self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }

    fn joined(&self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(":"))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = NotAMac;
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let refused = || NotAMac(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or_else(refused)?;
            hex::decode_to_slice(pair, std::slice::from_mut(byte)).map_err(|_| refused())?;
        }
        if pairs.next().is_some() {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

/// UUIDs that board makers ship unchanged, so that they tell nothing apart.
const PLACEHOLDERS: [&str; 4] = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    // The default in AMI's firmware sources, left in by many board makers.
    "03000200-0400-0500-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
];

/// A UUID in lower case with dashes, or nothing where it is no UUID or a board maker's placeholder.
pub fn usable_uuid(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (hex && lengths == [8, 4, 4, 4, 12] && !PLACEHOLDERS.contains(&text.as_str())).then_some(text)
}

/// The UUID of PXE's 17-byte client identifier (option 97, RFC 4578 section 2.3): a type, 0, then
/// the UUID with its first three fields little-endian, as SMBIOS 2.6 and the kernel read them.
pub fn uuid_of_guid(guid: &[u8]) -> Option<String> {
    let (&kind, b) = guid.split_first()?;
    let b: &[u8; 16] = b.try_into().ok()?;
    if kind != 0 {
        return None;
    }
    let straight = |range: &[u8]| hex::encode(range);
    let swapped = |range: &[u8]| hex::encode(range.iter().rev().copied().collect::<Vec<u8>>());
    usable_uuid(&format!(
        "{}-{}-{}-{}-{}",
        swapped(&b[0..4]),
        swapped(&b[4..6]),
        swapped(&b[6..8]),
        straight(&b[8..10]),
        straight(&b[10..16])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_with_colons_or_hyphens_and_shown_with_colons() {
        let mac: Mac = "52-54-00-AA-bb-01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:aa:bb:01");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.hyphenated(), "52-54-00-aa-bb-01");
    }

    #[test]
    fn what_is_no_mac_is_refused() {
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5254:00:12:34:56", "zz:zz"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_group_address_names_no_machine() {
        assert!(!Mac([0xff; 6]).is_unicast());
        assert!(!Mac([0; 6]).is_unicast());
        assert!(Mac([0x52, 0x54, 0, 0, 0, 1]).is_unicast());
    }

    #[test]
    fn a_guid_reads_as_the_kernel_shows_it() {
        // What QEMU's firmware sends for -uuid 11223344-5566-7788-99aa-bbccddeeff01.
        let guid = [
            0, 0x44, 0x33, 0x22, 0x11, 0x66, 0x55, 0x88, 0x77, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
            0xff, 1,
        ];
        assert_eq!(uuid_of_guid(&guid).as_deref(), Some("11223344-5566-7788-99aa-bbccddeeff01"));
        assert_eq!(uuid_of_guid(&guid[..16]), None);
        assert_eq!(uuid_of_guid(&[0; 17]), None);
    }

    #[test]
    fn a_board_makers_placeholder_is_no_uuid() {
        assert_eq!(usable_uuid("03000200-0400-0500-0006-000700080009"), None);
        assert_eq!(usable_uuid("not a uuid"), None);
        assert!(usable_uuid("4C4C4544-0043-4D10-8051-B4C04F4D5A32").is_some());
    }
}
