//! From pairs and settings to a job: cleaned, split, tokenised, encoded, planned. No I/O.

use crate::job_file::JobSettings;
use bytes::Bytes;
use job::{Job, JobError, plan::PlanError, spec::SpecError};
use kernels::graph::Graph;
use protocol::{
    Digest, JobId, JobSpec, PublicKey, WorkUnits,
    batch::BatchPart,
    encoded::Encoded,
    job::{ModelShape, TrainSpec, Work},
    transaction::CreateJob,
};
use serde::Serialize;
use std::fmt;
use text::{
    Corpus, Pair, Tokenizer,
    corpus::{Filters, Report, TooSmall},
    split::{self, TooFew},
    tokenizer::TokenizerError,
};

/// The most multiply-adds of a micro-batch where nobody says how many tokens it has: 2.5 GFLOP.
/// A core does that in some 30 ms, an emulated machine in some 40 s, and a step may wait for it.
pub const MOST_PRODUCTS: u64 = 1_250_000_000;
/// Tokens of a micro-batch are chosen in steps of this.
const TOKEN_GRAIN: u32 = 32;
/// And never above this: more would make no step faster.
const MOST_TOKENS: u32 = 1 << 16;

/// Pairs and settings make no job.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Too few pairs are fit to train on.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// Too few to hold so many out.
    #[error("{0}: bring a larger corpus, or hold fewer out (held_out in a job's file)")]
    TooFew(#[from] TooFew),
    /// No tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A number that is out of its bounds.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// Dropout is no probability that can be used.
    #[error("dropout is {0}; it must be from 0 to 0.9")]
    Dropout(f64),
    /// The model's shape.
    #[error("{0}")]
    Model(#[from] kernels::Error),
    /// The job does not hold together.
    #[error("{0}")]
    Job(#[from] JobError),
    /// The corpus makes no plan.
    #[error("{0}")]
    Plan(#[from] PlanError),
}

/// What goes to ledger and parameter server: the job, and its files by digest.
#[derive(Clone, Debug)]
pub struct Order {
    /// The job's specification.
    pub spec: JobSpec,
    /// The shapes of its micro-batches.
    pub shapes: Vec<protocol::BatchShape>,
    /// Its files.
    pub blobs: Vec<(Digest, Bytes)>,
}

impl Order {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.spec.id()
    }

    /// What the requester signs.
    pub fn create(&self, parameter_server: PublicKey) -> CreateJob {
        CreateJob { spec: self.spec.clone(), shapes: self.shapes.clone(), parameter_server }
    }
}

/// A training job, ready to be submitted.
#[derive(Debug)]
pub struct Prepared {
    /// The job with its corpus.
    pub job: Job,
    /// What is trained on, as TSV.
    pub corpus: String,
    /// What is tested on, in an order of which the first few are a fair sample.
    pub held_out: Vec<Pair>,
    /// The tokenizer's JSON file.
    pub tokenizer: String,
    /// The corpus as token ids.
    pub encoded: Encoded,
    /// What cleaning kept and dropped.
    pub report: Report,
    /// Pairs in neither part, because their source is nearly that of a held-out pair.
    pub set_aside: usize,
}

/// Makes a training job of pairs.
///
/// The held-out part is chosen from the whole corpus, and a sample from the rest: so jobs of
/// samples of any size are tested on the same sentences.
///
/// # Errors
/// [`PrepareError`]: the corpus's or the settings' fault, and what to do.
pub fn prepare(
    settings: &JobSettings,
    pairs: impl IntoIterator<Item = Pair>,
    requester: PublicKey,
) -> Result<Prepared, PrepareError> {
    if !(0.0..=0.9).contains(&settings.dropout) {
        return Err(PrepareError::Dropout(settings.dropout));
    }
    let (corpus, report) = Corpus::clean(pairs, &Filters::default())?;
    let parts = split::hold_out(&corpus, settings.held_out)?;
    let training = match settings.sample {
        Some(count) => parts.training.sample(count),
        None => parts.training,
    };
    let texts = training.pairs().iter().flat_map(|pair| [&pair.source[..], &pair.target[..]]);
    let tokenizer = Tokenizer::train(texts, settings.vocabulary)?;
    let encoded = tokenizer.encode_corpus(&training)?;
    let (corpus, tokenizer) = (training.to_tsv(), tokenizer.to_json()?);
    let mut spec = TrainSpec {
        corpus: Digest::of_bytes(corpus.as_bytes()),
        tokenizer: Digest::of_bytes(tokenizer.as_bytes()),
        encoded: encoded.digest(),
        model: shape(settings),
        seed: settings.seed,
        epochs: settings.epochs,
        micro_batch_tokens: settings.micro_batch_tokens.unwrap_or_default(),
        micro_batches: settings.micro_batches,
        // At most 58,982.
        dropout: (settings.dropout * 65_536.0).round() as u16,
        label_smoothing: settings.label_smoothing,
        adam: (&settings.adam).into(),
    };
    if settings.micro_batch_tokens.is_none() {
        let lengths: Vec<(u32, u32)> =
            (0..encoded.len()).filter_map(|sentence| encoded.lengths(sentence)).collect();
        spec.micro_batch_tokens = fitting_tokens(&spec, &lengths)?;
    }
    let spec = JobSpec {
        label: settings.label.clone(),
        requester,
        nonce: settings.nonce,
        log: settings.log,
        work: Work::Train(spec),
    };
    let job = Job::new(spec, encoded.clone())?;
    let (held_out, set_aside) = (parts.held_out, parts.set_aside);
    Ok(Prepared { job, corpus, held_out, tokenizer, encoded, report, set_aside })
}

fn shape(settings: &JobSettings) -> ModelShape {
    let model = &settings.model;
    ModelShape {
        vocabulary: settings.vocabulary,
        width: model.width,
        heads: model.heads,
        feed_forward: model.feed_forward,
        encoder_layers: model.encoder_layers,
        decoder_layers: model.decoder_layers,
        max_length: model.max_length,
    }
}

/// The most tokens with which each micro-batch stays within [`MOST_PRODUCTS`]; where a single
/// pair of the longest sentences goes over it, what that pair needs.
fn fitting_tokens(spec: &TrainSpec, lengths: &[(u32, u32)]) -> Result<u32, PrepareError> {
    let graph = Graph::training(&spec.model)?;
    let fits = |tokens: u32| {
        let spec = TrainSpec { micro_batch_tokens: tokens, ..spec.clone() };
        match job::plan::training(&spec, lengths) {
            Ok(plan) => {
                Ok(plan.shapes.iter().all(|shape| graph.units(shape).product <= MOST_PRODUCTS))
            }
            // Too many small ones say nothing against larger ones.
            Err(PlanError::TooManyBatches { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    };
    let least = (2 * spec.model.max_length).div_ceil(TOKEN_GRAIN);
    let (mut good, mut bad) = (least, MOST_TOKENS / TOKEN_GRAIN + 1);
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        if fits(middle * TOKEN_GRAIN)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good * TOKEN_GRAIN)
}

/// What a job will do, before anybody does it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The job.
    pub job: JobId,
    /// Pairs to train on.
    pub pairs: usize,
    /// Pairs among them that are too long for the model.
    pub left_out: usize,
    /// Pairs to test on.
    pub held_out: usize,
    /// Elements of the model.
    pub parameters: usize,
    /// Tokens of a micro-batch at most.
    pub micro_batch_tokens: u32,
    /// Distinct micro-batches.
    pub micro_batches: u32,
    /// Steps of an epoch.
    pub steps: u32,
    /// Epochs.
    pub epochs: u32,
    /// Work units of the whole job, updates included.
    pub units: WorkUnits,
    /// Billions of floating-point operations of the whole job: two a multiply-add.
    pub gflop: f64,
    /// Of the largest micro-batch.
    pub largest_gflop: f64,
}

impl Prepared {
    /// The job's id.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// What goes to ledger and parameter server.
    pub fn order(&self) -> Order {
        let file = |bytes: &[u8]| (Digest::of_bytes(bytes), Bytes::copy_from_slice(bytes));
        Order {
            spec: self.job.spec().clone(),
            shapes: self.job.terms().shapes().to_vec(),
            blobs: vec![
                file(self.corpus.as_bytes()),
                file(self.tokenizer.as_bytes()),
                file(self.encoded.to_bytes()),
            ],
        }
    }

    /// What the job will do.
    ///
    /// # Errors
    /// Where the model cannot be built; it was checked before.
    pub fn forecast(&self) -> Result<Forecast, PrepareError> {
        let terms = self.job.terms();
        let schedule = terms.schedule();
        let products = terms.shapes().iter().map(|shape| terms.graph().units(shape));
        let epoch: WorkUnits = products.clone().sum();
        let updates: WorkUnits =
            (0..schedule.steps()).filter_map(|step| terms.units(0, step, BatchPart::Update)).sum();
        let units: WorkUnits = (0..schedule.epochs).map(|_| epoch.plus(updates)).sum();
        let largest = products.map(|units| units.product).max().unwrap_or_default();
        let gflop = |products: u64| products as f64 * 2e-9;
        let (shape, tokens) = match &self.job.spec().work {
            Work::Train(train) => (&train.model, train.micro_batch_tokens),
            Work::Translate(translate) => (&translate.shape, translate.micro_batch_tokens),
        };
        Ok(Forecast {
            job: self.id(),
            pairs: self.encoded.len(),
            left_out: self.job.left_out(),
            held_out: self.held_out.len(),
            parameters: kernels::model::count(shape) as usize,
            micro_batch_tokens: tokens,
            micro_batches: schedule.batches,
            steps: schedule.steps(),
            epochs: schedule.epochs,
            units,
            gflop: gflop(units.product),
            largest_gflop: gflop(largest),
        })
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job {}", self.job)?;
        write!(f, "  {} pairs to train on", self.pairs)?;
        if self.left_out > 0 {
            write!(f, " ({} of them too long for the model)", self.left_out)?;
        }
        writeln!(f, ", {} to test on", self.held_out)?;
        writeln!(f, "  {} parameters", self.parameters)?;
        writeln!(
            f,
            "  {} micro-batches of at most {} tokens, the largest {:.2} GFLOP",
            self.micro_batches, self.micro_batch_tokens, self.largest_gflop
        )?;
        writeln!(f, "  {} epochs of {} steps", self.epochs, self.steps)?;
        write!(
            f,
            "  {} multiply-adds and {} elements in all: {:.0} GFLOP",
            self.units.product, self.units.pointwise, self.gflop
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_file::ModelSettings;
    use protocol::SecretKey;
    use text::grammar;

    fn settings() -> JobSettings {
        JobSettings {
            held_out: 50,
            vocabulary: 400,
            epochs: 2,
            model: ModelSettings {
                width: 16,
                heads: 2,
                feed_forward: 32,
                encoder_layers: 1,
                decoder_layers: 1,
                max_length: 40,
            },
            ..JobSettings::default()
        }
    }

    fn requester() -> PublicKey {
        SecretKey::from_seed([1; 32]).public()
    }

    fn pairs() -> Vec<Pair> {
        grammar::corpus(3, 1_500).pairs().to_vec()
    }

    #[test]
    fn the_same_pairs_in_another_order_are_the_same_job() {
        let forward = prepare(&settings(), pairs(), requester()).unwrap();
        let backward = prepare(&settings(), pairs().into_iter().rev(), requester()).unwrap();
        assert_eq!(forward.id(), backward.id());
        let other = JobSettings { nonce: 1, ..settings() };
        assert_ne!(prepare(&other, pairs(), requester()).unwrap().id(), forward.id());
    }

    #[test]
    fn a_sample_is_tested_on_the_same_sentences() {
        let all = prepare(&settings(), pairs(), requester()).unwrap();
        let fewer = JobSettings { sample: Some(600), ..settings() };
        let sample = prepare(&fewer, pairs(), requester()).unwrap();
        assert_eq!(sample.encoded.len(), 600);
        assert_eq!(sample.held_out, all.held_out);
    }

    #[test]
    fn an_order_has_the_files_that_its_specification_names() {
        let prepared = prepare(&settings(), pairs(), requester()).unwrap();
        let order = prepared.order();
        let Work::Train(train) = &order.spec.work else { panic!("{:?}", order.spec.work) };
        let named = [train.corpus, train.tokenizer, train.encoded];
        assert_eq!(order.blobs.iter().map(|(digest, _)| *digest).collect::<Vec<_>>(), named);
        assert!(order.blobs.iter().all(|(digest, bytes)| Digest::of_bytes(bytes) == *digest));
    }

    #[test]
    fn unless_told_otherwise_micro_batches_stay_within_their_bound() {
        let larger = JobSettings {
            model: ModelSettings { width: 64, feed_forward: 256, ..settings().model },
            ..settings()
        };
        let forecast = prepare(&larger, pairs(), requester()).unwrap().forecast().unwrap();
        let most = MOST_PRODUCTS as f64 * 2e-9;
        assert!(forecast.largest_gflop <= most, "{forecast}");
        // And are not needlessly small: one grain more would go over, or all is one batch.
        let least = most * 0.9;
        assert!(forecast.largest_gflop > least || forecast.micro_batches == 1, "{forecast}");
        let told = JobSettings { micro_batch_tokens: Some(100), ..settings() };
        let forecast = prepare(&told, pairs(), requester()).unwrap().forecast().unwrap();
        assert_eq!(forecast.micro_batch_tokens, 100);
    }

    #[test]
    fn a_forecast_counts_what_the_terms_count() {
        let told = JobSettings { micro_batch_tokens: Some(400), ..settings() };
        let prepared = prepare(&told, pairs(), requester()).unwrap();
        let terms = prepared.job.terms();
        let schedule = terms.schedule();
        let mut units = WorkUnits::default();
        for epoch in 0..schedule.epochs {
            for step in 0..schedule.steps() {
                let micros = (0..schedule.micro_batches(step)).map(BatchPart::Micro);
                for part in micros.chain([BatchPart::Update]) {
                    units = units.plus(terms.units(epoch, step, part).unwrap());
                }
            }
        }
        assert_eq!(prepared.forecast().unwrap().units, units);
    }

    #[test]
    fn bad_corpora_and_settings_are_told_with_what_to_do() {
        let told = |settings: JobSettings, count: usize| {
            prepare(&settings, pairs().into_iter().take(count), requester())
                .unwrap_err()
                .to_string()
        };
        assert!(told(settings(), 20).contains("too small to train on"));
        assert!(
            told(JobSettings { held_out: 900, ..settings() }, 1_500).contains("hold fewer out")
        );
        assert!(told(JobSettings { vocabulary: 60_000, ..settings() }, 1_500).contains("pieces"));
        assert!(told(JobSettings { dropout: 1.5, ..settings() }, 1_500).contains("0 to 0.9"));
        assert!(told(JobSettings { dropout: f64::NAN, ..settings() }, 1_500).contains("0 to 0.9"));
        assert!(told(JobSettings { epochs: 0, ..settings() }, 1_500).contains("epochs"));
        let heads = ModelSettings { heads: 3, ..settings().model };
        assert!(told(JobSettings { model: heads, ..settings() }, 1_500).contains("heads"));
    }
}
