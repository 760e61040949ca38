//! How fast this machine is, in its own word: a hint for the first assignment.

use kernels::product::{Packing, nn};
use std::time::{Duration, Instant};

/// For how long is measured.
const MEASURE: Duration = Duration::from_millis(100);
/// Rows, inner extent and columns of the product that is timed: a small model's layer.
const SIDE: usize = 128;

/// Millions of multiply-adds a second of one thread, times `threads`.
pub fn measure(threads: usize) -> u32 {
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut c = vec![0.0; SIDE * SIDE];
    let mut packing = Packing::default();
    // The first one pages memory in, and has an emulator translate the code.
    nn(SIDE, SIDE, SIDE, &a, &b, &mut c, &mut packing);
    let begin = Instant::now();
    let mut done = 0u64;
    while begin.elapsed() < MEASURE {
        nn(SIDE, SIDE, SIDE, &a, &b, &mut c, &mut packing);
        done += 1;
    }
    let products = done as f64 * (SIDE * SIDE * SIDE) as f64;
    let speed = products / begin.elapsed().as_secs_f64() / 1e6 * threads as f64;
    speed.clamp(1.0, f64::from(u32::MAX)) as u32
}
