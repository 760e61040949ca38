//! Sixteen lanes as one 512-bit register: AVX-512 Foundation.
#![allow(unsafe_code)]

use super::{Kernel, LANES, Simd};
use std::arch::x86_64::*;

/// Says that this CPU has AVX-512F: there is no other way to get one than [`Avx512::new`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(super) fn new() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

type F = __m512;
type U = __m512i;

/// Wraps an intrinsic that touches registers alone.
macro_rules! registers {
    ($e:expr) => {
        // SAFETY: `self` says that the CPU has AVX-512F; the intrinsics touch registers alone.
        unsafe { $e }
    };
}

impl Simd for Avx512 {
    type F = F;
    type U = U;
    type M = __mmask16;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 4;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx2,fma")]
        #[inline(never)]
        fn inner<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` says that the CPU has AVX-512F, and every such CPU has AVX2 and FMA.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        registers!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> F {
        // SAFETY: the load is of these sixteen elements and needs no alignment.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, a: F, to: &mut [f32; LANES]) {
        // SAFETY: the store is to these sixteen elements and needs no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), a) }
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        registers!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        registers!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        registers!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        registers!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        registers!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        registers!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: F, b: F, c: F) -> F {
        registers!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        // The instruction gives its second operand where the first is not greater.
        registers!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn gt(self, a: F, b: F) -> __mmask16 {
        registers!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, a: F, b: F) -> F {
        registers!(_mm512_mask_blend_ps(mask, b, a))
    }

    #[inline(always)]
    fn splat_u(self, x: u32) -> U {
        registers!(_mm512_set1_epi32(x as i32))
    }
    #[inline(always)]
    fn lane_numbers(self) -> U {
        registers!(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
    }
    #[cfg(test)]
    #[inline(always)]
    fn store_u(self, a: U, to: &mut [u32; LANES]) {
        // SAFETY: the store is to these sixteen elements and needs no alignment.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), a) }
    }
    #[inline(always)]
    fn add_u(self, a: U, b: U) -> U {
        registers!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_u(self, a: U, b: U) -> U {
        registers!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_u(self, a: U, b: U) -> U {
        registers!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn xor_u(self, a: U, b: U) -> U {
        registers!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shift_left_u<const N: i32>(self, a: U) -> U {
        registers!(_mm512_sll_epi32(a, _mm_cvtsi32_si128(N)))
    }
    #[inline(always)]
    fn shift_right_u<const N: i32>(self, a: U) -> U {
        registers!(_mm512_srl_epi32(a, _mm_cvtsi32_si128(N)))
    }
    #[inline(always)]
    fn shift_right_i<const N: i32>(self, a: U) -> U {
        registers!(_mm512_sra_epi32(a, _mm_cvtsi32_si128(N)))
    }
    #[inline(always)]
    fn mul_wide_u(self, a: U, b: U) -> (U, U) {
        registers!({
            let even = _mm512_mul_epu32(a, b);
            let odd = _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
            const ODD: __mmask16 = 0b1010_1010_1010_1010;
            let high = _mm512_mask_blend_epi32(ODD, _mm512_srli_epi64::<32>(even), odd);
            let low = _mm512_mask_blend_epi32(ODD, even, _mm512_slli_epi64::<32>(odd));
            (high, low)
        })
    }
    #[inline(always)]
    fn gt_i(self, a: U, b: U) -> __mmask16 {
        registers!(_mm512_cmpgt_epi32_mask(a, b))
    }

    #[inline(always)]
    fn to_bits(self, a: F) -> U {
        registers!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn float_of_bits(self, a: U) -> F {
        registers!(_mm512_castsi512_ps(a))
    }

    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        registers!({
            let upper = _mm512_castps_pd(a);
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(upper));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(a), upper);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        registers!({
            let upper = _mm512_castps_pd(a);
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(upper));
            let eight = _mm256_max_ps(upper, _mm512_castps512_ps256(a));
            let four = _mm_max_ps(_mm256_extractf128_ps::<1>(eight), _mm256_castps256_ps128(eight));
            let two = _mm_max_ps(_mm_movehl_ps(four, four), four);
            _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two))
        })
    }

    #[inline(always)]
    fn transpose(self, r: [F; LANES]) -> [F; LANES] {
        registers!({
            // Within each quarter as 4 x 4 blocks, then the quarters exchanged twice.
            let mut pairs = r;
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut fours = r;
            for i in 0..4 {
                let [a, b, c, d] =
                    [pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]];
                fours[4 * i] = _mm512_shuffle_ps::<0b01_00_01_00>(a, c);
                fours[4 * i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(a, c);
                fours[4 * i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(b, d);
                fours[4 * i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(b, d);
            }
            // fours[4 i + c] holds, in quarter q, column 4 q + c of rows 4 i to 4 i + 3.
            let mut out = r;
            for c in 0..4 {
                let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
                let even_ab = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                let odd_ab = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                let even_de = _mm512_shuffle_f32x4::<0b10_00_10_00>(d, e);
                let odd_de = _mm512_shuffle_f32x4::<0b11_01_11_01>(d, e);
                out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even_ab, even_de);
                out[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even_ab, even_de);
                out[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd_ab, odd_de);
                out[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd_ab, odd_de);
            }
            out
        })
    }
}
