//! Signs of progress for whoever supervises this process.
//!
//! PID 1 reads what a service prints. A line of [`SIGN`] alone says that something got done: an
//! operation, an answer, a piece of a download. No timer makes them, so a process that hangs makes
//! none. A pipe that is there already needs no file, no socket, and no right to open one.

use crate::run::Observe;
use kernels::{OutputView, Tap, graph::Operation};
use protocol::BatchId;
use std::{
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The byte of a sign: ACK. Nobody writes it otherwise.
pub const SIGN: u8 = 6;
/// Between two signs: many operations a second are one sign.
const PAUSE: Duration = Duration::from_secs(5);

/// When the heart began to beat; never where nobody supervises.
static BEGAN: OnceLock<Instant> = OnceLock::new();
/// The next sign's time in milliseconds since then.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// From now on progress is shown on standard output.
pub fn begin() {
    let _ = BEGAN.set(Instant::now());
}

/// Something got done.
pub fn beat() {
    let Some(began) = BEGAN.get() else { return };
    let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(next) = due(now, NEXT.load(Ordering::Relaxed)) {
        NEXT.store(next, Ordering::Relaxed);
        // Whole lines are written under one lock. Nobody who reads them is nobody to tell.
        let _ = std::io::stdout().write_all(&[SIGN, b'\n']);
    }
}

/// The next sign's time, where one is due. Pure.
fn due(now: u64, next: u64) -> Option<u64> {
    (now >= next).then(|| now.saturating_add(PAUSE.as_millis() as u64))
}

/// Beats at each operation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beats;

impl Observe for Beats {
    fn tap(&self, _: &BatchId) -> impl Tap {
        Beats
    }
}

impl Tap for Beats {
    fn wants(&self, _: u32, _: &Operation) -> bool {
        beat();
        false
    }

    fn after(&mut self, _: u32, _: &Operation, _: &mut [OutputView<'_>]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_operations_are_one_sign_every_few_seconds() {
        assert_eq!(due(0, 0), Some(5_000));
        assert_eq!(due(4_999, 5_000), None);
        assert_eq!(due(7_000, 5_000), Some(12_000));
    }
}
