//! What a transaction did, for whoever searches: CometBFT indexes every attribute, so that
//! `receipt.id = '…'` finds the transaction that carried a receipt.

use protocol::{job::JobId, key::PublicKey, receipt::ReceiptId, transaction::Assign};

/// Something that a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `node.key`, `node.owner`.
    NodeRegistered {
        /// The node's identity key.
        node: PublicKey,
        /// Whose it is.
        owner: PublicKey,
    },
    /// `job.id`, `job.requester`, `job.server`.
    JobCreated {
        /// The job.
        job: JobId,
        /// Whose it is.
        requester: PublicKey,
        /// Its parameter server's node.
        server: PublicKey,
    },
    /// `assign.job`, `assign.epoch`, `assign.step`.
    Assigned {
        /// The job.
        job: JobId,
        /// The epoch.
        epoch: u32,
        /// The step.
        step: u32,
    },
    /// `receipt.id`, `receipt.job`, `receipt.node`.
    ReceiptSubmitted {
        /// The receipt.
        receipt: ReceiptId,
        /// The job.
        job: JobId,
        /// The node.
        node: PublicKey,
    },
    /// `confirm.receipt`, `confirm.job`, `confirm.first`.
    ReceiptConfirmed {
        /// The receipt.
        receipt: ReceiptId,
        /// The job.
        job: JobId,
        /// Whether it is the one to be paid.
        first: bool,
    },
}

impl Event {
    pub(super) fn assigned(assign: &Assign) -> Self {
        Self::Assigned { job: assign.job, epoch: assign.epoch, step: assign.step }
    }

    /// Its type and attributes as they are indexed.
    pub fn attributes(&self) -> (&'static str, Vec<(&'static str, String)>) {
        match self {
            Self::NodeRegistered { node, owner } => {
                ("node", vec![("key", node.to_string()), ("owner", owner.to_string())])
            }
            Self::JobCreated { job, requester, server } => (
                "job",
                vec![
                    ("id", job.to_string()),
                    ("requester", requester.to_string()),
                    ("server", server.to_string()),
                ],
            ),
            Self::Assigned { job, epoch, step } => (
                "assign",
                vec![
                    ("job", job.to_string()),
                    ("epoch", epoch.to_string()),
                    ("step", step.to_string()),
                ],
            ),
            Self::ReceiptSubmitted { receipt, job, node } => (
                "receipt",
                vec![
                    ("id", receipt.to_string()),
                    ("job", job.to_string()),
                    ("node", node.to_string()),
                ],
            ),
            Self::ReceiptConfirmed { receipt, job, first } => (
                "confirm",
                vec![
                    ("receipt", receipt.to_string()),
                    ("job", job.to_string()),
                    ("first", first.to_string()),
                ],
            ),
        }
    }
}
