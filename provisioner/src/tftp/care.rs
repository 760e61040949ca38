//! How gently one client is treated, as a part of the name of its boot file.
//!
//! DHCP knows what a machine's firmware needs, TFTP only sees a name asked for. So DHCP writes it
//! into the name that it gives out, and nothing has to be remembered in between: not over a
//! restart, and not by another front-end that the transfer comes to.

use super::options::{MAX_BLKSIZE, MAX_WINDOW, MIN_BLKSIZE};
use std::fmt::{self, Write};

/// The lowest pace that is taken, in bytes a second: a boot loader of 1 MB takes 100 s by it, which
/// is as long as firmware waits.
pub const MIN_RATE: u32 = 10_000;

/// Bounds on a transfer; none where the wire and the client decide alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// The most bytes of a block.
    pub blksize: Option<u16>,
    /// The most blocks before an ACK.
    pub window: Option<u16>,
    /// The most bytes a second.
    pub rate: Option<u32>,
}

/// What a part of a name begins with that is a care and no folder.
const MARK: &str = "care";

impl Care {
    /// Whether each value can be; the reason otherwise.
    pub fn check(&self) -> Result<(), String> {
        if self.blksize.is_some_and(|size| !(MIN_BLKSIZE..=MAX_BLKSIZE).contains(&size)) {
            return Err(format!("has a blksize outside {MIN_BLKSIZE} to {MAX_BLKSIZE} (RFC 2348)"));
        }
        if self.window.is_some_and(|window| !(1..=MAX_WINDOW).contains(&window)) {
            return Err(format!("has a window outside 1 to {MAX_WINDOW}"));
        }
        if self.rate.is_some_and(|rate| rate < MIN_RATE) {
            return Err(format!("has a rate below {MIN_RATE} bytes a second"));
        }
        Ok(())
    }

    /// As a part of a name, `care-b1024-w1-r500000`; none where nothing is bounded.
    pub fn part(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let mut part = String::from(MARK);
        let values = [
            ('b', self.blksize.map(u32::from)),
            ('w', self.window.map(u32::from)),
            ('r', self.rate),
        ];
        for (key, value) in values {
            if let Some(value) = value {
                let _ = write!(part, "-{key}{value}");
            }
        }
        Some(part)
    }

    /// Reads a part of a name; none where it is something else.
    pub fn of_part(part: &str) -> Option<Self> {
        let mut care = Self::default();
        for word in part.strip_prefix(MARK)?.strip_prefix('-')?.split('-') {
            let (key, value) = word.split_at_checked(1)?;
            match key {
                "b" => care.blksize = Some(value.parse().ok()?),
                "w" => care.window = Some(value.parse().ok()?),
                "r" => care.rate = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        // Written by us or not at all: what we would not write is somebody's folder.
        (care.check().is_ok() && care.part().as_deref() == Some(part)).then_some(care)
    }
}

/// For people.
impl fmt::Display for Care {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        said.extend(self.blksize.map(|size| format!("blocks of at most {size}")));
        said.extend(self.window.map(|window| format!("window at most {window}")));
        said.extend(self.rate.map(|rate| format!("at most {rate} bytes/s")));
        f.write_str(&said.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_we_write_ourselves_is_read_as_a_care() {
        let care = Care { blksize: Some(1024), window: Some(1), rate: Some(500_000) };
        assert_eq!(care.part().unwrap(), "care-b1024-w1-r500000");
        for other in [
            "care",
            "care-",
            "careful",
            "care-b7",
            "care-w0",
            "care-w65",
            "care-r1",
            "care-w1-b1024",
            "care-b+1024",
            "care-b01024",
            "care-b",
            "care-é1",
        ] {
            assert_eq!(Care::of_part(other), None, "{other}");
        }
        assert_eq!(Care::default().part(), None);
    }

    proptest! {
        #[test]
        fn every_care_comes_back_from_its_name(
            blksize in proptest::option::of(8..=65_464u16),
            window in proptest::option::of(1..=64u16),
            rate in proptest::option::of(MIN_RATE..),
        ) {
            let care = Care { blksize, window, rate };
            if let Some(part) = care.part() {
                prop_assert!(part.len() <= 28, "it has to fit into BOOTP's 127 bytes with the rest");
                prop_assert_eq!(Care::of_part(&part), Some(care));
            }
        }

        #[test]
        fn no_part_makes_reading_panic(part in "care-.{0,20}|.{0,20}") {
            let _ = Care::of_part(&part);
        }
    }
}
