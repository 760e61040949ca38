//! Receipts: what a node says, signed, of one batch it did.

use crate::{
    batch::BatchId,
    digest::{Digest, serde_as_text},
    key::PublicKey,
    operation::WorkUnits,
    signed::{ChainId, Signed, SignedBody, SignedError},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A receipt's id: the digest of its body. The signature is no part of it, so a second signature
/// over the same body makes no second receipt.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct ReceiptId(pub Digest);

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ReceiptId {
    type Err = crate::digest::NotADigest;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

serde_as_text!(ReceiptId);

/// Blinds a work root until auditors have committed to their own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Salt(pub Digest);

impl Salt {
    /// What a receipt carries for a work root: `H(root, salt)`.
    pub fn blind(&self, work_root: &Digest) -> Digest {
        Digest::of("aliaOS salted work root v1", &(work_root, self))
    }
}

/// The attempt number of a batch's first assignment.
pub const FIRST_ATTEMPT: u32 = 1;

/// Receipt v1. Everything in it but the telemetry root is the same for every honest machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// The batch: job, epoch, step, micro-batch.
    pub batch: BatchId,
    /// Which attempt at it, from [`FIRST_ATTEMPT`].
    pub attempt: u32,
    /// The assignment that it answers.
    pub assignment: Digest,
    /// The parameters it began from.
    pub parameters: Digest,
    /// The batch's tokens; for an update the gradient sum's digest.
    pub input: Digest,
    /// [`Salt::blind`] of the work root.
    pub work_root: Digest,
    /// The result: the gradient, the new parameters, or the translations.
    pub result: Digest,
    /// What the whole batch counts for.
    pub units: WorkUnits,
    /// Over time, energy and device; never compared.
    pub telemetry_root: Digest,
    /// The image that the node booted, or of the program where no image did.
    pub release: Digest,
    /// Which key signs for which node.
    pub certificate: Signed<WorkKeyCertificate>,
}

impl SignedBody for Receipt {
    const DOMAIN: &'static str = "aliaOS receipt";
    const VERSION: u16 = 1;
}

/// A receipt signed by its certificate's work key.
pub type SignedReceipt = Signed<Receipt>;

impl Receipt {
    /// The receipt's id.
    pub fn id(&self) -> ReceiptId {
        ReceiptId(Digest::of("aliaOS receipt id v1", self))
    }

    /// The node whose work it is.
    pub fn node(&self) -> PublicKey {
        self.certificate.signer
    }
}

/// A node's identity key, which PID 1 alone holds, lets a key of this boot sign its work.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WorkKeyCertificate {
    /// The key that receipts are signed with.
    pub work_key: PublicKey,
    /// Random, once a boot.
    pub boot_id: Digest,
}

impl SignedBody for WorkKeyCertificate {
    const DOMAIN: &'static str = "aliaOS work key certificate";
    const VERSION: u16 = 1;
}

/// A receipt was refused before anything was looked up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiptError {
    /// The receipt's own signature, version or chain.
    #[error(transparent)]
    Receipt(SignedError),
    /// Its certificate's.
    #[error("its work-key certificate: {0}")]
    Certificate(SignedError),
    /// Signed by another key than the certified one.
    #[error("it is signed by {signer}, but its certificate is for work key {work_key}")]
    NotTheWorkKey {
        /// Who signed the receipt.
        signer: PublicKey,
        /// Who should have.
        work_key: PublicKey,
    },
}

/// Checks a receipt's own signature and its certificate's: two ed25519 checks, no look-up.
pub fn verify(receipt: &SignedReceipt, chain: &ChainId) -> Result<ReceiptId, ReceiptError> {
    let body = receipt.verify(chain).map_err(ReceiptError::Receipt)?;
    let certificate = body.certificate.verify(chain).map_err(ReceiptError::Certificate)?;
    if certificate.work_key != receipt.signer {
        return Err(ReceiptError::NotTheWorkKey {
            signer: receipt.signer,
            work_key: certificate.work_key,
        });
    }
    Ok(body.id())
}
