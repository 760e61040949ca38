//! The plan of a job: which sentences make which micro-batch, and which micro-batch which step.

use crate::order::{Purpose, permutation};
use protocol::{
    batch::BatchShape,
    job::{TrainSpec, TranslateSpec},
    transaction::MAX_JOB_BATCHES,
};

/// Why a corpus makes no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is short enough.
    #[error(
        "none of the corpus's {pairs} sentences is of 1 to {longest} tokens: nothing is left to work on"
    )]
    NothingFits {
        /// How many sentences there are.
        pairs: usize,
        /// The longest allowed.
        longest: u32,
    },
    /// More micro-batches than a job may have.
    #[error(
        "the corpus makes {batches} micro-batches; {MAX_JOB_BATCHES} are the most: allow more tokens in each"
    )]
    TooManyBatches {
        /// How many it makes.
        batches: usize,
    },
}

/// Which sentences make which micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Indices into the encoded corpus, by distinct micro-batch.
    pub members: Vec<Vec<u32>>,
    /// The shape of each.
    pub shapes: Vec<BatchShape>,
    /// Sentences left out because they are empty or too long.
    pub left_out: usize,
}

/// Length of an encoder's input: the pieces and the end mark.
pub fn source_length(pieces: u32) -> u32 {
    pieces + 1
}

/// Length of a decoder's input and of its wanted output: the pieces and the start or end mark.
pub fn target_length(pieces: u32) -> u32 {
    pieces + 1
}

/// The most tokens (end mark included) that the translation of a source of `source` tokens (end
/// mark included) may have.
pub fn length_limit(spec: &TranslateSpec, source: u32) -> u32 {
    let limit = u64::from(source) * u64::from(spec.length_sixteenths) / 16 + 8;
    limit.min(u64::from(spec.shape.max_length)) as u32
}

struct Packer {
    plan: Plan,
    tokens: u32,
    most: u32,
}

impl Packer {
    fn new(most: u32) -> Self {
        let plan = Plan { members: Vec::new(), shapes: Vec::new(), left_out: 0 };
        Self { plan, tokens: 0, most }
    }

    /// Adds a sentence of `weight` tokens towards the micro-batch's bound.
    fn add(&mut self, index: u32, source: u32, target: u32, weight: u32) {
        if self.plan.members.is_empty() || self.tokens + weight > self.most {
            self.plan.members.push(Vec::new());
            self.plan.shapes.push(BatchShape::default());
            self.tokens = 0;
        }
        self.tokens += weight;
        if let (Some(members), Some(shape)) =
            (self.plan.members.last_mut(), self.plan.shapes.last_mut())
        {
            members.push(index);
            shape.add(source, target);
        }
    }

    fn finish(self, sentences: usize, longest: u32) -> Result<Plan, PlanError> {
        match self.plan.members.len() {
            0 => Err(PlanError::NothingFits { pairs: sentences, longest }),
            batches if batches > MAX_JOB_BATCHES => Err(PlanError::TooManyBatches { batches }),
            _ => Ok(self.plan),
        }
    }
}

/// Plans a training job from the lengths in pieces of each pair, `(source, target)`.
///
/// Pairs are shuffled once by the seed and packed in that order, so that a micro-batch holds
/// sentences of all lengths; nothing is padded, so mixed lengths cost nothing.
pub fn training(spec: &TrainSpec, lengths: &[(u32, u32)]) -> Result<Plan, PlanError> {
    let longest = spec.model.max_length;
    let mut packer = Packer::new(spec.micro_batch_tokens);
    for index in permutation(spec.seed, Purpose::Composition, lengths.len() as u32) {
        let (source, target) = lengths[index as usize];
        let fits = |pieces: u32| pieces > 0 && pieces < longest;
        if fits(source) && fits(target) {
            let (source, target) = (source_length(source), target_length(target));
            packer.add(index, source, target, source + target);
        } else {
            packer.plan.left_out += 1;
        }
    }
    packer.finish(lengths.len(), longest)
}

/// Plans a translation job from the lengths in pieces of each source sentence, in their order.
///
/// A sentence that is empty or too long belongs to no micro-batch: its translation is empty, and
/// the requester is told.
pub fn translation(spec: &TranslateSpec, lengths: &[u32]) -> Result<Plan, PlanError> {
    let longest = spec.shape.max_length;
    let mut packer = Packer::new(spec.micro_batch_tokens);
    for (index, &pieces) in lengths.iter().enumerate() {
        if pieces > 0 && pieces < longest {
            let source = source_length(pieces);
            packer.add(index as u32, source, length_limit(spec, source), source);
        } else {
            packer.plan.left_out += 1;
        }
    }
    packer.finish(lengths.len(), longest)
}

/// How an epoch's steps take the distinct micro-batches; needs no corpus, so the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Distinct micro-batches.
    pub batches: u32,
    /// Micro-batches of a whole step.
    pub per_step: u32,
    /// Epochs.
    pub epochs: u32,
    seed: Option<u64>,
}

impl Schedule {
    /// A training job's schedule over `batches` distinct micro-batches.
    pub fn training(spec: &TrainSpec, batches: u32) -> Self {
        Self { batches, per_step: spec.micro_batches, epochs: spec.epochs, seed: Some(spec.seed) }
    }

    /// A translation job's: one epoch of one step.
    pub fn translation(batches: u32) -> Self {
        Self { batches, per_step: batches.max(1), epochs: 1, seed: None }
    }

    /// Steps of an epoch.
    pub fn steps(&self) -> u32 {
        self.batches.div_ceil(self.per_step)
    }

    /// Micro-batches of a step; 0 where there is no such step.
    pub fn micro_batches(&self, step: u32) -> u32 {
        let before = u64::from(step) * u64::from(self.per_step);
        u64::from(self.batches).saturating_sub(before).min(u64::from(self.per_step)) as u32
    }

    /// Which distinct micro-batches an epoch takes, in order.
    pub fn epoch(&self, epoch: u32) -> Vec<u32> {
        match self.seed {
            Some(seed) => permutation(seed, Purpose::Epoch(epoch), self.batches),
            None => (0..self.batches).collect(),
        }
    }

    /// The step after `(epoch, step)`; none after the last.
    pub fn next(&self, epoch: u32, step: u32) -> Option<(u32, u32)> {
        if step + 1 < self.steps() {
            Some((epoch, step + 1))
        } else if epoch + 1 < self.epochs {
            Some((epoch + 1, 0))
        } else {
            None
        }
    }

    /// Steps before `(epoch, step)`, from 0.
    pub fn ordinal(&self, epoch: u32, step: u32) -> u32 {
        epoch * self.steps() + step
    }
}
