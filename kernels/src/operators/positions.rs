//! The table of sinusoidal positions (Vaswani et al. 2017, 3.5), made of IEEE 754 operations in
//! float64 alone and then rounded to float32, so that no library's sine is in it.
//!
//! Contract: `table[p][2 i] = sin(p w_i)`, `table[p][2 i + 1] = cos(p w_i)`,
//! `w_i = exp(-ln(10000) (2 i / width))`, by the functions below in float64.

use std::f64::consts::{FRAC_PI_2, LN_2};

/// e^x for -10 < x <= 0: halved `n` times to below ln 2, a Taylor polynomial of degree 17, then
/// the exact factor 2^-n.
fn exp(x: f64) -> f64 {
    let n = (-x / LN_2).floor();
    let r = x + n * LN_2;
    let mut sum = 1.0;
    for k in (1..=17).rev() {
        sum = 1.0 + sum * r / f64::from(k);
    }
    let mut power = 1.0;
    for _ in 0..n as u32 {
        power *= 0.5;
    }
    sum * power
}

/// Sine and cosine of x >= 0, below some thousands: quarter turns taken off in two parts, then
/// Taylor polynomials of degree 19 and 18.
fn sin_cos(x: f64) -> (f64, f64) {
    /// pi / 2 - FRAC_PI_2.
    const FRAC_PI_2_LOWER: f64 = 6.123_233_995_736_766e-17;
    let quarter = (x / FRAC_PI_2 + 0.5).floor();
    let r = (x - quarter * FRAC_PI_2) - quarter * FRAC_PI_2_LOWER;
    let z = r * r;
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..=9).rev() {
        let k = f64::from(k);
        sin = 1.0 - sin * z / ((2.0 * k) * (2.0 * k + 1.0));
        cos = 1.0 - cos * z / ((2.0 * k - 1.0) * (2.0 * k));
    }
    let sin = sin * r;
    match quarter as u64 % 4 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// The table for positions below `length`: `[length, width]`, `width` even.
pub(crate) fn table(length: usize, width: usize) -> Vec<f32> {
    /// ln 10000.
    const LN_BASE: f64 = 9.210_340_371_976_184;
    let mut table = vec![0.0; length * width];
    for i in 0..width / 2 {
        let frequency = exp(-LN_BASE * (2.0 * i as f64 / width as f64));
        for p in 0..length {
            let (sin, cos) = sin_cos(p as f64 * frequency);
            table[p * width + 2 * i] = sin as f32;
            table[p * width + 2 * i + 1] = cos as f32;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sine_and_cosine_to_float32() {
        let (length, width) = (300, 128);
        let table = table(length, width);
        for p in 0..length {
            for i in 0..width / 2 {
                let frequency = 10_000f64.powf(-2.0 * i as f64 / width as f64);
                let (sin, cos) = (p as f64 * frequency).sin_cos();
                assert!((f64::from(table[p * width + 2 * i]) - sin).abs() < 6e-8);
                assert!((f64::from(table[p * width + 2 * i + 1]) - cos).abs() < 6e-8);
            }
        }
    }

    #[test]
    fn the_tables_bits_are_pinned() {
        let digest = protocol::tensor::digest(&[512, 128], &table(512, 128));
        assert_eq!(digest.short(), "ed859e87");
    }
}
