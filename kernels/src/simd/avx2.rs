//! Sixteen lanes as two 256-bit registers: AVX2 with FMA.
#![allow(unsafe_code)]

use super::{Kernel, LANES, Simd};
use std::arch::x86_64::*;

/// Says that this CPU has AVX2 and FMA: there is no other way to get one than [`Avx2::new`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

type F = (__m256, __m256);
type U = (__m256i, __m256i);

/// Applies intrinsics to both halves.
macro_rules! halves {
    ($f:ident($($a:ident),+)) => {
        // SAFETY: `self` says that the CPU has AVX2 and FMA; these intrinsics touch registers
        // alone.
        unsafe { ($f($($a.0),+), $f($($a.1),+)) }
    };
}

/// The wide products' upper and lower halves.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn mul_wide(a: __m256i, b: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller's.
    unsafe {
        let even = _mm256_mul_epu32(a, b);
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
        let high = _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd);
        let low = _mm256_blend_epi32::<0b1010_1010>(even, _mm256_slli_epi64::<32>(odd));
        (high, low)
    }
}

/// Transposes eight rows of eight.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn transpose_eight(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller's.
    unsafe {
        // Pairs of rows interleaved, then pairs of pairs, then the halves exchanged.
        let mut pairs = r;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut fours = r;
        for i in 0..2 {
            let [a, b, c, d] = [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
            fours[4 * i] = _mm256_shuffle_ps::<0b01_00_01_00>(a, c);
            fours[4 * i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, c);
            fours[4 * i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(b, d);
            fours[4 * i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(b, d);
        }
        let mut out = r;
        for i in 0..4 {
            out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
            out[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
        }
        out
    }
}

impl Simd for Avx2 {
    type F = F;
    type U = U;
    type M = F;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        fn inner<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` says that the CPU has the features that `inner` is compiled with.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        // SAFETY: as in `halves`.
        let half = unsafe { _mm256_set1_ps(x) };
        (half, half)
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        // SAFETY: both loads stay within the sixteen elements and need no alignment.
        unsafe { (_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, a: F, to: &mut [f32; LANES]) {
        // SAFETY: both stores stay within the sixteen elements and need no alignment.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), a.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), a.1);
        }
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        halves!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        halves!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        halves!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        halves!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        halves!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        halves!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: F, b: F, c: F) -> F {
        halves!(_mm256_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        // The instruction gives its second operand where the first is not greater.
        halves!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn gt(self, a: F, b: F) -> F {
        // SAFETY: as in `halves`.
        unsafe { (_mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0), _mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1)) }
    }
    #[inline(always)]
    fn select(self, mask: F, a: F, b: F) -> F {
        halves!(_mm256_blendv_ps(b, a, mask))
    }

    #[inline(always)]
    fn splat_u(self, x: u32) -> U {
        // SAFETY: as in `halves`.
        let half = unsafe { _mm256_set1_epi32(x as i32) };
        (half, half)
    }
    #[inline(always)]
    fn lane_numbers(self) -> U {
        // SAFETY: as in `halves`.
        unsafe {
            (
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15),
            )
        }
    }
    #[cfg(test)]
    #[inline(always)]
    fn store_u(self, a: U, to: &mut [u32; LANES]) {
        // SAFETY: both stores stay within the sixteen elements and need no alignment.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), a.0);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), a.1);
        }
    }
    #[inline(always)]
    fn add_u(self, a: U, b: U) -> U {
        halves!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_u(self, a: U, b: U) -> U {
        halves!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_u(self, a: U, b: U) -> U {
        halves!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn xor_u(self, a: U, b: U) -> U {
        halves!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn shift_left_u<const N: i32>(self, a: U) -> U {
        // SAFETY: as in `halves`.
        unsafe { (_mm256_slli_epi32::<N>(a.0), _mm256_slli_epi32::<N>(a.1)) }
    }
    #[inline(always)]
    fn shift_right_u<const N: i32>(self, a: U) -> U {
        // SAFETY: as in `halves`.
        unsafe { (_mm256_srli_epi32::<N>(a.0), _mm256_srli_epi32::<N>(a.1)) }
    }
    #[inline(always)]
    fn shift_right_i<const N: i32>(self, a: U) -> U {
        // SAFETY: as in `halves`.
        unsafe { (_mm256_srai_epi32::<N>(a.0), _mm256_srai_epi32::<N>(a.1)) }
    }
    #[inline(always)]
    fn mul_wide_u(self, a: U, b: U) -> (U, U) {
        // SAFETY: `self` says that the CPU has AVX2.
        let (lower, upper) = unsafe { (mul_wide(a.0, b.0), mul_wide(a.1, b.1)) };
        ((lower.0, upper.0), (lower.1, upper.1))
    }
    #[inline(always)]
    fn gt_i(self, a: U, b: U) -> F {
        // SAFETY: as in `halves`.
        unsafe {
            (
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.0, b.0)),
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.1, b.1)),
            )
        }
    }

    #[inline(always)]
    fn to_bits(self, a: F) -> U {
        halves!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn float_of_bits(self, a: U) -> F {
        halves!(_mm256_castsi256_ps(a))
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        // SAFETY: as in `halves`.
        unsafe {
            let eight = _mm256_add_ps(a.0, a.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        // SAFETY: as in `halves`.
        unsafe {
            let eight = _mm256_max_ps(a.1, a.0);
            let four = _mm_max_ps(_mm256_extractf128_ps::<1>(eight), _mm256_castps256_ps128(eight));
            let two = _mm_max_ps(_mm_movehl_ps(four, four), four);
            _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two))
        }
    }

    #[inline(always)]
    fn transpose(self, block: [F; LANES]) -> [F; LANES] {
        let (mut upper, mut lower) = ([block[0].0; 16], [block[0].0; 16]);
        for half in 0..2 {
            let mut rows = [[block[0].0; 8]; 2];
            for l in 0..8 {
                (rows[0][l], rows[1][l]) = block[8 * half + l];
            }
            // SAFETY: `self` says that the CPU has AVX2.
            let (left, right) = unsafe { (transpose_eight(rows[0]), transpose_eight(rows[1])) };
            let to = if half == 0 { &mut upper } else { &mut lower };
            to[..8].copy_from_slice(&left);
            to[8..].copy_from_slice(&right);
        }
        let mut out = block;
        for l in 0..16 {
            out[l] = (upper[l], lower[l]);
        }
        out
    }
}
