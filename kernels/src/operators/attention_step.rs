//! One decoding step of attention: one query a sentence, the keys and values of all its positions
//! so far, or of its encoded source.
//!
//! Contract: [`super::attention`]'s forward for one query that sees all keys, without dropout, so
//! that decoding gives the bits of the whole sentence's pass. The rows of a step's queries are
//! the sentences still being translated, in the batch's order.
//!
//! `queries, y: [rows, width]`. Units: `2 width` products a pair; the output's elements.

use super::v1;
use crate::{
    math::exp_lanes,
    simd::{Kernel, LANES, Simd, run as run_kernel},
};
use protocol::OperatorId;

pub(crate) const ATTENTION_STEP: OperatorId = v1("attention-step");

/// Keys and values of a batch's sentences, each with room up to its limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    width: usize,
    sentences: Vec<Kept>,
    /// For each sentence `[width, room]`: neighbours are the same column of neighbouring keys.
    keys: Vec<f32>,
    /// For each sentence `[room, width]`.
    values: Vec<f32>,
}

/// A sentence's part of a [`Cache`].
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Rows of all sentences before.
    start: usize,
    /// A multiple of sixteen.
    room: usize,
    filled: usize,
}

impl Cache {
    /// Empties the cache and makes room for so many rows of each sentence.
    pub(crate) fn reset(&mut self, width: usize, rows: impl Iterator<Item = usize>) {
        self.width = width;
        self.sentences.clear();
        let mut start = 0;
        for rows in rows {
            let room = rows.next_multiple_of(LANES);
            self.sentences.push(Kept { start, room, filled: 0 });
            start += room;
        }
        self.keys.clear();
        self.keys.resize(start * width, 0.0);
        self.values.clear();
        self.values.resize(start * width, 0.0);
    }

    /// Adds one row to a sentence that has room for it.
    pub(crate) fn push(&mut self, sentence: usize, key: &[f32], value: &[f32]) {
        let Kept { start, room, filled } = self.sentences[sentence];
        let keys = &mut self.keys[start * self.width..][..room * self.width];
        for (column, x) in keys.chunks_exact_mut(room).zip(key) {
            column[filled] = *x;
        }
        self.values[(start + filled) * self.width..][..self.width].copy_from_slice(value);
        self.sentences[sentence].filled += 1;
    }
}

struct Step<'a> {
    cache: &'a Cache,
    heads: usize,
    sentences: &'a [usize],
    q: &'a [f32],
    stride: usize,
    scratch: &'a mut Vec<f32>,
    y: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { cache, heads, sentences, q, stride, scratch, y } = self;
        let d = cache.width;
        let h = d / heads;
        let scale = s.splat(1.0 / (h as f32).sqrt());
        let rows = q.chunks_exact(stride).zip(sentences).zip(y.chunks_exact_mut(d));
        for ((q, &sentence), y) in rows {
            let Kept { start, room, filled } = cache.sentences[sentence];
            let keys = &cache.keys[start * d..][..room * d];
            let values = &cache.values[start * d..][..filled * d];
            let x = crate::product::pack::room(scratch, room);
            let x = &mut x.as_chunks_mut::<LANES>().0[..filled.div_ceil(LANES)];
            for head in 0..heads {
                let mut most = s.splat(f32::NEG_INFINITY);
                for (v, x) in x.iter_mut().enumerate() {
                    let mut lanes = s.splat(0.0);
                    for c in head * h..(head + 1) * h {
                        if let Some(keys) = keys[c * room + v * LANES..].first_chunk() {
                            lanes = s.fma(s.splat(q[c]), s.load(keys), lanes);
                        }
                    }
                    s.store(s.mul(lanes, scale), x);
                    let seen = filled - v * LANES;
                    if seen < LANES {
                        x[seen..].fill(f32::NEG_INFINITY);
                    }
                    most = s.max(s.load(x), most);
                }
                let max = s.splat(s.largest(most));
                let mut sum = s.splat(0.0);
                for x in x.iter_mut() {
                    let e = exp_lanes(s, s.sub(s.load(x), max));
                    sum = s.add(sum, e);
                    s.store(e, x);
                }
                let r = s.splat(1.0 / s.sum(sum));
                for x in x.iter_mut() {
                    s.store(s.mul(s.load(x), r), x);
                }
                let weights = x.as_flattened();
                let (y, y_rest) = y[head * h..][..h].as_chunks_mut::<LANES>();
                for (v, y) in y.iter_mut().enumerate() {
                    let mut lanes = s.splat(0.0);
                    for (value, p) in values.chunks_exact(d).zip(weights) {
                        if let Some(value) = value[head * h + v * LANES..].first_chunk() {
                            lanes = s.fma(s.splat(*p), s.load(value), lanes);
                        }
                    }
                    s.store(lanes, y);
                }
                if !y_rest.is_empty() {
                    let from = (head + 1) * h - y_rest.len();
                    let mut lanes = s.splat(0.0);
                    for (value, p) in values.chunks_exact(d).zip(weights) {
                        let value = s.load_part(&value[from..][..y_rest.len()], 0.0);
                        lanes = s.fma(s.splat(*p), value, lanes);
                    }
                    s.store_part(lanes, y_rest);
                }
            }
        }
    }
}

/// `sentences` names each row's sentence in the cache; `q` has rows `stride` apart.
pub(crate) fn run(
    cache: &Cache,
    heads: usize,
    sentences: &[usize],
    (q, stride): (&[f32], usize),
    scratch: &mut Vec<f32>,
    y: &mut [f32],
) {
    run_kernel(Step { cache, heads, sentences, q, stride, scratch, y });
}
