//! The CPU's floating-point control register.
#![allow(unsafe_code)]

/// Bits of MXCSR that change results: denormals-are-zero, rounding control, flush-to-zero.
pub(crate) const RESULT_BITS: u32 = 1 << 6 | 0b11 << 13 | 1 << 15;

/// MXCSR as it stands in this thread.
pub(crate) fn mxcsr() -> u32 {
    let mut value = 0u32;
    // SAFETY: stores the register to the four bytes it is given, and changes nothing else.
    unsafe {
        std::arch::asm!(
            "stmxcsr [{}]",
            in(reg) &raw mut value,
            options(nostack, preserves_flags)
        );
    }
    value
}
