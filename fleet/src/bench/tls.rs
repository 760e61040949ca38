//! What both sides of the HTTPS rows have in common: a client that believes any certificate, as who
//! it talks to is on this host, and a certificate for the peer.

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{fs, path::Path, sync::Arc};
use tokio_rustls::TlsConnector;

/// The first bytes of such a client; none where it cannot be made.
pub(crate) fn hello() -> Vec<u8> {
    let made = || -> anyhow::Result<Vec<u8>> {
        let name = ServerName::from(std::net::IpAddr::from(lab::net::SERVER));
        let mut client = rustls::ClientConnection::new(connector()?.config().clone(), name)?;
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes)?;
        Ok(bytes)
    };
    made().unwrap_or_default()
}

/// A client of TLS 1.3; no session is taken up again, so that each connection has its handshake.
pub(crate) fn connector() -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A certificate as ours is: ECDSA on P-256.
pub(super) fn own_certificate(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let own = rcgen::generate_simple_self_signed(vec![lab::net::SERVER.to_string()])?;
    fs::write(certificate, own.cert.pem())?;
    fs::write(key, own.signing_key.serialize_pem())?;
    Ok(())
}

#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
