//! The provisioner that `alia fleet` speaks to, and whether its operator means it.

use super::now;
use cli::{
    Error,
    fleet::{Fleet, Site},
};
use std::{
    io::{IsTerminal, Write, stderr, stdin},
    path::Path,
};

/// The provisioner that `alia fleet login` named.
pub(super) fn open(home: &Path) -> Result<Fleet, Error> {
    Ok(Fleet::new(&Site::open(home)?)?)
}

/// Now, in milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// Asks on a terminal; elsewhere nobody can answer.
pub(super) fn meant(question: &str) -> Result<bool, Error> {
    if !stdin().is_terminal() {
        let text =
            format!("{question} Say --yes (of login: --fingerprint) where nobody can be asked");
        return Err(Error::Refused(text));
    }
    let _ = write!(stderr(), "{question} [y/N] ");
    let _ = stderr().flush();
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(Error::file("the terminal"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
