//! Scaled dot-product attention, sentence by sentence and head by head.
//!
//! Contract, for one sentence and head, queries q_i, keys k_j and values v_j of h columns each,
//! `scale = 1 / sqrt(h)` in two rounded operations. A causal query i sees keys `j <= i` and no
//! other; "j" below goes over what it sees:
//! 1. `x_ij = (q_i . k_j) * scale`, the product's chain over the columns as in
//!    [`crate::product`];
//! 2. `max_i` as [`super::cross_entropy`]'s; `e_ij = exp(x_ij - max_i)`;
//!    `r_i = 1 / (striped sum of e_ij)`; weight `p_ij = e_ij * r_i`;
//! 3. `y_i = ` chain over j of `fma(p_ij * m_ij, v_j, y_i)`, `m` as in [`super::dropout`].
//!
//! Backward from dy, over the same pairs:
//! 1. `w_ij = (dy_i . v_j) * m_ij`, the product's chain over the columns;
//! 2. `a_i = striped fma(w_ij, p_ij, lane)`; `s_ij = (p_ij * (w_ij - a_i)) * scale`;
//! 3. `dv_j` = chain over i of `fma(p_ij * m_ij, dy_i, dv_j)`; `dq_i` = chain over j of
//!    `fma(s_ij, k_j, dq_i)`; `dk_j` = chain over i of `fma(s_ij, q_i, dk_j)`.
//!
//! Tensors: rows of queries, keys and values are columns of packed tensors, head after head:
//! `[tokens, 3 width]` (queries, keys, values) within one sentence, or `[target tokens, width]`
//! and `[source tokens, 2 width]`. `weights` is flat: sentence, head, query, key; pairs that are
//! not seen hold 0; its flat index is dropout's. Units: forward `2 width`, backward `4 width`
//! products a pair seen; pointwise the outputs' elements and, backward, one a weight.
//! Source: Vaswani et al. 2017, 3.2.

use super::{dropout::Drop, v1};
use crate::{
    batch::Ragged,
    math::exp_lanes,
    philox::GROUP,
    product::{
        Matrix,
        pack::{self, room},
        tile::{Operand, Panels, tiles},
    },
    simd::{Kernel, LANES, Simd, run as run_kernel},
};
use protocol::OperatorId;

pub(crate) const ATTENTION: OperatorId = v1("attention");
pub(crate) const BACKWARD: OperatorId = v1("attention-backward");

/// Rows within a packed tensor: `stride` apart, from column `start`.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) start: usize,
}

impl<'a> Packed<'a> {
    /// The rows from `row` on, from a head's first column.
    fn from(&self, row: usize, column: usize) -> &'a [f32] {
        &self.data[row * self.stride + self.start + column..]
    }

    fn matrix(&self, row: usize, column: usize, transposed: bool) -> Matrix<'a> {
        Matrix { data: self.from(row, column), stride: self.stride, transposed }
    }
}

/// What forward and backward share.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) queries: &'a Ragged,
    pub(crate) keys: &'a Ragged,
    pub(crate) causal: bool,
    pub(crate) drop: Drop,
    pub(crate) q: Packed<'a>,
    pub(crate) k: Packed<'a>,
    pub(crate) v: Packed<'a>,
}

/// Memory kept from one sentence to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// Dropout's multipliers of all weights.
    multipliers: Vec<f32>,
    /// Packed right matrices.
    panels: [Vec<f32>; 2],
    /// Weights or their gradients, rows padded to whole vectors.
    square: [Vec<f32>; 2],
    /// The same transposed.
    turned: [Vec<f32>; 2],
}

/// Writes the multipliers of `n` weights, in whole groups.
#[inline(always)]
fn multipliers<S: Simd>(s: S, drop: &Drop, n: usize, to: &mut Vec<f32>) {
    let to = room(to, n.next_multiple_of(GROUP));
    for (g, to) in to.chunks_exact_mut(GROUP).enumerate() {
        let group = drop.group(s, g as u32);
        for (to, m) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(group) {
            s.store(m, to);
        }
    }
}

/// `c_i = ` chain over the keys that query i sees of `fma(a_ij, b_j, c_i)`: rows of `a` are
/// `stride` apart, rows of c `c_stride`.
#[inline(always)]
fn over_keys<S: Simd>(
    s: S,
    causal: bool,
    (queries, keys, columns): (usize, usize, usize),
    (a, stride): (&[f32], usize),
    b: Panels<'_>,
    (c, c_stride): (&mut [f32], usize),
) {
    if !causal {
        let extents = (queries, keys, columns);
        return tiles(s, extents, Operand::Rows(a, stride), b, false, None, c, c_stride);
    }
    for i in 0..queries {
        let (a, c) = (Operand::Rows(&a[i * stride..], stride), &mut c[i * c_stride..]);
        tiles(s, (1, i + 1, columns), a, b, false, None, c, c_stride);
    }
}

/// `c_j = ` chain over the queries that see key j of `fma(a_ji, b_i, c_j)`: as [`over_keys`].
#[inline(always)]
fn over_queries<S: Simd>(
    s: S,
    causal: bool,
    (queries, keys, columns): (usize, usize, usize),
    (a, stride): (&[f32], usize),
    b: Panels<'_>,
    (c, c_stride): (&mut [f32], usize),
) {
    if !causal {
        let extents = (keys, queries, columns);
        return tiles(s, extents, Operand::Rows(a, stride), b, false, None, c, c_stride);
    }
    for j in 0..keys {
        let (a, c) = (Operand::Rows(&a[j * stride + j..], stride), &mut c[j * c_stride..]);
        let b = Panels { from: j, ..b };
        tiles(s, (1, queries - j, columns), a, b, false, None, c, c_stride);
    }
}

struct Forward<'a> {
    of: Attention<'a>,
    scratch: &'a mut Scratch,
    y: &'a mut [f32],
    weights: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, scratch, y, weights } = self;
        let Scratch { multipliers: m, panels: [panels, _], square: [x, _], .. } = scratch;
        let h = of.width / of.heads;
        let scale = s.splat(1.0 / (h as f32).sqrt());
        if !of.drop.is_none() {
            multipliers(s, &of.drop, weights.len(), m);
        }
        let mut at = 0;
        for sentence in 0..of.queries.sentence_count() {
            let (q0, q1) = of.queries.bounds(sentence);
            let (k0, k1) = of.keys.bounds(sentence);
            let (queries, keys) = (q1 - q0, k1 - k0);
            let stride = keys.next_multiple_of(LANES);
            let x = room(x, queries * stride);
            for head in 0..of.heads {
                let column = head * h;
                let b = of.k.matrix(k0, column, true);
                let b = pack::panels(s, b, (0, h), (0, keys), panels);
                let a = Operand::Rows(of.q.from(q0, column), of.q.stride);
                tiles(s, (queries, h, keys), a, b, false, None, x, stride);
                for (i, row) in x.chunks_exact_mut(stride).take(queries).enumerate() {
                    let seen = if of.causal { i + 1 } else { keys };
                    let weights = &mut weights[at..][..keys];
                    let m = (!of.drop.is_none()).then(|| &m[at..][..keys]);
                    softmax(s, row, seen, scale, weights, m);
                    at += keys;
                }
                let b = of.v.matrix(k0, column, false);
                let b = pack::panels(s, b, (0, keys), (0, h), panels);
                let extents = (queries, keys, h);
                let y = (&mut y[q0 * of.width + column..], of.width);
                over_keys(s, of.causal, extents, (x, stride), b, y);
            }
        }
    }
}

/// From products to weights: `row` gets what values are multiplied with, `weights` what backward
/// needs.
#[inline(always)]
fn softmax<S: Simd>(
    s: S,
    row: &mut [f32],
    seen: usize,
    scale: S::F,
    weights: &mut [f32],
    multipliers: Option<&[f32]>,
) {
    let (all, _) = row.as_chunks_mut::<LANES>();
    let vectors = seen.div_ceil(LANES);
    let (used, unused) = all.split_at_mut(vectors);
    let mut most = s.splat(f32::NEG_INFINITY);
    for x in used.iter_mut() {
        s.store(s.mul(s.load(x), scale), x);
    }
    if let Some(last) = used.last_mut() {
        last[seen - (vectors - 1) * LANES..].fill(f32::NEG_INFINITY);
    }
    for x in used.iter() {
        most = s.max(s.load(x), most);
    }
    let max = s.splat(s.largest(most));
    let mut sum = s.splat(0.0);
    for x in used.iter_mut() {
        // Beyond what is seen: exp(-infinity) is 0, and adds nothing.
        let e = exp_lanes(s, s.sub(s.load(x), max));
        sum = s.add(sum, e);
        s.store(e, x);
    }
    let r = s.splat(1.0 / s.sum(sum));
    for x in used.iter_mut() {
        s.store(s.mul(s.load(x), r), x);
    }
    // 0 already, unless the row is all NaN.
    if let Some(last) = used.last_mut() {
        last[seen - (vectors - 1) * LANES..].fill(0.0);
    }
    for x in unused {
        *x = [0.0; LANES];
    }
    let whole = weights.len();
    weights.copy_from_slice(&row[..whole]);
    if let Some(multipliers) = multipliers {
        multiply(s, row, multipliers);
    }
}

/// `row = row * m`, `m` being as long as what is used of the padded row.
#[inline(always)]
fn multiply<S: Simd>(s: S, row: &mut [f32], m: &[f32]) {
    let (row, _) = row.as_chunks_mut::<LANES>();
    let (m, rest) = m.as_chunks::<LANES>();
    for (x, m) in row.iter_mut().zip(m) {
        s.store(s.mul(s.load(x), s.load(m)), x);
    }
    if let (Some(x), false) = (row.get_mut(m.len()), rest.is_empty()) {
        s.store(s.mul(s.load(x), s.load_part(rest, 0.0)), x);
    }
}

/// Forward: writes both.
pub(crate) fn run(of: Attention<'_>, scratch: &mut Scratch, y: &mut [f32], weights: &mut [f32]) {
    run_kernel(Forward { of, scratch, y, weights });
}

/// Where the gradients of queries, keys and values go.
pub(crate) enum Gradients<'a> {
    /// `[tokens, 3 width]`.
    One(&'a mut [f32]),
    /// `[target tokens, width]`, `[source tokens, 2 width]`.
    Two(&'a mut [f32], &'a mut [f32]),
}

impl Gradients<'_> {
    /// The rows of queries' gradients from `row` and `column` on, and their stride.
    fn queries(&mut self, width: usize, row: usize, column: usize) -> (&mut [f32], usize) {
        match self {
            Self::One(all) => (&mut all[row * 3 * width + column..], 3 * width),
            Self::Two(queries, _) => (&mut queries[row * width + column..], width),
        }
    }

    /// The same of keys (`part` 0) or values (`part` 1).
    fn keys(
        &mut self,
        width: usize,
        part: usize,
        row: usize,
        column: usize,
    ) -> (&mut [f32], usize) {
        match self {
            Self::One(all) => (&mut all[(row * 3 + 1 + part) * width + column..], 3 * width),
            Self::Two(_, keys) => (&mut keys[(row * 2 + part) * width + column..], 2 * width),
        }
    }
}

struct Backward<'a> {
    of: Attention<'a>,
    weights: &'a [f32],
    dy: &'a [f32],
    scratch: &'a mut Scratch,
    gradients: Gradients<'a>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, weights, dy, scratch, mut gradients } = self;
        let Scratch { multipliers: m, panels: [panels, _], square, turned } = scratch;
        let [w, p] = square;
        let [w_turned, p_turned] = turned;
        let (d, h) = (of.width, of.width / of.heads);
        let scale = s.splat(1.0 / (h as f32).sqrt());
        if !of.drop.is_none() {
            multipliers(s, &of.drop, weights.len(), m);
        }
        let dy = Packed { data: dy, stride: d, start: 0 };
        let mut at = 0;
        for sentence in 0..of.queries.sentence_count() {
            let (q0, q1) = of.queries.bounds(sentence);
            let (k0, k1) = of.keys.bounds(sentence);
            let (queries, keys) = (q1 - q0, k1 - k0);
            let extents = (queries, keys, h);
            let stride = keys.next_multiple_of(LANES);
            let turned_stride = queries.next_multiple_of(LANES);
            // Whole blocks, so that they can be transposed; what pads them is never read.
            let w = room(w, turned_stride * stride);
            let p = room(p, turned_stride * stride);
            let w_turned = room(w_turned, turned_stride * stride);
            let p_turned = room(p_turned, turned_stride * stride);
            for head in 0..of.heads {
                let column = head * h;
                let b = of.v.matrix(k0, column, true);
                let b = pack::panels(s, b, (0, h), (0, keys), panels);
                let a = Operand::Rows(dy.from(q0, column), d);
                tiles(s, (queries, h, keys), a, b, false, None, w, stride);
                let rows = w.chunks_exact_mut(stride).zip(p.chunks_exact_mut(stride));
                for (i, (w, p)) in rows.take(queries).enumerate() {
                    let seen = if of.causal { i + 1 } else { keys };
                    let weights = &weights[at..][..keys];
                    let m = (!of.drop.is_none()).then(|| &m[at..][..keys]);
                    p[..keys].copy_from_slice(weights);
                    p[keys..].fill(0.0);
                    w[seen..].fill(0.0);
                    softmax_backward(s, w, p, scale, m);
                    at += keys;
                }
                let b = of.k.matrix(k0, column, false);
                let b = pack::panels(s, b, (0, keys), (0, h), panels);
                let dq = gradients.queries(d, q0, column);
                over_keys(s, of.causal, extents, (w, stride), b, dq);

                turn(s, w, stride, w_turned, turned_stride);
                let b = of.q.matrix(q0, column, false);
                let b = pack::panels(s, b, (0, queries), (0, h), panels);
                let dk = gradients.keys(d, 0, k0, column);
                over_queries(s, of.causal, extents, (w_turned, turned_stride), b, dk);

                turn(s, p, stride, p_turned, turned_stride);
                let b = dy.matrix(q0, column, false);
                let b = pack::panels(s, b, (0, queries), (0, h), panels);
                let dv = gradients.keys(d, 1, k0, column);
                over_queries(s, of.causal, extents, (p_turned, turned_stride), b, dv);
            }
        }
    }
}

/// `w` becomes the gradient of the products, `p` what values were multiplied with.
#[inline(always)]
fn softmax_backward<S: Simd>(
    s: S,
    w: &mut [f32],
    p: &mut [f32],
    scale: S::F,
    multipliers: Option<&[f32]>,
) {
    if let Some(m) = multipliers {
        multiply(s, w, m);
    }
    let mut sum = s.splat(0.0);
    {
        let (w, p) = (w.as_chunks_mut::<LANES>().0, p.as_chunks::<LANES>().0);
        for (w, p) in w.iter().zip(p) {
            sum = s.fma(s.load(w), s.load(p), sum);
        }
        let a = s.splat(s.sum(sum));
        for (w, p) in w.iter_mut().zip(p) {
            s.store(s.mul(s.mul(s.load(p), s.sub(s.load(w), a)), scale), w);
        }
    }
    if let Some(m) = multipliers {
        multiply(s, p, m);
    }
}

/// Transposes in whole blocks of sixteen.
#[inline(always)]
fn turn<S: Simd>(s: S, from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
    for i in (0..to_stride).step_by(LANES) {
        for j in (0..stride).step_by(LANES) {
            let mut block = [s.splat(0.0); LANES];
            for (l, row) in block.iter_mut().enumerate() {
                if let Some(from) = from[(i + l) * stride + j..].first_chunk() {
                    *row = s.load(from);
                }
            }
            for (l, row) in s.transpose(block).into_iter().enumerate() {
                if let Some(to) = to[(j + l) * to_stride + i..].first_chunk_mut() {
                    s.store(row, to);
                }
            }
        }
    }
}

/// Backward: writes the gradients.
pub(crate) fn run_backward(
    of: Attention<'_>,
    weights: &[f32],
    dy: &[f32],
    scratch: &mut Scratch,
    gradients: Gradients<'_>,
) {
    run_kernel(Backward { of, weights, dy, scratch, gradients });
}

#[cfg(test)]
pub(crate) mod reference {
    use super::*;
    use crate::{math::exp, operators::cross_entropy::reference_largest, striped};

    impl Packed<'_> {
        fn at(&self, row: usize, column: usize) -> f32 {
            self.data[row * self.stride + self.start + column]
        }
    }

    /// `y` and `weights`.
    pub(crate) fn forward(of: Attention<'_>) -> (Vec<f32>, Vec<f32>) {
        let h = of.width / of.heads;
        let scale = 1.0 / (h as f32).sqrt();
        let mut y = vec![0.0; of.queries.tokens().len() * of.width];
        let mut weights = Vec::new();
        for s in 0..of.queries.sentence_count() {
            let (q0, q1) = of.queries.bounds(s);
            let (k0, k1) = of.keys.bounds(s);
            for head in 0..of.heads {
                for i in q0..q1 {
                    let seen = if of.causal { i - q0 + 1 } else { k1 - k0 };
                    let mut row: Vec<f32> = (0..seen)
                        .map(|j| {
                            (0..h).fold(0.0f32, |sum, c| {
                                of.q.at(i, head * h + c).mul_add(of.k.at(k0 + j, head * h + c), sum)
                            }) * scale
                        })
                        .collect();
                    let max = reference_largest(&row);
                    row.iter_mut().for_each(|x| *x = exp(*x - max));
                    let r = 1.0 / striped::sum(row.iter().copied());
                    for (j, e) in row.into_iter().enumerate() {
                        let p = e * r;
                        let w = p * of.drop.multiplier(weights.len());
                        weights.push(p);
                        for c in head * h..(head + 1) * h {
                            let y = &mut y[i * of.width + c];
                            *y = w.mul_add(of.v.at(k0 + j, c), *y);
                        }
                    }
                    weights.resize(weights.len() + (k1 - k0 - seen), 0.0);
                }
            }
        }
        (y, weights)
    }

    /// `dq`, `dk` and `dv`, each with rows of the width.
    pub(crate) fn backward(
        of: Attention<'_>,
        weights: &[f32],
        dy: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (d, h) = (of.width, of.width / of.heads);
        let scale = 1.0 / (h as f32).sqrt();
        let mut dq = vec![0.0f32; of.queries.tokens().len() * d];
        let mut dk = vec![0.0f32; of.keys.tokens().len() * d];
        let mut dv = dk.clone();
        let mut at = 0;
        for s in 0..of.queries.sentence_count() {
            let (q0, q1) = of.queries.bounds(s);
            let (k0, k1) = of.keys.bounds(s);
            for head in 0..of.heads {
                for i in q0..q1 {
                    let seen = if of.causal { i - q0 + 1 } else { k1 - k0 };
                    let p = &weights[at..][..seen];
                    let m: Vec<f32> = (0..seen).map(|j| of.drop.multiplier(at + j)).collect();
                    let w: Vec<f32> = (0..seen)
                        .map(|j| {
                            (head * h..(head + 1) * h).fold(0.0f32, |sum, c| {
                                dy[i * d + c].mul_add(of.v.at(k0 + j, c), sum)
                            }) * m[j]
                        })
                        .collect();
                    let mut lanes = [0.0f32; 16];
                    for j in 0..seen {
                        lanes[j % 16] = w[j].mul_add(p[j], lanes[j % 16]);
                    }
                    let a = striped::tree(lanes);
                    for j in 0..seen {
                        let s = (p[j] * (w[j] - a)) * scale;
                        for c in head * h..(head + 1) * h {
                            let (q, k) = (i * d + c, (k0 + j) * d + c);
                            dv[k] = (p[j] * m[j]).mul_add(dy[q], dv[k]);
                            dq[q] = s.mul_add(of.k.at(k0 + j, c), dq[q]);
                            dk[k] = s.mul_add(of.q.at(i, c), dk[k]);
                        }
                    }
                    at += k1 - k0;
                }
            }
        }
        (dq, dk, dv)
    }
}
