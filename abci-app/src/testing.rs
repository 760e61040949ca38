//! A small world for tests of the ledger and of its clients: keys, one training job, and the
//! transactions of its life, all from fixed seeds.

use job::terms::Terms;
use protocol::{
    BatchId, BatchPart, BatchShape, ChainId, Digest, JobId, JobSpec, Receipt, SecretKey, Signed,
    SignedReceipt, Transaction, WorkUnits,
    job::{AdamSpec, LogLevel, ModelShape, TrainSpec, Work},
    node::{Delegation, Endorsement, NodeRegistration, NodeRole, Ownership},
    receipt::{Salt, WorkKeyCertificate},
    transaction::{Assign, Confirm, Confirmation, CreateJob, Run, assignment_id},
};

/// Distinct micro-batches of the world's job: steps of 4, 4 and 2.
pub const BATCHES: u32 = 10;

/// Keys and a job.
#[derive(Clone, Debug)]
pub struct World {
    /// The chain that everything is signed for.
    pub chain: ChainId,
    /// Whose nodes they are.
    pub owner: SecretKey,
    /// The provisioner's enrolment key.
    pub delegate: SecretKey,
    /// Whose job it is.
    pub requester: SecretKey,
    /// The parameter server's node.
    pub server: SecretKey,
    /// A worker's node.
    pub worker: SecretKey,
    /// The worker's work key of this boot; the server signs its own receipts with it too.
    pub work_key: SecretKey,
    /// The job.
    pub spec: JobSpec,
}

/// A key from a seed.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A small training job's specification.
pub fn spec(nonce: u64) -> JobSpec {
    let model = ModelShape {
        vocabulary: 16,
        width: 8,
        heads: 2,
        feed_forward: 16,
        encoder_layers: 1,
        decoder_layers: 1,
        max_length: 16,
    };
    let adam = AdamSpec {
        peak_rate: 0.01,
        warmup_steps: 4,
        beta1: 0.9,
        beta2: 0.98,
        epsilon: 1e-9,
        clip_norm: 1.0,
    };
    let train = TrainSpec {
        corpus: Digest::of_bytes(b"corpus"),
        tokenizer: Digest::of_bytes(b"tokenizer"),
        encoded: Digest::of_bytes(b"encoded"),
        model,
        seed: 7,
        epochs: 2,
        micro_batch_tokens: 64,
        micro_batches: 4,
        dropout: 6_554,
        label_smoothing: 0.1,
        adam,
    };
    JobSpec {
        label: "a test's".into(),
        requester: key(3).public(),
        nonce,
        log: LogLevel::Boundaries,
        work: Work::Train(train),
    }
}

/// The shapes of its micro-batches, each another.
pub fn shapes() -> Vec<BatchShape> {
    let shape = |index: u32| {
        let mut shape = BatchShape::default();
        shape.add(3 + index, 4);
        shape.add(5, 2 + index);
        shape
    };
    (0..BATCHES).map(shape).collect()
}

impl World {
    /// The world on a chain.
    pub fn new(chain: &str) -> Self {
        let Ok(chain) = chain.parse() else { panic!("{chain:?} is no chain id") };
        Self {
            chain,
            owner: key(1),
            delegate: key(2),
            requester: key(3),
            server: key(4),
            worker: key(5),
            work_key: key(6),
            spec: spec(0),
        }
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.spec.id()
    }

    /// How `node` belongs to the owner, by the delegate's endorsement.
    pub fn ownership(&self, node: &SecretKey) -> Ownership {
        let delegation = Delegation { delegate: self.delegate.public() };
        let endorsement = Endorsement { node: node.public() };
        Ownership {
            delegation: Signed::sign(&self.chain, delegation, &self.owner),
            endorsement: Some(Signed::sign(&self.chain, endorsement, &self.delegate)),
        }
    }

    /// A node's registration.
    pub fn register(&self, node: &SecretKey, role: NodeRole) -> Transaction {
        let registration = NodeRegistration {
            ownership: self.ownership(node),
            role,
            inventory: Digest::of_bytes(b"inventory"),
            release: Digest::of_bytes(b"release"),
            boot_evidence: None,
        };
        Transaction::RegisterNode(Signed::sign(&self.chain, registration, node))
    }

    /// The job's creation.
    pub fn create_job(&self) -> Transaction {
        let create = CreateJob {
            spec: self.spec.clone(),
            shapes: shapes(),
            parameter_server: self.server.public(),
        };
        Transaction::CreateJob(Signed::sign(&self.chain, create, &self.requester))
    }

    /// A run of the worker's.
    pub fn run(&self, first: u32, count: u32, attempt: u32) -> Run {
        Run { first: BatchPart::Micro(first), count, node: self.worker.public(), attempt }
    }

    /// The server's own update.
    pub fn update_run(&self) -> Run {
        Run { first: BatchPart::Update, count: 1, node: self.server.public(), attempt: 1 }
    }

    /// An assignment of runs of a step.
    pub fn assign(&self, epoch: u32, step: u32, runs: Vec<Run>) -> Transaction {
        let assign = Assign { job: self.job(), epoch, step, runs };
        Transaction::Assign(Signed::sign(&self.chain, assign, &self.server))
    }

    /// What a batch counts for.
    pub fn units(&self, epoch: u32, step: u32, part: BatchPart) -> WorkUnits {
        match Terms::new(&self.spec, shapes()) {
            Ok(terms) => terms.units(epoch, step, part).unwrap_or_default(),
            Err(error) => panic!("{error}"),
        }
    }

    /// The receipt's body for one part of a run that the run's node did.
    pub fn receipt_body(&self, epoch: u32, step: u32, run: &Run, part: BatchPart) -> Receipt {
        let batch = BatchId { job: self.job(), epoch, step, part };
        let node = if run.node == self.server.public() { &self.server } else { &self.worker };
        let certificate = WorkKeyCertificate {
            work_key: self.work_key.public(),
            boot_id: Digest::of_bytes(b"boot"),
        };
        Receipt {
            batch,
            attempt: run.attempt,
            assignment: assignment_id(&self.job(), epoch, step, run),
            parameters: Digest::of_bytes(b"parameters"),
            input: Digest::of_bytes(b"input"),
            work_root: self.salt(&batch).blind(&work_root(&batch)),
            result: Digest::of_bytes(b"result"),
            units: self.units(epoch, step, part),
            telemetry_root: Digest::of_bytes(b"telemetry"),
            release: Digest::of_bytes(b"release"),
            certificate: Signed::sign(&self.chain, certificate, node),
        }
    }

    /// That receipt, signed.
    pub fn receipt(&self, epoch: u32, step: u32, run: &Run, part: BatchPart) -> SignedReceipt {
        self.sign(self.receipt_body(epoch, step, run, part))
    }

    /// Signs a receipt's body with the work key.
    pub fn sign(&self, body: Receipt) -> SignedReceipt {
        Signed::sign(&self.chain, body, &self.work_key)
    }

    /// The salt of a batch's work root.
    pub fn salt(&self, batch: &BatchId) -> Salt {
        Salt(Digest::of("aliaOS test salt", batch))
    }

    /// What confirms a receipt of [`World::receipt`].
    pub fn confirmation(&self, receipt: &SignedReceipt) -> Confirmation {
        let batch = &receipt.body.batch;
        Confirmation {
            receipt: receipt.body.id(),
            salt: self.salt(batch),
            work_root: work_root(batch),
        }
    }

    /// A confirmation of receipts by the server.
    pub fn confirm(&self, receipts: Vec<Confirmation>) -> Transaction {
        let confirm = Confirm { job: self.job(), receipts };
        Transaction::ConfirmReceipts(Signed::sign(&self.chain, confirm, &self.server))
    }

    /// Both nodes and the job.
    pub fn opening(&self) -> Vec<Transaction> {
        vec![
            self.register(&self.server, NodeRole::ParameterServer),
            self.register(&self.worker, NodeRole::Worker),
            self.create_job(),
        ]
    }
}

fn work_root(batch: &BatchId) -> Digest {
    Digest::of("aliaOS test work root", batch)
}
