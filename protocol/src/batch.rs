//! Batches: what a node takes, and what one receipt is for.

use crate::{
    digest::{Digest, serde_as_text},
    job::JobId,
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Which part of a step.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub enum BatchPart {
    /// One micro-batch, from 0.
    Micro(u32),
    /// The parameter server's own: gradient sum, clipping, optimiser step.
    Update,
}

/// `#3` or `update`.
impl fmt::Display for BatchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Micro(index) => write!(f, "#{index}"),
            Self::Update => f.write_str("update"),
        }
    }
}

/// Why a text names no part of a step.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no part of a step: \"#3\" or \"update\" is wanted")]
pub struct NotAPart(String);

impl FromStr for BatchPart {
    type Err = NotAPart;
    fn from_str(text: &str) -> Result<Self, NotAPart> {
        if text == "update" {
            return Ok(Self::Update);
        }
        let index = text.strip_prefix('#').and_then(|index| index.parse().ok());
        index.map(Self::Micro).ok_or_else(|| NotAPart(text.into()))
    }
}

serde_as_text!(BatchPart);

/// One batch of one job. A translation job has epoch 0 and step 0 alone.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct BatchId {
    /// The job.
    pub job: JobId,
    /// The epoch, from 0.
    pub epoch: u32,
    /// The step within the epoch, from 0.
    pub step: u32,
    /// The part of the step.
    pub part: BatchPart,
}

impl BatchId {
    /// The batch's key in tables and on the ledger.
    pub fn digest(&self) -> Digest {
        Digest::of("aliaOS batch v1", self)
    }
}

/// `epoch 0 step 12 #3`.
impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} step {} {}", self.epoch, self.step, self.part)
    }
}

/// What a batch's work units are counted from: sums over its sentences.
///
/// Sentences are packed without padding, so these sums say all that a shape can.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct BatchShape {
    /// Sentences (pairs, when training).
    pub sentences: u32,
    /// Source tokens, end marks included.
    pub source_tokens: u32,
    /// Target positions, the start or end mark included; for translation the most that may be
    /// decoded.
    pub target_tokens: u32,
    /// Sum of the squares of the source lengths: attention in the encoder.
    pub source_squares: u64,
    /// Sum of the squares of the target lengths: attention in the decoder.
    pub target_squares: u64,
    /// Sum of source length x target length: attention between them.
    pub cross: u64,
}

impl BatchShape {
    /// Adds a sentence pair of the given lengths in tokens.
    pub fn add(&mut self, source: u32, target: u32) {
        let (s, t) = (u64::from(source), u64::from(target));
        self.sentences += 1;
        self.source_tokens += source;
        self.target_tokens += target;
        self.source_squares += s * s;
        self.target_squares += t * t;
        self.cross += s * t;
    }
}
