//! That what is computed is the mathematics meant: to tolerances, unlike the tests of bits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

mod common;

use common::*;
use kernels::{
    Workspace, decode, model::Parameters, optimiser, train::Settings, train::micro_batch,
};

/// Parameters away from their start, where biases are 0 and gains 1.
fn parameters(shape: &protocol::job::ModelShape) -> Parameters {
    let mut parameters = Parameters::initial(shape, 5).unwrap();
    for (i, x) in parameters.elements_mut().iter_mut().enumerate() {
        *x += (random(9, i, 2001) as f32 - 1000.0) * 1e-4;
    }
    parameters
}

/// The slope of the loss along the gradient of one tensor is that gradient's length.
#[test]
fn the_gradient_is_the_slope_of_the_loss_in_every_parameter() {
    for shape in [ODD, EVEN] {
        let parameters = parameters(&shape);
        let pairs = pairs(&shape, 1, &LENGTHS);
        let (_, whole) = gradient(&parameters, &pairs, &SETTINGS);
        for parameter in parameters.layout().parameters() {
            let part = &whole[parameter.range.clone()];
            let length = part.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let at = |step: f64| {
                let mut moved = parameters.clone();
                let elements = &mut moved.elements_mut()[parameter.range.clone()];
                for (x, g) in elements.iter_mut().zip(part) {
                    *x = (f64::from(*x) + step * f64::from(*g) / length) as f32;
                }
                f64::from(gradient(&moved, &pairs, &SETTINGS).0.loss)
            };
            let step = 4e-3;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            let tolerance = 0.02 * length + 0.02;
            assert!(
                (slope - length).abs() < tolerance,
                "{}: slope {slope}, gradient {length}",
                parameter.name
            );
        }
    }
}

#[test]
fn a_small_model_learns_to_turn_sentences_around() {
    let shape = EVEN;
    let mut parameters = Parameters::initial(&shape, 1).unwrap();
    let mut state = optimiser::State::new(&shape).unwrap();
    let mut workspace = Workspace::new(&shape).unwrap();
    let lengths: Vec<(usize, usize)> = (0..24).map(|i| (2 + i % 4, 2 + i % 4)).collect();
    let mut last = f32::INFINITY;
    for step in 0..800 {
        let pairs = pairs(&shape, step, &lengths);
        let settings = Settings { dropout: 0, step, ..SETTINGS };
        let outcome = micro_batch(&parameters, &pairs, &settings, &mut workspace, &mut ()).unwrap();
        last = outcome.loss / outcome.target_tokens as f32;
        let mut sum = workspace.gradient().to_vec();
        let tokens = outcome.target_tokens.into();
        optimiser::update(&mut parameters, &mut state, &mut sum, tokens, &ADAM, &mut ()).unwrap();
    }
    // Label smoothing alone leaves 0.73.
    assert!(last < 1.2, "loss {last}");
    let sources: Vec<Vec<u32>> = (0..10).map(|i| sentence(&shape, 90_000 + i, 4)).collect();
    let translations =
        decode::greedy(&parameters, &sources, &[8; 10], &mut workspace, &mut ()).unwrap();
    let right = sources
        .iter()
        .zip(&translations)
        .filter(|(source, translation)| source.iter().rev().eq(translation.iter()))
        .count();
    assert!(right >= 8, "{right} of 10 are right: {translations:?}");
}
