//! Translating with a trained model: here, or as a job of its own by the workers. Both do the
//! very same batches, so both give the same bits.

mod document;
mod here;
mod network;

pub use document::Document;
pub use here::translate_here;
pub use network::{NetworkTranslation, Requester, translate_on_network};

use crate::{error::Error, fetch::FetchError, prepare::Order};
use bytes::Bytes;
use compute::run::RunError;
use job::{Job, JobError, plan::source_length};
use kernels::{graph::Graph, model::Parameters};
use protocol::{
    Digest, JobSpec, PublicKey,
    batch::BatchShape,
    encoded::Encoded,
    job::{LogLevel, TranslateSpec, Work},
    receipt::Salt,
};
use text::{Tokenizer, tokenizer::TokenizerError};

/// A translation may have one and a half times its source's tokens, and eight.
pub const LENGTH_SIXTEENTHS: u32 = 24;
/// Into so many micro-batches at least a document is cut, where it is long enough: so that
/// several workers take part.
const LEAST_PARTS: u32 = 8;

/// A translation cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Tokenizer and model are not of one job.
    #[error(
        "the tokenizer has {tokenizer} pieces, the model {model}: they are of two jobs; fetch both of one"
    )]
    OtherTokenizer {
        /// Pieces of the tokenizer.
        tokenizer: u32,
        /// Rows of the model's embedding.
        model: u32,
    },
    /// There is nothing to translate.
    #[error("there is no text in it: nothing to translate")]
    Nothing,
    /// The sentences make no job.
    #[error("{0}")]
    Job(#[from] JobError),
    /// The arithmetic.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model.
    #[error("{0}")]
    Kernel(#[from] kernels::Error),
    /// The result of a job of the network's.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The job on the network failed.
    #[error("the translation job failed: {0}")]
    Failed(String),
}

/// A trained model with its tokenizer.
#[derive(Debug)]
pub struct Model {
    /// Its safetensors file.
    pub file: Bytes,
    /// What is in it.
    pub parameters: Parameters,
    /// The tokenizer's JSON file.
    pub tokenizer_json: String,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

impl Model {
    /// Reads model and tokenizer from their files.
    ///
    /// # Errors
    /// Where one cannot be read, or they do not go together.
    pub fn read(model: &std::path::Path, tokenizer: &std::path::Path) -> Result<Self, Error> {
        let (file, parameters) = crate::folder::read_model(model)?;
        let (tokenizer_json, tokenizer) = crate::folder::read_tokenizer(tokenizer)?;
        Ok(Self::new(file.into(), parameters, tokenizer_json, tokenizer)?)
    }

    /// A model of its parts.
    ///
    /// # Errors
    /// [`TranslateError::OtherTokenizer`].
    pub fn new(
        file: Bytes,
        parameters: Parameters,
        tokenizer_json: String,
        tokenizer: Tokenizer,
    ) -> Result<Self, TranslateError> {
        let (pieces, model) = (tokenizer.vocabulary(), parameters.shape().vocabulary);
        if pieces != model {
            return Err(TranslateError::OtherTokenizer { tokenizer: pieces, model });
        }
        Ok(Self { file, parameters, tokenizer_json, tokenizer })
    }

    /// The job of translating sentences, with its files.
    fn order(
        &self,
        document: &Document,
        salt: Salt,
        label: &str,
        requester: PublicKey,
    ) -> Result<(Order, Job), TranslateError> {
        if document.sentences().is_empty() {
            return Err(TranslateError::Nothing);
        }
        let encoded = self.tokenizer.encode_sentences(document.sentences(), salt)?;
        let shape = *self.parameters.shape();
        let mut work = TranslateSpec {
            model: Digest::of_bytes(&self.file),
            parameters: self.parameters.digest(),
            shape,
            tokenizer: Digest::of_bytes(self.tokenizer_json.as_bytes()),
            input: encoded.digest(),
            micro_batch_tokens: 0,
            length_sixteenths: LENGTH_SIXTEENTHS,
        };
        work.micro_batch_tokens = micro_batch_tokens(&work, &encoded)?;
        let blobs = vec![
            (work.model, self.file.clone()),
            (work.tokenizer, Bytes::copy_from_slice(self.tokenizer_json.as_bytes())),
            (work.input, Bytes::copy_from_slice(encoded.to_bytes())),
        ];
        let spec = JobSpec {
            label: label.into(),
            requester,
            nonce: 0,
            log: LogLevel::Boundaries,
            work: Work::Translate(work),
        };
        let job = Job::new(spec.clone(), encoded)?;
        let shapes = job.terms().shapes().to_vec();
        Ok((Order { spec, shapes, blobs }, job))
    }

    /// Which sentences of a document are too long for the model, from 0: nothing comes of them.
    ///
    /// # Errors
    /// Where the tokenizer refuses a text.
    pub fn too_long(&self, document: &Document) -> Result<Vec<usize>, TranslateError> {
        let longest = self.parameters.shape().max_length as usize;
        let mut over = Vec::new();
        for (at, sentence) in document.sentences().iter().enumerate() {
            if self.tokenizer.encode(sentence)?.len() >= longest {
                over.push(at);
            }
        }
        Ok(over)
    }
}

/// How many source tokens a micro-batch of a document has: few enough that several workers share
/// it and that a sentence at its limit stays within [`crate::prepare::MOST_PRODUCTS`], and at
/// least those of the longest sentence.
fn micro_batch_tokens(spec: &TranslateSpec, input: &Encoded) -> Result<u32, TranslateError> {
    let longest = spec.shape.max_length;
    let total: u64 = (0..input.len())
        .filter_map(|at| input.lengths(at))
        .map(|(pieces, _)| u64::from(source_length(pieces)))
        .sum();
    let share = u32::try_from(total.div_ceil(u64::from(LEAST_PARTS))).unwrap_or(u32::MAX);
    // What a token costs is judged by sentences of a quarter of the longest.
    let graph = Graph::translation(&spec.shape)?;
    let length = (longest / 4).max(1);
    let mut shape = BatchShape::default();
    shape.add(length, job::plan::length_limit(spec, length));
    let each = (graph.units(&shape).product / u64::from(length)).max(1);
    let most = u32::try_from(crate::prepare::MOST_PRODUCTS / each).unwrap_or(u32::MAX);
    Ok(share.min(most).clamp(longest, job::spec::MAX_MICRO_BATCH_TOKENS))
}
