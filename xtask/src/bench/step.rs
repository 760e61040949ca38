//! One training step against PyTorch, on one thread: forward, backward, and the optimiser's step
//! on 24 sentence pairs, with dropout and label smoothing. Without the log of operations, and with
//! it, which PyTorch has no like of.

use super::{Line, Pair, Show, peer::Peer};
use crate::python;
use kernels::{
    OutputView, Pairs, Tap, Workspace, graph::Operation, model::Parameters, optimiser, train,
};
use protocol::job::{AdamSpec, ModelShape};
use std::time::Instant;

const SHAPE: ModelShape = ModelShape {
    vocabulary: 4_000,
    width: 128,
    heads: 4,
    feed_forward: 512,
    encoder_layers: 2,
    decoder_layers: 2,
    max_length: 128,
};
const ADAM: AdamSpec = AdamSpec {
    peak_rate: 1e-3,
    warmup_steps: 100,
    beta1: 0.9,
    beta2: 0.98,
    epsilon: 1e-9,
    clip_norm: 1.0,
};
const TURNS: usize = 12;
const TIMES: usize = 4;

/// Digests everything, as a worker that signs for it does.
struct Digests;

impl Tap for Digests {
    fn wants(&self, _: u32, _: &Operation) -> bool {
        true
    }
    fn after(&mut self, _: u32, _: &Operation, outputs: &mut [OutputView<'_>]) {
        std::hint::black_box(kernels::tap::digest(outputs));
    }
}

/// Digests nothing.
struct Nothing;

impl Tap for Nothing {
    fn wants(&self, _: u32, _: &Operation) -> bool {
        false
    }
    fn after(&mut self, _: u32, _: &Operation, _: &mut [OutputView<'_>]) {}
}

/// The same lengths as in `pytorch.py`; which tokens they are changes nothing.
fn pairs() -> Pairs {
    let mut pairs = Pairs::new();
    for at in 0..24_u32 {
        let tokens: Vec<u32> =
            (0..7 + at * 7 % 14).map(|word| 3 + (at * 131 + word * 7919) % 3_997).collect();
        pairs.push(&tokens, &tokens);
    }
    pairs
}

fn step(
    parameters: &mut Parameters,
    state: &mut optimiser::State,
    workspace: &mut Workspace,
    pairs: &Pairs,
    tap: &mut impl Tap,
) -> anyhow::Result<()> {
    let settings = train::Settings {
        dropout: 6_554,
        label_smoothing: 0.1,
        seed: 1,
        epoch: 0,
        step: state.step() as u32,
        micro: 0,
    };
    let outcome = train::micro_batch(parameters, pairs, &settings, workspace, tap)?;
    let mut sum = workspace.gradient().to_vec();
    optimiser::update(parameters, state, &mut sum, outcome.target_tokens.into(), &ADAM, tap)?;
    Ok(())
}

pub(super) fn run(show: Show<'_>) -> anyhow::Result<()> {
    let python = python::environment("torch", &["torch", "numpy"])?;
    let mut peer = Peer::start(&python, include_str!("pytorch.py"))?;
    let pairs = pairs();
    let tokens = (pairs.shape().source_tokens + pairs.shape().target_tokens) as f64;
    for (case, logs) in [("without a log", false), ("every operation digested", true)] {
        let mut parameters = Parameters::initial(&SHAPE, 1)?;
        let mut state = optimiser::State::new(&SHAPE)?;
        let mut workspace = Workspace::new(&SHAPE)?;
        let ours = || {
            let began = Instant::now();
            for _ in 0..TIMES {
                let all = (&mut parameters, &mut state, &mut workspace);
                match logs {
                    true => step(all.0, all.1, all.2, &pairs, &mut Digests)?,
                    false => step(all.0, all.1, all.2, &pairs, &mut Nothing)?,
                }
            }
            Ok(began.elapsed().as_secs_f64() / TIMES as f64)
        };
        let seconds = Pair::fastest(TURNS, ours, || peer.seconds(&TIMES.to_string()))?;
        let of = Pair { ours: tokens / seconds.ours, theirs: tokens / seconds.theirs };
        let case = format!("{tokens} tokens, 1.4 M parameters, {case}");
        show(Line::rate("step", case, peer.name.clone(), "tokens/s", of));
    }
    Ok(())
}
