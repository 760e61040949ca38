//! Sixteen lanes, whatever the vector unit: an operator is written once over [`Simd`] and
//! compiled for each instruction set.
//!
//! All of a `Simd`'s operations are IEEE 754 operations on each lane (or integer ones), rounded
//! to nearest even; where lanes are combined the order is fixed. So every instruction set gives
//! the same bits, and a "vector" in an operator's contract always means sixteen elements.
//!
//! Code over `Simd` is `#[inline(always)]` and keeps vectors out of closures: a closure is a
//! function of its own and would be compiled without the instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod control;
mod portable;
#[cfg(test)]
mod tests;

use crate::isa::{self, Isa};

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// The operations that operators are made of.
///
/// A value of an implementing type says that this CPU has the instruction set.
pub(crate) trait Simd: Copy {
    /// Sixteen float32.
    type F: Copy;
    /// Sixteen u32, wrapping.
    type U: Copy;
    /// Sixteen truth values.
    type M: Copy;
    /// The most rows of a register tile of the matrix product: 2 or 6.
    const TILE_ROWS: usize;
    /// Vectors that it is wide: 1 or 4.
    const TILE_VECTORS: usize;

    /// Runs a kernel as a function of its own, with the registers to itself.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, a: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `-(a * b) + c`, rounded once.
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `a > b`, else `b` (also where either is NaN).
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b`; false for NaN.
    fn gt(self, a: Self::F, b: Self::F) -> Self::M;
    /// `a` where the mask is true, else `b`.
    fn select(self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;

    fn splat_u(self, x: u32) -> Self::U;
    /// 0, 1, ... 15.
    fn lane_numbers(self) -> Self::U;
    #[cfg(test)]
    fn store_u(self, a: Self::U, to: &mut [u32; LANES]);
    fn add_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn sub_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn and_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn xor_u(self, a: Self::U, b: Self::U) -> Self::U;
    fn shift_left_u<const N: i32>(self, a: Self::U) -> Self::U;
    fn shift_right_u<const N: i32>(self, a: Self::U) -> Self::U;
    /// Shifts copies of the sign bit in.
    fn shift_right_i<const N: i32>(self, a: Self::U) -> Self::U;
    /// Upper and lower halves of the 64-bit products.
    fn mul_wide_u(self, a: Self::U, b: Self::U) -> (Self::U, Self::U);
    /// `a > b` as signed integers.
    fn gt_i(self, a: Self::U, b: Self::U) -> Self::M;

    fn to_bits(self, a: Self::F) -> Self::U;
    fn float_of_bits(self, a: Self::U) -> Self::F;

    /// Lanes 8 to 15 added to 0 to 7, then 4 to 7, then 2 and 3, then 1, each onto the lanes
    /// below: `a[l] + a[l + 8]` and so on.
    fn sum(self, a: Self::F) -> f32;

    /// The largest lane, by the same tree with `max(upper, lower)`.
    fn largest(self, a: Self::F) -> f32;

    /// True in the first `n` lanes.
    #[inline(always)]
    fn below(self, n: usize) -> Self::M {
        self.gt_i(self.splat_u(n as u32), self.lane_numbers())
    }

    /// Lane j of vector l becomes lane l of vector j.
    fn transpose(self, block: [Self::F; LANES]) -> [Self::F; LANES];

    /// Up to sixteen elements, the rest `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; LANES];
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = *x;
        }
        self.load(&lanes)
    }

    /// The first lanes, up to sixteen.
    #[inline(always)]
    fn store_part(self, a: Self::F, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(a, &mut lanes);
        for (to, lane) in to.iter_mut().zip(&lanes) {
            *to = *lane;
        }
    }
}

/// An operator's body, compiled for each instruction set by [`dispatch`].
pub(crate) trait Kernel {
    /// What it gives.
    type Output;
    /// `#[inline(always)]` in every implementation.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Whether this CPU has an instruction set.
pub(crate) fn has(isa: Isa) -> bool {
    match isa {
        Isa::Portable => true,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::Avx2::new().is_some(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::Avx512::new().is_some(),
        #[cfg(not(target_arch = "x86_64"))]
        _ => false,
    }
}

/// Runs a kernel on `isa`; on the portable code where this CPU lacks it.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx512 => {
            if let Some(simd) = avx512::Avx512::new() {
                return simd.call(kernel);
            }
        }
        Isa::Avx2 => {
            if let Some(simd) = avx2::Avx2::new() {
                return simd.call(kernel);
            }
        }
        Isa::Portable => {}
    }
    let _ = isa;
    portable::Portable.call(kernel)
}

/// Runs a kernel on the instruction set in use.
pub(crate) fn run<K: Kernel>(kernel: K) -> K::Output {
    dispatch(isa::current(), kernel)
}
