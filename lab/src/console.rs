//! What a machine's serial line or a service prints: kept in a file, and line by line in memory.

use crate::error::{At, Error};
use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lines kept in memory; a machine's whole boot has some 800. The file has all.
const MAX_LINES: usize = 20_000;
/// Longest line; what goes on beyond it is a line of its own.
const MAX_LINE_LEN: usize = 4_000;
/// Lines that an error quotes.
const TAIL_LINES: usize = 12;

/// A line with the time since its source was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When its end came.
    pub at: Duration,
    /// Its text, without terminal control sequences.
    pub text: String,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// How many lines were dropped from the front.
    dropped: usize,
    closed: bool,
}

/// A stream of lines. Clones share it.
#[derive(Clone)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
    log: PathBuf,
}

/// Why a wait for a line ended without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLine {
    /// The source ended.
    Closed,
    /// The time was up.
    TooLate,
}

impl Console {
    /// A console that nothing is written to yet; `log` gets every byte as it comes.
    pub fn new(log: &Path) -> Result<Self, Error> {
        // Appended to, so that a service's restarts stand in one log.
        File::options().create(true).append(true).open(log).at(log.display())?;
        Ok(Self { shared: Arc::default(), log: log.into() })
    }

    /// Reads `source` to its end on a thread of its own; times count from `since`.
    pub fn follow(
        &self,
        mut source: impl Read + Send + 'static,
        since: Instant,
    ) -> Result<(), Error> {
        let mut file = File::options().append(true).open(&self.log).at(self.log.display())?;
        let console = self.clone();
        console.state().closed = false;
        let thread = thread::Builder::new().name("console".into());
        let body = move || {
            let mut splitter = Splitter::default();
            let mut buffer = [0; 4096];
            loop {
                let n = match source.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => n,
                };
                // A full disk must not stop the source, which would wait for its reader.
                let _ = file.write_all(&buffer[..n]);
                console.push(splitter.feed(&buffer[..n]), since);
            }
            console.push(splitter.end().into_iter().collect(), since);
            console.state().closed = true;
            console.shared.1.notify_all();
        };
        thread.spawn(body).at("a thread for a console")?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every statement: a panic elsewhere leaves it usable.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, texts: Vec<String>, since: Instant) {
        if texts.is_empty() {
            return;
        }
        let at = since.elapsed();
        let mut state = self.state();
        for text in texts {
            if state.lines.len() == MAX_LINES {
                state.lines.pop_front();
                state.dropped += 1;
            }
            state.lines.push_back(Line { at, text });
        }
        drop(state);
        self.shared.1.notify_all();
    }

    /// The log's path.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How many lines came so far: a mark for [`Console::wait_from`].
    pub fn mark(&self) -> usize {
        let state = self.state();
        state.dropped + state.lines.len()
    }

    /// The lines from `mark` on, as far as they are kept.
    pub fn lines_from(&self, mark: usize) -> Vec<Line> {
        let state = self.state();
        state.lines.iter().skip(mark.saturating_sub(state.dropped)).cloned().collect()
    }

    /// The first line that contains `text`, waiting up to `limit` for it.
    pub fn wait(&self, text: &str, limit: Duration) -> Result<Line, NoLine> {
        self.wait_from(0, |line| line.contains(text), limit)
    }

    /// The first line from `mark` on that `wanted` accepts, waiting up to `limit` for it.
    pub fn wait_from(
        &self,
        mark: usize,
        mut wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<Line, NoLine> {
        let end = Instant::now() + limit;
        let mut next = mark;
        let mut state = self.state();
        loop {
            let start = next.saturating_sub(state.dropped);
            if let Some(line) = state.lines.iter().skip(start).find(|line| wanted(&line.text)) {
                return Ok(line.clone());
            }
            next = state.dropped + state.lines.len();
            if state.closed {
                return Err(NoLine::Closed);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::TooLate);
            }
            let wait = self.shared.1.wait_timeout(state, left);
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last lines, for an error.
    pub fn tail(&self) -> String {
        let state = self.state();
        let skip = state.lines.len().saturating_sub(TAIL_LINES);
        let lines: Vec<String> =
            state.lines.iter().skip(skip).map(|line| format!("  {}", line.text)).collect();
        lines.join("\n")
    }
}

/// Cuts bytes into lines and drops terminal control sequences. Pure.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    escape: Escape,
}

#[derive(Default, Clone, Copy)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// In a control sequence (ECMA-48 5.4): parameters until a final byte 0x40 to 0x7e.
    Sequence,
}

impl Splitter {
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match (self.escape, byte) {
                (Escape::None, 0x1b) => self.escape = Escape::Begun,
                (Escape::None, b'\n') => lines.extend(self.end()),
                // Firmware redraws a line after a carriage return; the rest are tabs and bells.
                (Escape::None, 0..0x20) if byte != b'\t' => {}
                (Escape::None, _) => {
                    self.line.push(byte);
                    if self.line.len() == MAX_LINE_LEN {
                        lines.extend(self.end());
                    }
                }
                (Escape::Begun, b'[') => self.escape = Escape::Sequence,
                (Escape::Begun, _) => self.escape = Escape::None,
                (Escape::Sequence, 0x40..=0x7e) => self.escape = Escape::None,
                (Escape::Sequence, _) => {}
            }
        }
        lines
    }

    /// What stands so far, unless it is empty.
    fn end(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line).trim_end().to_string();
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;

    #[test]
    fn lines_are_cut_and_control_sequences_dropped() {
        let mut splitter = Splitter::default();
        let lines = splitter.feed(b"\x1b[2J\x1b[01;01Hhello\r\nwo\x1b[");
        assert_eq!(lines, ["hello"]);
        assert_eq!(splitter.feed(b"1mrld\n\n\nrest"), ["world"]);
        assert_eq!(splitter.end().as_deref(), Some("rest"));
        assert_eq!(splitter.feed(&[b'x'; MAX_LINE_LEN + 1]).len(), 1);
    }

    #[test]
    fn a_line_is_waited_for_and_an_end_or_a_time_limit_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let console = Console::new(&log).unwrap();
        let (reader, mut writer) = pipe().unwrap();
        console.follow(reader, Instant::now()).unwrap();
        writer.write_all(b"one\ntwo").unwrap();
        assert_eq!(console.wait("one", Duration::from_secs(5)).unwrap().text, "one");
        assert_eq!(console.wait("two", Duration::from_millis(50)), Err(NoLine::TooLate));
        let mark = console.mark();
        writer.write_all(b"\none again\n").unwrap();
        let again = console.wait_from(mark, |line| line.contains("one"), Duration::from_secs(5));
        assert_eq!(again.unwrap().text, "one again");
        drop(writer);
        assert_eq!(console.wait("three", Duration::from_secs(5)), Err(NoLine::Closed));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\none again\n");
        assert!(console.tail().contains("two"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_splitter_panic_or_grow(bytes: Vec<u8>) {
            let mut splitter = Splitter::default();
            for line in splitter.feed(&bytes) {
                assert!(!line.contains('\x1b') && !line.contains('\n'));
            }
            assert!(splitter.line.len() < MAX_LINE_LEN);
        }
    }
}
