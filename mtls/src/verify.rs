//! Judges certificates: by the key alone.

use crate::{Knows, certificate, provider::SCHEME};
use protocol::{PublicKey, Signature};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{fmt, sync::Arc};

/// The server is the one of this key.
#[derive(Debug)]
pub struct Pinned(PublicKey);

/// The client is one that is known.
pub struct Known(Arc<Knows>);

impl Pinned {
    /// Wants the server of this key.
    pub fn new(key: PublicKey) -> Self {
        Self(key)
    }
}

impl Known {
    /// Takes those clients that `knows` says yes to. It is asked at each connection.
    pub fn new(knows: Arc<Knows>) -> Self {
        Self(knows)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

/// The key of a certificate that a peer showed.
fn shown(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    certificate::key_of(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// The peer is somebody else: TLS says `access_denied`.
const STRANGER: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

/// Whether the peer signed this handshake with the key that it showed. `message` holds the digest
/// of all that was said (RFC 8446, 4.4.3), so no other handshake's signature fits.
fn signed(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if signature.scheme != SCHEME {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let wrong = || Error::InvalidCertificate(CertificateError::BadSignature);
    let bytes = signature.signature().try_into().map_err(|_| wrong())?;
    shown(certificate)?.verify(message, &Signature(bytes)).map_err(|_| wrong())?;
    Ok(HandshakeSignatureValid::assertion())
}

fn not_tls_1_2() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if shown(end_entity)? == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(STRANGER)
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        not_tls_1_2()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

impl ClientCertVerifier for Known {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if (self.0)(&shown(end_entity)?) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(STRANGER)
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        not_tls_1_2()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}
