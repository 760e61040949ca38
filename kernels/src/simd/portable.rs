//! Sixteen lanes in plain Rust.

use super::{Kernel, LANES, Simd};
use crate::math::fma;
use std::array::from_fn;

/// Needs nothing of the CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type F = [f32; LANES];
type U = [u32; LANES];

impl Simd for Portable {
    type F = F;
    type U = U;
    type M = [bool; LANES];
    const TILE_ROWS: usize = 2;
    const TILE_VECTORS: usize = 1;

    #[inline(never)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &F) -> F {
        *x
    }
    #[inline(always)]
    fn store(self, a: F, to: &mut F) {
        *to = a;
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        from_fn(|l| a[l] + b[l])
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        from_fn(|l| a[l] - b[l])
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        from_fn(|l| a[l] * b[l])
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        from_fn(|l| a[l] / b[l])
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        from_fn(|l| a[l].sqrt())
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        from_fn(|l| fma(a[l], b[l], c[l]))
    }
    #[inline(always)]
    fn fnma(self, a: F, b: F, c: F) -> F {
        from_fn(|l| fma(-a[l], b[l], c[l]))
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        from_fn(|l| if a[l] > b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    fn gt(self, a: F, b: F) -> Self::M {
        from_fn(|l| a[l] > b[l])
    }
    #[inline(always)]
    fn select(self, mask: Self::M, a: F, b: F) -> F {
        from_fn(|l| if mask[l] { a[l] } else { b[l] })
    }

    #[inline(always)]
    fn splat_u(self, x: u32) -> U {
        [x; LANES]
    }
    #[inline(always)]
    fn lane_numbers(self) -> U {
        from_fn(|l| l as u32)
    }
    #[cfg(test)]
    #[inline(always)]
    fn store_u(self, a: U, to: &mut U) {
        *to = a;
    }
    #[inline(always)]
    fn add_u(self, a: U, b: U) -> U {
        from_fn(|l| a[l].wrapping_add(b[l]))
    }
    #[inline(always)]
    fn sub_u(self, a: U, b: U) -> U {
        from_fn(|l| a[l].wrapping_sub(b[l]))
    }
    #[inline(always)]
    fn and_u(self, a: U, b: U) -> U {
        from_fn(|l| a[l] & b[l])
    }
    #[inline(always)]
    fn xor_u(self, a: U, b: U) -> U {
        from_fn(|l| a[l] ^ b[l])
    }
    #[inline(always)]
    fn shift_left_u<const N: i32>(self, a: U) -> U {
        from_fn(|l| a[l] << N)
    }
    #[inline(always)]
    fn shift_right_u<const N: i32>(self, a: U) -> U {
        from_fn(|l| a[l] >> N)
    }
    #[inline(always)]
    fn shift_right_i<const N: i32>(self, a: U) -> U {
        from_fn(|l| (a[l] as i32 >> N) as u32)
    }
    #[inline(always)]
    fn mul_wide_u(self, a: U, b: U) -> (U, U) {
        let wide: [u64; LANES] = from_fn(|l| u64::from(a[l]) * u64::from(b[l]));
        (from_fn(|l| (wide[l] >> 32) as u32), from_fn(|l| wide[l] as u32))
    }
    #[inline(always)]
    fn gt_i(self, a: U, b: U) -> Self::M {
        from_fn(|l| a[l] as i32 > b[l] as i32)
    }

    #[inline(always)]
    fn to_bits(self, a: F) -> U {
        from_fn(|l| a[l].to_bits())
    }
    #[inline(always)]
    fn float_of_bits(self, a: U) -> F {
        from_fn(|l| f32::from_bits(a[l]))
    }

    #[inline(always)]
    fn sum(self, mut a: F) -> f32 {
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                a[l] += a[l + width];
            }
            width /= 2;
        }
        a[0]
    }

    #[inline(always)]
    fn largest(self, mut a: F) -> f32 {
        let mut width = LANES / 2;
        while width > 0 {
            for l in 0..width {
                a[l] = if a[l + width] > a[l] { a[l + width] } else { a[l] };
            }
            width /= 2;
        }
        a[0]
    }

    #[inline(always)]
    fn transpose(self, block: [F; LANES]) -> [F; LANES] {
        from_fn(|l| from_fn(|j| block[j][l]))
    }
}
