//! Ethernet addresses.

use std::{fmt, str::FromStr};

/// An Ethernet MAC address; lower case with colons in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address: six bytes in hex, as 52:54:00:12:34:56, are wanted")]
pub struct NotAMac(String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// With colons or dashes between the bytes; and PXELINUX's form for `BOOTIF`, which has the
/// hardware type (01, Ethernet) before them.
impl FromStr for Mac {
    type Err = NotAMac;
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let refused = || NotAMac(text.chars().take(40).collect());
        let two_digits = |part: &str| match part.as_bytes() {
            [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                u8::from_str_radix(part, 16).ok()
            }
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.split([':', '-']).map(two_digits).collect();
        let bytes = bytes.ok_or_else(refused)?;
        let address = match bytes.as_slice() {
            [1, address @ ..] if address.len() == 6 => address,
            address => address,
        };
        address.try_into().map(Self).map_err(|_| refused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pxelinux_form_and_plain_forms_are_one_address() {
        let wanted = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        for text in ["01-52-54-00-12-34-ab", "52:54:00:12:34:AB", "52-54-00-12-34-ab"] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        assert_eq!(wanted.to_string(), "52:54:00:12:34:ab");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "52:54:00:12:34", "20-52-54-00-12-34-56", "+2:54:00:12:34:56", "x"] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn addresses_round_trip_and_no_text_panics(bytes: [u8; 6], text in ".{0,40}") {
            let mac = Mac(bytes);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            let _ = text.parse::<Mac>();
        }
    }
}
