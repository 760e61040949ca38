//! The natural logarithm.
//!
//! Contract, for finite x > 0:
//! 1. a subnormal x is multiplied by 2^23 (exact), and 23 taken off `e` below;
//! 2. `x = m 2^e` with `sqrt(1/2) <= m < sqrt(2)` (by the bits of float32 nearest to the root);
//!    `f = m - 1`, exact;
//! 3. `p = L7`, `p = fma(p, f, L6)`, ... `fma(p, f, L0)`; `z = f * f`;
//! 4. `y = (z * f) * p`, `y = fma(e, ln2 lower, y)`, `y = fma(-0.5, z, y)`;
//! 5. `fma(e, ln2 upper, f + y)`.
//!
//! 0 gives -infinity, a negative number or NaN gives NaN, +infinity itself.
//! `log(1 + f) = f - f^2/2 + f^3 L(f)`, L by a Remez exchange of our own: 0.098 2^-24. Largest
//! error measured: see the test.

use super::fma;

const ROOT_HALF_BITS: u32 = 0x3f35_04f3;
/// ln 2 with its last bits zero, so that `e` times it is exact.
#[allow(clippy::excessive_precision)]
const LN2_UPPER: f32 = 0.693_359_375;
#[allow(clippy::excessive_precision)]
const LN2_LOWER: f32 = -2.121_944_4e-4;
#[allow(clippy::excessive_precision)]
const L: [f32; 8] = [
    0.333_333_313_465_118_4,
    -0.250_008_195_638_656_6,
    0.200_012_266_635_894_78,
    -0.166_233_569_383_621_22,
    0.142_017_558_217_048_65,
    -0.131_601_855_158_805_85,
    0.127_615_928_649_902_34,
    -0.076_345_071_196_556_09,
];

/// ln x, as the module says.
pub fn log(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    let is_subnormal = x < f32::MIN_POSITIVE;
    let bits = if is_subnormal { x * 8_388_608.0 } else { x }.to_bits();
    let e = bits.wrapping_sub(ROOT_HALF_BITS) as i32 >> 23;
    let f = f32::from_bits(bits.wrapping_sub((e as u32) << 23)) - 1.0;
    let e = (e - if is_subnormal { 23 } else { 0 }) as f32;
    let mut p = L[7];
    for l in L[..7].iter().rev() {
        p = fma(p, f, *l);
    }
    let z = f * f;
    let y = (z * f) * p;
    let y = fma(e, LN2_LOWER, y);
    let y = fma(-0.5, z, y);
    fma(e, LN2_UPPER, f + y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::tests::ulps;

    #[test]
    fn the_error_stays_below_0_9_ulp() {
        let mut worst = (0.0, 0.0);
        let near_one = (0..1_000_000).map(|i| 0.5 + i as f32 * 1.5e-6);
        let all = (0..f32::INFINITY.to_bits()).step_by(2_099).map(f32::from_bits);
        for x in all.chain(near_one) {
            let error = ulps(log(x), f64::from(x).ln());
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 < 0.9, "{worst:?}");
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(log(1.0).to_bits(), 0);
        assert_eq!(log(0.0), f32::NEG_INFINITY);
        assert_eq!(log(-0.0), f32::NEG_INFINITY);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
        assert!(log(-1e-45).is_nan() && log(f32::NAN).is_nan());
    }
}
