//! The Jellyfish Merkle tree (SHA-256, ICS-23 proofs) over the tables.

use super::{Committed, StoreError};
use jmt::{
    JellyfishMerkleTree, KeyHash, OwnedValue, RootHash, Version,
    storage::{HasPreimage, LeafNode, Node, NodeKey, TreeReader, TreeUpdateBatch},
};
use protocol::state::StateKey;
use sha2::Sha256;
use std::collections::BTreeMap;

/// What a block does to the tree. The root depends on the records alone, not on how they came in.
#[derive(Clone, Debug, Default)]
pub struct TreeChange {
    /// The tree's version after it. Versions count changes, so that a block without any adds
    /// nothing.
    pub version: Version,
    /// The root: the app hash.
    pub root: [u8; 32],
    pub(super) batch: TreeUpdateBatch,
}

/// A path's place in the tree. Paths are never empty, which non-membership proofs need.
pub(super) fn place(path: &str) -> KeyHash {
    KeyHash::with::<Sha256>(path)
}

/// What writing `records` over the committed state does to the tree.
pub(super) fn change(
    committed: &Committed,
    records: &BTreeMap<StateKey, Vec<u8>>,
) -> Result<TreeChange, StoreError> {
    let version = match committed.head() {
        Some(head) if records.is_empty() => {
            return Ok(TreeChange {
                version: head.version,
                root: head.app_hash,
                batch: TreeUpdateBatch::default(),
            });
        }
        Some(head) => head.version + 1,
        None => 0,
    };
    let values: Vec<(KeyHash, OwnedValue)> =
        records.iter().map(|(key, bytes)| (place(&key.path()), bytes.clone())).collect();
    if values.is_empty() {
        return Err(StoreError::Tree("a chain begins with no record at all".into()));
    }
    let tree = JellyfishMerkleTree::<_, Sha256>::new(committed);
    let (roots, batch) = tree.batch_put_value_sets(vec![values], None, version).map_err(wrong)?;
    match roots.as_slice() {
        [RootHash(root)] => Ok(TreeChange { version, root: *root, batch }),
        other => Err(StoreError::Tree(format!("one change made {} roots", other.len()))),
    }
}

/// A record at a version of the tree, with the ICS-23 proof that it is there, or that it is not.
pub(super) fn prove(
    committed: &Committed,
    path: &str,
    version: Version,
) -> Result<(Option<Vec<u8>>, ics23::CommitmentProof), StoreError> {
    JellyfishMerkleTree::<_, Sha256>::new(committed)
        .get_with_ics23_proof(path.as_bytes().to_vec(), version)
        .map_err(wrong)
}

// jmt reports with anyhow; `{:#}` keeps the whole chain of reasons.
fn wrong(error: impl std::fmt::Display) -> StoreError {
    StoreError::Tree(format!("{error:#}"))
}

impl TreeReader for Committed {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.node(&borsh::to_vec(key)?)?.map(|bytes| borsh::from_slice(&bytes)).transpose()?)
    }

    fn get_value_option(&self, most: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(self.value_at(&key.0, most)?)
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the rightmost leaf is asked for when a tree is restored, which is not done")
    }
}

impl HasPreimage for Committed {
    fn preimage(&self, key: KeyHash) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.path_of(&key.0)?)
    }
}
