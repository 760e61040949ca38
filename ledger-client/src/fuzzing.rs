//! Doors for the fuzzer (`fuzz/`) into the private readers of servers' answers. No other build has
//! them.

use crate::{
    rpc::{AbciQuery, Broadcast, Status, TxAnswer, TxHash, answer},
    submit, verify,
};

const SERVER: &str = "fuzz";

/// Reads an answer as each kind that there is.
pub fn answers(body: &[u8]) {
    let _ = submit::judge(TxHash([0; 32]), answer::<Broadcast>(SERVER, body));
    let _ = answer::<Status>(SERVER, body);
    let _ = answer::<AbciQuery>(SERVER, body);
    let _ = answer::<TxAnswer>(SERVER, body);
    verify::fuzzing::answers(SERVER, body);
}

/// Reads two blocks, each as three answers (commit, validators, next validators), and asks what a
/// prover asks of them: whether one stands by itself, and whether the second follows.
pub fn light_blocks(answers: [&[u8]; 6]) {
    verify::fuzzing::light_blocks(SERVER, answers);
}
