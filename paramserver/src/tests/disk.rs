//! A disk that is full, or that lost something with the power, stops a job and never fails it.

use super::*;
use crate::{
    server::ServerError,
    store::{Opener, StoreError},
};
use redb::{Database, StorageBackend, backends::FileBackend};
use std::{
    fs, io,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The next file of this name ends at a device that is always full.
fn fill(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink("/dev/full", path.with_extension("new")).unwrap();
}

fn is_full(error: &ServerError) -> bool {
    matches!(error, ServerError::Store(StoreError::File { source, .. })
        if source.kind() == io::ErrorKind::StorageFull)
}

/// Works until a result cannot be taken; what was not taken, and why.
fn work_until_stopped(bench: &mut Bench, worker: &NodeIdentity) -> (ResultMessage, ServerError) {
    loop {
        let assignment = bench.pull(worker, 2).unwrap();
        let message = bench.answer(worker, &assignment);
        if let Err(error) = bench.server.accept(message.clone()) {
            return (message, error);
        }
    }
}

/// Goes on after the disk has room again, to the end.
fn goes_on(bench: Bench, worker: &NodeIdentity) -> Bench {
    assert_eq!(bench.standing(), Standing::Running);
    assert_eq!(bench.server.stopped_jobs(), [bench.id()]);
    assert_eq!(bench.status().phase, protocol::api::JobPhase::Running);
    bench.server.start(&bench.id()).unwrap();
    goes_on_from_here(bench, worker)
}

fn goes_on_from_here(mut bench: Bench, worker: &NodeIdentity) -> Bench {
    bench.work(worker, usize::MAX);
    let (last, _) = plainly(&bench.job).pop().unwrap();
    assert_eq!(bench.status().parameters, Some(last.digest()));
    bench
}

#[test]
fn a_disk_without_room_for_a_sum_stops_the_job_until_there_is() {
    let (mut bench, worker) = (Bench::new(2, EVERYTHING), identity(10));
    fill(&bench.server.store.sum_path(&bench.id(), 1));
    let (message, error) = work_until_stopped(&mut bench, &worker);
    assert!(is_full(&error) && error.to_string().contains("make room"), "{error}");
    assert!(matches!(bench.server.accept(message), Err(ServerError::Unavailable(_))));
    let obstacle = bench.status().obstacle.unwrap();
    assert!(obstacle.contains("make room"), "{obstacle}");
    assert_eq!(goes_on(bench, &worker).status().obstacle, None);
}

#[test]
fn a_disk_without_room_for_a_checkpoint_stops_the_job_until_there_is() {
    let (mut bench, worker) = (Bench::new(2, EVERYTHING), identity(10));
    fill(&bench.server.store.checkpoint_path(&bench.id(), 2));
    let (_, error) = work_until_stopped(&mut bench, &worker);
    assert!(is_full(&error), "{error}");
    let checkpoint = bench.server.store.checkpoint_path(&bench.id(), 2);
    assert!(!checkpoint.is_file());
    // It is made up for when the job is taken up again.
    let _bench = goes_on(bench, &worker);
    assert!(checkpoint.is_file());
}

#[test]
fn a_restart_on_a_full_disk_leaves_the_job_as_it_is() {
    let (mut bench, worker) = (Bench::new(2, EVERYTHING), identity(10));
    fill(&bench.server.store.sum_path(&bench.id(), 1));
    work_until_stopped(&mut bench, &worker);
    fill(&bench.server.store.sum_path(&bench.id(), 1));
    let bench = bench.reopen(EVERYTHING);
    assert!(!bench.is_open());
    goes_on(bench, &worker);
}

#[test]
fn partial_sums_lost_with_the_power_are_done_again_and_their_receipts_confirmed() {
    for (lost, damage) in [
        ("missing", (|path| fs::remove_file(path).unwrap()) as fn(&Path)),
        ("cut short", |path| fs::write(path, [0; 5]).unwrap()),
        ("zeroed", |path| {
            fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap()
        }),
    ] {
        let (mut bench, worker) = (Bench::new(2, EVERYTHING), identity(10));
        assert_eq!(bench.work(&worker, 1), 1);
        let parts = bench.server.store.parts(&bench.id()).unwrap();
        let span = parts[0].span();
        damage(&bench.server.store.part_path(&bench.id(), span));
        let receipts: Vec<_> = parts[0].receipts.iter().map(|c| c.receipt).collect();
        let mut bench = bench.reopen(EVERYTHING);
        assert!(bench.is_open(), "{lost}");
        assert!(bench.server.store.parts(&bench.id()).unwrap().is_empty(), "{lost}");
        let told = bench.server.store.outgoing(100).unwrap();
        assert!(told.iter().any(|(_, message)| message.receipts() == receipts), "{lost}");
        assert!(!bench.server.receipt(&receipts[0]).unwrap().used, "{lost}");
        bench.work(&worker, usize::MAX);
        let (last, _) = plainly(&bench.job).pop().unwrap();
        assert_eq!(bench.status().parameters, Some(last.digest()), "{lost}");
    }
}

#[test]
fn a_computed_job_that_the_disk_stopped_is_taken_up_again_for_its_stragglers() {
    let (mut bench, worker) = (Bench::new(1, EVERYTHING), identity(10));
    bench.work(&worker, usize::MAX);
    assert!(matches!(bench.standing(), Standing::Computed(_)));
    let result = bench.status().result;
    bench.server.lock().jobs.get_mut(&bench.id()).unwrap().engine = None;
    assert_eq!(bench.server.stopped_jobs(), [bench.id()]);
    assert_eq!(bench.status().phase, protocol::api::JobPhase::Settling);
    assert_eq!(bench.status().result, result);
    bench.server.start(&bench.id()).unwrap();
    assert!(bench.is_open() && bench.server.stopped_jobs().is_empty());
    assert_eq!(bench.status().result, result);
}

/// A file on a disk that is full while it is said to be.
#[derive(Debug)]
struct Filling(FileBackend, Arc<AtomicBool>);

impl Filling {
    fn room(&self) -> io::Result<()> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Filling {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.0.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

fn opener(full: &Arc<AtomicBool>) -> Opener {
    let full = full.clone();
    Box::new(move |path| {
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).truncate(false).read(true).write(true).open(path)?;
        let backend = Filling(FileBackend::new(file)?, full.clone());
        Ok(Database::builder().create_with_backend(backend)?)
    })
}

#[test]
fn a_database_on_a_disk_that_was_full_goes_on_when_there_is_room() {
    let full = Arc::new(AtomicBool::new(false));
    let open = |folder: &Path| Store::open_by(folder, opener(&full)).unwrap();
    let (mut bench, worker) = (Bench::over(2, EVERYTHING, open), identity(10));
    bench.work(&worker, 1);
    let assignment = bench.pull(&worker, 2).unwrap();
    let message = bench.answer(&worker, &assignment);
    full.store(true, Ordering::Relaxed);
    let error = bench.server.accept(message.clone()).unwrap_err();
    assert!(error.to_string().contains("make room"), "{error}");
    // Full as it is it says so each time, and nothing that it acknowledged is gone.
    for _ in 0..3 {
        let error = bench.server.start(&bench.id()).unwrap_err();
        assert!(error.to_string().contains("make room"), "{error}");
    }
    full.store(false, Ordering::Relaxed);
    assert_eq!(bench.server.store.parts(&bench.id()).unwrap().len(), 1);
    bench.server.start(&bench.id()).unwrap();
    assert_eq!(bench.server.accept(message).unwrap(), ResultReply::Used);
    goes_on_from_here(bench, &worker);
}

#[test]
fn a_second_server_on_the_same_folder_is_told_what_to_do() {
    let bench = Bench::new(1, EVERYTHING);
    let error = Store::open(bench.folder.path()).err().unwrap();
    assert!(error.to_string().contains("another parameter server"), "{error}");
}
