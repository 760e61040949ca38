//! What can go wrong, and the exit code that a script sees.

use crate::{
    fetch::FetchError,
    fleet::{FleetError, SiteError},
    folder::FolderError,
    home::HomeError,
    job_file::JobFileError,
    medium::MediumError,
    node::{NodeError, TargetError},
    prepare::PrepareError,
    release::CheckError,
    replay::ReplayError,
    translate::TranslateError,
};
use compute::client::ClientError;
use identity::keyfile::KeyFileError;
use ledger_client::{AddressError, QueryError, RpcError, SubmitError, verify::VerifyError};
use std::{io, path::PathBuf, process::ExitCode};

/// How the command ends, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Ok = 0,
    /// It could not be done.
    Failed = 1,
    /// It was called wrongly.
    Usage = 2,
    /// A proof or a replay found a lie.
    Lie = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The home folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The owner's key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// JOB.toml.
    #[error(transparent)]
    JobFile(#[from] JobFileError),
    /// A corpus, or what is asked of it.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A job's folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The parameter server.
    #[error(transparent)]
    Server(#[from] ClientError),
    /// A ledger's address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A transaction was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A question to the ledger.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The ledger does not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Something is not proven.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A result.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A release.
    #[error(transparent)]
    Release(#[from] CheckError),
    /// A replay that could not be done.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A translation.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// A medium.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// Which node is meant.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A provisioner, asked by its operator.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// Which provisioner.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// A node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Randomness(#[from] protocol::key::KeyError),
    /// A file that the user named.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was asked for cannot be had, for this reason.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// The exit code: whether a lie was found.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Medium(MediumError::NotItsWord(_) | MediumError::Altered { .. }) => Exit::Lie,
            Self::Release(error) if error.is_lie() => Exit::Lie,
            Self::Verify(VerifyError::Lie { .. })
            | Self::Fetch(FetchError::Lie(_) | FetchError::Verify(VerifyError::Lie { .. }))
            | Self::Replay(ReplayError::Verify(VerifyError::Lie { .. }))
            | Self::Translate(TranslateError::Fetch(
                FetchError::Lie(_) | FetchError::Verify(VerifyError::Lie { .. }),
            )) => Exit::Lie,
            _ => Exit::Failed,
        }
    }

    /// A file's error.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
