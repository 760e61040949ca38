//! Register tiles: a few rows of c by a panel's columns, over all of a block's k.
#![allow(unsafe_code)]
// Counted loops over rows and vectors unroll into registers; the count is what is read.
#![allow(clippy::needless_range_loop)]

use super::pack::cut_panels;
use crate::simd::{Kernel, LANES, Simd};

/// The left matrix of a block.
#[derive(Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// Rows so far apart, from the block's first element.
    Rows(&'a [f32], usize),
    /// As [`super::pack::columns`] packs them.
    Packed(&'a [f32]),
}

/// The right matrix of a block, as [`super::pack::panels`] packs it.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [f32],
    /// Rows that were packed.
    pub(crate) depth: usize,
    /// The row to begin with.
    pub(crate) from: usize,
}

/// First row and height of the tiles that `m` rows are cut into: as even as can be.
pub(super) fn heights<S: Simd>(m: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(S::TILE_ROWS).max(1);
    let (height, higher) = (m / count, m % count);
    (0..count).map(move |t| (t * height + t.min(higher), height + usize::from(t < higher)))
}

/// What a tile is made of. Element (r, l) of a lies at `r + l step` if packed, else at
/// `r step + l`.
struct Source<'a, const PACKED: bool> {
    a: &'a [f32],
    step: usize,
    k: usize,
    panel: &'a [f32],
}

/// What a tile begins with and ends in.
struct Target<'a> {
    c: &'a mut [f32],
    stride: usize,
    columns: usize,
    /// Whether the chains in c go on, or begin from +0.
    resume: bool,
    bias: Option<&'a [f32]>,
}

/// All tiles of a block: m rows of a, n columns of b, and k of b's rows.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn tiles<S: Simd>(
    s: S,
    (m, k, n): (usize, usize, usize),
    a: Operand<'_>,
    b: Panels<'_>,
    resume: bool,
    bias: Option<&[f32]>,
    c: &mut [f32],
    stride: usize,
) {
    for (j, columns) in cut_panels::<S>(n) {
        let vectors = columns.div_ceil(LANES);
        let (wide, first) = (vectors * LANES, j * b.depth);
        let panel = &b.data[first + b.from * wide..][..wide * k];
        let bias = bias.map(|bias| &bias[j..][..columns]);
        for (i, rows) in heights::<S>(m) {
            let target = Target { c: &mut c[i * stride + j..], stride, columns, resume, bias };
            match a {
                Operand::Rows(a, step) => {
                    let source = Source::<false> { a: &a[i * step..], step, k, panel };
                    any_size(s, rows, vectors, source, target);
                }
                Operand::Packed(a) => {
                    let a = &a[i * k..][..rows * k];
                    any_size(s, rows, vectors, Source::<true> { a, step: rows, k, panel }, target);
                }
            }
        }
    }
}

/// Calls the tile of that size.
#[inline(always)]
fn any_size<S: Simd, const PACKED: bool>(
    s: S,
    rows: usize,
    vectors: usize,
    source: Source<'_, PACKED>,
    target: Target<'_>,
) {
    match (rows, vectors) {
        (1, 1) => s.call(Tile::<PACKED, 1, 1> { source, target }),
        (2, 1) => s.call(Tile::<PACKED, 2, 1> { source, target }),
        (3, 1) if S::TILE_ROWS > 2 => s.call(Tile::<PACKED, 3, 1> { source, target }),
        (4, 1) if S::TILE_ROWS > 2 => s.call(Tile::<PACKED, 4, 1> { source, target }),
        (5, 1) if S::TILE_ROWS > 2 => s.call(Tile::<PACKED, 5, 1> { source, target }),
        (6, 1) if S::TILE_ROWS > 2 => s.call(Tile::<PACKED, 6, 1> { source, target }),
        (1, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 1, 4> { source, target }),
        (2, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 2, 4> { source, target }),
        (3, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 3, 4> { source, target }),
        (4, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 4, 4> { source, target }),
        (5, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 5, 4> { source, target }),
        (6, 4) if S::TILE_VECTORS > 1 => s.call(Tile::<PACKED, 6, 4> { source, target }),
        size => unreachable!("tiles are cut to sizes that there are, not {size:?}"),
    }
}

/// One tile, of R rows and V vectors.
struct Tile<'a, const PACKED: bool, const R: usize, const V: usize> {
    source: Source<'a, PACKED>,
    target: Target<'a>,
}

impl<const PACKED: bool, const R: usize, const V: usize> Kernel for Tile<'_, PACKED, R, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Source { a, step, k, panel } = self.source;
        let Target { c, stride, columns, resume, bias } = self.target;
        let mut tile = [[s.splat(0.0); V]; R];
        if resume {
            for r in 0..R {
                let row = &c[r * stride..][..columns];
                let (whole, part) = row.as_chunks::<LANES>();
                for v in 0..V {
                    tile[r][v] = match whole.get(v) {
                        Some(c) => s.load(c),
                        None => s.load_part(part, 0.0),
                    };
                }
            }
        }
        let panel = panel.as_chunks::<LANES>().0.as_chunks::<V>().0;
        assert!(panel.len() == k && (!PACKED || step == R));
        let last = if PACKED { R * k } else { (R - 1) * step + k };
        assert!(k > 0 && last <= a.len());
        let mut l = 0;
        let (fours, rest) = panel.as_chunks::<4>();
        for b in fours {
            for (i, b) in b.iter().enumerate() {
                // SAFETY: l + i is below k.
                unsafe { step_k::<S, PACKED, R, V>(s, &mut tile, a, step, l + i, b) };
            }
            l += 4;
        }
        for b in rest {
            // SAFETY: l is below k.
            unsafe { step_k::<S, PACKED, R, V>(s, &mut tile, a, step, l, b) };
            l += 1;
        }
        if let Some(bias) = bias {
            for v in 0..V {
                let bias = s.load_part(&bias[v * LANES..], 0.0);
                for r in 0..R {
                    tile[r][v] = s.add(tile[r][v], bias);
                }
            }
        }
        for r in 0..R {
            let row = &mut c[r * stride..][..columns];
            if columns == V * LANES {
                let row = row.as_chunks_mut::<LANES>().0;
                for v in 0..V {
                    s.store(tile[r][v], &mut row[v]);
                }
            } else {
                for v in 0..V {
                    s.store_part(tile[r][v], &mut row[v * LANES..]);
                }
            }
        }
    }
}

/// One k of a tile.
///
/// # Safety
/// `l` is below the k for which [`Tile`] has asserted that a holds every element.
#[inline(always)]
unsafe fn step_k<S: Simd, const PACKED: bool, const R: usize, const V: usize>(
    s: S,
    tile: &mut [[S::F; V]; R],
    a: &[f32],
    step: usize,
    l: usize,
    b: &[[f32; LANES]; V],
) {
    let mut row = [s.splat(0.0); V];
    for v in 0..V {
        row[v] = s.load(&b[v]);
    }
    for r in 0..R {
        let at = if PACKED { l * R + r } else { r * step + l };
        // SAFETY: the caller's, with r < R.
        let x = s.splat(unsafe { *a.get_unchecked(at) });
        for v in 0..V {
            tile[r][v] = s.fma(x, row[v], tile[r][v]);
        }
    }
}
