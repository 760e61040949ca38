//! The matrix product.
//!
//! Contract: `c_ij = fma(a_ik, b_kj, c_ij)` for k ascending, from +0; nothing else, whatever the
//! tiles, threads or vector width (microsoft/RepDL defines it so too). Then, where there is a
//! bias, `c_ij + bias_j` as one rounded addition. Units: `m k n` products.
//!
//! All matrices are row-major. `nn`: a is `[m, k]`, b `[k, n]`. `nt`: a is `[m, k]`, b `[n, k]`
//! and read transposed. `tn`: a is `[k, m]` and read transposed, b `[k, n]`.
//!
//! How it is done fast (Goto and van de Geijn 2008): b is packed into panels as wide as a register
//! tile, in blocks that stay in the second-level cache; a tile of c stays in registers while k
//! runs. Each lane of a tile is one `c_ij`, so the contract's order is kept by construction.

pub(crate) mod pack;
pub(crate) mod tile;

use crate::simd::{Kernel, LANES, Simd, run};
use tile::{Operand, tiles};

/// k is cut into blocks of about this many, between which c is stored and loaded again.
const MOST_K: usize = 1_024;
/// Elements of b packed at once: 4 MiB, of which a panel at a time is read into the first cache.
const PACKED_B: usize = 1 << 20;
/// As [`PACKED_B`] where b is shallow and wide: 256 KiB, half a second-level cache.
const PACKED_SHALLOW_B: usize = 1 << 16;
/// A k that is shallow.
const SHALLOW: usize = 128;
/// Columns of c from which its rows lie so far apart that few may be open at once.
const WIDE: usize = 1_024;
/// Elements of a that are gone through for each panel: 192 KiB, less than a second-level cache.
const BLOCK_A: usize = 49_152;

/// Memory for the packed parts of a product, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Packing {
    a: Vec<f32>,
    b: Vec<f32>,
}

/// `c = a b`.
///
/// # Panics
/// When a slice's length is not its matrix's: the caller's mistake.
pub fn nn(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    packing: &mut Packing,
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "a slice is no such matrix");
    let b = Matrix { data: b, stride: n, transposed: false };
    run(Product { extents: (m, k, n), a: Matrix::rows(a, k), b, bias: None, c, packing });
}

/// `c = a b^T`.
///
/// # Panics
/// As [`nn`].
pub fn nt(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    packing: &mut Packing,
) {
    nt_bias(m, k, n, a, b, None, c, packing);
}

/// `c = a b^T + bias`, the bias being added to each row.
///
/// # Panics
/// As [`nn`].
#[allow(clippy::too_many_arguments)]
pub fn nt_bias(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    c: &mut [f32],
    packing: &mut Packing,
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "a slice is no such matrix");
    assert!(bias.is_none_or(|bias| bias.len() == n), "the bias has another length than c's rows");
    let b = Matrix { data: b, stride: k, transposed: true };
    run(Product { extents: (m, k, n), a: Matrix::rows(a, k), b, bias, c, packing });
}

/// `c = a^T b`.
///
/// # Panics
/// As [`nn`].
pub fn tn(
    m: usize,
    k: usize,
    n: usize,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    packing: &mut Packing,
) {
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n, "a slice is no such matrix");
    let a = Matrix { data: a, stride: m, transposed: true };
    let b = Matrix { data: b, stride: n, transposed: false };
    run(Product { extents: (m, k, n), a, b, bias: None, c, packing });
}

/// Rows `stride` apart; transposed, the rows are what the product takes for columns.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl<'a> Matrix<'a> {
    fn rows(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride, transposed: false }
    }
}

struct Product<'a> {
    extents: (usize, usize, usize),
    a: Matrix<'a>,
    b: Matrix<'a>,
    bias: Option<&'a [f32]>,
    c: &'a mut [f32],
    packing: &'a mut Packing,
}

/// Cuts `n` into runs of at most `most`, as even as can be in multiples of `of`.
fn cut(n: usize, most: usize, of: usize) -> impl Iterator<Item = (usize, usize)> {
    let pieces = n.div_ceil(most.max(1)).max(1);
    let length = n.div_ceil(pieces).next_multiple_of(of).max(1);
    (0..n).step_by(length).map(move |start| (start, length.min(n - start)))
}

/// Columns of b packed at once, and rows of a that are gone through for each panel of it.
///
/// A tile of a wide c is written to as many pages as it has rows. So the rows in turn are few
/// there; with a shallow k (logits) only two tiles, each panel then being read again from the
/// second-level cache, where all of b's block lies.
fn blocks<S: Simd>(kc: usize, n: usize) -> (usize, usize) {
    let (packed, rows) = match (n >= WIDE, kc <= SHALLOW) {
        (false, _) => (PACKED_B, usize::MAX),
        (true, false) => (PACKED_B, 8 * S::TILE_ROWS),
        (true, true) => (PACKED_SHALLOW_B, 2 * S::TILE_ROWS),
    };
    ((packed / kc).max(LANES * S::TILE_VECTORS), (BLOCK_A / kc).min(rows).max(S::TILE_ROWS))
}

impl Kernel for Product<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { extents: (m, k, n), a, b, bias, c, packing } = self;
        if k == 0 {
            for row in c.chunks_exact_mut(n.max(1)) {
                for (j, c) in row.iter_mut().enumerate() {
                    *c = 0.0 + bias.map_or(0.0, |bias| bias[j]);
                }
            }
            return;
        }
        for (k0, kc) in cut(k, MOST_K, 1) {
            let is_last = k0 + kc == k;
            let bias = if is_last { bias } else { None };
            let (columns, rows) = blocks::<S>(kc, n);
            for (n0, nc) in cut(n, columns, LANES * S::TILE_VECTORS) {
                let b_panels = pack::panels(s, b, (k0, kc), (n0, nc), &mut packing.b);
                let bias = bias.map(|bias| &bias[n0..][..nc]);
                for (m0, mc) in cut(m, rows, S::TILE_ROWS) {
                    let a = if a.transposed {
                        Operand::Packed(pack::columns::<S>(a, (m0, mc), (k0, kc), &mut packing.a))
                    } else {
                        Operand::Rows(&a.data[m0 * a.stride + k0..], a.stride)
                    };
                    let c = &mut c[m0 * n + n0..];
                    tiles(s, (mc, kc, nc), a, b_panels, k0 > 0, bias, c, n);
                }
            }
        }
    }
}

/// `c_ij` by the contract, from any two matrices.
#[cfg(test)]
pub(crate) fn reference(
    (m, k, n): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let mut c = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0.0f32;
            for l in 0..k {
                sum = a(i, l).mul_add(b(l, j), sum);
            }
            c.push(bias.map_or(sum, |bias| sum + bias[j]));
        }
    }
    c
}
