//! Questions about the committed state.
//!
//! A path is a record's ([`StateKey::path`](protocol::state::StateKey::path)), answered with its
//! bytes (none where there is no such record) and, on demand, an ICS-23 proof of either; or a
//! listing's ([`protocol::listing`]), answered in JSON. The proof for height h holds against the
//! app hash in header h + 1.

use crate::state::{Base, Committed, StoreError, listing_prefix};
use borsh::BorshDeserialize;
use bytes::Bytes;
use prost_of_ics23::Message as _;
use protocol::{
    JobId, PublicKey, ReceiptId,
    digest::Digest,
    job::Work,
    listing::{DEFAULT_PAGE, JobLine, MAX_PAGE, NodeLine, Page, ReceiptLine},
    state::{JobRecord, NodeRecord, ReceiptRecord, StateKey},
};
use serde::Serialize;
use std::fmt::Display;
use tendermint_proto::v0_38::{
    abci::{RequestQuery, ResponseQuery},
    crypto::{ProofOp, ProofOps},
};

/// The question cannot be understood.
pub const BAD_QUERY: u32 = 1;
/// The height asked for is not kept, or not there yet.
pub const NO_SUCH_HEIGHT: u32 = 2;

/// The type of our one proof operation: an ICS-23 `CommitmentProof`.
pub const PROOF_TYPE: &str = "ics23:jmt";

/// The longest path that is looked at: a record's is at most 80 bytes, a listing's 150.
const MAX_PATH_LEN: usize = 256;
/// What record paths begin with.
const KINDS: [&str; 6] = ["node/", "job/", "shapes/", "assignment/", "receipt/", "batch/"];

enum Wrong {
    Asked(u32, String),
    Broken(StoreError),
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotKept { .. } => Self::Asked(NO_SUCH_HEIGHT, error.to_string()),
            other => Self::Broken(other),
        }
    }
}

fn bad<T>(why: impl Display) -> Result<T, Wrong> {
    Err(Wrong::Asked(BAD_QUERY, why.to_string()))
}

/// Answers a query; an error means that the state itself is broken.
pub(crate) fn answer(
    request: &RequestQuery,
    committed: &Committed,
) -> Result<ResponseQuery, StoreError> {
    match respond(request, committed) {
        Ok(response) => Ok(response),
        Err(Wrong::Asked(code, log)) => Ok(ResponseQuery { code, log, ..Default::default() }),
        Err(Wrong::Broken(error)) => Err(error),
    }
}

fn respond(request: &RequestQuery, committed: &Committed) -> Result<ResponseQuery, Wrong> {
    let path = request.path.as_str();
    if path.len() > MAX_PATH_LEN {
        return bad(format!("a path of {} bytes; {MAX_PATH_LEN} are the most", path.len()));
    }
    let newest = committed.head().map_or(0, |head| head.height);
    let height = match u64::try_from(request.height) {
        Ok(0) => newest,
        Ok(height) => height,
        Err(_) => return bad(format!("height {}", request.height)),
    };
    let mut response = ResponseQuery {
        key: Bytes::copy_from_slice(path.as_bytes()),
        height: i64::try_from(height).unwrap_or(i64::MAX),
        ..Default::default()
    };
    if let Some(listing) = path.strip_prefix("list/") {
        if request.prove {
            return bad("listings cannot be proven: ask for the records that they name");
        }
        response.value = list(listing, committed)?.into();
        return Ok(response);
    }
    if path != StateKey::Chain.path() && !KINDS.iter().any(|kind| path.starts_with(kind)) {
        return bad(format!(
            "{path:?} is no record and no listing: chain, {} or list/ is wanted",
            KINDS.join(", ")
        ));
    }
    let value = if request.prove {
        let (value, proof) = committed.prove(path, height)?;
        let op = ProofOp {
            r#type: PROOF_TYPE.into(),
            key: path.as_bytes().to_vec(),
            data: proof.encode_to_vec(),
        };
        response.proof_ops = Some(ProofOps { ops: vec![op] });
        value
    } else if committed.head().is_some() {
        committed.read_at(path, height)?
    } else {
        None
    };
    match value {
        Some(bytes) => response.value = bytes.into(),
        None => response.log = "there is no such record".into(),
    }
    Ok(response)
}

/// What a listing's path asks for after `list/`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    from: u64,
    limit: usize,
    job: Option<JobId>,
}

/// `nodes`, `jobs?after=7&limit=10`, `receipts?job=…`.
fn parse(listing: &str) -> Result<(&str, Asked), String> {
    let (kind, parameters) = listing.split_once('?').unwrap_or((listing, ""));
    let mut asked = Asked { limit: DEFAULT_PAGE, ..Asked::default() };
    for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let wrong = |why: &dyn Display| format!("{name}={value:?}: {why}");
        match name {
            "after" => {
                let after: u64 = value.parse().map_err(|error| wrong(&error))?;
                asked.from = after.checked_add(1).ok_or_else(|| wrong(&"too large"))?;
            }
            "limit" => {
                asked.limit = value.parse().map_err(|error| wrong(&error))?;
                if !(1..=MAX_PAGE).contains(&asked.limit) {
                    return Err(wrong(&format!("1 to {MAX_PAGE} is wanted")));
                }
            }
            "job" => asked.job = Some(value.parse().map_err(|error| wrong(&error))?),
            _ => return Err(format!("{name:?} is no parameter: after, limit or job is wanted")),
        }
    }
    Ok((kind, asked))
}

fn list(listing: &str, committed: &Committed) -> Result<Vec<u8>, Wrong> {
    let (kind, asked) = parse(listing).or_else(bad)?;
    match (kind, asked.job) {
        ("nodes", None) => page(committed, None, b'n', &asked, |id| {
            let node = PublicKey(id);
            record(committed, StateKey::Node(node)).map(|record| node_line(node, &record))
        }),
        ("jobs", None) => page(committed, None, b'j', &asked, |id| {
            let job = JobId(Digest(id));
            record(committed, StateKey::Job(job)).map(|record| job_line(job, record))
        }),
        ("receipts", Some(job)) => page(committed, Some(&job), b'r', &asked, |id| {
            let receipt = ReceiptId(Digest(id));
            record(committed, StateKey::Receipt(receipt))
                .map(|record| receipt_line(receipt, &record))
        }),
        _ => bad("list/nodes, list/jobs or list/receipts?job=… is wanted"),
    }
}

fn page<T: Serialize>(
    committed: &Committed,
    job: Option<&JobId>,
    kind: u8,
    asked: &Asked,
    line: impl Fn([u8; 32]) -> Result<T, StoreError>,
) -> Result<Vec<u8>, Wrong> {
    // One more than asked for tells whether the listing goes on.
    let prefix = listing_prefix(job, kind);
    let mut rows = committed.page(&prefix, asked.from, asked.limit + 1)?;
    let goes_on = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next = rows.last().map(|(sequence, _)| *sequence).filter(|_| goes_on);
    let lines = rows.into_iter().map(|(_, id)| line(id)).collect::<Result<_, _>>()?;
    serde_json::to_vec(&Page { lines, next }).or_else(bad)
}

/// A record that a listing names.
fn record<T: BorshDeserialize>(committed: &Committed, key: StateKey) -> Result<T, StoreError> {
    let broken = |wrong: String| StoreError::Broken { at: key.path(), wrong };
    let bytes = committed.read(&key)?.ok_or_else(|| broken("it is listed but not there".into()))?;
    T::try_from_slice(&bytes).map_err(|error| broken(error.to_string()))
}

fn node_line(node: PublicKey, record: &NodeRecord) -> NodeLine {
    NodeLine {
        node,
        owner: record.owner.address(),
        role: record.registration.role,
        height: record.height,
        receipts: record.receipts,
        confirmed: record.confirmed,
    }
}

fn job_line(job: JobId, record: JobRecord) -> JobLine {
    let kind = match record.spec.work {
        Work::Train(_) => "train",
        Work::Translate(_) => "translate",
    };
    JobLine {
        job,
        label: record.spec.label,
        kind: kind.into(),
        requester: record.spec.requester.address(),
        parameter_server: record.parameter_server,
        height: record.height,
        receipts: record.receipts,
        confirmed: record.confirmed,
    }
}

fn receipt_line(receipt: ReceiptId, record: &ReceiptRecord) -> ReceiptLine {
    let body = record.body();
    ReceiptLine {
        receipt,
        node: body.node(),
        epoch: body.batch.epoch,
        step: body.batch.step,
        part: body.batch.part,
        attempt: body.attempt,
        units: body.units,
        height: record.height,
        confirmed: record.confirmed.as_ref().map(|confirmed| confirmed.height),
        first: record.confirmed.as_ref().is_some_and(|confirmed| confirmed.first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_listings_parameters_are_read_and_bounded() {
        let job = JobId(Digest::of_bytes(b"job"));
        let listing = format!("receipts?job={job}&after=9&limit=200");
        let (kind, asked) = parse(&listing).unwrap();
        assert_eq!(kind, "receipts");
        assert_eq!(asked, Asked { from: 10, limit: 200, job: Some(job) });
        for wrong in ["nodes?limit=0", "nodes?limit=201", "jobs?after=x", "jobs?else=1", "jobs?job"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&format!("nodes?after={}", u64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "\\PC{0,60}") {
            let _ = parse(&path);
        }
    }
}
