//! What we would answer to a captured exchange, and why; beside it what was answered.
//!
//! A capture goes `capture` (pcap, pcapng) -> `frame` (Ethernet, VLAN, IP, UDP) -> `walk` (DHCP,
//! the boot server, TFTP) -> `report`. `scene` says where we stand: by default in the place of
//! whoever answered there, so that what a machine asked of that server is asked of us. No socket
//! is opened, and the database is thrown away.
//!
//! Captures are foreign bytes: all that is read is bounded, and the fuzzer has a target for it.

pub mod capture;
pub mod compare;
pub mod frame;
pub mod heard;
pub mod options;
pub mod report;
pub mod scene;
pub mod tftp;
pub mod walk;

pub use options::ReplayOptions;
pub use report::Report;

use crate::{
    dhcp::answerer::Answerer,
    quirks::{Rules, matching::RulesError},
    start_error::StartError,
    store::{Place, Store, StoreError},
};
use scene::Scene;
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

/// The longest capture: a storm of a thousand machines' DHCP and TFTP requests has some MB.
pub const MAX_FILE_LEN: u64 = 256 << 20;

/// A capture cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("the capture {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// More than is read.
    #[error(
        "the capture {path} has {found} bytes, at most {MAX_FILE_LEN} are read: keep what matters \
         (tcpdump -r … -w … 'udp port 67 or 68 or 69 or 4011')"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// No capture.
    #[error("{path}: {source}")]
    Capture {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: capture::CaptureError,
    },
    /// The configuration does not fit.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What is said of firmware is wrong.
    #[error(transparent)]
    Quirks(#[from] RulesError),
    /// A flag or the file named by --config is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The database that is thrown away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Room for it.
    #[error("a temporary folder: {0}")]
    Temporary(io::Error),
}

/// Reads the capture that the options name, and answers it.
pub fn run(options: ReplayOptions) -> Result<Report, ReplayError> {
    let path = options.file.clone();
    let failed = |source| ReplayError::Read { path: path.clone(), source };
    let found = std::fs::metadata(&path).map_err(failed)?.len();
    if found > MAX_FILE_LEN {
        return Err(ReplayError::TooLong { path, found });
    }
    let bytes = std::fs::read(&path).map_err(failed)?;
    let capture = capture::read(&bytes)
        .map_err(|source| ReplayError::Capture { path: path.clone(), source })?;

    let options = options.serve().with_file()?;
    let rules = Rules::load(options.quirks.as_deref(), options.hands())?;
    let folder = tempfile::tempdir().map_err(ReplayError::Temporary)?;
    let store = Store::open(&Place::File(folder.path().join("replay.sqlite")), BTreeMap::new())?;
    let datagrams = frame::datagrams(&capture);
    let scene = Scene::of(&datagrams, &options);
    let answerer = Answerer::new(scene.settings(&options)?, rules, Arc::new(store));
    Ok(walk::walk(&capture, &datagrams, &scene, &answerer, options.ipxe.as_deref()))
}
