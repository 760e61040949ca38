//! Layer normalisation over each row.
//!
//! Contract, for a row x of n elements:
//! 1. `mean = (striped sum of x) / n`; `d_c = x_c - mean`;
//! 2. `variance = (striped fma(d_c, d_c, lane)) / n`; `r = 1 / sqrt(variance + 1e-5)`;
//! 3. `h_c = d_c * r`; `y_c = fma(h_c, gain_c, bias_c)`. Statistics: `mean, r`.
//!
//! Backward, h as above:
//! 1. `g_c = dy_c * gain_c`; `a = (striped sum of g) / n`; `b = (striped fma(g_c, h_c, lane)) / n`;
//! 2. `dx_c = fma(-h_c, b, g_c - a) * r`, then `residual_c + dx_c` where there is a residual's
//!    gradient;
//! 3. `dgain_c = fma(dy_c, h_c, dgain_c)` and `dbias_c = dbias_c + dy_c` over the tokens in order
//!    from +0.
//!
//! `x, y, dy, dx: [tokens, width]`, `statistics: [tokens, 2]`, the rest `[width]`. Units: elements
//! of the outputs; backward two more a token and column. Source: Ba, Kiros, Hinton 2016.

use super::v1;
use crate::simd::{Kernel, LANES, Simd, run as run_kernel};
use protocol::OperatorId;

pub(crate) const LAYER_NORM: OperatorId = v1("layer-norm");
pub(crate) const BACKWARD: OperatorId = v1("layer-norm-backward");

const EPSILON: f32 = 1e-5;

struct Forward<'a> {
    x: &'a [f32],
    gain: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
    statistics: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.gain.len();
        let count = n as f32;
        let (gain, gain_rest) = self.gain.as_chunks::<LANES>();
        let (bias, bias_rest) = self.bias.as_chunks::<LANES>();
        let (statistics, _) = self.statistics.as_chunks_mut::<2>();
        let rows = self.x.chunks_exact(n).zip(self.y.chunks_exact_mut(n)).zip(statistics);
        for ((x, y), statistics) in rows {
            let (x, x_rest) = x.as_chunks::<LANES>();
            let (y, y_rest) = y.as_chunks_mut::<LANES>();
            let mut lanes = s.splat(0.0);
            for x in x {
                lanes = s.add(lanes, s.load(x));
            }
            if !x_rest.is_empty() {
                lanes = s.add(lanes, s.load_part(x_rest, 0.0));
            }
            let mean = s.sum(lanes) / count;
            let m = s.splat(mean);
            let mut lanes = s.splat(0.0);
            for x in x {
                let d = s.sub(s.load(x), m);
                lanes = s.fma(d, d, lanes);
            }
            if !x_rest.is_empty() {
                let d = s.sub(s.load_part(x_rest, 0.0), m);
                // What is missing adds nothing, even where the mean is infinite.
                let d = s.select(s.below(x_rest.len()), d, s.splat(0.0));
                lanes = s.fma(d, d, lanes);
            }
            let reciprocal = 1.0 / (s.sum(lanes) / count + EPSILON).sqrt();
            let r = s.splat(reciprocal);
            for (((x, y), gain), bias) in x.iter().zip(y).zip(gain).zip(bias) {
                let h = s.mul(s.sub(s.load(x), m), r);
                s.store(s.fma(h, s.load(gain), s.load(bias)), y);
            }
            if !y_rest.is_empty() {
                let h = s.mul(s.sub(s.load_part(x_rest, 0.0), m), r);
                let (gain, bias) = (s.load_part(gain_rest, 0.0), s.load_part(bias_rest, 0.0));
                s.store_part(s.fma(h, gain, bias), y_rest);
            }
            *statistics = [mean, reciprocal];
        }
    }
}

/// Forward: writes `y` and `statistics`.
pub(crate) fn run(x: &[f32], gain: &[f32], bias: &[f32], y: &mut [f32], statistics: &mut [f32]) {
    run_kernel(Forward { x, gain, bias, y, statistics });
}

/// What the way back reads.
#[derive(Clone, Copy)]
pub(crate) struct Back<'a> {
    pub(crate) dy: &'a [f32],
    pub(crate) x: &'a [f32],
    pub(crate) statistics: &'a [f32],
    pub(crate) gain: &'a [f32],
    pub(crate) residual: Option<&'a [f32]>,
}

struct Backward<'a> {
    of: Back<'a>,
    dx: &'a mut [f32],
    dgain: &'a mut [f32],
    dbias: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dx, dgain, dbias } = self;
        let n = of.gain.len();
        let count = n as f32;
        dgain.fill(0.0);
        dbias.fill(0.0);
        let (gain, gain_rest) = of.gain.as_chunks::<LANES>();
        let (dgain, dgain_rest) = dgain.as_chunks_mut::<LANES>();
        let (dbias, dbias_rest) = dbias.as_chunks_mut::<LANES>();
        let (statistics, _) = of.statistics.as_chunks::<2>();
        let rows = of.dy.chunks_exact(n).zip(of.x.chunks_exact(n)).zip(dx.chunks_exact_mut(n));
        for (t, (((dy, x), dx), &[mean, reciprocal])) in rows.zip(statistics).enumerate() {
            let (dy, dy_rest) = dy.as_chunks::<LANES>();
            let (x, x_rest) = x.as_chunks::<LANES>();
            let (dx, dx_rest) = dx.as_chunks_mut::<LANES>();
            let (m, r) = (s.splat(mean), s.splat(reciprocal));
            let (mut plain, mut product) = (s.splat(0.0), s.splat(0.0));
            let each = dy.iter().zip(x).zip(gain).zip(dgain.iter_mut()).zip(dbias.iter_mut());
            for ((((dy, x), gain), dgain), dbias) in each {
                let dy = s.load(dy);
                let h = s.mul(s.sub(s.load(x), m), r);
                let g = s.mul(dy, s.load(gain));
                plain = s.add(plain, g);
                product = s.fma(g, h, product);
                s.store(s.fma(dy, h, s.load(dgain)), dgain);
                s.store(s.add(s.load(dbias), dy), dbias);
            }
            if !dy_rest.is_empty() {
                let dy = s.load_part(dy_rest, 0.0);
                let h = s.mul(s.sub(s.load_part(x_rest, 0.0), m), r);
                let h = s.select(s.below(x_rest.len()), h, s.splat(0.0));
                let g = s.mul(dy, s.load_part(gain_rest, 0.0));
                plain = s.add(plain, g);
                product = s.fma(g, h, product);
                s.store_part(s.fma(dy, h, s.load_part(dgain_rest, 0.0)), dgain_rest);
                s.store_part(s.add(s.load_part(dbias_rest, 0.0), dy), dbias_rest);
            }
            let a = s.splat(s.sum(plain) / count);
            let b = s.splat(s.sum(product) / count);
            let residual = of.residual.map(|all| all[t * n..][..n].as_chunks::<LANES>());
            for (c, (((dy, x), gain), dx)) in
                dy.iter().zip(x).zip(gain).zip(dx.iter_mut()).enumerate()
            {
                let h = s.mul(s.sub(s.load(x), m), r);
                let g = s.mul(s.load(dy), s.load(gain));
                let mut out = s.mul(s.fnma(h, b, s.sub(g, a)), r);
                if let Some((residual, _)) = residual {
                    out = s.add(s.load(&residual[c]), out);
                }
                s.store(out, dx);
            }
            if !dx_rest.is_empty() {
                let h = s.mul(s.sub(s.load_part(x_rest, 0.0), m), r);
                let g = s.mul(s.load_part(dy_rest, 0.0), s.load_part(gain_rest, 0.0));
                let mut out = s.mul(s.fnma(h, b, s.sub(g, a)), r);
                if let Some((_, rest)) = residual {
                    out = s.add(s.load_part(rest, 0.0), out);
                }
                s.store_part(out, dx_rest);
            }
        }
    }
}

/// Backward: writes all three.
pub(crate) fn run_backward(of: Back<'_>, dx: &mut [f32], dgain: &mut [f32], dbias: &mut [f32]) {
    run_kernel(Backward { of, dx, dgain, dbias });
}

#[cfg(test)]
fn normalised(x: &[f32], mean: f32, r: f32) -> Vec<f32> {
    x.iter().map(|x| (x - mean) * r).collect()
}

/// A striped sum of products.
#[cfg(test)]
fn striped_products(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (i, (a, b)) in pairs.enumerate() {
        lanes[i % LANES] = a.mul_add(b, lanes[i % LANES]);
    }
    crate::striped::tree(lanes)
}

#[cfg(test)]
pub(crate) fn reference(x: &[f32], gain: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let n = gain.len() as f32;
    let (mut y, mut statistics) = (Vec::new(), Vec::new());
    for x in x.chunks(gain.len()) {
        let mean = crate::striped::sum(x.iter().copied()) / n;
        let variance = striped_products(x.iter().map(|x| (x - mean, x - mean))) / n;
        let r = 1.0 / (variance + EPSILON).sqrt();
        for (c, h) in normalised(x, mean, r).into_iter().enumerate() {
            y.push(h.mul_add(gain[c], bias[c]));
        }
        statistics.extend([mean, r]);
    }
    (y, statistics)
}

#[cfg(test)]
pub(crate) fn reference_backward(of: Back<'_>) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (n, count) = (of.gain.len(), of.gain.len() as f32);
    let (mut dx, mut dgain, mut dbias) = (Vec::new(), vec![0.0; n], vec![0.0; n]);
    for (t, (dy, x)) in of.dy.chunks(n).zip(of.x.chunks(n)).enumerate() {
        let r = of.statistics[2 * t + 1];
        let h = normalised(x, of.statistics[2 * t], r);
        let g: Vec<f32> = dy.iter().zip(of.gain).map(|(dy, gain)| dy * gain).collect();
        let a = crate::striped::sum(g.iter().copied()) / count;
        let b = striped_products(g.iter().copied().zip(h.iter().copied())) / count;
        for c in 0..n {
            let d = (-h[c]).mul_add(b, g[c] - a) * r;
            dx.push(of.residual.map_or(d, |residual| residual[t * n + c] + d));
            dgain[c] = dy[c].mul_add(h[c], dgain[c]);
            dbias[c] += dy[c];
        }
    }
    (dx, dgain, dbias)
}
