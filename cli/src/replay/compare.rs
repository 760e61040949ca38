//! Holding what was done here against what a receipt says. Pure.

use super::{Ours, inputs::Claim};
use job::Job;
use kernels::graph::Graph;
use protocol::{
    Digest,
    operation::{OperationRecord, work_root},
};
use serde::Serialize;

/// One thing that a receipt says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// What.
    pub what: &'static str,
    /// Its digest here.
    pub ours: Digest,
    /// Its digest in the receipt.
    pub theirs: Digest,
}

/// The first operation that differs, or the stretch of operations that it is among.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its position in the batch's graph; of a stretch the first.
    pub first: u32,
    /// The same; of a stretch the last, which is the one that was committed to.
    pub last: u32,
    /// The operation at `last`: `encoder.0.feed_forward.relu`.
    pub name: String,
    /// Its operator and version.
    pub operator: String,
    /// Its output's digest here.
    pub ours: Option<Digest>,
    /// Its output's digest there.
    pub theirs: Option<Digest>,
}

impl Named {
    /// Whether it is one operation.
    pub fn is_exact(&self) -> bool {
        self.first == self.last
    }

    fn at(
        graph: &Graph,
        first: u32,
        last: u32,
        ours: Option<Digest>,
        theirs: Option<Digest>,
    ) -> Self {
        let operation = graph.operation_at(last);
        let name = operation.map_or("none of the graph's".into(), |found| found.name.clone());
        let operator = operation.map_or("-".into(), |found| found.operator().to_string());
        Self { first, last, name, operator, ours, theirs }
    }
}

/// Where two logs part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    /// The last position that both agree on; none where they never do.
    agreed: Option<u32>,
    /// The first position that one has otherwise, or alone.
    differs: u32,
}

/// Where two logs that should be equal part.
pub(super) fn parting(ours: &[OperationRecord], theirs: &[OperationRecord]) -> Option<Parting> {
    let same = ours.iter().zip(theirs).take_while(|(our, their)| our == their).count();
    let next = [ours.get(same), theirs.get(same)];
    let differs = next.into_iter().flatten().map(|record| record.position).min()?;
    let agreed = same.checked_sub(1).and_then(|at| ours.get(at)).map(|record| record.position);
    Some(Parting { agreed, differs })
}

fn output(records: &[OperationRecord], position: u32) -> Option<Digest> {
    records.iter().find(|record| record.position == position).map(|record| record.output)
}

impl Parting {
    /// The operations after the last one agreed on, up to the first that differs.
    pub(super) fn named(
        &self,
        graph: &Graph,
        ours: &[OperationRecord],
        theirs: &[OperationRecord],
    ) -> Named {
        let first = self.agreed.map_or(0, |agreed| agreed.saturating_add(1)).min(self.differs);
        let (mine, other) = (output(ours, self.differs), output(theirs, self.differs));
        Named::at(graph, first, self.differs, mine, other)
    }
}

/// The first operation that two full logs have otherwise.
pub(super) fn first_of_logs(
    graph: &Graph,
    ours: &[OperationRecord],
    theirs: &[OperationRecord],
) -> Option<Named> {
    let Parting { differs, .. } = parting(ours, theirs)?;
    let (mine, other) = (output(ours, differs), output(theirs, differs));
    Some(Named::at(graph, differs, differs, mine, other))
}

/// The first operation of a job's update: the gradient sum.
pub(super) fn first_of_update(job: &Job) -> Option<Named> {
    Some(Named::at(job.terms().update_graph()?, 0, 0, None, None))
}

/// The first committed record that a full log does not have just so.
pub(super) fn contradiction(committed: &[OperationRecord], log: &[OperationRecord]) -> Option<u32> {
    let is_there = |record: &&OperationRecord| {
        log.iter().any(|other| other.position == record.position && other == *record)
    };
    committed.iter().find(|record| !is_there(record)).map(|record| record.position)
}

/// Adds what a receipt says otherwise than what was done here.
pub(super) fn claims(
    ours: &Ours,
    claim: &Claim,
    disagreements: &mut Vec<Disagreement>,
    notes: &mut Vec<String>,
) {
    let body = &claim.receipt.body;
    let mut hold = |what, ours: Digest, theirs: Digest| {
        if ours != theirs {
            disagreements.push(Disagreement { what, ours, theirs });
        }
    };
    hold("input", ours.done.input, body.input);
    hold("result", ours.done.result, body.result);
    match claim.salt {
        Some(salt) => {
            let here = salt.blind(&work_root(&ours.committed));
            hold("work root, salted", here, body.work_root);
        }
        None => notes.push(
            "nobody gave the salt of the work root: input and result alone were compared".into(),
        ),
    }
    if ours.done.units != body.units {
        let digest = |units| Digest::of("aliaOS work units", units);
        hold("work units", digest(&ours.done.units), digest(&body.units));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{OperationId, WorkUnits, job::ModelShape};

    fn records(outputs: &[(u32, u8)]) -> Vec<OperationRecord> {
        outputs
            .iter()
            .map(|&(position, output)| OperationRecord {
                id: OperationId(Digest([position as u8; 32])),
                position,
                output: Digest([output; 32]),
                units: WorkUnits::default(),
            })
            .collect()
    }

    fn graph() -> Graph {
        Graph::training(&ModelShape {
            vocabulary: 60,
            width: 16,
            heads: 2,
            feed_forward: 24,
            encoder_layers: 1,
            decoder_layers: 1,
            max_length: 12,
        })
        .unwrap()
    }

    #[test]
    fn equal_logs_part_nowhere() {
        let log = records(&[(1, 1), (4, 4)]);
        assert_eq!(parting(&log, &log), None);
    }

    #[test]
    fn boundaries_name_the_stretch_and_a_full_log_the_operation() {
        let (ours, theirs) =
            (records(&[(1, 1), (4, 4), (9, 9)]), records(&[(1, 1), (4, 5), (9, 8)]));
        let named = parting(&ours, &theirs).unwrap().named(&graph(), &ours, &theirs);
        assert_eq!((named.first, named.last, named.is_exact()), (2, 4, false));
        assert_eq!(named.theirs, Some(Digest([5; 32])));
        assert_eq!(named.name, graph().operations[4].name);

        let full = records(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
        let lied = records(&[(0, 0), (1, 1), (2, 2), (3, 7), (4, 5)]);
        let named = first_of_logs(&graph(), &full, &lied).unwrap();
        assert!(named.is_exact() && named.last == 3);
    }

    #[test]
    fn a_log_cut_short_or_padded_differs_where_it_ends() {
        let log = records(&[(1, 1), (4, 4)]);
        let differs = |other: &[(u32, u8)]| parting(&log, &records(other)).unwrap().differs;
        assert_eq!(differs(&[(1, 1)]), 4);
        assert_eq!(differs(&[(1, 1), (4, 4), (6, 6)]), 6);
        assert_eq!(differs(&[(1, 1), (2, 2), (4, 4)]), 2);
        assert_eq!(differs(&[]), 1);
    }

    #[test]
    fn a_log_that_is_not_the_committed_one_is_seen() {
        let committed = records(&[(1, 1), (4, 4)]);
        assert_eq!(contradiction(&committed, &records(&[(0, 0), (1, 1), (4, 4)])), None);
        assert_eq!(contradiction(&committed, &records(&[(0, 0), (1, 1), (4, 5)])), Some(4));
        assert_eq!(contradiction(&committed, &records(&[(4, 4)])), Some(1));
    }
}
