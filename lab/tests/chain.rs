//! A chain of one validator, with CometBFT's own example application behind it. CometBFT's path is
//! given by ALIA_COMETBFT.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use lab::{Service, service::http_get, services::Comet};
use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_chain_makes_blocks_and_goes_on_after_a_kill() {
    let Some(program) = std::env::var_os("ALIA_COMETBFT") else {
        println!("skipped: ALIA_COMETBFT is not set");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let comet = Comet {
        program: program.into(),
        home: folder.path().join("comet"),
        chain: "alia-lab".parse().unwrap(),
        rpc: free(),
        p2p: free(),
        application: "kvstore".into(),
        commit_ms: 200,
        idle_seconds: 1,
    };
    comet.init().unwrap_or_else(|error| panic!("{error}"));
    let mut service = Service::start_ready(comet.service(), LIMIT).unwrap();
    service.wait_line(0, "alia-lab", LIMIT).unwrap();
    service.wait_line(0, "height=1 num_txs_res", LIMIT).unwrap();
    assert_eq!(http_get(comet.rpc, "/commit?height=1"), Some(200));

    let mark = service.console().mark();
    service.kill();
    // A second start finds its home and changes neither keys nor genesis.
    comet.init().unwrap();
    service.restart().unwrap();
    service.wait_ready(LIMIT).unwrap();
    service.wait_line(mark, "height=3 num_txs_res", LIMIT).unwrap();
    assert_eq!(http_get(comet.rpc, "/commit?height=3"), Some(200));
}
