//! `y = a + b`, one rounded addition an element. `a, b, y: [n]`.
//!
//! Units: n elements.

use super::{dropout::Drop, flat, v1};
use crate::simd::Simd;
use protocol::OperatorId;

pub(crate) const ADD: OperatorId = v1("add");

struct Add;
impl flat::Elementwise for Add {
    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, a: S::F, b: S::F, _: S::F) -> S::F {
        s.add(a, b)
    }
}

pub(crate) fn run(a: &[f32], b: &[f32], y: &mut [f32]) {
    flat::map(Add, a, b, Drop::NONE, y);
}

#[cfg(test)]
pub(crate) fn reference(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
