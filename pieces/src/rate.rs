//! How much may be given: so many bytes a second, and a second's worth at once. Pure.

use std::time::Duration;

/// What may be given at a time.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bytes a second.
    rate: u64,
    /// When all that was promised has been paid for.
    free: Duration,
}

impl Rate {
    /// So many bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate, free: Duration::ZERO }
    }

    /// Another rate from now on.
    pub fn set(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// Promises so many bytes; gives how long to wait before they go. None, and no promise, where
    /// that is longer than `most`.
    pub fn take(&mut self, now: Duration, bytes: u64, most: Duration) -> Option<Duration> {
        if self.rate == 0 {
            return None;
        }
        let begins = self.free.max(now);
        let wait = begins - now;
        if wait > most {
            return None;
        }
        self.free = begins + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_the_rate_and_who_would_wait_for_long_is_told_so() {
        let mut rate = Rate::new(1_000);
        let (second, most) = (Duration::from_secs(1), Duration::from_millis(1_500));
        assert_eq!(rate.take(second, 1_000, most), Some(Duration::ZERO));
        assert_eq!(rate.take(second, 1_000, most), Some(second));
        assert_eq!(rate.take(second, 1_000, most), None);
        assert_eq!(rate.take(2 * second, 1_000, most), Some(second));
        // Time that went by is not saved up.
        assert_eq!(rate.take(100 * second, 5_000, most), Some(Duration::ZERO));
        assert_eq!(rate.take(101 * second, 1, most), None);
        rate.set(0);
        assert_eq!(rate.take(200 * second, 1, most), None);
    }
}
