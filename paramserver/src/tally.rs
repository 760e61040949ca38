//! What is counted of a job for people to watch. None of it decides anything.

use crate::record::StepEntry;
use protocol::{
    BatchPart, PublicKey,
    api::{BatchDone, WorkerStatus},
    transaction::Run,
    work::LeafResult,
};
use std::collections::{BTreeMap, VecDeque};

/// Batches shown as done last.
const RECENT: usize = 64;
/// Tokens a second are counted over so much time.
const RATE_WINDOW_MS: u64 = 60_000;

/// A job's counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Mean loss a target token of the last finished step.
    pub loss: Option<f32>,
    /// Receipts taken from workers and made by the server itself.
    pub receipts: u64,
    /// Milliseconds of its finished steps.
    pub worked_ms: u64,
    /// The batches done last, newest first.
    pub recent: VecDeque<BatchDone>,
    /// Each node's micro-batches used, and receipts.
    nodes: BTreeMap<PublicKey, (u64, u64)>,
    /// When a step was finished, milliseconds since 1970, and its tokens.
    tokens: VecDeque<(u64, u64)>,
}

impl Tally {
    /// The counts of a job that went on for a while, from what is on disk of it.
    pub(crate) fn of_steps(steps: &[(u32, StepEntry)]) -> Self {
        Self {
            loss: steps.last().map(|(_, step)| mean(step)),
            worked_ms: steps.iter().map(|(_, step)| step.milliseconds).sum(),
            ..Self::default()
        }
    }

    /// Takes up who gave how much.
    pub(crate) fn set_nodes(&mut self, nodes: BTreeMap<PublicKey, (u64, u64)>) {
        self.receipts = nodes.values().map(|(_, receipts)| receipts).sum();
        self.nodes = nodes;
    }

    /// Counts the receipts of a run.
    pub(crate) fn note(&mut self, leaves: &[LeafResult], run: &Run, used: bool) {
        let given = leaves.len() as u64;
        self.receipts += given;
        let (batches, receipts) = self.nodes.entry(run.node).or_default();
        *receipts += given;
        if used && run.first != BatchPart::Update {
            *batches += given;
        }
        for leaf in leaves {
            let body = &leaf.receipt.body;
            self.recent.push_front(BatchDone {
                epoch: body.batch.epoch,
                step: body.batch.step,
                part: body.batch.part,
                node: run.node,
                receipt: body.id(),
                used,
            });
        }
        self.recent.truncate(RECENT);
    }

    /// Counts a finished step.
    pub(crate) fn finish_step(&mut self, entry: &StepEntry, now: u64) {
        self.loss = Some(mean(entry));
        self.worked_ms += entry.milliseconds;
        self.tokens.push_back((now, entry.tokens));
        while self.tokens.front().is_some_and(|(at, _)| at + RATE_WINDOW_MS < now) {
            self.tokens.pop_front();
        }
    }

    /// Source and target tokens a second, lately.
    pub(crate) fn tokens_per_second(&self, now: u64) -> f32 {
        let window = self.tokens.front().map_or(0, |(at, _)| now.saturating_sub(*at));
        // The first only says when the counting began.
        let counted: u64 = self.tokens.iter().skip(1).map(|(_, tokens)| tokens).sum();
        counted as f32 * 1e3 / window.max(1) as f32
    }

    /// Fills in what a node gave to this job.
    pub(crate) fn fill_in(&self, node: &PublicKey, status: &mut WorkerStatus) {
        if let Some((batches, receipts)) = self.nodes.get(node) {
            (status.batches, status.receipts) = (*batches, *receipts);
        }
    }
}

fn mean(step: &StepEntry) -> f32 {
    step.loss / step.target_tokens.max(1) as f32
}
