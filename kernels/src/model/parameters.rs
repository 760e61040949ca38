//! A model's parameters: named tensors in one fixed order, one after the other in memory.

use super::layout::{Initial, Layout};
use crate::{
    error::Error,
    philox::{Domain, Stream},
};
use protocol::{Digest, job::ModelShape, tensor};

/// The parameters of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    layout: Layout,
    data: Vec<f32>,
}

impl Parameters {
    /// The parameters that training begins from.
    ///
    /// Weights are uniform in `[-a, a)`: `u * 2a - a` in two rounded operations, `u` being 24 bits
    /// of [`crate::philox`]'s stream over 2^24; `a = sqrt(6 / (fan_in + fan_out))` for a matrix of
    /// a linear layer (each one, where several are stacked), `sqrt(3 / width)` for the embedding.
    /// Biases are 0, gains 1.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn initial(shape: &ModelShape, seed: u64) -> Result<Self, Error> {
        super::check(shape)?;
        let layout = Layout::new(shape);
        let mut data = vec![0.0; layout.elements()];
        for (index, parameter) in layout.parameters().iter().enumerate() {
            let limit = match parameter.initial {
                Initial::Zero => continue,
                Initial::One => {
                    data[parameter.range.clone()].fill(1.0);
                    continue;
                }
                Initial::Glorot { fan_in, fan_out } => (6.0 / (fan_in + fan_out) as f32).sqrt(),
                Initial::Embedding { width } => (3.0 / width as f32).sqrt(),
            };
            let stream = Stream::new(seed, Domain::Initial, [0; 3]).at(index as u32);
            for (i, element) in data[parameter.range.clone()].iter_mut().enumerate() {
                *element = stream.unit(i as u64) * (limit + limit) - limit;
            }
        }
        Ok(Self { layout, data })
    }

    /// Parameters from their elements in the model's order.
    ///
    /// # Errors
    /// [`Error::Shape`], or [`Error::Count`] where the elements are too few or too many.
    pub fn from_elements(shape: &ModelShape, data: Vec<f32>) -> Result<Self, Error> {
        super::check(shape)?;
        let layout = Layout::new(shape);
        if data.len() != layout.elements() {
            let (found, wanted) = (data.len(), layout.elements());
            return Err(Error::Count { what: "elements of the parameters", found, wanted });
        }
        Ok(Self { layout, data })
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        self.layout.shape()
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Every element in the model's order.
    pub fn elements(&self) -> &[f32] {
        &self.data
    }

    /// Every element in the model's order, to be written.
    pub fn elements_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Layout and elements at once.
    pub(crate) fn split(&mut self) -> (&Layout, &mut [f32]) {
        (&self.layout, &mut self.data)
    }

    /// The digest that names these parameters: of all tensors by name, in the model's order.
    pub fn digest(&self) -> Digest {
        digest(&self.layout, "", &self.data)
    }
}

/// The digest of a vector that is laid out as the parameters are, with `suffix` after each name:
/// `".gradient"` for a gradient.
///
/// # Panics
/// When `data` is not as long as the layout: the caller's mistake, never a peer's.
pub fn digest(layout: &Layout, suffix: &str, data: &[f32]) -> Digest {
    assert_eq!(data.len(), layout.elements());
    let named: Vec<(String, Digest)> = layout
        .parameters()
        .iter()
        .map(|parameter| {
            let digest = tensor::digest(&parameter.shape, &data[parameter.range.clone()]);
            (format!("{}{suffix}", parameter.name), digest)
        })
        .collect();
    let named: Vec<(&str, Digest)> =
        named.iter().map(|(name, digest)| (name.as_str(), *digest)).collect();
    tensor::digest_named(&named)
}
