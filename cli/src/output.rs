//! Where text goes. A reader that went away (`alia receipts | head`) is no error.

use protocol::{plain, plain_lines};
use serde::Serialize;
use std::{
    cell::RefCell,
    fmt::Display,
    io::{IsTerminal, Write, stderr, stdout},
    time::{Duration, Instant},
};

/// Between two words on progress where nobody watches a terminal.
const QUIET: Duration = Duration::from_secs(5);

/// Standard output for results, standard error for everything else.
pub(crate) struct Output {
    json: bool,
    progress: RefCell<Progress>,
}

struct Progress {
    is_terminal: bool,
    /// Whether a line stands that the next one overwrites.
    stands: bool,
    said: Option<Instant>,
    last: String,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let is_terminal = stderr().is_terminal();
        let progress = Progress { is_terminal, stands: false, said: None, last: String::new() };
        Self { json, progress: RefCell::new(progress) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of the result, for people.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.json {
            self.end_progress();
            // Servers' words among it must not speak to the terminal.
            let _ = writeln!(stdout(), "{}", plain_lines(&line.to_string()));
        }
    }

    /// The result as JSON, where that is wanted.
    pub(crate) fn give(&self, value: &impl Serialize) {
        if self.json {
            self.end_progress();
            let text = serde_json::to_string(value).unwrap_or_default();
            let _ = writeln!(stdout(), "{text}");
        }
    }

    /// Text that is the result itself, with JSON or without.
    pub(crate) fn raw(&self, text: impl Display) {
        self.end_progress();
        let text = text.to_string();
        // A file gets it as it is.
        let text = if stdout().is_terminal() { plain_lines(&text) } else { text };
        let _ = write!(stdout(), "{text}");
    }

    /// A remark.
    pub(crate) fn note(&self, line: impl Display) {
        self.end_progress();
        let _ = writeln!(stderr(), "{}", plain_lines(&line.to_string()));
    }

    /// How far long work has come: one line that changes, on a terminal; now and then a line,
    /// elsewhere.
    pub(crate) fn progress(&self, line: impl Display) {
        let mut progress = self.progress.borrow_mut();
        let line = plain(&line.to_string());
        if line == progress.last {
            return;
        }
        if progress.is_terminal {
            let _ = write!(stderr(), "\r\x1b[K{line}");
            let _ = stderr().flush();
            progress.stands = true;
        } else if progress.said.is_none_or(|said| said.elapsed() >= QUIET) {
            let _ = writeln!(stderr(), "{line}");
            progress.said = Some(Instant::now());
        }
        progress.last = line;
    }

    fn end_progress(&self) {
        let mut progress = self.progress.borrow_mut();
        if std::mem::take(&mut progress.stands) {
            let _ = writeln!(stderr());
        }
    }
}
