//! SQL that SQLite and PostgreSQL both take, and the two behind one trait.
//!
//! Statements are written once, in what both understand: parameters as `?1`, `ON CONFLICT`, `IS
//! DISTINCT FROM`, integers of 64 bits and texts. Rows come as values: no table here has more rows
//! to a question than fit into memory.

mod postgres;
mod sqlite;
mod value;

pub use self::postgres::{Server, ServerError};
pub(super) use self::{postgres::Postgres, sqlite::Sqlite};
pub(super) use value::{Row, Value};

use super::StoreError;

/// What a statement can be given to.
pub(super) trait Sql {
    /// Runs a statement; gives how many rows it touched.
    fn execute(&mut self, statement: &str, values: &[Value]) -> Result<u64, StoreError>;

    /// Runs a question; gives all its rows.
    fn query(&mut self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError>;

    /// The first row, where there is one.
    fn first(&mut self, statement: &str, values: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(statement, values)?.into_iter().next())
    }

    /// Whether there is a row.
    fn exists(&mut self, statement: &str, values: &[Value]) -> Result<bool, StoreError> {
        Ok(self.first(statement, values)?.is_some())
    }
}

/// Which decisions wait for each other. Writers of one part come one after the other, in whatever
/// front-end they are: so what one has looked at still holds when it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Who has which address.
    Leases,
    /// All else.
    Machines,
    /// The tables themselves.
    Schema,
    /// Machines' consoles.
    Console,
}

/// The values of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(super) use values;
