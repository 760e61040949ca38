//! HTTPS: who vouches for us, and for nodes.
//!
//! ```text
//! ca.key, ca.pem --signs--> our certificate (90 days, in memory alone) --> firmware, people
//!                --signs--> nodes' certificates (24 h)                 --> us
//! ca-rsa.key, ca-rsa.pem --signs--> our RSA certificate (likewise)     --> firmware without curves
//! --tls-certificate, --tls-key: the operator's, instead of the first of the two
//! --key: nodes know us by it alone, whatever a CA says
//! ```
//!
//! [`ca`] is our own certificate authority, made at the first start; [`operator`] reads what an
//! operator brings; [`keeper`] renews the one and reads the other again, while connections go on;
//! [`node`] reads whom a node's certificate names, [`server`] is what rustls is told, [`start`] puts them together.
//!
//! **What firmware takes.** EDK2 verifies by OpenSSL. It compares the address of a URL with the
//! certificate's (IP addresses since 2019), asks for 128 bits of security since its OpenSSL is 3.5
//! (RSA of 2,048 bits is then too weak: edk2#12651, PR 12681), and looks at no dates
//! (`X509_V_FLAG_NO_CHECK_TIME` in its `TlsInit.c`), which other firmware may. Keys here are ECDSA on
//! P-256 with SHA-256. **Not every firmware knows elliptic curves**: Debian's OVMF (trixie) offers
//! DHE-RSA and RSA alone, and refuses a CA on P-256 before it connects. Such firmware is given
//! another CA, of RSA keys, and a client that offers no curve gets [`ffdhe`] and a certificate by it;
//! nobody else does.
//!
//! **Dates.** A machine's clock may say 1970, 2010, or nothing at all, and so may ours. Nothing here
//! is protected by a beginning: certificates are valid from 1970. Our own one ends 90 days after now,
//! or after this program was written, where our clock says that it is earlier.

pub mod ca;
mod constraints;
pub mod ffdhe;
pub mod keeper;
pub mod node;
pub mod operator;
pub mod server;
pub mod start;

use rustls::pki_types::ServerName;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// It was later than this when this program was written: 1 November 2026, seconds since 1970.
pub const WRITTEN: u64 = 1_793_491_200;

/// The later of now and when this program was written: a clock that says less is wrong.
pub fn at_least_written(now: u64) -> u64 {
    now.max(WRITTEN)
}

/// What we are called: by machines, in URLs; and by people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Our addresses. The first is that of our URLs.
    pub addresses: Vec<IpAddr>,
    /// Host names.
    pub hosts: Vec<String>,
}

impl Names {
    /// Addresses first: they need no DNS. What is no name of a host is left out; the configuration
    /// was checked for it.
    pub fn all(&self) -> impl Iterator<Item = ServerName<'static>> + '_ {
        let addresses = self.addresses.iter().map(|&address| ServerName::from(address));
        let hosts = self.hosts.iter().filter_map(|host| ServerName::try_from(host.clone()).ok());
        addresses.chain(hosts)
    }

    /// Each name alone, in the order of [`Names::all`].
    fn each(&self) -> impl Iterator<Item = Self> + '_ {
        let addresses = self
            .addresses
            .iter()
            .map(|&address| Self { addresses: vec![address], hosts: Vec::new() });
        let hosts = self.hosts.iter().filter(|host| ServerName::try_from(host.as_str()).is_ok());
        let hosts = hosts.map(|host| Self { addresses: Vec::new(), hosts: vec![host.clone()] });
        addresses.chain(hosts)
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let all: Vec<String> = addresses.chain(self.hosts.iter().cloned()).collect();
        f.write_str(&all.join(", "))
    }
}

/// `https://HOST:PORT` for one of our names.
pub fn url(name: &ServerName<'_>, port: u16) -> String {
    match name {
        ServerName::IpAddress(address) => {
            format!("https://{}", SocketAddr::new((*address).into(), port))
        }
        name => format!("https://{}:{port}", name.to_str()),
    }
}

/// TLS cannot be had. What is wrong is on this host.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
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
    /// A file that holds something else.
    #[error("{what} {path} holds none: {detail}; PEM is wanted (-----BEGIN …)")]
    NotPem {
        /// What it should be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// One half of our CA is gone.
    #[error(
        "{folder} has {certificate} and no {key}: put the key back; without it, remove {certificate} \
         too, and a new CA is made, which all machines that know the old one have to be given"
    )]
    NoCaKey {
        /// The folder.
        folder: PathBuf,
        /// The certificate's file.
        certificate: &'static str,
        /// The key's.
        key: &'static str,
    },
    /// The key is another certificate's.
    #[error(
        "the key {key} does not fit the first certificate of {certificate}: give the key that this \
         certificate was made for, and the server's own certificate first, then those above it"
    )]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// Its time is over, or has not come.
    #[error(
        "the certificate {path} is valid from {from} to {to}, and it is {now} by this host's clock: \
         {mend}"
    )]
    Dates {
        /// The certificate's file.
        path: PathBuf,
        /// Its first day.
        from: String,
        /// Its last.
        to: String,
        /// Now.
        now: String,
        /// What to do.
        mend: &'static str,
    },
    /// It names somebody else.
    #[error(
        "the certificate {path} is for {theirs}, and we are {ours}: have one made for one of these, \
         or name its host by --name, if machines find us under it"
    )]
    OtherName {
        /// The certificate's file.
        path: PathBuf,
        /// Whom it is for.
        theirs: String,
        /// Who we are.
        ours: String,
    },
    /// Our CA may not vouch for a name.
    #[error(
        "our CA {path} vouches for private addresses, for local host names, and for the names that \
         it was made with, not for {name}: use another name; or bring a certificate of your own \
         (--tls-certificate); or remove the CA, and a new one is made, which all machines that know \
         the old one have to be given"
    )]
    NotPermitted {
        /// The CA's file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Half of what is wanted.
    #[error("--tls-certificate and --tls-key belong together: give both, or neither")]
    Half,
    /// Making a certificate failed.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// TLS refuses what it is given.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier of nodes refuses our CA.
    #[error("our CA is no use for nodes' certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl TlsError {
    fn file(
        what: &'static str,
        path: &std::path::Path,
        mend: &'static str,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source, mend }
    }
}
