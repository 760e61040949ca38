//! Whom we are held against: the distribution's packages, unpacked in the cache with the libraries
//! that they need, and run by the loader among them. Nothing is installed.

use crate::site::SERVER_NAMESPACE;
use image::Packages;
use lab::ServiceSpec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Of a package's tree: where libraries are, and the loader.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// A peer, unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// The folder that it is unpacked in.
    tree: PathBuf,
    /// Its program.
    program: PathBuf,
}

/// All of them; the reason for each that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// HTTP.
    pub nginx: Result<Peer, String>,
    /// DHCP and TFTP.
    pub dnsmasq: Result<Peer, String>,
    /// DHCP.
    pub kea: Result<Peer, String>,
    /// TFTP.
    pub tftpd: Result<Peer, String>,
}

impl Peers {
    /// Fetches and unpacks them.
    pub fn fetch(packages: &Packages) -> Self {
        Self {
            nginx: Peer::fetch(packages, &["nginx"], "usr/sbin/nginx"),
            dnsmasq: Peer::fetch(packages, &["dnsmasq-base"], "usr/sbin/dnsmasq"),
            kea: Peer::fetch(packages, &["kea-dhcp4-server", "kea-common"], "usr/sbin/kea-dhcp4"),
            tftpd: Peer::fetch(packages, &["tftpd-hpa"], "usr/sbin/in.tftpd"),
        }
    }

    /// None of them, for a reason.
    pub fn none(why: &str) -> Self {
        let none = || Err(why.to_owned());
        Self { nginx: none(), dnsmasq: none(), kea: none(), tftpd: none() }
    }
}

impl Peer {
    fn fetch(packages: &Packages, names: &[&str], program: &str) -> Result<Self, String> {
        let fetched = packages.fetch(&names[..1]).map_err(|error| error.to_string())?;
        let version = fetched.first().map(|package| upstream(&package.origin.version));
        let tree = packages.with_libraries(names).map_err(|error| error.to_string())?;
        let program = tree.join(program);
        for path in [&program, &tree.join(LOADER)] {
            if !path.exists() {
                return Err(format!("{}: the packages do not hold it", path.display()));
            }
        }
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name} {}", version.unwrap_or_default());
        Ok(Self { name, tree, program })
    }

    /// How it is run in the provisioner's place.
    pub fn service(&self, name: &str, folder: &Path) -> ServiceSpec {
        let mut spec = ServiceSpec::new(name, self.tree.join(LOADER), folder)
            // Of the host's libraries none.
            .args(["--inhibit-cache", "--library-path"])
            .arg(self.tree.join(LIBRARIES))
            .arg(&self.program);
        spec.namespace = Some(SERVER_NAMESPACE.into());
        spec
    }
}

/// `2:1.26.3-3+deb13u1` is 1.26.3.
fn upstream(version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    version.split(['-', '+']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_makers_own() {
        assert_eq!(upstream("2:1.26.3-3+deb13u1"), "1.26.3");
        assert_eq!(upstream("5.2+20240610-1"), "5.2");
    }
}
