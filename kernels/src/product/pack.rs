//! Packing: the order in memory that tiles read in.

use super::{
    Matrix,
    tile::{Panels, heights},
};
use crate::simd::{LANES, Simd};

/// First column and width of the panels that `n` columns are cut into: as wide as a register tile,
/// or sixteen columns and less where no such panel is left.
pub(super) fn cut_panels<S: Simd>(n: usize) -> impl Iterator<Item = (usize, usize)> {
    let width = LANES * S::TILE_VECTORS;
    let wide = n / width;
    let narrow = (n - wide * width).div_ceil(LANES);
    (0..wide).map(move |p| (p * width, width)).chain((0..narrow).map(move |p| {
        let start = wide * width + p * LANES;
        (start, LANES.min(n - start))
    }))
}

/// Makes room for `length` elements.
pub(crate) fn room(packed: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if packed.len() < length {
        packed.resize(length, 0.0);
    }
    &mut packed[..length]
}

/// Columns `n0..n0 + nc` of b, as panels of a tile's width: of each panel row by row, filled up
/// with zeros to a multiple of sixteen columns. The panel of column j begins at `j kc`.
#[inline(always)]
pub(crate) fn panels<'p, S: Simd>(
    s: S,
    b: Matrix<'_>,
    (k0, kc): (usize, usize),
    (n0, nc): (usize, usize),
    packed: &'p mut Vec<f32>,
) -> Panels<'p> {
    let packed = room(packed, nc.next_multiple_of(LANES) * kc);
    for (j, columns) in cut_panels::<S>(nc) {
        let wide = columns.next_multiple_of(LANES);
        let panel = &mut packed[j * kc..][..wide * kc];
        if b.transposed {
            transpose(s, &b.data[(n0 + j) * b.stride + k0..], b.stride, (columns, kc), wide, panel);
        } else {
            for (l, to) in panel.chunks_exact_mut(wide).enumerate() {
                let from = &b.data[(k0 + l) * b.stride + n0 + j..][..columns];
                if columns == wide {
                    let from = from.as_chunks::<LANES>().0;
                    for (to, from) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(from) {
                        *to = *from;
                    }
                } else {
                    to[..columns].copy_from_slice(from);
                    to[columns..].fill(0.0);
                }
            }
        }
    }
    Panels { data: packed, depth: kc, from: 0 }
}

/// `to[l][j] = from[j][l]` for `columns` rows of `from`, `wide` columns of `to`.
#[inline(always)]
fn transpose<S: Simd>(
    s: S,
    from: &[f32],
    stride: usize,
    (columns, kc): (usize, usize),
    wide: usize,
    to: &mut [f32],
) {
    for j0 in (0..columns).step_by(LANES) {
        let rows = LANES.min(columns - j0);
        let whole = kc / LANES * LANES;
        for l0 in (0..whole).step_by(LANES) {
            let mut block = [s.splat(0.0); LANES];
            for (j, block) in block.iter_mut().take(rows).enumerate() {
                if let Some(row) = from[(j0 + j) * stride + l0..].first_chunk() {
                    *block = s.load(row);
                }
            }
            let block = s.transpose(block);
            for (l, block) in block.into_iter().enumerate() {
                if let Some(row) = to[(l0 + l) * wide + j0..].first_chunk_mut() {
                    s.store(block, row);
                }
            }
        }
        for l in whole..kc {
            let to = &mut to[l * wide + j0..][..LANES];
            for (j, to) in to.iter_mut().enumerate() {
                *to = if j < rows { from[(j0 + j) * stride + l] } else { 0.0 };
            }
        }
    }
}

/// Rows `m0..m0 + mc` of a transposed a, as tiles of [`heights`]: of each tile k by k. The tile of
/// row i begins at `i kc`.
#[inline(always)]
pub(super) fn columns<'p, S: Simd>(
    a: Matrix<'_>,
    (m0, mc): (usize, usize),
    (k0, kc): (usize, usize),
    packed: &'p mut Vec<f32>,
) -> &'p [f32] {
    let packed = room(packed, mc * kc);
    for (i, rows) in heights::<S>(mc) {
        let tile = &mut packed[i * kc..][..rows * kc];
        let from = &a.data[k0 * a.stride + m0 + i..];
        match rows {
            6 => tall::<6>(from, a.stride, tile),
            5 => tall::<5>(from, a.stride, tile),
            4 => tall::<4>(from, a.stride, tile),
            3 => tall::<3>(from, a.stride, tile),
            2 => tall::<2>(from, a.stride, tile),
            _ => tall::<1>(from, a.stride, tile),
        }
    }
    packed
}

/// R neighbours of each row.
#[inline(always)]
fn tall<const R: usize>(from: &[f32], stride: usize, tile: &mut [f32]) {
    for (l, to) in tile.as_chunks_mut::<R>().0.iter_mut().enumerate() {
        if let Some(from) = from[l * stride..].first_chunk() {
            *to = *from;
        }
    }
}
