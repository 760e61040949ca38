//! Questions that anybody may ask a ledger through CometBFT, and the proofs it answers with,
//! which the client has to find right.
#![no_main]

use abci_app::query::PROOF_TYPE;
use fuzz::target;
use fuzz::{chain::LEDGER, switches};
use ledger_client::verify::check_record;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{RequestInfo, RequestQuery};

target!(|bytes: &[u8]| {
    let Some((switch, path)) = switches(bytes) else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let height = match (switch(1), switch(2)) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => i64::from(bytes[0]) - 128,
    };
    let prove = switch(0);
    let request = RequestQuery { path: path.into(), height, prove, ..Default::default() };
    let answer = LEDGER.query(request);
    assert!(answer.log.len() <= 2_000 && answer.value.len() < 200_000);
    if prove && answer.code == 0 {
        assert_eq!(answer.key, path.as_bytes());
        let proof = answer.proof_ops.expect("a proof").ops;
        let [op] = &proof[..] else { panic!("{proof:?}") };
        assert_eq!(op.r#type, PROOF_TYPE);
        let root = LEDGER.info(RequestInfo::default()).last_block_app_hash;
        let value = Some(&answer.value[..]).filter(|value| !value.is_empty());
        assert_eq!(check_record(&root, path, value, &op.data), Ok(()));
        // And of nothing else.
        let other = [&answer.value[..], b"x"].concat();
        assert!(check_record(&root, path, Some(&other), &op.data).is_err());
        assert!(value.is_none() || check_record(&root, path, None, &op.data).is_err());
    }
});
