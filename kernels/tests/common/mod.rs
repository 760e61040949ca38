//! A small model and small batches, for the tests of whole batches.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use kernels::{
    Pairs, Workspace,
    model::Parameters,
    optimiser::{self, State},
    philox::philox4x32_10,
    sum::Tree,
    train::{Outcome, Settings, micro_batch},
};
use protocol::{
    Digest,
    job::{AdamSpec, ModelShape},
};

/// A width that is no multiple of sixteen, heads of odd width, a vocabulary of odd size.
pub const ODD: ModelShape = ModelShape {
    vocabulary: 37,
    width: 20,
    heads: 4,
    feed_forward: 27,
    encoder_layers: 2,
    decoder_layers: 2,
    max_length: 40,
};

/// Multiples of sixteen, as jobs have.
pub const EVEN: ModelShape = ModelShape {
    vocabulary: 64,
    width: 32,
    heads: 2,
    feed_forward: 64,
    encoder_layers: 1,
    decoder_layers: 2,
    max_length: 64,
};

pub const SETTINGS: Settings = Settings {
    dropout: 6_554,
    label_smoothing: 0.1,
    seed: 0x1234_5678_9abc_def0,
    epoch: 1,
    step: 2,
    micro: 3,
};

pub const ADAM: AdamSpec = AdamSpec {
    peak_rate: 3e-3,
    warmup_steps: 20,
    beta1: 0.9,
    beta2: 0.98,
    epsilon: 1e-9,
    clip_norm: 1.0,
};

/// The i-th of a stream of small random numbers.
pub fn random(stream: u32, i: usize, below: u32) -> u32 {
    philox4x32_10([i as u32, stream, 0, 0], [1, 2])[0] % below
}

/// Random tokens that are no marks.
pub fn sentence(shape: &ModelShape, stream: u32, length: usize) -> Vec<u32> {
    (0..length).map(|i| 3 + random(stream, i, shape.vocabulary - 3)).collect()
}

/// Pairs of the given lengths; the target is the source backwards, cut or filled up.
pub fn pairs(shape: &ModelShape, stream: u32, lengths: &[(usize, usize)]) -> Pairs {
    lengths
        .iter()
        .enumerate()
        .map(|(i, &(source, target))| {
            let all = sentence(shape, stream * 1000 + i as u32, source.max(target));
            let back: Vec<u32> = all[..target].iter().rev().copied().collect();
            (all[..source].to_vec(), back)
        })
        .collect()
}

pub const LENGTHS: [(usize, usize); 6] = [(5, 7), (1, 0), (17, 20), (12, 3), (33, 31), (0, 4)];

/// Outcome and gradient of one micro-batch.
pub fn gradient(
    parameters: &Parameters,
    pairs: &Pairs,
    settings: &Settings,
) -> (Outcome, Vec<f32>) {
    let mut workspace = Workspace::new(parameters.shape()).unwrap();
    let outcome = micro_batch(parameters, pairs, settings, &mut workspace, &mut ()).unwrap();
    (outcome, workspace.gradient().to_vec())
}

/// Steps of two micro-batches each; the parameters' digest and the last loss's bits.
pub fn trained(
    shape: &ModelShape,
    steps: u32,
    lengths: &[(usize, usize)],
) -> (Digest, Digest, u32) {
    let mut parameters = Parameters::initial(shape, 7).unwrap();
    let mut state = State::new(shape).unwrap();
    let mut workspace = Workspace::new(shape).unwrap();
    let mut loss = 0.0;
    for step in 0..steps {
        let mut tree = Tree::new(2, parameters.elements().len());
        let mut tokens = 0;
        for micro in 0..2 {
            let pairs = pairs(shape, 2 * step + micro, lengths);
            let settings = Settings { step, micro, ..SETTINGS };
            let outcome =
                micro_batch(&parameters, &pairs, &settings, &mut workspace, &mut ()).unwrap();
            loss = outcome.loss;
            tokens += u64::from(outcome.target_tokens);
            tree.insert(micro, 1, workspace.gradient().to_vec()).unwrap();
        }
        let mut sum = tree.finish().unwrap();
        optimiser::update(&mut parameters, &mut state, &mut sum, tokens, &ADAM, &mut ()).unwrap();
    }
    (parameters.digest(), state.digest(), loss.to_bits())
}
