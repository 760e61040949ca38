//! Following a job.

use crate::parameter_server::ParameterServer;
use compute::client::ClientError;
use protocol::{
    JobId,
    api::{JobPhase, JobStatus},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// How long a server may be away: time to be restarted in.
const PATIENCE: Duration = Duration::from_secs(120);

/// A job being watched: [`Watch::next`] gives one status after another.
#[derive(Debug)]
pub struct Watch {
    server: ParameterServer,
    job: JobId,
    ended: bool,
    first: bool,
}

/// What a look showed.
#[derive(Debug)]
pub enum Seen {
    /// The job as it stands now, by its server's word.
    Status(Box<JobStatus>),
    /// The server does not answer; it is asked on, for two minutes.
    Away(ClientError),
}

impl Watch {
    /// Watches a job.
    pub fn new(server: ParameterServer, job: JobId) -> Self {
        Self { server, job, ended: false, first: true }
    }

    /// The next status; none after one that was done or failed.
    ///
    /// # Errors
    /// Where there is no such job, or the server was away for longer than is waited.
    pub async fn next(&mut self) -> Result<Option<Seen>, ClientError> {
        if self.ended {
            return Ok(None);
        }
        if !std::mem::take(&mut self.first) {
            sleep(PERIOD).await;
        }
        match self.server.status(&self.job).await {
            Ok(status) => {
                self.ended = matches!(status.phase, JobPhase::Done | JobPhase::Failed(_));
                Ok(Some(Seen::Status(Box::new(status))))
            }
            Err(error) if error.is_temporary() => {
                // The next look, but one that counts the time.
                self.wait_for_return(error).await.map(Some)
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_for_return(&mut self, error: ClientError) -> Result<Seen, ClientError> {
        let end = Instant::now() + PATIENCE;
        loop {
            sleep(PERIOD).await;
            match self.server.identity().await {
                Ok(_) => return Ok(Seen::Away(error)),
                Err(error) if !error.is_temporary() || Instant::now() > end => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Watches to the end.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub async fn until_ended(
        mut self,
        mut each: impl FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let mut last = None;
        while let Some(seen) = self.next().await? {
            if let Seen::Status(status) = seen {
                each(&status);
                last = Some(*status);
            }
        }
        match last {
            Some(status) => Ok(status),
            None => self.server.status(&self.job).await,
        }
    }
}
