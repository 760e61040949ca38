//! Where the store is.

use super::sql::{Server, ServerError};
use std::{fmt, path::PathBuf, str::FromStr};

/// A file of SQLite, or PostgreSQL.
#[derive(Clone, Debug)]
pub enum Place {
    /// The file.
    File(PathBuf),
    /// The server, and the file of the authority that its certificate is from; none: those that this
    /// host trusts.
    Server {
        /// Which.
        server: Box<Server>,
        /// PEM.
        authority: Option<PathBuf>,
    },
}

impl Place {
    /// With the file of a server's authority.
    pub fn known_by(self, file: Option<PathBuf>) -> Self {
        match self {
            Self::Server { server, authority } => {
                Self::Server { server, authority: file.or(authority) }
            }
            file => file,
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::File("provisioner.sqlite".into())
    }
}

impl FromStr for Place {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = text.starts_with("postgresql://") || text.starts_with("postgres://");
        if !url {
            return Ok(Self::File(text.into()));
        }
        Ok(Self::Server { server: Box::new(text.parse()?), authority: None })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Server { server, .. } => write!(f, "{server}"),
        }
    }
}
