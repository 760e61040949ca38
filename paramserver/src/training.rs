//! A training job's numbers: parameters, optimiser, and the gradient tree of the step in progress.

use crate::store::{Store, StoreError, read_file, remove_file, write_file};
use borsh::BorshDeserialize;
use job::{Job, tree::Span, work::WorkError};
use kernels::{
    model::Parameters,
    optimiser,
    sum::{Tree, TreeError},
};
use protocol::{Digest, JobId, job::Work};
use std::path::PathBuf;

/// Steps between checkpoints.
pub const CHECKPOINT_STEPS: u32 = 64;

/// What is kept of a job's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At most so many bytes of gradient sums and checkpoints, or one stretch ([`trim`]).
    pub bytes: u64,
    /// Steps between checkpoints: [`CHECKPOINT_STEPS`] but in tests.
    pub checkpoint_steps: u32,
}

/// A training job's numbers cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The arithmetic.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The kernels.
    #[error(transparent)]
    Kernel(#[from] kernels::Error),
    /// A partial sum does not fit.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file of ours was altered or cut short.
    #[error(
        "{path}: {what}: the disk lost or altered it; remove the job's folder to start the job anew, or restore it from a copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What would be needed is kept no longer.
    #[error(
        "the parameters before step {ordinal} can no longer be rebuilt: the gradient sums and the checkpoint that they would need were dropped when the job's files passed the server's --keep; what was checked of it before stays on the chain"
    )]
    Gone {
        /// The step's number in the job, from 0.
        ordinal: u32,
    },
}

/// Parameters and optimiser state before a step.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// The parameters.
    pub parameters: Parameters,
    /// The optimiser's state.
    pub state: optimiser::State,
}

impl Numbers {
    /// Those before the first step.
    pub fn initial(job: &Job) -> Result<Self, TrainingError> {
        let seed = match &job.spec().work {
            Work::Train(train) => train.seed,
            Work::Translate(_) => 0,
        };
        let parameters = Parameters::initial(job.shape(), seed)?;
        Ok(Self { parameters, state: optimiser::State::new(job.shape())? })
    }

    /// Those before the step of an ordinal: from the nearest checkpoint and the kept sums.
    pub fn rebuild(job: &Job, store: &Store, ordinal: u32) -> Result<Self, TrainingError> {
        let checkpoints = store.ordinals(&job.id(), "checkpoints")?;
        let nearest = checkpoints.iter().map(|(at, _)| *at).filter(|at| *at <= ordinal).max();
        let (mut numbers, from) = match nearest {
            Some(at) => (Self::read_checkpoint(job, store, at)?, at),
            None => (Self::initial(job)?, 0),
        };
        let steps = job.terms().schedule().steps();
        for at in from..ordinal {
            let path = store.sum_path(&job.id(), at);
            if !path.is_file() {
                return Err(TrainingError::Gone { ordinal });
            }
            let mut sum = read_floats(&path, numbers.parameters.elements().len())?;
            let (epoch, step) = (at / steps, at % steps);
            let Self { parameters, state } = &mut numbers;
            job.apply(epoch, step, parameters, state, &mut sum)?;
        }
        Ok(numbers)
    }

    /// Keeps these numbers as they are before a step.
    pub fn write_checkpoint(
        &self,
        job: &JobId,
        store: &Store,
        ordinal: u32,
    ) -> Result<(), TrainingError> {
        let pair = (self.parameters.to_safetensors()?, self.state.to_bytes()?);
        let path = store.checkpoint_path(job, ordinal);
        let bytes = borsh::to_vec(&pair).unwrap_or_default();
        Ok(write_file(&path, &bytes)?)
    }

    fn read_checkpoint(job: &Job, store: &Store, ordinal: u32) -> Result<Self, TrainingError> {
        let path = store.checkpoint_path(&job.id(), ordinal);
        let bytes = read_file(&path)?;
        let damaged = |what: String| TrainingError::Damaged { path: path.clone(), what };
        let (parameters, state) = <(Vec<u8>, Vec<u8>)>::try_from_slice(&bytes)
            .map_err(|error| damaged(error.to_string()))?;
        let parameters = Parameters::from_safetensors(&parameters)
            .map_err(|error| damaged(error.to_string()))?;
        let state = optimiser::State::from_bytes(job.shape(), &state)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Self { parameters, state })
    }
}

/// Reads float32 little-endian, exactly `count` of them.
pub fn read_floats(path: &std::path::Path, count: usize) -> Result<Vec<f32>, TrainingError> {
    let bytes = read_file(path)?;
    floats(&bytes, count).ok_or_else(|| TrainingError::Damaged {
        path: path.into(),
        what: format!("{} bytes where {} are wanted", bytes.len(), count * 4),
    })
}

/// Float32 little-endian, exactly `count` of them; none otherwise.
pub fn floats(bytes: &[u8], count: usize) -> Option<Vec<f32>> {
    if bytes.len() != count * 4 {
        return None;
    }
    Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// The bytes of floats.
pub fn bytes_of(floats: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(floats.len() * 4);
    for value in floats {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// A training job in progress.
#[derive(Debug)]
pub struct Training {
    /// Before the step in progress.
    pub numbers: Numbers,
    /// The parameters' digest.
    pub digest: Digest,
    tree: Tree,
}

impl Training {
    /// A job at the start of a step of `micro_batches`.
    pub fn new(numbers: Numbers, micro_batches: u32) -> Self {
        let digest = numbers.parameters.digest();
        let tree = Tree::new(micro_batches, numbers.parameters.elements().len());
        Self { numbers, digest, tree }
    }

    /// How many parameters.
    pub fn elements(&self) -> usize {
        self.numbers.parameters.elements().len()
    }

    /// Puts a run's gradient sum in, which is in its file already.
    pub fn insert(&mut self, span: Span, sum: Vec<f32>) -> Result<(), TreeError> {
        self.tree.insert(span.first, span.count, sum)
    }

    /// Takes the step: the whole sum is kept, the parameters move on. What the receipt says is
    /// returned.
    pub fn finish(
        &mut self,
        job: &Job,
        store: &Store,
        epoch: u32,
        step: u32,
        next_micro_batches: u32,
    ) -> Result<job::work::Done, TrainingError> {
        let elements = self.elements();
        let tree = std::mem::replace(&mut self.tree, Tree::new(next_micro_batches, elements));
        let Some(mut sum) = tree.finish() else {
            let ordinal = job.terms().schedule().ordinal(epoch, step);
            let path = store.sum_path(&job.id(), ordinal);
            return Err(TrainingError::Damaged { path, what: "a micro-batch is missing".into() });
        };
        let ordinal = job.terms().schedule().ordinal(epoch, step);
        write_file(&store.sum_path(&job.id(), ordinal), &bytes_of(&sum))?;
        let Numbers { parameters, state } = &mut self.numbers;
        let done = job.update(epoch, step, parameters, state, &mut sum, job.spec().log)?;
        self.digest = done.result;
        Ok(done)
    }
}

/// Drops the oldest stretches of a job until what is left takes at most `keep` bytes.
///
/// A stretch is what rebuilds the parameters of the steps between two checkpoints: the first
/// checkpoint and the gradient sums up to the second. Without one of its sums the later ones
/// are of no use, so it goes as a whole. The newest stays: a restart needs it.
pub fn trim(job: &JobId, store: &Store, keep: u64) -> Result<(), StoreError> {
    let sums = store.ordinals(job, "sums")?;
    let checkpoints = store.ordinals(job, "checkpoints")?;
    let dropped = dropped_before(&sums, &checkpoints, keep);
    let old = |files: &[(u32, u64)]| -> Vec<u32> {
        files.iter().map(|(at, _)| *at).filter(|at| *at < dropped).collect()
    };
    // Checkpoints first: killed in between, sums without one are seen and dropped the next time.
    for at in old(&checkpoints) {
        remove_file(&store.checkpoint_path(job, at))?;
    }
    for at in old(&sums) {
        remove_file(&store.sum_path(job, at))?;
    }
    Ok(())
}

/// The ordinal before which everything is to go: 0, or a checkpoint's.
fn dropped_before(sums: &[(u32, u64)], checkpoints: &[(u32, u64)], keep: u64) -> u32 {
    let newest = checkpoints.last().map_or(0, |(at, _)| *at);
    let from = |start: u32| -> u64 {
        let files = sums.iter().chain(checkpoints);
        files.filter(|(at, _)| *at >= start).map(|(_, bytes)| bytes).sum()
    };
    // The first stretch begins at the initial parameters, which need no file.
    let mut starts = std::iter::once(0).chain(checkpoints.iter().map(|(at, _)| *at));
    starts.find(|&start| start >= newest || from(start) <= keep).unwrap_or(newest)
}

#[cfg(test)]
mod tests {
    use super::dropped_before;
    use proptest::prelude::*;

    #[test]
    fn whole_stretches_go_and_the_newest_stays_whatever_it_takes() {
        let sums: Vec<_> = (0..7).map(|at| (at, 10)).collect();
        let checkpoints = [(2, 30), (4, 30), (6, 30)];
        let before = |keep| dropped_before(&sums, &checkpoints, keep);
        assert_eq!((before(160), before(159)), (0, 2));
        assert_eq!((before(140), before(139)), (2, 4));
        assert_eq!((before(90), before(89), before(0)), (4, 6, 6));
    }

    proptest! {
        #[test]
        fn what_is_left_fits_or_is_one_stretch(
            steps in 0u32..40, every in 1u32..9, sum in 1u64..9, checkpoint in 1u64..9,
            keep in 0u64..400,
        ) {
            let sums: Vec<_> = (0..steps).map(|at| (at, sum)).collect();
            let checkpoints: Vec<_> =
                (1..=steps).filter(|at| at % every == 0).map(|at| (at, checkpoint)).collect();
            let before = dropped_before(&sums, &checkpoints, keep);
            let newest = checkpoints.last().map_or(0, |(at, _)| *at);
            let left: u64 = sums.iter().chain(&checkpoints)
                .filter(|(at, _)| *at >= before).map(|(_, bytes)| bytes).sum();
            prop_assert!(left <= keep || before == newest);
            prop_assert!(before == 0 || checkpoints.iter().any(|(at, _)| *at == before));
        }
    }
}
