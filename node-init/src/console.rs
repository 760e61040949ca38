//! The console: one calm line for each thing that happened.
//!
//! A serial line may be slow, or stopped by its reader. A thread writes, so that PID 1 never
//! waits for it; what does not fit the queue is counted and dropped.

use crate::ring::Ring;
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Lines that wait for the console: a slow one (115,200 baud) takes two seconds for so many.
const MAX_WAITING: usize = 256;
/// The longest line in bytes; longer ones are cut.
const MAX_LINE: usize = 1_000;

/// Writes lines to the console.
#[derive(Clone, Debug)]
pub struct Console {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    ring: Ring,
}

enum Message {
    Line(String),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

impl Console {
    /// Starts the thread that writes to `device`. Where there can be no thread, nothing is shown.
    pub fn start(device: impl Write + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        let _ = thread::Builder::new()
            .name("console".to_owned())
            .stack_size(64 << 10)
            .spawn(move || write(device, &waiting, &counted));
        Self { lines, dropped, ring: Ring::default() }
    }

    /// The last lines, those that did not fit the device among them.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Writes a line; control characters in it become spaces.
    pub fn line(&self, text: &str) {
        let text = crate::outbox::cut(text, MAX_LINE);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let mut line: String = text.chars().map(printable).collect();
        self.ring.push(&line);
        line.push('\n');
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, but no longer than `most`.
    pub fn flush(&self, most: Duration) {
        let end = Instant::now() + most;
        let (written, wait) = sync_channel(1);
        while self.lines.try_send(Message::Flush(written.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let left = end.saturating_duration_since(Instant::now());
        match wait.recv_timeout(left) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn write(mut device: impl Write, waiting: &Receiver<Message>, dropped: &AtomicU64) {
    // A console that takes nothing is no reason to stop taking lines.
    for message in waiting {
        match message {
            Message::Line(line) => {
                let _ = device.write_all(line.as_bytes());
                let lost = dropped.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(device, "alia: {lost} lines did not fit the console");
                }
            }
            Message::Flush(written) => {
                let _ = device.flush();
                let _ = written.try_send(());
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::{io, sync::Mutex};

    /// A console to look at.
    #[derive(Clone, Default)]
    pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn lines_are_written_whole_and_without_control_characters() {
        let screen = Screen::default();
        let console = Console::start(screen.clone());
        console.line("alia 1.000s mounts done");
        console.line("evil \u{1b}[2J line\nalia 2.000s forged");
        console.flush(Duration::from_secs(5));
        assert_eq!(screen.text(), "alia 1.000s mounts done\nevil  [2J line alia 2.000s forged\n");
    }

    #[test]
    fn a_console_that_hangs_does_not_hang_us_and_the_loss_is_counted() {
        struct Hanging(Arc<Mutex<()>>, Screen);
        impl Write for Hanging {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _released = self.0.lock();
                self.1.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lock, screen) = (Arc::new(Mutex::new(())), Screen::default());
        let held = lock.lock().unwrap();
        let console = Console::start(Hanging(lock.clone(), screen.clone()));
        for _ in 0..1000 {
            console.line("x");
        }
        console.flush(Duration::from_millis(50));
        drop(held);
        console.flush(Duration::from_secs(5));
        let text = screen.text();
        let lost: usize = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("alia: ")?.split(' ').next()?.parse::<usize>().ok()
            })
            .sum();
        let shown = text.lines().filter(|line| *line == "x").count();
        assert_eq!(lost + shown, 1000);
        assert!(lost > 700, "{lost}");
    }
}
