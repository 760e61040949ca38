//! Memory and graphs that are kept from batch to batch.

use crate::{
    error::Error,
    execute::{Machine, Program},
    graph::Graph,
    model::Layout,
    operators::positions,
};
use protocol::job::ModelShape;

/// What a batch is computed in: one for each thread that computes. It grows to the largest batch
/// that it has seen and is then allocated no more.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) layout: Layout,
    pub(crate) positions: Vec<f32>,
    pub(crate) training: Program,
    pub(crate) translation: Program,
    pub(crate) machine: Machine,
}

impl Workspace {
    /// A workspace for models of one shape.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn new(shape: &ModelShape) -> Result<Self, Error> {
        let training = Program::new(Graph::training(shape)?);
        let translation = Program::new(Graph::translation(shape)?);
        let layout = Layout::new(shape);
        let positions = positions::table(shape.max_length as usize, shape.width as usize);
        let machine = Machine::new(shape.decoder_layers as usize);
        Ok(Self { layout, positions, training, translation, machine })
    }

    /// The model's shape.
    pub fn shape(&self) -> &ModelShape {
        self.layout.shape()
    }

    /// Names, shapes and places of the parameters and of their gradients.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The graph that [`crate::train::micro_batch`] walks.
    pub fn training_graph(&self) -> &Graph {
        self.training.graph()
    }

    /// The graph that [`crate::decode::greedy`] walks.
    pub fn translation_graph(&self) -> &Graph {
        self.translation.graph()
    }

    /// The last micro-batch's gradient in the parameters' order; empty before the first.
    pub fn gradient(&self) -> &[f32] {
        &self.machine.gradient
    }

    /// That `shape` is this workspace's.
    pub(crate) fn check(&self, shape: &ModelShape) -> Result<(), Error> {
        if shape == self.layout.shape() {
            return Ok(());
        }
        Err(Error::Shape(format!(
            "the parameters are of {shape:?}, the workspace of {:?}",
            self.layout.shape()
        )))
    }
}
