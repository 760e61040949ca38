//! Cross-entropy of a softmax with label smoothing, summed over the target tokens.
//!
//! Contract, for a row x of v logits and its label y, smoothing e:
//! 1. `max`: lane l of sixteen goes over `x_l, x_(l+16), ...` with `x > lane ? x : lane` from
//!    -infinity, then the striped sum's tree with the same rule, upper against lower;
//! 2. `sum = striped exp(x_j - max)`, `all = striped sum of x_j`;
//! 3. `u = e / v`, `o = 1 - e`; `l = max + log(sum)`, `l = fma(-o, x_y, l)`,
//!    `loss = fma(-u, all, l)`. Tokens: `loss, max, sum` a row; the loss is the striped sum of the
//!    rows' losses.
//!
//! Backward: `r = 1 / sum`; `d_j = exp(x_j - max) * r - u`, then `d_y = d_y - o`.
//!
//! `logits, d: [tokens, vocabulary]`, `tokens: [tokens, 3]`. So the target distribution is
//! `(1 - e) [j = y] + e / v` (Szegedy et al. 2016; PyTorch's `label_smoothing`). Units: the
//! outputs' elements; forward one more for each logit. `exp` and `log` are [`crate::math`]'s.

use super::v1;
use crate::{
    math::{exp_lanes, fma, log},
    simd::{Kernel, LANES, Simd, run as run_kernel},
    striped,
};
use protocol::OperatorId;

pub(crate) const CROSS_ENTROPY: OperatorId = v1("cross-entropy");
pub(crate) const BACKWARD: OperatorId = v1("cross-entropy-backward");

struct Forward<'a> {
    labels: &'a [u32],
    logits: &'a [f32],
    smoothing: f32,
    tokens: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let v = self.logits.len() / self.labels.len();
        let (u, o) = (self.smoothing / v as f32, 1.0 - self.smoothing);
        let (tokens, _) = self.tokens.as_chunks_mut::<3>();
        let rows = self.logits.chunks_exact(v).zip(self.labels).zip(tokens);
        for ((row, &label), token) in rows {
            let (x, rest) = row.as_chunks::<LANES>();
            let (mut most, mut all) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
            for x in x {
                let x = s.load(x);
                most = s.max(x, most);
                all = s.add(all, x);
            }
            if !rest.is_empty() {
                most = s.max(s.load_part(rest, f32::NEG_INFINITY), most);
                all = s.add(all, s.load_part(rest, 0.0));
            }
            let max = s.largest(most);
            let m = s.splat(max);
            let mut sum = s.splat(0.0);
            for x in x {
                sum = s.add(sum, exp_lanes(s, s.sub(s.load(x), m)));
            }
            if !rest.is_empty() {
                let x = s.load_part(rest, f32::NEG_INFINITY);
                sum = s.add(sum, exp_lanes(s, s.sub(x, m)));
            }
            let (sum, all) = (s.sum(sum), s.sum(all));
            let l = max + log(sum);
            let l = fma(-o, row[label as usize], l);
            *token = [fma(-u, all, l), max, sum];
        }
    }
}

/// Forward: writes `tokens` and gives the loss. There is at least one label.
pub(crate) fn run(labels: &[u32], logits: &[f32], smoothing: f32, tokens: &mut [f32]) -> f32 {
    run_kernel(Forward { labels, logits, smoothing, tokens });
    striped::sum(tokens.chunks_exact(3).map(|token| token[0]))
}

struct Backward<'a> {
    labels: &'a [u32],
    logits: &'a [f32],
    tokens: &'a [f32],
    smoothing: f32,
    d: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let v = self.logits.len() / self.labels.len();
        let (u, o) = (self.smoothing / v as f32, 1.0 - self.smoothing);
        let (tokens, _) = self.tokens.as_chunks::<3>();
        let rows = self.logits.chunks_exact(v).zip(self.d.chunks_exact_mut(v));
        for ((x, d), (&label, &[_, max, sum])) in rows.zip(self.labels.iter().zip(tokens)) {
            let (m, r, u) = (s.splat(max), s.splat(1.0 / sum), s.splat(u));
            let (x, x_rest) = x.as_chunks::<LANES>();
            let (head, d_rest) = d.as_chunks_mut::<LANES>();
            for (x, d) in x.iter().zip(head) {
                let e = exp_lanes(s, s.sub(s.load(x), m));
                s.store(s.sub(s.mul(e, r), u), d);
            }
            if !x_rest.is_empty() {
                let e = exp_lanes(s, s.sub(s.load_part(x_rest, 0.0), m));
                s.store_part(s.sub(s.mul(e, r), u), d_rest);
            }
            d[label as usize] -= o;
        }
    }
}

/// Backward: writes `d`.
pub(crate) fn run_backward(
    labels: &[u32],
    logits: &[f32],
    tokens: &[f32],
    smoothing: f32,
    d: &mut [f32],
) {
    run_kernel(Backward { labels, logits, tokens, smoothing, d });
}

/// The largest of a row as the contract goes over it.
#[cfg(test)]
pub(crate) fn reference_largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for (i, &x) in row.iter().enumerate() {
        let lane = &mut lanes[i % LANES];
        *lane = if x > *lane { x } else { *lane };
    }
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            let (upper, lower) = (lanes[l + width], lanes[l]);
            lanes[l] = if upper > lower { upper } else { lower };
        }
    }
    lanes[0]
}

#[cfg(test)]
pub(crate) fn reference(labels: &[u32], logits: &[f32], smoothing: f32) -> (f32, Vec<f32>) {
    use crate::math::exp;
    let v = logits.len() / labels.len();
    let (u, o) = (smoothing / v as f32, 1.0 - smoothing);
    let mut tokens = Vec::new();
    for (row, &label) in logits.chunks(v).zip(labels) {
        let max = reference_largest(row);
        let sum = striped::sum(row.iter().map(|x| exp(x - max)));
        let all = striped::sum(row.iter().copied());
        let l = max + log(sum);
        let l = (-o).mul_add(row[label as usize], l);
        tokens.extend([(-u).mul_add(all, l), max, sum]);
    }
    (striped::sum(tokens.chunks(3).map(|token| token[0])), tokens)
}

#[cfg(test)]
pub(crate) fn reference_backward(
    labels: &[u32],
    logits: &[f32],
    tokens: &[f32],
    smoothing: f32,
) -> Vec<f32> {
    use crate::math::exp;
    let v = logits.len() / labels.len();
    let (u, o) = (smoothing / v as f32, 1.0 - smoothing);
    let mut all = Vec::new();
    for (t, (row, &label)) in logits.chunks(v).zip(labels).enumerate() {
        let (max, r) = (tokens[3 * t + 1], 1.0 / tokens[3 * t + 2]);
        let mut d: Vec<f32> = row.iter().map(|x| exp(x - max) * r - u).collect();
        d[label as usize] -= o;
        all.extend(d);
    }
    all
}
