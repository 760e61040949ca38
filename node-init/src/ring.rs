//! The last lines that were said, for whoever asks later: bounded in number and in bytes.

use crate::{kernel::Kernel, kernel::Linux, status::milliseconds};
use protocol::node_api::LogLine;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// The most lines: a boot says some dozens, a working service a few a minute.
pub const MAX_LINES: usize = 4_096;
/// The most bytes of text.
pub const MAX_BYTES: usize = 512 << 10;

/// Lines that several may add to and read.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    kept: Arc<Mutex<Kept>>,
    news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    next: u64,
}

impl Ring {
    /// Keeps a line; the oldest ones go where there is no room.
    pub fn push(&self, text: &str) {
        let at_ms = milliseconds(Linux.since_start());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(at_ms, text);
        self.news.notify_waiters();
    }

    /// The last `count` lines, oldest first.
    pub fn last(&self, count: usize) -> Vec<LogLine> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.range(kept.lines.len().saturating_sub(count)..).cloned().collect()
    }

    /// Lines from the number `from` on, at most `most`; waits until there is one.
    pub async fn after(&self, from: u64, most: usize) -> Vec<LogLine> {
        loop {
            // Begun before looking: what is said between is not missed.
            let news = self.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            let lines = self.from(from, most);
            if !lines.is_empty() {
                return lines;
            }
            news.await;
        }
    }

    /// The number that the next line will have.
    pub fn next(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).next
    }

    /// The lines from the number `from` on, at most `most`; none where there are none yet.
    pub fn from(&self, from: u64, most: usize) -> Vec<LogLine> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.lines.front().map_or(kept.next, |line| line.sequence);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        kept.lines.iter().skip(skip).take(most).cloned().collect()
    }
}

impl Kept {
    fn push(&mut self, at_ms: u64, text: &str) {
        self.lines.push_back(LogLine { sequence: self.next, at_ms, text: text.to_owned() });
        self.next += 1;
        self.bytes += text.len();
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(gone) = self.lines.pop_front() else { return };
            self.bytes -= gone.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_memory_is_bounded() {
        let ring = Ring::default();
        for number in 0..MAX_LINES + 10 {
            ring.push(&number.to_string());
        }
        assert_eq!(texts(&ring.last(2)), ["4104", "4105"]);
        let all = ring.last(usize::MAX);
        assert_eq!((all.len(), all[0].sequence), (MAX_LINES, 10));
        for _ in 0..3 * MAX_BYTES / 1_000 {
            ring.push(&"x".repeat(1_000));
        }
        let kept = ring.last(usize::MAX);
        assert!(kept.iter().map(|line| line.text.len()).sum::<usize>() <= MAX_BYTES);
        ring.push(&"x".repeat(MAX_BYTES + 1));
        assert!(ring.last(usize::MAX).is_empty());
    }

    #[tokio::test]
    async fn who_follows_gets_each_line_once_and_sees_a_gap() {
        let ring = Ring::default();
        ring.push("one");
        assert_eq!(texts(&ring.after(0, 10).await), ["one"]);
        let soon = Duration::from_millis(20);
        assert!(timeout(soon, ring.after(1, 10)).await.is_err());
        let follower = ring.clone();
        let following = tokio::spawn(async move { follower.after(1, 10).await });
        tokio::task::yield_now().await;
        ring.push("two");
        let lines = timeout(Duration::from_secs(5), following).await.unwrap().unwrap();
        assert_eq!((texts(&lines), lines[0].sequence), (vec!["two"], 1));
        for number in 0..MAX_LINES {
            ring.push(&number.to_string());
        }
        assert_eq!(ring.after(2, 1).await[0].sequence, 2);
        ring.push("more");
        assert_eq!(ring.after(2, 1).await[0].sequence, 3, "the second is gone");
        assert_eq!(ring.next(), 3 + MAX_LINES as u64);
    }
}
