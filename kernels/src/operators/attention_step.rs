//! One decoding step of attention: one query a sentence, the keys and values of all its positions
//! so far, or of its encoded source.
//!
//! Contract: [`super::attention`]'s forward for one query that sees all keys, without dropout, so
//! that decoding gives the bits of the whole sentence's pass. The rows of a step's queries are
//! the sentences still being translated, in the batch's order.
//!
//! `queries, y: [rows, width]`. Units: `2 width` products a pair; the output's elements.

use super::v1;
use crate::{math::exp, striped};
use protocol::OperatorId;

pub(crate) const ATTENTION_STEP: OperatorId = v1("attention-step");

/// Keys and values of a batch's sentences, each with room up to its limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    width: usize,
    /// Where each sentence's first row is, and the end of the last one's room.
    starts: Vec<usize>,
    /// Rows filled, for each sentence.
    filled: Vec<usize>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// Empties the cache and makes room for `rooms` rows for each sentence.
    pub(crate) fn reset(&mut self, width: usize, rooms: impl Iterator<Item = usize>) {
        self.width = width;
        self.starts.clear();
        self.starts.push(0);
        let mut end = 0;
        for room in rooms {
            end += room;
            self.starts.push(end);
        }
        self.filled.clear();
        self.filled.resize(self.starts.len() - 1, 0);
        self.keys.clear();
        self.keys.resize(end * width, 0.0);
        self.values.clear();
        self.values.resize(end * width, 0.0);
    }

    /// Adds one row to a sentence that has room for it.
    pub(crate) fn push(&mut self, sentence: usize, key: &[f32], value: &[f32]) {
        let row = self.starts[sentence] + self.filled[sentence];
        self.keys[row * self.width..][..self.width].copy_from_slice(key);
        self.values[row * self.width..][..self.width].copy_from_slice(value);
        self.filled[sentence] += 1;
    }
}

/// `sentences` names each row's sentence in the cache; `q` has rows `stride` apart.
pub(crate) fn run(
    cache: &Cache,
    heads: usize,
    sentences: &[usize],
    q: &[f32],
    stride: usize,
    y: &mut [f32],
) {
    let h = cache.width / heads;
    let scale = 1.0 / (h as f32).sqrt();
    for ((row, &sentence), y) in
        q.chunks_exact(stride).zip(sentences).zip(y.chunks_exact_mut(cache.width))
    {
        let start = cache.starts[sentence];
        let seen = cache.filled[sentence];
        for head in 0..heads {
            let at = |j: usize, c: usize| (start + j) * cache.width + head * h + c;
            let mut x: Vec<f32> = (0..seen)
                .map(|j| {
                    (0..h)
                        .fold(0.0f32, |sum, c| row[head * h + c].mul_add(cache.keys[at(j, c)], sum))
                        * scale
                })
                .collect();
            let max = super::attention::largest(&x);
            x.iter_mut().for_each(|x| *x = exp(*x - max));
            let r = 1.0 / striped::sum(x.iter().copied());
            let y = &mut y[head * h..][..h];
            y.fill(0.0);
            for (j, e) in x.into_iter().enumerate() {
                let p = e * r;
                for (c, y) in y.iter_mut().enumerate() {
                    *y = p.mul_add(cache.values[at(j, c)], *y);
                }
            }
        }
    }
}
