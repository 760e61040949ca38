//! Bringing a job to ledger and parameter server.

use crate::{error::Error, parameter_server::ParameterServer, prepare::Order};
use bytes::Bytes;
use ledger_client::{Client, Standing};
use protocol::{
    ChainId, Digest, JobId, PublicKey, SecretKey, Signed, Transaction,
    transaction::MAX_TRANSACTION_LEN,
};
use serde::Serialize;
use std::time::Duration;

/// How long the job's block is waited for.
pub const BLOCK_PATIENCE: Duration = Duration::from_secs(60);

/// A job was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// The job.
    pub job: JobId,
    /// The node of its parameter server.
    pub parameter_server: PublicKey,
    /// The block that it entered in, by the server's word; none where it stood there before.
    pub height: Option<u64>,
    /// Files that were uploaded; the others were there.
    pub uploaded: Vec<Digest>,
}

/// How far a submission has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Handed in to the ledger; its block is waited for.
    Ledger,
    /// A file of so many bytes is uploaded.
    Upload(usize),
}

/// Submits a job: to the ledger, then with its files to the parameter server. Submitted again, it
/// goes on where it was broken off, and a job that stands is left as it is.
///
/// # Errors
/// Where ledger or server refuse, or do not answer.
pub async fn submit(
    client: &Client,
    server: &ParameterServer,
    chain: &ChainId,
    key: &SecretKey,
    order: &Order,
    mut progress: impl FnMut(Stage),
) -> Result<Submitted, Error> {
    let identity = server.identity().await?;
    if identity.chain != *chain {
        return Err(Error::Refused(format!(
            "the parameter server {} serves chain {}, this home is for {chain}: name another \
             (--parameter-server), or set up a home for that chain",
            server.address(),
            identity.chain
        )));
    }
    let create = Signed::sign(chain, order.create(identity.node), key);
    let transaction = Transaction::CreateJob(create.clone());
    let length = borsh::to_vec(&transaction).map_or(0, |bytes| bytes.len());
    if length > MAX_TRANSACTION_LEN {
        return Err(Error::Refused(format!(
            "the job's {} micro-batches make a transaction of {length} bytes; \
             {MAX_TRANSACTION_LEN} are the most: allow more tokens in each (micro_batch_tokens)",
            order.shapes.len()
        )));
    }
    progress(Stage::Ledger);
    let submitted = client.submit_and_wait(&transaction, BLOCK_PATIENCE).await?;
    let height = match submitted.standing {
        Standing::Already(_) => None,
        _ => client.outcome(submitted.hash).await?.map(|outcome| outcome.height),
    };
    let taken = server.announce(&create).await?;
    let mut uploaded = Vec::new();
    for digest in taken.missing {
        let Some((_, bytes)) = order.blobs.iter().find(|(known, _)| *known == digest) else {
            return Err(Error::Refused(format!(
                "the parameter server {} asks for a file {digest} that the job does not name: it \
                 is of another version",
                server.address()
            )));
        };
        progress(Stage::Upload(bytes.len()));
        server.put_blob(&digest, Bytes::clone(bytes)).await?;
        uploaded.push(digest);
    }
    Ok(Submitted { job: order.id(), parameter_server: identity.node, height, uploaded })
}
