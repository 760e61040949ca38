//! Functions of one number, made of IEEE 754 operations alone, so that no library's version and
//! no CPU's instruction set can change a bit of them.

mod exp;
mod log;

pub use exp::exp;
pub(crate) use exp::exp_lanes;
pub use log::log;

/// `a * b + c`, rounded once to nearest even, without a fused instruction.
///
/// The product of two float32 is exact in float64. The sum is rounded to odd (Boldo and
/// Melquiond 2008, "Emulation of a FMA and Correctly Rounded Sums"): with at least two bits to
/// spare, rounding it once more to float32 is then the correct rounding of the exact value.
/// Results are those of the hardware instruction but for the sign and payload of a NaN.
#[inline(always)]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    // The exact error of the sum (Knuth's TwoSum); NaN where the sum is not finite.
    let t = sum - product;
    let error = (product - (sum - t)) + (c - t);
    let bits = sum.to_bits();
    let is_even = bits & 1 == 0;
    // An inexact even sum moves one step toward the exact value; an odd one stays.
    let up = is_even & ((error > 0.0) & (sum > 0.0) | (error < 0.0) & (sum < 0.0));
    let down = is_even & ((error > 0.0) & (sum < 0.0) | (error < 0.0) & (sum > 0.0));
    f64::from_bits(bits.wrapping_add(u64::from(up)).wrapping_sub(u64::from(down))) as f32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Equal bits, or both NaN.
    pub(crate) fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    /// The distance of `found` from `wanted` in units of the last place that a float32 has there.
    pub(crate) fn ulps(found: f32, wanted: f64) -> f64 {
        if f64::from(found) == wanted {
            return 0.0;
        }
        let nearest = wanted as f32;
        if !nearest.is_finite() || !found.is_finite() {
            return if found == nearest { 0.0 } else { f64::INFINITY };
        }
        let exponent = (nearest.abs().to_bits() >> 23).max(1) as i32 - 127 - 23;
        (f64::from(found) - wanted).abs() / 2f64.powi(exponent)
    }

    const EDGES: [f32; 18] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        1.1754942e-38,
        1.0 + f32::EPSILON,
        1.0 - f32::EPSILON / 2.0,
        16_777_216.0,
        -16_777_215.0,
    ];

    #[test]
    fn fma_is_the_libraries_at_every_edge() {
        for a in EDGES {
            for b in EDGES {
                for c in EDGES {
                    assert!(same(fma(a, b, c), a.mul_add(b, c)), "{a:e} {b:e} {c:e}");
                }
            }
        }
    }

    #[test]
    fn fma_rounds_halfway_cases_once() {
        // 1 + 2^-24 lies halfway between two float32; a term far below decides.
        let a = 1.0 + 2f32.powi(-12);
        for tiny in [0.0, 1e-30, -1e-30, 1e-45, -1e-45] {
            for c in [-1.0, 1.0, -2f32.powi(-11), 2f32.powi(-25)] {
                assert_eq!(fma(a, a, c).to_bits(), a.mul_add(a, c).to_bits());
                let half = 2f32.powi(-24);
                assert_eq!(fma(half, 1.0 + tiny, 1.0), half.mul_add(1.0 + tiny, 1.0));
                assert_eq!(fma(1.0, half, 1.0 + tiny), 1f32.mul_add(half, 1.0 + tiny));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        #[test]
        fn fma_is_the_libraries(a: u32, b: u32, c: u32, near in 0u32..40) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            let far = f32::from_bits(c);
            prop_assert!(same(fma(a, b, far), a.mul_add(b, far)));
            // Near cancellation too: c within a few steps of -(a b), scaled.
            let close = f32::from_bits((-(a * b)).to_bits().wrapping_add(near).wrapping_sub(20));
            prop_assert!(same(fma(a, b, close), a.mul_add(b, close)));
            let scaled = close * 2f32.powi(near as i32 - 20);
            prop_assert!(same(fma(a, b, scaled), a.mul_add(b, scaled)));
        }
    }
}
