//! The sentences of a batch, packed one after the other without padding.

use crate::{
    error::Error,
    model::{END, START},
};
use protocol::{BatchShape, job::ModelShape};

/// Sentences of token ids, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ragged {
    tokens: Vec<u32>,
    /// Where each sentence ends in `tokens`.
    ends: Vec<usize>,
}

impl Ragged {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, tokens: impl IntoIterator<Item = u32>) {
        self.tokens.extend(tokens);
        self.ends.push(self.tokens.len());
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn sentence_count(&self) -> usize {
        self.ends.len()
    }

    /// Where sentence `s` begins and ends.
    pub(crate) fn bounds(&self, s: usize) -> (usize, usize) {
        (if s == 0 { 0 } else { self.ends[s - 1] }, self.ends[s])
    }

    pub(crate) fn len_of(&self, s: usize) -> usize {
        let (start, end) = self.bounds(s);
        end - start
    }

    pub(crate) fn sentences(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len()).map(|s| {
            let (start, end) = self.bounds(s);
            &self.tokens[start..end]
        })
    }

    /// Whether a model of `shape` takes every sentence.
    pub(crate) fn check(&self, shape: &ModelShape) -> Result<(), Error> {
        if self.ends.is_empty() {
            return Err(Error::EmptyBatch);
        }
        for (sentence, tokens) in self.sentences().enumerate() {
            let (length, most) = (tokens.len(), shape.max_length);
            if length > most as usize {
                return Err(Error::Length { sentence, length, most });
            }
            let vocabulary = shape.vocabulary;
            if let Some(&token) = tokens.iter().find(|&&token| token >= vocabulary) {
                return Err(Error::Token { sentence, token, vocabulary });
            }
        }
        Ok(())
    }
}

/// The sentence pairs of a training micro-batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pub(crate) source: Ragged,
    /// What the decoder reads: the start mark, then the sentence.
    pub(crate) target: Ragged,
    /// What it should say: the sentence, then the end mark.
    pub(crate) labels: Vec<u32>,
}

impl Pairs {
    /// No pair yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair of sentences, both as token ids without start or end mark; marks are put here.
    pub fn push(&mut self, source: &[u32], target: &[u32]) {
        self.source.push(source.iter().copied().chain([END]));
        self.target.push([START].into_iter().chain(target.iter().copied()));
        self.labels.extend(target.iter().copied().chain([END]));
    }

    /// Forgets all pairs and keeps the memory.
    pub fn clear(&mut self) {
        self.source.clear();
        self.target.clear();
        self.labels.clear();
    }

    /// How many pairs.
    pub fn len(&self) -> usize {
        self.source.sentence_count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What work units are counted from: lengths with one mark a side.
    pub fn shape(&self) -> BatchShape {
        let mut shape = BatchShape::default();
        for s in 0..self.len() {
            shape.add(self.source.len_of(s) as u32, self.target.len_of(s) as u32);
        }
        shape
    }

    /// Whether a model of `shape` takes every pair.
    pub(crate) fn check(&self, shape: &ModelShape) -> Result<(), Error> {
        self.source.check(shape)?;
        self.target.check(shape)
    }
}

impl<S: AsRef<[u32]>, T: AsRef<[u32]>> FromIterator<(S, T)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (S, T)>>(pairs: I) -> Self {
        let mut all = Self::new();
        for (source, target) in pairs {
            all.push(source.as_ref(), target.as_ref());
        }
        all
    }
}
