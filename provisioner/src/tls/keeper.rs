//! What is shown in a handshake, and what keeps it new while we run: our own certificate is renewed
//! a month before it ends, and when our addresses change; the operator's is read again when its
//! files change. Connections that are open go on.

use super::{Names, TlsError, at_least_written, ca::Ca, operator};
use protocol::SecretKey;
use rustls::{
    SignatureScheme,
    pki_types::ServerName,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

/// Our own certificate is renewed when less is left of it.
pub const RENEW_SECONDS: u64 = 30 * 86_400;

/// Where our certificate comes from.
pub enum Source {
    /// Our own CA.
    Own(Arc<Ca>),
    /// The operator.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// What we show. One for who verifies by a CA and by names; one for nodes, who know our key.
pub struct Shown {
    certificate: RwLock<Arc<CertifiedKey>>,
    pinned: Option<Arc<CertifiedKey>>,
}

impl Shown {
    fn set(&self, key: CertifiedKey) {
        *self.certificate.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    fn get(&self) -> Arc<CertifiedKey> {
        self.certificate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who takes ed25519 and nothing else is a node: see `mtls`.
        match (hello.signature_schemes(), &self.pinned) {
            ([SignatureScheme::ED25519], Some(pinned)) => Some(pinned.clone()),
            _ => Some(self.get()),
        }
    }
}

/// Keeps it new.
pub struct Keeper {
    source: Source,
    names: Box<dyn Fn() -> Names + Send>,
    shown: Arc<Shown>,
    made_for: Names,
    seen: Option<Stamp>,
    until: u64,
}

/// How a pair of files looked.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All is well.
    Kept,
    /// There is a new certificate.
    Renewed,
}

impl Keeper {
    /// The first certificate, as of `now` (seconds since 1970); also those of our names that it is
    /// for, of which the first belongs into URLs.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub fn start(
        source: Source,
        names: Box<dyn Fn() -> Names + Send>,
        pinned: Option<&SecretKey>,
        now: u64,
    ) -> Result<(Self, Vec<ServerName<'static>>), TlsError> {
        let made_for = names();
        let seen = stamp(&source);
        let (key, covered) = get(&source, &made_for, now)?;
        let until = ends(&key);
        let shown = Arc::new(Shown {
            certificate: RwLock::new(Arc::new(key)),
            pinned: pinned.map(|key| Arc::new(mtls::certificate::certified(key))),
        });
        Ok((Self { source, names, shown, made_for, seen, until }, covered))
    }

    /// What is shown.
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.clone()
    }

    /// Looks whether it is time for a new certificate, as of `now` (seconds since 1970). To be
    /// called every few seconds.
    ///
    /// # Errors
    /// Where one is wanted and there is none to be had: the one before is shown still, and the
    /// next look tries again; for files that are wrong once only until they change.
    pub fn look(&mut self, now: u64) -> Result<Look, TlsError> {
        let names = (self.names)();
        let wanted = match &self.source {
            Source::Own(_) => {
                let ends = self.until < at_least_written(now) + RENEW_SECONDS;
                ends || names != self.made_for
            }
            Source::Files { .. } => {
                let stamp = stamp(&self.source);
                let changed = stamp != self.seen;
                self.seen = stamp;
                changed
            }
        };
        if !wanted {
            return Ok(Look::Kept);
        }
        let (key, _) = get(&self.source, &names, now)?;
        self.until = ends(&key);
        self.made_for = names;
        self.shown.set(key);
        Ok(Look::Renewed)
    }
}

fn get(
    source: &Source,
    names: &Names,
    now: u64,
) -> Result<(CertifiedKey, Vec<ServerName<'static>>), TlsError> {
    match source {
        Source::Own(ca) => Ok((ca.server(names, now)?, names.all().collect())),
        Source::Files { certificate, key } => {
            let brought = operator::read(certificate, key, names, now)?;
            Ok((brought.key, brought.names))
        }
    }
}

fn ends(key: &CertifiedKey) -> u64 {
    key.end_entity_cert().ok().and_then(|certificate| operator::until(certificate)).unwrap_or(0)
}

fn stamp(source: &Source) -> Option<Stamp> {
    let Source::Files { certificate, key } = source else { return None };
    Some([certificate, key].map(|path| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    }))
}
