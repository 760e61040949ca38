//! Runs a graph's operations: finds each one's inputs and outputs in memory and calls its operator.

use crate::{
    batch::Ragged,
    graph::{Graph, Kind, Operation, Role, Side, Sums, TensorId},
    model::Layout,
    operators::{
        add, argmax,
        attention::{self, Attention, Gradients, Packed},
        attention_step::{self, Cache},
        cross_entropy,
        dropout::Dropout,
        embed::{self, Embed},
        layer_norm, linear, relu, residual,
    },
    product::Packing,
    tap::{OutputData, OutputView, Tap},
};
use std::{collections::HashMap, mem::take};

/// A graph with a place in memory for each tensor that one operation hands to later ones.
#[derive(Debug)]
pub(crate) struct Program {
    graph: Graph,
    /// The buffer of each tensor of [`Role::Value`].
    slots: Vec<Option<usize>>,
    slot_count: usize,
}

impl Program {
    /// Tensors of one shape share a buffer where the one is no longer read when the other is
    /// written. What is read in a repeated part stays, and so does the loss.
    pub(crate) fn new(graph: Graph) -> Self {
        let mut last_read: HashMap<TensorId, usize> = HashMap::new();
        for (at, operation) in graph.operations.iter().enumerate() {
            for id in operation.inputs.iter().chain(&operation.outputs) {
                last_read.insert(*id, at);
            }
        }
        let mut slots = vec![None; graph.tensors.len()];
        let mut slot_count = 0;
        let mut free: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, operation) in graph.operations.iter().enumerate() {
            let is_value = |id: &&TensorId| graph.tensor(**id).role == Role::Value;
            for id in operation.outputs.iter().filter(is_value) {
                let shape = &graph.tensor(*id).shape;
                let slot = free.get_mut(shape).and_then(Vec::pop).unwrap_or_else(|| {
                    slot_count += 1;
                    slot_count - 1
                });
                slots[id.0 as usize] = Some(slot);
            }
            if operation.kind == Kind::CrossEntropy {
                continue;
            }
            let mut done: Vec<TensorId> = operation
                .inputs
                .iter()
                .chain(&operation.outputs)
                .filter(is_value)
                .copied()
                .collect();
            done.dedup();
            for id in done.into_iter().filter(|id| last_read.get(id) == Some(&at)) {
                let born = graph.operations.iter().position(|o| o.outputs.contains(&id));
                let outlives = at >= graph.repeat_from && born < Some(graph.repeat_from);
                if let (Some(slot), false) = (slots[id.0 as usize], outlives) {
                    free.entry(graph.tensor(id).shape.clone()).or_default().push(slot);
                }
            }
        }
        Self { graph, slots, slot_count }
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    fn slot(&self, id: TensorId) -> Option<usize> {
        self.slots[id.0 as usize]
    }
}

/// A batch's tensors, and what operators keep from one to the next.
#[derive(Debug)]
pub(crate) struct Machine {
    buffers: Vec<Vec<f32>>,
    /// Of all parameters, in their order.
    pub(crate) gradient: Vec<f32>,
    /// What the last step of decoding chose.
    pub(crate) tokens: Vec<u32>,
    /// Keys and values of each decoder layer: of the target so far, of the source.
    caches: Vec<[Cache; 2]>,
    packing: Packing,
    attending: attention::Scratch,
    scratch: Vec<f32>,
}

/// What operations read beside tensors.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) parameters: &'a [f32],
    pub(crate) positions: &'a [f32],
    pub(crate) source: &'a Ragged,
    pub(crate) target: &'a Ragged,
    pub(crate) labels: &'a [u32],
    pub(crate) sums: Sums,
    pub(crate) dropout: Dropout,
    pub(crate) smoothing: f32,
    /// The position of the target's tokens: not 0 in decoding, where there is one a sentence.
    pub(crate) first_position: usize,
    /// Which sentence each target row belongs to, in decoding.
    pub(crate) active: &'a [usize],
}

impl Context<'_> {
    fn tokens(&self, side: Side) -> &Ragged {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    fn width(&self) -> usize {
        self.layout.shape().width as usize
    }

    fn heads(&self) -> usize {
        self.layout.shape().heads as usize
    }

    fn embed(&self, side: Side, site: Option<u32>) -> Embed<'_> {
        Embed {
            width: self.width(),
            tokens: self.tokens(side),
            first_position: match side {
                Side::Source => 0,
                Side::Target => self.first_position,
            },
            drop: self.dropout.at(site),
        }
    }

    fn attention<'a>(
        &'a self,
        (queries, keys): (Side, Side),
        causal: bool,
        site: Option<u32>,
        packed: &[&'a [f32]],
    ) -> Attention<'a> {
        let width = self.width();
        let part = |which: usize, stride: usize, start: usize| Packed {
            data: packed[which],
            stride: stride * width,
            start: start * width,
        };
        let (q, k, v) = if queries == keys {
            (part(0, 3, 0), part(0, 3, 1), part(0, 3, 2))
        } else {
            (part(0, 1, 0), part(1, 2, 0), part(1, 2, 1))
        };
        Attention {
            heads: self.heads(),
            width,
            queries: self.tokens(queries),
            keys: self.tokens(keys),
            causal,
            drop: self.dropout.at(site),
            q,
            k,
            v,
        }
    }
}

impl Machine {
    pub(crate) fn new(decoder_layers: usize) -> Self {
        Self {
            buffers: Vec::new(),
            gradient: Vec::new(),
            tokens: Vec::new(),
            caches: vec![[Cache::default(), Cache::default()]; decoder_layers],
            packing: Packing::default(),
            attending: attention::Scratch::default(),
            scratch: Vec::new(),
        }
    }

    /// Makes room for a program's tensors.
    pub(crate) fn prepare(&mut self, program: &Program) {
        if self.buffers.len() < program.slot_count {
            self.buffers.resize_with(program.slot_count, Vec::new);
        }
    }

    /// Empties the caches and makes room for the targets' and the sources' rows.
    pub(crate) fn reset_caches(&mut self, width: usize, limits: &[u32], source: &Ragged) {
        for [own, memory] in &mut self.caches {
            own.reset(width, limits.iter().map(|limit| *limit as usize));
            memory.reset(width, (0..source.sentence_count()).map(|s| source.len_of(s)));
        }
    }

    /// Fills the caches of the encoded sources: what the steps of decoding look up.
    pub(crate) fn fill_memory(&mut self, program: &Program, context: &Context<'_>) {
        let width = context.width();
        for operation in &program.graph.operations {
            let Kind::AttentionStep { layer, memory: true } = operation.kind else { continue };
            let Some(slot) = program.slot(operation.inputs[1]) else { continue };
            let cache = &mut self.caches[layer as usize][1];
            let mut rows = self.buffers[slot].chunks_exact(2 * width);
            for sentence in 0..context.source.sentence_count() {
                for row in rows.by_ref().take(context.source.len_of(sentence)) {
                    cache.push(sentence, &row[..width], &row[width..]);
                }
            }
        }
    }

    /// The first element of a tensor.
    pub(crate) fn scalar(&self, program: &Program, id: TensorId) -> f32 {
        program.slot(id).and_then(|slot| self.buffers[slot].first().copied()).unwrap_or(f32::NAN)
    }

    /// Does the operation at `index` of the program's list, then shows it to `tap` as `position`.
    pub(crate) fn run<T: Tap>(
        &mut self,
        program: &Program,
        index: usize,
        position: u32,
        context: &Context<'_>,
        tap: &mut T,
    ) {
        let operation = &program.graph.operations[index];
        let slots: [Option<usize>; 2] =
            std::array::from_fn(|i| operation.outputs.get(i).and_then(|id| program.slot(*id)));
        // Outputs leave their place while the inputs beside them are read.
        let mut values =
            slots.map(|slot| slot.map_or(Vec::new(), |slot| take(&mut self.buffers[slot])));
        let mut lengths = [0; 2];
        for i in 0..2 {
            if slots[i].is_some() {
                lengths[i] = program.graph.elements(operation.outputs[i], &context.sums);
                if values[i].len() < lengths[i] {
                    values[i] = vec![0.0; lengths[i]];
                }
            }
        }
        let [first, second] = &mut values;
        let (first, second) = (&mut first[..lengths[0]], &mut second[..lengths[1]]);
        self.compute(program, operation, context, first, second);
        if tap.wants(position, operation) {
            let mut views = views(
                program,
                operation,
                context,
                [first, second],
                &mut self.tokens,
                &mut self.gradient,
            );
            tap.after(position, operation, &mut views);
        }
        for (slot, value) in slots.into_iter().zip(values) {
            if let Some(slot) = slot {
                self.buffers[slot] = value;
            }
        }
    }

    fn compute(
        &mut self,
        program: &Program,
        operation: &Operation,
        context: &Context<'_>,
        first: &mut [f32],
        second: &mut [f32],
    ) {
        let Self { buffers, gradient, tokens, caches, packing, attending, scratch } = self;
        let graph = &program.graph;
        let buffers = &*buffers;
        let parameters = context.layout.parameters();
        let input = |i: usize| -> &[f32] {
            let id = operation.inputs[i];
            match graph.tensor(id).role {
                Role::Parameter(p) => &context.parameters[parameters[p as usize].range.clone()],
                _ => match program.slot(id) {
                    Some(slot) => &buffers[slot][..graph.elements(id, &context.sums)],
                    None => &[],
                },
            }
        };
        let range = |i: usize| match graph.tensor(operation.outputs[i]).role {
            Role::Gradient(p) => parameters[p as usize].range.clone(),
            _ => 0..0,
        };
        // `[outputs, inputs]` of a parameter.
        let extents = |id: TensorId| {
            let shape = &graph.tensor(id).shape;
            (shape[1].constant as usize, shape[0].constant as usize)
        };
        match operation.kind {
            Kind::Embed { side, site } => {
                let of = context.embed(side, site);
                embed::run(of, input(1), context.positions, scratch, first);
            }
            Kind::EmbedBackward { side, site } => {
                let of = context.embed(side, site);
                embed::run_backward(of, input(1), scratch, &mut gradient[range(0)]);
            }
            Kind::LayerNorm => layer_norm::run(input(0), input(1), input(2), first, second),
            Kind::LayerNormBackward { residual } => {
                let of = layer_norm::Back {
                    dy: input(0),
                    x: input(1),
                    statistics: input(2),
                    gain: input(3),
                    residual: residual.then(|| input(4)),
                };
                let (dgain, dbias) = two(gradient, range(1), range(2));
                layer_norm::run_backward(of, first, dgain, dbias);
            }
            Kind::Linear { bias } => {
                let bias = bias.then(|| input(2));
                let extents = extents(operation.inputs[1]);
                linear::run(extents, input(0), input(1), bias, packing, first);
            }
            Kind::LinearInputBackward => {
                let extents = extents(operation.inputs[1]);
                linear::run_input_backward(extents, input(0), input(1), packing, first);
            }
            Kind::LinearWeightBackward { bias } => {
                let extents = extents(operation.outputs[0]);
                let (dy, x) = (input(0), input(1));
                if bias {
                    let (dw, dbias) = two(gradient, range(0), range(1));
                    linear::run_weight_backward(extents, dy, x, packing, dw, Some(dbias));
                } else {
                    let dw = &mut gradient[range(0)];
                    linear::run_weight_backward(extents, dy, x, packing, dw, None);
                }
            }
            Kind::Attention { queries, keys, causal, site } => {
                let packed: [&[f32]; 2] = [input(0), if queries == keys { &[] } else { input(1) }];
                let of = context.attention((queries, keys), causal, site, &packed);
                attention::run(of, attending, first, second);
            }
            Kind::AttentionBackward { queries, keys, causal, site } => {
                let (packed, weights, gradients): ([&[f32]; 2], _, _) = if queries == keys {
                    ([input(1), &[]], input(2), Gradients::One(first))
                } else {
                    ([input(1), input(2)], input(3), Gradients::Two(first, second))
                };
                let of = context.attention((queries, keys), causal, site, &packed);
                attention::run_backward(of, weights, input(0), attending, gradients);
            }
            Kind::AttentionStep { layer, memory } => {
                let (width, rows) = (context.width(), input(0));
                let cache = &mut caches[layer as usize][usize::from(memory)];
                let stride = if memory { width } else { 3 * width };
                if !memory {
                    for (row, &sentence) in rows.chunks_exact(stride).zip(context.active) {
                        cache.push(sentence, &row[width..2 * width], &row[2 * width..]);
                    }
                }
                let (heads, active) = (context.heads(), context.active);
                attention_step::run(cache, heads, active, (rows, stride), scratch, first);
            }
            Kind::Residual { site } => {
                residual::run(input(0), input(1), context.dropout.at(site), first);
            }
            Kind::ResidualBackward { site } => {
                residual::run_backward(input(0), context.dropout.at(site), first);
            }
            Kind::Relu { site } => relu::run(input(0), context.dropout.at(site), first),
            Kind::ReluBackward => {
                // One dropout for all of a batch: the scale of any of its places.
                let scale = context.dropout.at(Some(0)).scale;
                relu::run_backward(input(0), input(1), scale, first);
            }
            Kind::Add => add::run(input(0), input(1), first),
            Kind::CrossEntropy => {
                first[0] = cross_entropy::run(context.labels, input(0), context.smoothing, second);
            }
            Kind::CrossEntropyBackward => {
                let (logits, tokens, e) = (input(0), input(1), context.smoothing);
                cross_entropy::run_backward(context.labels, logits, tokens, e, first);
            }
            Kind::Argmax => {
                tokens.resize(context.active.len(), 0);
                argmax::run(input(0), tokens);
            }
            // Its outputs are there already.
            Kind::Result => {}
            // The optimiser's, which runs its own graph.
            Kind::GradientSum | Kind::Clip | Kind::Schedule | Kind::Adam { .. } => {}
        }
    }
}

/// Two parameters' gradients, the first before the second.
fn two(
    gradient: &mut [f32],
    first: std::ops::Range<usize>,
    second: std::ops::Range<usize>,
) -> (&mut [f32], &mut [f32]) {
    let (left, right) = gradient.split_at_mut(second.start);
    (&mut left[first], &mut right[..second.end - second.start])
}

fn views<'a>(
    program: &'a Program,
    operation: &Operation,
    context: &Context<'_>,
    values: [&'a mut [f32]; 2],
    tokens: &'a mut [u32],
    gradient: &'a mut [f32],
) -> Vec<OutputView<'a>> {
    let graph = &program.graph;
    let mut views = Vec::with_capacity(operation.outputs.len());
    let (mut values, mut tokens) = (values.into_iter(), Some(tokens));
    // Gradients among the outputs stand in the parameters' order.
    let (mut rest, mut at) = (gradient, 0);
    for id in &operation.outputs {
        let tensor = graph.tensor(*id);
        let shape = tensor.shape.iter().map(|extent| extent.at(&context.sums) as usize).collect();
        let data = match tensor.role {
            Role::Gradient(p) => {
                let range = &context.layout.parameters()[p as usize].range;
                let (_, after) = rest.split_at_mut(range.start - at);
                let (data, after) = after.split_at_mut(range.end - range.start);
                (rest, at) = (after, range.end);
                OutputData::F32(data)
            }
            _ if operation.kind == Kind::Argmax => match tokens.take() {
                Some(tokens) => OutputData::U32(tokens),
                None => continue,
            },
            _ => match values.next() {
                Some(value) => OutputData::F32(value),
                None => continue,
            },
        };
        views.push(OutputView { name: &tensor.name, shape, data });
    }
    views
}
