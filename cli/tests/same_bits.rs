//! The same model to the last bit, and every receipt once, whoever works and whatever is killed.
//!
//! Each test holds the network's model against the one that a plain loop on one thread of this
//! process gives, with no network at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

mod common;

use common::{Network, SmallJob, cometbft, wait_for};
use protocol::{Digest, api::JobStatus};
use std::collections::HashSet;

const SMALL: SmallJob = SmallJob { nonce: 0, epochs: 3 };

/// That a job that is done has the model it should, and on the chain each receipt once.
fn check(network: &Network, job: &str, status: &JobStatus, model: Digest) {
    assert_eq!(status.parameters, Some(model));
    let listed = network.alia(&["--json", "receipts", "--job", job, "--limit", "100000"]).ok();
    let listed = listed.json();
    let receipts = listed["receipts"].as_array().unwrap();
    let ids: HashSet<&str> =
        receipts.iter().map(|line| line["receipt"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), receipts.len()), (receipts.len(), status.receipts as usize));
    assert!(receipts.iter().all(|line| line["confirmed"].is_u64()), "{listed}");
    let schedule = SMALL.prepared().job.terms().schedule().clone();
    let batches = schedule.epochs * (schedule.batches + schedule.steps());
    let firsts = receipts.iter().filter(|line| line["first"] == true).count();
    assert_eq!(firsts, batches as usize, "each batch has one receipt that is paid");
    let fetched = network.alia(&["--json", "job", "fetch", job, "--out", "fetched"]).ok().json();
    assert_eq!(fetched["parameters"], model.to_string());
    assert!(fetched["proof"].is_object(), "{fetched}");
}

#[test]
fn three_workers_one_of_them_without_vector_instructions() {
    let Some(comet) = cometbft() else { return };
    let mut network = Network::start(comet);
    network.start_worker(Some("portable"));
    network.start_worker(None);
    network.start_worker(None);
    let job = network.submit(&SMALL);
    let status = network.wait_until_done(&job);
    assert_eq!(status.workers.iter().filter(|worker| worker.batches > 0).count(), 3);
    assert!(status.workers.iter().any(|worker| worker.device.contains("portable")));
    check(&network, &job, &status, SMALL.without_a_network());
}

#[test]
fn a_parameter_server_killed_half_way_goes_on_where_it_stopped() {
    let Some(comet) = cometbft() else { return };
    let mut network = Network::start(comet);
    network.start_worker(None);
    network.start_worker(Some("portable"));
    let job = network.submit(&SMALL);
    for receipts in [20, 60, 90] {
        network.wait_for_receipts(&job, receipts);
        network.kill_server();
        network.start_server();
    }
    let status = network.wait_until_done(&job);
    check(&network, &job, &status, SMALL.without_a_network());
}

#[test]
fn a_worker_killed_half_way_is_replaced_and_its_work_still_counts() {
    let Some(comet) = cometbft() else { return };
    let mut network = Network::start(comet);
    network.start_worker(None);
    network.start_worker(None);
    let job = network.submit(&SMALL);
    network.wait_for_receipts(&job, 50);
    // It dies with receipts that it has not handed in: the parameter server relays them.
    network.workers[0].kill();
    let status = network.wait_until_done(&job);
    check(&network, &job, &status, SMALL.without_a_network());
}

#[test]
fn while_the_chain_is_away_work_goes_on_and_every_receipt_arrives_once() {
    let Some(comet) = cometbft() else { return };
    let mut network = Network::start(comet);
    network.start_worker(None);
    let job = network.submit(&SMALL);
    network.wait_for_receipts(&job, 30);
    network.stop_chain();
    let before = network.status(&job).unwrap().receipts;
    // The work is done while no chain is there.
    wait_for("the result", || network.status(&job)?.result);
    let status = network.status(&job).unwrap();
    assert!(status.receipts > before, "{} then, {before} before", status.receipts);
    assert!(status.receipts_confirmed < status.receipts);
    network.start_chain();
    let status = network.wait_until_done(&job);
    check(&network, &job, &status, SMALL.without_a_network());
}
