//! Entering the ledger.

use crate::node::NodeIdentity;
use ledger_client::{Client, SubmitError};
use protocol::{
    Digest, PublicKey, Signed, Transaction,
    node::{Delegation, NodeRegistration, NodeRole, Ownership, OwnershipError},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How long a block is waited for.
const BLOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Between attempts at a ledger that is away.
const AGAIN: Duration = Duration::from_secs(1);

/// A node cannot enter the ledger.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The delegation file cannot be read.
    #[error("the delegation {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "the delegation {path}: {source}; the owner's signed delegation as JSON is wanted (`alia delegate`)"
    )]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is not for this node.
    #[error("the delegation {path}: {source}")]
    Ownership {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: OwnershipError,
    },
    /// The ledger refuses for good.
    #[error("the ledger refuses to register this node: {0}")]
    Refused(SubmitError),
}

/// Reads an owner's delegation to this node and checks it.
///
/// # Errors
/// [`RegisterError`]: the file, its content, or whom it is for.
pub fn read_ownership(path: &Path, identity: &NodeIdentity) -> Result<Ownership, RegisterError> {
    let text = fs::read_to_string(path)
        .map_err(|source| RegisterError::File { path: path.into(), source })?;
    let delegation: Signed<Delegation> = serde_json::from_str(&text)
        .map_err(|source| RegisterError::Content { path: path.into(), source })?;
    let ownership = Ownership { delegation, endorsement: None };
    ownership
        .verify(&identity.chain, &identity.node())
        .map_err(|source| RegisterError::Ownership { path: path.into(), source })?;
    Ok(ownership)
}

/// Registers a node, waiting for the ledger as long as it is away. A node that is registered
/// already stays so.
///
/// # Errors
/// [`RegisterError::Refused`].
pub async fn register(
    client: &Client,
    identity: &NodeIdentity,
    ownership: Ownership,
    role: NodeRole,
    inventory: Digest,
) -> Result<PublicKey, RegisterError> {
    let registration = NodeRegistration {
        ownership,
        role,
        inventory,
        release: identity.release,
        boot_evidence: None,
    };
    let transaction = Transaction::RegisterNode(identity.sign(registration));
    let mut told = false;
    loop {
        match client.submit_and_wait(&transaction, BLOCK_PATIENCE).await {
            Ok(_) => return Ok(identity.node()),
            Err(error) if error.is_temporary() => {
                if !told {
                    tracing::warn!("registering waits for the ledger: {error}");
                    told = true;
                }
                sleep(AGAIN).await;
            }
            Err(error) => return Err(RegisterError::Refused(error)),
        }
    }
}
