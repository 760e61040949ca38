//! Which parameters a shape has, in which order, under which names.

use protocol::job::ModelShape;
use std::ops::Range;

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name: `encoder.0.self.query_key_value.weight`.
    pub name: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Where it stands among all parameters' elements.
    pub range: Range<usize>,
    pub(crate) initial: Initial,
}

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    Zero,
    One,
    /// Uniform with variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010).
    Glorot {
        fan_in: u32,
        fan_out: u32,
    },
    /// Uniform with variance `1 / width`.
    Embedding {
        width: u32,
    },
}

/// The parameters of a linear layer, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: usize,
    /// `[outputs]`.
    pub bias: Option<usize>,
    /// Columns of what goes in.
    pub inputs: usize,
    /// Columns of what comes out.
    pub outputs: usize,
}

/// The parameters of a layer normalisation, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// `[width]`.
    pub gain: usize,
    /// `[width]`.
    pub bias: usize,
}

/// Attention of a sentence to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfAttention {
    /// Before it.
    pub norm: Norm,
    /// `[3 width, width]`.
    pub query_key_value: Linear,
    /// `[width, width]`.
    pub output: Linear,
}

/// Attention of the target to the encoded source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossAttention {
    /// Before it.
    pub norm: Norm,
    /// `[width, width]`.
    pub query: Linear,
    /// `[2 width, width]`.
    pub key_value: Linear,
    /// `[width, width]`.
    pub output: Linear,
}

/// Two linear layers with a ReLU between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedForward {
    /// Before it.
    pub norm: Norm,
    /// `[feed_forward, width]`.
    pub inner: Linear,
    /// `[width, feed_forward]`.
    pub outer: Linear,
}

/// A layer of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderLayer {
    /// First part.
    pub self_attention: SelfAttention,
    /// Second part.
    pub feed_forward: FeedForward,
}

/// A layer of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderLayer {
    /// First part, causal.
    pub self_attention: SelfAttention,
    /// Second part.
    pub cross_attention: CrossAttention,
    /// Third part.
    pub feed_forward: FeedForward,
}

/// All parameters of a shape: their order fixes a model's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: ModelShape,
    parameters: Vec<Parameter>,
    /// `[vocabulary, width]`, for source, target and output.
    pub embedding: usize,
    /// The encoder's layers.
    pub encoder: Vec<EncoderLayer>,
    /// After them.
    pub encoder_norm: Norm,
    /// The decoder's layers.
    pub decoder: Vec<DecoderLayer>,
    /// After them.
    pub decoder_norm: Norm,
}

/// How many elements all parameters of a shape have.
pub fn count(shape: &ModelShape) -> u64 {
    let (d, f) = (u64::from(shape.width), u64::from(shape.feed_forward));
    let norm = 2 * d;
    let attention = 4 * (d * d + d) + norm;
    let feed_forward = 2 * d * f + f + d + norm;
    let encoder = u64::from(shape.encoder_layers) * (attention + feed_forward);
    let decoder = u64::from(shape.decoder_layers) * (2 * attention + feed_forward);
    u64::from(shape.vocabulary) * d + encoder + decoder + 2 * norm
}

struct Builder {
    width: usize,
    feed_forward: usize,
    parameters: Vec<Parameter>,
    elements: usize,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[usize], initial: Initial) -> usize {
        let start = self.elements;
        self.elements += shape.iter().product::<usize>();
        let range = start..self.elements;
        self.parameters.push(Parameter { name, shape: shape.to_vec(), range, initial });
        self.parameters.len() - 1
    }

    /// `stacked` matrices of equal size as one.
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize, stacked: usize) -> Linear {
        let initial = Initial::Glorot { fan_in: inputs as u32, fan_out: outputs as u32 };
        let outputs = outputs * stacked;
        let weight = self.add(format!("{name}.weight"), &[outputs, inputs], initial);
        let bias = Some(self.add(format!("{name}.bias"), &[outputs], Initial::Zero));
        Linear { weight, bias, inputs, outputs }
    }

    fn norm(&mut self, name: &str) -> Norm {
        let gain = self.add(format!("{name}.weight"), &[self.width], Initial::One);
        let bias = self.add(format!("{name}.bias"), &[self.width], Initial::Zero);
        Norm { gain, bias }
    }

    fn self_attention(&mut self, name: &str) -> SelfAttention {
        let d = self.width;
        SelfAttention {
            norm: self.norm(&format!("{name}.norm")),
            query_key_value: self.linear(&format!("{name}.query_key_value"), d, d, 3),
            output: self.linear(&format!("{name}.output"), d, d, 1),
        }
    }

    fn cross_attention(&mut self, name: &str) -> CrossAttention {
        let d = self.width;
        CrossAttention {
            norm: self.norm(&format!("{name}.norm")),
            query: self.linear(&format!("{name}.query"), d, d, 1),
            key_value: self.linear(&format!("{name}.key_value"), d, d, 2),
            output: self.linear(&format!("{name}.output"), d, d, 1),
        }
    }

    fn feed_forward(&mut self, name: &str) -> FeedForward {
        let (d, f) = (self.width, self.feed_forward);
        FeedForward {
            norm: self.norm(&format!("{name}.norm")),
            inner: self.linear(&format!("{name}.inner"), d, f, 1),
            outer: self.linear(&format!("{name}.outer"), f, d, 1),
        }
    }
}

impl Layout {
    /// The parameters of a shape that [`super::check`] allows.
    pub(crate) fn new(shape: &ModelShape) -> Self {
        let mut b = Builder {
            width: shape.width as usize,
            feed_forward: shape.feed_forward as usize,
            parameters: Vec::new(),
            elements: 0,
        };
        let embedding = b.add(
            "embedding.weight".into(),
            &[shape.vocabulary as usize, shape.width as usize],
            Initial::Embedding { width: shape.width },
        );
        let encoder = (0..shape.encoder_layers)
            .map(|l| EncoderLayer {
                self_attention: b.self_attention(&format!("encoder.{l}.self")),
                feed_forward: b.feed_forward(&format!("encoder.{l}.feed_forward")),
            })
            .collect();
        let encoder_norm = b.norm("encoder.norm");
        let decoder = (0..shape.decoder_layers)
            .map(|l| DecoderLayer {
                self_attention: b.self_attention(&format!("decoder.{l}.self")),
                cross_attention: b.cross_attention(&format!("decoder.{l}.cross")),
                feed_forward: b.feed_forward(&format!("decoder.{l}.feed_forward")),
            })
            .collect();
        let decoder_norm = b.norm("decoder.norm");
        Self {
            shape: *shape,
            parameters: b.parameters,
            embedding,
            encoder,
            encoder_norm,
            decoder,
            decoder_norm,
        }
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// Every parameter in the model's order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Elements of all parameters together.
    pub fn elements(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// The output layer: the embedding once more, without a bias.
    pub(crate) fn output(&self) -> Linear {
        let (inputs, outputs) = (self.shape.width as usize, self.shape.vocabulary as usize);
        Linear { weight: self.embedding, bias: None, inputs, outputs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_by_formula_is_the_layouts_own() {
        let mut shape = ModelShape {
            vocabulary: 4000,
            width: 128,
            heads: 4,
            feed_forward: 512,
            encoder_layers: 2,
            decoder_layers: 2,
            max_length: 100,
        };
        assert_eq!(count(&shape), 1_438_208);
        assert_eq!(Layout::new(&shape).elements(), 1_438_208);
        shape.decoder_layers = 3;
        shape.feed_forward = 40;
        assert_eq!(count(&shape), Layout::new(&shape).elements() as u64);
    }

    #[test]
    fn no_two_parameters_share_a_name() {
        let shape = ModelShape {
            vocabulary: 10,
            width: 4,
            heads: 2,
            feed_forward: 6,
            encoder_layers: 3,
            decoder_layers: 2,
            max_length: 8,
        };
        let layout = Layout::new(&shape);
        let mut names: Vec<_> = layout.parameters().iter().map(|p| &p.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
