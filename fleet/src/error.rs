//! What keeps a fleet from starting. What befalls a single machine is in the summary.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

/// A fleet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A UDP port cannot be had.
    #[error(
        "UDP {place}: {source}; DHCP needs root (or CAP_NET_BIND_SERVICE and CAP_NET_RAW), and no \
         other DHCP client, relay or server on this host (`ss -ulnp` shows them)"
    )]
    Socket {
        /// Where.
        place: SocketAddrV4,
        /// Why not.
        source: io::Error,
    },
    /// The server's address is none.
    #[error("{0:?} is no provisioner's address: one like http://10.0.0.1:8080 is wanted")]
    NotAServer(String),
    /// Neither is named.
    #[error("name a provisioner (--server) or the interface of its network (--interface)")]
    NoTarget,
    /// No way leads there.
    #[error("there is no way to {server} from this host: {source}")]
    NoWay {
        /// The server.
        server: Ipv4Addr,
        /// Why.
        source: io::Error,
    },
    /// More machines than there are addresses for them.
    #[error("{0} machines are too many: 1 to {most} are simulated", most = crate::machine::MAX_MACHINES)]
    Count(u32),
    /// The provisioner does not say what is asked of it before anything else.
    #[error(
        "{server}/v1/status: {reason}; is it an aliaOS provisioner, with --image, --key, --delegation and --chain?"
    )]
    Status {
        /// The provisioner.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The bed for a provisioner of its own cannot be made.
    #[error(transparent)]
    Bed(#[from] lab::Error),
    /// A file cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something of the system's.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}
