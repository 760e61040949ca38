//! e^x.
//!
//! Contract, for each x:
//! 1. x is raised to -104 and lowered to 89 (beyond, the result is 0 or infinity anyway);
//! 2. `t = fma(x, log2(e), 1.5 2^23)`, `n = t - 1.5 2^23`: the nearest integer;
//! 3. `r = fma(-n, ln2 upper, x)`, then `r = fma(-n, ln2 lower, r)`;
//! 4. `p = Q4`, then `p = fma(p, r, Q3)`, ... `fma(p, r, Q0)`, `fma(p, r, 1)`, `fma(p, r, 1)`;
//! 5. `p * 2^(n >> 1) * 2^(n - (n >> 1))`, two rounded products of which the first is exact.
//!
//! NaN gives NaN. `e^x = 1 + r + r^2 Q(r)`, Q by a Remez exchange of our own for least relative
//! error on |r| <= ln(2)/2: 0.051 2^-24. Largest error measured: see the test.

use super::fma;
use crate::simd::Simd;

const LEAST: f32 = -104.0;
const MOST: f32 = 89.0;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// Adding it rounds to an integer, which then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;
const LN2_UPPER: f32 = std::f32::consts::LN_2;
#[allow(clippy::excessive_precision)]
const LN2_LOWER: f32 = -1.904_654_212_125_933_6e-9;
#[allow(clippy::excessive_precision)]
const Q: [f32; 5] = [
    0.499_999_940_395_355_2,
    0.166_665_211_319_923_4,
    0.041_668_388_992_547_99,
    0.008_368_724_025_785_923,
    0.001_381_458_132_527_768_6,
];

/// e^x, as the module says.
pub fn exp(x: f32) -> f32 {
    let x = if LEAST > x { LEAST } else { x };
    let x = if x > MOST { MOST } else { x };
    let t = fma(x, LOG2_E, ROUNDER);
    let n = t - ROUNDER;
    let r = fma(-n, LN2_UPPER, x);
    let r = fma(-n, LN2_LOWER, r);
    let mut p = Q[4];
    for q in [Q[3], Q[2], Q[1], Q[0], 1.0, 1.0] {
        p = fma(p, r, q);
    }
    let n = t.to_bits().wrapping_sub(ROUNDER.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// [`exp`] of each lane.
#[inline(always)]
pub(crate) fn exp_lanes<S: Simd>(s: S, x: S::F) -> S::F {
    let least = s.splat(LEAST);
    let x = s.select(s.gt(least, x), least, x);
    let most = s.splat(MOST);
    let x = s.select(s.gt(x, most), most, x);
    let rounder = s.splat(ROUNDER);
    let t = s.fma(x, s.splat(LOG2_E), rounder);
    let n = s.sub(t, rounder);
    let r = s.fnma(n, s.splat(LN2_UPPER), x);
    let r = s.fnma(n, s.splat(LN2_LOWER), r);
    let p = s.splat(Q[4]);
    let p = s.fma(p, r, s.splat(Q[3]));
    let p = s.fma(p, r, s.splat(Q[2]));
    let p = s.fma(p, r, s.splat(Q[1]));
    let p = s.fma(p, r, s.splat(Q[0]));
    let one = s.splat(1.0);
    let p = s.fma(p, r, one);
    let p = s.fma(p, r, one);
    let n = s.sub_u(s.to_bits(t), s.to_bits(rounder));
    let half = s.shift_right_i::<1>(n);
    let bias = s.splat_u(127);
    let first = s.float_of_bits(s.shift_left_u::<23>(s.add_u(half, bias)));
    let second = s.float_of_bits(s.shift_left_u::<23>(s.add_u(s.sub_u(n, half), bias)));
    s.mul(s.mul(p, first), second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        isa,
        math::tests::{same, ulps},
        simd::{Kernel, LANES, dispatch},
    };

    /// Every 4,099th of all float32: a million, over every exponent and both signs.
    fn stratified() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(4_099).map(f32::from_bits)
    }

    #[test]
    fn the_error_stays_below_0_9_ulp() {
        let mut worst = (0.0, 0.0);
        // All that matters lies in [-104, 89]; the stratified floats alone would thin it out.
        let dense = (0..1_000_000).map(|i| -104.0 + i as f32 * 1.93e-4);
        for x in stratified().chain(dense).filter(|x| !x.is_nan()) {
            let error = ulps(exp(x), f64::from(x).exp());
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 < 0.9, "{worst:?}");
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(exp(0.0).to_bits(), 1f32.to_bits());
        assert_eq!(exp(-0.0).to_bits(), 1f32.to_bits());
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-103.0), 1e-45);
        assert!(exp(f32::NAN).is_nan());
    }

    struct Exp<'a>(&'a [f32; LANES]);
    impl Kernel for Exp<'_> {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let mut out = [0.0; LANES];
            s.store(exp_lanes(s, s.load(self.0)), &mut out);
            out
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let all: Vec<f32> = stratified().collect();
        for isa in isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for x in all.as_chunks::<LANES>().0 {
                for (found, x) in dispatch(isa, Exp(x)).iter().zip(x) {
                    assert!(same(*found, exp(*x)), "{isa}: {x:e}");
                }
            }
        }
    }
}
