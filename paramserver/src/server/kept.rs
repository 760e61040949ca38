//! What the server keeps of its jobs, for whoever asks.

use super::{Server, ServerError};
use crate::{
    engine::EngineError,
    record::ReceiptEntry,
    training::{Numbers, TrainingError},
};
use job::Job;
use protocol::{
    Digest, JobId, JobSpec, ReceiptId, Signed, encoded::Encoded, job::Work, transaction::CreateJob,
};

impl Server {
    /// A receipt with what opens it.
    ///
    /// # Errors
    /// Where there is none of that id.
    pub fn receipt(&self, id: &ReceiptId) -> Result<ReceiptEntry, ServerError> {
        self.store.receipt(id)?.ok_or_else(|| {
            ServerError::NotFound(format!(
                "no receipt {id} was taken here: ask the parameter server that its job names"
            ))
        })
    }

    /// Parameters by their digest as a safetensors file: the newest from memory, older ones
    /// rebuilt from the last checkpoint before them and the kept gradient sums.
    ///
    /// # Errors
    /// Where no step here began from them, or what would be needed was dropped.
    pub fn parameters(&self, digest: &Digest) -> Result<Vec<u8>, ServerError> {
        self.with_numbers(digest, |numbers| numbers.parameters.to_safetensors())
    }

    /// The optimiser's state as it stood at the parameters of a digest, as a safetensors file:
    /// whoever replays an update needs it.
    ///
    /// # Errors
    /// As [`Server::parameters`].
    pub fn optimiser_state(&self, digest: &Digest) -> Result<Vec<u8>, ServerError> {
        self.with_numbers(digest, |numbers| numbers.state.to_bytes())
    }

    fn with_numbers(
        &self,
        digest: &Digest,
        take: impl Fn(&Numbers) -> Result<Vec<u8>, kernels::Error>,
    ) -> Result<Vec<u8>, ServerError> {
        let broken = |error: kernels::Error| TrainingError::from(error);
        {
            let state = self.lock();
            let mut engines = state.jobs.values().filter_map(|slot| slot.engine.as_ref());
            if let Some(numbers) = engines.find_map(|engine| engine.current(digest)) {
                return Ok(take(numbers).map_err(broken)?);
            }
        }
        let (id, ordinal) = self.store.parameters(digest)?.ok_or_else(|| {
            ServerError::NotFound(format!("no step of a job here began from parameters {digest}"))
        })?;
        let job = self.open_job(&id)?;
        let numbers = Numbers::rebuild(&job, &self.store, ordinal)?;
        let found = numbers.parameters.digest();
        if found != *digest {
            let path = self.store.sum_path(&id, ordinal);
            let what = format!("what was rebuilt is {found}, not {digest}");
            return Err(TrainingError::Damaged { path, what }.into());
        }
        Ok(take(&numbers).map_err(broken)?)
    }

    /// A step's gradient sum, float32 little-endian, by the step's number in its job.
    ///
    /// # Errors
    /// Where there is no such step, it is not done, or its sum was dropped.
    pub fn gradient_sum(&self, id: &JobId, ordinal: u32) -> Result<Vec<u8>, ServerError> {
        let path = self.store.sum_path(id, ordinal);
        if path.is_file() {
            return Ok(crate::store::read_file(&path)?);
        }
        let is_done = self.store.steps(id, ordinal)?.iter().any(|(at, _)| *at == ordinal);
        Err(match is_done {
            true => TrainingError::Gone { ordinal }.into(),
            false => ServerError::NotFound(format!("step {ordinal} of job {id} was not done here")),
        })
    }

    fn open_job(&self, id: &JobId) -> Result<Job, ServerError> {
        let spec = self.spec(id)?;
        let Work::Train(train) = &spec.work else {
            return Err(ServerError::NotFound("a translation job has no steps".into()));
        };
        let bytes = self.store.blob(&train.encoded)?;
        let wrong = |why: String| EngineError::File { what: "encoded corpus", why };
        let encoded = Encoded::from_bytes(bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Job::new(spec, encoded).map_err(|error| wrong(error.to_string()))?)
    }

    /// A job as its requester signed it.
    ///
    /// # Errors
    /// Where there is no such job here.
    pub fn create_of(&self, id: &JobId) -> Result<Signed<CreateJob>, ServerError> {
        let state = self.lock();
        let slot = state.jobs.get(id);
        slot.map(|slot| slot.entry.create.clone())
            .ok_or_else(|| ServerError::NotFound(format!("there is no job {id} here")))
    }

    /// A job's specification.
    ///
    /// # Errors
    /// Where there is no such job here.
    pub fn spec(&self, id: &JobId) -> Result<JobSpec, ServerError> {
        Ok(self.create_of(id)?.body.spec)
    }
}
