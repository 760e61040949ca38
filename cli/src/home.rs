//! The home folder: settings, the owner's key, and the chain's trust root.
//!
//! ```text
//! settings.toml   the chain, its ledger servers, the parameter server, the provisioner
//! owner.key       the account's secret key, mode 0600
//! trust.json      the header that everything is proven from
//! ```

use crate::parameter_server::ParameterServer;
use compute::client::ClientError;
use identity::keyfile::{self, KeyFileError};
use ledger_client::{AddressError, Client, verify::TrustRoot};
use protocol::{ChainId, SecretKey};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The environment variable that names the home folder.
pub const ENVIRONMENT: &str = "ALIA_HOME";
/// Where a parameter server listens when nobody says otherwise.
pub const DEFAULT_PARAMETER_SERVER: &str = "http://127.0.0.1:8070";

const SETTINGS: &str = "settings.toml";
const KEY: &str = "owner.key";
const TRUST: &str = "trust.json";

/// Which network this is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The chain.
    pub chain: ChainId,
    /// CometBFT RPC addresses, in the order in which to try them.
    pub ledgers: Vec<String>,
    /// The parameter server that jobs are sent to.
    pub parameter_server: String,
    /// The provisioner, which knows where machines are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<String>,
}

/// What is believed without proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// The header pinned at first contact.
    pub pinned: TrustRoot,
    /// The newest header proven from it: taken up where the pinned one's trusting period is over.
    pub newest: TrustRoot,
}

/// The home folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nothing is there yet.
    #[error(
        "{0} is no home folder yet: `alia init --ledger URL` makes it and pins the chain's trust root"
    )]
    NotInitialised(PathBuf),
    /// Something is there already.
    #[error(
        "{home} is set up already, for chain {chain} with trust root {hash} at height {height}: \
         --force pins anew and keeps the key; --home DIR or {ENVIRONMENT} names another folder"
    )]
    Initialised {
        /// The folder.
        home: PathBuf,
        /// The chain that it is for.
        chain: ChainId,
        /// The pinned header's hash.
        hash: String,
        /// The pinned header's height.
        height: u64,
    },
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content.
    #[error("{path}: {why}; correct it, or make it anew with `alia init --force`")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No home folder can be named.
    #[error("there is no HOME: name the folder with --home DIR or {ENVIRONMENT}")]
    Nameless,
}

/// An opened home folder.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
    /// Its settings.
    pub settings: Settings,
}

impl Home {
    /// The folder that is meant: the flag's, or else `~/.alia`.
    ///
    /// # Errors
    /// Where there is neither flag nor `HOME`.
    pub fn folder(flag: Option<PathBuf>) -> Result<PathBuf, HomeError> {
        if let Some(folder) = flag {
            return Ok(folder);
        }
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        Ok(PathBuf::from(home.ok_or(HomeError::Nameless)?).join(".alia"))
    }

    /// Refuses a folder that is set up already.
    ///
    /// # Errors
    /// [`HomeError::Initialised`], naming what is there.
    pub fn check_fresh(folder: &Path) -> Result<(), HomeError> {
        match Self::open(folder) {
            Err(HomeError::NotInitialised(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(home) => {
                let pinned = home.trust()?.pinned;
                Err(HomeError::Initialised {
                    home: folder.into(),
                    chain: pinned.chain,
                    hash: pinned.header_hash.to_string(),
                    height: pinned.height,
                })
            }
        }
    }

    /// Makes the folder, or makes it anew; a key that is there is kept.
    ///
    /// # Errors
    /// [`HomeError`], [`KeyFileError`].
    pub fn create(
        folder: &Path,
        settings: Settings,
        pinned: TrustRoot,
    ) -> Result<Self, crate::Error> {
        let home = Self { folder: folder.into(), settings };
        fs::create_dir_all(folder).map_err(file(folder))?;
        keyfile::read_or_create(&home.key_path())?;
        home.save_trust(&Trust { newest: pinned.clone(), pinned })?;
        // Last: a folder with settings is one that is set up.
        let path = home.folder.join(SETTINGS);
        let text = toml::to_string(&home.settings).map_err(content(&path))?;
        write_whole(&path, text.as_bytes())?;
        Ok(home)
    }

    /// Opens a folder that was set up.
    ///
    /// # Errors
    /// [`HomeError::NotInitialised`], or what is wrong with its files.
    pub fn open(folder: &Path) -> Result<Self, HomeError> {
        let path = folder.join(SETTINGS);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HomeError::NotInitialised(folder.into()));
            }
            other => other.map_err(file(&path))?,
        };
        let settings = toml::from_str(&text).map_err(content(&path))?;
        Ok(Self { folder: folder.into(), settings })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    fn key_path(&self) -> PathBuf {
        Self::key_file(&self.folder)
    }

    /// Where a home folder has its key, set up or not.
    pub fn key_file(folder: &Path) -> PathBuf {
        folder.join(KEY)
    }

    /// The owner's key.
    ///
    /// # Errors
    /// [`KeyFileError`], also where others may read it.
    pub fn key(&self) -> Result<SecretKey, KeyFileError> {
        keyfile::read(&self.key_path())
    }

    /// A client of the chain's ledger servers.
    ///
    /// # Errors
    /// Where an address is malformed.
    pub fn client(&self) -> Result<Client, AddressError> {
        Client::new(&self.settings.ledgers)
    }

    /// The parameter server.
    ///
    /// # Errors
    /// Where no client can be made.
    pub fn parameter_server(&self) -> Result<ParameterServer, ClientError> {
        ParameterServer::new(&self.settings.parameter_server)
    }

    /// What is believed without proof.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn trust(&self) -> Result<Trust, HomeError> {
        let path = self.folder.join(TRUST);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(content(&path)("it is gone".to_string()));
            }
            other => other.map_err(file(&path))?,
        };
        let trust: Trust = serde_json::from_str(&text).map_err(content(&path))?;
        let (pinned, set) = (&trust.pinned.chain, &self.settings.chain);
        if pinned != set {
            let why = format!("it is of chain {pinned}, and {SETTINGS} of chain {set}");
            return Err(content(&path)(why));
        }
        Ok(trust)
    }

    /// Keeps what is believed without proof.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn save_trust(&self, trust: &Trust) -> Result<(), HomeError> {
        let path = self.folder.join(TRUST);
        let text = serde_json::to_string_pretty(trust).map_err(content(&path))?;
        write_whole(&path, text.as_bytes())
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> HomeError + '_ {
    |source| HomeError::File { path: path.into(), source }
}

fn content<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> HomeError + '_ {
    |error| HomeError::Content { path: path.into(), why: error.to_string() }
}

/// Writes beside the name and renames: two commands at once leave one whole file.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path)).map_err(file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(height: u64) -> TrustRoot {
        serde_json::from_value(serde_json::json!({
            "chain": "alia-test", "height": height,
            "header_hash": "AB".repeat(32), "trusting_period_seconds": 100,
        }))
        .unwrap()
    }

    fn settings() -> Settings {
        Settings {
            chain: "alia-test".parse().unwrap(),
            ledgers: vec!["http://127.0.0.1:1".into()],
            parameter_server: DEFAULT_PARAMETER_SERVER.into(),
            provisioner: None,
        }
    }

    #[test]
    fn a_home_is_made_once_and_made_anew_only_on_purpose_with_the_key_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alia");
        assert!(matches!(Home::open(&path), Err(HomeError::NotInitialised(_))));
        assert!(Home::check_fresh(&path).is_ok());
        let home = Home::create(&path, settings(), root(5)).unwrap();
        let key = home.key().unwrap().public();

        let error = Home::check_fresh(&path).unwrap_err().to_string();
        assert!(error.contains("height 5") && error.contains("--force"), "{error}");
        let again = Home::create(&path, settings(), root(9)).unwrap();
        assert_eq!(again.key().unwrap().public(), key);
        let opened = Home::open(&path).unwrap();
        assert_eq!(
            (opened.settings.clone(), opened.trust().unwrap().pinned),
            (settings(), root(9))
        );
    }

    #[test]
    fn a_misspelt_setting_is_an_error_and_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        Home::create(folder.path(), settings(), root(5)).unwrap();
        let path = folder.path().join(SETTINGS);
        let text = fs::read_to_string(&path).unwrap().replace("ledgers", "ledger");
        fs::write(&path, text).unwrap();
        let error = Home::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("unknown field `ledger`"), "{error}");
    }
}
