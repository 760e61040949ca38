//! From what was done to what is signed.

use crate::run::{Leaf, RunProduct};
use job::work::{Circumstances, gradient_digest, translations_digest};
use kernels::model::Parameters;
use protocol::{
    Digest, SecretKey, Signed,
    receipt::{Salt, WorkKeyCertificate},
    signed::ChainId,
    work::{Assignment, LeafResult, Telemetry, telemetry_root},
};

/// The keys and names that a node signs its work with.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The chain.
    pub chain: ChainId,
    /// This boot's work key.
    pub work_key: SecretKey,
    /// What lets it sign for the node.
    pub certificate: Signed<WorkKeyCertificate>,
    /// The image or program that runs.
    pub release: Digest,
    /// What it computes with, for people.
    pub device: String,
}

/// A micro-batch with its receipt.
pub fn leaf_result(signer: &Signer, assignment: &Assignment, leaf: Leaf, salt: Salt) -> LeafResult {
    let telemetry = vec![Telemetry {
        what: "batch".into(),
        nanoseconds: leaf.took.as_nanos().min(u128::from(u64::MAX)) as u64,
        millijoules: None,
        device: signer.device.clone(),
    }];
    let circumstances = Circumstances {
        attempt: assignment.attempt,
        assignment: assignment.id,
        parameters: assignment.parameters,
        salt,
        telemetry_root: telemetry_root(&telemetry),
        release: signer.release,
        certificate: &signer.certificate,
    };
    let receipt = Signed::sign(&signer.chain, leaf.done.receipt(&circumstances), &signer.work_key);
    LeafResult { receipt, salt, records: leaf.done.records, telemetry, loss: leaf.done.loss }
}

/// A fresh salt.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn fresh_salt() -> Result<Salt, protocol::key::KeyError> {
    // A public key nobody holds the secret of any more is 32 random bytes.
    Ok(Salt(Digest::of_bytes(&SecretKey::generate()?.public().0)))
}

/// The payload's bytes and digest.
pub fn payload(parameters: &Parameters, product: &RunProduct) -> (Vec<u8>, Digest) {
    match product {
        RunProduct::Gradient(sum) => {
            let mut bytes = Vec::with_capacity(sum.len() * 4);
            for value in sum {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            (bytes, gradient_digest(parameters, sum))
        }
        RunProduct::Translations(translations) => {
            // A vector of vectors of integers always has bytes.
            let bytes = borsh::to_vec(translations).unwrap_or_default();
            (bytes, translations_digest(translations))
        }
    }
}
