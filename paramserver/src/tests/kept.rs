//! What is kept of a job, how long, and what is rebuilt from it.

use super::*;
use crate::{server::ServerError, training::TrainingError};

/// Room for two stretches of two steps and no third.
fn two_stretches(job: &Job) -> Keep {
    let sum = Parameters::initial(job.shape(), 5).unwrap().elements().len() as u64 * 4;
    Keep { bytes: 10 * sum + 8_000, checkpoint_steps: 2 }
}

fn ordinals(bench: &Bench, kind: &str) -> Vec<u32> {
    let files = bench.server.store.ordinals(&bench.id(), kind).unwrap();
    files.into_iter().map(|(at, _)| at).collect()
}

fn is_gone(error: &ServerError) -> bool {
    matches!(error, ServerError::Training(TrainingError::Gone { .. }))
}

#[test]
fn parameters_of_any_step_are_rebuilt_over_several_checkpoints_and_a_kill() {
    let (mut bench, worker) = (Bench::new(4, EVERYTHING), identity(10));
    let plain = plainly(&bench.job);
    assert!(plain.len() > 8, "{} steps are too few for four checkpoints", plain.len() - 1);
    // In the middle of a step, between checkpoints 2 and 4.
    while bench.server.store.steps(&bench.id(), 0).unwrap().len() < 3 {
        bench.work(&worker, 1);
    }
    bench.work(&worker, 1);
    let mut bench = bench.reopen(EVERYTHING);
    assert!(bench.is_open());
    bench.work(&worker, usize::MAX);
    assert_eq!(bench.status().parameters, Some(plain.last().unwrap().0.digest()));
    assert!(ordinals(&bench, "checkpoints").starts_with(&[2, 4, 6]));
    for (parameters, state) in &plain {
        let digest = parameters.digest();
        let found = Parameters::from_safetensors(&bench.server.parameters(&digest).unwrap());
        assert_eq!(found.unwrap().digest(), digest);
        let found = bench.server.optimiser_state(&digest).unwrap();
        assert_eq!(found, state.to_bytes().unwrap());
    }
    let parts = bench.server.store.part_path(&bench.id(), Span { first: 0, count: 1 });
    assert!(!parts.parent().unwrap().exists(), "parts of a job that is done");
}

#[test]
fn what_keep_has_no_room_for_is_gone_by_whole_stretches_and_the_rest_is_rebuilt() {
    let keep = two_stretches(&small(4));
    let (mut bench, worker) = (Bench::new(4, keep), identity(10));
    let plain = plainly(&bench.job);
    let steps = plain.len() as u32 - 1;
    while bench.server.store.steps(&bench.id(), 0).unwrap().len() < 5 {
        bench.work(&worker, 1);
    }
    let mut bench = bench.reopen(keep);
    bench.work(&worker, usize::MAX);
    assert_eq!(bench.status().parameters, Some(plain[steps as usize].0.digest()));
    let checkpoints = ordinals(&bench, "checkpoints");
    let first = checkpoints[0];
    assert!(first > 2 && checkpoints.len() >= 2, "{checkpoints:?}");
    // No sum that nothing leads to, none missing after the first checkpoint.
    assert_eq!(ordinals(&bench, "sums"), (first..steps).collect::<Vec<_>>());
    let files = ["sums", "checkpoints"].map(|kind| bench.server.store.ordinals(&bench.id(), kind));
    let kept: u64 = files.into_iter().flat_map(Result::unwrap).map(|(_, bytes)| bytes).sum();
    assert!(kept <= keep.bytes, "{kept} of {}", keep.bytes);
    for (at, (parameters, _)) in plain.iter().enumerate() {
        let digest = parameters.digest();
        match bench.server.parameters(&digest) {
            // The initial ones need no file.
            Ok(bytes) => {
                assert!(at == 0 || at as u32 >= first, "{at}");
                assert_eq!(Parameters::from_safetensors(&bytes).unwrap().digest(), digest);
            }
            Err(error) => {
                assert!(is_gone(&error) && (1..first).contains(&(at as u32)), "{at}: {error}");
            }
        }
    }
    assert!(is_gone(&bench.server.gradient_sum(&bench.id(), 0).unwrap_err()));
    let parameters = crate::http::tests::status_of(bench.server, |server| {
        let gone = server.store.steps(&small(4).id(), 1).unwrap()[0].1.before;
        format!("/v1/parameters/{gone}")
    });
    assert_eq!(parameters, 410);
}
