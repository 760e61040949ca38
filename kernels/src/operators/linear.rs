//! Linear layers.
//!
//! Contract, products as in [`crate::product`]:
//! - forward: `y = x w^T` (k over inputs), then `y_j + bias_j` as one rounded addition;
//! - input backward: `dx = dy w` (k over outputs);
//! - weight backward: `dw = dy^T x` (k over tokens); `dbias_j = dbias_j + dy_j` over the tokens in
//!   order from +0.
//!
//! `x, dx: [tokens, inputs]`, `w, dw: [outputs, inputs]`, `y, dy: [tokens, outputs]`. Units: one
//! product for each token, input and output; pointwise the outputs' elements, and with `dbias` a
//! token and output more each.

use super::v1;
use crate::{
    product::{self, Packing},
    simd::{Kernel, LANES, Simd, run as run_kernel},
};
use protocol::OperatorId;

pub(crate) const LINEAR: OperatorId = v1("linear");
pub(crate) const INPUT_BACKWARD: OperatorId = v1("linear-input-backward");
pub(crate) const WEIGHT_BACKWARD: OperatorId = v1("linear-weight-backward");

pub(crate) fn run(
    (inputs, outputs): (usize, usize),
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    packing: &mut Packing,
    y: &mut [f32],
) {
    product::nt_bias(x.len() / inputs, inputs, outputs, x, w, bias, y, packing);
}

pub(crate) fn run_input_backward(
    (inputs, outputs): (usize, usize),
    dy: &[f32],
    w: &[f32],
    packing: &mut Packing,
    dx: &mut [f32],
) {
    product::nn(dy.len() / outputs, outputs, inputs, dy, w, dx, packing);
}

pub(crate) fn run_weight_backward(
    (inputs, outputs): (usize, usize),
    dy: &[f32],
    x: &[f32],
    packing: &mut Packing,
    dw: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    product::tn(outputs, x.len() / inputs, inputs, dy, x, dw, packing);
    if let Some(dbias) = dbias {
        run_kernel(ColumnSums { rows: dy, sums: dbias });
    }
}

struct ColumnSums<'a> {
    rows: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for ColumnSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, sums } = self;
        let n = sums.len();
        sums.fill(0.0);
        let (sums, sums_rest) = sums.as_chunks_mut::<LANES>();
        for row in rows.chunks_exact(n) {
            let (row, row_rest) = row.as_chunks::<LANES>();
            for (sum, row) in sums.iter_mut().zip(row) {
                s.store(s.add(s.load(sum), s.load(row)), sum);
            }
            for (sum, x) in sums_rest.iter_mut().zip(row_rest) {
                *sum += x;
            }
        }
    }
}

#[cfg(test)]
pub(crate) fn reference_column_sums(rows: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    for row in rows.chunks(n) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sums
}
