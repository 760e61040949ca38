//! HTTPS as the options want it: everything that can be wrong is told at the start.

use super::{
    Names, TlsError,
    ca::{Ca, Kind},
    ffdhe,
    keeper::{Keeper, Look, Source},
    server, url,
};
use crate::{config::Options, dhcp::settings::HttpBoot, net, store::Place, timeline::unix_ms};
use listener::{Other, Spoken};
use protocol::SecretKey;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How often it is looked whether a certificate has to be renewed or read again.
const PERIOD: Duration = Duration::from_secs(10);
/// Handshakes without curves at a time: two powers of 3,072 bits each cost far more than a curve's, and
/// firmware takes long for its own part of it.
pub(crate) const COSTLY: usize = 64;
/// Of them one peer's: several machines behind one router.
const COSTLY_OF_ONE: usize = 8;

/// HTTPS, ready to be served.
pub struct Https {
    /// Our CA, which vouches for nodes.
    pub ca: Arc<Ca>,
    /// Whether it vouches for us too, and not the operator's.
    pub own: bool,
    /// The one like it of RSA keys, for firmware without curves; none where it is not needed.
    pub ca_rsa: Option<Arc<Ca>>,
    /// What is spoken.
    pub spoken: Spoken,
    /// `https://HOST:PORT`.
    pub url: String,
    keepers: Vec<Keeper>,
}

/// Whether machines may be sent here by HTTPS from their firmware: RSA keys take a second or two to
/// make, which nobody else waits for.
fn firmware_comes(options: &Options) -> bool {
    options.http_boot == Some(HttpBoot::Https)
        || options.machine.values().any(|machine| machine.https == Some(true))
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
    let folder = folder(options.tls.as_deref(), database);
    let ca = Arc::new(Ca::open_or_make(&folder, &names())?);
    let mut ca_rsa = None;
    let (source, source_rsa) = match (&options.tls_certificate, &options.tls_key) {
        (None, None) => {
            if firmware_comes(options) || folder.join(Kind::Rsa.files().0).exists() {
                ca_rsa = Some(Arc::new(Ca::open_or_make_of(Kind::Rsa, &folder, &names())?));
            }
            (Source::Own(ca.clone()), ca_rsa.clone().map(Source::Own))
        }
        // Where its key is RSA it does for both.
        (Some(certificate), Some(key)) => {
            let files = || Source::Files { certificate: certificate.clone(), key: key.clone() };
            (files(), Some(files()))
        }
        _ => return Err(TlsError::Half),
    };
    let own = matches!(source, Source::Own(_));
    let now = unix_ms() / 1000;
    let (keeper, covered) = Keeper::start(source, Box::new(names.clone()), key, now)?;
    let usual = Arc::new(server::config(&ca, keeper.shown())?);
    let mut spoken = Spoken::from(usual);
    let mut keepers = vec![keeper];
    if let Some(source) = source_rsa {
        let (keeper, _) = Keeper::start(source, Box::new(names), None, now)?;
        let config = Arc::new(server::without_curves(keeper.shown())?);
        let (at_once, of_one_peer) = (COSTLY, COSTLY_OF_ONE);
        spoken.other = Some(Other { whose: ffdhe::is_all_that, config, at_once, of_one_peer });
        keepers.push(keeper);
    }
    let url = covered.first().map_or(String::new(), |name| url(name, port));
    Ok(Https { ca, own, ca_rsa, spoken, url, keepers })
}

impl Https {
    /// Keeps the certificate new until the runtime ends.
    pub fn keep(self) {
        for keeper in self.keepers {
            tokio::spawn(kept(keeper));
        }
    }
}

async fn kept(mut keeper: Keeper) {
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
}
