//! ICS-23: that a record is in the state with an app hash, or that it is not.

use ics23::{
    CommitmentProof, HashOp, HostFunctionsManager, InnerSpec, LeafOp, LengthOp, ProofSpec,
};
use prost_of_ics23::Message;

/// The type of the one proof operation of a ledger's answer.
pub(super) const PROOF_TYPE: &str = "ics23:jmt";

/// How the ledger's tree is hashed: a Jellyfish Merkle tree over SHA-256, as jmt 0.12 builds it.
fn spec() -> ProofSpec {
    ProofSpec {
        leaf_spec: Some(LeafOp {
            hash: HashOp::Sha256.into(),
            prehash_key: HashOp::Sha256.into(),
            prehash_value: HashOp::Sha256.into(),
            length: LengthOp::NoPrefix.into(),
            prefix: b"JMT::LeafNode".to_vec(),
        }),
        inner_spec: Some(InnerSpec {
            hash: HashOp::Sha256.into(),
            child_order: vec![0, 1],
            min_prefix_length: 16,
            max_prefix_length: 16,
            child_size: 32,
            empty_child: b"SPARSE_MERKLE_PLACEHOLDER_HASH__".to_vec(),
        }),
        min_depth: 0,
        max_depth: 64,
        prehash_key_before_comparison: true,
    }
}

/// Checks that the state with `app_hash` holds `value` at `path`, or nothing where it is `None`.
///
/// # Errors
/// What is wrong with the proof.
pub fn check_record(
    app_hash: &[u8],
    path: &str,
    value: Option<&[u8]>,
    proof: &[u8],
) -> Result<(), &'static str> {
    let proof = CommitmentProof::decode(proof).map_err(|_| "it cannot be decoded")?;
    let (spec, root) = (spec(), app_hash.to_vec());
    match value {
        Some(value) => {
            let holds = ics23::verify_membership::<HostFunctionsManager>(
                &proof,
                &spec,
                &root,
                path.as_bytes(),
                value,
            );
            holds.then_some(()).ok_or("the record is not what the state holds")
        }
        None => {
            let holds = ics23::verify_non_membership::<HostFunctionsManager>(
                &proof,
                &spec,
                &root,
                path.as_bytes(),
            );
            holds.then_some(()).ok_or("the record's absence is not proven")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tree_is_hashed_as_the_ledgers_library_says() {
        assert_eq!(spec(), jmt::ics23_spec());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_prove(proof in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check_record(&[7; 32], "chain", Some(b"x"), &proof).is_err());
            prop_assert!(check_record(&[7; 32], "chain", None, &proof).is_err());
        }
    }
}
