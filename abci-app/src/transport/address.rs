//! Where CometBFT finds the application: `tcp://127.0.0.1:26658`, `unix:///run/alia/abci.sock`.

use std::{fmt, path::PathBuf, str::FromStr};

/// An address as CometBFT's `proxy_app` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ABCI address: tcp://HOST:PORT or unix:///PATH is wanted")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError(text.into());
        match text.split_once("://") {
            Some(("tcp", rest)) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(refused)?;
                port.parse::<u16>().map_err(|_| refused())?;
                if host.is_empty() { Err(refused()) } else { Ok(Self::Tcp(rest.into())) }
            }
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_nonsense_is_refused() {
        for text in ["tcp://127.0.0.1:26658", "tcp://[::1]:0", "unix:///run/a b.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "127.0.0.1:1", "tcp://:1", "tcp://a", "tcp://a:x", "unix://a", "udp://a:1"]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
