//! Which provisioner is meant, what vouches for it, and whose token is shown to it: kept in the home
//! folder, in `fleet.json`, readable by its owner alone.

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

const FILE: &str = "fleet.json";

/// A provisioner whose operator we are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its base URL by TLS.
    pub url: String,
    /// The authority that vouches for it, as PEM; none: those that this system knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The operator's token.
    pub token: String,
}

/// The site cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Nobody logged in.
    #[error("no provisioner is known: `alia fleet login URL` with an operator's token comes first")]
    None,
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{0} has a token in it and others may read it: chmod 600 it, and make another token")]
    Open(PathBuf),
    /// Its content.
    #[error("{path}: {why}; `alia fleet login` makes it anew")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No certificate.
    #[error("what should vouch for the provisioner is no certificate: {0}")]
    Authority(String),
}

impl Site {
    /// The site of a home folder.
    ///
    /// # Errors
    /// [`SiteError`].
    pub fn open(home: &Path) -> Result<Self, SiteError> {
        let path = home.join(FILE);
        let file = |source| SiteError::File { path: path.clone(), source };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SiteError::None),
            other => other.map_err(file)?,
        };
        let mode = fs::metadata(&path).map_err(file)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(SiteError::Open(path));
        }
        let content = |error: serde_json::Error| SiteError::Content {
            path: path.clone(),
            why: error.to_string(),
        };
        serde_json::from_str(&text).map_err(content)
    }

    /// Keeps it in a home folder; gives the file.
    ///
    /// # Errors
    /// [`SiteError::File`].
    pub fn save(&self, home: &Path) -> Result<PathBuf, SiteError> {
        let path = home.join(FILE);
        let file = |source| SiteError::File { path: path.clone(), source };
        fs::create_dir_all(home).map_err(file)?;
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let fresh = home.join(format!("{FILE}.new"));
        // One that was left half written has other people's rights.
        let _ = fs::remove_file(&fresh);
        let mut options = OpenOptions::new();
        let mut handle =
            options.write(true).create_new(true).mode(0o600).open(&fresh).map_err(file)?;
        handle.write_all(text.as_bytes()).and_then(|()| handle.sync_all()).map_err(file)?;
        fs::rename(&fresh, &path).map_err(file)?;
        Ok(path)
    }

    /// How TLS is spoken to it.
    ///
    /// # Errors
    /// [`SiteError::Authority`].
    pub fn tls(&self) -> Result<ClientConfig, SiteError> {
        let mut roots = RootCertStore::empty();
        match &self.authority {
            Some(pem) => {
                let wrong = |error: rustls::Error| SiteError::Authority(error.to_string());
                roots.add(certificate(pem)?).map_err(wrong)?;
            }
            None => {
                // One that cannot be read vouches for nobody.
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
        Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, SiteError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| SiteError::Authority(error.to_string()))
}

/// SHA-256 of a certificate, as `provisioner ca` shows it: lower case hex without colons.
///
/// # Errors
/// [`SiteError::Authority`].
pub fn fingerprint(pem: &str) -> Result<String, SiteError> {
    let digest = Sha256::digest(certificate(pem)?.as_ref());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether somebody's copy of a fingerprint is that one: colons, spaces and case do not matter.
pub fn is_same(fingerprint: &str, copy: &str) -> bool {
    let plain = |text: &str| -> String {
        let signs = text.chars().filter(|c| !matches!(c, ':' | ' ' | '-'));
        signs.map(|c| c.to_ascii_lowercase()).collect()
    };
    plain(fingerprint) == plain(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_kept_where_only_its_owner_reads_it() {
        let home = tempfile::tempdir().unwrap();
        assert!(matches!(Site::open(home.path()), Err(SiteError::None)));
        let site = Site { url: "https://10.0.0.1:8443".into(), authority: None, token: "t".into() };
        let path = site.save(home.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Site::open(home.path()).unwrap() == site);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Site::open(home.path()), Err(SiteError::Open(_))));
        site.save(home.path()).unwrap();
        assert!(Site::open(home.path()).is_ok(), "it is written anew, not into what is there");
    }

    #[test]
    fn fingerprints_are_compared_as_people_copy_them() {
        assert!(is_same("ab01", "AB:01") && is_same("ab01", "ab 01"));
        assert!(!is_same("ab01", "ab02") && !is_same("ab01", ""));
        assert!(matches!(fingerprint("no certificate"), Err(SiteError::Authority(_))));
    }
}
