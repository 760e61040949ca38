//! Certificates that carry a key and say nothing else.
//!
//! X.509 version 3 (RFC 5280), self-signed, 206 bytes: serial number 1, issuer and subject
//! `CN=alia`, from 1970-01-01 to 9999-12-31 (4.1.2.5's date for "never"), no extensions. All but
//! key and signature are constant, and ed25519 is deterministic: one key, one certificate.

use crate::provider::SCHEME;
use protocol::{PublicKey, SecretKey};
use rustls::{
    Error, SignatureAlgorithm, SignatureScheme,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    server::ParsedCertificate,
    sign::{CertifiedKey, Signer, SigningKey},
};
use std::sync::Arc;

/// AlgorithmIdentifier: ed25519, no parameters (RFC 8410, 3).
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// What stands before the 32 bytes of a key in a SubjectPublicKeyInfo (RFC 8410, 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Name: one attribute, commonName (2.5.4.3), UTF8String "alia".
const NAME: &[u8] = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x04alia";
/// Validity: UTCTime, then GeneralizedTime.
const VALIDITY: &[u8] = b"\x30\x20\x17\x0d700101000000Z\x18\x0f99991231235959Z";
/// TBSCertificate: 127 bytes; `[0] version 3`, serial number 1.
const TBS: &[u8] = b"\x30\x7f\xa0\x03\x02\x01\x02\x02\x01\x01";
/// Certificate: 203 bytes.
const CERTIFICATE: &[u8] = b"\x30\x81\xcb";
/// BIT STRING of a signature's 64 bytes, none of whose bits are unused.
const SIGNATURE: &[u8] = b"\x03\x41\x00";

/// A key's certificate, signed by itself.
pub fn of(key: &SecretKey) -> CertificateDer<'static> {
    let tbs = [TBS, &ED25519, NAME, VALIDITY, NAME, &SPKI, &key.public().0].concat();
    let signature = key.sign(&tbs);
    let whole = [CERTIFICATE, &tbs, &ED25519, SIGNATURE, &signature.0].concat();
    CertificateDer::from(whole)
}

/// The ed25519 key that a certificate carries; none where it is no certificate, or of another
/// kind of key. Whoever made it, with whatever else in it: nothing else is read.
pub fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let info = parsed.subject_public_key_info();
    let key = info.as_ref().strip_prefix(&SPKI)?;
    Some(PublicKey(key.try_into().ok()?))
}

/// A key as a certificate has it: SubjectPublicKeyInfo.
pub fn key_info(key: &PublicKey) -> Vec<u8> {
    [&SPKI[..], &key.0].concat()
}

/// A key with its certificate, as rustls takes it.
pub fn certified(key: &SecretKey) -> CertifiedKey {
    with(key, of(key))
}

/// A key with a certificate that somebody else made for it.
pub fn with(key: &SecretKey, certificate: CertificateDer<'static>) -> CertifiedKey {
    CertifiedKey::new(vec![certificate], Arc::new(Key(key.clone())))
}

/// Signs handshakes with the project's own ed25519: the key is held once, in one form.
#[derive(Clone, Debug)]
struct Key(SecretKey);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(key_info(&self.0.public()).into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).0.to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}
