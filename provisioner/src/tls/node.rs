//! Whom a node's certificate names.

use crate::machine::Mac;
use protocol::{Digest, PublicKey};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Stands before the MAC address in a certificate's common name.
pub(super) const NAME: &str = "aliaOS node ";

/// A node that showed a certificate of our CA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its machine.
    pub mac: Mac,
    /// Its key, with which it signed the handshake.
    pub key: PublicKey,
    /// The boot in which it was taken in.
    pub boot_id: Digest,
    /// When the certificate ends, seconds since 1970.
    pub until: u64,
}

impl Node {
    /// Reads a certificate; none where it is no node's.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let key = mtls::certificate::key_of(certificate)?;
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let subject = read.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?;
        let boot_id = subject.iter_organizational_unit().next()?.as_str().ok()?;
        Some(Self {
            mac: name.strip_prefix(NAME)?.parse().ok()?,
            key,
            boot_id: boot_id.parse().ok()?,
            until: u64::try_from(read.validity().not_after.timestamp()).ok()?,
        })
    }
}
