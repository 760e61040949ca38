//! Float32 operators with the same bits on every CPU, the graphs made of them, and the translation
//! model they train.
//!
//! Each operator has a contract that fixes the order of every rounding (each file of `operators`
//! opens with it), a plain reference, and code that a vector unit of any width runs to the same
//! bits. A batch is a [`graph::Graph`] of such operations, walked in its order by
//! [`train::micro_batch`], [`optimiser::update`] and [`decode::greedy`]; a [`tap::Tap`] sees every
//! output on the way.
//!
//! **Never** reads a clock, a file, an environment variable or a GPU, and starts no thread: what
//! comes out is a function of what goes in. The one thing kept for the whole process is which
//! instruction set to use ([`isa`]), and it changes no bit.
//!
//! The CPU must round to nearest and keep subnormal numbers; every batch checks that first
//! ([`Error::FloatingPointMode`]). A batch whose loss or gradient is NaN or infinite is an error
//! ([`Error::NonFinite`]), so the bits of a NaN, which CPUs do not agree on, are never compared.

mod batch;
pub mod decode;
mod error;
mod execute;
pub mod graph;
pub mod isa;
pub mod math;
pub mod model;
mod operators;
pub mod optimiser;
pub mod philox;
pub mod product;
mod simd;
mod striped;
pub mod sum;
pub mod tap;
pub mod train;
mod workspace;

pub use batch::Pairs;
pub use error::Error;
pub use isa::Isa;
pub use tap::{OutputData, OutputView, Tap};
pub use workspace::Workspace;

/// That this thread computes as IEEE 754 has it.
fn check_floating_point_mode() -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    {
        let mxcsr = simd::control::mxcsr();
        if mxcsr & simd::control::RESULT_BITS != 0 {
            return Err(Error::FloatingPointMode { mxcsr });
        }
    }
    Ok(())
}
