//! HTTPS as the options want it: everything that can be wrong is told at the start.

use super::{
    Names, TlsError,
    ca::Ca,
    keeper::{Keeper, Look, Source},
    server, url,
};
use crate::{config::Options, net, store::Place, timeline::unix_ms};
use protocol::SecretKey;
use rustls::ServerConfig;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How often it is looked whether a certificate has to be renewed or read again.
const PERIOD: Duration = Duration::from_secs(10);

/// HTTPS, ready to be served.
pub struct Https {
    /// Our CA, which vouches for nodes.
    pub ca: Arc<Ca>,
    /// Whether it vouches for us too, and not the operator's.
    pub own: bool,
    /// What rustls is told.
    pub config: Arc<ServerConfig>,
    /// `https://HOST:PORT`.
    pub url: String,
    keeper: Keeper,
}

/// Where our CA lies: in the folder given, or beside the database's file. Front-ends that share a
/// server have to share a CA too, by the same files in that folder: nodes show any of them what one
/// of them gave.
pub fn folder(tls: Option<&Path>, database: &Place) -> PathBuf {
    let beside = || match database {
        Place::File(path) => path.with_extension("tls"),
        Place::Server { .. } => "provisioner.tls".into(),
    };
    tls.map_or_else(beside, Path::to_path_buf)
}

/// Makes what is not there yet, and reads the rest.
///
/// # Errors
/// Says what is wrong with the files.
pub fn start(
    options: &Options,
    interface: &net::Interface,
    database: &Place,
    port: u16,
    key: Option<&SecretKey>,
) -> Result<Https, TlsError> {
    let (name, address) = (interface.name.clone(), interface.network.address);
    let hosts = options.name.clone();
    let names = move || {
        // Where they cannot be listed just now, the next look has them.
        let others = net::ipv6(&name).unwrap_or_default().into_iter().map(Into::into);
        Names {
            addresses: [address.into()].into_iter().chain(others).collect(),
            hosts: hosts.clone(),
        }
    };
    let ca = Arc::new(Ca::open_or_make(&folder(options.tls.as_deref(), database), &names())?);
    let source = match (&options.tls_certificate, &options.tls_key) {
        (None, None) => Source::Own(ca.clone()),
        (Some(certificate), Some(key)) => {
            Source::Files { certificate: certificate.clone(), key: key.clone() }
        }
        _ => return Err(TlsError::Half),
    };
    let own = matches!(source, Source::Own(_));
    let (keeper, covered) = Keeper::start(source, Box::new(names), key, unix_ms() / 1000)?;
    let config = Arc::new(server::config(&ca, keeper.shown())?);
    let url = covered.first().map_or(String::new(), |name| url(name, port));
    Ok(Https { ca, own, config, url, keeper })
}

impl Https {
    /// Keeps the certificate new until the runtime ends.
    pub fn keep(self) {
        let mut keeper = self.keeper;
        tokio::spawn(async move {
            let mut told = String::new();
            loop {
                tokio::time::sleep(PERIOD).await;
                match keeper.look(unix_ms() / 1000) {
                    Ok(Look::Kept) => {}
                    Ok(Look::Renewed) => {
                        tracing::info!("HTTPS has a new certificate");
                        told.clear();
                    }
                    Err(error) => {
                        let text = error.to_string();
                        if text != told {
                            tracing::error!("HTTPS keeps its certificate: {text}");
                            told = text;
                        }
                    }
                }
            }
        });
    }
}
