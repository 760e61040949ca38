//! The matrix product.
//!
//! Contract: `c_ij = fma(a_ik, b_kj, c_ij)` for k ascending, from +0; nothing else, whatever the
//! tiles, threads or vector width (microsoft/RepDL defines it so too). Then, where there is a
//! bias, `c_ij + bias_j` as one rounded addition. Units: `m k n` products.
//!
//! All matrices are row-major. `nn`: a is `[m, k]`, b `[k, n]`. `nt`: a is `[m, k]`, b `[n, k]`
//! and read transposed. `tn`: a is `[k, m]` and read transposed, b `[k, n]`.

use crate::simd::{Kernel, LANES, Simd, run};

/// Memory for the packed parts of a product, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Packing {
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
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    let _ = packing;
    run(Simple { m, k, n, a, a_steps: (k, 1), b, bias: None, c });
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
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    assert!(bias.is_none_or(|bias| bias.len() == n));
    packing.b.resize(k * n, 0.0);
    for (j, row) in b.chunks_exact(k.max(1)).enumerate() {
        for (l, &x) in row.iter().enumerate() {
            packing.b[l * n + j] = x;
        }
    }
    run(Simple { m, k, n, a, a_steps: (k, 1), b: &packing.b, bias, c });
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
    assert!(a.len() == m * k && b.len() == k * n && c.len() == m * n);
    let _ = packing;
    run(Simple { m, k, n, a, a_steps: (1, m), b, bias: None, c });
}

struct Simple<'a> {
    m: usize,
    k: usize,
    n: usize,
    a: &'a [f32],
    a_steps: (usize, usize),
    b: &'a [f32],
    bias: Option<&'a [f32]>,
    c: &'a mut [f32],
}

impl Kernel for Simple<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { m, k, n, a, a_steps, b, bias, c } = self;
        for i in 0..m {
            let mut j = 0;
            while j < n {
                let width = LANES.min(n - j);
                let mut lanes = s.splat(0.0);
                for l in 0..k {
                    let a = s.splat(a[i * a_steps.0 + l * a_steps.1]);
                    let b = s.load_part(&b[l * n + j..][..width], 0.0);
                    lanes = s.fma(a, b, lanes);
                }
                if let Some(bias) = bias {
                    lanes = s.add(lanes, s.load_part(&bias[j..][..width], 0.0));
                }
                s.store_part(lanes, &mut c[i * n + j..][..width]);
                j += width;
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
