//! A small job on a server of its own, with workers that compute: no network, no clock to wait for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bounds;
mod disk;
mod kept;
mod strangers;

use crate::{
    record::{Outgoing, Standing},
    server::Server,
    store::Store,
    training::{Keep, bytes_of},
};
use identity::NodeIdentity;
use job::{Job, tree::Span, work::Circumstances};
use kernels::{Workspace, model::Parameters, optimiser, sum::Tree};
use protocol::{
    BatchPart, ChainId, Digest, JobId, JobSpec, PublicKey, SecretKey, Signed,
    api::JobStatus,
    encoded::Encoded,
    job::{AdamSpec, LogLevel, ModelShape, TrainSpec, Work},
    receipt::Salt,
    transaction::CreateJob,
    work::{
        Assignment, LeafResult, Pull, PullReply, ResultMessage, ResultReply, Telemetry, WorkResult,
        telemetry_root,
    },
};
use std::path::Path;
use tempfile::TempDir;

const EVERYTHING: Keep = Keep { bytes: u64::MAX, checkpoint_steps: 2 };

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn identity(seed: u8) -> NodeIdentity {
    NodeIdentity::new(chain(), SecretKey::from_seed([seed; 32]), Digest::default()).unwrap()
}

fn shape() -> ModelShape {
    ModelShape {
        vocabulary: 60,
        width: 16,
        heads: 2,
        feed_forward: 24,
        encoder_layers: 1,
        decoder_layers: 1,
        max_length: 12,
    }
}

fn sentences(count: u32, salt: u32) -> Vec<Vec<u32>> {
    (0..count)
        .map(|i| (0..1 + (i * 7 + salt) % 10).map(|j| 3 + (i * 5 + j * 11 + salt) % 57).collect())
        .collect()
}

fn encoded() -> Encoded {
    let pairs: Vec<_> = sentences(60, 1).into_iter().zip(sentences(60, 4)).collect();
    Encoded::pairs(60, &pairs).unwrap()
}

/// A job of a few steps an epoch, four micro-batches each.
fn small(epochs: u32) -> Job {
    let encoded = encoded();
    let spec = JobSpec {
        label: "small".into(),
        requester: SecretKey::from_seed([1; 32]).public(),
        nonce: u64::from(epochs),
        log: LogLevel::Boundaries,
        work: Work::Train(TrainSpec {
            corpus: Digest::of_bytes(b"corpus"),
            tokenizer: Digest::of_bytes(b"tokenizer"),
            encoded: encoded.digest(),
            model: shape(),
            seed: 5,
            epochs,
            micro_batch_tokens: 60,
            micro_batches: 4,
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

/// The numbers before every step and after the last, by a plain loop on one thread.
fn plainly(job: &Job) -> Vec<(Parameters, optimiser::State)> {
    let schedule = job.terms().schedule();
    let mut workspace = Workspace::new(&shape()).unwrap();
    let mut parameters = Parameters::initial(&shape(), 5).unwrap();
    let mut state = optimiser::State::new(&shape()).unwrap();
    let mut all = vec![(parameters.clone(), state.clone())];
    for epoch in 0..schedule.epochs {
        for step in 0..schedule.steps() {
            let span = Span { first: 0, count: schedule.micro_batches(step) };
            let (_, mut sum) = compute(job, (epoch, step), span, &parameters, &mut workspace);
            job.apply(epoch, step, &mut parameters, &mut state, &mut sum).unwrap();
            all.push((parameters.clone(), state.clone()));
        }
    }
    all
}

fn compute(
    job: &Job,
    (epoch, step): (u32, u32),
    span: Span,
    parameters: &Parameters,
    workspace: &mut Workspace,
) -> (Vec<job::work::Done>, Vec<f32>) {
    let mut tree = Tree::new(span.count, parameters.elements().len());
    let mut all = Vec::new();
    for (at, micro) in span.micro_batches().enumerate() {
        let batch = job.batch(epoch, step, BatchPart::Micro(micro));
        let level = job.spec().log;
        all.push(job.train(&batch, level, parameters, workspace, ()).unwrap());
        tree.insert(at as u32, 1, workspace.gradient().to_vec()).unwrap();
    }
    (all, tree.finish().unwrap())
}

fn create(job: &Job, server: &Server) -> Signed<CreateJob> {
    let shapes = job.terms().shapes().to_vec();
    let parameter_server = server.identity.node();
    let create = CreateJob { spec: job.spec().clone(), shapes, parameter_server };
    Signed::sign(&chain(), create, &SecretKey::from_seed([1; 32]))
}

/// A server on a folder that outlives it, with one job.
struct Bench {
    folder: TempDir,
    job: Job,
    server: Server,
    sequence: u64,
    workspace: Workspace,
}

impl Bench {
    fn new(epochs: u32, keep: Keep) -> Self {
        Self::over(epochs, keep, |folder| Store::open(folder).unwrap())
    }

    fn over(epochs: u32, keep: Keep, store: impl Fn(&Path) -> Store) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::open(store(folder.path()), identity(200), keep).unwrap();
        let job = small(epochs);
        let taken = server.take_job(create(&job, &server)).unwrap();
        assert_eq!(taken.missing.len(), 3);
        for bytes in [b"corpus".as_slice(), b"tokenizer", encoded().to_bytes()] {
            server.put_blob(&Digest::of_bytes(bytes), bytes).unwrap();
        }
        server.start(&job.id()).unwrap();
        let workspace = Workspace::new(&shape()).unwrap();
        Self { folder, job, server, sequence: 0, workspace }
    }

    fn id(&self) -> JobId {
        self.job.id()
    }

    /// As after SIGKILL: a fresh server on the same folder.
    fn reopen(self, keep: Keep) -> Self {
        let Self { folder, job, server, sequence, workspace } = self;
        drop(server);
        let store = Store::open(folder.path()).unwrap();
        let server = Server::open(store, identity(200), keep).unwrap();
        server.resume();
        Self { folder, job, server, sequence, workspace }
    }

    fn status(&self) -> JobStatus {
        self.server.status(&self.id()).unwrap()
    }

    fn standing(&self) -> Standing {
        self.server.lock().jobs[&self.id()].entry.standing.clone()
    }

    fn is_open(&self) -> bool {
        self.server.lock().jobs[&self.id()].engine.is_some()
    }

    fn hear(&mut self, worker: &NodeIdentity, most: u32) {
        self.sequence += 1;
        let pull = Pull {
            certificate: worker.certificate.clone(),
            sequence: self.sequence,
            most_micro_batches: most,
            speed: 500,
            device: "a test".into(),
        };
        self.server.hear(&pull).unwrap();
    }

    fn pull(&mut self, worker: &NodeIdentity, most: u32) -> Option<Assignment> {
        self.hear(worker, most);
        self.pull_again(&worker.node())
    }

    fn pull_again(&self, node: &PublicKey) -> Option<Assignment> {
        match self.server.find_work(node).unwrap().0 {
            PullReply::Work(assignment) => Some(assignment),
            _ => None,
        }
    }

    /// What an honest worker brings for an assignment.
    fn answer(&mut self, worker: &NodeIdentity, assignment: &Assignment) -> ResultMessage {
        let bytes = self.server.parameters(&assignment.parameters).unwrap();
        let parameters = Parameters::from_safetensors(&bytes).unwrap();
        let span = Span { first: assignment.first, count: assignment.count };
        let place = (assignment.epoch, assignment.step);
        let (all, sum) = compute(&self.job, place, span, &parameters, &mut self.workspace);
        let telemetry = vec![Telemetry {
            what: "batch".into(),
            nanoseconds: 1,
            millijoules: None,
            device: "a test".into(),
        }];
        let salt = Salt(Digest::of_bytes(b"salt"));
        let leaves = all
            .into_iter()
            .map(|done| {
                let receipt = done.receipt(&Circumstances {
                    attempt: assignment.attempt,
                    assignment: assignment.id,
                    parameters: assignment.parameters,
                    salt,
                    telemetry_root: telemetry_root(&telemetry),
                    release: worker.release,
                    certificate: &worker.certificate,
                });
                let (records, telemetry, loss) = (done.records, telemetry.clone(), done.loss);
                let receipt = worker.sign_receipt(receipt);
                LeafResult { receipt, salt, records, telemetry, loss }
            })
            .collect();
        let payload = job::work::gradient_digest(&parameters, &sum);
        let result = WorkResult { assignment: assignment.id, leaves, payload };
        ResultMessage { result, payload: bytes_of(&sum) }
    }

    /// A worker pulls and answers `runs` times at most; how often there was work.
    fn work(&mut self, worker: &NodeIdentity, runs: usize) -> usize {
        for done in 0..runs {
            let Some(assignment) = self.pull(worker, 2) else { return done };
            let message = self.answer(worker, &assignment);
            assert_eq!(self.server.accept(message).unwrap(), ResultReply::Used);
        }
        runs
    }
}

#[test]
fn a_job_that_nobody_works_on_says_so() {
    let (mut bench, worker) = (Bench::new(1, EVERYTHING), identity(10));
    let obstacle = bench.status().obstacle.unwrap();
    assert!(obstacle.contains("no worker"), "{obstacle}");
    // Who works on it is waited for, also where it takes longer than a worker stays away.
    bench.pull(&worker, 2).unwrap();
    assert_eq!(bench.status().obstacle, None);
}

/// A machine that lost power in the midst of a run comes back, and nobody else is there.
#[test]
fn the_only_worker_gets_again_what_died_with_it_and_the_chain_is_told_of_no_empty_work() {
    let (mut bench, worker) = (Bench::new(1, EVERYTHING), identity(10));
    let lost = bench.pull(&worker, 2).unwrap();
    // Another work key and boot, the same node.
    let again = identity(10);
    assert_ne!(again.certificate.body, worker.certificate.body);
    let given = bench.pull(&again, 2).unwrap();
    assert_eq!((given.id, given.attempt), (lost.id, lost.attempt));
    let message = bench.answer(&again, &given);
    assert_eq!(bench.server.accept(message).unwrap(), ResultReply::Used);
    bench.work(&again, usize::MAX);
    assert!(matches!(bench.standing(), Standing::Computed(_)));
    let told = bench.server.store.outgoing(10_000).unwrap();
    let empty = |message: &Outgoing| matches!(message, Outgoing::Assign(assign) if assign.body.runs.is_empty());
    assert!(!told.iter().any(|(_, message)| empty(message)));
}

#[test]
fn a_job_gives_the_model_of_a_plain_loop() {
    let mut bench = Bench::new(2, EVERYTHING);
    bench.work(&identity(10), usize::MAX);
    let (last, _) = plainly(&bench.job).pop().unwrap();
    assert_eq!(bench.status().parameters, Some(last.digest()));
    assert!(matches!(bench.standing(), Standing::Computed(_)));
}
