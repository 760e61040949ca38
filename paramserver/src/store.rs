//! The disk: a redb database for what is small, files for what is large.
//!
//! ```text
//! state.redb                         jobs, steps, receipts, assignments, outgoing
//! blobs/<digest>                     what jobs are made of, and their results
//! jobs/<job>/sums/<ordinal>          a step's gradient sum, float32 little-endian
//! jobs/<job>/parts/<first>-<count>   partial sums of the step in progress
//! jobs/<job>/checkpoints/<ordinal>   parameters and moments before that step
//! ```
//!
//! Every file is written beside its name and renamed, and a record that leans on a file is
//! committed after it: a kill at any moment leaves a state that goes on.

use crate::record::{AssignedEntry, JobEntry, Outgoing, PartEntry, ReceiptEntry, StepEntry};
use borsh::{BorshDeserialize, BorshSerialize};
use job::tree::Span;
use protocol::{BatchPart, Digest, JobId, PublicKey, ReceiptId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

const JOBS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("jobs");
const STEPS: TableDefinition<([u8; 32], u32), &[u8]> = TableDefinition::new("steps");
/// Parameters' digest to the ordinal of the step that began from them.
const PARAMETERS: TableDefinition<[u8; 32], ([u8; 32], u32)> = TableDefinition::new("parameters");
const RECEIPTS: TableDefinition<[u8; 32], &[u8]> = TableDefinition::new("receipts");
const ASSIGNED: TableDefinition<([u8; 32], [u8; 32]), &[u8]> = TableDefinition::new("assigned");
const PARTS: TableDefinition<([u8; 32], u32, u32), &[u8]> = TableDefinition::new("parts");
const OUTGOING: TableDefinition<u64, &[u8]> = TableDefinition::new("outgoing");

/// The disk failed us, or holds what we did not write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file.
    #[error("{path}: {source}{}", mend(.source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("the database {path}: {source}{}", mend_database(.source))]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// A record cannot be read.
    #[error(
        "the database {path} holds a {what} that cannot be read ({source}): it was written by another version, or the disk is failing"
    )]
    Record {
        /// The database's file.
        path: PathBuf,
        /// What kind.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A blob's bytes are not what its name says.
    #[error("what was sent as {wanted} is {found}: it was damaged on the way, send it again")]
    WrongBlob {
        /// Its name.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; the disk is full: make room, nothing that was taken is lost"
        }
        io::ErrorKind::PermissionDenied => "; give this user the folder",
        _ => "",
    }
}

fn mend_database(error: &redb::Error) -> &'static str {
    match error {
        redb::Error::Io(error) => mend(error),
        redb::Error::PreviousIo => {
            "; the disk failed or is full: make room, nothing that was taken is lost"
        }
        redb::Error::DatabaseAlreadyOpen => {
            "; another parameter server works on this folder: stop it, or give this one another"
        }
        _ => "",
    }
}

/// The disk of one parameter server.
pub struct Store {
    root: PathBuf,
    opener: Opener,
    /// None until the next use after a failure.
    database: RwLock<Option<Database>>,
}

/// Opens the database in a file, making it where there is none.
pub(crate) type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::Error> + Send + Sync>;

impl Store {
    /// Opens the store in a folder, making it where there is none.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_by(root, Box::new(|path| Ok(Database::create(path)?)))
    }

    /// As [`Store::open`], with another way to open its database.
    pub(crate) fn open_by(root: &Path, opener: Opener) -> Result<Self, StoreError> {
        for folder in ["blobs", "jobs"] {
            make_folder(&root.join(folder))?;
        }
        let store = Self { root: root.to_owned(), opener, database: RwLock::new(None) };
        // So that readers find every table.
        store.write(|_| Ok(()))?;
        Ok(store)
    }

    fn path(&self) -> PathBuf {
        self.root.join("state.redb")
    }

    fn broken(&self, error: impl Into<redb::Error>) -> StoreError {
        StoreError::Database { path: self.path(), source: Box::new(error.into()) }
    }

    fn decode<T: BorshDeserialize>(
        &self,
        what: &'static str,
        bytes: &[u8],
    ) -> Result<T, StoreError> {
        T::try_from_slice(bytes).map_err(|source| StoreError::Record {
            path: self.path(),
            what,
            source,
        })
    }

    /// Runs on the database, which is opened again where an earlier failure closed it: after one
    /// failed write redb refuses everything, though the disk may have room again.
    fn with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let result = self.try_with(run);
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = &result {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result.map_err(|error| self.broken(error))
    }

    fn try_with<T>(
        &self,
        run: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        loop {
            {
                let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(database) = &*database {
                    return run(database);
                }
            }
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            if database.is_none() {
                *database = Some((self.opener)(&self.path())?);
            }
        }
    }

    /// Several changes in one durable commit: all of them stand afterwards, or none.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Changes<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            let changes = Changes { transaction: &transaction };
            changes.open_all()?;
            let value = change(&changes)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Every job, in order of arrival.
    pub fn jobs(&self) -> Result<Vec<(JobId, JobEntry)>, StoreError> {
        let rows = self.with(|database| {
            let table = database.begin_read()?.open_table(JOBS)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((JobId(Digest(key.value())), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        let mut jobs = rows
            .into_iter()
            .map(|(id, bytes)| Ok((id, self.decode::<JobEntry>("job", &bytes)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        jobs.sort_by_key(|(_, entry)| entry.arrived);
        Ok(jobs)
    }

    /// The steps of a job from `from` on, by ordinal.
    pub fn steps(&self, job: &JobId, from: u32) -> Result<Vec<(u32, StepEntry)>, StoreError> {
        let rows = self.with(|database| {
            let table = database.begin_read()?.open_table(STEPS)?;
            let mut rows = Vec::new();
            for row in table.range((job.0.0, from)..=(job.0.0, u32::MAX))? {
                let (key, value) = row?;
                rows.push((key.value().1, value.value().to_vec()));
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|(at, bytes)| Ok((at, self.decode("step", &bytes)?))).collect()
    }

    /// The job and the ordinal of the step that began from these parameters.
    pub fn parameters(&self, digest: &Digest) -> Result<Option<(JobId, u32)>, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(PARAMETERS)?;
            let found = table.get(digest.0)?;
            Ok(found.map(|value| {
                let (job, ordinal) = value.value();
                (JobId(Digest(job)), ordinal)
            }))
        })
    }

    /// A receipt.
    pub fn receipt(&self, id: &ReceiptId) -> Result<Option<ReceiptEntry>, StoreError> {
        let found = self.with(|database| {
            let table = database.begin_read()?.open_table(RECEIPTS)?;
            let found = table.get(id.0.0)?;
            Ok(found.map(|value| self.decode("receipt", value.value())))
        })?;
        found.transpose()
    }

    /// Every receipt of a job: by node, how many were used and how many there are.
    pub fn receipt_counts(
        &self,
        job: &JobId,
    ) -> Result<BTreeMap<PublicKey, (u64, u64)>, StoreError> {
        let mut counts = BTreeMap::<_, (u64, u64)>::new();
        let mut count = |bytes: &[u8]| -> Result<(), StoreError> {
            let entry: ReceiptEntry = self.decode("receipt", bytes)?;
            let body = &entry.receipt.body;
            if body.batch.job == *job {
                let (used, all) = counts.entry(body.node()).or_default();
                *used += u64::from(entry.used && body.batch.part != BatchPart::Update);
                *all += 1;
            }
            Ok(())
        };
        self.with(|database| {
            let table = database.begin_read()?.open_table(RECEIPTS)?;
            for row in table.iter()? {
                if let Err(error) = count(row?.1.value()) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        })??;
        Ok(counts)
    }

    /// The assignments of the steps in progress.
    pub fn assigned(&self, job: &JobId) -> Result<Vec<(Digest, AssignedEntry)>, StoreError> {
        let rows = self.with(|database| {
            let table = database.begin_read()?.open_table(ASSIGNED)?;
            let mut rows = Vec::new();
            for row in table.range((job.0.0, [0; 32])..=(job.0.0, [255; 32]))? {
                let (key, value) = row?;
                rows.push((Digest(key.value().1), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|(id, bytes)| Ok((id, self.decode("assignment", &bytes)?))).collect()
    }

    /// The partial sums of the step in progress.
    pub fn parts(&self, job: &JobId) -> Result<Vec<PartEntry>, StoreError> {
        let rows = self.with(|database| {
            let table = database.begin_read()?.open_table(PARTS)?;
            let mut rows = Vec::new();
            for row in table.range((job.0.0, 0, 0)..=(job.0.0, u32::MAX, u32::MAX))? {
                rows.push(row?.1.value().to_vec());
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|bytes| self.decode("partial sum", &bytes)).collect()
    }

    /// At most `limit` of what the chain is to be told, oldest first.
    pub fn outgoing(&self, limit: usize) -> Result<Vec<(u64, Outgoing)>, StoreError> {
        let rows = self.with(|database| {
            let table = database.begin_read()?.open_table(OUTGOING)?;
            let mut rows = Vec::new();
            for row in table.iter()?.take(limit) {
                let (key, value) = row?;
                rows.push((key.value(), value.value().to_vec()));
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|(at, bytes)| Ok((at, self.decode("message", &bytes)?))).collect()
    }

    // Files.

    fn job_folder(&self, job: &JobId, kind: &str) -> PathBuf {
        self.root.join("jobs").join(job.to_string()).join(kind)
    }

    /// A blob's file.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.to_string())
    }

    /// Whether a blob is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// A blob's bytes.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        read_file(&self.blob_path(digest))
    }

    /// Keeps a blob, after checking that it is what its name says.
    pub fn put_blob(&self, wanted: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let found = Digest::of_bytes(bytes);
        if found != *wanted {
            return Err(StoreError::WrongBlob { wanted: *wanted, found });
        }
        write_file(&self.blob_path(wanted), bytes)
    }

    /// The file of a step's gradient sum.
    pub fn sum_path(&self, job: &JobId, ordinal: u32) -> PathBuf {
        self.job_folder(job, "sums").join(format!("{ordinal:08}"))
    }

    /// The file of a partial sum of the step in progress.
    pub fn part_path(&self, job: &JobId, span: Span) -> PathBuf {
        self.job_folder(job, "parts").join(format!("{}-{}", span.first, span.count))
    }

    /// Removes the partial sums of a step that is done: its whole sum is kept. Where they cannot
    /// be removed they only take room until the next step's.
    pub fn remove_parts(&self, job: &JobId) {
        let folder = self.job_folder(job, "parts");
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("{}: {error}", folder.display());
            }
            _ => {}
        }
    }

    /// The file of a checkpoint: parameters and moments before the step of that ordinal.
    pub fn checkpoint_path(&self, job: &JobId, ordinal: u32) -> PathBuf {
        self.job_folder(job, "checkpoints").join(format!("{ordinal:08}"))
    }

    /// The ordinals of a job's files of a kind (`sums`, `checkpoints`), ascending, with sizes.
    pub fn ordinals(&self, job: &JobId, kind: &str) -> Result<Vec<(u32, u64)>, StoreError> {
        let folder = self.job_folder(job, kind);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::File { path: folder, source }),
        };
        let mut found: Vec<(u32, u64)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let ordinal = entry.file_name().to_str()?.parse().ok()?;
                Some((ordinal, entry.metadata().ok()?.len()))
            })
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}

/// Changes within one commit.
pub struct Changes<'a> {
    transaction: &'a WriteTransaction,
}

impl Changes<'_> {
    fn open_all(&self) -> Result<(), redb::Error> {
        self.transaction.open_table(JOBS)?;
        self.transaction.open_table(STEPS)?;
        self.transaction.open_table(PARAMETERS)?;
        self.transaction.open_table(RECEIPTS)?;
        self.transaction.open_table(ASSIGNED)?;
        self.transaction.open_table(PARTS)?;
        self.transaction.open_table(OUTGOING)?;
        Ok(())
    }

    /// Puts a job.
    pub fn put_job(&self, id: &JobId, entry: &JobEntry) -> Result<(), redb::Error> {
        self.transaction.open_table(JOBS)?.insert(id.0.0, bytes_of(entry).as_slice())?;
        Ok(())
    }

    /// Forgets a job that never began.
    pub fn drop_job(&self, id: &JobId) -> Result<(), redb::Error> {
        self.transaction.open_table(JOBS)?.remove(id.0.0)?;
        Ok(())
    }

    /// Puts a finished step and forgets the assignments and parts that led to it.
    pub fn finish_step(
        &self,
        job: &JobId,
        ordinal: u32,
        entry: &StepEntry,
    ) -> Result<(), redb::Error> {
        let mut steps = self.transaction.open_table(STEPS)?;
        steps.insert((job.0.0, ordinal), bytes_of(entry).as_slice())?;
        self.put_parameters(job, &entry.before, ordinal)?;
        let mut parts = self.transaction.open_table(PARTS)?;
        parts.retain_in((job.0.0, 0, 0)..=(job.0.0, u32::MAX, u32::MAX), |_, _| false)?;
        let mut assigned = self.transaction.open_table(ASSIGNED)?;
        // A straggler may still answer for the step before this one.
        let is_recent = |bytes: &[u8]| {
            AssignedEntry::try_from_slice(bytes)
                .is_ok_and(|old| (old.epoch, old.step) == (entry.epoch, entry.step))
        };
        assigned
            .retain_in((job.0.0, [0; 32])..=(job.0.0, [255; 32]), |_, value| is_recent(value))?;
        Ok(())
    }

    /// Notes which step begins from which parameters.
    pub fn put_parameters(
        &self,
        job: &JobId,
        digest: &Digest,
        ordinal: u32,
    ) -> Result<(), redb::Error> {
        self.transaction.open_table(PARAMETERS)?.insert(digest.0, (job.0.0, ordinal))?;
        Ok(())
    }

    /// Puts a receipt.
    pub fn put_receipt(&self, id: &ReceiptId, entry: &ReceiptEntry) -> Result<(), redb::Error> {
        self.transaction.open_table(RECEIPTS)?.insert(id.0.0, bytes_of(entry).as_slice())?;
        Ok(())
    }

    /// Puts an assignment.
    pub fn put_assigned(
        &self,
        job: &JobId,
        id: &Digest,
        entry: &AssignedEntry,
    ) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(ASSIGNED)?;
        table.insert((job.0.0, id.0), bytes_of(entry).as_slice())?;
        Ok(())
    }

    /// Puts a partial sum's record; its file is there.
    pub fn put_part(&self, job: &JobId, entry: &PartEntry) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(PARTS)?;
        table.insert((job.0.0, entry.first, entry.count), bytes_of(entry).as_slice())?;
        Ok(())
    }

    /// Forgets a partial sum of the step in progress.
    pub fn drop_part(&self, job: &JobId, entry: &PartEntry) -> Result<(), redb::Error> {
        self.transaction.open_table(PARTS)?.remove((job.0.0, entry.first, entry.count))?;
        Ok(())
    }

    /// Adds something that the chain is to be told.
    pub fn push_outgoing(&self, message: &Outgoing) -> Result<(), redb::Error> {
        let mut table = self.transaction.open_table(OUTGOING)?;
        let next = table.last()?.map_or(0, |(key, _)| key.value() + 1);
        table.insert(next, bytes_of(message).as_slice())?;
        Ok(())
    }

    /// Forgets what the chain has taken.
    pub fn drop_outgoing(&self, sequence: u64) -> Result<(), redb::Error> {
        self.transaction.open_table(OUTGOING)?.remove(sequence)?;
        Ok(())
    }
}

fn bytes_of<T: BorshSerialize>(value: &T) -> Vec<u8> {
    match borsh::to_vec(value) {
        Ok(bytes) => bytes,
        // Our records hold no NaN (the loss was checked) and no map.
        Err(error) => unreachable!("a record that cannot be encoded: {error}"),
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|source| StoreError::File { path: path.into(), source })
}

/// Reads a whole file.
pub fn read_file(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|source| StoreError::File { path: path.into(), source })
}

/// Removes a file that may be gone already.
pub fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::File { path: path.into(), source: error })
        }
        _ => Ok(()),
    }
}

/// Writes a file beside its name, durably, and renames it: it is there whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_new(path, bytes, true)
}

/// As [`write_file`] without waiting for the disk: enough against a killed process, and what is
/// lost with the power is done again.
pub fn write_file_soon(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_new(path, bytes, false)
}

fn write_new(path: &Path, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let fresh = path.with_extension("new");
    let run = || -> io::Result<()> {
        let mut file = fs::File::create(&fresh)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(&fresh, path)
    };
    run().map_err(|source| {
        // A half-written file must not fill the disk further; what it held is still in memory.
        let _ = fs::remove_file(&fresh);
        StoreError::File { path: path.into(), source }
    })
}
