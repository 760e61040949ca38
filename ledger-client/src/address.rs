//! Where a CometBFT node answers: `http://10.0.0.1:26657`.

use std::{fmt, str::FromStr};

/// CometBFT's usual RPC port.
pub const DEFAULT_PORT: u16 = 26657;

/// An RPC address: plain HTTP, a host and a port. What is said over it needs no secrecy (it is
/// public and signed) and no trust (proofs are checked).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    authority: String,
}

/// A text is no RPC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not look like one.
    #[error("{text:?} is not a ledger address: {wrong}; \"http://10.0.0.1:26657\" is wanted")]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// There is none at all.
    #[error("no ledger address is set: name at least one CometBFT RPC address")]
    None,
}

impl Address {
    /// Host and port, as sockets and the `Host` header take them.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse =
            |wrong| AddressError::Malformed { text: text.chars().take(200).collect(), wrong };
        let rest = ["http://", "tcp://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = match rest {
            Some(rest) => rest,
            None if text.contains("://") => return Err(refuse("only http:// is spoken")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Err(refuse("the host is missing"));
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#\\\"".contains(&byte)) {
            return Err(refuse("host and port alone are wanted, no path and no user"));
        }
        // An IPv6 address stands in brackets, so a colon after them begins the port.
        let after_host = rest.rfind(']').map_or(0, |end| end + 1);
        let authority = match rest[after_host..].rfind(':') {
            None => format!("{rest}:{DEFAULT_PORT}"),
            Some(colon) => {
                let port = &rest[after_host + colon + 1..];
                port.parse::<u16>().map_err(|_| refuse("the port is not a number to 65535"))?;
                rest.to_string()
            }
        };
        Ok(Self { authority })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_taken_as_people_and_cometbft_write_them() {
        for (text, authority) in [
            ("http://10.0.0.1:26657", "10.0.0.1:26657"),
            ("http://10.0.0.1:26657/", "10.0.0.1:26657"),
            ("tcp://ledger.example:1", "ledger.example:1"),
            ("10.0.0.1", "10.0.0.1:26657"),
            ("http://[fd00::1]:80", "[fd00::1]:80"),
            ("http://[fd00::1]", "[fd00::1]:26657"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().authority(), authority);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for text in ["", "http://", "https://a:1", "http://a:99999", "http://a/b", "http://u@a:1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Address>();
        }
    }
}
