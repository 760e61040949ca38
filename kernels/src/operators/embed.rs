//! Token embedding with position.
//!
//! Contract: `y[t][c] = fma(E[id_t][c], root, P[p_t][c]) * m(t width + c)`; `root` is the square
//! root of the width, `P` [`super::positions`]' table, `p_t` the token's place in its sentence,
//! `m` as in [`super::dropout`]. `E: [vocabulary, width]`, `y: [tokens, width]`.
//!
//! Backward: for each token in order, `dE[id_t][c] = dE[id_t][c] + (dy[t][c] * m) * root`.
//!
//! Units: elements of the output, or of `dy`. Source: Vaswani et al. 2017, 3.4 and 3.5.

use super::{dropout::Drop, flat, v1};
use crate::{
    batch::Ragged,
    simd::{Kernel, LANES, Simd, run as run_kernel},
};
use protocol::OperatorId;

pub(crate) const EMBED: OperatorId = v1("embed");
pub(crate) const BACKWARD: OperatorId = v1("embed-backward");

/// What forward and backward share.
#[derive(Clone, Copy)]
pub(crate) struct Embed<'a> {
    pub(crate) width: usize,
    pub(crate) tokens: &'a Ragged,
    /// The position of each sentence's first token.
    pub(crate) first_position: usize,
    pub(crate) drop: Drop,
}

struct Rows<'a> {
    of: Embed<'a>,
    embedding: &'a [f32],
    positions: &'a [f32],
    root: f32,
    y: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, embedding, positions, root, y } = self;
        let d = of.width;
        let root = s.splat(root);
        let mut rows = y.chunks_exact_mut(d);
        for sentence in of.tokens.sentences() {
            for (p, (&id, y)) in sentence.iter().zip(rows.by_ref()).enumerate() {
                let e = &embedding[id as usize * d..][..d];
                let p = &positions[(of.first_position + p) * d..][..d];
                let (y, y_rest) = y.as_chunks_mut::<LANES>();
                let (e, e_rest) = e.as_chunks::<LANES>();
                let (p, p_rest) = p.as_chunks::<LANES>();
                for ((y, e), p) in y.iter_mut().zip(e).zip(p) {
                    s.store(s.fma(s.load(e), root, s.load(p)), y);
                }
                if !y_rest.is_empty() {
                    let (e, p) = (s.load_part(e_rest, 0.0), s.load_part(p_rest, 0.0));
                    s.store_part(s.fma(e, root, p), y_rest);
                }
            }
        }
    }
}

struct Scaled;
impl flat::Elementwise for Scaled {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, a: S::F, _: S::F, m: S::F) -> S::F {
        s.mul(a, m)
    }
}

pub(crate) fn run(
    of: Embed<'_>,
    embedding: &[f32],
    positions: &[f32],
    scratch: &mut Vec<f32>,
    y: &mut [f32],
) {
    let root = (of.width as f32).sqrt();
    if of.drop.is_none() {
        return run_kernel(Rows { of, embedding, positions, root, y });
    }
    if scratch.len() < y.len() {
        scratch.resize(y.len(), 0.0);
    }
    let rows = &mut scratch[..y.len()];
    run_kernel(Rows { of, embedding, positions, root, y: rows });
    flat::map(Scaled, rows, rows, of.drop, y);
}

struct Scatter<'a> {
    of: Embed<'a>,
    dropped: &'a [f32],
    root: f32,
    de: &'a mut [f32],
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dropped, root, de } = self;
        let d = of.width;
        let root = s.splat(root);
        for (&id, row) in of.tokens.tokens().iter().zip(dropped.chunks_exact(d)) {
            let de = &mut de[id as usize * d..][..d];
            let (de, de_rest) = de.as_chunks_mut::<LANES>();
            let (row, row_rest) = row.as_chunks::<LANES>();
            for (de, row) in de.iter_mut().zip(row) {
                s.store(s.add(s.load(de), s.mul(s.load(row), root)), de);
            }
            if !de_rest.is_empty() {
                let (old, row) = (s.load_part(de_rest, 0.0), s.load_part(row_rest, 0.0));
                s.store_part(s.add(old, s.mul(row, root)), de_rest);
            }
        }
    }
}

pub(crate) fn run_backward(of: Embed<'_>, dy: &[f32], scratch: &mut Vec<f32>, de: &mut [f32]) {
    let root = (of.width as f32).sqrt();
    if of.drop.is_none() {
        return run_kernel(Scatter { of, dropped: dy, root, de });
    }
    if scratch.len() < dy.len() {
        scratch.resize(dy.len(), 0.0);
    }
    let dropped = &mut scratch[..dy.len()];
    flat::map(Scaled, dy, dy, of.drop, dropped);
    run_kernel(Scatter { of, dropped, root, de });
}

#[cfg(test)]
pub(crate) fn reference(of: Embed<'_>, embedding: &[f32], positions: &[f32]) -> Vec<f32> {
    let (d, root) = (of.width, (of.width as f32).sqrt());
    let mut y = Vec::new();
    for sentence in of.tokens.sentences() {
        for (p, &id) in sentence.iter().enumerate() {
            for c in 0..d {
                let position = positions[(of.first_position + p) * d + c];
                let value = embedding[id as usize * d + c].mul_add(root, position);
                y.push(value * of.drop.multiplier(y.len()));
            }
        }
    }
    y
}

#[cfg(test)]
pub(crate) fn reference_backward(of: Embed<'_>, dy: &[f32], de: &mut [f32]) {
    let (d, root) = (of.width, (of.width as f32).sqrt());
    for (t, &id) in of.tokens.tokens().iter().enumerate() {
        for c in 0..d {
            let i = t * d + c;
            de[id as usize * d + c] += (dy[i] * of.drop.multiplier(i)) * root;
        }
    }
}
