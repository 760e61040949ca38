//! Counts of what is too frequent, or too anonymous, to be an event of a machine.

use crate::metrics::Metrics;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Named counts. The names are constants of this program, so the table cannot grow.
#[derive(Debug, Default)]
pub struct Counters {
    named: Mutex<BTreeMap<&'static str, u64>>,
    /// What is counted by kind and outcome.
    pub metrics: Metrics,
}

impl Counters {
    /// Counts one, and says whether this one is worth a line in the log: the first, second,
    /// fourth, eighth and so on are, so that a flood cannot fill a disk.
    pub fn count(&self, name: &'static str) -> bool {
        self.add(name, 1).is_power_of_two()
    }

    /// Adds to a count and gives it.
    pub fn add(&self, name: &'static str, more: u64) -> u64 {
        let mut counts = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name).or_default();
        *count += more;
        *count
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, u64> {
        let counts = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| ((*name).into(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_in_full_and_logged_seldom() {
        let counters = Counters::default();
        let logged = (0..1_000).filter(|_| counters.count("truncated")).count();
        assert_eq!(logged, 10);
        assert_eq!(counters.all()["truncated"], 1_000);
    }
}
