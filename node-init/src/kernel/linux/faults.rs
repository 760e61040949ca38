//! Faults of the kernel, for tests in real machines: in no image but those that a test builds with
//! the feature `faults`. `alia.fault=NAME` on the kernel command line chooses one:
//!
//! | name | what |
//! |---|---|
//! | `hang` | PID 1 never gets the time again, soon after the service was started |
//! | `exit` | PID 1 ends then, of which the kernel dies |
//! | `identity` | no randomness for keys |
//! | `fast` | time runs twenty times as fast from the service's start on |

use std::{
    fs, io, process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// From the service's start to `hang` and `exit`.
const MOMENT: Duration = Duration::from_secs(10);
const FACTOR: u32 = 20;

static LINE: OnceLock<String> = OnceLock::new();
static RANDOM: AtomicU32 = AtomicU32::new(0);
/// When the service was started, milliseconds since the kernel was; 0 before.
static SPAWNED: AtomicU64 = AtomicU64::new(0);

fn is(fault: &str) -> bool {
    let Some(line) = LINE.get().map(String::as_str).or_else(|| {
        // Not before /proc is mounted.
        let line = fs::read_to_string("/proc/cmdline").ok()?;
        Some(LINE.get_or_init(|| line).as_str())
    }) else {
        return false;
    };
    line.split_ascii_whitespace().any(|word| word.strip_prefix("alia.fault=") == Some(fault))
}

pub(super) fn at(now: Duration) -> Duration {
    let since = Duration::from_millis(SPAWNED.load(Ordering::Relaxed));
    if !since.is_zero() && now > since + MOMENT {
        if is("hang") {
            loop {
                thread::park();
            }
        }
        if is("exit") {
            process::exit(1);
        }
    }
    if !since.is_zero() && is("fast") {
        return since + now.saturating_sub(since) * FACTOR;
    }
    now
}

pub(super) fn spawned(now: Duration) {
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let _ = SPAWNED.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
}

/// Fails the second time: the first is the boot's own id, and later ones are questions to servers.
pub(super) fn random() -> io::Result<()> {
    if RANDOM.fetch_add(1, Ordering::Relaxed) == 1 && is("identity") {
        return Err(io::Error::other("told to fail"));
    }
    Ok(())
}
