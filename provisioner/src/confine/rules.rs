//! What may be read, written and connected to. Pure but for the links that are followed.

use crate::{config::Options, store::Place, tls::start};
use std::path::{Path, PathBuf};

/// What the C library reads to find a host by its name, and loads for it.
const NAMES: [&str; 12] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/usr/lib",
    "/lib",
    "/lib64",
];
/// Where distributions keep the authorities that a PostgreSQL on another host is known by.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// DNS, where an answer is too long for UDP.
const DNS: u16 = 53;

/// What is allowed; nothing else is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Read, with all below.
    pub read: Vec<PathBuf>,
    /// Written too, with files made and removed.
    pub write: Vec<PathBuf>,
    /// TCP ports that are connected to. None is listened at anew.
    pub connect: Vec<u16>,
}

impl Rules {
    /// What these options need.
    pub fn of(options: &Options) -> Self {
        let mut read: Vec<PathBuf> = NAMES.iter().map(PathBuf::from).collect();
        // Our own memory and threads, for the metrics.
        read.push("/proc/self".into());
        let named = [
            &options.config,
            &options.image,
            &options.ipxe,
            &options.quirks,
            &options.key,
            &options.delegation,
            &options.database_ca,
            &options.medium,
        ];
        read.extend(named.into_iter().flatten().cloned());
        // Files of an image that lie elsewhere, as they do now.
        read.extend(options.image.iter().flat_map(|folder| links(folder)));
        for flavour in &options.flavour {
            read.push(flavour.folder.clone());
            read.extend(links(&flavour.folder));
        }
        // These are put in place anew while we run: a new file is another one to the kernel, and
        // its folder the same. A link leads to another folder.
        for file in [&options.uki, &options.tls_certificate, &options.tls_key] {
            let Some(file) = file else { continue };
            read.push(folder(file));
            read.extend(file.canonicalize().ok().map(|file| folder(&file)));
        }
        let database = options.database.clone().unwrap_or_default();
        let mut write = vec![start::folder(options.tls.as_deref(), &database)];
        let mut connect = vec![DNS];
        let urls = options.ledger.iter().chain(&options.parameter_server);
        connect.extend(urls.filter_map(|url| port(url)));
        match &database {
            Place::File(path) => {
                write.push(folder(path));
                write.extend(path.canonicalize().ok().map(|path| folder(&path)));
            }
            Place::Server { server, .. } => {
                connect.extend(server.ports());
                read.extend(AUTHORITIES.iter().map(PathBuf::from));
                let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(std::env::var_os);
                read.extend(named.map(PathBuf::from));
            }
        }
        connect.sort_unstable();
        connect.dedup();
        Self { read, write, connect }
    }
}

/// What a folder's links lead to.
fn links(folder: &Path) -> Vec<PathBuf> {
    let files = folder.read_dir().into_iter().flatten().flatten().map(|file| file.path());
    files.filter(|file| file.is_symlink()).filter_map(|link| link.canonicalize().ok()).collect()
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

/// The port of `http://HOST:PORT`, and whatever follows it.
fn port(url: &str) -> Option<u16> {
    let rest = url.strip_prefix("http://")?;
    let place = rest.split('/').next()?;
    let after = place.rsplit(']').next()?;
    match after.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None => Some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_read_and_nothing_but_database_and_ca_is_written() {
        let options = Options {
            image: Some("/srv/image".into()),
            tls_key: Some("/etc/alia/key.pem".into()),
            database: Some("/var/lib/alia/p.sqlite".parse().unwrap()),
            ledger: vec!["http://10.0.0.1:26657".into(), "http://[fd00::1]/x".into()],
            ..Options::default()
        };
        let rules = Rules::of(&options);
        for path in ["/srv/image", "/etc/alia"] {
            assert!(rules.read.contains(&path.into()), "{path}");
        }
        assert_eq!(rules.write, [Path::new("/var/lib/alia/p.tls"), Path::new("/var/lib/alia")]);
        assert_eq!(rules.connect, [53, 80, 26657]);
        for path in ["/", "/etc", "/root", "/home"] {
            assert!(!rules.read.contains(&path.into()), "{path}");
        }
        let here = Rules::of(&Options::default());
        assert_eq!(here.write, [Path::new("provisioner.tls"), Path::new(".")]);
    }

    #[test]
    fn a_server_is_reached_at_its_port() {
        let database = "postgresql://u@db.example:6432/x".parse().ok();
        let rules = Rules::of(&Options { database, ..Options::default() });
        assert!(rules.connect.contains(&6432));
        assert!(rules.read.contains(&"/etc/ssl".into()));
    }
}
