//! The folder of the roles' keys: a file for each, so that they can be taken elsewhere, and the
//! roots, which anybody may read.
//!
//! ```text
//! 1.root.json, 2.root.json, …       every version of the root metadata; the newest is believed
//! pending.root.json                 the next one, while keys that are elsewhere have yet to sign
//! root-1.pem … targets-1.pem …      secret keys, mode 0600; those that are elsewhere are not here
//! ```

use super::{
    KeyError, SigningKey, add_signature, canonical,
    root::{self, Holders, Missing},
    time,
};
use std::{
    fs, io,
    num::NonZeroU64,
    path::{Path, PathBuf},
};
use tough::schema::{RoleType, Root, Signed};

/// Every role, and the order in which they are told of.
pub const ROLES: [RoleType; 4] =
    [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
/// The next root's name while it is not signed by all who must.
pub const PENDING: &str = "pending.root.json";
/// The most keys of one role.
const MAX_KEYS: usize = 16;

/// How many keys a role has, and how many of them must sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many must sign.
    pub threshold: usize,
    /// How many there are.
    pub keys: usize,
}

impl std::str::FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a threshold: 2/3 means two of three, of 1 to {MAX_KEYS} keys")
        };
        let (threshold, keys) = text.split_once('/').ok_or_else(wrong)?;
        let (threshold, keys) =
            (threshold.parse().map_err(|_| wrong())?, keys.parse().map_err(|_| wrong())?);
        if threshold == 0 || threshold > keys || keys > MAX_KEYS {
            return Err(wrong());
        }
        Ok(Self { threshold, keys })
    }
}

/// The keys' folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Nothing is there yet.
    #[error("{0} holds no 1.root.json: `cargo xtask keys` makes release keys and it")]
    None(PathBuf),
    /// A root is there, and another must not take its place.
    #[error(
        "{0} has release keys already, and they are never overwritten: `cargo xtask keys show` \
         tells of them, `cargo xtask keys rotate ROLE` replaces them"
    )]
    Made(PathBuf),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A root that cannot be read, or does not follow on the one before.
    #[error("{path} is no root that machines would follow: {why}; take it from where it is whole")]
    Root {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A next root waits for signatures.
    #[error(
        "{path} waits: {missing}; sign it by `cargo xtask release sign --key FILE {folder}`, or \
         remove it to begin anew",
        path = folder.join(PENDING).display(), folder = folder.display()
    )]
    Pending {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        missing: String,
    },
    /// No such key.
    #[error("{name} is no key of role {role}, which has {}", has.join(", "))]
    NoKey {
        /// What was named.
        name: String,
        /// The role.
        role: RoleType,
        /// The role's keys.
        has: Vec<String>,
    },
    /// No such role.
    #[error("{0} is no role with keys: it is root, targets, snapshot or timestamp")]
    NoRole(RoleType),
}

/// The folder, read.
pub struct Keys {
    folder: PathBuf,
    /// Oldest first, each signed as it must be.
    roots: Vec<Signed<Root>>,
}

/// What [`Keys::make`] made.
pub struct Made {
    /// The folder, read.
    pub keys: Keys,
    /// The new files.
    pub files: Vec<PathBuf>,
}

/// What [`Keys::rotate`] changed.
pub struct Rotation {
    /// The next root's version.
    pub version: u64,
    /// The new keys' files.
    pub new: Vec<PathBuf>,
    /// The names of the keys that were taken out.
    pub out: Vec<String>,
    /// What the next root lacks before it takes effect; empty where it does already.
    pub missing: Vec<Missing>,
}

impl Keys {
    /// Makes keys for every role, in the order of [`ROLES`], and the first root, signed.
    ///
    /// # Errors
    /// [`KeysError`]: where there are some already, too.
    pub fn make(folder: &Path, shapes: &[Shape; 4], expires: u64) -> Result<Made, KeysError> {
        fs::create_dir_all(folder).map_err(file(folder))?;
        if !names_in(folder)?.is_empty() {
            return Err(KeysError::Made(folder.into()));
        }
        let mut made: Vec<Vec<(String, SigningKey)>> = Vec::new();
        let mut files = Vec::new();
        for (role, shape) in ROLES.into_iter().zip(shapes) {
            let mut of_role = Vec::new();
            for number in 1..=shape.keys {
                let name = format!("{role}-{number}");
                let path = pem(folder, &name);
                of_role.push((name, SigningKey::create(&path)?));
                files.push(path);
            }
            made.push(of_role);
        }
        let holders: Vec<Holders<'_>> = ROLES
            .into_iter()
            .zip(shapes)
            .zip(&made)
            .map(|((role, shape), keys)| Holders {
                role,
                threshold: threshold(shape.threshold as u64),
                keys: keys.iter().map(|(name, key)| (name.clone(), key)).collect(),
            })
            .collect();
        let mut root = root::first(&holders, expires);
        for (_, key) in &made[0] {
            add_signature(&mut root, key);
        }
        write(&folder.join("1.root.json"), &canonical(&root))?;
        Ok(Made { keys: Self { folder: folder.into(), roots: vec![root] }, files })
    }

    /// Reads the folder: its roots, each held against the one before.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(folder: &Path) -> Result<Self, KeysError> {
        let mut roots: Vec<Signed<Root>> = Vec::new();
        loop {
            let path = folder.join(format!("{}.root.json", roots.len() + 1));
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                other => other.map_err(file(&path))?,
            };
            let root = parse(&path, &bytes)?;
            follows(roots.last(), &root).map_err(|why| KeysError::Root { path, why })?;
            roots.push(root);
        }
        if roots.is_empty() {
            return Err(KeysError::None(folder.into()));
        }
        Ok(Self { folder: folder.into(), roots })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The roots, oldest first.
    pub fn roots(&self) -> &[Signed<Root>] {
        &self.roots
    }

    /// The newest root.
    pub fn newest(&self) -> &Signed<Root> {
        match self.roots.last() {
            Some(root) => root,
            None => unreachable!("a folder without a root is not opened"),
        }
    }

    /// The newest root as it is given to machines.
    pub fn root_json(&self) -> Vec<u8> {
        canonical(self.newest())
    }

    /// A role's keys: name, id, and whether its secret lies here.
    pub fn of_role(&self, role: RoleType) -> Vec<(String, String, bool)> {
        let root = &self.newest().signed;
        let names = root::names(root);
        let told = |id: String| {
            let name = names.get(&id).cloned().unwrap_or_else(|| id.clone());
            let here = pem(&self.folder, &name).exists();
            (name, id, here)
        };
        root::ids(root, role).into_iter().map(told).collect()
    }

    /// How many of a role's keys must sign.
    pub fn threshold(&self, role: RoleType) -> u64 {
        self.newest().signed.roles.get(&role).map_or(1, |role| role.threshold.get())
    }

    /// The keys of the newest root whose secrets lie here.
    ///
    /// # Errors
    /// Where one that lies here cannot be used.
    pub fn here(&self) -> Result<Vec<SigningKey>, KeysError> {
        let all = ROLES.into_iter().flat_map(|role| self.of_role(role));
        let mut names: Vec<String> =
            all.filter(|(_, _, here)| *here).map(|(name, _, _)| name).collect();
        names.sort();
        names.dedup();
        names.iter().map(|name| Ok(SigningKey::read(&pem(&self.folder, name))?)).collect()
    }

    /// The next root: `out` (all of them where it is empty) are taken out of the role's keys, as
    /// many new ones put in. It is signed by the keys that lie here, and takes effect once the old
    /// root's keys and the new one's have signed.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn rotate(
        &mut self,
        role: RoleType,
        out: &[String],
        expires: u64,
    ) -> Result<Rotation, KeysError> {
        if self.folder.join(PENDING).exists() {
            self.settle()?;
        }
        if !ROLES.contains(&role) {
            return Err(KeysError::NoRole(role));
        }
        let keys = self.of_role(role);
        let has = || keys.iter().map(|(name, _, _)| name.clone()).collect::<Vec<_>>();
        if let Some(name) = out.iter().find(|name| !has().contains(name)) {
            return Err(KeysError::NoKey { name: name.clone(), role, has: has() });
        }
        let out = if out.is_empty() { has() } else { out.to_vec() };
        let old_signers = self.here()?;

        let mut next = self.newest().signed.clone();
        next.version = next.version.saturating_add(1);
        next.expires = time(expires);
        for (_, id, _) in keys.iter().filter(|(name, _, _)| out.contains(name)) {
            root::take_out(&mut next, role, id);
        }
        let (mut made, mut new) = (Vec::new(), Vec::new());
        let mut number = 0;
        while made.len() < out.len() {
            number += 1;
            let name = format!("{role}-{number}");
            let path = pem(&self.folder, &name);
            // Names stay a key's for ever: whoever holds `targets-2` is to know it by that.
            if path.exists() || self.ever_named(&name) {
                continue;
            }
            made.push((name, SigningKey::create(&path)?));
            new.push(path);
        }
        let threshold = threshold(self.threshold(role));
        let put = made.iter().map(|(name, key)| (name.clone(), key)).collect();
        root::put(&mut next, &Holders { role, threshold, keys: put });

        let mut next = Signed { signed: next, signatures: Vec::new() };
        for key in old_signers.iter().chain(made.iter().map(|(_, key)| key)) {
            self.sign_root(&mut next, key);
        }
        let version = next.signed.version.get();
        write(&self.folder.join(PENDING), &canonical(&next))?;
        let missing = self.lacks(&next);
        if missing.is_empty() {
            self.settle()?;
        }
        Ok(Rotation { version, new, out, missing })
    }

    /// Signs the next root with a key; gives what it lacks still. Where that is nothing it takes
    /// effect. None where there is no next root.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn sign_pending(&mut self, key: &SigningKey) -> Result<Option<Vec<Missing>>, KeysError> {
        let path = self.folder.join(PENDING);
        if !path.exists() {
            return Ok(None);
        }
        let mut next = parse(&path, &fs::read(&path).map_err(file(&path))?)?;
        self.sign_root(&mut next, key);
        write(&path, &canonical(&next))?;
        let missing = self.lacks(&next);
        if missing.is_empty() {
            self.settle()?;
        }
        Ok(Some(missing))
    }

    fn sign_root(&self, next: &mut Signed<Root>, key: &SigningKey) {
        let is_root = |root: &Root| root::roles_of(root, &key.id()).contains(&RoleType::Root);
        if is_root(&self.newest().signed) || is_root(&next.signed) {
            add_signature(next, key);
        }
    }

    fn ever_named(&self, name: &str) -> bool {
        self.roots.iter().any(|root| root::names(&root.signed).values().any(|it| it == name))
    }

    /// What the next root lacks: of the old root's keys, and of its own.
    fn lacks(&self, next: &Signed<Root>) -> Vec<Missing> {
        let old = root::missing(&self.newest().signed, next, "the next root (by the old keys)");
        let new = root::missing(&next.signed, next, "the next root (by its own keys)");
        old.into_iter().chain(new).collect()
    }

    /// The next root takes effect, or what it lacks is the error.
    fn settle(&mut self) -> Result<(), KeysError> {
        let path = self.folder.join(PENDING);
        let next = parse(&path, &fs::read(&path).map_err(file(&path))?)?;
        let missing = self.lacks(&next);
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(Missing::to_string).collect();
            return Err(KeysError::Pending {
                folder: self.folder.clone(),
                missing: missing.join("; "),
            });
        }
        follows(self.roots.last(), &next)
            .map_err(|why| KeysError::Root { path: path.clone(), why })?;
        let name = format!("{}.root.json", next.signed.version);
        fs::rename(&path, self.folder.join(name)).map_err(file(&path))?;
        self.roots.push(next);
        Ok(())
    }
}

/// Whether machines that believe `old` would go on to `new`.
pub(super) fn follows(old: Option<&Signed<Root>>, new: &Signed<Root>) -> Result<(), String> {
    let wanted = old.map_or(1, |old| old.signed.version.get() + 1);
    if new.signed.version.get() != wanted {
        return Err(format!("it says version {}; {wanted} is wanted", new.signed.version));
    }
    let by = old.map_or(&new.signed, |old| &old.signed);
    by.verify_role(new)
        .and_then(|()| new.signed.verify_role(new))
        .map_err(|error| error.to_string())
}

fn pem(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}

/// What of ours is in a folder.
fn names_in(folder: &Path) -> Result<Vec<String>, KeysError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(file(folder))? {
        let name = entry.map_err(file(folder))?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".pem") || name.ends_with(".json") {
            names.push(name);
        }
    }
    Ok(names)
}

fn threshold(threshold: u64) -> NonZeroU64 {
    NonZeroU64::new(threshold).unwrap_or(NonZeroU64::MIN)
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Signed<Root>, KeysError> {
    serde_json::from_slice(bytes)
        .map_err(|error| KeysError::Root { path: path.into(), why: error.to_string() })
}

/// Writes a file that appears whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path)).map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> KeysError + '_ {
    |source| KeysError::File { path: path.into(), source }
}
