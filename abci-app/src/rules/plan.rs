//! What a job obliges to, through crate `job`: the one truth that worker, server and ledger share.

use super::{Stop, refuse};
use crate::state::{Base, Fork, StoreError};
use job::terms::Terms;
use protocol::{
    WorkUnits,
    batch::BatchId,
    job::JobId,
    refusal::RefusalCode,
    state::{JobRecord, StateKey},
};
use std::sync::Arc;

/// A job's record and terms.
pub(super) struct Plan {
    pub(super) record: JobRecord,
    terms: Arc<Terms>,
}

impl Plan {
    /// A job's plan; refused where there is no such job.
    pub(super) fn of(job: &JobId, fork: &Fork<'_>) -> Result<Self, Stop> {
        let key = StateKey::Job(*job);
        let Some(record) = fork.get::<JobRecord>(&key)? else {
            return refuse(RefusalCode::UnknownJob, format!("job {job}"));
        };
        let terms = fork.terms(job)?.ok_or_else(|| StoreError::Broken {
            at: key.path(),
            wrong: "a job without terms".into(),
        })?;
        Ok(Self { record, terms })
    }

    /// Micro-batches of a step; refused where the job has no such step.
    pub(super) fn micro_batches(&self, epoch: u32, step: u32) -> Result<u32, Stop> {
        let schedule = self.terms.schedule();
        let found = schedule.micro_batches(step);
        if epoch >= schedule.epochs || found == 0 {
            let (epochs, steps) = (schedule.epochs, schedule.steps());
            return refuse(
                RefusalCode::OutOfBounds,
                format!("epoch {epoch} step {step}, of {epochs} epochs of {steps} steps"),
            );
        }
        Ok(found)
    }

    /// Whether a step ends with an update: training does, translating does not.
    pub(super) fn has_update(&self) -> bool {
        self.terms.update_graph().is_some()
    }

    /// What a batch counts for; refused where the job has no such batch.
    pub(super) fn units(&self, batch: &BatchId) -> Result<WorkUnits, Stop> {
        match self.terms.units(batch.epoch, batch.step, batch.part) {
            Some(units) => Ok(units),
            None => refuse(RefusalCode::OutOfBounds, batch.to_string()),
        }
    }
}
