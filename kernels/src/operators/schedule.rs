//! Learning rate and bias corrections of a step.
//!
//! Contract, for step n from 1 and the powers p1, p2 of the step before (1 at first):
//! 1. `p1 = p1 * beta1`, `p2 = p2 * beta2`: running products, never a power function;
//! 2. `correction1 = 1 / (1 - p1)`, `correction2 = 1 / (1 - p2)`;
//! 3. `rate = peak * (n / warmup)` while `n < warmup`, then `peak * sqrt(warmup / n)`; n and warmup
//!    as float32, warmup at least 1.
//!
//! Output: `p1, p2, correction1, correction2, rate`. Units: 5. Source: Kingma and Ba 2015; the
//! schedule is Vaswani et al. 2017, 5.3, with its peak given.

use super::v1;
use protocol::{OperatorId, job::AdamSpec};

pub(crate) const SCHEDULE: OperatorId = v1("schedule");

/// The learning rate of a step, from 1.
pub fn rate(adam: &AdamSpec, step: u64) -> f32 {
    let (n, warmup) = (step as f32, adam.warmup_steps.max(1) as f32);
    if n < warmup { adam.peak_rate * (n / warmup) } else { adam.peak_rate * (warmup / n).sqrt() }
}

/// The output, from the powers of the step before.
pub(crate) fn run(adam: &AdamSpec, step: u64, powers: [f32; 2]) -> [f32; 5] {
    let (p1, p2) = (powers[0] * adam.beta1, powers[1] * adam.beta2);
    [p1, p2, 1.0 / (1.0 - p1), 1.0 / (1.0 - p2), rate(adam, step)]
}
