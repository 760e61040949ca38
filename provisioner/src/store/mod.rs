//! What the provisioner knows: machines, leases, events, images. In a file of SQLite, or in
//! PostgreSQL, where any number of front-ends share it.
//!
//! Everything that must outlive a restart, or be seen by another front-end, is here and nowhere
//! else. Callers see functions over values; SQL stays inside this module, which both databases take.
//!
//! All functions block; asynchronous callers go through [`Store::run`].

mod alive;
mod answers;
mod attempts;
mod believed;
mod configuration;
mod console;
mod crashes;
mod events;
mod figures;
mod images;
mod leases;
mod leases6;
mod life;
mod machines;
mod media;
mod meter;
mod operators;
mod place;
mod revoked;
mod schema;
mod sessions;
mod sql;

pub use alive::SILENT_MS;
pub use answers::Asked;
pub use attempts::Sign;
pub use configuration::{Draft, Drafted, Mark};
pub use console::Lines;
pub use figures::Figures;
pub use leases::{LeaseFacts, Leases};
pub use leases6::Lease6Facts;
pub use life::Moved;
pub use machines::{Enrolled, Filter, Known};
pub use media::{Bound, Came, Count, Registered, Withdrawn};
pub use meter::Meter;
pub use operators::{Added, FIRST_OPERATOR};
pub use place::Place;
pub use revoked::{Revocation, Standing};
pub use sessions::LASTS as SESSION_LASTS;
pub use sql::{Server, ServerError};

use crate::machine::Mac;
use meter::Operation;
use sql::{Part, Postgres, Sql, Sqlite};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicI64},
};
use tokio::sync::Semaphore;

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
    /// SQLite failed.
    #[error("the database: {0}{hint}", hint = hint(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The server is not to be had.
    #[error(
        "the database does not let us in: {}; machines ask again by themselves until it does",
        protocol::told(.0)
    )]
    Connect(#[source] postgres::Error),
    /// The server was not to be had a moment ago.
    #[error("the database was not to be had a moment ago; it is tried again in less than a second")]
    Resting,
    /// PostgreSQL failed.
    #[error("the database: {}{hint}", protocol::told(.0), hint = hint_of(.0))]
    Postgres(#[from] postgres::Error),
    /// There is no such server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A column of another type.
    #[error("the database holds {value} in column {column} of an answer, which has another type")]
    Column {
        /// From 0.
        column: usize,
        /// What it holds.
        value: String,
    },
    /// What was read is not what was written.
    #[error("the database holds a value that cannot be read: {0}")]
    Value(#[from] serde_json::Error),
    /// No thread can be had.
    #[error("the database's thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The task that ran it was cancelled.
    #[error("the program is stopping")]
    Stopping,
}

impl StoreError {
    /// Whether the same may succeed later, once somebody made room, let go or came back.
    pub fn may_pass(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(DiskFull | DatabaseBusy | DatabaseLocked | SystemIoFailure)
            ),
            Self::Connect(_) | Self::Resting => true,
            Self::Postgres(error) => error.is_closed() || error.code().is_some_and(passes),
            _ => false,
        }
    }
}

/// Classes of PostgreSQL's codes (appendix A): the connection, resources, an operator at work, locks
/// and time.
fn passes(code: &postgres::error::SqlState) -> bool {
    ["08", "53", "57", "58", "40", "55"].iter().any(|class| code.code().starts_with(class))
        || code.code() == "25P03"
}

fn hint(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => " (free some space on its disk)",
        Some(rusqlite::ErrorCode::ReadOnly) => " (make its file and folder writable)",
        Some(rusqlite::ErrorCode::DatabaseBusy) => " (another program holds it)",
        _ => "",
    }
}

fn hint_of(error: &postgres::Error) -> &'static str {
    use postgres::error::SqlState;
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => " (free some space on its host's disk)",
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            " (the user has to own the database: ALTER DATABASE … OWNER TO …)"
        }
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            " (it is a standby: name the primary, or add target_session_attrs=read-write to the URL)"
        }
        _ => "",
    }
}

enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// The store.
pub struct Store {
    backend: Backend,
    names: BTreeMap<Mac, String>,
    /// How long it takes.
    pub meter: Meter,
    ahead: AtomicI64,
    at_once: Semaphore,
}

/// How many tasks ask at a time: more would be threads that wait for each other.
const AT_ONCE: usize = 8;

impl Store {
    /// Opens, and where need be makes, the database. Machines in `names` are called so.
    pub fn open(place: &Place, names: BTreeMap<Mac, String>) -> Result<Self, StoreError> {
        let backend = match place {
            Place::File(path) => {
                let file = Sqlite::open(path)?;
                schema::upgrade_file(&mut file.writer())?;
                Backend::Sqlite(file)
            }
            Place::Server { server, authority } => {
                let server = Postgres::open((**server).clone(), authority.as_deref())?;
                schema::upgrade_server(&server)?;
                Backend::Postgres(server)
            }
        };
        let (meter, ahead) = (Meter::default(), AtomicI64::new(0));
        let store = Self { backend, names, meter, ahead, at_once: Semaphore::new(AT_ONCE) };
        store.rename()?;
        Ok(store)
    }

    /// Whether other front-ends write to it too.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// Whether it answers at all.
    pub fn answers(&self) -> Result<(), StoreError> {
        self.read(|sql| sql.exists("SELECT 1 FROM machines LIMIT 1", &[]).map(drop))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.meter.timed(Operation::Read, || match &self.backend {
            Backend::Sqlite(file) => file.read(work),
            Backend::Postgres(server) => server.read(work),
        })
    }

    /// All of it or, where `work` fails, nothing.
    fn write<T>(
        &self,
        part: Part,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.meter.timed(part.into(), || match &self.backend {
            Backend::Sqlite(file) => file.write(work),
            Backend::Postgres(server) => server.write(part, work),
        })
    }

    /// Runs something that blocks where blocking is allowed.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let _turn = self.at_once.acquire().await.map_err(|_| StoreError::Stopping)?;
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Stopping)?
    }
}

#[cfg(test)]
mod upgrades;

#[cfg(test)]
#[path = "../../tests/common/place.rs"]
mod places;

#[cfg(test)]
pub(crate) fn temporary() -> (tempfile::TempDir, Arc<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let place = places::fresh(folder.path()).parse().unwrap();
    let store = Store::open(&place, BTreeMap::new()).unwrap();
    (folder, Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        counters::Counters,
        timeline::{Kind, Record, Sighting, Timeline},
    };
    use rusqlite::Connection;
    use std::{sync::MutexGuard, time::Duration};

    fn writer(store: &Store) -> MutexGuard<'_, Connection> {
        let Backend::Sqlite(file) = &store.backend else { unreachable!() };
        file.writer()
    }

    #[test]
    fn a_full_disk_is_told_with_what_to_do_and_nothing_written_before_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::File(folder.path().join("p.sqlite"));
        let store = Arc::new(Store::open(&place, BTreeMap::new()).unwrap());
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
            writer(&store).pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer(&store).pragma_update(None, "max_page_count", pages).unwrap();
        let error = store.record(&records(100)).unwrap_err().to_string();
        assert!(error.contains("free some space"), "{error}");
        assert_eq!(store.count_machines().unwrap(), 100, "all or none");
        writer(&store).pragma_update(None, "max_page_count", 1 << 30).unwrap();
        store.record(&records(100)).unwrap();
        assert_eq!(store.count_machines().unwrap(), 200);

        // The timeline waits for room, and loses nothing of what its queue holds.
        let pages: i64 =
            writer(&store).pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        writer(&store).pragma_update(None, "max_page_count", pages).unwrap();
        let counters = Arc::new(Counters::default());
        let timeline = Timeline::start(store.clone(), counters.clone()).unwrap();
        records(200).into_iter().for_each(|record| timeline.record(record));
        timeline.flush(Duration::from_millis(300));
        assert_eq!(store.count_machines().unwrap(), 200);
        writer(&store).pragma_update(None, "max_page_count", 1 << 30).unwrap();
        timeline.flush(Duration::from_secs(20));
        assert_eq!((store.count_machines().unwrap(), counters.all().len()), (300, 0));
    }
}
