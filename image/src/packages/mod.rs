//! Distribution packages of a chosen suite, fetched by name into a cache; nothing is installed.
//!
//! A private apt tree ([`apt`]) is pointed at the host's own mirrors with another suite's name
//! ([`sources`]), so that the network settings, the proxy and the trusted keys are the host's and
//! apt itself checks signatures. No root is needed.
//!
//! In the cache: `apt/SUITE/` (apt's lists; with more components than usual their names follow), `debs/SHA256.deb`, and `trees/SHA256/`, a package
//! unpacked. A package's bytes are hashed again each time it is unpacked. One process fetches at a
//! time; others wait.

pub mod apt;
pub mod sources;

use crate::error::{At, Error};
use apt::Apt;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

/// What [`deb_time`] looks at: ar's magic and the first member's header (deb(5), ar(5)).
const DEB_HEADER_LEN: usize = 8 + 60;
/// Lists older than this are fetched anew before packages are looked up: security updates come
/// about weekly, and a build in between should cost no network.
const MAX_LIST_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The components that every image is made of.
const COMPONENTS: [&str; 2] = ["main", "non-free-firmware"];
/// Packages that are named while they are fetched; a program's libraries can be a hundred.
const MAX_NAMED: usize = 20;

/// Where packages come from and are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cache's folder; made when it is not there.
    pub cache: PathBuf,
    /// The suite, by code name: `trixie`.
    pub suite: String,
    /// Components to look in.
    pub components: Vec<String>,
    /// Mirrors to use instead of the host's. One whose last segment says `security` serves the
    /// security suite.
    pub mirrors: Vec<String>,
    /// Fetch the lists anew, whatever their age.
    pub refresh: bool,
}

impl Options {
    /// The host's mirrors, `main` and `non-free-firmware`.
    pub fn new(cache: impl Into<PathBuf>, suite: impl Into<String>) -> Self {
        Self {
            cache: cache.into(),
            suite: suite.into(),
            components: COMPONENTS.map(String::from).into(),
            mirrors: Vec::new(),
            refresh: false,
        }
    }

    /// The folder of apt's lists below the cache: other components have one of their own, so that
    /// neither refetches the other's.
    fn lists(&self) -> PathBuf {
        let mut name = self.suite.clone();
        for more in self.components.iter().filter(|name| !COMPONENTS.contains(&name.as_str())) {
            name.push('+');
            name.push_str(more);
        }
        self.cache.join("apt").join(name)
    }
}

/// A package's origin: what a report says of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb` as the signed index gives it, hex.
    pub sha256: String,
    /// The source package and, where it differs, its version.
    pub source: String,
    /// Where the archive keeps it, below the mirror's address.
    pub filename: String,
    /// Size of the `.deb` in bytes.
    pub bytes: u64,
    /// When it was built, by the date in its archive's first header; seconds since 1970.
    pub unix_time: u64,
}

/// A fetched and unpacked package.
#[derive(Clone, Debug)]
pub struct Package {
    /// What and whence.
    pub origin: Origin,
    /// Its `Depends` field.
    pub depends: String,
    /// The `.deb`.
    pub deb: PathBuf,
    /// The folder of its files, as they would lie below `/`.
    pub root: PathBuf,
}

impl Package {
    /// The first package whose name begins with `prefix` among those that this one depends on:
    /// how a metapackage names the version that it stands for.
    pub fn dependency(&self, prefix: &str) -> Option<&str> {
        self.depends
            .split([',', '|'])
            .filter_map(|clause| clause.split_whitespace().next())
            .find(|name| name.starts_with(prefix))
    }

    /// Every file (no folders, no links) below `root` whose path in the package `wanted` accepts,
    /// in the order of their paths: `usr/share/locale/de/LC_MESSAGES/git.mo`.
    pub fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>, Error> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).at(&folder)? {
                let entry = entry.at(&folder)?;
                let path = entry.path();
                let kind = entry.file_type().at(&path)?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file()
                    && let Ok(inside) = path.strip_prefix(&self.root)
                    && let Some(inside) = inside.to_str()
                    && wanted(inside)
                {
                    found.push((inside.to_string(), path.clone()));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Tells people what takes long.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// One suite's packages.
pub struct Packages {
    options: Options,
    apt: Apt,
    say: Progress,
}

impl Packages {
    /// Prepares the private apt tree. Reads the host's sources; touches no network.
    pub fn open(options: Options, say: Progress) -> Result<Self, Error> {
        fs::create_dir_all(&options.cache).at(&options.cache)?;
        let options =
            Options { cache: options.cache.canonicalize().at(&options.cache)?, ..options };
        for folder in ["debs", "trees"] {
            let folder = options.cache.join(folder);
            fs::create_dir_all(&folder).at(&folder)?;
        }
        let apt = Apt::open(&options)?;
        Ok(Self { options, apt, say })
    }

    /// The same suite and cache, with more of the archive's components.
    ///
    /// # Errors
    /// As [`Packages::open`].
    pub fn with_components(&self, more: &[String]) -> Result<Self, Error> {
        let mut options = self.options.clone();
        options.components.extend_from_slice(more);
        Self::open(options, self.say.clone())
    }

    /// Tells people what takes long.
    pub fn progress(&self) -> Progress {
        self.say.clone()
    }

    /// The suite.
    pub fn suite(&self) -> &str {
        &self.options.suite
    }

    /// The cache's folder.
    pub fn cache(&self) -> &Path {
        &self.options.cache
    }

    /// Fetches and unpacks packages, in the order of `names`: those that the cache does not hold
    /// in their newest version. No dependency is followed.
    pub fn fetch<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<Package>, Error> {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let _lock = self.apt.lock()?;
        let stanzas = self.download(|| self.apt.show(&names))?;
        stanzas.iter().map(|stanza| self.unpacked(stanza)).collect()
    }

    /// One folder with packages and the shared libraries that they need. A program in it is run by
    /// the loader in it, `usr/lib64/ld-linux-x86-64.so.2`, whatever libraries the host has.
    pub fn with_libraries<S: AsRef<str>>(&self, names: &[S]) -> Result<PathBuf, Error> {
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let _lock = self.apt.lock()?;
        let stanzas = self.download(|| self.apt.show_with_libraries(&names))?;
        let debs: Vec<_> =
            stanzas.iter().map(|stanza| (stanza.sha256.as_str(), self.deb(stanza))).collect();
        self.merge(&debs)
    }

    /// What `look_up` gives, with lists that are new enough, in the cache.
    fn download(
        &self,
        look_up: impl Fn() -> Result<Vec<apt::Stanza>, Error>,
    ) -> Result<Vec<apt::Stanza>, Error> {
        self.update_lists()?;
        let get = || {
            let stanzas = look_up()?;
            self.download_missing(&stanzas)?;
            Ok(stanzas)
        };
        match get() {
            // The lists may be older than what the mirror still holds.
            Err(Error::Unreachable { detail }) if detail.contains("404") => {
                self.apt.update()?;
                get()
            }
            other => other,
        }
    }

    fn update_lists(&self) -> Result<(), Error> {
        match self.apt.list_age() {
            None => {
                (self.say)(&format!("fetching the package lists of {}", self.options.suite));
                self.apt.update()
            }
            Some(age) if age > MAX_LIST_AGE || self.options.refresh => {
                (self.say)(&format!("refreshing the package lists of {}", self.options.suite));
                match self.apt.update() {
                    Err(Error::Unreachable { detail }) if !self.options.refresh => {
                        let days = age.as_secs() / 86_400;
                        (self.say)(&format!(
                            "no mirror answers ({detail}); going on with lists {days} days old"
                        ));
                        Ok(())
                    }
                    other => other,
                }
            }
            Some(_) => Ok(()),
        }
    }

    fn deb(&self, stanza: &apt::Stanza) -> PathBuf {
        self.options.cache.join("debs").join(format!("{}.deb", stanza.sha256))
    }

    fn download_missing(&self, stanzas: &[apt::Stanza]) -> Result<(), Error> {
        let missing: Vec<&apt::Stanza> =
            stanzas.iter().filter(|stanza| !self.deb(stanza).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let megabytes = missing.iter().map(|stanza| stanza.bytes).sum::<u64>() as f64 / 1e6;
        let list: Vec<&str> = missing.iter().map(|stanza| stanza.name.as_str()).collect();
        let (first, more) = list.split_at(list.len().min(MAX_NAMED));
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        (self.say)(&format!("fetching {}{more} ({megabytes:.1} MB)", first.join(", ")));
        let staging = self.options.cache.join("debs").join("partial");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).at(&staging)?;
        self.apt.download(&missing, &staging)?;
        for entry in fs::read_dir(&staging).at(&staging)? {
            let path = entry.at(&staging)?.path();
            let found = sha256_of(&path)?;
            let Some(stanza) = missing.iter().find(|stanza| stanza.sha256 == found) else {
                let wanted = list.join(", ");
                return Err(Error::WrongDigest { path, found, wanted });
            };
            let deb = self.deb(stanza);
            fs::rename(&path, &deb).at(&deb)?;
        }
        match missing.iter().find(|stanza| !self.deb(stanza).exists()) {
            Some(stanza) => Err(Error::Tool {
                tool: "apt-get download",
                detail: format!("said it was done, but {} is not there", stanza.name),
            }),
            None => Ok(()),
        }
    }

    fn unpacked(&self, stanza: &apt::Stanza) -> Result<Package, Error> {
        let deb = self.deb(stanza);
        let root = self.options.cache.join("trees").join(&stanza.sha256);
        if !root.exists() {
            (self.say)(&format!("unpacking {} {}", stanza.name, stanza.version));
            unpack(&[(&stanza.sha256, deb.clone())], &root)?;
        }
        let origin = Origin {
            name: stanza.name.clone(),
            version: stanza.version.clone(),
            sha256: stanza.sha256.clone(),
            source: stanza.source.clone(),
            filename: stanza.filename.clone(),
            bytes: stanza.bytes,
            unix_time: built(&deb)?,
        };
        Ok(Package { origin, depends: stanza.depends.clone(), deb, root })
    }

    /// One folder with the files of several packages, whose links lead from one into another.
    pub fn merged(&self, packages: &[Package]) -> Result<PathBuf, Error> {
        let _lock = self.apt.lock()?;
        let debs: Vec<_> = packages
            .iter()
            .map(|package| (package.origin.sha256.as_str(), package.deb.clone()))
            .collect();
        self.merge(&debs)
    }

    fn merge(&self, debs: &[(&str, PathBuf)]) -> Result<PathBuf, Error> {
        let mut name = Sha256::new();
        debs.iter().for_each(|(sha256, _)| name.update(sha256));
        let root = self.options.cache.join("trees").join(format!("{:x}", name.finalize()));
        if !root.exists() {
            (self.say)(&format!("unpacking {} packages into one folder", debs.len()));
            unpack(debs, &root)?;
        }
        Ok(root)
    }
}

/// Unpacks packages, each of the digest given with it, into one folder, which appears whole or not
/// at all.
fn unpack(debs: &[(&str, PathBuf)], root: &Path) -> Result<(), Error> {
    let partial = root.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).at(&partial)?;
    for (wanted, deb) in debs {
        let found = sha256_of(deb)?;
        if found != *wanted {
            let (path, wanted) = (deb.clone(), wanted.to_string());
            return Err(Error::WrongDigest { path, found, wanted });
        }
        let output = Command::new("dpkg-deb")
            .arg("--extract")
            .args([deb, &partial])
            .env("LC_ALL", "C")
            .output()
            .at("dpkg-deb")?;
        if !output.status.success() {
            return Err(apt::failure("dpkg-deb", &output.stderr, &partial));
        }
    }
    fs::rename(&partial, root).at(root)
}

/// The SHA-256 of a file in hex.
fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut file = fs::File::open(path).at(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).at(path)?;
        if n == 0 {
            return Ok(format!("{:x}", hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// When a `.deb` was built; see [`deb_time`].
fn built(path: &Path) -> Result<u64, Error> {
    let mut header = [0; DEB_HEADER_LEN];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut header)).at(path)?;
    deb_time(&header)
        .ok_or_else(|| Error::bad_file(path, "not a Debian package: its first header is wrong"))
}

/// The time of a `.deb`'s first archive member, which dpkg sets to the date of the changelog's
/// last entry (deb(5), `SOURCE_DATE_EPOCH`); none where these are not the first bytes of one.
pub fn deb_time(header: &[u8]) -> Option<u64> {
    let time = header.strip_prefix(b"!<arch>\n")?.get(16..28)?;
    std::str::from_utf8(time).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(depends: &str) -> Package {
        Package {
            origin: Origin {
                name: "meta".into(),
                version: "1".into(),
                sha256: String::new(),
                source: String::new(),
                filename: String::new(),
                bytes: 0,
                unix_time: 0,
            },
            depends: depends.into(),
            deb: PathBuf::new(),
            root: PathBuf::new(),
        }
    }

    #[test]
    fn a_metapackage_names_what_it_stands_for() {
        let meta = package("kmod (>= 1), linux-image-6.12.1+deb13-amd64 (= 6.12.1-1) | other");
        assert_eq!(meta.dependency("linux-image-"), Some("linux-image-6.12.1+deb13-amd64"));
        assert_eq!(meta.dependency("golang-"), None);
    }

    #[test]
    fn a_package_is_dated_by_its_first_header_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let deb = folder.path().join("a.deb");
        let header = b"!<arch>\ndebian-binary   1782769072  0     0     100644  4         `\n2.0\n";
        fs::write(&deb, header).unwrap();
        assert_eq!(built(&deb).unwrap(), 1_782_769_072);
        fs::write(&deb, [b'x'; 100]).unwrap();
        assert!(matches!(built(&deb), Err(Error::BadFile { .. })));
        fs::write(&deb, b"short").unwrap();
        assert!(built(&deb).is_err());
    }

    #[test]
    fn no_mirror_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            mirrors: vec!["http://127.0.0.1:9/debian".into()],
            ..Options::new(folder.path(), "trixie")
        };
        let packages = Packages::open(options, Arc::new(|_| {})).unwrap();
        let error = packages.fetch(&["git"]).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("--mirror"), "{error}");
    }

    #[test]
    fn a_mirror_without_a_good_signature_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("debian");
        for suite in ["trixie", "trixie-updates"] {
            let dist = archive.join("dists").join(suite);
            fs::create_dir_all(&dist).unwrap();
            fs::write(dist.join("Release"), "Origin: Debian\nSuite: trixie\nCodename: trixie\n")
                .unwrap();
        }
        let options = Options {
            mirrors: vec![format!("file:{}", archive.display())],
            ..Options::new(folder.path().join("cache"), "trixie")
        };
        let packages = Packages::open(options, Arc::new(|_| {})).unwrap();
        let error = packages.fetch(&["git"]).unwrap_err();
        assert!(matches!(error, Error::Signature { .. }), "{error}");
    }
}
