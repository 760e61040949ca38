//! What we give up once all ports are ours: root, capabilities, ever getting more of them, and the
//! files and ports that are none of our business.
//!
//! The kernel keeps all of it by thread, and what a thread starts inherits it: so [`enter`] comes
//! before the first thread does. Nothing later needs rights: ports are not taken anew, the raw socket
//! for router advertisements is open, a transfer's own port is one that anybody may have.
//!
//! The database and our CA are opened after, so that they are the user's: a file that root made here
//! the next start could not write.

mod landlock;
mod rules;
mod user;

pub use self::landlock::Kept;
pub use rules::Rules;

use crate::config::Options;
use nix::{errno::Errno, sys::prctl, unistd::geteuid};
use std::fmt;

/// We cannot be confined as was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// No such user.
    #[error("there is no user {0:?} on this host: useradd --system {0} makes one")]
    NoUser(String),
    /// Root is no user without rights.
    #[error("the user {0:?} is root, whose rights are to be given up: name another")]
    Root(String),
    /// Only root becomes somebody else.
    #[error("to run as user {0:?} we have to be started as root, or as that user")]
    NotRoot(String),
    /// The system refuses.
    #[error("{0}: {1}")]
    System(&'static str, Errno),
    /// It did not hold.
    #[error("root's rights were given up, and could be had back: this is not gone on with")]
    Regained,
    /// Capabilities cannot be given up.
    #[error("capabilities cannot be given up: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    /// Landlock refuses what every kernel that has it takes.
    #[error("Landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
}

/// What holds us now.
#[derive(Clone, Debug)]
pub struct Confined {
    user: Option<String>,
    root: bool,
    kept: Option<Kept>,
}

/// Gives up what is not needed any more. To be called before any thread is started.
pub fn enter(options: &Options) -> Result<Confined, ConfineError> {
    if let Some(name) = &options.user {
        user::become_them(name)?;
    }
    let root = geteuid().is_root();
    if !root {
        user::drop_capabilities()?;
    }
    let kept = match options.unconfined {
        true => None,
        false => {
            prctl::set_no_new_privs()
                .map_err(|error| ConfineError::System("no new privileges", error))?;
            Some(landlock::enter(&Rules::of(options))?)
        }
    };
    Ok(Confined { user: options.user.clone(), root, kept })
}

impl Confined {
    /// Whether root's rights are still ours.
    pub fn is_root(&self) -> bool {
        self.root
    }
}

/// For the banner.
impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("confined     ")?;
        match (&self.user, self.root) {
            (_, true) => f.write_str("still root (--user NAME)")?,
            (Some(user), false) => write!(f, "user {user}, no capabilities")?,
            (None, false) => f.write_str("no capabilities")?,
        }
        match &self.kept {
            Some(kept) => write!(f, ", no new privileges, {kept}"),
            None => f.write_str(", new privileges and all files (--unconfined)"),
        }
    }
}
