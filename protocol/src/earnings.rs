//! What a ledger says of a machine's work, as a provisioner heard it last, as JSON: a server's word,
//! never proven (`alia receipts` proves).
//!
//! `GET /v1/machines/{mac}/work` gives a [`MachineWork`].

use crate::{
    batch::BatchPart, fleet::LedgerStatus, job::JobId, key::PublicKey, receipt::ReceiptId,
};
use serde::{Deserialize, Serialize};

/// The most receipts that are shown of a machine.
pub const MAX_RECEIPTS_SHOWN: usize = 16;

/// A machine's work, as the ledger tells of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineWork {
    /// The ledger, and why it does not answer now; none where none is configured.
    pub ledger: Option<LedgerStatus>,
    /// The node's key, once there is one.
    pub node: Option<PublicKey>,
    /// Its place on the ledger; none where it is not registered there, or nothing was heard yet.
    pub standing: Option<NodeStanding>,
    /// Its last receipts, newest first, of the jobs that were worked at last; at most
    /// [`MAX_RECEIPTS_SHOWN`].
    pub receipts: Vec<WorkReceipt>,
}

/// A node's receipts, counted by the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStanding {
    /// The block that it was registered in.
    pub height: u64,
    /// Its receipts.
    pub receipts: u64,
    /// Those confirmed: what it has earned by.
    pub confirmed: u64,
}

impl NodeStanding {
    /// Receipts that wait for their confirmation: what is pending.
    pub fn waiting(&self) -> u64 {
        self.receipts.saturating_sub(self.confirmed)
    }
}

/// A receipt of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkReceipt {
    /// The receipt.
    pub receipt: ReceiptId,
    /// Its job.
    pub job: JobId,
    /// The epoch, from 0.
    pub epoch: u32,
    /// The step, from 0.
    pub step: u32,
    /// The part of the step.
    pub part: BatchPart,
    /// What it counts for: fused multiply-adds of products.
    pub product: u64,
    /// What it counts for: elements written by everything else.
    pub pointwise: u64,
    /// The block that it stands in.
    pub height: u64,
    /// The block of its confirmation.
    pub confirmed: Option<u64>,
}

/// The work of all machines, counted by the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FleetWork {
    /// Machines of ours that are registered.
    pub nodes: u64,
    /// Their receipts.
    pub receipts: u64,
    /// Those confirmed.
    pub confirmed: u64,
    /// What machines' sensors of power said last, together, in thousandths of watts; what was said
    /// more than five minutes ago does not count.
    pub milliwatts: u64,
    /// How many machines said so.
    pub measured: u64,
}
