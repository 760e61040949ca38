//! Graphs: the operations of a batch in their one order, with the tensors between them.
//!
//! A graph follows from the model's shape alone. It is run as it stands ([`crate::train`],
//! [`crate::decode`] and [`crate::optimiser`] walk its list), so what is logged is what is done.

mod blocks;
mod formula;
mod training;
mod translation;
mod update;

pub use formula::{Formula, Sums};

use crate::{
    error::Error,
    model::{Layout, check},
};
use borsh::BorshSerialize;
use protocol::{BatchShape, Digest, OperatorId, WorkUnits, job::ModelShape};

/// A tensor's index in [`Graph::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct TensorId(pub u32);

/// Which of a pair's two sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize)]
pub enum Side {
    /// The sentence to be translated.
    Source,
    /// Its translation.
    Target,
}

/// Where a tensor's elements live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize)]
pub enum Role {
    /// The model's parameter of that index in [`Layout::parameters`].
    Parameter(u32),
    /// The gradient of that parameter.
    Gradient(u32),
    /// The optimiser's moments of that parameter: first and second.
    Moment(u32, u8),
    /// Token ids given with the batch.
    Tokens(Side),
    /// What one operation hands to later ones.
    Value,
}

/// A tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct Tensor {
    /// Its name: its operation's, or a parameter's.
    pub name: String,
    /// Its dimensions, slowest first.
    pub shape: Vec<Formula>,
    /// Where it lives.
    pub role: Role,
}

/// What an operation's work units are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize)]
pub struct Units {
    /// [`WorkUnits::product`].
    pub product: Formula,
    /// [`WorkUnits::pointwise`].
    pub pointwise: Formula,
}

impl Units {
    /// The units for a batch of these sums.
    pub fn at(&self, sums: &Sums) -> WorkUnits {
        WorkUnits { product: self.product.at(sums), pointwise: self.pointwise.at(sums) }
    }
}

/// Dropout's place in a model: each place draws its own random numbers. None in translation.
pub(crate) type Site = Option<u32>;

/// What an operation does, with what is fixed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub(crate) enum Kind {
    Embed { side: Side, site: Site },
    EmbedBackward { side: Side, site: Site },
    LayerNorm,
    LayerNormBackward { residual: bool },
    Linear { bias: bool },
    LinearInputBackward,
    LinearWeightBackward { bias: bool },
    Attention { queries: Side, keys: Side, causal: bool, site: Site },
    AttentionBackward { queries: Side, keys: Side, causal: bool, site: Site },
    AttentionStep { layer: u32, memory: bool },
    Residual { site: Site },
    ResidualBackward { site: Site },
    Relu { site: Site },
    ReluBackward,
    Add,
    CrossEntropy,
    CrossEntropyBackward,
    Argmax,
    Result,
    GradientSum,
    Clip,
    Schedule,
    Adam { parameter: u32 },
}

/// One operator at one place of a graph.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct Operation {
    /// Which place: `encoder.0.self.query_key_value`.
    pub name: String,
    /// What it reads.
    pub inputs: Vec<TensorId>,
    /// What it writes.
    pub outputs: Vec<TensorId>,
    /// Whether every receipt commits to its outputs.
    pub boundary: bool,
    /// What its work counts for.
    pub units: Units,
    pub(crate) kind: Kind,
}

impl Operation {
    /// The operator and its version.
    pub fn operator(&self) -> OperatorId {
        use crate::operators::*;
        match self.kind {
            Kind::Embed { .. } => embed::EMBED,
            Kind::EmbedBackward { .. } => embed::BACKWARD,
            Kind::LayerNorm => layer_norm::LAYER_NORM,
            Kind::LayerNormBackward { .. } => layer_norm::BACKWARD,
            Kind::Linear { .. } => linear::LINEAR,
            Kind::LinearInputBackward => linear::INPUT_BACKWARD,
            Kind::LinearWeightBackward { .. } => linear::WEIGHT_BACKWARD,
            Kind::Attention { .. } => attention::ATTENTION,
            Kind::AttentionBackward { .. } => attention::BACKWARD,
            Kind::AttentionStep { .. } => attention_step::ATTENTION_STEP,
            Kind::Residual { .. } => residual::RESIDUAL,
            Kind::ResidualBackward { .. } => residual::BACKWARD,
            Kind::Relu { .. } => relu::RELU,
            Kind::ReluBackward => relu::BACKWARD,
            Kind::Add => add::ADD,
            Kind::CrossEntropy => cross_entropy::CROSS_ENTROPY,
            Kind::CrossEntropyBackward => cross_entropy::BACKWARD,
            Kind::Argmax => argmax::ARGMAX,
            Kind::Result => OperatorId { name: "result", version: 1 },
            Kind::GradientSum => OperatorId { name: "gradient-sum", version: 1 },
            Kind::Clip => clip::CLIP,
            Kind::Schedule => schedule::SCHEDULE,
            Kind::Adam { .. } => adam::ADAM,
        }
    }
}

/// The operations of a kind of batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// The model's shape.
    pub shape: ModelShape,
    /// Every tensor.
    pub tensors: Vec<Tensor>,
    /// Every operation in its order.
    pub operations: Vec<Operation>,
    /// Where decoding's step begins; from there to the end is done again for each target token.
    /// The list's length where nothing is repeated.
    pub repeat_from: usize,
}

impl Graph {
    /// One micro-batch's: forward, loss, backward; the last operation, `result`, has the gradient
    /// of each parameter as its outputs.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn training(shape: &ModelShape) -> Result<Self, Error> {
        check(shape)?;
        Ok(training::build(&Layout::new(shape)))
    }

    /// The parameter server's own part of a step: gradient sum, clipping, optimiser.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn update(shape: &ModelShape) -> Result<Self, Error> {
        check(shape)?;
        Ok(update::build(&Layout::new(shape)))
    }

    /// Greedy translation: the encoder, then one step of decoding, repeated.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn translation(shape: &ModelShape) -> Result<Self, Error> {
        check(shape)?;
        Ok(translation::build(&Layout::new(shape)))
    }

    /// The digest that operation ids are made with.
    pub fn digest(&self) -> Digest {
        #[derive(BorshSerialize)]
        struct Described<'a> {
            operator: String,
            operation: &'a Operation,
        }
        let operations: Vec<_> = self
            .operations
            .iter()
            .map(|operation| Described { operator: operation.operator().to_string(), operation })
            .collect();
        Digest::of(
            "aliaOS graph v1",
            &(self.shape, &self.tensors, operations, self.repeat_from as u64),
        )
    }

    /// The work units of a whole batch. Translation counts every sentence at its limit.
    pub fn units(&self, shape: &BatchShape) -> WorkUnits {
        let sums = Sums::of(shape);
        self.operations.iter().map(|operation| operation.units.at(&sums)).sum()
    }

    /// The shape of an update that sums `gradients` micro-batches' gradients, for
    /// [`Graph::units`].
    pub fn update_shape(gradients: u32) -> BatchShape {
        BatchShape { sentences: gradients, ..BatchShape::default() }
    }

    /// The operation at a position; `None` past the end of a graph that does not repeat.
    pub fn operation_at(&self, position: u32) -> Option<&Operation> {
        let position = position as usize;
        if position < self.operations.len() {
            return self.operations.get(position);
        }
        let repeated = self.operations.len() - self.repeat_from;
        let beyond = (position - self.repeat_from).checked_rem(repeated)?;
        self.operations.get(self.repeat_from + beyond)
    }

    /// Which step of decoding a position belongs to; `None` for what is done once.
    pub fn decode_step(&self, position: u32) -> Option<u32> {
        let after = (position as usize).checked_sub(self.repeat_from)?;
        Some(after.checked_div(self.operations.len() - self.repeat_from)? as u32)
    }

    /// The work units of the operation at one position of a translation, for sentences of
    /// `lengths` source tokens (end marks included) that may run to `limits` target tokens.
    /// Over all positions they add up to [`Graph::units`].
    pub fn units_at(&self, position: u32, lengths: &[u32], limits: &[u32]) -> WorkUnits {
        let Some(operation) = self.operation_at(position) else { return WorkUnits::default() };
        match self.decode_step(position) {
            Some(t) => operation.units.at(&Sums::of_decode_step(t, lengths, limits)),
            None => {
                let mut shape = BatchShape::default();
                for (&length, &limit) in lengths.iter().zip(limits) {
                    shape.add(length, limit);
                }
                operation.units.at(&Sums::of(&shape))
            }
        }
    }

    /// A tensor.
    pub(crate) fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    /// How many elements a tensor has in a batch.
    pub(crate) fn elements(&self, id: TensorId, sums: &Sums) -> usize {
        self.tensor(id).shape.iter().map(|extent| extent.at(sums) as usize).product()
    }
}
