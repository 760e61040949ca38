//! The commands, a file each: flags, a call into the library, and what is shown of it.

pub(crate) mod fleet;
mod fleet_groups;
mod fleet_media;
mod fleet_site;
mod fleet_tables;
pub(crate) mod init;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod medium;
pub(crate) mod node;
pub(crate) mod receipts;
pub(crate) mod release;
pub(crate) mod replay;
pub(crate) mod translate;

use cli::{Error, Home};
use std::{
    io::{IsTerminal, Write, stderr, stdin},
    num::NonZero,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The home folder as the flag or the environment names it.
pub(crate) struct HomeFlag(pub(crate) Option<PathBuf>);

impl HomeFlag {
    pub(crate) fn folder(&self) -> Result<PathBuf, Error> {
        Ok(Home::folder(self.0.clone())?)
    }

    pub(crate) fn open(&self) -> Result<Home, Error> {
        Ok(Home::open(&self.folder()?)?)
    }
}

/// The time since 1970, by this machine's clock.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How many threads compute: the machine's, unless told.
fn threads(told: Option<usize>) -> usize {
    told.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get)).max(1)
}

/// Asks on a terminal; elsewhere nobody can answer, and the flags that do are told.
fn meant(question: &str, flags: &str) -> Result<bool, Error> {
    if !stdin().is_terminal() {
        let text = format!("{question} Say {flags} where nobody can be asked");
        return Err(Error::Refused(text));
    }
    let _ = write!(stderr(), "{question} [y/N] ");
    let _ = stderr().flush();
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(Error::file("the terminal"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
