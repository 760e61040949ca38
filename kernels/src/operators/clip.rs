//! Clipping by norm, with the division by the step's target tokens.
//!
//! Contract, for a gradient sum s over n target tokens and a largest norm c:
//! 1. each run of 1,024 elements (the last may be shorter) gives `q = striped fma(s_i, s_i, lane)`;
//!    the squares are the striped sum of the runs' q;
//! 2. `inverse = 1 / n`; `norm = sqrt(squares) * inverse`;
//! 3. `factor = inverse * (c / norm)` where `c > 0` and `norm > c`, else `inverse`.
//!
//! The gradient that the optimiser takes is `s_i * factor`. Output: `norm, factor`. Units: the
//! gradient's elements and 2. Source: Pascanu, Mikolov, Bengio 2013.

use super::v1;
use crate::{
    simd::{Kernel, LANES, Simd, run as run_kernel},
    striped,
};
use protocol::OperatorId;

pub(crate) const CLIP: OperatorId = v1("clip");

/// Elements of a run: as many as a tile of the tensor digest holds.
const RUN: usize = 1_024;

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut total = [0.0f32; LANES];
        for (i, run) in self.0.chunks(RUN).enumerate() {
            let (x, rest) = run.as_chunks::<LANES>();
            let mut lanes = s.splat(0.0);
            for x in x {
                let x = s.load(x);
                lanes = s.fma(x, x, lanes);
            }
            if !rest.is_empty() {
                let x = s.load_part(rest, 0.0);
                lanes = s.fma(x, x, lanes);
            }
            total[i % LANES] += s.sum(lanes);
        }
        striped::tree(total)
    }
}

/// `norm, factor`.
pub(crate) fn run(sum: &[f32], tokens: f32, most: f32) -> [f32; 2] {
    let inverse = 1.0 / tokens;
    let norm = run_kernel(Squares(sum)).sqrt() * inverse;
    let factor = if most > 0.0 && norm > most { inverse * (most / norm) } else { inverse };
    [norm, factor]
}

#[cfg(test)]
pub(crate) fn reference_squares(sum: &[f32]) -> f32 {
    striped::sum(sum.chunks(RUN).map(|run| {
        let mut lanes = [0.0f32; LANES];
        for (i, x) in run.iter().enumerate() {
            lanes[i % LANES] = x.mul_add(*x, lanes[i % LANES]);
        }
        striped::tree(lanes)
    }))
}

#[cfg(test)]
pub(crate) fn squares_on(isa: crate::isa::Isa, sum: &[f32]) -> f32 {
    crate::simd::dispatch(isa, Squares(sum))
}
