//! Which specifications are jobs at all: bounds, checked alike by requester, server and ledger.

use protocol::{
    is_plain,
    job::{AdamSpec, JobSpec, MAX_LABEL_LEN, ModelShape, TrainSpec, TranslateSpec, Work},
};

/// Most tokens of a micro-batch.
pub const MAX_MICRO_BATCH_TOKENS: u32 = 1 << 20;
/// Most micro-batches of a step.
pub const MAX_MICRO_BATCHES: u32 = 4096;
/// Most epochs.
pub const MAX_EPOCHS: u32 = 1000;

/// A specification was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// A number is out of its bounds.
    #[error("{field} is {value}; it must be from {least} to {most}")]
    OutOfBounds {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: f64,
        /// The least it may be.
        least: f64,
        /// The most.
        most: f64,
    },
    /// The model cannot be built.
    #[error("the model cannot be built: {0}")]
    Model(String),
    /// A sentence pair of the longest length would not fit a micro-batch.
    #[error(
        "a micro-batch of {tokens} tokens cannot hold a pair of {longest} tokens each: allow at least {wanted} tokens or shorten max_length"
    )]
    MicroBatchTooSmall {
        /// Tokens of a micro-batch.
        tokens: u32,
        /// The longest sentence.
        longest: u32,
        /// What would do.
        wanted: u32,
    },
    /// The label would do something to the terminal that shows it.
    #[error("the label has characters that are no text (U+{0:04X}): leave them out")]
    LabelText(u32),
    /// The label is too long.
    #[error("the label has {0} bytes; {MAX_LABEL_LEN} are the most")]
    Label(usize),
}

fn within(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), SpecError> {
    // Written so that NaN is refused.
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(SpecError::OutOfBounds { field, value, least, most })
    }
}

fn count(field: &'static str, value: u32, least: u32, most: u32) -> Result<(), SpecError> {
    within(field, value.into(), least.into(), most.into())
}

/// Checks a specification's bounds.
pub fn check(spec: &JobSpec) -> Result<(), SpecError> {
    if spec.label.len() > MAX_LABEL_LEN {
        return Err(SpecError::Label(spec.label.len()));
    }
    if let Some(c) = spec.label.chars().find(|c| !is_plain(*c)) {
        return Err(SpecError::LabelText(c.into()));
    }
    match &spec.work {
        Work::Train(train) => check_training(train),
        Work::Translate(translate) => check_translation(translate),
    }
}

fn check_shape(shape: &ModelShape) -> Result<(), SpecError> {
    kernels::model::check(shape).map_err(|error| SpecError::Model(error.to_string()))
}

fn check_training(spec: &TrainSpec) -> Result<(), SpecError> {
    check_shape(&spec.model)?;
    count("epochs", spec.epochs, 1, MAX_EPOCHS)?;
    count("micro_batch_tokens", spec.micro_batch_tokens, 1, MAX_MICRO_BATCH_TOKENS)?;
    count("micro_batches", spec.micro_batches, 1, MAX_MICRO_BATCHES)?;
    let wanted = 2 * spec.model.max_length;
    if spec.micro_batch_tokens < wanted {
        return Err(SpecError::MicroBatchTooSmall {
            tokens: spec.micro_batch_tokens,
            longest: spec.model.max_length,
            wanted,
        });
    }
    within("label_smoothing", spec.label_smoothing.into(), 0.0, 0.9)?;
    // 58982 / 65536 = 0.9: more would leave nothing to learn from.
    count("dropout", spec.dropout.into(), 0, 58_982)?;
    check_adam(&spec.adam)
}

fn check_adam(adam: &AdamSpec) -> Result<(), SpecError> {
    within("adam.peak_rate", adam.peak_rate.into(), f64::MIN_POSITIVE, 1.0)?;
    count("adam.warmup_steps", adam.warmup_steps, 1, 1_000_000)?;
    within("adam.beta1", adam.beta1.into(), 0.0, 0.999_999)?;
    within("adam.beta2", adam.beta2.into(), 0.0, 0.999_999)?;
    within("adam.epsilon", adam.epsilon.into(), 1e-12, 1.0)?;
    within("adam.clip_norm", adam.clip_norm.into(), 0.0, 1e6)
}

fn check_translation(spec: &TranslateSpec) -> Result<(), SpecError> {
    check_shape(&spec.shape)?;
    count("micro_batch_tokens", spec.micro_batch_tokens, 1, MAX_MICRO_BATCH_TOKENS)?;
    if spec.micro_batch_tokens < spec.shape.max_length {
        return Err(SpecError::MicroBatchTooSmall {
            tokens: spec.micro_batch_tokens,
            longest: spec.shape.max_length,
            wanted: spec.shape.max_length,
        });
    }
    count("length_sixteenths", spec.length_sixteenths, 1, 160)
}
