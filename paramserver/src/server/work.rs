//! Between the server and its workers: pulls, results, full logs.

use super::{LogWait, MAX_LOG_REQUESTS, Server, ServerError, Slot, State};
use crate::{clock::now_ms, engine::EngineError, record::Standing};
use protocol::{
    BatchPart, JobId, PublicKey, ReceiptId, SignedReceipt,
    job::Work,
    operation::OperationRecord,
    work::{
        Assignment, FullLog, LogRequest, MAX_RECORDS, Pull, PullReply, ResultMessage, ResultReply,
    },
};
use tokio::sync::oneshot;

/// What a result is to the server, by its first receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is waited for, and has at most so many bytes.
    Wanted {
        /// Bytes of the whole.
        most: usize,
    },
    /// It is too late, or was answered before: so.
    Over(ResultReply),
    /// It is nothing that its sender was given, for this reason.
    Not(String),
}

impl Server {
    /// Takes note of a pull whose signatures were checked.
    ///
    /// # Errors
    /// Where it is a replay.
    pub fn hear(&self, pull: &Pull) -> Result<(), ServerError> {
        let mut state = self.lock();
        let State { jobs, workers, .. } = &mut *state;
        workers.hear(pull, now_ms())?;
        let node = pull.certificate.signer;
        jobs.values_mut()
            .filter_map(|slot| slot.engine.as_mut())
            .for_each(|engine| engine.asks(&node));
        Ok(())
    }

    /// What there is for a worker now; and, where there is nothing, when to look again at the
    /// latest (milliseconds since 1970).
    ///
    /// # Errors
    /// [`ServerError`]: the disk.
    pub fn find_work(&self, node: &PublicKey) -> Result<(PullReply, Option<u64>), ServerError> {
        let now = now_ms();
        let mut state = self.lock();
        let State { jobs, workers, logs } = &mut *state;
        logs.retain(|wait| !wait.answer.is_closed());
        if let Some(wait) = logs.iter_mut().find(|wait| wait.node == *node && !wait.handed_out) {
            wait.handed_out = true;
            return Ok((PullReply::Log(wait.request.clone()), None));
        }
        let mut running: Vec<(&JobId, &mut Slot)> =
            jobs.iter_mut().filter(|(_, slot)| slot.engine.is_some()).collect();
        // Translations are short and somebody waits for them: they go first.
        let is_training = |slot: &Slot| matches!(slot.spec().work, Work::Train(_));
        running.sort_by_key(|(_, slot)| (is_training(slot), slot.entry.arrived));
        let mut wake = None;
        for (id, slot) in running {
            let Some(engine) = &mut slot.engine else { continue };
            match engine.take(node, workers, now) {
                Ok(Some(assignment)) => {
                    slot.trouble = None;
                    // Others may have been given something in the same sharing.
                    self.changed.notify_waiters();
                    return Ok((PullReply::Work(assignment), None));
                }
                Ok(None) => slot.trouble = None,
                Err(error) => {
                    tracing::error!(job = %id, "no work can be given out: {error}");
                    slot.trouble = Some(error.to_string());
                    return Err(error.into());
                }
            }
            let at = engine.next_wake(now);
            wake = [wake, at].into_iter().flatten().min();
        }
        Ok((PullReply::Nothing, wake))
    }

    /// What is to be done with a result that begins with this receipt, whose signatures were
    /// checked.
    ///
    /// # Errors
    /// [`ServerError`]: the disk, or the job is being taken up.
    pub fn expects(&self, head: &SignedReceipt) -> Result<Expected, ServerError> {
        let job = head.body.batch.job;
        let state = self.lock();
        let over = |why: String| Ok(Expected::Over(ResultReply::Refused(why)));
        match state.jobs.get(&job) {
            None => over(format!("there is no job {job} here")),
            Some(Slot { engine: Some(engine), .. }) => Ok(engine.expects(head)?),
            Some(slot) if slot.is_stopped() => Err(taken_up(&job)),
            Some(_) => over(format!("job {job} is not being worked on")),
        }
    }

    /// Takes a worker's result.
    ///
    /// # Errors
    /// [`ServerError`]: the disk, or a job's own numbers.
    pub fn accept(&self, message: ResultMessage) -> Result<ResultReply, ServerError> {
        let Some(job) = message.result.leaves.first().map(|leaf| leaf.receipt.body.batch.job)
        else {
            return Ok(ResultReply::Refused("the result has no receipt".into()));
        };
        let mut state = self.lock();
        let State { jobs, workers, .. } = &mut *state;
        let Some(slot) = jobs.get_mut(&job) else {
            return Ok(ResultReply::Refused(format!("there is no job {job} here")));
        };
        let Some(engine) = &mut slot.engine else {
            if slot.is_stopped() {
                return Err(taken_up(&job));
            }
            return Ok(ResultReply::Refused(format!("job {job} is not being worked on")));
        };
        let reply = engine.accept(message, workers, now_ms());
        slot.entry = engine.entry().clone();
        if let Err(EngineError::Store(error)) = &reply {
            slot.trouble = Some(error.to_string());
            // What is in memory may be ahead of the disk, which is what counts: the job is taken
            // up from there once it can be written again, and nobody meets it before.
            let stopped = slot.engine.take().map(|engine| engine.status(workers, now_ms()));
            slot.last = stopped.filter(|_| slot.entry.standing == Standing::Running);
        }
        drop(state);
        self.changed.notify_waiters();
        match reply {
            Ok(reply) => Ok(reply),
            Err(EngineError::Store(error)) => Err(error.into()),
            Err(error) => {
                // Its own numbers are wrong: going on would only make it worse.
                self.fail(&job, error.to_string())?;
                Err(error.into())
            }
        }
    }

    /// Asks the worker of a receipt to list every operation of its batch.
    ///
    /// # Errors
    /// Where there is no such receipt, it is the server's own, or too many logs are waited for.
    pub fn request_log(
        &self,
        id: &ReceiptId,
    ) -> Result<oneshot::Receiver<Vec<OperationRecord>>, ServerError> {
        let entry = self.receipt(id)?;
        let body = &entry.receipt.body;
        let BatchPart::Micro(first) = body.batch.part else {
            return Err(ServerError::NotFound(
                "an update's operations are all at boundaries: its receipt has them".into(),
            ));
        };
        let assignment = Assignment {
            job: body.batch.job,
            epoch: body.batch.epoch,
            step: body.batch.step,
            first,
            count: 1,
            attempt: body.attempt,
            id: body.assignment,
            parameters: body.parameters,
            patience_ms: 0,
        };
        let (answer, wait) = oneshot::channel();
        let mut state = self.lock();
        state.logs.retain(|wait| !wait.answer.is_closed());
        if state.logs.len() >= MAX_LOG_REQUESTS {
            return Err(ServerError::Unavailable(
                "too many full logs are being made already: try again in a minute".into(),
            ));
        }
        let request = LogRequest { receipt: *id, assignment };
        let node = body.node();
        state.logs.push_back(LogWait { node, request, handed_out: false, answer });
        drop(state);
        self.changed.notify_waiters();
        Ok(wait)
    }

    /// Takes a full log that was asked for.
    ///
    /// # Errors
    /// Where nobody asked for it, or it is too long.
    pub fn take_log(&self, node: &PublicKey, log: FullLog) -> Result<(), ServerError> {
        if log.records.len() > MAX_RECORDS {
            return Err(ServerError::Refused("the log is too long".into()));
        }
        let mut state = self.lock();
        let at = state
            .logs
            .iter()
            .position(|wait| wait.node == *node && wait.request.receipt == log.receipt);
        match at.and_then(|at| state.logs.remove(at)) {
            // Whoever asked may have gone meanwhile.
            Some(wait) => wait.answer.send(log.records).or(Ok(())),
            None => Err(ServerError::Refused("nobody asked for this log".into())),
        }
    }
}

fn taken_up(job: &JobId) -> ServerError {
    ServerError::Unavailable(format!("job {job} is being taken up again"))
}
