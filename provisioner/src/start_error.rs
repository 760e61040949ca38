//! What keeps a provisioner from starting.

use crate::{
    access::NoRandomness, dhcp::pool::Pool, enrol::AuthorityError, image::ImageError,
    miners::medium::MediumError, net::NetError, net6::Network6, quirks::matching::RulesError,
    store::StoreError, tls::TlsError,
};
use protocol::key::KeyError;
use std::{io, net::Ipv4Addr, path::PathBuf};

/// The provisioner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image is wrong.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The medium for miners is wrong.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// Nobody would be taken in by it.
    #[error(
        "--medium is for machines that are to be taken in: give --key, --delegation and --chain too"
    )]
    MediumAlone,
    /// What is said of firmware is wrong.
    #[error(transparent)]
    Quirks(#[from] RulesError),
    /// Key and delegation do not fit.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read.
    #[error("{what} {path}: {source}{mend}")]
    File {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// The key file holds something else.
    #[error("the key {path}: {source}; make one by `provisioner key {path}`")]
    Key {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The delegation file holds something else.
    #[error("the delegation {path}: {source}; the owner's signed delegation as JSON is wanted")]
    Delegation {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// Only some of what belongs together is given.
    #[error(
        "--key, --delegation and --chain belong together: with all three machines are taken in, \
         without all three they only boot"
    )]
    Partly,
    /// The network has no room for a pool.
    #[error("the network {0} has no room for an address pool: name one by --pool")]
    NoPool(Ipv4Addr),
    /// The pool is elsewhere.
    #[error(
        "the pool {pool} is not within our network, that of {address}: name another by --pool, or, \
         where a relay is in its network, that network's prefix too (FIRST-LAST/24)"
    )]
    PoolElsewhere {
        /// The pool.
        pool: Pool,
        /// Our address.
        address: Ipv4Addr,
    },
    /// Nobody there would find us.
    #[error(
        "the pool {0} is of a network that is not ours, and its machines reach us through a router \
         alone: name its address there by --router"
    )]
    NoRouter(Pool),
    /// The IPv6 network has no room for a pool.
    #[error("the network {0} has no room for a pool of IPv6 addresses: name one by --pool6")]
    NoPool6(Network6),
    /// Something of the system's.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// No token can be made.
    #[error(transparent)]
    Token(#[from] NoRandomness),
    /// The HTTP client for parameter servers cannot be made.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
