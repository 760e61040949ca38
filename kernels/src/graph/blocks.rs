//! The parts that layers are made of, forward and backward, as operations.

use super::{Formula, Graph, Kind, Operation, Role, Side, Site, Tensor, TensorId, Units};
use crate::model::{Layout, Linear, Norm};

impl Side {
    /// Rows of a tensor with one row a token of this side.
    pub(super) fn tokens(self) -> Formula {
        match self {
            Self::Source => Formula::SOURCE_TOKENS,
            Self::Target => Formula::TARGET_TOKENS,
        }
    }
}

/// Pairs of query and key: those stored, and those that attention looks at.
fn pairs(queries: Side, keys: Side, causal: bool) -> (Formula, Formula) {
    match (queries, keys) {
        (Side::Source, Side::Source) => (Formula::SOURCE_SQUARES, Formula::SOURCE_SQUARES),
        (Side::Target, Side::Target) if causal => {
            (Formula::TARGET_SQUARES, Formula::TARGET_TRIANGLES)
        }
        (Side::Target, Side::Target) => (Formula::TARGET_SQUARES, Formula::TARGET_SQUARES),
        _ => (Formula::CROSS, Formula::CROSS),
    }
}

/// Builds a graph operation by operation.
pub(super) struct Builder<'a> {
    pub(super) layout: &'a Layout,
    tensors: Vec<Tensor>,
    operations: Vec<Operation>,
    /// Whether dropout has places here.
    dropout: bool,
    sites: u32,
    parameters: Vec<TensorId>,
    gradients: Vec<TensorId>,
}

/// What an embedding leaves for its way back.
#[derive(Clone, Copy)]
pub(super) struct Embedded {
    tokens: TensorId,
    site: Site,
}

/// An operation about to be added.
pub(super) struct Adding<'b, 'a> {
    builder: &'b mut Builder<'a>,
    operation: Operation,
}

impl Adding<'_, '_> {
    pub(super) fn boundary(mut self, boundary: bool) -> Self {
        self.operation.boundary = boundary;
        self
    }

    /// Sets fused multiply-adds; elements written are counted from the outputs.
    pub(super) fn products(mut self, count: Formula) -> Self {
        self.operation.units.product = count;
        self
    }

    /// Counts further elements that the operation computes on its way.
    pub(super) fn pointwise(mut self, count: Formula) -> Self {
        self.operation.units.pointwise = self.operation.units.pointwise + count;
        self
    }

    /// Adds it with a new tensor as its next output.
    pub(super) fn output(mut self, name: &str, rows: Formula, columns: u64) -> Self {
        let shape = if columns == 0 { vec![rows] } else { vec![rows, Formula::constant(columns)] };
        let name = match name {
            "" => self.operation.name.clone(),
            name => format!("{}.{name}", self.operation.name),
        };
        self.operation.units.pointwise = self.operation.units.pointwise + rows * columns.max(1);
        let id = self.builder.tensor(name, shape, Role::Value);
        self.operation.outputs.push(id);
        self
    }

    /// Adds it with an existing tensor (a parameter or gradient) as its next output.
    pub(super) fn writes(mut self, id: TensorId) -> Self {
        let elements = self.builder.fixed_elements(id);
        self.operation.units.pointwise =
            self.operation.units.pointwise + Formula::constant(elements);
        self.operation.outputs.push(id);
        self
    }

    /// Adds the operation and gives its outputs.
    pub(super) fn done(self) -> Vec<TensorId> {
        let outputs = self.operation.outputs.clone();
        self.builder.operations.push(self.operation);
        outputs
    }

    /// Adds the operation and gives its first output.
    pub(super) fn one(self) -> TensorId {
        self.done()[0]
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(layout: &'a Layout, dropout: bool) -> Self {
        let mut builder = Self {
            layout,
            tensors: Vec::new(),
            operations: Vec::new(),
            dropout,
            sites: 0,
            parameters: Vec::new(),
            gradients: Vec::new(),
        };
        for (index, parameter) in layout.parameters().iter().enumerate() {
            let shape: Vec<_> =
                parameter.shape.iter().map(|&n| Formula::constant(n as u64)).collect();
            let index = index as u32;
            let id = builder.tensor(parameter.name.clone(), shape.clone(), Role::Parameter(index));
            builder.parameters.push(id);
            let name = format!("{}.gradient", parameter.name);
            let id = builder.tensor(name, shape, Role::Gradient(index));
            builder.gradients.push(id);
        }
        builder
    }

    pub(super) fn finish(self, repeat_from: Option<usize>) -> Graph {
        let repeat_from = repeat_from.unwrap_or(self.operations.len());
        Graph {
            shape: *self.layout.shape(),
            tensors: self.tensors,
            operations: self.operations,
            repeat_from,
        }
    }

    pub(super) fn operation_count(&self) -> usize {
        self.operations.len()
    }

    pub(super) fn tensor(&mut self, name: String, shape: Vec<Formula>, role: Role) -> TensorId {
        let id = TensorId(self.tensors.len() as u32);
        self.tensors.push(Tensor { name, shape, role });
        id
    }

    /// The elements of a tensor that no batch's shape changes.
    fn fixed_elements(&self, id: TensorId) -> u64 {
        self.tensors[id.0 as usize].shape.iter().map(|extent| extent.constant).product()
    }

    pub(super) fn parameter(&self, index: usize) -> TensorId {
        self.parameters[index]
    }

    pub(super) fn gradient(&self, index: usize) -> TensorId {
        self.gradients[index]
    }

    pub(super) fn gradients(&self) -> Vec<TensorId> {
        self.gradients.clone()
    }

    pub(super) fn site(&mut self) -> Site {
        if !self.dropout {
            return None;
        }
        self.sites += 1;
        Some(self.sites - 1)
    }

    pub(super) fn add<'b>(
        &'b mut self,
        kind: Kind,
        name: impl Into<String>,
        inputs: &[TensorId],
    ) -> Adding<'b, 'a> {
        let operation = Operation {
            name: name.into(),
            inputs: inputs.to_vec(),
            outputs: Vec::new(),
            boundary: false,
            units: Units::default(),
            kind,
        };
        Adding { builder: self, operation }
    }

    fn width(&self) -> u64 {
        self.layout.shape().width.into()
    }

    // Forward.

    pub(super) fn embed(&mut self, side: Side, name: &str) -> (TensorId, Embedded) {
        let site = self.site();
        let tokens = self.tensor(format!("{name}.tokens"), vec![side.tokens()], Role::Tokens(side));
        let (weight, width) = (self.parameter(self.layout.embedding), self.width());
        let out = self
            .add(Kind::Embed { side, site }, name, &[tokens, weight])
            .output("", side.tokens(), width)
            .one();
        (out, Embedded { tokens, site })
    }

    /// The normalised rows, and the statistics for the way back.
    pub(super) fn norm(
        &mut self,
        name: &str,
        side: Side,
        x: TensorId,
        norm: Norm,
        boundary: bool,
    ) -> (TensorId, TensorId) {
        let (gain, bias, width) =
            (self.parameter(norm.gain), self.parameter(norm.bias), self.width());
        let outputs = self
            .add(Kind::LayerNorm, name, &[x, gain, bias])
            .boundary(boundary)
            .output("rows", side.tokens(), width)
            .output("statistics", side.tokens(), 2)
            .done();
        (outputs[0], outputs[1])
    }

    pub(super) fn linear(&mut self, name: &str, side: Side, x: TensorId, to: Linear) -> TensorId {
        let mut inputs = vec![x, self.parameter(to.weight)];
        inputs.extend(to.bias.map(|bias| self.parameter(bias)));
        self.add(Kind::Linear { bias: to.bias.is_some() }, name, &inputs)
            .products(side.tokens() * (to.inputs as u64 * to.outputs as u64))
            .output("", side.tokens(), to.outputs as u64)
            .one()
    }

    pub(super) fn attention(
        &mut self,
        name: &str,
        (queries, keys): (Side, Side),
        causal: bool,
        inputs: &[TensorId],
    ) -> (TensorId, TensorId, Site) {
        let site = self.site();
        let (heads, width) = (u64::from(self.layout.shape().heads), self.width());
        let (stored, seen) = pairs(queries, keys, causal);
        let outputs = self
            .add(Kind::Attention { queries, keys, causal, site }, name, inputs)
            // Scores and context, each `width` products a pair over all heads.
            .products(seen * (2 * width))
            .output("context", queries.tokens(), width)
            .output("weights", stored * heads, 0)
            .done();
        (outputs[0], outputs[1], site)
    }

    pub(super) fn residual(
        &mut self,
        name: &str,
        side: Side,
        x: TensorId,
        branch: TensorId,
        boundary: bool,
    ) -> (TensorId, Site) {
        let (site, width) = (self.site(), self.width());
        let out = self
            .add(Kind::Residual { site }, name, &[x, branch])
            .boundary(boundary)
            .output("", side.tokens(), width)
            .one();
        (out, site)
    }

    pub(super) fn relu(&mut self, name: &str, side: Side, x: TensorId) -> TensorId {
        let (site, width) = (self.site(), self.layout.shape().feed_forward);
        self.add(Kind::Relu { site }, name, &[x]).output("", side.tokens(), width.into()).one()
    }

    // Backward.

    /// The gradient of a linear layer's parameters, then that of its input.
    pub(super) fn linear_backward(
        &mut self,
        name: &str,
        side: Side,
        dy: TensorId,
        x: TensorId,
        to: Linear,
    ) -> TensorId {
        let (inputs, outputs) = (to.inputs as u64, to.outputs as u64);
        let weight = self.gradient(to.weight);
        let bias = to.bias.map(|bias| self.gradient(bias));
        let mut adding = self
            .add(
                Kind::LinearWeightBackward { bias: bias.is_some() },
                format!("{name}.backward.weight"),
                &[dy, x],
            )
            .products(side.tokens() * (inputs * outputs))
            .writes(weight);
        if let Some(bias) = bias {
            adding = adding.pointwise(side.tokens() * outputs).writes(bias);
        }
        adding.done();
        let weight = self.parameter(to.weight);
        self.add(Kind::LinearInputBackward, format!("{name}.backward.input"), &[dy, weight])
            .products(side.tokens() * (inputs * outputs))
            .output("", side.tokens(), inputs)
            .one()
    }

    /// The gradient of the rows that a layer normalisation took, that of the residual added.
    pub(super) fn norm_backward(
        &mut self,
        name: &str,
        side: Side,
        dy: TensorId,
        (x, statistics): (TensorId, TensorId),
        norm: Norm,
        residual: Option<TensorId>,
    ) -> Adding<'_, 'a> {
        let (dgain, dbias, width) =
            (self.gradient(norm.gain), self.gradient(norm.bias), self.width());
        let mut inputs = vec![dy, x, statistics, self.parameter(norm.gain)];
        inputs.extend(residual);
        self.add(
            Kind::LayerNormBackward { residual: residual.is_some() },
            format!("{name}.backward"),
            &inputs,
        )
        .pointwise(side.tokens() * (2 * width))
        .output("", side.tokens(), width)
        .writes(dgain)
        .writes(dbias)
    }

    pub(super) fn residual_backward(
        &mut self,
        name: &str,
        side: Side,
        dy: TensorId,
        site: Site,
    ) -> TensorId {
        let width = self.width();
        self.add(Kind::ResidualBackward { site }, format!("{name}.backward"), &[dy])
            .output("", side.tokens(), width)
            .one()
    }

    /// The gradients of an attention's inputs: of the one packed tensor, or of queries and of
    /// keys with values.
    pub(super) fn attention_backward(
        &mut self,
        name: &str,
        (queries, keys): (Side, Side),
        causal: bool,
        inputs: &[TensorId],
        site: Site,
    ) -> Vec<TensorId> {
        let (heads, width) = (u64::from(self.layout.shape().heads), self.width());
        let (stored, seen) = pairs(queries, keys, causal);
        let adding = self
            .add(
                Kind::AttentionBackward { queries, keys, causal, site },
                format!("{name}.backward"),
                inputs,
            )
            // Gradients of weights, values, queries and keys.
            .products(seen * (4 * width))
            .pointwise(stored * heads);
        if queries == keys {
            adding.output("", queries.tokens(), 3 * width).done()
        } else {
            adding
                .output("queries", queries.tokens(), width)
                .output("keys_values", keys.tokens(), 2 * width)
                .done()
        }
    }

    pub(super) fn embed_backward(&mut self, name: &str, side: Side, dx: TensorId, of: Embedded) {
        let (gradient, width) = (self.gradient(self.layout.embedding), self.width());
        self.operations.push(Operation {
            name: format!("{name}.backward"),
            inputs: vec![of.tokens, dx, gradient],
            outputs: vec![gradient],
            boundary: false,
            units: Units { product: Formula::ZERO, pointwise: side.tokens() * width },
            kind: Kind::EmbedBackward { side, site: of.site },
        });
    }

    /// A boundary over tensors that are already there, counted as `pointwise` elements.
    pub(super) fn commit(
        &mut self,
        kind: Kind,
        name: &str,
        outputs: Vec<TensorId>,
        pointwise: Formula,
    ) {
        self.operations.push(Operation {
            name: name.into(),
            inputs: Vec::new(),
            outputs,
            boundary: true,
            units: Units { product: Formula::ZERO, pointwise },
            kind,
        });
    }
}
