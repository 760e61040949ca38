//! Doing a run of micro-batches on this machine's threads.
//!
//! Each micro-batch is one thread's; the threads take the next one that is free, and the sums
//! meet in the gradient tree, so that neither their number nor their speed changes a bit.

use job::{
    Job,
    tree::Span,
    work::{Done, WorkError},
};
use kernels::{Tap, Workspace, model::Parameters, sum::Tree};
use protocol::{BatchId, BatchPart, job::LogLevel};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What looks on while a batch is done: `()` for none, or a test's.
pub trait Observe: Sync {
    /// The tap of one batch.
    fn tap(&self, batch: &BatchId) -> impl Tap;
}

impl Observe for () {
    fn tap(&self, _: &BatchId) -> impl Tap {}
}

/// One micro-batch, done.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// What it commits to.
    pub done: Done,
    /// How long it took.
    pub took: Duration,
}

/// A run, done.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its micro-batches, in order.
    pub leaves: Vec<Leaf>,
    /// What it gives.
    pub product: RunProduct,
}

/// What a run gives.
#[derive(Clone, Debug)]
pub enum RunProduct {
    /// The gradients' sum.
    Gradient(Vec<f32>),
    /// Each sentence's tokens.
    Translations(Vec<Vec<u32>>),
}

/// A run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A batch failed.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// No workspace for the model's shape.
    #[error(transparent)]
    Kernel(#[from] kernels::Error),
    /// Gradients that do not go together, or a thread that panicked.
    #[error("the run's parts do not make a whole: {0}")]
    Parts(String),
}

/// Where a run is in its job.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The epoch.
    pub epoch: u32,
    /// The step.
    pub step: u32,
    /// The micro-batches.
    pub span: Span,
}

/// The threads' memory, kept from run to run.
#[derive(Debug)]
pub struct Device {
    workspaces: Vec<Option<Workspace>>,
}

impl Device {
    /// A device of so many threads, at least one.
    pub fn new(threads: usize) -> Self {
        Self { workspaces: (0..threads.max(1)).map(|_| None).collect() }
    }

    /// How many threads.
    pub fn threads(&self) -> usize {
        self.workspaces.len()
    }

    /// Does a run.
    ///
    /// # Errors
    /// [`RunError`]; the first one that a thread met.
    pub fn run(
        &mut self,
        job: &Job,
        place: Place,
        level: LogLevel,
        parameters: &Parameters,
        observe: &impl Observe,
    ) -> Result<Ran, RunError> {
        for workspace in &mut self.workspaces {
            if workspace.as_ref().is_none_or(|workspace| workspace.shape() != job.shape()) {
                *workspace = Some(Workspace::new(job.shape())?);
            }
        }
        let elements = parameters.elements().len();
        let shared = Shared {
            next: AtomicU32::new(0),
            meeting: Mutex::new(Meeting {
                tree: Tree::new(place.span.count, elements),
                leaves: vec![None; place.span.count as usize],
                translations: vec![Vec::new(); place.span.count as usize],
            }),
        };
        let task = Task { job, place, level, parameters, observe, shared: &shared };
        let used = self.workspaces.len().min(place.span.count as usize);
        let results: Vec<Result<(), RunError>> = thread::scope(|scope| {
            let mut workspaces = self.workspaces.iter_mut().take(used).flatten();
            let own = workspaces.next();
            let threads: Vec<_> = workspaces
                .map(|workspace| {
                    let task = &task;
                    scope.spawn(move || task.work(workspace))
                })
                .collect();
            // This thread works too: one thread less is one pool less to wake.
            let own = own.map(|workspace| task.work(workspace));
            let others = threads.into_iter().map(|thread| {
                let panicked = |_| Err(RunError::Parts("a thread panicked".into()));
                thread.join().unwrap_or_else(panicked)
            });
            own.into_iter().chain(others.collect::<Vec<_>>()).collect()
        });
        results.into_iter().collect::<Result<Vec<()>, RunError>>()?;
        let meeting = shared.meeting.into_inner().unwrap_or_else(PoisonError::into_inner);
        let missing = || RunError::Parts("a micro-batch is missing".into());
        let leaves = meeting.leaves.into_iter().collect::<Option<Vec<_>>>().ok_or_else(missing)?;
        let product = match level_of(job) {
            Kind::Train => RunProduct::Gradient(meeting.tree.finish().ok_or_else(missing)?),
            Kind::Translate => RunProduct::Translations(meeting.translations.concat()),
        };
        Ok(Ran { leaves, product })
    }
}

enum Kind {
    Train,
    Translate,
}

fn level_of(job: &Job) -> Kind {
    match job.spec().work {
        protocol::job::Work::Train(_) => Kind::Train,
        protocol::job::Work::Translate(_) => Kind::Translate,
    }
}

struct Shared {
    next: AtomicU32,
    meeting: Mutex<Meeting>,
}

struct Meeting {
    tree: Tree,
    leaves: Vec<Option<Leaf>>,
    translations: Vec<Vec<Vec<u32>>>,
}

struct Task<'a, O> {
    job: &'a Job,
    place: Place,
    level: LogLevel,
    parameters: &'a Parameters,
    observe: &'a O,
    shared: &'a Shared,
}

impl<O: Observe> Task<'_, O> {
    fn work(&self, workspace: &mut Workspace) -> Result<(), RunError> {
        let Place { epoch, step, span } = self.place;
        loop {
            let at = self.shared.next.fetch_add(1, Ordering::Relaxed);
            if at >= span.count {
                return Ok(());
            }
            let batch = self.job.batch(epoch, step, BatchPart::Micro(span.first + at));
            let began = Instant::now();
            let tap = self.observe.tap(&batch);
            let mut translated = Vec::new();
            let done = match level_of(self.job) {
                Kind::Train => {
                    self.job.train(&batch, self.level, self.parameters, workspace, tap)?
                }
                Kind::Translate => {
                    let (done, translations) =
                        self.job.translate(&batch, self.level, self.parameters, workspace, tap)?;
                    translated = translations;
                    done
                }
            };
            let leaf = Leaf { done, took: began.elapsed() };
            let gradient =
                matches!(level_of(self.job), Kind::Train).then(|| workspace.gradient().to_vec());
            let mut meeting = self.shared.meeting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(gradient) = gradient {
                let inserted = meeting.tree.insert(at, 1, gradient);
                inserted.map_err(|error| RunError::Parts(error.to_string()))?;
            }
            if let Some(place) = meeting.leaves.get_mut(at as usize) {
                *place = Some(leaf);
            }
            if let Some(place) = meeting.translations.get_mut(at as usize) {
                *place = translated;
            }
        }
    }
}
