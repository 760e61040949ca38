//! Replaying a parameter server's own part of a step: gradient sum, clipping, optimiser.

use super::{
    Options, ReplayError,
    inputs::{self, Claim, Origin},
    on_a_thread, opens, state,
};
use crate::{ledger::Ledger, parameter_server::ParameterServer};
use compute::run::{Device, Place, Ran, RunProduct};
use job::{
    Job,
    tree::Span,
    work::{Done, gradient_digest},
};
use kernels::{model::Parameters, optimiser};
use protocol::{
    BatchPart,
    job::{LogLevel, Work},
    operation::OperationRecord,
};
use std::sync::Arc;

pub(super) struct Update<'a> {
    pub(super) server: &'a ParameterServer,
    pub(super) job: &'a Arc<Job>,
    pub(super) claim: &'a Claim,
    pub(super) options: Options,
}

impl Update<'_> {
    /// Does the update again, with a record of every operation; and whether the gradient sum that
    /// the receipt names is not that of the step's micro-batches.
    pub(super) async fn again(
        &self,
        ledger: Option<&mut Ledger>,
        origin: &Origin,
        notes: &mut Vec<String>,
    ) -> Result<(Done, bool), ReplayError> {
        let body = &self.claim.receipt.body;
        let (epoch, step) = (body.batch.epoch, body.batch.step);
        let parameters = inputs::parameters(self.server, self.job, body).await?;
        let state = self.state(&parameters, origin, notes).await?;
        let mut differs = false;
        let sum = if self.options.recompute_sum {
            let ran = self.micro_batches(&parameters).await?;
            let sum = match &ran.product {
                RunProduct::Gradient(sum) => sum.clone(),
                RunProduct::Translations(_) => Vec::new(),
            };
            let ours = gradient_digest(&parameters, &sum);
            if ours == body.input {
                notes.push(
                    "the gradient sum is that of the step's micro-batches, done again".into(),
                );
            } else {
                differs = true;
                self.blame(ledger, &ran, notes).await?;
            }
            sum
        } else {
            let ordinal = self.job.terms().schedule().ordinal(epoch, step);
            let elements = parameters.elements().len();
            let sum = self.server.gradient_sum(&body.batch.job, ordinal, elements).await?;
            let found = gradient_digest(&parameters, &sum);
            if found != body.input {
                let why = format!("it is {found}, the receipt was for {}", body.input);
                return Err(ReplayError::File { what: "gradient sum", why });
            }
            notes.push(
                "the gradient sum is taken as it was committed; --recompute-sum does the step's \
                 micro-batches again"
                    .into(),
            );
            sum
        };
        let job = self.job.clone();
        let again = move || {
            let (mut parameters, mut state, mut sum) = (parameters, state, sum);
            let full = LogLevel::Full;
            Ok(job.update(epoch, step, &mut parameters, &mut state, &mut sum, full)?)
        };
        Ok((on_a_thread(again).await?, differs))
    }

    /// The optimiser's state before the step.
    async fn state(
        &self,
        parameters: &Parameters,
        origin: &Origin,
        notes: &mut Vec<String>,
    ) -> Result<optimiser::State, ReplayError> {
        let body = &self.claim.receipt.body;
        let schedule = self.job.terms().schedule();
        let ordinal = schedule.ordinal(body.batch.epoch, body.batch.step);
        if ordinal == 0 {
            notes.push("the optimiser's state is that before the first step: zero".into());
            return Ok(optimiser::State::new(self.job.shape())?);
        }
        let (state, bytes) =
            self.server.optimiser_state(self.job.shape(), &body.parameters).await?;
        let Some(before) = self.before(origin, notes).await? else {
            notes.push("the optimiser's state is the parameter server's word".into());
            return Ok(state);
        };
        let (Work::Train(train), Some(graph)) =
            (&self.job.spec().work, self.job.terms().update_graph())
        else {
            return Ok(state);
        };
        let checked = state::check(
            &bytes,
            parameters.layout(),
            graph,
            &train.adam,
            ordinal,
            parameters.elements(),
            Some(&before),
        );
        checked.map_err(|why| ReplayError::File { what: "optimiser state", why })?;
        notes.push("the optimiser's state is what the update of the step before left".into());
        Ok(state)
    }

    /// The records of the update before, which its proven receipt commits to.
    async fn before(
        &self,
        origin: &Origin,
        notes: &mut Vec<String>,
    ) -> Result<Option<Vec<OperationRecord>>, ReplayError> {
        let Origin::Known { update: Some((id, record)), .. } = origin else { return Ok(None) };
        let Some(confirmed) = &record.confirmed else { return Ok(None) };
        let view = self.server.receipt(id).await?;
        if opens(&confirmed.salt, &view.records, &record.body().work_root) {
            return Ok(Some(view.records));
        }
        notes.push("the records of the update before do not open its work root".into());
        Ok(None)
    }

    /// Does every micro-batch of the step again.
    async fn micro_batches(&self, parameters: &Parameters) -> Result<Ran, ReplayError> {
        let batch = self.claim.receipt.body.batch;
        let count = self.job.terms().schedule().micro_batches(batch.step);
        let span = Span { first: 0, count };
        let place = Place { epoch: batch.epoch, step: batch.step, span };
        let (job, threads, parameters) =
            (self.job.clone(), self.options.threads, parameters.clone());
        let again = move || {
            let level = job.spec().log;
            Ok(Device::new(threads).run(&job, place, level, &parameters, &())?)
        };
        on_a_thread(again).await
    }

    /// Who made a sum false: a worker whose receipt names another gradient than was found here,
    /// or, where none does, the parameter server that summed.
    async fn blame(
        &self,
        ledger: Option<&mut Ledger>,
        ran: &Ran,
        notes: &mut Vec<String>,
    ) -> Result<(), ReplayError> {
        let Some(ledger) = ledger else { return Ok(()) };
        let mut false_ones = 0;
        for (micro, leaf) in (0..).zip(&ran.leaves) {
            let batch = leaf.done.batch;
            debug_assert_eq!(batch.part, BatchPart::Micro(micro));
            let Some(proven) = ledger.batch(batch).await? else {
                notes.push(format!("{batch}: no receipt of it is confirmed on the chain"));
                continue;
            };
            for (id, record) in &proven.confirmed {
                if record.body().result != leaf.done.result {
                    false_ones += 1;
                    notes.push(format!(
                        "{batch}: receipt {id} of node {} names gradient {}, here it is {}",
                        record.body().node(),
                        record.body().result,
                        leaf.done.result
                    ));
                }
            }
        }
        notes.push(match false_ones {
            0 => "every micro-batch's receipt names the gradient that was found here: the \
                  parameter server summed something else"
                .into(),
            _ => "the parameter server may have summed in good faith: `alia replay` of those \
                  receipts names the operation"
                .into(),
        });
        Ok(())
    }
}
