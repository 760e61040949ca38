//! What strangers send is bounded.

use super::*;
use crate::{
    http::tests::answer,
    record::JobEntry,
    server::{MAX_OPEN_JOBS, ServerError, WAITING_PATIENCE_MS},
};

#[test]
fn a_job_that_waited_too_long_makes_room_and_no_other_does() {
    let bench = Bench::new(1, EVERYTHING);
    let server = &bench.server;
    let jobs: Vec<Job> = (2..MAX_OPEN_JOBS as u32 + 2).map(small).collect();
    let (last, others) = jobs.split_last().unwrap();
    for job in others {
        server.take_job(create(job, server)).unwrap();
    }
    let refused = server.take_job(create(last, server));
    assert!(matches!(refused, Err(ServerError::Unavailable(_))), "{refused:?}");
    // The running one is older, and stays.
    let (old, running) = (others[7].id(), bench.id());
    for id in [&old, &running] {
        server.lock().jobs.get_mut(id).unwrap().heard -= WAITING_PATIENCE_MS;
    }
    server.take_job(create(last, server)).unwrap();
    let kept: Vec<JobId> = server.store.jobs().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(kept.len(), MAX_OPEN_JOBS);
    assert!(!kept.contains(&old) && kept.contains(&running) && kept.contains(&last.id()));
    assert!(server.status(&old).is_none() && server.status(&last.id()).is_some());
    // Its files are others' too.
    assert!(server.store.has_blob(&Digest::of_bytes(b"corpus")));
}

#[test]
fn a_file_that_comes_is_progress() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let server = Server::open(store, identity(200), EVERYTHING).unwrap();
    let job = small(1);
    server.take_job(create(&job, &server)).unwrap();
    let heard = || server.lock().jobs[&job.id()].heard;
    server.lock().jobs.get_mut(&job.id()).unwrap().heard = 1;
    server.put_blob(&Digest::of_bytes(b"corpus"), b"corpus").unwrap();
    assert!(heard() > 1);
}

#[test]
fn a_file_that_no_job_waits_for_is_refused_before_it_is_read() {
    let server = Bench::new(1, EVERYTHING).server;
    let head = format!(
        "PUT /v1/blobs/{} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Length: 1000000000\r\n\r\n",
        Digest::of_bytes(b"a stranger's"),
    );
    assert_eq!(answer(server, &head, &[]), 422);
}

#[test]
fn a_job_larger_than_the_memory_given_to_jobs_is_refused_with_both_figures() {
    let open = |memory: u64| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (Server::open(store, identity(200), EVERYTHING).unwrap().with_memory(memory), folder)
    };
    let (server, _folder) = open(1_000);
    let refused = server.take_job(create(&small(1), &server)).unwrap_err();
    assert!(matches!(&refused, ServerError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains("start the server with more --memory"), "{refused}");
    // Room for one of them, not for two.
    let one = 48 * kernels::model::count(small(1).shape());
    let (server, _folder) = open(one + one / 2);
    server.take_job(create(&small(1), &server)).unwrap();
    let later = server.take_job(create(&small(2), &server)).unwrap_err();
    assert!(matches!(&later, ServerError::Unavailable(_)), "{later}");
}

#[test]
fn who_sends_nothing_loses_its_turn_and_is_told_to_come_again() {
    let server = Bench::new(1, EVERYTHING).server;
    let head = format!(
        "POST /v1/work/result HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{}: {}\r\n\
         Content-Length: 100000\r\n\r\n",
        protocol::version::HEADER,
        protocol::version::offer(),
    );
    assert_eq!(answer(server, &head, b"a little"), 503);
}

fn result_head(length: usize) -> String {
    format!(
        "POST /v1/work/result HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{}: {}\r\n\
         Content-Length: {length}\r\n\r\n",
        protocol::version::HEADER,
        protocol::version::offer(),
    )
}

/// A bench with an assignment pulled by node 10, and its result's bytes.
fn with_result() -> (Bench, Vec<u8>) {
    let mut bench = Bench::new(1, EVERYTHING);
    let worker = identity(10);
    let assignment = bench.pull(&worker, 4).unwrap();
    let result = bench.answer(&worker, &assignment).to_bytes();
    (bench, result)
}

#[test]
fn a_result_s_body_is_read_no_further_than_its_job_s_results_go() {
    let (bench, good) = with_result();
    let engine_says = {
        let state = bench.server.lock();
        state.jobs[&bench.id()].engine.as_ref().unwrap().max_result_len()
    };
    assert!(good.len() <= engine_says, "{} of {engine_says}", good.len());
    let length = engine_says + 1;
    let mut long = good.clone();
    long.resize(length, 0);
    let Bench { server, folder, .. } = bench;
    assert_eq!(answer(server, &result_head(length), &long), 413);
    let store = Store::open(folder.path()).unwrap();
    let server = Server::open(store, identity(200), EVERYTHING).unwrap();
    server.resume();
    assert_eq!(answer(server, &result_head(good.len()), &good), 200);
}

#[test]
fn of_a_result_that_nobody_was_given_only_the_head_is_read() {
    // The rest never comes: whoever waits for it answers 503 after its patience.
    let much = 100_000_000;
    let (bench, mut good) = with_result();
    let head = || result_head(much);
    let first = ResultMessage::head(&good).unwrap().unwrap();
    for cut in 0..good.len() {
        let head = ResultMessage::head(&good[..cut]).unwrap();
        assert!(head.is_none_or(|head| cut > 100 && head == first), "{cut}");
    }
    let signature_at = good.windows(64).position(|bytes| bytes == first.signature.0).unwrap();
    good[signature_at] ^= 1;
    assert_eq!(answer(bench.server, &head(), &good), 403);

    // Signed well, for an assignment of another's.
    let mut bench = Bench::new(1, EVERYTHING);
    let theirs = bench.pull(&identity(11), 4).unwrap();
    let stolen = bench.answer(&identity(12), &theirs).to_bytes();
    assert_eq!(answer(bench.server, &head(), &stolen), 403);

    // No receipt at all.
    let (bench, good) = with_result();
    let mut none = good[..36].to_vec();
    none[32..].fill(0);
    assert_eq!(answer(bench.server, &head(), &none), 400);
}

#[test]
fn a_job_that_ends_the_server_whenever_it_is_opened_waits_and_loses_nothing() {
    let bench = Bench::new(1, EVERYTHING);
    let id = bench.id();
    let Bench { server, folder, .. } = bench;
    let entry = server.lock().jobs[&id].entry.clone();
    assert_eq!(entry.crashes, 0);
    let reopened = |server: Server, crashes: u32| {
        let entry = JobEntry { crashes, ..entry.clone() };
        server.store.write(|changes| changes.put_job(&id, &entry)).unwrap();
        drop(server);
        let store = Store::open(folder.path()).unwrap();
        let server = Server::open(store, identity(200), EVERYTHING).unwrap();
        server.resume();
        server
    };
    // Once may have been anything. When it opens, that is forgotten, on disk too.
    let server = reopened(server, 1);
    assert_eq!(server.store.jobs().unwrap()[0].1.crashes, 0);
    assert!(server.lock().jobs[&id].engine.is_some());
    let server = reopened(server, 9);
    assert!(server.lock().jobs[&id].engine.is_none());
    assert!(server.stopped_jobs().is_empty(), "it is not its turn yet");
    let status = server.status(&id).unwrap();
    assert_eq!(status.phase, protocol::api::JobPhase::Running);
    let why = status.obstacle.unwrap();
    assert!(why.contains("9 times") && why.contains("after 60 min"), "{why}");
    assert_eq!(server.store.jobs().unwrap()[0].1.crashes, 9);
}

#[test]
fn a_file_that_is_away_for_some_restarts_costs_a_job_nothing() {
    let bench = Bench::new(1, EVERYTHING);
    let id = bench.id();
    let Bench { mut server, folder, .. } = bench;
    let blobs = folder.path().join("blobs");
    let away = folder.path().join("away");
    for _ in 0..6 {
        drop(server);
        std::fs::rename(&blobs, &away).unwrap();
        server =
            Server::open(Store::open(folder.path()).unwrap(), identity(200), EVERYTHING).unwrap();
        server.resume();
        assert!(server.lock().jobs[&id].engine.is_none());
        let _ = std::fs::remove_dir_all(&blobs);
        std::fs::rename(&away, &blobs).unwrap();
    }
    assert_eq!(server.store.jobs().unwrap()[0].1.crashes, 0);
    server.resume();
    assert!(server.lock().jobs[&id].engine.is_some());
}
