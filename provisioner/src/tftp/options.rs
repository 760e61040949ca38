//! Option negotiation: what a client asks, what it gets (RFC 2347, 2348, 2349, 7440).

use std::time::Duration;

/// Without the option a block has 512 bytes (RFC 1350).
const PLAIN_BLKSIZE: u16 = 512;
/// The smallest block that may be asked for (RFC 2348).
const MIN_BLKSIZE: u16 = 8;
/// The largest window. EDK2 asks for 4; beyond some dozens a client's receive ring overflows.
pub const MAX_WINDOW: u16 = 64;
/// How long to wait for an ACK where the client does not say.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What both sides hold to in a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes of a block.
    pub blksize: u16,
    /// Blocks sent before an ACK is waited for.
    pub window: u16,
    /// How long an ACK is waited for at first.
    pub timeout: Duration,
    /// What our OACK says; empty where there is none to send.
    pub oack: Vec<(String, String)>,
}

/// Settles the terms of a transfer of `file_len` bytes. What is not understood, or makes no sense,
/// is left out of the OACK, which says no to it.
pub fn negotiate(options: &[(String, String)], file_len: u64, max_blksize: u16) -> Terms {
    let mut terms =
        Terms { blksize: PLAIN_BLKSIZE, window: 1, timeout: PLAIN_TIMEOUT, oack: Vec::new() };
    for (name, value) in options {
        if terms.oack.iter().any(|(answered, _)| answered == name) {
            continue;
        }
        let Ok(asked) = value.trim().parse::<u64>() else { continue };
        let answer = match name.as_str() {
            "blksize" if asked >= MIN_BLKSIZE.into() => {
                terms.blksize = u16::try_from(asked).unwrap_or(u16::MAX).min(max_blksize);
                terms.blksize.into()
            }
            "windowsize" if asked >= 1 => {
                terms.window = u16::try_from(asked).unwrap_or(u16::MAX).min(MAX_WINDOW);
                terms.window.into()
            }
            "timeout" if (1..=255).contains(&asked) => {
                terms.timeout = Duration::from_secs(asked);
                asked
            }
            "tsize" => file_len,
            _ => continue,
        };
        terms.oack.push((name.clone(), answer.to_string()));
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(options: &[(&str, &str)]) -> Terms {
        let options: Vec<(String, String)> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        negotiate(&options, 1_000_000, 1468)
    }

    #[test]
    fn what_edk2_asks_for_is_granted_within_what_the_wire_carries() {
        let asked = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
        let terms = settle(&asked);
        assert_eq!((terms.blksize, terms.window), (1468, 4));
        let answered: Vec<&str> = terms.oack.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(answered, ["1000000", "1468", "4"]);
        assert_eq!(settle(&[("blksize", "65464")]).blksize, 1468);
        assert_eq!(settle(&[("windowsize", "65535")]).window, MAX_WINDOW);
    }

    #[test]
    fn senseless_and_unknown_options_are_left_out_of_the_answer() {
        let asked = [
            ("blksize", "7"),
            ("blksize", "abc"),
            ("windowsize", "0"),
            ("timeout", "0"),
            ("timeout", "256"),
            ("multicast", ""),
            ("blksize", "99999999999999999999999"),
        ];
        assert_eq!(settle(&asked), settle(&[]));
        assert!(settle(&asked).oack.is_empty());
    }
}
