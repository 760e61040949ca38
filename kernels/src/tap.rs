//! Seeing, and in a test altering, what each operation of a batch gives.

use crate::graph::Operation;
use protocol::{Digest, tensor};

/// An output's elements.
#[derive(Debug)]
pub enum OutputData<'a> {
    /// Numbers.
    F32(&'a mut [f32]),
    /// Token ids.
    U32(&'a mut [u32]),
}

/// One output of an operation that was just done.
#[derive(Debug)]
pub struct OutputView<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// Its dimensions, slowest first.
    pub shape: Vec<usize>,
    /// Its elements; what is written here is what later operations read.
    pub data: OutputData<'a>,
}

impl OutputView<'_> {
    /// The tensor's digest.
    pub fn digest(&self) -> Digest {
        match &self.data {
            OutputData::F32(data) => tensor::digest(&self.shape, data),
            OutputData::U32(data) => tensor::digest(&self.shape, data),
        }
    }
}

/// What an operation is logged by: its output's digest, or that of all its outputs by name.
pub fn digest(outputs: &[OutputView<'_>]) -> Digest {
    match outputs {
        [one] => one.digest(),
        several => {
            let named: Vec<_> =
                several.iter().map(|output| (output.name, output.digest())).collect();
            tensor::digest_named(&named)
        }
    }
}

/// Is called after each operation.
pub trait Tap {
    /// Whether [`Tap::after`] is to be called for this operation.
    fn wants(&self, position: u32, operation: &Operation) -> bool {
        let _ = (position, operation);
        true
    }

    /// An operation was done. `position` counts decoding's repetitions on.
    fn after(&mut self, position: u32, operation: &Operation, outputs: &mut [OutputView<'_>]);
}

/// Sees nothing and costs nothing.
impl Tap for () {
    fn wants(&self, _: u32, _: &Operation) -> bool {
        false
    }
    fn after(&mut self, _: u32, _: &Operation, _: &mut [OutputView<'_>]) {}
}

impl<T: Tap + ?Sized> Tap for &mut T {
    fn wants(&self, position: u32, operation: &Operation) -> bool {
        (**self).wants(position, operation)
    }
    fn after(&mut self, position: u32, operation: &Operation, outputs: &mut [OutputView<'_>]) {
        (**self).after(position, operation, outputs);
    }
}

/// Names the first operation that gives NaN or infinity.
#[derive(Default)]
pub(crate) struct FirstNonFinite(pub(crate) Option<String>);

impl Tap for FirstNonFinite {
    fn wants(&self, _: u32, _: &Operation) -> bool {
        self.0.is_none()
    }
    fn after(&mut self, _: u32, operation: &Operation, outputs: &mut [OutputView<'_>]) {
        let bad = |output: &OutputView<'_>| match &output.data {
            OutputData::F32(data) => !all_finite(data),
            OutputData::U32(_) => false,
        };
        if outputs.iter().any(bad) {
            self.0 = Some(operation.name.clone());
        }
    }
}

/// Whether no element is NaN or infinite.
pub(crate) fn all_finite(elements: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    elements.chunks(4096).all(|chunk| {
        // No early exit within a chunk, so that it is done in vectors.
        let found = chunk
            .iter()
            .fold(0u32, |found, x| found | u32::from(x.to_bits() & EXPONENT == EXPONENT));
        found == 0
    })
}
