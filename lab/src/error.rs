//! What can go wrong on the test bed, whose it is, and what to do.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

/// Why the test bed cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed: the package {package} has it ({why})")]
    NoTool {
        /// The program.
        program: String,
        /// Its package.
        package: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// The user may not do what is needed.
    #[error("{what} needs root here ({why}): run as root, or {mend}")]
    NeedsRoot {
        /// What.
        what: &'static str,
        /// Why the way without root is closed.
        why: String,
        /// What would open it.
        mend: &'static str,
    },
    /// A port is taken.
    #[error(
        "{address} is taken by another program (`ss -ltnp 'sport = :{}'` shows which): stop it, or choose another port",
        address.port()
    )]
    BusyPort {
        /// The port.
        address: SocketAddr,
    },
    /// A child process could not be started.
    #[error("{name}: {program} cannot be started: {source}")]
    Spawn {
        /// The service's or machine's name.
        name: String,
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A child process ended that should have gone on.
    #[error("{name} ended ({status}); its log is {log}, which ends:\n{tail}")]
    Ended {
        /// Its name.
        name: String,
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{name}: {what} did not come within {} s; its log is {log}, which ends:\n{tail}", limit.as_secs())]
    TooLate {
        /// The service's or machine's name.
        name: String,
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A tool of the host refused.
    #[error("{tool}: {detail}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// What it said.
        detail: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, or the file.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {detail}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A package cannot be had.
    #[error(transparent)]
    Package(#[from] image::Error),
}

/// Adds what was being done to an I/O error.
pub(crate) trait At<T> {
    fn at(self, what: impl ToString) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl ToString) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what.to_string(), source })
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, what: impl ToString) -> Result<T, Error> {
        self.map_err(|errno| Error::Io { what: what.to_string(), source: errno.into() })
    }
}
