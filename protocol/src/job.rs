//! Jobs: a content-addressed specification of work.

use crate::{digest::Digest, key::PublicKey};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A job's id: the digest of its specification.
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
pub struct JobId(pub Digest);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = crate::digest::NotADigest;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a job is. Its [`JobId`] is the digest of these bytes, so nothing in it can change.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// A few words for people, at most [`MAX_LABEL_LEN`] bytes.
    pub label: String,
    /// Whose job it is.
    pub requester: PublicKey,
    /// Tells two otherwise equal jobs of one requester apart.
    pub nonce: u64,
    /// Which operations' outputs a receipt commits to.
    pub log: LogLevel,
    /// The work itself.
    pub work: Work,
}

/// The longest label of a job.
pub const MAX_LABEL_LEN: usize = 120;

impl JobSpec {
    /// The job's id.
    pub fn id(&self) -> JobId {
        JobId(Digest::of("aliaOS job v1", self))
    }
}

/// Which operations' outputs a receipt commits to.
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
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Those at layer boundaries, and the result. Every other one is had by re-execution.
    #[default]
    Boundaries,
    /// All of them: dearer, because every output is hashed.
    Full,
}

/// The two kinds of work.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Work {
    /// Training a translation model.
    Train(TrainSpec),
    /// Translating sentences with a trained one.
    Translate(TranslateSpec),
}

/// A training job: with the corpus it names, this fixes every bit of the model.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// The corpus as text: UTF-8, one `source<TAB>target` a line.
    pub corpus: Digest,
    /// The tokenizer's JSON file.
    pub tokenizer: Digest,
    /// The corpus as token ids (`text::encoded`'s format): corpus put through tokenizer.
    pub encoded: Digest,
    /// The model's shape.
    pub model: ModelShape,
    /// Seeds initialisation, order of batches, and dropout.
    pub seed: u64,
    /// How often the corpus is gone through; thirteen by default.
    pub epochs: u32,
    /// The most tokens (source and target together) of a micro-batch.
    pub micro_batch_tokens: u32,
    /// Micro-batches of a step; the last step of an epoch may have fewer.
    pub micro_batches: u32,
    /// Probability that dropout clears an element, in 1/65536 steps: `p = dropout / 65536`.
    pub dropout: u16,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// The optimiser.
    pub adam: AdamSpec,
}

/// Adam with warm-up to a peak rate, then decay by the inverse square root of the step.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamSpec {
    /// The rate at the end of warm-up.
    pub peak_rate: f32,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// First moment's decay.
    pub beta1: f32,
    /// Second moment's decay.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Largest norm of a step's gradient; 0 for no clipping.
    pub clip_norm: f32,
}

/// The shape of a transformer encoder-decoder with tied embeddings.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Joint pieces, special ones included.
    pub vocabulary: u32,
    /// Width of a layer.
    pub width: u32,
    /// Attention heads; they divide the width.
    pub heads: u32,
    /// Inner width of the feed-forward parts.
    pub feed_forward: u32,
    /// Encoder layers.
    pub encoder_layers: u32,
    /// Decoder layers.
    pub decoder_layers: u32,
    /// The longest sentence in tokens.
    pub max_length: u32,
}

/// A translation job.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslateSpec {
    /// The model's safetensors file.
    pub model: Digest,
    /// The digest of the parameters in it, as receipts name them.
    pub parameters: Digest,
    /// The model's shape.
    pub shape: ModelShape,
    /// The tokenizer's JSON file.
    pub tokenizer: Digest,
    /// The sentences as token ids, salted (`text::encoded`'s format): text never goes on chain.
    pub input: Digest,
    /// The most source tokens of a micro-batch.
    pub micro_batch_tokens: u32,
    /// The most target tokens of a sentence: `source tokens x this / 16 + 8`.
    pub length_sixteenths: u32,
}
