//! One job in progress: gives out its batches and takes their results.
//!
//! What was taken is on disk before anybody hears of it, so a kill at any moment loses nothing
//! that was acknowledged: [`Engine::open`] goes on where the last one stopped.

mod accept;

use crate::{
    gathered::Gathered,
    record::{
        AssignedEntry, JobEntry, Outgoing, PartEntry, Progress, ReceiptEntry, Standing, StepEntry,
    },
    share::{self, Patience},
    step::{self, StepState},
    store::{Store, StoreError, read_file, write_file},
    tally::Tally,
    training::{self, Keep, Numbers, Training, TrainingError},
    workers::{self, Workers},
};
use identity::NodeIdentity;
use job::{
    Job,
    tree::Span,
    work::{Circumstances, Done},
};
use protocol::{
    BatchId, BatchPart, Digest, PublicKey, SecretKey,
    api::{JobPhase, JobStatus},
    job::Work,
    receipt::Salt,
    transaction::{Assign, Confirm, Confirmation, MAX_CONFIRMATIONS, Run},
    work::{Assignment, LeafResult, MAX_RECORDS, Telemetry, telemetry_root},
};
use std::{sync::Arc, time::Duration};

/// No receipt with salt and telemetry is longer, nor is an operation's record.
pub(crate) const LEAF_LEN: usize = 1 << 14;
pub(crate) const RECORD_LEN: usize = 256;

/// A job cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its numbers.
    #[error(transparent)]
    Training(TrainingError),
    /// A file that it needs is not what the job names.
    #[error("the job's {what}: {why}")]
    File {
        /// Which.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The operating system gave no randomness.
    #[error(transparent)]
    Key(#[from] protocol::key::KeyError),
}

/// A disk that fails under the numbers is the disk, which may pass; the numbers are as they were.
impl From<TrainingError> for EngineError {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Store(error) => Self::Store(error),
            other => Self::Training(other),
        }
    }
}

/// A job in progress.
pub struct Engine {
    job: Job,
    entry: JobEntry,
    store: Arc<Store>,
    identity: Arc<NodeIdentity>,
    keep: Keep,
    step: StepState,
    /// The step before: its stragglers may still answer.
    previous: Option<StepState>,
    gathered: Gathered,
    finished: Option<Digest>,
    confirmations: Vec<Confirmation>,
    patience: Patience,
    step_began: Option<u64>,
    /// When the workers that set the pace were done, if others are waited for.
    pace_done: Option<u64>,
    paced: bool,
    /// Summed loss of what the step in progress has.
    loss: f32,
    tally: Tally,
}

impl Engine {
    /// Opens a job at the point that the disk has it.
    ///
    /// # Errors
    /// [`EngineError`]: the disk, or files that are not the job's.
    pub fn open(
        job: Job,
        entry: JobEntry,
        store: Arc<Store>,
        identity: Arc<NodeIdentity>,
        keep: Keep,
        now: u64,
    ) -> Result<Self, EngineError> {
        let id = job.id();
        let schedule = job.terms().schedule().clone();
        let steps = store.steps(&id, 0)?;
        let tally = Tally::of_steps(&steps);
        let ordinal = steps.last().map_or(0, |(at, _)| at + 1);
        let per_epoch = schedule.steps();
        let (epoch, step) = (ordinal / per_epoch, ordinal % per_epoch);
        let is_done = epoch >= schedule.epochs;
        let count = if is_done { 0 } else { schedule.micro_batches(step) };
        let gathered = match &job.spec().work {
            Work::Train(_) => {
                let numbers = Numbers::rebuild(&job, &store, ordinal)?;
                Gathered::Train(Box::new(Training::new(numbers, count)))
            }
            Work::Translate(translate) => Gathered::no_translations(translate.parameters),
        };
        if let (Some(training), Some((at, last))) = (gathered.training(), steps.last())
            && training.digest != last.after
        {
            return Err(TrainingError::Damaged {
                path: store.sum_path(&id, *at),
                what: format!("the rebuilt parameters are {}, not {}", training.digest, last.after),
            }
            .into());
        }
        if let Some(training) = gathered.training() {
            // A disk that was full when one was due must not make every later restart longer.
            let newest = store.ordinals(&id, "checkpoints")?.last().map_or(0, |(at, _)| *at);
            if ordinal.saturating_sub(newest) >= keep.checkpoint_steps.max(1) {
                training.numbers.write_checkpoint(&id, &store, ordinal)?;
                training::trim(&id, &store, keep.bytes)?;
            }
        }
        let mut engine = Self {
            step: StepState::new(id, epoch, step, count),
            job,
            entry,
            store,
            identity,
            keep,
            previous: None,
            gathered,
            finished: None,
            confirmations: Vec::new(),
            patience: Patience {
                worked: Duration::from_millis(tally.worked_ms),
                ..Patience::default()
            },
            step_began: None,
            pace_done: None,
            paced: false,
            loss: 0.0,
            tally,
        };
        engine.restore(now)?;
        if engine.store.parts(&id)?.is_empty() {
            engine.store.remove_parts(&id);
        }
        Ok(engine)
    }

    /// Takes up what was assigned and returned of the step in progress.
    fn restore(&mut self, now: u64) -> Result<(), EngineError> {
        let id = self.job.id();
        if let Some(training) = self.gathered.training() {
            let ordinal = self.ordinal();
            let digest = training.digest;
            self.store.write(|changes| changes.put_parameters(&id, &digest, ordinal))?;
        }
        let mut previous: Option<StepState> = None;
        for (assignment, assigned) in self.store.assigned(&id)? {
            let AssignedEntry { epoch, step, run, answered } = assigned;
            let state = if (epoch, step) == (self.step.epoch(), self.step.step()) {
                self.step_began.get_or_insert(now);
                &mut self.step
            } else {
                // The step before: what stragglers bring of it is late.
                previous.get_or_insert_with(|| {
                    let count = self.job.terms().schedule().micro_batches(step);
                    let mut state = StepState::new(id, epoch, step, count);
                    state.finish_span(Span { first: 0, count });
                    state
                })
            };
            state.restore(run, now);
            if answered {
                state.give_up(&assignment);
            }
        }
        self.previous = previous;
        for part in self.store.parts(&id)? {
            if (part.epoch, part.step) != (self.step.epoch(), self.step.step()) {
                continue;
            }
            let payload = read_file(&self.store.part_path(&id, part.span()));
            let payload = payload.map_err(|error| error.to_string()).and_then(|payload| {
                let found = self.gathered.digest(&self.job, part.span(), &payload)?;
                if found != part.payload {
                    return Err(format!("it is {found}, not {}", part.payload));
                }
                Ok(payload)
            });
            match payload {
                Ok(payload) => {
                    self.gathered.insert(&self.job, part.span(), &payload)?;
                    self.step.finish_span(part.span());
                    self.loss += part.loss;
                    self.confirmations.extend(part.receipts);
                }
                Err(why) => self.lose(&part, &why)?,
            }
        }
        self.tally.set_nodes(self.store.receipt_counts(&id)?);
        match (&self.entry.standing, self.ordinal() >= self.last_ordinal()) {
            (Standing::Computed(result), _) => self.finished = Some(*result),
            (_, true) => self.finish_job()?,
            _ if self.step.is_done() => self.finish_step(now)?,
            _ => {}
        }
        Ok(())
    }

    /// Forgets a partial sum whose file did not outlive a power cut: its micro-batches are open
    /// again. Whoever did them is confirmed all the same.
    fn lose(&mut self, part: &PartEntry, why: &str) -> Result<(), EngineError> {
        let id = self.job.id();
        let (first, last) = (part.first, part.first + part.count - 1);
        tracing::warn!(job = %id, "micro-batches {first}-{last} are done again: {why}");
        let mut receipts = Vec::new();
        for confirmation in &part.receipts {
            if let Some(entry) = self.store.receipt(&confirmation.receipt)? {
                receipts.push((confirmation.receipt, ReceiptEntry { used: false, ..entry }));
            }
        }
        let messages = self.confirm_messages(part.receipts.clone());
        self.store.write(|changes| {
            changes.drop_part(&id, part)?;
            receipts.iter().try_for_each(|(id, entry)| changes.put_receipt(id, entry))?;
            messages.iter().try_for_each(|message| changes.push_outgoing(message))
        })?;
        Ok(())
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// As the disk has it.
    pub fn entry(&self) -> &JobEntry {
        &self.entry
    }

    /// The content address of the result, once there is one.
    pub fn result(&self) -> Option<Digest> {
        self.finished
    }

    fn ordinal(&self) -> u32 {
        self.job.terms().schedule().ordinal(self.step.epoch(), self.step.step())
    }

    fn last_ordinal(&self) -> u32 {
        let schedule = self.job.terms().schedule();
        schedule.epochs * schedule.steps()
    }

    /// The newest numbers of a training job, where its parameters are those of `digest`.
    pub fn current(&self, digest: &Digest) -> Option<&Numbers> {
        self.gathered.numbers(digest)
    }

    /// Multiply-adds of a micro-batch, on average.
    pub fn products(&self) -> u64 {
        let terms = self.job.terms();
        let sample = terms.shapes().iter().take(64);
        let units: Vec<u64> = sample.map(|shape| terms.graph().units(shape).product).collect();
        (units.iter().sum::<u64>() / units.len().max(1) as u64).max(1)
    }

    /// The longest body that a result of this job can have, generously.
    pub fn max_result_len(&self) -> usize {
        let terms = self.job.terms();
        let leaves = terms.schedule().per_step.min(terms.schedule().batches) as usize;
        let longest = self.job.shape().max_length as usize;
        let operations = terms.graph().operations.len();
        let (payload, records) = match self.gathered.training() {
            Some(training) => (training.elements() * 4, operations),
            // A decoder's operations come once a position.
            None => (self.job.sentences() * (longest + 2) * 4, operations * (longest + 1)),
        };
        payload + leaves * (LEAF_LEN + records.min(MAX_RECORDS) * RECORD_LEN)
    }

    /// When somebody's lateness may free work, milliseconds.
    pub fn next_wake(&self, now: u64) -> Option<u64> {
        self.step.next_late(now)
    }

    /// A worker asks anew: what it was given and did not bring, it gets again.
    pub fn asks(&mut self, node: &PublicKey) {
        self.step.asks(node);
    }

    /// Work for a worker that asks, if there is any for it.
    ///
    /// # Errors
    /// [`EngineError`]: the disk. The work is then given to nobody.
    pub fn take(
        &mut self,
        node: &PublicKey,
        workers: &Workers,
        now: u64,
    ) -> Result<Option<Assignment>, EngineError> {
        if self.finished.is_some() {
            return Ok(None);
        }
        if let Some(assignment) = self.pull(node, now) {
            return Ok(Some(assignment));
        }
        let open = self.step.open(now);
        if open.is_empty() {
            return Ok(None);
        }
        self.assign(&open, workers, now)?;
        Ok(self.pull(node, now))
    }

    fn pull(&mut self, node: &PublicKey, now: u64) -> Option<Assignment> {
        let (id, outstanding) = self.step.pull(node, now)?;
        let span = outstanding.span()?;
        Some(Assignment {
            job: self.job.id(),
            epoch: self.step.epoch(),
            step: self.step.step(),
            first: span.first,
            count: span.count,
            attempt: outstanding.run.attempt,
            id,
            parameters: self.gathered.parameters(),
            patience_ms: outstanding.late_at().saturating_sub(now),
        })
    }

    /// Shares the open micro-batches out among the workers that are there: one transaction.
    fn assign(&mut self, open: &[u32], workers: &Workers, now: u64) -> Result<(), EngineError> {
        let products = self.products();
        let present: Vec<(PublicKey, share::Worker)> = workers
            .present(now)
            .into_iter()
            // Who is late with a run of this step would be late with another.
            .filter(|(node, _)| !self.step.is_busy(node))
            .map(|(node, worker)| {
                let seconds = products as f64 / worker.speed;
                let micro_batch = Duration::from_secs_f64(seconds.clamp(1e-6, 1e6));
                (node, share::Worker { micro_batch, most: worker.most })
            })
            .collect();
        let speeds: Vec<share::Worker> = present.iter().map(|(_, worker)| *worker).collect();
        let shares = share::share(&speeds, open, &self.patience);
        let mut step = self.step.clone();
        let mut runs = Vec::new();
        let is_first = self.step_began.is_none();
        if is_first && self.gathered.training().is_some() {
            let node = self.identity.node();
            runs.push(Run { first: BatchPart::Update, count: 1, node, attempt: 1 });
        }
        for ((node, worker), spans) in present.iter().zip(&shares.runs) {
            let ms = worker.micro_batch.as_millis().max(1) as u64;
            // Slower than the step's pace: it is waited for while patience lasts, but one that was
            // measured no longer than it may be late: it may have died.
            let is_starved = worker.micro_batch > shares.pace;
            let limit = is_starved.then(|| {
                let left = self.patience.left().as_millis() as u64;
                match workers.get(node).is_some_and(workers::Worker::is_measured) {
                    true => left.min(step::late_after(ms)),
                    false => left,
                }
            });
            runs.extend(step.give(*node, spans, ms, limit, now));
        }
        if runs.is_empty() {
            // Nobody is there who could be given any; the chain refuses to be told of none.
            return Ok(());
        }
        let id = self.job.id();
        let assign = Assign { job: id, epoch: step.epoch(), step: step.step(), runs };
        let entries: Vec<(Digest, AssignedEntry)> = assign
            .runs
            .iter()
            .map(|run| {
                let Assign { epoch, step, .. } = assign;
                let entry = AssignedEntry { epoch, step, run: *run, answered: false };
                (assign.assignment(run), entry)
            })
            .collect();
        let signed = self.identity.sign(assign);
        self.store.write(|changes| {
            for (assignment, entry) in &entries {
                changes.put_assigned(&id, assignment, entry)?;
            }
            changes.push_outgoing(&Outgoing::Assign(signed))
        })?;
        self.step = step;
        self.paced |= shares.waits;
        self.step_began.get_or_insert(now);
        Ok(())
    }

    fn confirm_messages(&self, confirmations: Vec<Confirmation>) -> Vec<Outgoing> {
        confirmations
            .chunks(MAX_CONFIRMATIONS)
            .map(|chunk| {
                let confirm = Confirm { job: self.job.id(), receipts: chunk.to_vec() };
                Outgoing::Confirm(self.identity.sign(confirm))
            })
            .collect()
    }

    /// Every micro-batch is there: the step is taken and the next one begins.
    fn finish_step(&mut self, now: u64) -> Result<(), EngineError> {
        let id = self.job.id();
        let (epoch, step) = (self.step.epoch(), self.step.step());
        let ordinal = self.ordinal();
        let schedule = self.job.terms().schedule().clone();
        let next = schedule.next(epoch, step);
        let count = next.map_or(0, |(_, step)| schedule.micro_batches(step));
        let milliseconds = now.saturating_sub(self.step_began.unwrap_or(now));
        let before = self.gathered.parameters();
        let mut confirmations = std::mem::take(&mut self.confirmations);
        let mut own = None;
        if let Some(training) = self.gathered.training_mut() {
            let done = training.finish(&self.job, &self.store, epoch, step, count)?;
            let leaf = self.own_receipt(&done, before)?;
            confirmations.push(Confirmation {
                receipt: leaf.receipt.body.id(),
                salt: leaf.salt,
                work_root: done.work_root,
            });
            own = Some(leaf);
        }
        let entry = StepEntry {
            epoch,
            step,
            before,
            after: self.gathered.parameters(),
            loss: self.loss,
            target_tokens: self.job.target_tokens(epoch, step),
            tokens: self.job.tokens(epoch, step),
            milliseconds,
        };
        let messages = self.confirm_messages(confirmations);
        let after = self.gathered.parameters();
        let is_training = self.gathered.training().is_some();
        self.store.write(|changes| {
            changes.finish_step(&id, ordinal, &entry)?;
            if is_training {
                changes.put_parameters(&id, &after, ordinal + 1)?;
            }
            if let Some(leaf) = &own {
                changes.put_receipt(&leaf.receipt.body.id(), &receipt_entry(leaf, true, now))?;
            }
            messages.iter().try_for_each(|message| changes.push_outgoing(message))
        })?;
        self.store.remove_parts(&id);
        if let Some(leaf) = own {
            let node = self.identity.node();
            let run = Run { first: BatchPart::Update, count: 1, node, attempt: 1 };
            self.tally.note(std::slice::from_ref(&leaf), &run, true);
        }
        self.account(&entry, now);
        let (next_epoch, next_step) = next.unwrap_or((schedule.epochs, 0));
        let fresh = StepState::new(id, next_epoch, next_step, count);
        self.previous = Some(std::mem::replace(&mut self.step, fresh));
        if let Some(training) = self.gathered.training()
            && (ordinal + 1).is_multiple_of(self.keep.checkpoint_steps.max(1))
        {
            training.numbers.write_checkpoint(&id, &self.store, ordinal + 1)?;
            training::trim(&id, &self.store, self.keep.bytes)?;
        }
        if next.is_none() {
            self.finish_job()?;
        }
        Ok(())
    }

    fn account(&mut self, entry: &StepEntry, now: u64) {
        self.loss = 0.0;
        self.tally.finish_step(entry, now);
        self.patience.worked = Duration::from_millis(self.tally.worked_ms);
        if let Some(done) = self.pace_done.take() {
            self.patience.waited += Duration::from_millis(now.saturating_sub(done));
        }
        self.paced = false;
        self.step_began = None;
    }

    /// Notes when only starved workers are still being waited for.
    fn note_pace(&mut self, now: u64) {
        if self.paced && self.pace_done.is_none() && !self.step.is_done() {
            let left = self.step.count() - self.step.done_count();
            let alone = self.step.outstanding_count();
            // Each starved worker has one micro-batch; nobody else has any.
            if left as usize == alone {
                self.pace_done = Some(now);
            }
        }
    }

    fn own_receipt(&self, done: &Done, parameters: Digest) -> Result<LeafResult, EngineError> {
        let salt = Salt(Digest::of_bytes(&SecretKey::generate()?.public().0));
        let telemetry = vec![Telemetry {
            what: "update".into(),
            nanoseconds: 0,
            millijoules: None,
            device: kernels::isa::current().to_string(),
        }];
        let node = self.identity.node();
        let BatchId { epoch, step, part, .. } = done.batch;
        let run = Run { first: part, count: 1, node, attempt: 1 };
        let assign = Assign { job: self.job.id(), epoch, step, runs: Vec::new() };
        let circumstances = Circumstances {
            attempt: 1,
            assignment: assign.assignment(&run),
            parameters,
            salt,
            telemetry_root: telemetry_root(&telemetry),
            release: self.identity.release,
            certificate: &self.identity.certificate,
        };
        let receipt = self.identity.sign_receipt(done.receipt(&circumstances));
        Ok(LeafResult { receipt, salt, records: done.records.clone(), telemetry, loss: 0.0 })
    }

    /// All is computed: the result becomes a file of its own.
    fn finish_job(&mut self) -> Result<(), EngineError> {
        let bytes = self.gathered.to_bytes(&self.job)?;
        let digest = Digest::of_bytes(&bytes);
        write_file(&self.store.blob_path(&digest), &bytes)?;
        self.entry.standing = Standing::Computed(digest);
        let (id, entry) = (self.job.id(), &self.entry);
        self.store.write(|changes| changes.put_job(&id, entry))?;
        self.finished = Some(digest);
        if let Err(error) = training::trim(&id, &self.store, self.keep.bytes) {
            // The result stands; the room is all that is lost.
            tracing::warn!(job = %id, "old steps could not be dropped: {error}");
        }
        Ok(())
    }

    /// The job as people see it; what the chain has is the caller's to fill in.
    pub fn status(&self, workers: &Workers, now: u64) -> JobStatus {
        let schedule = self.job.terms().schedule();
        let is_training = self.gathered.training().is_some();
        let mut statuses = workers.statuses(self.products(), now);
        for (node, status) in &mut statuses {
            self.tally.fill_in(node, status);
            status.doing = self.step.doing(node).map(|span| {
                format!("step {} #{}-{}", self.step.step(), span.first, span.first + span.count - 1)
            });
        }
        JobStatus {
            job: self.job.id(),
            label: self.job.spec().label.clone(),
            kind: if is_training { "train" } else { "translate" }.into(),
            phase: if self.finished.is_some() { JobPhase::Settling } else { JobPhase::Running },
            obstacle: None,
            epoch: self.step.epoch().min(schedule.epochs),
            epochs: schedule.epochs,
            step: self.step.step(),
            steps: schedule.steps(),
            loss: self.tally.loss.filter(|_| is_training),
            tokens_per_second: match self.finished {
                Some(_) => 0.0,
                None => self.tally.tokens_per_second(now),
            },
            parameters: is_training.then(|| self.gathered.parameters()),
            result: self.finished,
            receipts: self.tally.receipts,
            receipts_on_chain: 0,
            receipts_confirmed: 0,
            workers: statuses.into_iter().map(|(_, status)| status).collect(),
            recent: self.tally.recent.iter().cloned().collect(),
            seconds: self.tally.worked_ms as f64 / 1e3,
        }
    }
}

fn receipt_entry(leaf: &LeafResult, used: bool, at: u64) -> ReceiptEntry {
    ReceiptEntry {
        receipt: leaf.receipt.clone(),
        salt: leaf.salt,
        records: leaf.records.clone(),
        telemetry: leaf.telemetry.clone(),
        used,
        at,
        progress: Progress::Taken,
    }
}
