//! Adam.
//!
//! Contract, for each element: gradient sum s, moments m and v, parameter w; `factor` as
//! [`super::clip`] gives it, corrections and rate as [`super::schedule`]:
//! 1. `g = s * factor`; `o1 = 1 - beta1`, `o2 = 1 - beta2`;
//! 2. `m = fma(beta1, m, o1 * g)`; `v = fma(beta2, v, o2 * (g * g))`;
//! 3. `n = m * correction1`; `d = sqrt(v * correction2) + epsilon`;
//! 4. `w = w - (rate * n) / d`.
//!
//! Units: three elements a parameter. Source: Kingma and Ba 2015, algorithm 1.

use super::v1;
use crate::simd::{Kernel, LANES, Simd, run as run_kernel};
use protocol::OperatorId;

pub(crate) const ADAM: OperatorId = v1("adam");

/// A step's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) factor: f32,
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) correction1: f32,
    pub(crate) correction2: f32,
    pub(crate) rate: f32,
    pub(crate) epsilon: f32,
}

struct Adam<'a> {
    step: Step,
    sum: &'a [f32],
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

#[inline(always)]
fn lanes<S: Simd>(s: S, step: &Step, sum: S::F, w: S::F, m: S::F, v: S::F) -> (S::F, S::F, S::F) {
    let (beta1, beta2) = (s.splat(step.beta1), s.splat(step.beta2));
    let (o1, o2) = (s.splat(1.0 - step.beta1), s.splat(1.0 - step.beta2));
    let g = s.mul(sum, s.splat(step.factor));
    let m = s.fma(beta1, m, s.mul(o1, g));
    let v = s.fma(beta2, v, s.mul(o2, s.mul(g, g)));
    let n = s.mul(m, s.splat(step.correction1));
    let d = s.add(s.sqrt(s.mul(v, s.splat(step.correction2))), s.splat(step.epsilon));
    let w = s.sub(w, s.div(s.mul(s.splat(step.rate), n), d));
    (w, m, v)
}

impl Kernel for Adam<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, sum, w, m, v } = self;
        let (sum, sum_rest) = sum.as_chunks::<LANES>();
        let (w, w_rest) = w.as_chunks_mut::<LANES>();
        let (m, m_rest) = m.as_chunks_mut::<LANES>();
        let (v, v_rest) = v.as_chunks_mut::<LANES>();
        for (((sum, w), m), v) in sum.iter().zip(w).zip(m).zip(v) {
            let new = lanes(s, &step, s.load(sum), s.load(w), s.load(m), s.load(v));
            s.store(new.0, w);
            s.store(new.1, m);
            s.store(new.2, v);
        }
        if !w_rest.is_empty() {
            let (a, b) = (s.load_part(sum_rest, 0.0), s.load_part(w_rest, 0.0));
            let (c, d) = (s.load_part(m_rest, 0.0), s.load_part(v_rest, 0.0));
            let new = lanes(s, &step, a, b, c, d);
            s.store_part(new.0, w_rest);
            s.store_part(new.1, m_rest);
            s.store_part(new.2, v_rest);
        }
    }
}

pub(crate) fn run(step: Step, sum: &[f32], w: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    run_kernel(Adam { step, sum, w, m, v });
}

#[cfg(test)]
pub(crate) fn reference(step: Step, sum: f32, w: f32, m: f32, v: f32) -> [f32; 3] {
    let g = sum * step.factor;
    let m = step.beta1.mul_add(m, (1.0 - step.beta1) * g);
    let v = step.beta2.mul_add(v, (1.0 - step.beta2) * (g * g));
    let n = m * step.correction1;
    let d = (v * step.correction2).sqrt() + step.epsilon;
    [w - (step.rate * n) / d, m, v]
}
