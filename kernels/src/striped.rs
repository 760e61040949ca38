//! The pinned sum of a row.
//!
//! Contract: lane `l` of sixteen adds elements `l, l + 16, l + 32, ...` in that order, from +0
//! (or continues `fma(a, b, lane)` where products are summed); then lanes 8 to 15 are added onto 0
//! to 7, 4 to 7 onto 0 to 3, 2 and 3 onto 0 and 1, and 1 onto 0. A lane never is -0, so a missing
//! element and +0 are the same.

use crate::simd::LANES;

/// Adds up sixteen lanes.
pub(crate) fn tree(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of `elements`: the plain reference.
pub(crate) fn sum(elements: impl IntoIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, element) in elements.into_iter().enumerate() {
        lanes[i % LANES] += element;
    }
    tree(lanes)
}
