//! Who does how much of a step: decided at its start from how fast each worker has been.
//!
//! The fast ones set the pace: the shortest time is found in which all micro-batches fit, each
//! worker doing as many as it can in that time. Those too slow for even one are *starved*; so
//! that they take part all the same, a step now and then waits for them, as long as all such
//! waiting together stays within a credit and a share of the time worked ([`Patience`]).

use job::tree::{Span, aligned_runs};
use std::time::Duration;

/// The part of the working time that may go into waiting for workers too slow for their share of
/// a step: an eighth.
pub const WAITING_SHARE: u32 = 8;
/// What may be waited before that much was worked: a machine's first micro-batch takes longest,
/// since it fetches the job before, and an emulated one does 0.06 GFLOP a second.
pub const WAITING_CREDIT: Duration = Duration::from_secs(90);

/// A worker at the start of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worker {
    /// How long it takes for one micro-batch.
    pub micro_batch: Duration,
    /// The longest aligned run that it takes at once.
    pub most: u32,
}

/// Waiting for starved workers, in account.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Patience {
    /// Time worked on the job so far.
    pub worked: Duration,
    /// Of which waited for starved workers.
    pub waited: Duration,
}

impl Patience {
    /// How long may still be waited.
    pub fn left(&self) -> Duration {
        (WAITING_CREDIT + self.worked / WAITING_SHARE).saturating_sub(self.waited)
    }
}

/// What each worker is given, in the workers' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// Aligned runs a worker.
    pub runs: Vec<Vec<Span>>,
    /// Until then the fast ones are expected to be done.
    pub pace: Duration,
    /// Whether a starved worker was given one.
    pub waits: bool,
}

/// Shares out the micro-batches `open` (ascending) of a step.
pub fn share(workers: &[Worker], open: &[u32], patience: &Patience) -> Shares {
    let mut shares = Shares { runs: vec![Vec::new(); workers.len()], ..Shares::default() };
    if workers.is_empty() || open.is_empty() {
        return shares;
    }
    let total = open.len() as u32;
    shares.pace = shortest(workers, total);
    let mut counts: Vec<u32> =
        workers.iter().map(|worker| fit(worker, shares.pace).min(total)).collect();
    trim(&mut counts, workers, total);

    let starved: Vec<usize> = (0..workers.len()).filter(|&i| counts[i] == 0).collect();
    let longest = starved.iter().map(|&i| workers[i].micro_batch).max().unwrap_or_default();
    // Half as long again as it should take: a wait that ends just too early is all in vain.
    let wait = longest.saturating_sub(shares.pace) * 3 / 2;
    if !starved.is_empty() && wait <= patience.left() {
        for i in starved {
            if let Some(busiest) =
                (0..counts.len()).filter(|&j| counts[j] > 1).max_by_key(|&j| counts[j])
            {
                counts[busiest] -= 1;
                counts[i] = 1;
                shares.waits = true;
            }
        }
    }

    // The largest shares first, so that their runs are long; single ones take the end.
    let mut order: Vec<usize> = (0..workers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(counts[i]), i));
    let mut rest = open;
    for i in order {
        let (mine, others) = rest.split_at(counts[i] as usize);
        shares.runs[i] = aligned_runs(mine, workers[i].most);
        rest = others;
    }
    shares
}

/// Micro-batches that a worker does within `time`.
fn fit(worker: &Worker, time: Duration) -> u32 {
    let each = worker.micro_batch.as_nanos().max(1);
    u32::try_from(time.as_nanos() / each).unwrap_or(u32::MAX)
}

/// The shortest time in which `total` micro-batches fit, to a 1/64 of the fastest worker's time.
fn shortest(workers: &[Worker], total: u32) -> Duration {
    let fits = |time: Duration| {
        let sum = workers.iter().fold(0u32, |sum, worker| sum.saturating_add(fit(worker, time)));
        sum >= total
    };
    let fastest = workers.iter().map(|worker| worker.micro_batch).min().unwrap_or_default();
    let fastest = fastest.max(Duration::from_nanos(64));
    let mut high = fastest.saturating_mul(total);
    let mut low = Duration::ZERO;
    let grain = fastest / 64;
    while high.saturating_sub(low) > grain {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// Takes away what is over `total`, one at a time from whoever would end last.
fn trim(counts: &mut [u32], workers: &[Worker], total: u32) {
    let sum = |counts: &[u32]| counts.iter().fold(0u32, |sum, count| sum.saturating_add(*count));
    while sum(counts) > total {
        let last = (0..counts.len())
            .filter(|&i| counts[i] > 0)
            .max_by_key(|&i| (workers[i].micro_batch.saturating_mul(counts[i]), i));
        match last {
            Some(last) => counts[last] -= 1,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(ms: u64) -> Worker {
        Worker { micro_batch: Duration::from_millis(ms), most: 64 }
    }

    fn given(shares: &Shares) -> Vec<u32> {
        let mut all: Vec<u32> =
            shares.runs.iter().flatten().flat_map(|run| run.first..run.first + run.count).collect();
        all.sort_unstable();
        all
    }

    fn counts(shares: &Shares) -> Vec<u32> {
        shares.runs.iter().map(|runs| runs.iter().map(|run| run.count).sum()).collect()
    }

    #[test]
    fn everything_open_is_given_once() {
        let open: Vec<u32> = (3..29).filter(|i| i % 5 != 0).collect();
        for workers in [vec![worker(10)], vec![worker(10), worker(25)], vec![worker(1); 40]] {
            let patience = Patience { worked: Duration::from_secs(9), ..Patience::default() };
            assert_eq!(given(&share(&workers, &open, &patience)), open);
        }
    }

    #[test]
    fn equals_share_equally_and_twice_as_fast_does_twice_as_much() {
        let open: Vec<u32> = (0..12).collect();
        let patience = Patience { worked: Duration::from_secs(9), ..Patience::default() };
        assert_eq!(counts(&share(&[worker(10), worker(10)], &open, &patience)), [6, 6]);
        assert_eq!(counts(&share(&[worker(10), worker(20)], &open, &patience)), [8, 4]);
    }

    #[test]
    fn a_starved_worker_takes_part_only_while_waiting_is_affordable() {
        let open: Vec<u32> = (0..16).collect();
        let workers = [worker(25), worker(5000)];
        let worked = Duration::from_secs(48);
        let rich = Patience { worked, waited: Duration::ZERO };
        let shares = share(&workers, &open, &rich);
        assert_eq!(counts(&shares), [15, 1]);
        assert!(shares.waits);
        // Enough for what it should take, and not for a little more.
        let poor = Patience { worked, waited: WAITING_CREDIT };
        let shares = share(&workers, &open, &poor);
        assert_eq!(counts(&shares), [16, 0]);
        assert!(!shares.waits);
    }

    #[test]
    fn where_all_are_slow_none_is_starved() {
        let open: Vec<u32> = (0..4).collect();
        let patience = Patience { worked: Duration::from_secs(1), ..Patience::default() };
        let shares = share(&[worker(8000), worker(9000)], &open, &patience);
        assert_eq!(counts(&shares), [2, 2]);
    }

    #[test]
    fn one_micro_batch_goes_to_the_fastest() {
        let shares = share(&[worker(90), worker(10)], &[0], &Patience::default());
        assert_eq!(counts(&shares), [0, 1]);
    }
}
