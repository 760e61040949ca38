//! The residual connection: `y = x + branch * m`, a rounded product and a rounded sum; `m` as in
//! [`super::dropout`]. Backward, for the branch: `d = dy * m` (for `x` it is `dy` itself).
//! `x, branch, y, dy, d: [tokens, width]`.
//!
//! Units: elements of the output. Source: He et al. 2015; dropout there: Vaswani et al. 2017, 5.4.

use super::{dropout::Drop, flat, v1};
use crate::simd::Simd;
use protocol::OperatorId;

pub(crate) const RESIDUAL: OperatorId = v1("residual");
pub(crate) const BACKWARD: OperatorId = v1("residual-backward");

struct Forward;
impl flat::Elementwise for Forward {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, x: S::F, branch: S::F, m: S::F) -> S::F {
        s.add(x, s.mul(branch, m))
    }
}

struct Backward;
impl flat::Elementwise for Backward {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, dy: S::F, _: S::F, m: S::F) -> S::F {
        s.mul(dy, m)
    }
}

pub(crate) fn run(x: &[f32], branch: &[f32], drop: Drop, y: &mut [f32]) {
    flat::map(Forward, x, branch, drop, y);
}

pub(crate) fn run_backward(dy: &[f32], drop: Drop, d: &mut [f32]) {
    flat::map(Backward, dy, dy, drop, d);
}

#[cfg(test)]
pub(crate) fn reference(x: &[f32], branch: &[f32], drop: Drop) -> Vec<f32> {
    x.iter().zip(branch).enumerate().map(|(i, (x, b))| x + b * drop.multiplier(i)).collect()
}

#[cfg(test)]
pub(crate) fn reference_backward(dy: &[f32], drop: Drop) -> Vec<f32> {
    dy.iter().enumerate().map(|(i, dy)| dy * drop.multiplier(i)).collect()
}
