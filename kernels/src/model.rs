//! The translation model: a transformer encoder-decoder with tied embeddings.
//!
//! Normalisation before each part (pre-norm: Xiong et al. 2020, "On Layer Normalization in the
//! Transformer Architecture"), ReLU, sinusoidal positions, one embedding matrix for source,
//! target and output (Press and Wolf 2017). Weights are `[outputs, inputs]`; queries, keys and
//! values of a self-attention are one matrix, in that order, and so are the keys and values that
//! the decoder takes from the encoder.

pub(crate) mod file;
mod layout;
mod parameters;

pub use layout::{
    CrossAttention, DecoderLayer, EncoderLayer, FeedForward, Layout, Linear, Norm, Parameter,
    SelfAttention, count,
};
pub use parameters::{Parameters, digest};

use crate::error::Error;
use protocol::job::ModelShape;

/// The token for what the vocabulary cannot spell.
pub const UNKNOWN: u32 = 0;
/// The token that a translation starts from.
pub const START: u32 = 1;
/// The token that ends a sentence.
pub const END: u32 = 2;

/// The widest layer: keeps every count of one tensor far below 2^32.
pub const MAX_WIDTH: u32 = 16_384;
/// The most layers on a side: bounds a graph's operations to a few thousand.
pub const MAX_LAYERS: u32 = 64;
/// The most pieces of a vocabulary.
pub const MAX_VOCABULARY: u32 = 1 << 20;
/// The longest sentence in tokens: bounds the table of positions.
pub const MAX_LENGTH: u32 = 4_096;
/// The most parameters: a gradient of so many goes through the longest result of a worker (1 GiB).
pub const MAX_PARAMETERS: u64 = 250_000_000;

/// Whether a shape is one that can be built.
///
/// # Errors
/// [`Error::Shape`] with the first thing that is wrong.
pub fn check(shape: &ModelShape) -> Result<(), Error> {
    let within = |what: &str, value: u32, least: u32, most: u32| {
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err(Error::Shape(format!("{what} is {value}, {least} to {most} is allowed")))
        }
    };
    within("vocabulary", shape.vocabulary, END + 2, MAX_VOCABULARY)?;
    within("width", shape.width, 2, MAX_WIDTH)?;
    within("heads", shape.heads, 1, shape.width)?;
    within("feed_forward", shape.feed_forward, 1, MAX_WIDTH)?;
    within("encoder_layers", shape.encoder_layers, 1, MAX_LAYERS)?;
    within("decoder_layers", shape.decoder_layers, 1, MAX_LAYERS)?;
    within("max_length", shape.max_length, 2, MAX_LENGTH)?;
    if !shape.width.is_multiple_of(2) || !shape.width.is_multiple_of(shape.heads) {
        return Err(Error::Shape(format!(
            "width {} is not an even multiple of heads {}",
            shape.width, shape.heads
        )));
    }
    // With every extent bounded as above the count itself fits 64 bits.
    let parameters = count(shape);
    if parameters > MAX_PARAMETERS {
        return Err(Error::Shape(format!(
            "it has {parameters} parameters, {MAX_PARAMETERS} are allowed"
        )));
    }
    Ok(())
}
