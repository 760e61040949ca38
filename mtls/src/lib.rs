//! TLS 1.3 between two ed25519 keys that know each other.
//!
//! A node and its operator are known by keys: the provisioner signed which, long before they
//! speak. So a certificate here only carries a key. There is no authority to ask, no name to
//! compare, and dates are not looked at: they bound how long an authority's word may be repeated
//! by others, and here nobody's word is repeated. What counts is that the key is one that was
//! named beforehand, and that the peer signed this very handshake with it; a node whose clock
//! stands at 1970 loses nothing.
//!
//! [`server`] and [`client`] are the two configurations, [`certificate`] makes certificates,
//! [`verify`] judges them. [`server_to_anybody`] is for what is public. [`client_showing`] is for nodes that speak to their provisioner, which
//! they know by its key, and which knows them by a certificate that it made; [`client_of_nobody`] is
//! for those that it does not know yet.
//!
//! **Never** speaks TLS 1.2, resumes a session, takes early data, or tells a stranger anything
//! but that it is one.

pub mod certificate;
mod provider;
pub mod verify;

pub use provider::provider;

use protocol::{PublicKey, SecretKey};
use rustls::{
    ClientConfig, ServerConfig, client::Resumption, pki_types::CertificateDer,
    server::NoServerSessionStorage, sign::SingleCertAndKey, version::TLS13,
};
use std::sync::Arc;

/// The protocol within, as ALPN names it.
const HTTP: &[u8] = b"http/1.1";

/// Says whether a key may connect.
pub type Knows = dyn Fn(&PublicKey) -> bool + Send + Sync;

/// A server that is known by `key`, and speaks to those alone whom it knows.
///
/// # Errors
/// Where rustls refuses its own settings: a mistake of ours.
pub fn server(key: &SecretKey, knows: Arc<Knows>) -> Result<ServerConfig, rustls::Error> {
    let identity = SingleCertAndKey::from(certificate::certified(key));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verify::Known::new(knows)))
        .with_cert_resolver(Arc::new(identity));
    // Each connection proves its key anew, so that a key that is known no longer has no way in.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// A server that is known by `key`, and speaks to anybody: what it gives is public.
///
/// # Errors
/// Where rustls refuses its own settings: a mistake of ours.
pub fn server_to_anybody(key: &SecretKey) -> Result<ServerConfig, rustls::Error> {
    let identity = SingleCertAndKey::from(certificate::certified(key));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(identity));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// A client that is known by `key`, and speaks to the server of the key `wanted` alone.
///
/// # Errors
/// Where rustls refuses its own settings: a mistake of ours.
pub fn client(key: &SecretKey, wanted: PublicKey) -> Result<ClientConfig, rustls::Error> {
    client_showing(key, certificate::of(key), wanted)
}

/// The same, where the server knows not the key but who made a certificate for it: a provisioner,
/// whose certificates last for a day.
///
/// # Errors
/// Where rustls refuses its own settings: a mistake of ours.
pub fn client_showing(
    key: &SecretKey,
    certificate: CertificateDer<'static>,
    wanted: PublicKey,
) -> Result<ClientConfig, rustls::Error> {
    let identity = SingleCertAndKey::from(certificate::with(key, certificate));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::Pinned::new(wanted)))
        .with_client_cert_resolver(Arc::new(identity));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

/// A client that says nothing of itself, and speaks to the server of the key `wanted` alone.
///
/// # Errors
/// Where rustls refuses its own settings: a mistake of ours.
pub fn client_of_nobody(wanted: PublicKey) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::Pinned::new(wanted)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
