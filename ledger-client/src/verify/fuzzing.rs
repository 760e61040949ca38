//! As [`crate::fuzzing`], for what is proven.

use super::{fetch, light, prover};
use std::time::Duration;
use tendermint_light_client_verifier::types::{LightBlock, Time};

pub(crate) fn answers(server: &str, body: &[u8]) {
    prover::read_answers(server, body);
    fetch::read_headers(server, body);
}

pub(crate) fn light_blocks(server: &str, answers: [&[u8]; 6]) {
    let [commit, validators, next, rest @ ..] = answers;
    let read = |answers| fetch::read_light_block(server, answers);
    let Some(first) = read([commit, validators, next]) else { return };
    let _ = light::check_alone(&first);
    let Some(second) = read(rest) else { return };
    let header = |block: &LightBlock| block.signed_header.header.clone();
    let _ = light::precedes(&header(&first), &header(&second));
    for period in [Duration::from_secs(1), Duration::MAX] {
        for now in [header(&second).time, Time::unix_epoch()] {
            let _ = light::follows(&first, &second, period, now);
            let _ = light::check_age(&header(&second), now, period, server);
        }
    }
}
