//! Faults of the kernel, for tests in real machines: in no image but those that a test builds with
//! the feature `faults`. `alia.fault=NAME` on the kernel command line chooses one:
//!
//! | name | what |
//! |---|---|
//! | `hang` | PID 1 never gets the time again, once, at the first boot of a row |
//! | `exit` | PID 1 ends, of which the kernel dies, once likewise |
//! | `identity` | no randomness for keys, at every boot |
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

/// When `hang` and `exit` come: the machine is on the network by then.
const MOMENT: Duration = Duration::from_secs(20);
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

fn first_boot() -> bool {
    !LINE.get().is_some_and(|line| line.contains(protocol::boot::ARG_ATTEMPT))
}

pub(super) fn at(now: Duration) -> Duration {
    if now > MOMENT && is("hang") && first_boot() {
        loop {
            thread::park();
        }
    }
    if now > MOMENT && is("exit") && first_boot() {
        process::exit(1);
    }
    let since = Duration::from_millis(SPAWNED.load(Ordering::Relaxed));
    if !since.is_zero() && is("fast") {
        return since + now.saturating_sub(since) * FACTOR;
    }
    now
}

pub(super) fn spawned(now: Duration) {
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let _ = SPAWNED.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
}

/// Fails from the second time on: the first is the boot's own id.
pub(super) fn random() -> io::Result<()> {
    if RANDOM.fetch_add(1, Ordering::Relaxed) > 0 && is("identity") {
        return Err(io::Error::other("told to fail"));
    }
    Ok(())
}
