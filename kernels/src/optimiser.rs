//! The parameter server's own part of a step: gradient sum, clipping, Adam.

pub use crate::operators::schedule::rate;

use crate::{
    error::Error,
    graph::Graph,
    model::{Layout, Parameters, digest},
    operators::{adam, clip, schedule},
    tap::{OutputData, OutputView, Tap},
};
use protocol::{Digest, job::AdamSpec, job::ModelShape, tensor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// What the optimiser remembers from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    graph: Graph,
    layout: Layout,
    first: Vec<f32>,
    second: Vec<f32>,
    /// The running products of the two decays.
    powers: [f32; 2],
    step: u64,
}

impl State {
    /// The state before the first step.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn new(shape: &ModelShape) -> Result<Self, Error> {
        let graph = Graph::update(shape)?;
        let layout = Layout::new(shape);
        let (first, second) = (vec![0.0; layout.elements()], vec![0.0; layout.elements()]);
        Ok(Self { graph, layout, first, second, powers: [1.0; 2], step: 0 })
    }

    /// The graph that [`update`] walks.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The digest of all of it: moments by parameter, powers, step.
    pub fn digest(&self) -> Digest {
        let first = digest(&self.layout, ".first_moment", &self.first);
        let second = digest(&self.layout, ".second_moment", &self.second);
        let powers = tensor::digest(&[2], &self.powers);
        Digest::of("aliaOS optimiser state v1", &(first, second, powers, self.step))
    }

    /// The state as a safetensors file: `first_moments` and `second_moments` (all parameters' in
    /// their order), `decay_powers`, and `step` as one unsigned 64-bit integer.
    ///
    /// # Errors
    /// [`Error::File`], where the header cannot be written; it can for every model.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        use crate::model::file::{refused, to_le_bytes};
        let (first, second) = (to_le_bytes(&self.first), to_le_bytes(&self.second));
        let (powers, step) = (to_le_bytes(&self.powers), self.step.to_le_bytes());
        let tensors = [
            ("first_moments", Dtype::F32, self.first.len(), first.as_slice()),
            ("second_moments", Dtype::F32, self.second.len(), second.as_slice()),
            ("decay_powers", Dtype::F32, 2, powers.as_slice()),
            ("step", Dtype::U64, 1, step.as_slice()),
        ];
        let views = tensors
            .into_iter()
            .map(|(name, dtype, n, bytes)| {
                Ok((name, TensorView::new(dtype, vec![n], bytes).map_err(refused)?))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        safetensors::serialize(views, None).map_err(refused)
    }

    /// Reads such a file for a model of `shape`.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Shape`].
    pub fn from_bytes(shape: &ModelShape, bytes: &[u8]) -> Result<Self, Error> {
        use crate::model::file::{read_tensor, refused};
        let mut state = Self::new(shape)?;
        let file = SafeTensors::deserialize(bytes).map_err(refused)?;
        let n = state.layout.elements();
        state.first = read_tensor(&file, "first_moments", &[n])?;
        state.second = read_tensor(&file, "second_moments", &[n])?;
        let powers = read_tensor(&file, "decay_powers", &[2])?;
        state.powers.copy_from_slice(&powers);
        let step = file.tensor("step").map_err(refused)?;
        state.step = match (step.dtype(), <[u8; 8]>::try_from(step.data())) {
            (Dtype::U64, Ok(bytes)) => u64::from_le_bytes(bytes),
            _ => return Err(Error::File("step is not one 64-bit integer".into())),
        };
        Ok(state)
    }
}

/// One step: from the sum of its micro-batches' gradients ([`crate::sum`]) to new parameters.
///
/// `target_tokens` are those of all of the step's micro-batches. `tap` is called after each
/// operation of [`State::graph`], by position; the first shows it the gradient sum.
///
/// # Errors
/// [`Error::Count`] where the sum is not of this model, [`Error::Shape`] where state and
/// parameters differ, [`Error::EmptyBatch`] without target tokens, [`Error::FloatingPointMode`],
/// and [`Error::NonFinite`] for a sum that is not finite; parameters and state are then as they
/// were.
pub fn update<T: Tap>(
    parameters: &mut Parameters,
    state: &mut State,
    gradient_sum: &mut [f32],
    target_tokens: u64,
    spec: &AdamSpec,
    tap: &mut T,
) -> Result<(), Error> {
    crate::check_floating_point_mode()?;
    if state.layout != *parameters.layout() {
        return Err(Error::Shape("optimiser state and parameters are of two models".into()));
    }
    if gradient_sum.len() != state.layout.elements() {
        let (found, wanted) = (gradient_sum.len(), state.layout.elements());
        return Err(Error::Count { what: "elements of the gradient sum", found, wanted });
    }
    if target_tokens == 0 {
        return Err(Error::EmptyBatch);
    }
    let State { graph, layout, first, second, powers, step } = state;
    let mut position = 0;

    show(graph, &mut position, tap, by_parameter(layout, gradient_sum));
    let mut clipped = clip::run(gradient_sum, target_tokens as f32, spec.clip_norm);
    show(graph, &mut position, tap, [&mut clipped[..]]);
    let [norm, factor] = clipped;
    if !norm.is_finite() || !factor.is_finite() {
        let operation = graph.operations[1].name.clone();
        return Err(Error::NonFinite { operation });
    }
    let mut scheduled = schedule::run(spec, *step + 1, *powers);
    show(graph, &mut position, tap, [&mut scheduled[..]]);
    let [power1, power2, correction1, correction2, rate] = scheduled;
    let numbers = adam::Step {
        factor,
        beta1: spec.beta1,
        beta2: spec.beta2,
        correction1,
        correction2,
        rate,
        epsilon: spec.epsilon,
    };
    let (_, elements) = parameters.split();
    for parameter in layout.parameters() {
        let range = parameter.range.clone();
        let sum = &gradient_sum[range.clone()];
        let (w, m) = (&mut elements[range.clone()], &mut first[range.clone()]);
        let v = &mut second[range];
        adam::run(numbers, sum, w, m, v);
        show(graph, &mut position, tap, [w, m, v]);
    }
    *powers = [power1, power2];
    *step += 1;
    Ok(())
}

/// A vector in the parameters' order, cut into them.
fn by_parameter<'a>(
    layout: &Layout,
    mut all: &'a mut [f32],
) -> impl IntoIterator<Item = &'a mut [f32]> {
    layout
        .parameters()
        .iter()
        .map(|parameter| {
            let (data, rest) = std::mem::take(&mut all).split_at_mut(parameter.range.len());
            all = rest;
            data
        })
        .collect::<Vec<_>>()
}

/// Shows the operation at `position` to the tap, and moves on to the next.
fn show<'a, T: Tap>(
    graph: &Graph,
    position: &mut u32,
    tap: &mut T,
    outputs: impl IntoIterator<Item = &'a mut [f32]>,
) {
    let operation = &graph.operations[*position as usize];
    if tap.wants(*position, operation) {
        let mut views: Vec<_> = operation
            .outputs
            .iter()
            .zip(outputs)
            .map(|(id, data)| {
                let tensor = graph.tensor(*id);
                let shape = tensor.shape.iter().map(|extent| extent.constant as usize).collect();
                OutputView { name: &tensor.name, shape, data: OutputData::F32(data) }
            })
            .collect();
        tap.after(*position, operation, &mut views);
    }
    *position += 1;
}
