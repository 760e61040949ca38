//! What rustls is told.

use super::{TlsError, ca::Ca, ffdhe, keeper::Shown};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// The protocol within, as ALPN names it.
const HTTP: &[u8] = b"http/1.1";

/// TLS 1.2, which firmware speaks, and 1.3. Whoever shows a certificate shows one of our CA's that
/// has not ended; nobody has to show any: what asks for one is the router's to say.
///
/// # Errors
/// Where rustls refuses: a mistake of ours.
pub fn config(ca: &Ca, shown: Arc<Shown>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(ca.roots()?, provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    settle(&mut config);
    Ok(config)
}

/// TLS 1.2 by a key exchange without curves, for firmware that knows none. It asks for no certificate:
/// no node speaks it.
///
/// # Errors
/// Where rustls refuses: a mistake of ours.
pub fn without_curves(shown: Arc<Shown>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ffdhe::provider()))
        .with_protocol_versions(&[&TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    settle(&mut config);
    Ok(config)
}

fn settle(config: &mut ServerConfig) {
    // A session that was taken up again would outlive the certificate that it began with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![HTTP.to_vec()];
}
