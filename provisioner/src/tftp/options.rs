//! Option negotiation: what a client asks, what it gets (RFC 2347, 2348, 2349, 7440).

use super::care::Care;
use std::time::Duration;

/// Without the option a block has 512 bytes (RFC 1350).
const PLAIN_BLKSIZE: u16 = 512;
/// The smallest block that may be asked for (RFC 2348).
pub const MIN_BLKSIZE: u16 = 8;
/// The largest block (RFC 2348).
pub const MAX_BLKSIZE: u16 = 65_464;
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
    /// The least time from one block to the next, on average; none where a window goes at once.
    pub pace: Option<Duration>,
    /// The client asked how long the file is.
    pub tells_size: bool,
    /// What our OACK says; empty where there is none to send.
    pub oack: Vec<(String, String)>,
}

/// Settles the terms of a transfer of `file_len` bytes over a wire that carries `max_blksize`, to
/// a client treated with `care`. What is not understood, or makes no sense, is left out of the
/// OACK, which says no to it; so is what care reduces to the plain value, since a client that
/// handles an option badly is best not told of it.
pub fn negotiate(
    options: &[(String, String)],
    file_len: u64,
    max_blksize: u16,
    care: &Care,
) -> Terms {
    let max_blksize = care.blksize.unwrap_or(max_blksize).min(max_blksize);
    let max_window = care.window.unwrap_or(MAX_WINDOW).min(MAX_WINDOW);
    let mut terms = Terms {
        blksize: PLAIN_BLKSIZE,
        window: 1,
        timeout: PLAIN_TIMEOUT,
        pace: None,
        tells_size: false,
        oack: Vec::new(),
    };
    let refuses_blksize = care.blksize.is_some_and(|most| most <= PLAIN_BLKSIZE);
    let refuses_window = care.window == Some(1);
    for (name, value) in options {
        if terms.oack.iter().any(|(answered, _)| answered == name) {
            continue;
        }
        let Ok(asked) = value.trim().parse::<u64>() else { continue };
        let answer = match name.as_str() {
            // A client that asks for less than the plain size cannot take that.
            "blksize" if refuses_blksize && asked >= PLAIN_BLKSIZE.into() => continue,
            "windowsize" if refuses_window => continue,
            "blksize" if asked >= MIN_BLKSIZE.into() => {
                terms.blksize = u16::try_from(asked).unwrap_or(u16::MAX).min(max_blksize);
                terms.blksize.into()
            }
            "windowsize" if asked >= 1 => {
                terms.window = u16::try_from(asked).unwrap_or(u16::MAX).min(max_window);
                terms.window.into()
            }
            "timeout" if (1..=255).contains(&asked) => {
                terms.timeout = Duration::from_secs(asked);
                asked
            }
            "tsize" => {
                terms.tells_size = true;
                file_len
            }
            _ => continue,
        };
        terms.oack.push((name.clone(), answer.to_string()));
    }
    terms.pace = care.rate.map(|rate| {
        let nanoseconds = u64::from(terms.blksize) * 1_000_000_000 / u64::from(rate.max(1));
        Duration::from_nanos(nanoseconds.max(1))
    });
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(options: &[(&str, &str)]) -> Terms {
        gently(options, Care::default())
    }

    fn gently(options: &[(&str, &str)], care: Care) -> Terms {
        let options: Vec<(String, String)> =
            options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        negotiate(&options, 1_000_000, 1468, &care)
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

    #[test]
    fn care_bounds_what_is_granted_and_what_it_makes_plain_is_refused() {
        let asked = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
        let some = Care { blksize: Some(1024), window: Some(2), rate: Some(1_024_000) };
        let terms = gently(&asked, some);
        assert_eq!((terms.blksize, terms.window), (1024, 2));
        assert_eq!(terms.pace, Some(Duration::from_millis(1)));
        let plain = Care { blksize: Some(512), window: Some(1), rate: None };
        let terms = gently(&asked, plain);
        assert_eq!((terms.blksize, terms.window, terms.pace), (512, 1, None));
        assert_eq!(terms.oack, [("tsize".to_string(), "1000000".to_string())]);
        assert_eq!(gently(&[("blksize", "256")], plain).blksize, 256, "it has room for no more");
        let wide = Care { blksize: Some(9_000), ..Care::default() };
        assert_eq!(gently(&asked, wide).blksize, 1468, "the wire bounds it still");
    }
}
