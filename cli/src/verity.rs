//! dm-verity's hash tree, computed anew: version 1, SHA-256, blocks of 4096 bytes, no superblock
//! (<https://docs.kernel.org/admin-guide/device-mapper/verity.html>).

use protocol::{
    Digest,
    boot::{VERITY_BLOCK, Verity},
};
use sha2::{Digest as _, Sha256};

const BLOCK: usize = VERITY_BLOCK as usize;

/// A file and its hash tree do not agree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VerityError {
    /// It is shorter than its data, or no block of data is named.
    #[error("it has {bytes} bytes, and {blocks} blocks of data are named")]
    Length {
        /// The file's length.
        bytes: usize,
        /// How many blocks of data it should have.
        blocks: u64,
    },
    /// Another root.
    #[error("its verity root hash is {found}, {wanted} is named")]
    Root {
        /// The data's.
        found: Digest,
        /// The release's.
        wanted: Digest,
    },
    /// The data is right, and the tree behind it is not: a machine could read none of it.
    #[error("the hash tree behind its data is not the data's")]
    Tree,
}

/// Checks a file of data and the hash tree behind it, block by block.
///
/// # Errors
/// Where data, tree and root hash do not agree.
pub fn check(file: &[u8], verity: &Verity) -> Result<(), VerityError> {
    let length = usize::try_from(verity.data_blocks).ok().and_then(|n| n.checked_mul(BLOCK));
    let Some(length) = length.filter(|&length| length > 0 && length <= file.len()) else {
        return Err(VerityError::Length { bytes: file.len(), blocks: verity.data_blocks });
    };
    let (data, rest) = file.split_at(length);
    let (root, tree) = tree(data, &verity.salt);
    if root != verity.root_hash {
        return Err(VerityError::Root { found: root, wanted: verity.root_hash });
    }
    if rest.get(..tree.len()) != Some(tree.as_slice()) {
        return Err(VerityError::Tree);
    }
    Ok(())
}

/// The root hash of whole blocks, and the tree, its uppermost level first.
fn tree(data: &[u8], salt: &Digest) -> (Digest, Vec<u8>) {
    let hashes = |blocks: &[u8]| -> Vec<u8> {
        let hash = |block| Sha256::new().chain_update(salt.0).chain_update(block).finalize();
        blocks.chunks(BLOCK).flat_map(hash).collect()
    };
    let mut level = hashes(data);
    let mut tree = Vec::new();
    while level.len() > size_of::<Digest>() {
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        let above = hashes(&level);
        tree = [level, tree].concat();
        level = above;
    }
    let mut root = Digest::default();
    root.0.copy_from_slice(&level[..size_of::<Digest>()]);
    (root, tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(blocks: usize) -> Vec<u8> {
        (0..blocks).flat_map(|block| [(block % 251) as u8; BLOCK]).collect()
    }

    /// What veritysetup 2.7.5 says: `veritysetup format --no-superblock --salt 0505…`.
    const KNOWN: [(usize, &str, usize); 3] = [
        (1, "5e9e74fae71a4a37b019f5489e75d5a0117dad01eae5f4d97e5b1f705ae2281a", 0),
        (2, "4b80d009a94ca8fcb2cd1bb0f661d84f5c6fcb10cc3072a451a10928827bfc5c", 1),
        (129, "9cab0219f20672facad4e1d72205673da7f844e53301b333cbd4c5ccb87b3bad", 3),
    ];

    #[test]
    fn the_root_hash_is_veritysetups() {
        for (blocks, root, hash_blocks) in KNOWN {
            let (found, tree) = tree(&file(blocks), &Digest([5; 32]));
            assert_eq!((found.to_string().as_str(), tree.len()), (root, hash_blocks * BLOCK));
        }
    }

    #[test]
    fn a_block_of_data_or_of_hashes_that_was_altered_is_found() {
        let data = file(129);
        let (root_hash, tree) = tree(&data, &Digest([5; 32]));
        let whole = [data, tree].concat();
        let verity = Verity { root_hash, salt: Digest([5; 32]), data_blocks: 129 };
        assert_eq!(check(&whole, &verity), Ok(()));
        let altered = |at: usize| {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            check(&altered, &verity)
        };
        assert!(matches!(altered(70 * BLOCK), Err(VerityError::Root { .. })));
        assert_eq!(altered(129 * BLOCK + 7), Err(VerityError::Tree));
        assert_eq!(check(&whole[..131 * BLOCK], &verity), Err(VerityError::Tree));
        let none = Verity { data_blocks: 0, ..verity };
        assert!(matches!(check(&whole, &none), Err(VerityError::Length { .. })));
        let many = Verity { data_blocks: u64::MAX, ..verity };
        assert!(matches!(check(&whole, &many), Err(VerityError::Length { .. })));
    }
}
