//! SQLite: one file, one writer at a time.
//!
//! One connection writes, one reads (WAL: neither waits for the other), and a third, on a thread of
//! its own, carries what was written from the log to the file: that syncs the disk, which nobody's
//! answer is to wait for. Commits are not synced one by one: a crash of this program loses nothing, a
//! power cut may lose the last moments (`synchronous=NORMAL`).

use super::{Row, Sql, Value};
use crate::store::StoreError;
use rusqlite::{
    Connection, TransactionBehavior, params_from_iter,
    types::{ToSql, ToSqlOutput, ValueRef},
};
use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long one connection waits for another's lock: another program may look into the file.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// How often the log is carried to the file.
const CARRY: Duration = Duration::from_secs(1);
/// A log of so many pages (of 4 KiB) is carried whole and begun anew, though writers wait for that:
/// while they never rest, it would grow for ever.
const MOST_PAGES: i64 = 16_384;

/// Statements kept prepared: all that the program has, so that none is parsed twice.
const STATEMENTS: usize = 256;

/// A file.
pub(in crate::store) struct Sqlite {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    carrier: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Sqlite {
    /// Opens it, and makes it where there is none.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreError> {
        let connect = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            // No files elsewhere: where we are confined there is no elsewhere.
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            Ok(connection)
        };
        let opened = |source| StoreError::Open { path: path.into(), source };
        let connect = || connect().map_err(opened);
        let (writer, reader, carrier) = (connect()?, connect()?, connect()?);
        let (stop, stopped) = channel::<()>();
        let carries = move || {
            let mut told = false;
            while stopped.recv_timeout(CARRY) == Err(RecvTimeoutError::Timeout) {
                match carry(&carrier) {
                    Ok(()) => told = false,
                    Err(error) if !told => {
                        tracing::error!(
                            "the database's log cannot be written to its file: {error}"
                        );
                        told = true;
                    }
                    Err(_) => {}
                }
            }
        };
        let carrier = thread::Builder::new().name("database".into()).spawn(carries);
        let carrier = carrier.map_err(StoreError::Thread)?;
        Ok(Self {
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            carrier: Some((stop, carrier)),
        })
    }

    /// Asks.
    pub(in crate::store) fn read<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(&mut &*guard(&self.reader))
    }

    /// Writes all of it or nothing.
    pub(in crate::store) fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = guard(&self.writer);
        // The lock at once: what is read here is not old by the time of writing.
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&mut &*transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// The connection that writes.
    pub(in crate::store) fn writer(&self) -> MutexGuard<'_, Connection> {
        guard(&self.writer)
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if let Some((stop, carrier)) = self.carrier.take() {
            drop(stop);
            // Its connection is closed by then: the last that closes tidies the log away.
            let _ = carrier.join();
        }
    }
}

/// Carries what stands in the log to the file.
fn carry(connection: &Connection) -> rusqlite::Result<()> {
    let pages = |how: &str| {
        connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |row| row.get(1))
    };
    // Waits for nobody, and nobody waits for it.
    let left: i64 = pages("PASSIVE")?;
    if left > MOST_PAGES {
        let _: i64 = pages("RESTART")?;
    }
    Ok(())
}

// A panic while a connection was held left at most an open transaction, which SQLite rolls back
// when the transaction's guard is dropped.
fn guard(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sql for &Connection {
    fn execute(&mut self, statement: &str, values: &[Value]) -> Result<u64, StoreError> {
        let touched = self.prepare_cached(statement)?.execute(params_from_iter(values))?;
        Ok(touched as u64)
    }

    fn query(&mut self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let mut prepared = self.prepare_cached(statement)?;
        let columns = prepared.column_count();
        let rows = prepared.query_map(params_from_iter(values), |row| {
            let read = |column| Ok(read(row.get_ref(column)?));
            Ok(Row((0..columns).map(read).collect::<rusqlite::Result<_>>()?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// Tables are strict and have no other types.
fn read(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Integer(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}
