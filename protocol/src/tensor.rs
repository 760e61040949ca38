//! The digest of a tensor: a Merkle root over fixed tiles, so that a small piece can be proven.
//!
//! A tensor is seen as a matrix: rank 2 as it is; higher ranks with all but the last dimension
//! folded into the rows; rank 1 of `n` as `ceil(n / 32)` rows of 32; rank 0 as one element. The
//! matrix is cut into [`TILE`] x [`TILE`] tiles, zero-padded at the right and lower edge, each
//! tile row-major, little-endian, 4096 bytes. A leaf is the plain BLAKE3 of a tile, tiles stand in
//! row-major order, and the digest binds dtype, shape and root:
//! `H("aliaOS tensor v1", dtype u8, shape [u64], root)`.

use crate::{digest::Digest, merkle};

/// Rows and columns of a tile.
pub const TILE: usize = 32;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32 = 0,
    /// Unsigned 32-bit integers: token ids.
    U32 = 1,
}

/// An element that a tensor can be made of: four bytes.
pub trait Element: Copy {
    /// Its type tag.
    const DTYPE: Dtype;
    /// Its little-endian bytes.
    fn to_le(self) -> [u8; 4];
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn to_le(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

impl Element for u32 {
    const DTYPE: Dtype = Dtype::U32;
    fn to_le(self) -> [u8; 4] {
        self.to_le_bytes()
    }
}

/// Rows and columns that a shape of `elements` elements is seen as.
pub fn matrix_view(shape: &[usize], elements: usize) -> (usize, usize) {
    match shape {
        [] => (1, 1),
        [n] => (n.div_ceil(TILE), TILE),
        [.., last] => (if *last == 0 { 0 } else { elements / last }, *last),
    }
}

/// The digests of a tensor's tiles in row-major order.
///
/// # Panics
/// When `shape` does not multiply to `data.len()`: the caller's mistake, never a peer's.
pub fn tile_digests<T: Element>(shape: &[usize], data: &[T]) -> Vec<Digest> {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} and data differ");
    let (rows, columns) = matrix_view(shape, data.len());
    let mut leaves = Vec::with_capacity(rows.div_ceil(TILE) * columns.div_ceil(TILE));
    let mut tile = [0u8; TILE * TILE * 4];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            let height = TILE.min(rows - top);
            let width = TILE.min(columns - left);
            if height < TILE || width < TILE {
                tile.fill(0);
            }
            for row in 0..height {
                let start = (top + row) * columns + left;
                // A vector's last row may be short: what is missing is padding.
                let end = (start + width).min(data.len());
                let bytes = &mut tile[row * TILE * 4..][..width * 4];
                if end - start < width {
                    bytes.fill(0);
                }
                for (bytes, value) in bytes.chunks_exact_mut(4).zip(&data[start..end]) {
                    bytes.copy_from_slice(&value.to_le());
                }
            }
            leaves.push(Digest::of_bytes(&tile));
        }
    }
    leaves
}

/// The digest of a tensor whose tiles have `root`.
pub fn bind(dtype: Dtype, shape: &[usize], root: Digest) -> Digest {
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    Digest::of("aliaOS tensor v1", &(dtype as u8, shape, root))
}

/// The digest of a tensor, as the module says.
///
/// # Panics
/// As [`tile_digests`].
pub fn digest<T: Element>(shape: &[usize], data: &[T]) -> Digest {
    bind(T::DTYPE, shape, merkle::root(&tile_digests(shape, data)))
}

/// The digest of several tensors as one: what an operator with more than one output is logged by,
/// and what names a set of parameters. Each tensor has its name.
pub fn digest_named(tensors: &[(&str, Digest)]) -> Digest {
    Digest::of("aliaOS tensors v1", tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_type_are_part_of_the_digest() {
        let data = [0f32; 12];
        assert_ne!(digest(&[3, 4], &data), digest(&[4, 3], &data));
        assert_ne!(digest(&[12], &data), digest(&[12], &[0u32; 12]));
    }

    #[test]
    fn tiles_can_be_proven_one_by_one() {
        let data: Vec<f32> = (0..70 * 40).map(|i| i as f32).collect();
        let leaves = tile_digests(&[70, 40], &data);
        assert_eq!(leaves.len(), 3 * 2);
        // Tile (1, 1): rows 32 to 63, columns 32 to 39, padded to 32 columns by zeros.
        let mut tile = vec![0u8; 4096];
        for row in 0..32 {
            for column in 0..8 {
                let value = ((32 + row) * 40 + 32 + column) as f32;
                tile[(row * 32 + column) * 4..][..4].copy_from_slice(&value.to_le_bytes());
            }
        }
        assert_eq!(leaves[3], Digest::of_bytes(&tile));
        let proof = merkle::prove(&leaves, 3).unwrap();
        let root = proof.root(leaves[3]).unwrap();
        assert_eq!(bind(Dtype::F32, &[70, 40], root), digest(&[70, 40], &data));
    }

    #[test]
    fn a_vector_fills_tiles_of_1024_elements() {
        let data: Vec<f32> = (0..1030).map(|i| i as f32).collect();
        let leaves = tile_digests(&[1030], &data);
        assert_eq!(leaves.len(), 2);
        let mut first = Vec::new();
        data[..1024].iter().for_each(|v| first.extend(v.to_le_bytes()));
        assert_eq!(leaves[0], Digest::of_bytes(&first));
        let mut second = vec![0; 4096];
        for (i, v) in data[1024..].iter().enumerate() {
            second[i * 4..][..4].copy_from_slice(&v.to_le_bytes());
        }
        assert_eq!(leaves[1], Digest::of_bytes(&second));
    }

    #[test]
    fn minus_zero_and_zero_differ_for_bits_are_what_counts() {
        assert_ne!(digest(&[1], &[0.0f32]), digest(&[1], &[-0.0f32]));
    }

    #[test]
    fn empty_tensors_have_a_digest() {
        assert_ne!(digest::<f32>(&[0, 4], &[]), digest::<f32>(&[4, 0], &[]));
    }
}
