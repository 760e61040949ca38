//! One job in progress: gives out its batches and takes their results.
//!
//! What was taken is on disk before anybody hears of it, so a kill at any moment loses nothing
//! that was acknowledged: [`Engine::open`] goes on where the last one stopped.

use crate::{
    record::JobEntry,
    record::{AssignedEntry, Outgoing, PartEntry, Progress, ReceiptEntry, Standing, StepEntry},
    share::{self, Patience},
    step::{self, StepState, Verdict},
    store::{Store, StoreError, read_file, write_file, write_file_soon},
    training::{self, Keep, Numbers, Training, TrainingError, floats},
    workers::{self, Workers},
};
use borsh::BorshDeserialize;
use identity::NodeIdentity;
use job::{
    Job,
    tree::Span,
    work::{Circumstances, Done, gradient_digest, translations_digest},
};
use protocol::{
    BatchId, BatchPart, Digest, PublicKey, SecretKey,
    api::{BatchDone, JobPhase, JobStatus},
    job::Work,
    receipt::{self, Salt},
    transaction::{Assign, Confirm, Confirmation, MAX_CONFIRMATIONS, Run, assignment_id},
    work::{
        Assignment, LeafResult, MAX_RECORDS, ResultMessage, ResultReply, Telemetry, WorkResult,
        telemetry_root,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Batches shown as done last.
const RECENT: usize = 64;
/// No receipt with salt and telemetry is longer, nor is an operation's record.
const LEAF_LEN: usize = 1 << 14;
const RECORD_LEN: usize = 256;
/// Tokens a second are counted over so much time.
const RATE_WINDOW_MS: u64 = 60_000;

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

#[derive(Debug)]
enum Progressing {
    Train(Box<Training>),
    Translate { parameters: Digest, translations: BTreeMap<u32, Vec<u32>> },
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
    progressing: Progressing,
    finished: Option<Digest>,
    confirmations: Vec<Confirmation>,
    patience: Patience,
    step_began: Option<u64>,
    /// When the workers that set the pace were done, if others are waited for.
    pace_done: Option<u64>,
    paced: bool,
    loss: f32,
    last_loss: Option<f32>,
    tokens: VecDeque<(u64, u64)>,
    batches: BTreeMap<PublicKey, (u64, u64)>,
    recent: VecDeque<BatchDone>,
    receipts: u64,
    worked_ms: u64,
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
        let worked_ms = steps.iter().map(|(_, step)| step.milliseconds).sum();
        let ordinal = steps.last().map_or(0, |(at, _)| at + 1);
        let per_epoch = schedule.steps();
        let (epoch, step) = (ordinal / per_epoch, ordinal % per_epoch);
        let is_done = epoch >= schedule.epochs;
        let count = if is_done { 0 } else { schedule.micro_batches(step) };
        let progressing = match &job.spec().work {
            Work::Train(_) => {
                let numbers = Numbers::rebuild(&job, &store, ordinal)?;
                Progressing::Train(Box::new(Training::new(numbers, count)))
            }
            Work::Translate(translate) => Progressing::Translate {
                parameters: translate.parameters,
                translations: BTreeMap::new(),
            },
        };
        if let (Progressing::Train(training), Some((at, last))) = (&progressing, steps.last())
            && training.digest != last.after
        {
            return Err(TrainingError::Damaged {
                path: store.sum_path(&id, *at),
                what: format!("the rebuilt parameters are {}, not {}", training.digest, last.after),
            }
            .into());
        }
        if let Progressing::Train(training) = &progressing {
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
            progressing,
            finished: None,
            confirmations: Vec::new(),
            patience: Patience { worked: Duration::from_millis(worked_ms), ..Patience::default() },
            step_began: None,
            pace_done: None,
            paced: false,
            loss: 0.0,
            last_loss: steps.last().map(|(_, step)| step.loss / step.target_tokens.max(1) as f32),
            tokens: VecDeque::new(),
            batches: BTreeMap::new(),
            recent: VecDeque::new(),
            receipts: 0,
            worked_ms,
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
        if let Progressing::Train(training) = &self.progressing {
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
                let found = self.payload_digest(part.span(), &payload)?;
                if found != part.payload {
                    return Err(format!("it is {found}, not {}", part.payload));
                }
                Ok(payload)
            });
            match payload {
                Ok(payload) => {
                    self.insert(part.span(), &payload)?;
                    self.step.finish_span(part.span());
                    self.loss += part.loss;
                    self.confirmations.extend(part.receipts);
                }
                Err(why) => self.lose(&part, &why)?,
            }
        }
        self.batches = self.store.receipt_counts(&id)?;
        self.receipts = self.batches.values().map(|(_, all)| all).sum();
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

    fn parameters(&self) -> Digest {
        match &self.progressing {
            Progressing::Train(training) => training.digest,
            Progressing::Translate { parameters, .. } => *parameters,
        }
    }

    /// The newest numbers of a training job, where its parameters are those of `digest`.
    pub fn current(&self, digest: &Digest) -> Option<&Numbers> {
        match &self.progressing {
            Progressing::Train(training) if training.digest == *digest => Some(&training.numbers),
            _ => None,
        }
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
        let (payload, records) = match &self.progressing {
            Progressing::Train(training) => (training.elements() * 4, operations),
            // A decoder's operations come once a position.
            Progressing::Translate { .. } => {
                (self.job.sentences() * (longest + 2) * 4, operations * (longest + 1))
            }
        };
        payload + leaves * (LEAF_LEN + records.min(MAX_RECORDS) * RECORD_LEN)
    }

    /// When somebody's lateness may free work, milliseconds.
    pub fn next_wake(&self, now: u64) -> Option<u64> {
        self.step.next_late(now)
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
            parameters: self.parameters(),
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
        if is_first && matches!(self.progressing, Progressing::Train(_)) {
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

    /// Takes a result whose bytes were read. The reply says what became of it.
    ///
    /// # Errors
    /// [`EngineError`]: the disk or our own numbers. The result then counts as not taken, and the
    /// worker should bring it again.
    pub fn accept(
        &mut self,
        message: ResultMessage,
        workers: &mut Workers,
        now: u64,
    ) -> Result<ResultReply, EngineError> {
        let ResultMessage { result, payload } = message;
        let of = |state: &StepState| state.outstanding(&result.assignment).copied();
        let (outstanding, is_current) = match (of(&self.step), self.previous.as_ref().and_then(of))
        {
            (Some(outstanding), _) => (outstanding, true),
            (None, Some(outstanding)) => (outstanding, false),
            (None, None) => {
                let finished =
                    "no such assignment is outstanding: the step was finished without it";
                let before = self.answered_before(&result.leaves)?;
                return Ok(before.unwrap_or_else(|| ResultReply::Refused(finished.into())));
            }
        };
        // Anybody can send these bytes: what is not the worker's own word costs it nothing.
        if let Err(why) = self.check_origin(&result, &outstanding.run.node) {
            return Ok(ResultReply::Refused(why));
        }
        if let Some(reply) = self.answered_before(&result.leaves)? {
            self.refuse(&result.assignment);
            return Ok(reply);
        }
        let Some(span) = outstanding.span() else {
            return Ok(ResultReply::Refused("the assignment is the server's own".into()));
        };
        let (epoch, step) = match (&self.previous, is_current) {
            (Some(previous), false) => (previous.epoch(), previous.step()),
            _ => (self.step.epoch(), self.step.step()),
        };
        if let Err(why) = self.check(&result.leaves, &outstanding.run, span, epoch, step) {
            self.refuse(&result.assignment);
            return Ok(ResultReply::Refused(why));
        }
        if let Some(pulled) = outstanding.pulled_at {
            let products = result.leaves.iter().map(|leaf| leaf.receipt.body.units.product).sum();
            let took = Duration::from_millis(now.saturating_sub(pulled).max(1));
            workers.measured(&outstanding.run.node, products, took, now);
        }
        if !is_current {
            if let Some(previous) = &mut self.previous {
                previous.finish(&result.assignment);
            }
            return self.keep_late(&result.leaves, &outstanding.run, epoch, step, now);
        }
        // Looked at on a copy, so that a failing disk leaves the run outstanding.
        let mut after = self.step.clone();
        match after.finish(&result.assignment) {
            Some((_, Verdict::Used)) => {}
            _ => {
                self.step = after;
                return self.keep_late(&result.leaves, &outstanding.run, epoch, step, now);
            }
        }
        match self.check_payload(span, &result.leaves, &result.payload, &payload) {
            Ok(()) => {}
            Err(why) => {
                self.refuse(&result.assignment);
                return Ok(ResultReply::Refused(why));
            }
        }
        let id = self.job.id();
        write_file_soon(&self.store.part_path(&id, span), &payload)?;
        let confirmations = confirmations(&result.leaves);
        let part = PartEntry {
            epoch,
            step,
            first: span.first,
            count: span.count,
            loss: result.leaves.iter().map(|leaf| leaf.loss).sum(),
            payload: result.payload,
            receipts: confirmations.clone(),
            node: outstanding.run.node,
        };
        let answered = AssignedEntry { epoch, step, run: outstanding.run, answered: true };
        self.store.write(|changes| {
            for leaf in &result.leaves {
                changes.put_receipt(&leaf.receipt.body.id(), &receipt_entry(leaf, true, now))?;
            }
            changes.put_assigned(&id, &result.assignment, &answered)?;
            changes.put_part(&id, &part)
        })?;
        self.insert(span, &payload)?;
        self.step = after;
        self.loss += part.loss;
        self.confirmations.extend(confirmations);
        self.note(&result.leaves, &outstanding.run, epoch, step, true);
        self.note_pace(now);
        if self.step.is_done() {
            let products = self.products();
            for (node, elapsed) in self.step.overdue(now) {
                workers.at_most(&node, products, Duration::from_millis(elapsed));
            }
            self.finish_step(now)?;
        }
        Ok(ResultReply::Used)
    }

    /// What was answered to these receipts when they came before: the answer was lost on its way,
    /// or this server was killed before it gave it.
    fn answered_before(&self, leaves: &[LeafResult]) -> Result<Option<ResultReply>, EngineError> {
        let mut used = true;
        for leaf in leaves {
            match self.store.receipt(&leaf.receipt.body.id())? {
                Some(entry) => used &= entry.used,
                None => return Ok(None),
            }
        }
        let reply = if used { ResultReply::Used } else { ResultReply::Late };
        Ok((!leaves.is_empty()).then_some(reply))
    }

    /// That a result is what the node of its assignment says of it, signed.
    fn check_origin(&self, result: &WorkResult, node: &PublicKey) -> Result<(), String> {
        if result.leaves.is_empty() {
            return Err("the result has no receipt".into());
        }
        for leaf in &result.leaves {
            let body = &leaf.receipt.body;
            let wrong = |what: &str| Err(format!("the receipt of {}: {what}", body.batch));
            if body.assignment != result.assignment {
                return wrong("it answers another assignment");
            }
            if body.node() != *node {
                return wrong("it is another node's than the assignment's");
            }
            if let Err(error) = receipt::verify(&leaf.receipt, &self.identity.chain) {
                return wrong(&error.to_string());
            }
        }
        Ok(())
    }

    fn refuse(&mut self, assignment: &Digest) {
        self.step.give_up(assignment);
        if let Some(previous) = &mut self.previous {
            previous.give_up(assignment);
        }
    }

    /// Keeps the receipts of work that somebody else was faster with, and confirms them.
    fn keep_late(
        &mut self,
        leaves: &[LeafResult],
        run: &Run,
        epoch: u32,
        step: u32,
        now: u64,
    ) -> Result<ResultReply, EngineError> {
        let messages = self.confirm_messages(confirmations(leaves));
        let id = self.job.id();
        let assignment = assignment_id(&id, epoch, step, run);
        let answered = AssignedEntry { epoch, step, run: *run, answered: true };
        self.store.write(|changes| {
            for leaf in leaves {
                changes.put_receipt(&leaf.receipt.body.id(), &receipt_entry(leaf, false, now))?;
            }
            changes.put_assigned(&id, &assignment, &answered)?;
            messages.iter().try_for_each(|message| changes.push_outgoing(message))
        })?;
        self.note(leaves, run, epoch, step, false);
        Ok(ResultReply::Late)
    }

    /// What a result's receipts must say beside who made them for which assignment
    /// ([`Engine::check_origin`]).
    fn check(
        &self,
        leaves: &[LeafResult],
        run: &Run,
        span: Span,
        epoch: u32,
        step: u32,
    ) -> Result<(), String> {
        if leaves.len() != span.count as usize {
            return Err(format!("{} micro-batches were wanted, {} came", span.count, leaves.len()));
        }
        let parameters = self.parameters_of(epoch, step);
        for (leaf, micro) in leaves.iter().zip(span.micro_batches()) {
            let wrong = |what: &str| Err(format!("the receipt of micro-batch {micro}: {what}"));
            let batch = self.job.batch(epoch, step, BatchPart::Micro(micro));
            let body = &leaf.receipt.body;
            if body.batch != batch || body.attempt != run.attempt {
                return wrong("it is for another batch or attempt");
            }
            if parameters.is_some_and(|wanted| wanted != body.parameters) {
                return wrong("it began from other parameters than were assigned");
            }
            match self.job.input_digest(&batch) {
                Ok(input) if input == body.input => {}
                Ok(_) => return wrong("it was done on other sentences"),
                Err(error) => return wrong(&error.to_string()),
            }
            if self.job.terms().units(epoch, step, batch.part) != Some(body.units) {
                return wrong("its work units are not the batch's");
            }
            if leaf.records.len() > MAX_RECORDS {
                return wrong("its log is too long");
            }
            let root = protocol::operation::work_root(&leaf.records);
            if leaf.salt.blind(&root) != body.work_root {
                return wrong("salt and records do not open its work root");
            }
            if telemetry_root(&leaf.telemetry) != body.telemetry_root {
                return wrong("its telemetry root is not over the telemetry that came with it");
            }
            if !leaf.loss.is_finite() {
                return wrong("its loss is not a number");
            }
        }
        Ok(())
    }

    fn parameters_of(&self, epoch: u32, step: u32) -> Option<Digest> {
        if (epoch, step) == (self.step.epoch(), self.step.step()) {
            return Some(self.parameters());
        }
        let ordinal = self.job.terms().schedule().ordinal(epoch, step);
        let steps = self.store.steps(&self.job.id(), ordinal).ok()?;
        steps.first().filter(|(at, _)| *at == ordinal).map(|(_, entry)| entry.before)
    }

    /// What a result's payload must be.
    fn check_payload(
        &self,
        span: Span,
        leaves: &[LeafResult],
        claimed: &Digest,
        payload: &[u8],
    ) -> Result<(), String> {
        let found = self.payload_digest(span, payload)?;
        if found != *claimed {
            return Err(format!(
                "the payload is {found}, not {claimed} as said: it was damaged on the way"
            ));
        }
        match &self.progressing {
            Progressing::Train(_) => {
                if let [one] = leaves
                    && one.receipt.body.result != found
                {
                    return Err("the gradient is not the one of the receipt".into());
                }
            }
            Progressing::Translate { .. } => {
                let translations = self.read_translations(span, payload)?;
                for (leaf, translations) in leaves.iter().zip(&translations) {
                    if translations_digest(translations) != leaf.receipt.body.result {
                        return Err("the translations are not those of the receipt".into());
                    }
                }
            }
        }
        Ok(())
    }

    /// The digest of a payload that is one for these micro-batches.
    fn payload_digest(&self, span: Span, payload: &[u8]) -> Result<Digest, String> {
        Ok(match &self.progressing {
            Progressing::Train(training) => {
                let parameters = &training.numbers.parameters;
                let Some(sum) = floats(payload, training.elements()) else {
                    let wanted = training.elements() * 4;
                    return Err(format!(
                        "a gradient of {wanted} bytes was wanted, {} came",
                        payload.len()
                    ));
                };
                if !sum.iter().all(|value| value.is_finite()) {
                    return Err("the gradient has elements that are not numbers".into());
                }
                gradient_digest(parameters, &sum)
            }
            Progressing::Translate { .. } => {
                translations_digest(&self.read_translations(span, payload)?.concat())
            }
        })
    }

    /// Puts a payload that was checked in its place.
    fn insert(&mut self, span: Span, payload: &[u8]) -> Result<(), EngineError> {
        match &mut self.progressing {
            Progressing::Train(training) => {
                let sum = floats(payload, training.elements()).unwrap_or_default();
                training.insert(span, sum).map_err(TrainingError::from)?;
            }
            Progressing::Translate { .. } => {
                // Read once before, when it was checked.
                let _ = self.take_translations(span, payload);
            }
        }
        Ok(())
    }

    /// A translation payload, by micro-batch.
    fn read_translations(&self, span: Span, payload: &[u8]) -> Result<Vec<Vec<Vec<u32>>>, String> {
        let all = Vec::<Vec<u32>>::try_from_slice(payload)
            .map_err(|error| format!("the translations cannot be read: {error}"))?;
        let mut rest = all.as_slice();
        let mut split = Vec::new();
        for micro in span.micro_batches() {
            let members = self.job.members(0, 0, micro).map_or(0, <[u32]>::len);
            let Some((mine, others)) = rest.split_at_checked(members) else {
                return Err("there are fewer translations than sentences".into());
            };
            split.push(mine.to_vec());
            rest = others;
        }
        if !rest.is_empty() {
            return Err("there are more translations than sentences".into());
        }
        Ok(split)
    }

    fn take_translations(&mut self, span: Span, payload: &[u8]) -> Result<(), String> {
        let split = self.read_translations(span, payload)?;
        let Progressing::Translate { translations, .. } = &mut self.progressing else {
            return Ok(());
        };
        for (micro, mine) in span.micro_batches().zip(split) {
            let members = self.job.members(0, 0, micro).unwrap_or_default();
            translations.extend(members.iter().copied().zip(mine));
        }
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
        let before = self.parameters();
        let mut confirmations = std::mem::take(&mut self.confirmations);
        let mut own = None;
        if let Progressing::Train(training) = &mut self.progressing {
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
            after: self.parameters(),
            loss: self.loss,
            target_tokens: self.job.target_tokens(epoch, step),
            tokens: self.job.tokens(epoch, step),
            milliseconds,
        };
        let messages = self.confirm_messages(confirmations);
        let after = self.parameters();
        let is_training = matches!(self.progressing, Progressing::Train(_));
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
            self.note(std::slice::from_ref(&leaf), &run, epoch, step, true);
        }
        self.account(&entry, now);
        let (next_epoch, next_step) = next.unwrap_or((schedule.epochs, 0));
        let fresh = StepState::new(id, next_epoch, next_step, count);
        self.previous = Some(std::mem::replace(&mut self.step, fresh));
        if let Progressing::Train(training) = &self.progressing
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
        self.last_loss = Some(self.loss / entry.target_tokens.max(1) as f32);
        self.loss = 0.0;
        self.worked_ms += entry.milliseconds;
        self.patience.worked = Duration::from_millis(self.worked_ms);
        if let Some(done) = self.pace_done.take() {
            self.patience.waited += Duration::from_millis(now.saturating_sub(done));
        }
        self.paced = false;
        self.step_began = None;
        self.tokens.push_back((now, entry.tokens));
        while self.tokens.front().is_some_and(|(at, _)| at + RATE_WINDOW_MS < now) {
            self.tokens.pop_front();
        }
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

    fn note(&mut self, leaves: &[LeafResult], run: &Run, epoch: u32, step: u32, used: bool) {
        self.receipts += leaves.len() as u64;
        let (batches, receipts) = self.batches.entry(run.node).or_default();
        *receipts += leaves.len() as u64;
        if used && run.first != BatchPart::Update {
            *batches += leaves.len() as u64;
        }
        for leaf in leaves {
            let body = &leaf.receipt.body;
            let (node, receipt) = (run.node, body.id());
            self.recent.push_front(BatchDone {
                epoch,
                step,
                part: body.batch.part,
                node,
                receipt,
                used,
            });
        }
        self.recent.truncate(RECENT);
    }

    /// All is computed: the result becomes a file of its own.
    fn finish_job(&mut self) -> Result<(), EngineError> {
        let bytes = match &self.progressing {
            Progressing::Train(training) => {
                let model = training.numbers.parameters.to_safetensors();
                model.map_err(TrainingError::from)?
            }
            Progressing::Translate { translations, .. } => {
                let all: Vec<Vec<u32>> = (0..self.job.sentences() as u32)
                    .map(|at| translations.get(&at).cloned().unwrap_or_default())
                    .collect();
                borsh::to_vec(&all).unwrap_or_default()
            }
        };
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
        let is_training = matches!(self.progressing, Progressing::Train(_));
        let window = self.tokens.front().map_or(0, |(at, _)| now.saturating_sub(*at));
        let counted: u64 = self.tokens.iter().skip(1).map(|(_, tokens)| tokens).sum();
        let tokens_per_second = counted as f32 * 1e3 / window.max(1) as f32;
        let mut statuses = workers.statuses(self.products(), now);
        for (node, status) in &mut statuses {
            if let Some((batches, receipts)) = self.batches.get(node) {
                (status.batches, status.receipts) = (*batches, *receipts);
            }
            status.doing = self.step.doing(node).map(|span| {
                format!("step {} #{}-{}", self.step.step(), span.first, span.first + span.count - 1)
            });
        }
        JobStatus {
            job: self.job.id(),
            label: self.job.spec().label.clone(),
            kind: if is_training { "train" } else { "translate" }.into(),
            phase: if self.finished.is_some() { JobPhase::Settling } else { JobPhase::Running },
            epoch: self.step.epoch().min(schedule.epochs),
            epochs: schedule.epochs,
            step: self.step.step(),
            steps: schedule.steps(),
            loss: self.last_loss.filter(|_| is_training),
            tokens_per_second: if self.finished.is_some() { 0.0 } else { tokens_per_second },
            parameters: is_training.then(|| self.parameters()),
            result: self.finished,
            receipts: self.receipts,
            receipts_on_chain: 0,
            receipts_confirmed: 0,
            workers: statuses.into_iter().map(|(_, status)| status).collect(),
            recent: self.recent.iter().cloned().collect(),
            seconds: self.worked_ms as f64 / 1e3,
        }
    }
}

fn confirmations(leaves: &[LeafResult]) -> Vec<Confirmation> {
    leaves
        .iter()
        .map(|leaf| Confirmation {
            receipt: leaf.receipt.body.id(),
            salt: leaf.salt,
            work_root: protocol::operation::work_root(&leaf.records),
        })
        .collect()
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
