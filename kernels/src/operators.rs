//! The operators: one file each, contract first, then a reference to check by eye, then the code
//! over [`crate::simd`] that gives the same bits.
//!
//! In every contract: float32, rounded to nearest even after each operation written; `fma` is
//! rounded once; a "striped" sum is [`crate::striped`]'s; sums over tokens go in the batch's order
//! from +0. Where an input is NaN or infinite the result may be NaN, of any sign and payload; a
//! batch whose loss or gradient is not finite is an error, so no such bits are ever compared.

pub(crate) mod adam;
pub(crate) mod add;
pub(crate) mod argmax;
pub(crate) mod attention;
pub(crate) mod attention_step;
pub(crate) mod clip;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embed;
mod flat;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod positions;
pub(crate) mod relu;
pub(crate) mod residual;
pub(crate) mod schedule;

use protocol::OperatorId;

const fn v1(name: &'static str) -> OperatorId {
    OperatorId { name, version: 1 }
}

#[cfg(test)]
mod tests;
