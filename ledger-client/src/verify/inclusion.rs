//! That a transaction is in a block: CometBFT's Merkle tree (RFC 6962 over SHA-256), whose leaves
//! are the transactions' hashes and whose root is the header's data hash.

use crate::rpc::{TxHash, base64_bytes, number};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The longest path: CometBFT's own bound (`crypto/merkle/proof.go`, `MaxAunts`).
pub const MAX_AUNTS: usize = 100;

/// The path from a transaction to its block's data hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InclusionProof {
    /// How many transactions the block has.
    #[serde(deserialize_with = "number")]
    pub total: u64,
    /// The transaction's place.
    #[serde(deserialize_with = "number")]
    pub index: u64,
    /// The siblings from leaf to root.
    #[serde(default)]
    pub aunts: Vec<Aunt>,
}

/// A sibling on the path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Aunt(#[serde(deserialize_with = "base64_bytes")] pub Vec<u8>);

impl InclusionProof {
    /// Checks that the transaction is in the block with `data_hash`.
    ///
    /// # Errors
    /// What is wrong with the proof.
    pub fn check(&self, data_hash: &[u8], transaction: TxHash) -> Result<(), &'static str> {
        if self.index >= self.total || self.aunts.len() > MAX_AUNTS {
            return Err("the path has an impossible shape");
        }
        let leaf = hash(&[&[0], &transaction.0]);
        match self.root(leaf) {
            None => Err("the path has the wrong length"),
            Some(root) if root == data_hash => Ok(()),
            Some(_) => Err("the path does not lead to the block's data hash"),
        }
    }

    fn root(&self, leaf: [u8; 32]) -> Option<[u8; 32]> {
        // The turns from the root down; the path runs from the leaf up.
        let (mut index, mut total) = (self.index, self.total);
        let mut turns = Vec::new();
        while total > 1 {
            let split = 1 << (u64::BITS - 1 - (total - 1).leading_zeros());
            turns.push(index < split);
            if index < split {
                total = split;
            } else {
                index -= split;
                total -= split;
            }
        }
        if turns.len() != self.aunts.len() {
            return None;
        }
        let climbed = turns.iter().rev().zip(&self.aunts).fold(leaf, |below, (is_left, aunt)| {
            if *is_left { hash(&[&[1], &below, &aunt.0]) } else { hash(&[&[1], &aunt.0, &below]) }
        });
        Some(climbed)
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tx(index: u64) -> TxHash {
        TxHash::of(&index.to_le_bytes())
    }

    fn root(leaves: &[TxHash]) -> [u8; 32] {
        match leaves {
            [] => hash(&[]),
            [one] => hash(&[&[0], &one.0]),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                hash(&[&[1], &root(left), &root(right)])
            }
        }
    }

    fn prove(leaves: &[TxHash], index: usize) -> Vec<Aunt> {
        if leaves.len() < 2 {
            return vec![];
        }
        let at = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(at);
        let (mut path, other) = if index < at {
            (prove(left, index), root(right))
        } else {
            (prove(right, index - at), root(left))
        };
        path.push(Aunt(other.to_vec()));
        path
    }

    #[test]
    fn each_transaction_is_proven_at_its_own_place_alone() {
        for total in 1..20u64 {
            let leaves: Vec<TxHash> = (0..total).map(tx).collect();
            let data_hash = root(&leaves);
            for index in 0..total {
                let aunts = prove(&leaves, index as usize);
                let proof = InclusionProof { total, index, aunts };
                assert_eq!(proof.check(&data_hash, tx(index)), Ok(()));
                assert!(proof.check(&data_hash, tx(index + 1)).is_err());
                assert!(proof.check(&[0; 32], tx(index)).is_err());
                let moved = InclusionProof { index: (index + 1) % total, ..proof.clone() };
                assert!(total == 1 || moved.check(&data_hash, tx(index)).is_err());
                let longer = InclusionProof { total: total * 3, ..proof };
                assert!(longer.check(&data_hash, tx(index)).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn no_proof_panics(total: u64, index: u64, aunts in 0usize..120) {
            let aunts = vec![Aunt(vec![1; 7]); aunts];
            let proof = InclusionProof { total, index, aunts };
            prop_assert!(proof.check(&[0; 32], tx(0)).is_err());
        }
    }
}
