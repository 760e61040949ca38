//! One step of a job in progress: which micro-batches are given to whom, and which are done.
//!
//! Pure: times come in as milliseconds, decisions go out as values.

use job::tree::Span;
use protocol::{
    Digest, JobId, PublicKey,
    batch::BatchPart,
    transaction::{Run, assignment_id},
};
use std::collections::BTreeMap;

/// The longest a run of a worker may take, in its expected time, before it goes to another too.
pub const LATE_FACTOR: u64 = 3;
/// Never sooner than that.
pub const LATE_FLOOR_MS: u64 = 2_000;

/// From when on a run is late that should take `expected` milliseconds.
pub fn late_after(expected: u64) -> u64 {
    (expected * LATE_FACTOR).max(LATE_FLOOR_MS)
}

/// A run that somebody was given and has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outstanding {
    /// What was given, to whom, at which attempt.
    pub run: Run,
    /// When; none while it waits for its worker to pull it.
    pub pulled_at: Option<u64>,
    /// When it was assigned.
    pub assigned_at: u64,
    /// How long it should take from the pull.
    pub expected_ms: u64,
    /// Runs of the same worker before this one, in expected milliseconds.
    pub queued_ms: u64,
    /// How long a step that waits for a slow worker alone can wait at most, milliseconds.
    pub limit_ms: Option<u64>,
}

impl Outstanding {
    /// The micro-batches of the run.
    pub fn span(&self) -> Option<Span> {
        span_of(&self.run)
    }

    /// From when on the run is late, and its micro-batches may go to another.
    pub fn late_at(&self) -> u64 {
        let patience = |expected: u64| self.limit_ms.unwrap_or_else(|| late_after(expected));
        match self.pulled_at {
            Some(at) => at + patience(self.expected_ms),
            None => self.assigned_at + patience(self.queued_ms + self.expected_ms),
        }
    }
}

/// The micro-batches of a run; none for an update.
pub fn span_of(run: &Run) -> Option<Span> {
    match run.first {
        BatchPart::Micro(first) => Some(Span { first, count: run.count }),
        BatchPart::Update => None,
    }
}

/// What a returned run is to the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its result becomes part of the step's.
    Used,
    /// Some of it was done by others already; what was not is with somebody else, or will be.
    Late,
}

/// A step in progress.
#[derive(Clone, Debug)]
pub struct StepState {
    job: JobId,
    epoch: u32,
    step: u32,
    done: Vec<bool>,
    attempts: Vec<u32>,
    outstanding: BTreeMap<Digest, Outstanding>,
}

impl StepState {
    /// A step of `count` micro-batches, none of them given or done.
    pub fn new(job: JobId, epoch: u32, step: u32, count: u32) -> Self {
        Self {
            job,
            epoch,
            step,
            done: vec![false; count as usize],
            attempts: vec![0; count as usize],
            outstanding: BTreeMap::new(),
        }
    }

    /// The epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The step within it.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// How many micro-batches.
    pub fn count(&self) -> u32 {
        self.done.len() as u32
    }

    /// Whether every micro-batch is done.
    pub fn is_done(&self) -> bool {
        self.done.iter().all(|done| *done)
    }

    /// How many are done.
    pub fn done_count(&self) -> u32 {
        self.done.iter().filter(|done| **done).count() as u32
    }

    /// Micro-batches that are neither done nor with somebody who is in time, ascending.
    pub fn open(&self, now: u64) -> Vec<u32> {
        let mut taken = self.done.clone();
        for outstanding in self.outstanding.values() {
            if now < outstanding.late_at()
                && let Some(span) = outstanding.span()
            {
                self.mark(&mut taken, span);
            }
        }
        (0..self.count()).filter(|&i| !taken[i as usize]).collect()
    }

    /// When the next outstanding run becomes late; none where none can.
    pub fn next_late(&self, now: u64) -> Option<u64> {
        self.outstanding.values().map(Outstanding::late_at).filter(|&at| at > now).min()
    }

    fn mark(&self, marks: &mut [bool], span: Span) {
        for i in span.micro_batches() {
            if let Some(mark) = marks.get_mut(i as usize) {
                *mark = true;
            }
        }
    }

    /// Gives `spans` to a worker; they come to it in that order, each expected to take
    /// `micro_batch_ms` a micro-batch, and waited for no longer than `limit_ms`, where that is
    /// given. The runs are what the ledger is to be told.
    pub fn give(
        &mut self,
        node: PublicKey,
        spans: &[Span],
        micro_batch_ms: u64,
        limit_ms: Option<u64>,
        now: u64,
    ) -> Vec<Run> {
        let mut queued_ms = 0;
        let mut runs = Vec::with_capacity(spans.len());
        for span in spans {
            let range = span.first as usize..(span.first + span.count) as usize;
            let attempts = &mut self.attempts[range];
            let attempt = 1 + attempts.iter().copied().max().unwrap_or(0);
            attempts.fill(attempt);
            let run = Run { first: BatchPart::Micro(span.first), count: span.count, node, attempt };
            let expected_ms = micro_batch_ms * u64::from(span.count);
            self.insert(run, (expected_ms, queued_ms, limit_ms), now);
            queued_ms += expected_ms;
            runs.push(run);
        }
        runs
    }

    /// Takes note of a run that was assigned before (by this process's predecessor, too).
    pub fn restore(&mut self, run: Run, now: u64) {
        self.insert(run, (0, 0, None), now);
    }

    fn insert(&mut self, run: Run, times: (u64, u64, Option<u64>), now: u64) {
        let (expected_ms, queued_ms, limit_ms) = times;
        let Some(span) = span_of(&run) else { return };
        for i in span.micro_batches() {
            if let Some(attempt) = self.attempts.get_mut(i as usize) {
                *attempt = run.attempt.max(*attempt);
            }
        }
        let id = assignment_id(&self.job, self.epoch, self.step, &run);
        self.outstanding.insert(
            id,
            Outstanding {
                run,
                pulled_at: None,
                assigned_at: now,
                expected_ms,
                queued_ms,
                limit_ms,
            },
        );
    }

    /// Hands the next run that is assigned to `node` over to it.
    pub fn pull(&mut self, node: &PublicKey, now: u64) -> Option<(Digest, Outstanding)> {
        let id = *self
            .outstanding
            .iter()
            .filter(|(_, o)| o.run.node == *node && o.pulled_at.is_none())
            .min_by_key(|(_, o)| (o.assigned_at, o.queued_ms))?
            .0;
        let outstanding = self.outstanding.get_mut(&id)?;
        outstanding.pulled_at = Some(now);
        Some((id, *outstanding))
    }

    /// `node` asks for work anew: it does one run after the other, so what it pulled and did not return
    /// never came to it, or died with it. It gets that again.
    pub fn asks(&mut self, node: &PublicKey) {
        for outstanding in self.outstanding.values_mut().filter(|o| o.run.node == *node) {
            outstanding.pulled_at = None;
        }
    }

    /// An outstanding run by its assignment's id.
    pub fn outstanding(&self, id: &Digest) -> Option<&Outstanding> {
        self.outstanding.get(id)
    }

    /// Who pulled a run and did not return it, and for how long it has been out, milliseconds.
    pub fn overdue(&self, now: u64) -> Vec<(PublicKey, u64)> {
        let all = self.outstanding.values();
        all.filter_map(|o| Some((o.run.node, now.saturating_sub(o.pulled_at?)))).collect()
    }

    /// Runs that were given and not returned.
    pub fn outstanding_count(&self) -> usize {
        self.outstanding.len()
    }

    /// What `node` has pulled and not returned.
    pub fn doing(&self, node: &PublicKey) -> Option<Span> {
        let mut pulled = self.outstanding.values().filter(|o| o.pulled_at.is_some());
        pulled.find(|o| o.run.node == *node)?.span()
    }

    /// Whether `node` has runs here that it has not returned.
    pub fn is_busy(&self, node: &PublicKey) -> bool {
        self.outstanding.values().any(|o| o.run.node == *node)
    }

    /// Takes a good result of an outstanding run; none where there is no such run.
    pub fn finish(&mut self, id: &Digest) -> Option<(Outstanding, Verdict)> {
        let outstanding = self.outstanding.remove(id)?;
        let span = outstanding.span()?;
        let verdict = self.finish_span(span);
        Some((outstanding, verdict))
    }

    /// Marks a span done, as [`StepState::finish`] does.
    pub fn finish_span(&mut self, span: Span) -> Verdict {
        let range = span.first as usize..(span.first + span.count) as usize;
        let done = &mut self.done[range];
        if done.iter().any(|done| *done) {
            return Verdict::Late;
        }
        done.fill(true);
        Verdict::Used
    }

    /// Gives up on an outstanding run: its result was refused.
    pub fn give_up(&mut self, id: &Digest) {
        self.outstanding.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::SecretKey;

    fn node(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn state(count: u32) -> StepState {
        StepState::new(JobId(Digest::of_bytes(b"job")), 1, 2, count)
    }

    fn span(first: u32, count: u32) -> Span {
        Span { first, count }
    }

    #[test]
    fn runs_come_to_their_worker_in_order_and_to_nobody_else() {
        let mut state = state(8);
        let runs = state.give(node(1), &[span(0, 4), span(4, 2)], 10, None, 0);
        assert_eq!(runs.iter().map(|run| run.attempt).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(state.open(0), [6, 7]);
        assert!(state.pull(&node(2), 5).is_none());
        assert_eq!(state.pull(&node(1), 5).unwrap().1.run, runs[0]);
        assert_eq!(state.pull(&node(1), 6).unwrap().1.run, runs[1]);
        assert!(state.pull(&node(1), 7).is_none());
    }

    #[test]
    fn a_late_run_opens_again_under_a_new_attempt_and_its_own_result_still_counts() {
        let mut state = state(2);
        let first = state.give(node(1), &[span(0, 2)], 10, None, 0)[0];
        let (id, _) = state.pull(&node(1), 100).unwrap();
        assert!(state.open(2_099).is_empty());
        assert_eq!(state.open(2_100), [0, 1]);
        let second = state.give(node(2), &[span(0, 2)], 10, None, 2_100)[0];
        assert_eq!((first.attempt, second.attempt), (1, 2));
        assert_eq!(state.finish(&id).unwrap().1, Verdict::Used);
        assert!(state.is_done());
        let (id, _) = state.pull(&node(2), 2_200).unwrap();
        assert_eq!(state.finish(&id).unwrap().1, Verdict::Late);
    }

    #[test]
    fn who_asks_again_gets_what_never_came_to_it() {
        let mut state = state(4);
        let runs = state.give(node(1), &[span(0, 2), span(2, 2)], 10, None, 0);
        assert_eq!(state.pull(&node(1), 5).unwrap().1.run, runs[0]);
        state.asks(&node(2));
        assert_eq!(state.doing(&node(1)), Some(span(0, 2)), "another's asking is nothing to it");
        state.asks(&node(1));
        let (id, again) = state.pull(&node(1), 10_000).unwrap();
        assert_eq!(again.run, runs[0]);
        assert_eq!(state.finish(&id).unwrap().1, Verdict::Used);
    }

    #[test]
    fn a_result_counts_once_and_a_stranger_s_never() {
        let mut state = state(1);
        state.give(node(1), &[span(0, 1)], 10, None, 0);
        let (id, _) = state.pull(&node(1), 1).unwrap();
        assert!(state.finish(&Digest::of_bytes(b"nonsense")).is_none());
        assert!(state.finish(&id).is_some());
        assert!(state.finish(&id).is_none());
    }

    #[test]
    fn a_worker_that_never_pulls_is_late_too() {
        let mut state = state(1);
        state.give(node(1), &[span(0, 1)], 1_000, None, 0);
        assert!(state.open(2_999).is_empty());
        assert_eq!(state.next_late(0), Some(3_000));
        assert_eq!(state.open(3_000), [0]);
    }
    #[test]
    fn a_slow_worker_is_waited_for_as_long_as_was_said_and_no_longer() {
        let mut state = state(1);
        state.give(node(1), &[span(0, 1)], 1_000, Some(9_000), 0);
        state.pull(&node(1), 500);
        assert!(state.open(9_499).is_empty());
        assert_eq!(state.open(9_500), [0]);
        assert_eq!(state.overdue(9_500), [(node(1), 9_000)]);
    }
}
