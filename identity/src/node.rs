//! A node's keys for one start of its process.

use protocol::{
    ChainId, Digest, PublicKey, Receipt, SecretKey, Signed, SignedBody, SignedReceipt,
    key::KeyError, receipt::WorkKeyCertificate,
};

/// A node's identity key, with a work key made for this start.
#[derive(Debug)]
pub struct NodeIdentity {
    /// The chain.
    pub chain: ChainId,
    /// The identity key: registers, assigns, confirms.
    pub key: SecretKey,
    /// Signs receipts and pulls.
    pub work_key: SecretKey,
    /// Lets the work key sign for this node.
    pub certificate: Signed<WorkKeyCertificate>,
    /// The digest of the program that runs.
    pub release: Digest,
}

impl NodeIdentity {
    /// An identity with a fresh work key.
    ///
    /// # Errors
    /// Where the operating system gives no randomness.
    pub fn new(chain: ChainId, key: SecretKey, release: Digest) -> Result<Self, KeyError> {
        let work_key = SecretKey::generate()?;
        let boot_id = Digest::of_bytes(&SecretKey::generate()?.public().0);
        let body = WorkKeyCertificate { work_key: work_key.public(), boot_id };
        let certificate = Signed::sign(&chain, body, &key);
        Ok(Self { chain, key, work_key, certificate, release })
    }

    /// The node.
    pub fn node(&self) -> PublicKey {
        self.key.public()
    }

    /// Signs with the identity key.
    pub fn sign<T: SignedBody>(&self, body: T) -> Signed<T> {
        Signed::sign(&self.chain, body, &self.key)
    }

    /// Signs a receipt of our own work, with the work key.
    pub fn sign_receipt(&self, receipt: Receipt) -> SignedReceipt {
        Signed::sign(&self.chain, receipt, &self.work_key)
    }
}

/// The digest of the program that runs: what a receipt names as the release where no image was
/// booted.
///
/// # Errors
/// Where the program's own file cannot be read.
pub fn own_release() -> std::io::Result<Digest> {
    Ok(Digest::of_bytes(&std::fs::read("/proc/self/exe")?))
}
