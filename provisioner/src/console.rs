//! What becomes of the lines that a node sends of its console: which are new, which are missing, which
//! come too fast. Pure.

use protocol::{
    Digest,
    console::{ConsoleBatch, ConsoleLine, ConsoleSource, MAX_CONSOLE_LINES, readable},
};

/// The most lines that are taken of a machine in a minute: a boot says some 2,000, a node sends at most
/// 3,840 by itself.
pub const MAX_RATE: u64 = 6_000;
/// What is counted together.
const WINDOW_MS: u64 = 60_000;

/// How far a machine's console is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its boot.
    pub boot: Digest,
    /// The number that the kernel's next line has.
    pub kernel: u64,
    /// The same of PID 1's.
    pub init: u64,
    /// When the minute began that is counted, milliseconds since 1970.
    pub window: u64,
    /// Lines taken in it.
    pub taken: u64,
    /// Lines that came too fast, not told yet.
    pub refused: u64,
}

/// A line to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The line, as it may be shown.
    pub line: ConsoleLine,
    /// How many before it are missing.
    pub missing: u64,
}

impl Head {
    /// Of a boot of which nothing came so far.
    pub fn new(boot: Digest, now: u64) -> Self {
        Self { boot, kernel: 0, init: 0, window: now, taken: 0, refused: 0 }
    }

    /// Takes a batch in; gives the lines of it that are new.
    pub fn take(&mut self, batch: ConsoleBatch, now: u64) -> Vec<Taken> {
        if batch.boot_id != self.boot {
            // The minute goes on: a machine that boots in a loop is no faster for that.
            *self = Self { boot: batch.boot_id, kernel: 0, init: 0, ..self.clone() };
        }
        if now.saturating_sub(self.window) >= WINDOW_MS || now < self.window {
            (self.window, self.taken) = (now, 0);
        }
        let lines = batch.lines.into_iter().take(MAX_CONSOLE_LINES);
        lines.filter_map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: ConsoleLine) -> Option<Taken> {
        let next = match line.source {
            ConsoleSource::Kernel => &mut self.kernel,
            ConsoleSource::Init => &mut self.init,
        };
        // No database has larger numbers.
        let within = line.sequence < i64::MAX as u64;
        let lost = line.sequence.checked_sub(*next).filter(|_| within)?;
        *next = line.sequence.saturating_add(1);
        if self.taken >= MAX_RATE {
            self.refused = self.refused.saturating_add(lost).saturating_add(1);
            return None;
        }
        self.taken += 1;
        let missing = lost.saturating_add(std::mem::take(&mut self.refused));
        let (at_ms, level) = (bounded(line.at_ms), line.level.map(|level| level & 7));
        let line = ConsoleLine { at_ms, level, text: readable(&line.text), ..line };
        Some(Taken { line, missing: bounded(missing) })
    }
}

fn bounded(number: u64) -> u64 {
    number.min(i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOOT: Digest = Digest([1; 32]);

    fn line(source: ConsoleSource, sequence: u64) -> ConsoleLine {
        let text = format!("{} {sequence}\u{1b}[2J", source.as_str());
        ConsoleLine { source, sequence, at_ms: sequence, level: Some(6), text }
    }

    fn batch(lines: impl IntoIterator<Item = (ConsoleSource, u64)>) -> ConsoleBatch {
        let lines = lines.into_iter().map(|(source, sequence)| line(source, sequence)).collect();
        ConsoleBatch { boot_id: BOOT, lines }
    }

    fn told(taken: &[Taken]) -> Vec<(&str, u64)> {
        taken.iter().map(|taken| (taken.line.text.as_str(), taken.missing)).collect()
    }

    use ConsoleSource::{Init, Kernel};

    #[test]
    fn what_comes_twice_is_kept_once_and_a_gap_is_told() {
        let mut head = Head::new(BOOT, 0);
        let first = batch([(Kernel, 0), (Init, 0), (Kernel, 1)]);
        let taken = head.take(first.clone(), 0);
        assert_eq!(told(&taken), [("kernel 0", 0), ("init 0", 0), ("kernel 1", 0)]);
        assert_eq!(head.take(first, 1), []);
        let taken = head.take(batch([(Kernel, 1), (Kernel, 5), (Init, 1)]), 2);
        assert_eq!(told(&taken), [("kernel 5", 3), ("init 1", 0)]);
        // Another boot counts anew.
        let other = ConsoleBatch { boot_id: Digest([2; 32]), ..batch([(Kernel, 2)]) };
        assert_eq!(told(&head.take(other, 3)), [("kernel 2", 2)]);
    }

    #[test]
    fn a_flood_loses_lines_and_the_next_one_says_how_many() {
        let mut head = Head::new(BOOT, 0);
        let mut kept = 0;
        for first in (0..MAX_RATE + 512).step_by(256) {
            kept += head.take(batch((first..first + 256).map(|n| (Kernel, n))), 1).len() as u64;
        }
        assert_eq!(kept, MAX_RATE);
        let next = head.kernel;
        let taken = head.take(batch([(Kernel, next)]), WINDOW_MS + 1);
        assert_eq!(taken[0].missing, next - MAX_RATE);
    }

    proptest! {
        #[test]
        fn every_line_is_kept_or_counted_once(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..90_000), 0..200),
        ) {
            let mut head = Head::new(BOOT, 0);
            let (mut now, mut kept, mut missing) = (0, 0, 0);
            for (kernel, sequence, pause) in steps {
                now += pause;
                let source = if kernel { Kernel } else { Init };
                for taken in head.take(batch([(source, sequence)]), now) {
                    kept += 1;
                    missing += taken.missing;
                }
            }
            prop_assert_eq!(kept + missing + head.refused, head.kernel + head.init);
        }

        #[test]
        fn no_number_overflows(sequence in any::<u64>(), at_ms in any::<u64>(), now in any::<u64>()) {
            let mut head = Head::new(BOOT, 5);
            for source in [Kernel, Init] {
                let line = ConsoleLine { at_ms, ..line(source, sequence) };
                for _ in 0..2 {
                    let lines = vec![line.clone()];
                    for taken in head.take(ConsoleBatch { boot_id: BOOT, lines }, now) {
                        prop_assert!(taken.missing <= i64::MAX as u64 && taken.line.level <= Some(7));
                    }
                }
            }
        }
    }
}
