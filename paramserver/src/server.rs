//! All jobs of one server, behind one lock.

mod kept;
mod work;

pub use work::Expected;

use crate::{
    clock::now_ms,
    engine::{Engine, EngineError},
    record::{JobEntry, Outgoing, Standing},
    store::{Store, StoreError},
    training::{Keep, TrainingError},
    workers::{Replayed, Workers},
};
use identity::NodeIdentity;
use job::{Job, JobError};
use protocol::encoded::Encoded;
use protocol::{
    Digest, JobId, JobSpec, PublicKey, ReceiptId, Signed,
    api::{JobPhase, JobStatus, JobTaken},
    job::Work,
    operation::OperationRecord,
    state::JobRecord,
    transaction::CreateJob,
    work::LogRequest,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot, watch};

/// The most jobs that wait or run at once; more are refused until one is done.
pub const MAX_OPEN_JOBS: usize = 64;
/// A job that waits, and of which nothing came for so long, makes room for another where all
/// places are taken: an announcement costs its sender nothing.
pub const WAITING_PATIENCE_MS: u64 = 3_600_000;
/// A job during whose opening the server ended twice, each time, waits so long, and twice as long
/// each further time, so that the others go on.
const CRASH_PAUSE_MS: u64 = 60_000;
const MAX_CRASH_PAUSE_MS: u64 = 3_600_000;
/// Jobs that are over and listed all the same: the newest.
const MAX_LISTED: usize = 100;
/// Computed jobs that stay in memory for their stragglers.
const MAX_COMPUTED: usize = 8;
/// The most full logs being waited for at once.
pub const MAX_LOG_REQUESTS: usize = 64;

/// A request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The peer's mistake.
    #[error("{0}")]
    Refused(String),
    /// There is no such thing here.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be had at present.
    #[error("{0}")]
    Unavailable(String),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A job.
    #[error(transparent)]
    Engine(EngineError),
    /// A job's numbers.
    #[error(transparent)]
    Training(TrainingError),
}

/// Whatever the disk fails under, it is the disk.
impl From<EngineError> for ServerError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) => Self::Store(error),
            EngineError::Training(error) => error.into(),
            other => Self::Engine(other),
        }
    }
}

impl From<TrainingError> for ServerError {
    fn from(error: TrainingError) -> Self {
        match error {
            TrainingError::Store(error) => Self::Store(error),
            other => Self::Training(other),
        }
    }
}

impl From<Replayed> for ServerError {
    fn from(error: Replayed) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One job here.
pub struct Slot {
    /// As the disk has it.
    pub entry: JobEntry,
    /// Once its files are here and it is on the chain, until its receipts are settled.
    pub engine: Option<Engine>,
    /// What the chain says of it.
    pub on_chain: Option<JobRecord>,
    /// Why the disk let it go no further, until it does.
    trouble: Option<String>,
    /// The last status of a job whose engine is gone.
    last: Option<JobStatus>,
    /// When something of it came last, milliseconds since 1970.
    pub(crate) heard: u64,
    /// From when on it may be opened, milliseconds since 1970.
    not_before: u64,
}

impl Slot {
    fn new(entry: JobEntry) -> Self {
        let heard = now_ms();
        let mut slot = Self {
            entry,
            engine: None,
            on_chain: None,
            trouble: None,
            last: None,
            heard,
            not_before: 0,
        };
        let crashes = slot.entry.crashes;
        if let Some(pause) = crash_pause_ms(crashes) {
            slot.not_before = heard + pause;
            slot.trouble = Some(format!(
                "the server ended {crashes} times while it took this job up, which may need more \
                 memory than there is: it is tried again after {} min",
                pause / 60_000
            ));
        }
        slot
    }

    fn spec(&self) -> &JobSpec {
        &self.entry.create.body.spec
    }

    /// Whether it is to be taken up again. A computed job that was put away has left its status.
    fn is_stopped(&self) -> bool {
        let is_open = match &self.entry.standing {
            Standing::Running => true,
            Standing::Computed(_) => self.last.is_none(),
            Standing::Waiting | Standing::Failed(_) => false,
        };
        is_open && self.engine.is_none()
    }
}

/// A worker's wait for a full log to be made.
struct LogWait {
    node: PublicKey,
    request: LogRequest,
    handed_out: bool,
    answer: oneshot::Sender<Vec<OperationRecord>>,
}

/// What the lock guards.
#[derive(Default)]
pub struct State {
    /// Every job, by id.
    pub jobs: BTreeMap<JobId, Slot>,
    /// The workers.
    pub workers: Workers,
    logs: VecDeque<LogWait>,
}

/// A parameter server.
pub struct Server {
    /// The disk.
    pub store: Arc<Store>,
    /// The keys.
    pub identity: Arc<NodeIdentity>,
    keep: Keep,
    /// Memory that the jobs here may take together, bytes.
    memory: u64,
    state: Mutex<State>,
    /// Rings when work may have become available, or a job's standing changed.
    pub changed: Notify,
    /// Whether the chain knows this server: no job is taken before.
    pub registered: watch::Sender<bool>,
    /// One job at a time is opened, and none twice.
    starting: Mutex<()>,
}

/// How long a job waits during whose opening the server ended so often.
fn crash_pause_ms(crashes: u32) -> Option<u64> {
    let doublings = crashes.checked_sub(2)?;
    Some(CRASH_PAUSE_MS.saturating_mul(1 << doublings.min(16)).min(MAX_CRASH_PAUSE_MS))
}

/// The files that a job is made of.
fn files(spec: &JobSpec) -> [Digest; 3] {
    match &spec.work {
        Work::Train(train) => [train.corpus, train.tokenizer, train.encoded],
        Work::Translate(translate) => [translate.model, translate.tokenizer, translate.input],
    }
}

/// Memory that a job takes here, about, bytes: of a training job parameters, two moments, the
/// partial sums of a step, and what is being received and handed out; of any other its model once.
fn memory_of(spec: &JobSpec) -> u64 {
    let (shape, copies) = match &spec.work {
        Work::Train(train) => (&train.model, 12),
        Work::Translate(translate) => (&translate.shape, 2),
    };
    kernels::model::count(shape).saturating_mul(4 * copies)
}

impl Server {
    /// A server over a store. Its jobs go on with [`Server::resume`].
    ///
    /// # Errors
    /// [`ServerError`]: the disk.
    pub fn open(store: Store, identity: NodeIdentity, keep: Keep) -> Result<Self, ServerError> {
        let store = Arc::new(store);
        let mut state = State::default();
        for (id, entry) in store.jobs()? {
            state.jobs.insert(id, Slot::new(entry));
        }
        let identity = Arc::new(identity);
        Ok(Self {
            store,
            identity,
            keep,
            memory: u64::MAX,
            state: Mutex::new(state),
            changed: Notify::new(),
            registered: watch::Sender::new(false),
            starting: Mutex::new(()),
        })
    }

    /// Refuses jobs that would take more memory together than this, bytes.
    pub fn with_memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// Opens the jobs that ran or were computed here: their parameters are rebuilt, which takes
    /// its time. One that cannot be opened is marked as failed, one that the disk stops is left
    /// as it is, and neither keeps the others from going on.
    pub fn resume(&self) {
        let running = self.ids(|standing| *standing == Standing::Running);
        let computed = self.ids(|standing| matches!(standing, Standing::Computed(_)));
        for id in running.into_iter().chain(computed) {
            // On a thread of its own: a panic of one must not keep the others from going on.
            let started = std::thread::scope(|scope| scope.spawn(|| self.start(&id)).join());
            let started = match started {
                Ok(started) => started,
                Err(_) => self.fail(&id, "opening it panicked: see the server's log".into()),
            };
            if let Err(error) = started {
                tracing::error!(job = %id, "the job stands still: {error}");
            }
        }
    }

    /// The state. A panic elsewhere cannot leave it half-changed: what counts is on disk.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self, wanted: impl Fn(&Standing) -> bool) -> Vec<JobId> {
        let state = self.lock();
        let jobs = state.jobs.iter().filter(|(_, slot)| wanted(&slot.entry.standing));
        jobs.map(|(id, _)| *id).collect()
    }

    /// Takes a job that its requester signed, and says which files it needs.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn take_job(&self, create: Signed<CreateJob>) -> Result<JobTaken, ServerError> {
        let refused = |why: String| ServerError::Refused(why);
        let body = create.verify(&self.identity.chain).map_err(|e| refused(e.to_string()))?;
        if body.spec.requester != create.signer {
            return Err(refused(format!(
                "the job is {}'s, but {} signed it: sign it with the requester's key",
                body.spec.requester, create.signer
            )));
        }
        if body.parameter_server != self.identity.node() {
            return Err(refused(format!(
                "the job names parameter server {}; this one is {}: send it there, or name this one",
                body.parameter_server,
                self.identity.node()
            )));
        }
        job::spec::check(&body.spec).map_err(|error| refused(error.to_string()))?;
        let id = body.spec.id();
        let missing = self.missing(&body.spec);
        let mut state = self.lock();
        if state.jobs.contains_key(&id) {
            return Ok(JobTaken { job: id, missing });
        }
        let open = state
            .jobs
            .values()
            .filter(|slot| matches!(slot.entry.standing, Standing::Waiting | Standing::Running));
        let taken: u64 = open.clone().map(|slot| memory_of(slot.spec())).sum();
        let wanted = memory_of(&body.spec);
        if wanted > self.memory {
            return Err(refused(format!(
                "a job of this model takes about {} MB of memory here, {} MB are given to jobs: \
                 make the model smaller, or start the server with more --memory",
                wanted >> 20,
                self.memory >> 20
            )));
        }
        if taken.saturating_add(wanted) > self.memory {
            return Err(ServerError::Unavailable(format!(
                "the jobs that wait or run here take about {} MB of the {} MB of memory given to \
                 jobs, this one {} MB: try again when one is done",
                taken >> 20,
                self.memory >> 20,
                wanted >> 20
            )));
        }
        if open.count() >= MAX_OPEN_JOBS && !self.make_room(&mut state)? {
            return Err(ServerError::Unavailable(format!(
                "{MAX_OPEN_JOBS} jobs wait or run here already: try again when one is done"
            )));
        }
        let arrived = state.jobs.values().map(|slot| slot.entry.arrived + 1).max().unwrap_or(0);
        let entry = JobEntry { create, arrived, standing: Standing::Waiting, crashes: 0 };
        self.store.write(|changes| changes.put_job(&id, &entry))?;
        state.jobs.insert(id, Slot::new(entry));
        Ok(JobTaken { job: id, missing })
    }

    /// Forgets the waiting job of which nothing has come for longest; false where all are in time.
    fn make_room(&self, state: &mut State) -> Result<bool, ServerError> {
        let waiting =
            state.jobs.iter().filter(|(_, slot)| slot.entry.standing == Standing::Waiting);
        let oldest = waiting.min_by_key(|(_, slot)| slot.heard).map(|(id, slot)| (*id, slot.heard));
        let Some((id, heard)) = oldest else { return Ok(false) };
        if now_ms().saturating_sub(heard) < WAITING_PATIENCE_MS {
            return Ok(false);
        }
        tracing::warn!(job = %id, "it waited too long for its files or its block: forgotten");
        self.store.write(|changes| changes.drop_job(&id))?;
        let Some(slot) = state.jobs.remove(&id) else { return Ok(true) };
        for digest in files(slot.spec()) {
            let others = |other: &Slot| files(other.spec()).contains(&digest);
            if !state.jobs.values().any(others) {
                crate::store::remove_file(&self.store.blob_path(&digest))?;
            }
        }
        Ok(true)
    }

    fn missing(&self, spec: &JobSpec) -> Vec<Digest> {
        files(spec).into_iter().filter(|digest| !self.store.has_blob(digest)).collect()
    }

    /// Keeps a file that some job waits for.
    ///
    /// # Errors
    /// Where it is another than its name says; the disk.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ServerError> {
        match self.store.put_blob(digest, bytes) {
            Err(error @ StoreError::WrongBlob { .. }) => {
                return Err(ServerError::Refused(error.to_string()));
            }
            other => other?,
        }
        for slot in self.lock().jobs.values_mut() {
            if files(slot.spec()).contains(digest) {
                slot.heard = now_ms();
            }
        }
        Ok(())
    }

    /// Whether parameters are those of a job's step in progress: they are at hand.
    pub fn is_current(&self, digest: &Digest) -> bool {
        let state = self.lock();
        let mut engines = state.jobs.values().filter_map(|slot| slot.engine.as_ref());
        engines.any(|engine| engine.current(digest).is_some())
    }

    /// Whether some job waits for this file: nothing else is kept.
    pub fn wants_blob(&self, digest: &Digest) -> bool {
        let state = self.lock();
        let mut waiting =
            state.jobs.values().filter(|slot| slot.entry.standing == Standing::Waiting);
        waiting.any(|slot| self.missing(slot.spec()).contains(digest))
    }

    /// Jobs whose files are all here and that only the chain has to know.
    pub fn ready_jobs(&self) -> Vec<JobId> {
        let state = self.lock();
        let ready = state.jobs.iter().filter(|(_, slot)| {
            slot.entry.standing == Standing::Waiting && self.missing(slot.spec()).is_empty()
        });
        ready.map(|(id, _)| *id).collect()
    }

    /// Jobs that were stopped by a failing disk.
    pub fn stopped_jobs(&self) -> Vec<JobId> {
        let state = self.lock();
        let now = now_ms();
        let stopped =
            state.jobs.iter().filter(|(_, slot)| slot.is_stopped() && slot.not_before <= now);
        stopped.map(|(id, _)| *id).collect()
    }

    /// Starts a job, or goes on with it. A job whose files are wrong is marked as failed.
    ///
    /// # Errors
    /// [`ServerError`]: the disk.
    pub fn start(&self, id: &JobId) -> Result<(), ServerError> {
        let started = self.try_start(id);
        if let Some(slot) = self.lock().jobs.get_mut(id)
            && slot.not_before <= now_ms()
        {
            slot.trouble = started.as_ref().err().map(ToString::to_string);
        }
        started
    }

    fn try_start(&self, id: &JobId) -> Result<(), ServerError> {
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry = match self.lock().jobs.get(id) {
            Some(slot) if slot.engine.is_none() && slot.not_before <= now_ms() => {
                slot.entry.clone()
            }
            _ => return Ok(()),
        };
        // On disk it counts as a crash until it is open.
        let opening = JobEntry { crashes: entry.crashes + 1, ..entry.clone() };
        self.store.write(|changes| changes.put_job(id, &opening))?;
        entry.crashes = 0;
        if entry.standing == Standing::Waiting {
            entry.standing = Standing::Running;
        }
        match self.open_engine(&entry) {
            Ok(engine) => {
                let entry = engine.entry().clone();
                self.store.write(|changes| changes.put_job(id, &entry))?;
                let mut state = self.lock();
                if let Some(slot) = state.jobs.get_mut(id) {
                    slot.entry = entry;
                    slot.engine = Some(engine);
                }
                Self::retire(&mut state);
            }
            // What a full disk or a lost file does may pass: the job is left as it is.
            Err(error @ ServerError::Store(_)) => {
                let before = self.lock().jobs.get(id).map(|slot| slot.entry.clone());
                if let Some(before) = before {
                    // Where even that fails, it waits a little longer after a restart.
                    let _ = self.store.write(|changes| changes.put_job(id, &before));
                }
                return Err(error);
            }
            Err(error) => self.fail(id, error.to_string())?,
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Frees the memory of the jobs computed longest ago: stragglers of theirs come too late.
    fn retire(state: &mut State) {
        let State { jobs, workers, .. } = state;
        let mut computed: Vec<&mut Slot> = jobs
            .values_mut()
            .filter(|slot| slot.engine.as_ref().is_some_and(|engine| engine.result().is_some()))
            .collect();
        computed.sort_by_key(|slot| std::cmp::Reverse(slot.entry.arrived));
        for slot in computed.into_iter().skip(MAX_COMPUTED) {
            slot.last = slot.engine.take().map(|engine| engine.status(workers, now_ms()));
        }
    }

    fn open_engine(&self, entry: &JobEntry) -> Result<Engine, ServerError> {
        let CreateJob { spec, shapes, .. } = &entry.create.body;
        let wrong = |what, why: String| EngineError::File { what, why };
        let digest = match &spec.work {
            Work::Train(train) => train.encoded,
            Work::Translate(translate) => translate.input,
        };
        let bytes = self.store.blob(&digest)?;
        let encoded = Encoded::from_bytes(bytes)
            .map_err(|error| wrong("encoded corpus", error.to_string()))?;
        let job = Job::new(spec.clone(), encoded)
            .map_err(|error: JobError| wrong("specification", error.to_string()))?;
        if job.terms().shapes() != shapes.as_slice() {
            let why = "they are not what the corpus gives: create the job with a current client";
            return Err(wrong("shapes", why.into()).into());
        }
        if let Work::Translate(translate) = &spec.work {
            let model = self.store.blob(&translate.model)?;
            let model = kernels::model::Parameters::from_safetensors(&model)
                .map_err(|error| wrong("model", error.to_string()))?;
            if model.digest() != translate.parameters || model.shape() != &translate.shape {
                let why = "its parameters or shape are not those that the job names".into();
                return Err(wrong("model", why).into());
            }
        }
        let (store, identity) = (self.store.clone(), self.identity.clone());
        Ok(Engine::open(job, entry.clone(), store, identity, self.keep, now_ms())?)
    }

    /// Marks a job as failed, for a reason that people read.
    ///
    /// # Errors
    /// [`ServerError`]: the disk.
    pub fn fail(&self, id: &JobId, why: String) -> Result<(), ServerError> {
        tracing::error!(job = %id, "the job failed: {why}");
        let mut state = self.lock();
        if let Some(slot) = state.jobs.get_mut(id) {
            slot.entry.standing = Standing::Failed(why);
            slot.engine = None;
            let entry = slot.entry.clone();
            self.store.write(|changes| changes.put_job(id, &entry))?;
        }
        Ok(())
    }

    /// The status of the newest jobs, and of all that are not over, newest first. The last
    /// batches are told of jobs that are worked on.
    pub fn statuses(&self) -> Vec<JobStatus> {
        let state = self.lock();
        let mut jobs: Vec<_> = state.jobs.iter().collect();
        jobs.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.entry.arrived));
        let is_over =
            |status: &JobStatus| matches!(status.phase, JobPhase::Done | JobPhase::Failed(_));
        jobs.into_iter()
            .map(|(id, slot)| self.status_of(id, slot, &state.workers))
            .enumerate()
            .filter(|(at, status)| *at < MAX_LISTED || !is_over(status))
            .map(|(_, status)| match is_over(&status) {
                true => JobStatus { recent: Vec::new(), ..status },
                false => status,
            })
            .collect()
    }

    /// One job's status.
    pub fn status(&self, id: &JobId) -> Option<JobStatus> {
        let state = self.lock();
        state.jobs.get(id).map(|slot| self.status_of(id, slot, &state.workers))
    }

    fn status_of(&self, id: &JobId, slot: &Slot, workers: &Workers) -> JobStatus {
        let mut status = match (&slot.engine, &slot.last) {
            (Some(engine), _) => engine.status(workers, now_ms()),
            (None, Some(last)) => last.clone(),
            (None, None) => self.idle_status(id, &slot.entry),
        };
        if let Some(record) = &slot.on_chain {
            status.receipts_on_chain = record.receipts;
            status.receipts_confirmed = record.confirmed;
        }
        match &slot.entry.standing {
            Standing::Waiting => status.phase = JobPhase::Waiting,
            Standing::Failed(why) => status.phase = JobPhase::Failed(why.clone()),
            // Settled once everything that was to be told has been.
            Standing::Computed(_)
                if slot.on_chain.is_some() && status.receipts_confirmed >= status.receipts =>
            {
                status.phase = JobPhase::Done;
            }
            _ => {}
        }
        status.obstacle = self.obstacle(&status.phase, slot, workers);
        status
    }

    /// What keeps a job in this phase from going on, for people.
    fn obstacle(&self, phase: &JobPhase, slot: &Slot, workers: &Workers) -> Option<String> {
        if matches!(phase, JobPhase::Running | JobPhase::Settling) && slot.trouble.is_some() {
            return slot.trouble.clone();
        }
        let now = now_ms();
        match (phase, &slot.engine) {
            (JobPhase::Waiting, _) => Some(match self.missing(slot.spec()).len() {
                0 => "the chain has not taken it into a block yet".into(),
                1 => "one of its files is not here yet".into(),
                count => format!("{count} of its files are not here yet"),
            }),
            (JobPhase::Running, None) => {
                Some("its parameters are being rebuilt from what is on disk".into())
            }
            // A worker that computes does not ask; it is waited for as long as it is not late.
            (JobPhase::Running, Some(engine))
                if engine.next_wake(now).is_none() && workers.present(now).is_empty() =>
            {
                Some("no worker asks for work: it goes on as soon as one does".into())
            }
            _ => None,
        }
    }

    fn idle_status(&self, id: &JobId, entry: &JobEntry) -> JobStatus {
        let spec = &entry.create.body.spec;
        let (kind, epochs) = match &spec.work {
            Work::Train(train) => ("train", train.epochs),
            Work::Translate(_) => ("translate", 1),
        };
        JobStatus {
            job: *id,
            label: spec.label.clone(),
            kind: kind.into(),
            // Until it is taken up, or again: Standing says more where there is more to say.
            phase: match &entry.standing {
                Standing::Waiting => JobPhase::Waiting,
                Standing::Computed(_) => JobPhase::Settling,
                Standing::Running | Standing::Failed(_) => JobPhase::Running,
            },
            obstacle: None,
            epoch: 0,
            epochs,
            step: 0,
            steps: 0,
            loss: None,
            tokens_per_second: 0.0,
            parameters: None,
            result: match &entry.standing {
                Standing::Computed(result) => Some(*result),
                _ => None,
            },
            receipts: 0,
            receipts_on_chain: 0,
            receipts_confirmed: 0,
            workers: Vec::new(),
            recent: Vec::new(),
            seconds: 0.0,
        }
    }

    // The chain.

    /// Jobs whose counts on the chain may still change.
    pub fn unsettled(&self) -> Vec<JobId> {
        let state = self.lock();
        let open = state.jobs.iter().filter(|(id, slot)| {
            matches!(slot.entry.standing, Standing::Running | Standing::Computed(_))
                && self.status_of(id, slot, &state.workers).phase != JobPhase::Done
        });
        open.map(|(id, _)| *id).collect()
    }

    /// What the chain says of a job.
    pub fn note_chain(&self, id: &JobId, record: JobRecord) {
        if let Some(slot) = self.lock().jobs.get_mut(id) {
            slot.on_chain = Some(record);
        }
    }

    /// Rebuilds a confirmation without receipts that the chain refused for good.
    ///
    /// # Errors
    /// [`ServerError`]: the disk.
    pub fn drop_refused(
        &self,
        sequence: u64,
        message: &Outgoing,
        refused: &[ReceiptId],
    ) -> Result<(), ServerError> {
        let Outgoing::Confirm(confirm) = message else { return Ok(()) };
        let mut body = confirm.body.clone();
        body.receipts.retain(|confirmation| !refused.contains(&confirmation.receipt));
        let rest = (!body.receipts.is_empty()).then(|| Outgoing::Confirm(self.identity.sign(body)));
        Ok(self.store.write(|changes| {
            changes.drop_outgoing(sequence)?;
            rest.iter().try_for_each(|message| changes.push_outgoing(message))
        })?)
    }
}
