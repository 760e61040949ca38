//! A release's TUF repository, as it is made and signed:
//!
//! ```text
//! metadata/1.root.json …  timestamp.json  snapshot.json  targets.json
//! targets/release.json
//! ```
//!
//! Versions name the metadata files to each other, and no digests: so people can add their
//! signatures one after another, in any order, and no signature undoes another.

use super::{
    SPECIFICATION, SigningKey, add_signature, canonical,
    keys::{KeysError, follows, parse, write},
    root::{self, Missing},
    time,
};
use crate::bundle::{Bundle, MAX_ROOTS, NotABundle};
use aws_lc_rs::digest::{SHA256, digest};
use protocol::release::{MANIFEST_FILE, Manifest};
use std::{
    collections::HashMap,
    fs, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
};
use tough::{
    TargetName,
    schema::{
        Hashes, Metafile, Role, RoleType, Root, Signed, Snapshot, Target, Targets, Timestamp,
    },
};

/// The folder of the metadata in a repository's.
pub const METADATA: &str = "metadata";
/// The folder of the targets in a repository's.
pub const TARGETS: &str = "targets";

/// A repository is not one.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A file.
    #[error("{path}: {source}; a release's folder has metadata/ and targets/ in it")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content.
    #[error("{path} is not what a release has there: {why}; make the release anew")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A root.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Terms that no machine would take.
    #[error("no such release: {0}")]
    Terms(&'static str),
    /// Not signed by all who must.
    #[error(
        "{}; sign it where those keys are, by `cargo xtask release sign --key FILE FOLDER`",
        lacks(.0)
    )]
    Incomplete(Vec<Missing>),
    /// Too large, or with too many roots.
    #[error("no machine would read this release's bundle: {0}")]
    Bundle(#[from] NotABundle),
}

fn lacks(missing: &[Missing]) -> String {
    missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("; ")
}

/// A release, signed by some or by all who must.
#[derive(Clone, Debug)]
pub struct Repository {
    roots: Vec<Signed<Root>>,
    timestamp: Signed<Timestamp>,
    snapshot: Signed<Snapshot>,
    pub(super) targets: Signed<Targets>,
    manifest: Manifest,
    json: Vec<u8>,
}

impl Repository {
    /// A release of `manifest` that expires at `expires` (seconds since 1970), unsigned. `roots`
    /// are those of [`Keys`](super::Keys).
    ///
    /// # Errors
    /// Where no machine would take it.
    pub fn new(
        roots: &[Signed<Root>],
        manifest: Manifest,
        expires: u64,
    ) -> Result<Self, RepositoryError> {
        let Some(version) = NonZeroU64::new(manifest.version) else {
            return Err(RepositoryError::Terms("versions begin at 1"));
        };
        if manifest.floor > manifest.version {
            return Err(RepositoryError::Terms("its own version would be below its floor"));
        }
        let json = canonical(&manifest);
        let (expires, text) = (time(expires), SPECIFICATION.to_string());
        let name = TargetName::new(MANIFEST_FILE);
        let name = name.map_err(|_| RepositoryError::Terms("its manifest has no name"))?;
        let mut targets = Targets::new(text.clone(), version, expires);
        targets.targets.insert(name, target(&json));
        let mut snapshot = Snapshot::new(text.clone(), version, expires);
        snapshot.meta.insert("targets.json".into(), named(version));
        let mut timestamp = Timestamp::new(text, version, expires);
        timestamp.meta.insert("snapshot.json".into(), named(version));
        Ok(Self {
            // A machine whose root is older than all of these wants a newer initramfs.
            roots: roots[roots.len().saturating_sub(MAX_ROOTS)..].to_vec(),
            timestamp: unsigned(timestamp),
            snapshot: unsigned(snapshot),
            targets: unsigned(targets),
            manifest,
            json,
        })
    }

    /// What the release says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The newest root.
    pub fn root(&self) -> &Root {
        match self.roots.last() {
            Some(root) => &root.signed,
            None => unreachable!("neither new nor read takes none"),
        }
    }

    /// When its metadata expires, seconds since 1970.
    pub fn expires(&self) -> u64 {
        let expires = [
            self.root().expires(),
            self.targets.signed.expires(),
            self.snapshot.signed.expires(),
            self.timestamp.signed.expires(),
        ];
        let first = expires.into_iter().min().map(jiff::Timestamp::as_second);
        first.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default()
    }

    /// The roles that a key has by the newest root.
    pub fn roles_of(&self, key: &SigningKey) -> Vec<RoleType> {
        root::roles_of(self.root(), &key.id())
    }

    /// Adds a key's signatures, wherever its roles want them; gives the roles for which it had not
    /// signed yet.
    pub fn sign(&mut self, key: &SigningKey) -> Vec<RoleType> {
        let mut roles = self.roles_of(key);
        roles.retain(|role| match role {
            RoleType::Targets => add_signature(&mut self.targets, key),
            RoleType::Snapshot => add_signature(&mut self.snapshot, key),
            RoleType::Timestamp => add_signature(&mut self.timestamp, key),
            // Signed when it was made.
            RoleType::Root | RoleType::DelegatedTargets => false,
        });
        roles
    }

    /// Who has yet to sign.
    pub fn missing(&self) -> Vec<Missing> {
        let root = self.root();
        let all = [
            root::missing(root, &self.targets, "targets.json"),
            root::missing(root, &self.snapshot, "snapshot.json"),
            root::missing(root, &self.timestamp, "timestamp.json"),
        ];
        all.into_iter().flatten().collect()
    }

    /// The release in one document.
    ///
    /// # Errors
    /// Where it is not signed by all who must, or no machine would read it.
    pub fn bundle(&self) -> Result<Bundle, RepositoryError> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(RepositoryError::Incomplete(missing));
        }
        self.bundled()
    }

    /// As [`bundle`](Self::bundle), whoever has signed.
    pub(super) fn bundled(&self) -> Result<Bundle, RepositoryError> {
        let roots: Vec<Vec<u8>> = self.roots.iter().map(canonical).collect();
        Ok(Bundle::new(
            &roots,
            &canonical(&self.timestamp),
            &canonical(&self.snapshot),
            &canonical(&self.targets),
            &self.json,
        )?)
    }

    /// Reads a repository's folder; whether its signatures hold is [`missing`](Self::missing)'s to
    /// say.
    ///
    /// # Errors
    /// [`RepositoryError`].
    pub fn read(folder: &Path) -> Result<Self, RepositoryError> {
        let metadata = folder.join(METADATA);
        let mut versions = Vec::new();
        for entry in fs::read_dir(&metadata).map_err(file(&metadata))? {
            let name = entry.map_err(file(&metadata))?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".root.json"));
            versions.extend(version.and_then(|version| version.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        let mut roots: Vec<Signed<Root>> = Vec::new();
        for version in versions {
            let path = metadata.join(format!("{version}.root.json"));
            let root = parse(&path, &fs::read(&path).map_err(file(&path))?)?;
            if let Some(last) = roots.last() {
                follows(Some(last), &root)
                    .map_err(|why| KeysError::Root { path: path.clone(), why })?;
            }
            roots.push(root);
        }
        if roots.is_empty() {
            let why = "no N.root.json is in it".into();
            return Err(RepositoryError::Content { path: metadata, why });
        }
        let path = folder.join(TARGETS).join(MANIFEST_FILE);
        let json = fs::read(&path).map_err(file(&path))?;
        let manifest = of_json(&path, &json)?;
        let targets: Signed<Targets> = role(&metadata)?;
        let signed = TargetName::new(MANIFEST_FILE).ok().and_then(|name| {
            targets.signed.targets.get(&name).map(|target| target.hashes.sha256.clone())
        });
        if signed != Some(target(&json).hashes.sha256) {
            let why = "targets.json names another content".into();
            return Err(RepositoryError::Content { path, why });
        }
        Ok(Self {
            roots,
            timestamp: role(&metadata)?,
            snapshot: role(&metadata)?,
            targets,
            manifest,
            json,
        })
    }

    /// Writes the repository's files.
    ///
    /// # Errors
    /// [`RepositoryError`].
    pub fn write(&self, folder: &Path) -> Result<(), RepositoryError> {
        let (metadata, targets) = (folder.join(METADATA), folder.join(TARGETS));
        for folder in [&metadata, &targets] {
            fs::create_dir_all(folder).map_err(file(folder))?;
        }
        for root in &self.roots {
            let name = format!("{}.root.json", root.signed.version);
            write(&metadata.join(name), &canonical(root))?;
        }
        write(&metadata.join("timestamp.json"), &canonical(&self.timestamp))?;
        write(&metadata.join("snapshot.json"), &canonical(&self.snapshot))?;
        write(&metadata.join("targets.json"), &canonical(&self.targets))?;
        write(&targets.join(MANIFEST_FILE), &self.json)?;
        Ok(())
    }
}

fn unsigned<T>(signed: T) -> Signed<T> {
    Signed { signed, signatures: Vec::new() }
}

fn named(version: NonZeroU64) -> Metafile {
    Metafile { length: None, hashes: None, version, _extra: HashMap::new() }
}

fn target(json: &[u8]) -> Target {
    Target {
        length: json.len() as u64,
        hashes: Hashes {
            sha256: digest(&SHA256, json).as_ref().to_vec().into(),
            _extra: HashMap::new(),
        },
        custom: HashMap::new(),
        _extra: HashMap::new(),
    }
}

fn role<T: Role + serde::de::DeserializeOwned>(
    metadata: &Path,
) -> Result<Signed<T>, RepositoryError> {
    let path = metadata.join(format!("{}.json", T::TYPE));
    of_json(&path, &fs::read(&path).map_err(file(&path))?)
}

fn of_json<T: serde::de::DeserializeOwned>(path: &Path, json: &[u8]) -> Result<T, RepositoryError> {
    serde_json::from_slice(json)
        .map_err(|error| RepositoryError::Content { path: path.into(), why: error.to_string() })
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> RepositoryError + '_ {
    |source| RepositoryError::File { path: path.into(), source }
}
