//! What the provisioner knows, in one SQLite file: machines, leases, events, images.
//!
//! Everything that must outlive a restart, or be seen by another front-end, is here and nowhere
//! else. Callers see functions over values; SQL stays inside this module, so that another
//! database can stand behind the same functions.
//!
//! One connection writes, one reads (WAL: neither waits for the other). Commits are not synced to
//! the disk one by one: a crash of this program loses nothing, a power cut may lose the last
//! moments (`synchronous=NORMAL`), as with the lease files of other DHCP servers.
//!
//! All functions block; asynchronous callers go through [`Store::run`].

mod attempts;
mod crashes;
mod events;
mod images;
mod leases;
mod leases6;
mod machines;
mod schema;

pub use leases::LeaseFacts;
pub use leases6::Lease6Facts;
pub use machines::{Enrolled, Known};

use crate::machine::Mac;
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The store failed. Nothing that a machine sends is the cause.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the database {path} cannot be opened: {source}; check the path and its permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A newer program wrote it.
    #[error(
        "the database was written by a newer version (schema {found}, this one knows {known}): \
         run that version, or give another file by --database"
    )]
    TooNew {
        /// The file's schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// Reading or writing failed.
    #[error("the database: {0}{hint}", hint = hint(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// What was read is not what was written.
    #[error("the database holds a value that cannot be read: {0}")]
    Value(#[from] serde_json::Error),
    /// The task that ran it was cancelled.
    #[error("the program is stopping")]
    Stopping,
}

impl StoreError {
    /// Whether the same may succeed later, once somebody made room or let go.
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        let Self::Sqlite(error) = self else { return false };
        let code = error.sqlite_error_code();
        matches!(code, Some(DiskFull | DatabaseBusy | DatabaseLocked | SystemIoFailure))
    }
}

fn hint(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => " (free some space on its disk)",
        Some(rusqlite::ErrorCode::ReadOnly) => " (make its file and folder writable)",
        Some(rusqlite::ErrorCode::DatabaseBusy) => " (another program holds it)",
        _ => "",
    }
}

/// How long one connection waits for another's lock: another program may look into the file.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// The store.
pub struct Store {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    names: BTreeMap<Mac, String>,
}

impl Store {
    /// Opens, and where need be makes, the database. Machines in `names` are called so.
    pub fn open(path: &Path, names: BTreeMap<Mac, String>) -> Result<Self, StoreError> {
        let connect = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(connection)
        };
        let opened = |source| StoreError::Open { path: path.into(), source };
        let mut writer = connect().map_err(opened)?;
        schema::upgrade(&mut writer)?;
        let reader = connect().map_err(opened)?;
        let store = Self { writer: Mutex::new(writer), reader: Mutex::new(reader), names };
        store.rename()?;
        Ok(store)
    }

    /// Runs something that blocks where blocking is allowed.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Stopping)?
    }

    // A panic while a connection was held left at most an open transaction, which SQLite rolls
    // back when the transaction's guard is dropped.
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SQLite's integers are signed; times and counts here fit with room to spare.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
pub(crate) fn temporary() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("p.sqlite"), BTreeMap::new()).unwrap();
    (folder, Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counters::Counters,
        timeline::{Kind, Record, Sighting, Timeline},
    };

    #[test]
    fn a_full_disk_is_told_with_what_to_do_and_nothing_written_before_is_lost() {
        let (_folder, store) = temporary();
        let records = |from: u32| -> Vec<Record> {
            let record = |n: u32| {
                let mac = Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
                let sighting = Sighting { boots: true, ..Sighting::default() };
                Record::new(mac, Kind::Dhcp, "x".repeat(2_000)).sighting(sighting)
            };
            (from..from + 100).map(record).collect()
        };
        store.record(&records(0)).unwrap();
        // SQLite's own limit on the file stands for the disk's end.
        let pages: i64 =
            store.writer().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.writer().pragma_update(None, "max_page_count", pages).unwrap();
        let error = store.record(&records(100)).unwrap_err().to_string();
        assert!(error.contains("free some space"), "{error}");
        assert_eq!(store.count_machines().unwrap(), 100, "all or none");
        store.writer().pragma_update(None, "max_page_count", 1 << 30).unwrap();
        store.record(&records(100)).unwrap();
        assert_eq!(store.count_machines().unwrap(), 200);

        // The timeline waits for room, and loses nothing of what its queue holds.
        let pages: i64 =
            store.writer().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.writer().pragma_update(None, "max_page_count", pages).unwrap();
        let counters = Arc::new(Counters::default());
        let timeline = Timeline::start(store.clone(), counters.clone()).unwrap();
        records(200).into_iter().for_each(|record| timeline.record(record));
        timeline.flush(Duration::from_millis(300));
        assert_eq!(store.count_machines().unwrap(), 200);
        store.writer().pragma_update(None, "max_page_count", 1 << 30).unwrap();
        timeline.flush(Duration::from_secs(20));
        assert_eq!((store.count_machines().unwrap(), counters.all().len()), (300, 0));
    }
}
