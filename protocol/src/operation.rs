//! Operations: one operator applied at one place of one batch's graph.

use crate::{batch::BatchId, digest::Digest};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An operator and its version. A change of one bit of its results is another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId {
    /// The operator's name.
    pub name: &'static str,
    /// The version of its contract.
    pub version: u16,
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// An operation's id, known before the work is done: no input is part of it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct OperationId(pub Digest);

impl OperationId {
    /// `H(job, graph, epoch, step, micro-batch, position in the graph, operator@version)`.
    pub fn new(batch: &BatchId, graph: &Digest, position: u32, operator: OperatorId) -> Self {
        Self(Digest::of(
            "aliaOS operation v1",
            &(
                batch.job.0,
                graph,
                batch.epoch,
                batch.step,
                batch.part,
                position,
                operator.to_string(),
            ),
        ))
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How much work an operation is, counted from shapes alone, by operator class.
///
/// The rate card prices each class; a claim never enters.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct WorkUnits {
    /// Fused multiply-adds of products.
    pub product: u64,
    /// Elements written by everything else.
    pub pointwise: u64,
}

impl WorkUnits {
    /// The sum, saturating: a ledger must not panic on a foreign claim.
    pub fn plus(self, other: Self) -> Self {
        Self {
            product: self.product.saturating_add(other.product),
            pointwise: self.pointwise.saturating_add(other.pointwise),
        }
    }
}

impl std::iter::Sum for WorkUnits {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Self::plus)
    }
}

/// One line of an operation log.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Which operation.
    pub id: OperationId,
    /// Its position in the batch's graph.
    pub position: u32,
    /// The digest of its output: the tensor's, or of all its tensors by name.
    pub output: Digest,
    /// What it counts for.
    pub units: WorkUnits,
}

impl OperationRecord {
    /// The record's leaf in the work root.
    pub fn leaf(&self) -> Digest {
        Digest::of("aliaOS operation record v1", self)
    }
}

/// The work root over the records that a batch commits to: count and Merkle root.
pub fn work_root(records: &[OperationRecord]) -> Digest {
    let leaves: Vec<Digest> = records.iter().map(OperationRecord::leaf).collect();
    Digest::of("aliaOS work root v1", &(leaves.len() as u64, crate::merkle::root(&leaves)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::BatchPart, job::JobId};

    #[test]
    fn an_id_moves_with_each_of_its_parts() {
        let batch = BatchId {
            job: JobId(Digest::of_bytes(b"job")),
            epoch: 0,
            step: 1,
            part: BatchPart::Micro(2),
        };
        let graph = Digest::of_bytes(b"graph");
        let operator = OperatorId { name: "linear", version: 1 };
        let id = OperationId::new(&batch, &graph, 3, operator);
        let others = [
            OperationId::new(&BatchId { epoch: 1, ..batch }, &graph, 3, operator),
            OperationId::new(&BatchId { step: 2, ..batch }, &graph, 3, operator),
            OperationId::new(&BatchId { part: BatchPart::Update, ..batch }, &graph, 3, operator),
            OperationId::new(&batch, &Digest::default(), 3, operator),
            OperationId::new(&batch, &graph, 4, operator),
            OperationId::new(&batch, &graph, 3, OperatorId { version: 2, ..operator }),
        ];
        assert!(others.iter().all(|other| *other != id));
    }
}
