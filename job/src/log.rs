//! The operation log of a batch: what was done, under which id, with which output.

use kernels::{
    OutputView, Tap,
    graph::{Graph, Operation, Sums},
    tap,
};
use protocol::{
    BatchId, Digest, OperationId, WorkUnits, job::LogLevel, operation::OperationRecord,
};

/// How the work units of one operation of a batch are counted.
pub(crate) enum Counting<'a> {
    /// By sums over the whole batch.
    Batch(Sums),
    /// Decoding: position by position, from source lengths and limits.
    Decoding { lengths: &'a [u32], limits: &'a [u32] },
}

/// A tap that writes the log. `inner` is called first and sees every operation: a test's tap may
/// alter what is logged.
pub(crate) struct Log<'a, T> {
    level: LogLevel,
    batch: BatchId,
    graph: &'a Graph,
    digest: Digest,
    counting: Counting<'a>,
    records: Vec<OperationRecord>,
    /// By name, the digests of the outputs that stand first: an update's new parameters.
    pub(crate) firsts: Option<Vec<(String, Digest)>>,
    inner: T,
}

impl<'a, T: Tap> Log<'a, T> {
    pub(crate) fn new(
        level: LogLevel,
        batch: BatchId,
        graph: &'a Graph,
        digest: Digest,
        counting: Counting<'a>,
        inner: T,
    ) -> Self {
        Self { level, batch, graph, digest, counting, records: Vec::new(), firsts: None, inner }
    }

    pub(crate) fn into_records(self) -> Vec<OperationRecord> {
        self.records
    }

    fn units(&self, position: u32, operation: &Operation) -> WorkUnits {
        match &self.counting {
            Counting::Batch(sums) => operation.units.at(sums),
            Counting::Decoding { lengths, limits } => {
                self.graph.units_at(position, lengths, limits)
            }
        }
    }

    fn commits(&self, operation: &Operation) -> bool {
        self.level == LogLevel::Full || operation.boundary
    }
}

impl<T: Tap> Tap for Log<'_, T> {
    fn wants(&self, position: u32, operation: &Operation) -> bool {
        self.commits(operation) || self.inner.wants(position, operation)
    }

    fn after(&mut self, position: u32, operation: &Operation, outputs: &mut [OutputView<'_>]) {
        if self.inner.wants(position, operation) {
            self.inner.after(position, operation, outputs);
        }
        if !self.commits(operation) {
            return;
        }
        let output = match &mut self.firsts {
            // Hashed once, used twice.
            Some(firsts) if operation.name.ends_with(".adam") => {
                let named: Vec<(&str, Digest)> =
                    outputs.iter().map(|output| (output.name, output.digest())).collect();
                firsts.extend(named.first().map(|(name, digest)| (name.to_string(), *digest)));
                protocol::tensor::digest_named(&named)
            }
            _ => tap::digest(outputs),
        };
        let id = OperationId::new(&self.batch, &self.digest, position, operation.operator());
        let units = self.units(position, operation);
        self.records.push(OperationRecord { id, position, output, units });
    }
}

/// Where two logs of one batch part: the first record of `theirs` that `ours` does not confirm.
///
/// Both are in the order of positions. Positions that only one of them has are passed over, so a
/// log of boundaries can be held against a full one.
pub fn first_difference<'a>(
    ours: &[OperationRecord],
    theirs: &'a [OperationRecord],
) -> Option<&'a OperationRecord> {
    theirs.iter().find(|record| {
        let at = ours.binary_search_by_key(&record.position, |our| our.position);
        at.is_ok_and(|at| ours[at] != **record)
    })
}
