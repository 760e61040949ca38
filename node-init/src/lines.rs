//! A service's output, cut into lines and held to a rate, so that no service can drown what PID 1
//! itself has to say.

use std::time::Duration;

/// The longest line in bytes; what is longer goes on in the next.
pub const MAX_LINE: usize = 500;
/// The most lines in a second.
pub const MAX_RATE: u32 = 50;

/// A line of this byte alone (ACK) is a sign of progress, and not shown.
pub const SIGN: u8 = 6;

const SECOND: Duration = Duration::from_secs(1);

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// The second that is counted, and how many lines it had.
    second: Duration,
    count: u32,
    dropped: u64,
    sign: bool,
}

impl Lines {
    /// Takes bytes in at `now`; gives the lines to show.
    pub fn push(&mut self, now: Duration, bytes: &[u8]) -> Vec<String> {
        let mut shown = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.begun.push(*byte);
            }
            if *byte == b'\n' || self.begun.len() >= MAX_LINE {
                self.show(now, &mut shown);
            }
        }
        shown
    }

    /// The stream ended: what is left of it.
    pub fn end(&mut self, now: Duration) -> Vec<String> {
        let mut shown = Vec::new();
        self.show(now, &mut shown);
        if self.dropped > 0 {
            shown.push(self.loss());
        }
        shown
    }

    /// Whether a sign of progress came since the last question.
    pub fn sign(&mut self) -> bool {
        std::mem::take(&mut self.sign)
    }

    fn show(&mut self, now: Duration, shown: &mut Vec<String>) {
        let bytes = std::mem::take(&mut self.begun);
        if bytes.is_empty() {
            return;
        }
        // Before the rate: a service may drown its words, but not its life.
        if bytes == [SIGN] {
            self.sign = true;
            return;
        }
        if now.saturating_sub(self.second) >= SECOND {
            (self.second, self.count) = (now, 0);
            if self.dropped > 0 {
                shown.push(self.loss());
            }
        }
        if self.count >= MAX_RATE {
            self.dropped += 1;
            return;
        }
        self.count += 1;
        shown.push(String::from_utf8_lossy(&bytes).into_owned());
    }

    fn loss(&mut self) -> String {
        let dropped = std::mem::take(&mut self.dropped);
        format!("({dropped} lines dropped: more than {MAX_RATE} a second)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        assert!(lines.push(SECOND, b"hel").is_empty());
        assert_eq!(lines.push(SECOND, b"lo\n\nwor"), ["hello"]);
        assert_eq!(lines.end(SECOND), ["wor"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut lines = Lines::default();
        let shown = lines.push(SECOND, &[b'x'; MAX_LINE * 2 + 1]);
        assert_eq!(shown, ["x".repeat(MAX_LINE), "x".repeat(MAX_LINE)]);
    }

    #[test]
    fn a_flood_is_held_to_its_rate_and_counted() {
        let mut lines = Lines::default();
        let flood = b"x\n".repeat(1000);
        assert_eq!(lines.push(SECOND, &flood).len(), MAX_RATE as usize);
        let next = lines.push(SECOND * 2, b"y\n");
        assert_eq!(next, ["(950 lines dropped: more than 50 a second)", "y"]);
        assert!(lines.end(SECOND * 2).is_empty());
    }

    #[test]
    fn a_sign_of_progress_is_no_line_and_no_flood_drowns_it() {
        let mut lines = Lines::default();
        let flood = [b"x\n".repeat(1000).as_slice(), &[SIGN, b'\n']].concat();
        assert_eq!(lines.push(SECOND, &flood).len(), MAX_RATE as usize);
        assert!(lines.sign());
        assert!(!lines.sign(), "asked once");
        assert_eq!(lines.push(SECOND * 3, b"a\x06b\n").len(), 2, "within a line it is text");
        assert!(!lines.sign());
    }

    proptest! {
        #[test]
        fn any_bytes_give_bounded_lines(parts in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let mut lines = Lines::default();
            for part in parts {
                for line in lines.push(SECOND, &part) {
                    // A byte that is no UTF-8 becomes a character of three.
                    prop_assert!(line.len() <= 3 * MAX_LINE && !line.contains('\n'));
                }
                prop_assert!(lines.begun.len() < MAX_LINE);
            }
        }
    }
}
