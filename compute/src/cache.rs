//! What a worker keeps from one assignment to the next: jobs, and the parameters used last.

use crate::client::{ClientError, Server};
use job::{Job, JobError};
use kernels::model::Parameters;
use protocol::{Digest, JobId, encoded::Encoded, job::Work, work::Assignment};
use std::{collections::VecDeque, sync::Arc};

/// Jobs kept; a corpus of 60,000 pairs is about 5 MB.
const JOBS: usize = 4;
/// Sets of parameters kept.
const PARAMETERS: usize = 2;

/// What an assignment needs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The job's files do not make a job.
    #[error("job {job}: {why}")]
    Job {
        /// Which.
        job: JobId,
        /// What is wrong.
        why: String,
    },
    /// The parameters are not those that were assigned.
    #[error("parameters {wanted} were assigned, the server gave {found}")]
    Parameters {
        /// What was assigned.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
}

/// The cache of one worker.
#[derive(Debug, Default)]
pub struct Cache {
    jobs: VecDeque<Arc<Job>>,
    parameters: VecDeque<(Digest, Arc<Parameters>)>,
}

impl Cache {
    /// The job of an assignment.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn job(&mut self, server: &Server, id: &JobId) -> Result<Arc<Job>, FetchError> {
        if let Some(job) = self.jobs.iter().find(|job| job.id() == *id) {
            return Ok(job.clone());
        }
        let wrong = |why: String| FetchError::Job { job: *id, why };
        let spec = server.create_of(id).await?.body.spec;
        let digest = match &spec.work {
            Work::Train(train) => train.encoded,
            Work::Translate(translate) => translate.input,
        };
        let bytes = server.blob(&digest).await?;
        let encoded = Encoded::from_bytes(bytes.to_vec()).map_err(|e| wrong(e.to_string()))?;
        let job = Job::new(spec, encoded).map_err(|e: JobError| wrong(e.to_string()))?;
        let job = Arc::new(job);
        self.jobs.push_front(job.clone());
        self.jobs.truncate(JOBS);
        Ok(job)
    }

    /// The parameters of an assignment, checked to the last bit.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn parameters(
        &mut self,
        server: &Server,
        job: &Job,
        assignment: &Assignment,
    ) -> Result<Arc<Parameters>, FetchError> {
        let wanted = assignment.parameters;
        if let Some((_, kept)) = self.parameters.iter().find(|(digest, _)| *digest == wanted) {
            return Ok(kept.clone());
        }
        let wrong = |why: String| FetchError::Job { job: job.id(), why };
        let parameters = match &job.spec().work {
            // Everybody can make those of the first step.
            Work::Train(train) if (assignment.epoch, assignment.step) == (0, 0) => {
                Parameters::initial(job.shape(), train.seed).map_err(|e| wrong(e.to_string()))?
            }
            Work::Train(_) => {
                let bytes = server.parameters(&wanted).await?;
                Parameters::from_safetensors(&bytes).map_err(|e| wrong(e.to_string()))?
            }
            Work::Translate(translate) => {
                let bytes = server.blob(&translate.model).await?;
                Parameters::from_safetensors(&bytes).map_err(|e| wrong(e.to_string()))?
            }
        };
        let found = parameters.digest();
        if found != wanted {
            return Err(FetchError::Parameters { wanted, found });
        }
        let parameters = Arc::new(parameters);
        self.parameters.push_front((wanted, parameters.clone()));
        self.parameters.truncate(PARAMETERS);
        Ok(parameters)
    }
}
