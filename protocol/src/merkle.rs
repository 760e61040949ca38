//! Binary Merkle trees over BLAKE3 digests, in RFC 6962's shape.
//!
//! A tree over `n > 1` leaves splits at the largest power of two below `n`; no leaf is ever
//! duplicated, so a tree and its leaf count are one to one. The count belongs in whatever commits
//! to the root.

use crate::digest::Digest;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Deepest path that a proof may have: trees of more than 2^40 leaves do not occur.
pub const MAX_PROOF_LEN: usize = 40;

static NODE_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("aliaOS merkle node v1", b""));

/// An inner node: keyed BLAKE3 of left and right, one compression.
fn node(left: &Digest, right: &Digest) -> Digest {
    let mut pair = [0; 64];
    pair[..32].copy_from_slice(&left.0);
    pair[32..].copy_from_slice(&right.0);
    Digest(*blake3::keyed_hash(&NODE_KEY, &pair).as_bytes())
}

/// Where a tree over `n > 1` leaves splits: the largest power of two below `n`.
fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// The root over `leaves`; the root over none is [`Digest::default`] (all zeros).
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::default(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// That one leaf stands at one place under a root.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MerkleProof {
    /// The leaf's place, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub count: u64,
    /// The siblings from leaf to root.
    pub path: Vec<Digest>,
}

/// Proves the leaf at `index`; `None` where there is no such leaf.
pub fn prove(leaves: &[Digest], index: usize) -> Option<MerkleProof> {
    fn descend(leaves: &[Digest], index: usize, path: &mut Vec<Digest>) {
        if leaves.len() < 2 {
            return;
        }
        let at = split(leaves.len());
        let (left, right) = leaves.split_at(at);
        if index < at {
            descend(left, index, path);
            path.push(root(right));
        } else {
            descend(right, index - at, path);
            path.push(root(left));
        }
    }
    if index >= leaves.len() {
        return None;
    }
    let mut path = Vec::new();
    descend(leaves, index, &mut path);
    Some(MerkleProof { index: index as u64, count: leaves.len() as u64, path })
}

impl MerkleProof {
    /// The root that this proof puts `leaf` under; `None` where the proof has the wrong length.
    pub fn root(&self, leaf: Digest) -> Option<Digest> {
        if self.index >= self.count || self.path.len() > MAX_PROOF_LEN {
            return None;
        }
        // The turns from the root down; a proof's path runs from the leaf up.
        let mut turns = Vec::with_capacity(self.path.len());
        let (mut index, mut count) = (self.index, self.count);
        while count > 1 {
            let at = 1 << (u64::BITS - 1 - (count - 1).leading_zeros());
            turns.push(index < at);
            if index < at {
                count = at;
            } else {
                index -= at;
                count -= at;
            }
        }
        if turns.len() != self.path.len() {
            return None;
        }
        Some(turns.iter().rev().zip(&self.path).fold(leaf, |below, (is_left, sibling)| {
            if *is_left { node(&below, sibling) } else { node(sibling, &below) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: usize) -> Vec<Digest> {
        (0..n).map(|i| Digest::of_bytes(&i.to_le_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_provable_at_its_own_place_alone() {
        for n in 1..40 {
            let leaves = leaves(n);
            let root = root(&leaves);
            for i in 0..n {
                let proof = prove(&leaves, i).unwrap();
                assert_eq!(proof.root(leaves[i]), Some(root));
                if n > 1 {
                    assert_ne!(proof.root(leaves[(i + 1) % n]), Some(root));
                    let moved = MerkleProof { index: (i as u64 + 1) % n as u64, ..proof };
                    assert_ne!(moved.root(leaves[i]), Some(root));
                }
            }
            assert_eq!(prove(&leaves, n), None);
        }
    }

    #[test]
    fn a_path_of_the_wrong_length_proves_nothing() {
        let leaves = leaves(5);
        let mut proof = prove(&leaves, 2).unwrap();
        proof.path.pop();
        assert_eq!(proof.root(leaves[2]), None);
        proof.path = vec![Digest::default(); MAX_PROOF_LEN + 1];
        assert_eq!(proof.root(leaves[2]), None);
    }

    #[test]
    fn three_leaves_split_after_two() {
        let l = leaves(3);
        assert_eq!(root(&l), node(&node(&l[0], &l[1]), &l[2]));
    }
}
