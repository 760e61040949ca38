//! What verifies pieces: the nodes of a file's BLAKE3 tree that stand above them.
//!
//! A piece is a whole subtree: a power of two of BLAKE3's chunks of 1,024 bytes (BLAKE3 specification,
//! 2.1 and 5.1). Its node is a chaining value; the file's digest is made of them, two and two, and
//! nothing else than these values makes it. A file of one piece is verified by its digest.

use crate::layout::{Layout, NoPieces};
use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use protocol::Digest;
use std::io;

/// A file's pieces and what verifies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    layout: Layout,
    nodes: Vec<ChainingValue>,
}

/// What came is not the outline of that file.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// The file has no pieces.
    #[error(transparent)]
    Layout(#[from] NoPieces),
    /// It is too long or short.
    #[error("{found} bytes came for an outline of {wanted}: another version of us?")]
    Length {
        /// Its length.
        found: usize,
        /// What the file's size makes of it.
        wanted: usize,
    },
    /// It does not make the digest.
    #[error("it makes the digest {found}, and {wanted} is wanted: somebody altered it")]
    Digest {
        /// What it makes.
        found: Digest,
        /// The file's.
        wanted: Digest,
    },
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Outline {
    /// Of a file of so many bytes, which is read to its end.
    ///
    /// # Errors
    /// Where it cannot be read, or has another length.
    pub fn read(bytes: u64, from: &mut dyn io::Read) -> Result<Self, OutlineError> {
        let layout = Layout::of(bytes)?;
        let mut nodes = Vec::with_capacity(layout.count() as usize);
        let mut buffer = Vec::new();
        for piece in 0..layout.count() {
            // At most 32 MiB (`layout::LARGEST`).
            buffer.resize(layout.length(piece) as usize, 0);
            from.read_exact(&mut buffer)?;
            nodes.push(node(&layout, piece, &buffer));
        }
        Ok(Self { layout, nodes })
    }

    /// What came as the outline of a file of this digest and so many bytes.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check(digest: Digest, bytes: u64, outline: &[u8]) -> Result<Self, OutlineError> {
        let layout = Layout::of(bytes)?;
        let wanted = layout.count() as usize * 32;
        if outline.len() != wanted {
            return Err(OutlineError::Length { found: outline.len(), wanted });
        }
        let (nodes, _) = outline.as_chunks::<32>();
        let outline = Self { layout, nodes: nodes.to_vec() };
        let found = outline.digest();
        if found != digest {
            return Err(OutlineError::Digest { found, wanted: digest });
        }
        Ok(outline)
    }

    /// The file's digest.
    pub fn digest(&self) -> Digest {
        match self.nodes.as_slice() {
            // Of one piece the node is the root itself.
            [alone] => Digest(*alone),
            nodes => {
                let (left, right) = nodes.split_at(left(nodes.len()));
                let root = merge_subtrees_root(&merged(left), &merged(right), Mode::Hash);
                Digest(*root.as_bytes())
            }
        }
    }

    /// As it travels.
    pub fn bytes(&self) -> Vec<u8> {
        self.nodes.concat()
    }

    /// The file's pieces.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether this is that piece.
    pub fn fits(&self, piece: u32, content: &[u8]) -> bool {
        content.len() as u64 == self.layout.length(piece)
            && self.nodes.get(piece as usize) == Some(&node(&self.layout, piece, content))
    }
}

/// A piece's node; the root's where it is all of the file.
fn node(layout: &Layout, piece: u32, content: &[u8]) -> ChainingValue {
    if layout.count() == 1 || content.is_empty() {
        return *blake3::hash(content).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(layout.range(piece).start).update(content);
    hasher.finalize_non_root()
}

/// How many of so many pieces, more than one, are below the left child of their node: the largest
/// power of two that leaves some to the right.
fn left(count: usize) -> usize {
    1 << (count.max(2) - 1).ilog2()
}

/// Never without a node: each part of a split of two or more has one.
fn merged(nodes: &[ChainingValue]) -> ChainingValue {
    match nodes {
        [] => ChainingValue::default(),
        [alone] => *alone,
        nodes => {
            let (left, right) = nodes.split_at(left(nodes.len()));
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::LEAST;
    use proptest::prelude::*;

    fn content(bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        Hasher::new().update(b"pieces").finalize_xof().fill(&mut content);
        content
    }

    fn outline(content: &[u8]) -> Outline {
        Outline::read(content.len() as u64, &mut &content[..]).unwrap()
    }

    /// The format: nobody changes it without noticing.
    #[test]
    fn the_outline_of_a_file_of_three_pieces_is_these_bytes() {
        let content = content(600_000);
        let outline = outline(&content);
        let wanted = concat!(
            "9aae25521cc0500947ceac708106e91b4373b9f395321800f49844ebae474ce9",
            "3ba708b8412cd9fb8b2f8d81ce913700252788f476bf50f685242d46f9c8e4c0",
            "6082ced421e0e8192f01cc1665faa93fe2f82d757dba03c592c66f49dbce3531",
        );
        assert_eq!(hex::encode(outline.bytes()), wanted);
        let digest = "a0a444bd647819918b129e071c3f6011e75dda8e135afed96a8951fb48f9137d";
        assert_eq!(outline.digest().to_string(), digest);
        assert_eq!(outline.digest(), Digest::of_bytes(&content));
    }

    #[test]
    fn a_file_of_one_piece_is_verified_by_its_digest() {
        for bytes in [1, 1024, LEAST as usize] {
            let content = content(bytes);
            let outline = outline(&content);
            assert_eq!(outline.bytes(), Digest::of_bytes(&content).0);
            assert!(outline.fits(0, &content));
            assert!(!outline.fits(0, &content[1..]) && !outline.fits(1, &[]));
        }
    }

    #[test]
    fn a_piece_in_anothers_place_or_with_a_bit_changed_does_not_fit() {
        let mut content = content(3 * LEAST as usize);
        content.copy_within(..LEAST as usize, LEAST as usize);
        let outline = outline(&content);
        let piece = |n: u32| {
            let range = outline.layout().range(n);
            content[range.start as usize..range.end as usize].to_vec()
        };
        for n in 0..3 {
            assert!(outline.fits(n, &piece(n)));
            let mut altered = piece(n);
            altered[77] ^= 1;
            assert!(!outline.fits(n, &altered));
        }
        // The same bytes elsewhere in a file are another piece.
        assert_eq!(piece(0), piece(1));
        assert!(!outline.fits(2, &piece(0)));
        assert_ne!(outline.bytes()[..32], outline.bytes()[32..64]);
    }

    #[test]
    fn what_is_no_outline_of_the_file_is_refused() {
        let content = content(5 * LEAST as usize + 1);
        let (good, digest, bytes) =
            (outline(&content).bytes(), Digest::of_bytes(&content), content.len() as u64);
        assert_eq!(Outline::check(digest, bytes, &good).unwrap(), outline(&content));
        let mut altered = good.clone();
        altered[40] ^= 1;
        let error = Outline::check(digest, bytes, &altered).unwrap_err();
        assert!(matches!(error, OutlineError::Digest { .. }), "{error}");
        let mut swapped = good.clone();
        swapped.rotate_left(32);
        assert!(Outline::check(digest, bytes, &swapped).is_err());
        let error = Outline::check(digest, bytes, &good[32..]).unwrap_err();
        assert!(matches!(error, OutlineError::Length { .. }), "{error}");
        assert!(Outline::check(digest, 0, &[]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_files_outline_makes_its_digest(bytes in 1usize..(9 * LEAST as usize)) {
            let content = content(bytes);
            let outline = outline(&content);
            prop_assert_eq!(outline.digest(), Digest::of_bytes(&content));
            let again = Outline::check(outline.digest(), bytes as u64, &outline.bytes()).unwrap();
            for piece in 0..outline.layout().count() {
                let range = outline.layout().range(piece);
                prop_assert!(again.fits(piece, &content[range.start as usize..range.end as usize]));
            }
        }
    }
}
