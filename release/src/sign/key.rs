//! One key in one file: Ed25519, PKCS#8 in PEM, mode 0600, as `openssl genpkey -algorithm ed25519`
//! writes it.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use std::{
    collections::HashMap,
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tough::schema::{
    Signature,
    key::{Ed25519Key, Ed25519Scheme, Key},
};

/// What PEM calls it.
const TAG: &str = "PRIVATE KEY";

/// A key that signs releases. Its secret is never shown.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: Vec<u8>,
}

/// A key cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("the key {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key {path} has mode {mode:o}: others may have read it; if none did, `chmod 600 \
         {path}` (on a FAT stick: mount it with umask=077), otherwise rotate it"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "{path} holds no Ed25519 key in PKCS#8 and PEM: {why}; name one that `cargo xtask keys` or \
         `openssl genpkey -algorithm ed25519` made"
    )]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The cryptographic library made none.
    #[error("no key could be made: the operating system's random numbers failed")]
    Random,
}

impl SigningKey {
    /// Makes a key in a new file; what is there is never overwritten.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.into(), source };
        let der =
            Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        let pem = pem::encode_config(
            &pem::Pem::new(TAG, der.as_ref()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        );
        let mut options = fs::OpenOptions::new();
        let mut fresh =
            options.write(true).create_new(true).mode(0o600).open(path).map_err(file)?;
        fresh.write_all(pem.as_bytes()).and_then(|()| fresh.sync_all()).map_err(file)?;
        Self::of_der(der.as_ref(), path)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`], also where others may read the file.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.into(), source };
        let mode = fs::metadata(path).map_err(file)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.into(), mode });
        }
        let content = |why: String| KeyError::Content { path: path.into(), why };
        let parsed = pem::parse(fs::read(path).map_err(file)?);
        let parsed = parsed.map_err(|error| content(error.to_string()))?;
        if parsed.tag() != TAG {
            return Err(content(format!("it is a {}", protocol::plain(parsed.tag()))));
        }
        Self::of_der(parsed.contents(), path)
    }

    fn of_der(der: &[u8], path: &Path) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(der)
            .map_err(|error| KeyError::Content { path: path.into(), why: error.to_string() })?;
        Ok(Self::of(pair))
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let id = match tuf_key(&pair).key_id() {
            Ok(id) => id.into_vec(),
            Err(error) => unreachable!("a key of text alone becomes JSON: {error}"),
        };
        Self { pair, id }
    }

    /// TUF's id of it: SHA-256 of the public key's canonical JSON, in hex.
    pub fn id(&self) -> String {
        hex::encode(&self.id)
    }

    pub(super) fn public(&self) -> Key {
        tuf_key(&self.pair)
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Signature {
        Signature {
            keyid: self.id.clone().into(),
            sig: self.pair.sign(bytes).as_ref().to_vec().into(),
        }
    }

    /// A key whose secret everybody knows.
    #[cfg(any(test, feature = "testing"))]
    pub fn known(seed: u8) -> Self {
        match Ed25519KeyPair::from_seed_unchecked(&[seed; 32]) {
            Ok(pair) => Self::of(pair),
            Err(error) => unreachable!("any 32 bytes are a seed: {error}"),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

fn tuf_key(pair: &Ed25519KeyPair) -> Key {
    Key::Ed25519 {
        keyval: Ed25519Key {
            public: pair.public_key().as_ref().to_vec().into(),
            _extra: HashMap::new(),
        },
        scheme: Ed25519Scheme::Ed25519,
        _extra: HashMap::new(),
    }
}
