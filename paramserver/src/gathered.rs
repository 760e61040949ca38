//! What a job's results are gathered into: a gradient tree and parameters, or translations.

use crate::training::{Numbers, Training, TrainingError, floats};
use borsh::BorshDeserialize;
use job::{
    Job,
    tree::Span,
    work::{gradient_digest, translations_digest},
};
use protocol::{Digest, work::LeafResult};
use std::collections::BTreeMap;

/// What there is of a job's outcome so far.
#[derive(Debug)]
pub(crate) enum Gathered {
    /// A training job's numbers and the gradients of its step in progress.
    Train(Box<Training>),
    /// A translation job's sentences, as token numbers, by their place in the input.
    Translate {
        /// Those of the model that translates.
        parameters: Digest,
        /// What is translated.
        translations: BTreeMap<u32, Vec<u32>>,
    },
}

impl Gathered {
    /// Nothing of a translation job.
    pub(crate) fn no_translations(parameters: Digest) -> Self {
        Self::Translate { parameters, translations: BTreeMap::new() }
    }

    /// The training, where it is one.
    pub(crate) fn training(&self) -> Option<&Training> {
        match self {
            Self::Train(training) => Some(training),
            Self::Translate { .. } => None,
        }
    }

    /// As [`Gathered::training`].
    pub(crate) fn training_mut(&mut self) -> Option<&mut Training> {
        match self {
            Self::Train(training) => Some(training),
            Self::Translate { .. } => None,
        }
    }

    /// The parameters that the step in progress begins from.
    pub(crate) fn parameters(&self) -> Digest {
        match self {
            Self::Train(training) => training.digest,
            Self::Translate { parameters, .. } => *parameters,
        }
    }

    /// The newest numbers, where their parameters are those of `digest`.
    pub(crate) fn numbers(&self, digest: &Digest) -> Option<&Numbers> {
        self.training().filter(|it| it.digest == *digest).map(|training| &training.numbers)
    }

    /// Refuses a payload that is not what the result and its receipts say, with the reason.
    pub(crate) fn check(
        &self,
        job: &Job,
        span: Span,
        leaves: &[LeafResult],
        claimed: &Digest,
        payload: &[u8],
    ) -> Result<(), String> {
        let found = self.digest(job, span, payload)?;
        if found != *claimed {
            return Err(format!(
                "the payload is {found}, not {claimed} as said: it was damaged on the way"
            ));
        }
        match self {
            Self::Train(_) => {
                if let [one] = leaves
                    && one.receipt.body.result != found
                {
                    return Err("the gradient is not the one of the receipt".into());
                }
            }
            Self::Translate { .. } => {
                let translations = read_translations(job, span, payload)?;
                for (leaf, translations) in leaves.iter().zip(&translations) {
                    if translations_digest(translations) != leaf.receipt.body.result {
                        return Err("the translations are not those of the receipt".into());
                    }
                }
            }
        }
        Ok(())
    }

    /// The digest of a payload, or why it is none for these micro-batches.
    pub(crate) fn digest(&self, job: &Job, span: Span, payload: &[u8]) -> Result<Digest, String> {
        Ok(match self {
            Self::Train(training) => {
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
                gradient_digest(&training.numbers.parameters, &sum)
            }
            Self::Translate { .. } => {
                translations_digest(&read_translations(job, span, payload)?.concat())
            }
        })
    }

    /// Puts a payload that [`Gathered::digest`] took in its place.
    pub(crate) fn insert(
        &mut self,
        job: &Job,
        span: Span,
        payload: &[u8],
    ) -> Result<(), TrainingError> {
        match self {
            Self::Train(training) => {
                let sum = floats(payload, training.elements()).unwrap_or_default();
                training.insert(span, sum)?;
            }
            Self::Translate { translations, .. } => {
                let split = read_translations(job, span, payload).unwrap_or_default();
                for (micro, mine) in span.micro_batches().zip(split) {
                    let members = job.members(0, 0, micro).unwrap_or_default();
                    translations.extend(members.iter().copied().zip(mine));
                }
            }
        }
        Ok(())
    }

    /// The finished job's result file.
    pub(crate) fn to_bytes(&self, job: &Job) -> Result<Vec<u8>, TrainingError> {
        Ok(match self {
            Self::Train(training) => training.numbers.parameters.to_safetensors()?,
            Self::Translate { translations, .. } => {
                let all: Vec<Vec<u32>> = (0..job.sentences() as u32)
                    .map(|at| translations.get(&at).cloned().unwrap_or_default())
                    .collect();
                borsh::to_vec(&all).unwrap_or_default()
            }
        })
    }
}

/// A translation payload, by micro-batch.
fn read_translations(job: &Job, span: Span, payload: &[u8]) -> Result<Vec<Vec<Vec<u32>>>, String> {
    let all = Vec::<Vec<u32>>::try_from_slice(payload)
        .map_err(|error| format!("the translations cannot be read: {error}"))?;
    let mut rest = all.as_slice();
    let mut split = Vec::new();
    for micro in span.micro_batches() {
        let members = job.members(0, 0, micro).map_or(0, <[u32]>::len);
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
