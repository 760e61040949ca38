//! Whole batches of a small job: what they commit to, and that nobody's share changes a bit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use job::{Job, first_difference};
use kernels::{
    OutputData, OutputView, Tap, Workspace, graph::Operation, model::Parameters, sum::Tree,
};
use protocol::encoded::Encoded;
use protocol::{
    BatchPart, Digest, JobSpec, SecretKey, WorkUnits,
    job::{AdamSpec, LogLevel, ModelShape, TrainSpec, TranslateSpec, Work},
    receipt::Salt,
};

fn shape() -> ModelShape {
    ModelShape {
        vocabulary: 60,
        width: 16,
        heads: 2,
        feed_forward: 24,
        encoder_layers: 1,
        decoder_layers: 2,
        max_length: 12,
    }
}

fn sentences(count: u32, salt: u32) -> Vec<Vec<u32>> {
    (0..count)
        .map(|i| (0..1 + (i * 7 + salt) % 10).map(|j| 3 + (i * 5 + j * 11 + salt) % 57).collect())
        .collect()
}

fn training() -> Job {
    let pairs: Vec<_> = sentences(90, 1).into_iter().zip(sentences(90, 4)).collect();
    let encoded = Encoded::pairs(60, &pairs).unwrap();
    let spec = JobSpec {
        label: "small".into(),
        requester: SecretKey::from_seed([1; 32]).public(),
        nonce: 0,
        log: LogLevel::Boundaries,
        work: Work::Train(TrainSpec {
            corpus: Digest::default(),
            tokenizer: Digest::default(),
            encoded: encoded.digest(),
            model: shape(),
            seed: 5,
            epochs: 2,
            micro_batch_tokens: 60,
            micro_batches: 8,
            dropout: 6554,
            label_smoothing: 0.1,
            adam: AdamSpec {
                peak_rate: 0.01,
                warmup_steps: 4,
                beta1: 0.9,
                beta2: 0.98,
                epsilon: 1e-9,
                clip_norm: 1.0,
            },
        }),
    };
    Job::new(spec, encoded).unwrap()
}

fn translation() -> Job {
    let salt = Salt(Digest::of_bytes(b"salt"));
    let encoded = Encoded::sentences(60, salt, &sentences(20, 2)).unwrap();
    let spec = JobSpec {
        label: "words".into(),
        requester: SecretKey::from_seed([1; 32]).public(),
        nonce: 0,
        log: LogLevel::Full,
        work: Work::Translate(TranslateSpec {
            model: Digest::default(),
            parameters: Digest::default(),
            shape: shape(),
            tokenizer: Digest::default(),
            input: encoded.digest(),
            micro_batch_tokens: 40,
            length_sixteenths: 16,
        }),
    };
    Job::new(spec, encoded).unwrap()
}

fn parameters() -> Parameters {
    Parameters::initial(&shape(), 5).unwrap()
}

#[test]
fn a_run_of_one_commits_to_the_gradient_that_it_returns() {
    let job = training();
    let (parameters, mut workspace) = (parameters(), Workspace::new(&shape()).unwrap());
    let batch = job.batch(1, 0, BatchPart::Micro(3));
    let done = job.train(&batch, LogLevel::Boundaries, &parameters, &mut workspace, ()).unwrap();
    let gradient = workspace.gradient();
    assert_eq!(done.result, job::work::gradient_digest(&parameters, gradient));
    assert_eq!(done.input, job.input_digest(&batch).unwrap());
    assert!(done.loss > 0.0 && done.units.product > 0);
}

#[test]
fn a_full_log_has_every_operation_once_confirms_the_boundaries_and_adds_up() {
    let job = training();
    let (parameters, mut workspace) = (parameters(), Workspace::new(&shape()).unwrap());
    let batch = job.batch(0, 1, BatchPart::Micro(0));
    let mut log = |level| job.train(&batch, level, &parameters, &mut workspace, ()).unwrap();
    let (full, boundaries) = (log(LogLevel::Full), log(LogLevel::Boundaries));
    assert_eq!(full.records.len(), job.terms().graph().operations.len());
    assert!(boundaries.records.len() < full.records.len());
    assert_eq!(first_difference(&full.records, &boundaries.records), None);
    let units: WorkUnits = full.records.iter().map(|record| record.units).sum();
    assert_eq!(units, full.units);
    assert_eq!(full.units, boundaries.units);
}

/// Adds one to one element of one operation's output.
struct Liar {
    position: u32,
}

impl Tap for Liar {
    fn wants(&self, position: u32, _: &Operation) -> bool {
        position == self.position
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        if let OutputData::F32(data) = &mut outputs[0].data {
            data[0] += 1.0;
        }
    }
}

#[test]
fn a_lie_about_one_element_is_named_by_the_first_operation_that_differs() {
    let job = training();
    let (parameters, mut workspace) = (parameters(), Workspace::new(&shape()).unwrap());
    let batch = job.batch(0, 0, BatchPart::Micro(1));
    let honest = job.train(&batch, LogLevel::Full, &parameters, &mut workspace, ()).unwrap();
    for position in [0, 5, honest.records.len() as u32 - 2] {
        let liar = Liar { position };
        let lie = job.train(&batch, LogLevel::Full, &parameters, &mut workspace, liar).unwrap();
        assert_ne!(lie.work_root, honest.work_root);
        let first = first_difference(&honest.records, &lie.records).unwrap();
        assert_eq!(first.position, position);
        // A receipt of boundaries alone names the first one at or after the lie.
        let liar = Liar { position };
        let lie =
            job.train(&batch, LogLevel::Boundaries, &parameters, &mut workspace, liar).unwrap();
        let first = first_difference(&honest.records, &lie.records).unwrap();
        assert!(first.position >= position);
    }
}

/// One step: micro-batches summed in runs of `run`, then the update.
fn step(
    job: &Job,
    run: u32,
    parameters: &mut Parameters,
    state: &mut kernels::optimiser::State,
) -> Digest {
    let mut workspace = Workspace::new(&shape()).unwrap();
    let count = job.terms().schedule().micro_batches(0);
    let mut tree = Tree::new(count, parameters.elements().len());
    let all: Vec<u32> = (0..count).collect();
    for span in job::tree::aligned_runs(&all, run).into_iter().rev() {
        let mut part = Tree::new(span.count, parameters.elements().len());
        for micro in span.micro_batches().rev() {
            let batch = job.batch(0, 0, BatchPart::Micro(micro));
            job.train(&batch, LogLevel::Boundaries, parameters, &mut workspace, ()).unwrap();
            part.insert(micro - span.first, 1, workspace.gradient().to_vec()).unwrap();
        }
        tree.insert(span.first, span.count, part.finish().unwrap()).unwrap();
    }
    let mut sum = tree.finish().unwrap();
    let done = job.update(0, 0, parameters, state, &mut sum, LogLevel::Boundaries).unwrap();
    assert_eq!(done.result, parameters.digest());
    assert_eq!(done.units, job.terms().units(0, 0, BatchPart::Update).unwrap());
    done.work_root
}

#[test]
fn whoever_sums_which_run_the_step_ends_in_the_same_bits() {
    let job = training();
    let mut results = Vec::new();
    for run in [1, 2, 8] {
        let mut parameters = parameters();
        let mut state = kernels::optimiser::State::new(&shape()).unwrap();
        let root = step(&job, run, &mut parameters, &mut state);
        results.push((root, parameters.digest(), state.digest()));
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn every_sentence_of_a_document_is_translated_once_and_its_log_stays_within_its_units() {
    let job = translation();
    let (parameters, mut workspace) = (parameters(), Workspace::new(&shape()).unwrap());
    let count = job.terms().schedule().micro_batches(0);
    assert!(count > 1);
    let mut seen = Vec::new();
    for micro in 0..count {
        let batch = job.batch(0, 0, BatchPart::Micro(micro));
        let (done, translations) =
            job.translate(&batch, LogLevel::Full, &parameters, &mut workspace, ()).unwrap();
        assert_eq!(done.result, job::work::translations_digest(&translations));
        let members = job.members(0, 0, micro).unwrap();
        assert_eq!(members.len(), translations.len());
        seen.extend_from_slice(members);
        let units: WorkUnits = done.records.iter().map(|record| record.units).sum();
        assert!(units.product <= done.units.product && units.pointwise <= done.units.pointwise);
    }
    assert_eq!(seen, (0..20).collect::<Vec<u32>>());
}

#[test]
fn a_batch_that_the_job_has_not_is_refused() {
    let job = training();
    let (parameters, mut workspace) = (parameters(), Workspace::new(&shape()).unwrap());
    let schedule = job.terms().schedule();
    for (epoch, step, part) in [
        (schedule.epochs, 0, BatchPart::Micro(0)),
        (0, schedule.steps(), BatchPart::Micro(0)),
        (0, 0, BatchPart::Micro(schedule.per_step)),
        (0, 0, BatchPart::Update),
    ] {
        let batch = job.batch(epoch, step, part);
        assert!(job.train(&batch, LogLevel::Boundaries, &parameters, &mut workspace, ()).is_err());
    }
}

#[test]
fn a_corpus_that_is_not_the_job_s_is_refused() {
    let job = training();
    let other = Encoded::pairs(60, &[(vec![3], vec![4])]).unwrap();
    let error = Job::new(job.spec().clone(), other).unwrap_err().to_string();
    assert!(error.contains("fetch it again"), "{error}");
}
