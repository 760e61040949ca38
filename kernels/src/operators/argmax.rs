//! The index of each row's largest logit; of several equal ones the lowest. `logits: [rows,
//! vocabulary]`. NaN is never the largest. Units: one a row.

use super::v1;
use crate::simd::{Kernel, LANES, Simd, run as run_kernel};
use protocol::OperatorId;

pub(crate) const ARGMAX: OperatorId = v1("argmax");

struct Argmax<'a> {
    logits: &'a [f32],
    out: &'a mut [u32],
}

impl Kernel for Argmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let v = self.logits.len() / self.out.len();
        for (row, out) in self.logits.chunks_exact(v).zip(self.out) {
            let (x, rest) = row.as_chunks::<LANES>();
            let mut most = s.splat(f32::NEG_INFINITY);
            for x in x {
                most = s.max(s.load(x), most);
            }
            if !rest.is_empty() {
                most = s.max(s.load_part(rest, f32::NEG_INFINITY), most);
            }
            let most = s.largest(most);
            // Comparing takes -0 and +0 for equal, as the reference does.
            *out = row.iter().position(|&x| x == most).unwrap_or(0) as u32;
        }
    }
}

pub(crate) fn run(logits: &[f32], out: &mut [u32]) {
    if !out.is_empty() {
        run_kernel(Argmax { logits, out });
    }
}

#[cfg(test)]
pub(crate) fn reference(row: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        if *x > row[best] || row[best].is_nan() && !x.is_nan() {
            best = i;
        }
    }
    best as u32
}
