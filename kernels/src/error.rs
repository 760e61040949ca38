//! What can go wrong in a batch: whose it is, and what to do.

/// An operation could not be done, or its result means nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum Error {
    /// The model's shape is not one that can be built.
    #[error("the job's model shape is wrong: {0}; correct the job's specification")]
    Shape(String),
    /// A batch without a sentence.
    #[error("the batch has no sentence; whoever made the batch should have left it out")]
    EmptyBatch,
    /// A token that the vocabulary does not have.
    #[error(
        "sentence {sentence} has token {token}, the vocabulary ends at {vocabulary}: \
         the corpus was encoded with another tokenizer than the model's"
    )]
    Token {
        /// The sentence's index in the batch.
        sentence: usize,
        /// The token.
        token: u32,
        /// Pieces of the vocabulary.
        vocabulary: u32,
    },
    /// A sentence longer than the model allows.
    #[error(
        "sentence {sentence} has {length} tokens with its mark, the model takes {most}: \
         leave it out of the corpus or split it"
    )]
    Length {
        /// The sentence's index in the batch.
        sentence: usize,
        /// Its tokens, start or end mark included.
        length: usize,
        /// The longest allowed.
        most: u32,
    },
    /// Two lists that should go together have different lengths.
    #[error("{what}: {found} given, {wanted} wanted; the caller mixed up two batches or models")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many there should be.
        wanted: usize,
    },
    /// A setting outside its range.
    #[error("the job's {what} is {value}: {wanted} is wanted; correct the job's specification")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        wanted: &'static str,
    },
    /// Infinity or NaN.
    #[error(
        "operation {operation:?} gave a number that is not finite: the training diverged \
         (lower the peak rate or warm up longer), or the parameters it began from are damaged"
    )]
    NonFinite {
        /// The operation's name.
        operation: String,
    },
    /// The CPU is not set to plain IEEE 754.
    #[error(
        "this thread's MXCSR is {mxcsr:#06x}: rounding must be to nearest, flush-to-zero and \
         denormals-are-zero off; a library in this process changed it: run without that library"
    )]
    FloatingPointMode {
        /// The register.
        mxcsr: u32,
    },
    /// Bytes that are no model or optimiser file.
    #[error("this is not a file of ours: {0}; fetch it again, or export it with this program")]
    File(String),
}
