//! Stage `identity`: the node's key from where it is kept, and the work key of this boot. Of the
//! processes PID 1 alone has the node's key; the work key it gives to the compute service.

use crate::{keep, kernel::Kernel, medium::MediumError};
use protocol::{ChainId, Digest, SecretKey, Signed, evidence::Held, receipt::WorkKeyCertificate};
use std::io;

/// The keys of one boot.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's ed25519 identity. No other process gets it; a copy lies where [`keep`] keeps it
    /// between boots, sealed in the TPM or in a UEFI variable.
    pub node: SecretKey,
    /// The key that the compute service signs its work with.
    pub work: SecretKey,
    /// Random, once a boot.
    pub boot_id: Digest,
    /// What keeps the node's key between boots.
    pub held: Held,
    /// For people: whether this is the key of an earlier boot, and if not, why.
    pub kept: String,
}

/// No randomness, no keys.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel gave no randomness for the node's keys: {0}; give the machine a source of it (RDRAND, virtio-rng)"
)]
pub struct IdentityError(#[from] io::Error);

/// Gets the node's key, and makes the work key. `boot_id` was drawn when PID 1 began, for its first events.
/// `measured` is whether what configures this boot was.
pub fn run(
    kernel: &dyn Kernel,
    boot_id: Digest,
    measured: bool,
) -> Result<Identity, IdentityError> {
    let kept = keep::node_key(kernel, kernel.random()?, measured);
    let node = SecretKey::from_seed(kept.seed);
    let work = SecretKey::from_seed(kernel.random()?);
    Ok(Identity { node, work, boot_id, held: kept.held, kept: kept.detail() })
}

impl Identity {
    /// Takes over the key of a medium, where this one is in memory alone; gives whether there is such
    /// a medium.
    pub fn take_from_medium(&mut self, kernel: &dyn Kernel) -> Result<bool, MediumError> {
        let fresh = kernel.random().map_err(MediumError::Random)?;
        let Some(kept) = keep::on_medium(kernel, fresh)? else { return Ok(false) };
        self.node = SecretKey::from_seed(kept.seed);
        (self.held, self.kept) = (kept.held, kept.detail());
        Ok(true)
    }

    /// Lets the work key sign for the node.
    pub fn certificate(&self, chain: &ChainId) -> Signed<WorkKeyCertificate> {
        let body = WorkKeyCertificate { work_key: self.work.public(), boot_id: self.boot_id };
        Signed::sign(chain, body, &self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn the_work_key_is_another_one_and_certified_by_the_node() {
        let identity = run(&Fake::new(&[]), Digest([9; 32]), true).unwrap();
        assert_ne!(identity.node.public(), identity.work.public());
        let chain: ChainId = "alia-test".parse().unwrap();
        let certificate = identity.certificate(&chain);
        assert_eq!(certificate.signer, identity.node.public());
        let body = certificate.verify(&chain).unwrap();
        assert_eq!(body.work_key, identity.work.public());
        assert_eq!(body.boot_id, Digest([9; 32]));
    }

    #[test]
    fn without_randomness_there_is_no_key() {
        let error =
            run(&Fake::new(&[]).failing("random", 11), Digest::default(), true).unwrap_err();
        assert!(error.to_string().contains("no randomness"), "{error}");
    }
}
