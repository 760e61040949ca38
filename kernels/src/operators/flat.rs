//! The walk over whole tensors, element by element, that simple operators share.

use super::dropout::Drop;
use crate::{
    philox::GROUP,
    simd::{Kernel, LANES, Simd, run},
};

/// What is done to each element; `m` is its dropout multiplier.
pub(super) trait Elementwise {
    /// `#[inline(always)]` in every implementation.
    fn lanes<S: Simd>(&self, s: S, a: S::F, b: S::F, m: S::F) -> S::F;
}

struct Flat<'a, E> {
    each: E,
    a: &'a [f32],
    b: &'a [f32],
    drop: Drop,
    out: &'a mut [f32],
}

impl<E: Elementwise> Kernel for Flat<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { each, a, b, drop, out } = self;
        let mut multipliers = [s.splat(1.0); GROUP / LANES];
        let groups = out.chunks_mut(GROUP).zip(a.chunks(GROUP)).zip(b.chunks(GROUP));
        for (g, ((out, a), b)) in groups.enumerate() {
            if !drop.is_none() {
                multipliers = drop.group(s, g as u32);
            }
            let (out, out_rest) = out.as_chunks_mut::<LANES>();
            let (a, a_rest) = a.as_chunks::<LANES>();
            let (b, b_rest) = b.as_chunks::<LANES>();
            for (((out, a), b), m) in out.iter_mut().zip(a).zip(b).zip(multipliers) {
                s.store(each.lanes(s, s.load(a), s.load(b), m), out);
            }
            if !out_rest.is_empty() {
                let m = multipliers[out.len()];
                let (a, b) = (s.load_part(a_rest, 0.0), s.load_part(b_rest, 0.0));
                s.store_part(each.lanes(s, a, b, m), out_rest);
            }
        }
    }
}

/// `out[i] = each(a[i], b[i], m(i))`.
pub(super) fn map<E: Elementwise>(each: E, a: &[f32], b: &[f32], drop: Drop, out: &mut [f32]) {
    debug_assert!(a.len() == out.len() && b.len() == out.len());
    run(Flat { each, a, b, drop, out });
}
