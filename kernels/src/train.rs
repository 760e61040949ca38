//! One training micro-batch: forward, loss, backward.

use crate::{
    batch::Pairs,
    error::Error,
    execute::Context,
    graph::{Kind, Sums},
    model::Parameters,
    operators::dropout::Dropout,
    tap::{FirstNonFinite, Tap, all_finite},
    workspace::Workspace,
};

/// What a job and a batch's place in it fix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Dropout's probability in 65,536ths.
    pub dropout: u16,
    /// Label smoothing, at least 0 and below 1.
    pub label_smoothing: f32,
    /// The job's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u32,
    /// The step within it.
    pub step: u32,
    /// The micro-batch within that.
    pub micro: u32,
}

/// What comes of a micro-batch, beside the gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The sum of the target tokens' losses.
    pub loss: f32,
    /// Target tokens, end marks included.
    pub target_tokens: u32,
}

/// Computes the loss of `pairs` and its gradient, which [`Workspace::gradient`] then has: of the
/// SUM of the tokens' losses, in the parameters' order.
///
/// `tap` is called after each operation of [`Workspace::training_graph`], by position.
///
/// # Errors
/// [`Error::EmptyBatch`], [`Error::Token`], [`Error::Length`], [`Error::Setting`],
/// [`Error::Shape`] where parameters and workspace differ, [`Error::FloatingPointMode`], and
/// [`Error::NonFinite`], naming the first operation that gave NaN or infinity.
pub fn micro_batch<T: Tap>(
    parameters: &Parameters,
    pairs: &Pairs,
    settings: &Settings,
    workspace: &mut Workspace,
    tap: &mut T,
) -> Result<Outcome, Error> {
    crate::check_floating_point_mode()?;
    workspace.check(parameters.shape())?;
    pairs.check(parameters.shape())?;
    if !(0.0..1.0).contains(&settings.label_smoothing) {
        return Err(Error::Setting {
            what: "label smoothing",
            value: settings.label_smoothing.into(),
            wanted: "0 or more, less than 1,",
        });
    }
    let loss = run(parameters, pairs, settings, workspace, tap);
    if !loss.is_finite() || !all_finite(&workspace.machine.gradient) {
        let seen = if loss.is_finite() { "result" } else { "loss" };
        // Once more, looking at every output on the way.
        let mut first = FirstNonFinite::default();
        run(parameters, pairs, settings, workspace, &mut first);
        return Err(Error::NonFinite { operation: first.0.unwrap_or_else(|| seen.into()) });
    }
    Ok(Outcome { loss, target_tokens: pairs.labels.len() as u32 })
}

fn run<T: Tap>(
    parameters: &Parameters,
    pairs: &Pairs,
    settings: &Settings,
    workspace: &mut Workspace,
    tap: &mut T,
) -> f32 {
    let Workspace { layout, positions, training, machine, .. } = workspace;
    let part = [settings.epoch, settings.step, settings.micro];
    let context = Context {
        layout,
        parameters: parameters.elements(),
        positions,
        source: &pairs.source,
        target: &pairs.target,
        labels: &pairs.labels,
        sums: Sums::of(&pairs.shape()),
        dropout: Dropout::new(settings.seed, part, settings.dropout),
        smoothing: settings.label_smoothing,
        first_position: 0,
        active: &[],
    };
    machine.prepare(training);
    machine.gradient.resize(layout.elements(), 0.0);
    let mut loss = f32::NAN;
    for (index, operation) in training.graph().operations.iter().enumerate() {
        machine.run(training, index, index as u32, &context, tap);
        if operation.kind == Kind::CrossEntropy {
            loss = machine.scalar(training, operation.outputs[0]);
        }
    }
    loss
}
