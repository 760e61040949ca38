//! What a job obliges to, known without its corpus: which batches there are and what each counts
//! for. The ledger holds a job to this.

use crate::{plan::Schedule, spec::SpecError};
use kernels::graph::Graph;
use protocol::{
    WorkUnits,
    batch::{BatchPart, BatchShape},
    job::{JobSpec, Work},
};
use std::sync::OnceLock;

/// A job's schedule and work units.
#[derive(Debug)]
pub struct Terms {
    schedule: Schedule,
    shapes: Vec<BatchShape>,
    graph: Graph,
    update: Option<Graph>,
    /// Each epoch's order, made when it is first asked for.
    orders: Vec<OnceLock<Vec<u32>>>,
}

impl Terms {
    /// The terms of a specification whose distinct micro-batches have `shapes`.
    ///
    /// # Errors
    /// Where the specification is out of bounds.
    pub fn new(spec: &JobSpec, shapes: Vec<BatchShape>) -> Result<Self, SpecError> {
        crate::spec::check(spec)?;
        let batches = shapes.len() as u32;
        let built = |graph: Result<Graph, kernels::Error>| {
            graph.map_err(|error| SpecError::Model(error.to_string()))
        };
        let (schedule, graph, update) = match &spec.work {
            Work::Train(train) => (
                Schedule::training(train, batches),
                built(Graph::training(&train.model))?,
                Some(built(Graph::update(&train.model))?),
            ),
            Work::Translate(translate) => {
                (Schedule::translation(batches), built(Graph::translation(&translate.shape))?, None)
            }
        };
        let orders = (0..schedule.epochs).map(|_| OnceLock::new()).collect();
        Ok(Self { schedule, shapes, graph, update, orders })
    }

    /// Epochs, steps, micro-batches.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The shapes of the distinct micro-batches.
    pub fn shapes(&self) -> &[BatchShape] {
        &self.shapes
    }

    /// The graph of a micro-batch.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph of an update; none for translation.
    pub fn update_graph(&self) -> Option<&Graph> {
        self.update.as_ref()
    }

    /// Which distinct micro-batch stands at a place; none where there is no such place.
    pub fn distinct(&self, epoch: u32, step: u32, micro: u32) -> Option<u32> {
        if micro >= self.schedule.micro_batches(step) {
            return None;
        }
        let order = self.orders.get(epoch as usize)?.get_or_init(|| self.schedule.epoch(epoch));
        order.get((step * self.schedule.per_step + micro) as usize).copied()
    }

    /// What a part of a step counts for; none where the job has no such part.
    pub fn units(&self, epoch: u32, step: u32, part: BatchPart) -> Option<WorkUnits> {
        match part {
            BatchPart::Micro(micro) => {
                let distinct = self.distinct(epoch, step, micro)?;
                Some(self.graph.units(self.shapes.get(distinct as usize)?))
            }
            BatchPart::Update => {
                let gradients = self.schedule.micro_batches(step);
                if epoch >= self.schedule.epochs || gradients == 0 {
                    return None;
                }
                Some(self.update.as_ref()?.units(&Graph::update_shape(gradients)))
            }
        }
    }
}
