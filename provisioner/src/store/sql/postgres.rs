//! PostgreSQL: one fleet's truth for any number of front-ends.
//!
//! Who writes holds an advisory lock of its part for the length of its transaction, so that writers
//! come one after the other as SQLite has them, and none decides on what another is about to change.
//! Where the server is gone, each question fails at once until it is back; who asked asks again.

use super::{Part, Row, Sql, Value};
use crate::store::StoreError;
use bytes::BytesMut;
use postgres::{
    Client, Config, Statement,
    config::{Host, SslMode},
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    collections::HashMap,
    error::Error,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections of one front-end. PostgreSQL lets a hundred in, of all.
const MOST: usize = 8;
/// How long a connection is waited for.
const CONNECT: Duration = Duration::from_secs(3);
/// After a failed attempt, the next ones fail at once for so long: machines ask again by themselves,
/// and what waits here is old when it is answered.
const REST: Duration = Duration::from_millis(500);
/// An idle connection is asked whether it lives where it was used longer ago.
const TRUSTED: Duration = Duration::from_secs(1);
/// Of a session: no statement takes long, and a front-end that died with a transaction open holds
/// nobody up for longer.
const SESSION: &str = "SET statement_timeout = '10s'; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '10s'; SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;
    SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning";
/// Advisory locks are numbers; these are ours ("alia" in ASCII, and the part).
const LOCK: i32 = 0x616c_6961;

/// Which server, and how it is spoken to.
#[derive(Clone)]
pub struct Server {
    config: Config,
}

/// No server is named so.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The URL is none.
    #[error("{0}; postgresql://USER@HOST/DATABASE is wanted")]
    Url(String),
    /// A password where everybody sees it.
    #[error("a password in the database's URL is seen by all: give it in PGPASSWORD")]
    Password,
    /// The authority's certificate cannot be used.
    #[error("the database's authority {path}: {why}; a file of certificates as PEM is wanted")]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The host trusts nobody.
    #[error(
        "the database is on another host, and this one has no authorities to know it by ({0}): name \
         the file of its authority by --database-ca"
    )]
    Nobody(String),
    /// TLS cannot be set up.
    #[error("TLS to the database: {0}")]
    Tls(#[from] rustls::Error),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgreSQL")?;
        for host in self.config.get_hosts() {
            match host {
                Host::Tcp(name) => write!(f, " {name}")?,
                Host::Unix(path) => write!(f, " {}", path.display())?,
            }
        }
        write!(f, ", database {}", self.config.get_dbname().unwrap_or("of the user's name"))
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let mut config = Config::from_str(url)
            .map_err(|error| ServerError::Url(protocol::told(&error).to_string()))?;
        if config.get_password().is_some() {
            return Err(ServerError::Password);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(ServerError::Url("it names no host".into()));
        }
        config
            .application_name("aliaOS provisioner")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(5));
        Ok(Self { config })
    }
}

impl Server {
    /// The ports that it is reached at.
    pub fn ports(&self) -> Vec<u16> {
        match self.config.get_ports() {
            [] => vec![5432],
            given => given.to_vec(),
        }
    }

    /// Whether it is reached without leaving this host.
    fn is_here(&self) -> bool {
        let loopback = |ip: &IpAddr| ip.is_loopback();
        let here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        };
        self.config.get_hosts().iter().all(here) && self.config.get_hostaddrs().iter().all(loopback)
    }

    /// TLS, and whom it knows. What leaves this host goes by TLS alone, to a server whose
    /// certificate was verified, unless the URL says `sslmode=disable`.
    fn tls(&mut self, authority: Option<&Path>) -> Result<MakeRustlsConnect, ServerError> {
        let mut roots = RootCertStore::empty();
        let wanted = self.config.get_ssl_mode() != SslMode::Disable && !self.is_here();
        let mode = if wanted { SslMode::Require } else { SslMode::Disable };
        self.config.ssl_mode(mode);
        if let Some(path) = authority {
            let wrong = |why: String| ServerError::Authority { path: path.into(), why };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("it holds no certificate".into()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        } else if wanted {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found.errors.first().map_or("none".into(), ToString::to_string);
                return Err(ServerError::Nobody(why));
            }
            roots.add_parsable_certificates(found.certs);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider().into();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(client))
    }
}

/// Connections to a server.
pub(in crate::store) struct Postgres {
    config: Config,
    tls: MakeRustlsConnect,
    pool: Mutex<Pool>,
    given_back: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    /// Those in use and idle.
    made: usize,
    /// None is tried before.
    rests_until: Option<Instant>,
}

/// One connection, with the statements that it knows.
struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
    used: Instant,
}

impl Postgres {
    /// Connects for the first time: what is wrong with address or password is told now.
    pub(in crate::store) fn open(
        mut server: Server,
        authority: Option<&Path>,
    ) -> Result<Self, StoreError> {
        let tls = server.tls(authority)?;
        if let Ok(password) = std::env::var("PGPASSWORD") {
            server.config.password(password);
        }
        let made =
            Self { config: server.config, tls, pool: Mutex::default(), given_back: Condvar::new() };
        made.with(|_| Ok(()))?;
        Ok(made)
    }

    /// Asks.
    pub(in crate::store) fn read<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|connection| work(connection))
    }

    /// Writes all of it or nothing, while no other front-end writes to that part.
    pub(in crate::store) fn write<T>(
        &self,
        part: Part,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|connection| {
            let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}, {})", part as i32);
            connection.client.batch_execute(&begin)?;
            match work(connection) {
                Ok(done) => {
                    connection.client.batch_execute("COMMIT")?;
                    Ok(done)
                }
                Err(error) => {
                    // Where this fails too the connection goes, and the transaction with it.
                    let _ = connection.client.batch_execute("ROLLBACK");
                    Err(error)
                }
            }
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lent = Lent { pool: self, connection: Some(self.take()?) };
        let Some(connection) = &mut lent.connection else { return Err(StoreError::Stopping) };
        let done = work(connection);
        if connection.client.is_closed() {
            lent.connection = None;
        }
        done
    }

    /// Connections in use, and the most that there may be.
    pub(in crate::store) fn in_use(&self) -> (u64, u64) {
        let pool = self.pool();
        (pool.made.saturating_sub(pool.idle.len()) as u64, MOST as u64)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Connection, StoreError> {
        let mut pool = self.pool();
        loop {
            while let Some(mut connection) = pool.idle.pop() {
                // One that the server closed meanwhile is found out by asking.
                let lives = !connection.client.is_closed()
                    && (connection.used.elapsed() < TRUSTED
                        || connection.client.is_valid(CONNECT).is_ok());
                if lives {
                    return Ok(connection);
                }
                pool.made -= 1;
            }
            if pool.rests_until.is_some_and(|until| Instant::now() < until) {
                return Err(StoreError::Resting);
            }
            if pool.made < MOST {
                break;
            }
            pool = self.given_back.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        pool.made += 1;
        drop(pool);
        let connected = self.config.connect(self.tls.clone()).and_then(|mut client| {
            client.batch_execute(SESSION)?;
            Ok(Connection { client, statements: HashMap::new(), used: Instant::now() })
        });
        connected.map_err(|error| {
            let mut pool = self.pool();
            pool.made -= 1;
            pool.rests_until = Some(Instant::now() + REST);
            self.given_back.notify_one();
            StoreError::Connect(error)
        })
    }
}

/// A client that is dropped says goodbye and waits for that, which no asynchronous caller may.
impl Drop for Postgres {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.pool().idle);
        std::thread::spawn(move || drop(idle));
    }
}

/// A connection on loan. One that is not given back (a panic, a server gone) is closed.
struct Lent<'a> {
    pool: &'a Postgres,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.pool.pool();
        match self.connection.take().filter(|_| !std::thread::panicking()) {
            Some(mut connection) => {
                connection.used = Instant::now();
                pool.idle.push(connection);
            }
            None => pool.made -= 1,
        }
        self.pool.given_back.notify_one();
    }
}

impl Connection {
    /// Prepared once for a connection. There are some dozens of statements in all.
    fn prepared(&mut self, statement: &str) -> Result<Statement, StoreError> {
        if let Some(known) = self.statements.get(statement) {
            return Ok(known.clone());
        }
        // `?1` of SQLite is `$1` here; no text of ours has a question mark.
        let prepared = self.client.prepare(&statement.replace('?', "$"))?;
        self.statements.insert(statement.into(), prepared.clone());
        Ok(prepared)
    }
}

impl Sql for Connection {
    fn execute(&mut self, statement: &str, values: &[Value]) -> Result<u64, StoreError> {
        let prepared = self.prepared(statement)?;
        Ok(self.client.execute(&prepared, &borrowed(values))?)
    }

    fn query(&mut self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let prepared = self.prepared(statement)?;
        let rows = self.client.query(&prepared, &borrowed(values))?;
        let read = |row: &postgres::Row| {
            let values = (0..row.len()).map(|column| row.try_get(column));
            Ok(Row(values.collect::<Result<_, postgres::Error>>()?))
        };
        rows.iter().map(read).collect()
    }
}

fn borrowed(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

impl ToSql for Value {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *of == Type::INT4 => i32::try_from(*number)?.to_sql(of, out),
            Self::Integer(number) => number.to_sql(of, out),
            // PostgreSQL's texts hold no zero, and machines' words may.
            Self::Text(text) if text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(of, out)
            }
            Self::Text(text) => text.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::INT8 | Type::INT4 | Type::TEXT)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *of {
            Type::INT8 => Self::Integer(i64::from_sql(of, raw)?),
            Type::INT4 => Self::Integer(i32::from_sql(of, raw)?.into()),
            _ => Self::Text(String::from_sql(of, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::INT8 | Type::INT4 | Type::TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_host_goes_by_tls_and_a_password_is_not_shown() {
        let server = |url: &str| url.parse::<Server>();
        let mode = |url: &str| {
            let mut server = server(url).unwrap();
            let here = server.is_here();
            server.config.ssl_mode(if here { SslMode::Disable } else { SslMode::Require });
            here
        };
        assert!(mode("postgresql://alia@localhost/fleet"));
        assert!(mode("postgresql://alia@127.0.0.1/fleet"));
        assert!(mode("postgresql:///fleet?host=/run/postgresql"));
        assert!(!mode("postgresql://alia@db.example/fleet"));
        assert!(!mode("postgresql://alia@localhost,db.example/fleet"));
        let told = server("postgresql://alia@db.example/fleet").unwrap().to_string();
        assert_eq!(told, "PostgreSQL db.example, database fleet");
        assert!(matches!(server("postgresql://a:b@localhost/x"), Err(ServerError::Password)));
        assert!(matches!(server("postgresql:///x"), Err(ServerError::Url(_))));
        assert!(matches!(server("nonsense"), Err(ServerError::Url(_))));
    }

    #[test]
    fn an_authority_that_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let tls = |file: &Path| {
            let mut server: Server = "postgresql://alia@db.example/fleet".parse().unwrap();
            server.tls(Some(file)).map(drop).unwrap_err().to_string()
        };
        assert!(tls(&file).contains("ca.pem"), "{}", tls(&file));
        std::fs::write(&file, "nothing").unwrap();
        assert!(tls(&file).contains("holds no certificate"), "{}", tls(&file));
    }
}
