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
use crate::{batch::Ragged, math::exp, product::Packing, striped};
use protocol::OperatorId;

pub(crate) const ATTENTION: OperatorId = v1("attention");
pub(crate) const BACKWARD: OperatorId = v1("attention-backward");

/// Rows within a packed tensor: `columns` of them, `stride` apart, from column `start`.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) start: usize,
}

impl Packed<'_> {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.stride + self.start + column]
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

pub(crate) fn run(of: Attention<'_>, _packing: &mut Packing, y: &mut [f32], weights: &mut [f32]) {
    let (a, b) = reference(of);
    y.copy_from_slice(&a);
    weights.copy_from_slice(&b);
}

/// Where the gradients go: of queries, keys and values, each with its stride and first column.
pub(crate) enum Gradients<'a> {
    /// `[tokens, 3 width]`.
    One(&'a mut [f32]),
    /// `[target tokens, width]`, `[source tokens, 2 width]`.
    Two(&'a mut [f32], &'a mut [f32]),
}

pub(crate) fn run_backward(
    of: Attention<'_>,
    weights: &[f32],
    dy: &[f32],
    _packing: &mut Packing,
    gradients: Gradients<'_>,
) {
    let (dq, dk, dv) = reference_backward(of, weights, dy);
    let d = of.width;
    match gradients {
        Gradients::One(out) => {
            for (t, row) in out.chunks_exact_mut(3 * d).enumerate() {
                row[..d].copy_from_slice(&dq[t * d..][..d]);
                row[d..2 * d].copy_from_slice(&dk[t * d..][..d]);
                row[2 * d..].copy_from_slice(&dv[t * d..][..d]);
            }
        }
        Gradients::Two(q, kv) => {
            q.copy_from_slice(&dq);
            for (t, row) in kv.chunks_exact_mut(2 * d).enumerate() {
                row[..d].copy_from_slice(&dk[t * d..][..d]);
                row[d..].copy_from_slice(&dv[t * d..][..d]);
            }
        }
    }
}

pub(crate) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for (i, &x) in row.iter().enumerate() {
        let lane = &mut lanes[i % 16];
        *lane = if x > *lane { x } else { *lane };
    }
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            let (upper, lower) = (lanes[l + width], lanes[l]);
            lanes[l] = if upper > lower { upper } else { lower };
        }
    }
    lanes[0]
}

fn multiplier(drop: &Drop, i: usize) -> f32 {
    drop.multiplier(i)
}

/// `y` and `weights`.
pub(crate) fn reference(of: Attention<'_>) -> (Vec<f32>, Vec<f32>) {
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
                let max = largest(&row);
                row.iter_mut().for_each(|x| *x = exp(*x - max));
                let r = 1.0 / striped::sum(row.iter().copied());
                for (j, e) in row.into_iter().enumerate() {
                    let p = e * r;
                    let w = p * multiplier(&of.drop, weights.len());
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
pub(crate) fn reference_backward(
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
                let m: Vec<f32> = (0..seen).map(|j| multiplier(&of.drop, at + j)).collect();
                let w: Vec<f32> = (0..seen)
                    .map(|j| {
                        (head * h..(head + 1) * h)
                            .fold(0.0f32, |sum, c| dy[i * d + c].mul_add(of.v.at(k0 + j, c), sum))
                            * m[j]
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
