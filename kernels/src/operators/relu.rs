//! ReLU with dropout: `y = (0 > x ? 0 : x) * m`, one rounded product; `m` as in
//! [`super::dropout`]. Backward: `dx = y > 0 ? dy * scale : 0`, `scale` being `m` where nothing is
//! dropped: a positive output was neither cut off nor dropped. `x, y, dy, dx: [tokens, inner]`.
//!
//! NaN stays NaN going forward. Units: elements of the output.

use super::{dropout::Drop, flat, v1};
use crate::simd::Simd;
use protocol::OperatorId;

pub(crate) const RELU: OperatorId = v1("relu");
pub(crate) const BACKWARD: OperatorId = v1("relu-backward");

struct Forward;
impl flat::Elementwise for Forward {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, x: S::F, _: S::F, m: S::F) -> S::F {
        s.mul(s.max(s.splat(0.0), x), m)
    }
}

struct Backward {
    scale: f32,
}
impl flat::Elementwise for Backward {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, dy: S::F, y: S::F, _: S::F) -> S::F {
        let zero = s.splat(0.0);
        s.select(s.gt(y, zero), s.mul(dy, s.splat(self.scale)), zero)
    }
}

pub(crate) fn run(x: &[f32], drop: Drop, y: &mut [f32]) {
    flat::map(Forward, x, x, drop, y);
}

pub(crate) fn run_backward(dy: &[f32], y: &[f32], scale: f32, dx: &mut [f32]) {
    flat::map(Backward { scale }, dy, y, Drop::NONE, dx);
}

#[cfg(test)]
pub(crate) fn reference(x: &[f32], drop: Drop) -> Vec<f32> {
    let relu = |x: f32| if 0.0 > x { 0.0 } else { x };
    x.iter().enumerate().map(|(i, x)| relu(*x) * drop.multiplier(i)).collect()
}

#[cfg(test)]
pub(crate) fn reference_backward(dy: &[f32], y: &[f32], scale: f32) -> Vec<f32> {
    dy.iter().zip(y).map(|(dy, y)| if *y > 0.0 { dy * scale } else { 0.0 }).collect()
}
