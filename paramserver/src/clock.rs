//! The one place where a parameter server reads a clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970. A clock before that counts as 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
