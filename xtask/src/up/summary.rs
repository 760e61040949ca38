//! What `up` ends with, as `--json` writes it. The fields and their meaning are stable; new ones
//! may be added. `docs/up.md` documents them.

use protocol::{Digest, JobId, PublicKey, ReceiptId};
use serde::{Deserialize, Serialize};

/// The summary.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// What runs the machines' processors: `kvm` or `tcg`.
    pub accelerator: String,
    /// Why this one.
    pub accelerator_reason: String,
    /// What was done, in order.
    pub stages: Vec<Stage>,
    /// The machines that booted.
    pub machines: Vec<MachineSummary>,
    /// Everybody who worked, machines included.
    pub workers: Vec<WorkerSummary>,
    /// The training job.
    pub job: Option<JobId>,
    /// The model.
    pub model: Option<ModelSummary>,
    /// Receipts on the chain.
    pub receipts: ReceiptsSummary,
    /// What the workers translated.
    pub translated: Option<TranslatedSummary>,
    /// From the start of `up` to its end.
    pub total_seconds: f64,
}

/// Something that took time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// A machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MachineSummary {
    /// Its name.
    pub name: String,
    /// `uefi` or `bios`.
    pub firmware: String,
    /// How it came in: `pxe`, `ipxe`, `http`.
    pub boot_mode: String,
    /// From power-on to the last boot stage done; none where it never was.
    pub boot_seconds: Option<f64>,
    /// From power-on to its first receipt in a block; none where there was none.
    pub first_receipt_seconds: Option<f64>,
    /// From the end of the build to its first receipt in a block.
    pub first_receipt_after_build_seconds: Option<f64>,
    /// Micro-batches that it did.
    pub batches: u64,
    /// Receipts of it on the chain.
    pub receipts: u64,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerSummary {
    /// A machine's name, or `host`.
    pub name: String,
    /// The node.
    pub node: PublicKey,
    /// What it computed with.
    pub device: String,
    /// Micro-batches of the training job whose results were used.
    pub batches: u64,
    /// Its receipts of that job.
    pub receipts: u64,
}

/// The trained model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelSummary {
    /// The digest of its parameters, as receipts name it.
    pub digest: Digest,
    /// Its file.
    pub file: String,
    /// How many parameters.
    pub parameters: usize,
    /// On held-out pairs whose reference differs from the source.
    pub bleu: f64,
    /// Of copying the source, on the same pairs.
    pub bleu_copy: f64,
    /// How many such pairs.
    pub test_sentences: usize,
    /// On all held-out pairs.
    pub bleu_all: f64,
    /// Of copying the source, on all of them.
    pub bleu_copy_all: f64,
    /// How BLEU was computed.
    pub signature: String,
    /// Pairs that it was trained on.
    pub training_pairs: usize,
    /// Seconds of training.
    pub training_seconds: f64,
    /// Whether receipts on the chain were proven to name this model.
    pub proof_verified: bool,
}

/// Receipts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReceiptsSummary {
    /// On the chain, both jobs'.
    pub count: u64,
    /// Of those, confirmed.
    pub confirmed: u64,
    /// One of them.
    pub sample: Option<SampleSummary>,
}

/// One receipt, proven.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SampleSummary {
    /// The receipt.
    pub id: ReceiptId,
    /// The block that it is in.
    pub height: u64,
    /// The batch that it is for.
    pub batch: String,
    /// Who did it.
    pub worker: String,
    /// Whether record and transaction were proven from the pinned header.
    pub proof_verified: bool,
}

/// Held-out sentences, translated by the workers as a job of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TranslatedSummary {
    /// The job.
    pub job: JobId,
    /// Its receipts, each of one or more sentences.
    pub receipts: Vec<ReceiptId>,
    /// The sentences.
    pub sentences: Vec<SentenceSummary>,
}

/// One sentence that the workers translated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentenceSummary {
    /// The held-out sentence.
    pub source: String,
    /// What the workers made of it.
    pub translation: String,
    /// What people made of it.
    pub reference: String,
}
