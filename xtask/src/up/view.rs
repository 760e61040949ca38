//! The live view: on a terminal a block of lines that is redrawn, elsewhere now and then a line.

use crossterm::{
    cursor::MoveToPreviousLine,
    queue,
    terminal::{Clear, ClearType, size},
};
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Between two lines where there is no terminal.
const PLAIN_PERIOD: Duration = Duration::from_secs(15);

/// Standard output.
pub struct View {
    is_terminal: bool,
    drawn: u16,
    last_plain: Option<Instant>,
}

impl Default for View {
    fn default() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), drawn: 0, last_plain: None }
    }
}

impl View {
    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        let run = |view: &mut Self| -> io::Result<()> {
            let mut out = io::stdout().lock();
            view.wipe(&mut out)?;
            writeln!(out, "{text}")?;
            out.flush()
        };
        // A reader that went away is no reason to stop.
        let _ = run(self);
    }

    /// The state of things: `lines` for a terminal, `short` elsewhere.
    pub fn draw(&mut self, lines: &[String], short: &str) {
        if !self.is_terminal {
            if self.last_plain.is_none_or(|at| at.elapsed() >= PLAIN_PERIOD) {
                self.last_plain = Some(Instant::now());
                self.say(short);
            }
            return;
        }
        let run = |view: &mut Self| -> io::Result<()> {
            let (columns, rows) = size().unwrap_or((80, 24));
            let mut out = io::stdout().lock();
            view.wipe(&mut out)?;
            // One row stays free for the cursor, so that nothing scrolls.
            let shown = lines.iter().take(usize::from(rows.saturating_sub(1)));
            for line in shown {
                let cut: String = line.chars().take(usize::from(columns)).collect();
                writeln!(out, "{cut}")?;
                view.drawn += 1;
            }
            out.flush()
        };
        let _ = run(self);
    }

    /// Leaves what is drawn where it is and goes on below.
    pub fn settle(&mut self) {
        self.drawn = 0;
    }

    fn wipe(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.drawn > 0 {
            queue!(out, MoveToPreviousLine(self.drawn), Clear(ClearType::FromCursorDown))?;
            self.drawn = 0;
        }
        Ok(())
    }
}

/// `1:02` of seconds.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A bar of `width` signs, `share` of them full.
pub fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    format!("{}{}", "#".repeat(full), ".".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_clocks_are_as_wide_as_they_should_be() {
        assert_eq!(bar(0.5, 4), "##..");
        assert_eq!(bar(7.0, 3), "###");
        assert_eq!(clock(62.9), "1:02");
    }
}
