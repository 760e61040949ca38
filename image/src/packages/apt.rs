//! A private apt tree: the only file here that runs apt.

use super::{Options, sources};
use crate::error::{At, Error};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

/// What the signed index says of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its source package.
    pub source: String,
    /// `Depends`.
    pub depends: String,
    /// `Section`: `libs` for shared libraries.
    pub section: String,
    /// Its path on the mirror.
    pub filename: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

/// A private apt tree for one suite.
pub(super) struct Apt {
    folder: PathBuf,
    cache: PathBuf,
    suite: String,
}

impl Apt {
    /// Lays the tree out: sources, an empty dpkg status, and the configuration.
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let folder = options.lists();
        if folder.to_string_lossy().contains(['"', '\n', '\\']) {
            return Err(Error::bad_file(
                &folder,
                "apt cannot be told of such a path; move the cache",
            ));
        }
        for name in ["lists/partial", "archives/partial", "sources.d", "preferences.d"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).at(&path)?;
        }
        let list = if options.mirrors.is_empty() {
            let host = host_sources(Path::new("/etc/apt"))?;
            let codename = host_codename(Path::new("/etc/os-release"));
            sources::for_suite(&host, &codename, &options.suite, &options.components)
        } else {
            if let Some(bad) = options.mirrors.iter().find(|mirror| !sources::is_mirror(mirror)) {
                return Err(Error::BadMirror(bad.clone()));
            }
            sources::for_mirrors(&options.mirrors, &options.suite, &options.components)
        };
        if list.is_empty() {
            let looked = "/etc/apt/sources.list and /etc/apt/sources.list.d".into();
            return Err(Error::NoSources { looked });
        }
        let (cache, suite) = (options.cache.clone(), options.suite.clone());
        let apt = Self { folder, cache, suite };
        // Other sources than the last time: the lists that are there belong to those.
        if write_if_changed(&apt.path("sources.d/suite.sources"), &sources::write(&list))? {
            let _ = fs::remove_file(apt.path("updated"));
        }
        // Nothing is installed as far as this tree knows: versions do not depend on the host.
        write_if_changed(&apt.path("status"), "")?;
        write_if_changed(&apt.path("apt.conf"), &apt.configuration())?;
        Ok(apt)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Read after the host's own configuration, whose proxy and the like stay in force.
    fn configuration(&self) -> String {
        let folder = self.folder.display();
        format!(
            r#"Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::State::extended_states "{folder}/extended_states";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{folder}/preferences.d";
APT::Default-Release "";
APT::Architecture "amd64";
#clear APT::Architectures;
// The cache is the user's own: apt's sandbox user could not read it.
APT::Sandbox::User "";
// The host's hooks are about the host's packages.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
// A source that fails is an error, and what is not signed does not enter.
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"#
        )
    }

    /// Waits until no other process fetches: suites and components have lists of their own, and one
    /// place for what is on its way.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let path = self.cache.join("lock");
        let file = File::create(&path).at(&path)?;
        file.lock().at(&path)?;
        Ok(file)
    }

    /// How long ago the lists were fetched; `None` when they never were.
    pub(super) fn list_age(&self) -> Option<Duration> {
        let modified = fs::metadata(self.path("updated")).ok()?.modified().ok()?;
        // A clock that was set back makes lists look as if from the future: then they are new.
        Some(modified.elapsed().unwrap_or_default())
    }

    fn run(&self, tool: &'static str, arguments: &[&str], at: &Path) -> Result<Output, Error> {
        Command::new(tool)
            .arg("-c")
            .arg(self.path("apt.conf"))
            .args(arguments)
            .current_dir(at)
            .env("LC_ALL", "C")
            .output()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Error::Tool {
                    tool,
                    detail: "not found: a Debian machine (12 or later) is wanted".into(),
                },
                _ => Error::io(tool, error),
            })
    }

    /// Fetches the lists, signatures checked.
    pub(super) fn update(&self) -> Result<(), Error> {
        let output = self.run("apt-get", &["-q", "update"], &self.folder)?;
        if !output.status.success() {
            return Err(failure("apt-get update", &output.stderr, &self.folder));
        }
        let stamp = self.path("updated");
        File::create(&stamp).at(&stamp)?;
        Ok(())
    }

    /// The newest version of each package, in the order of `names`.
    pub(super) fn show(&self, names: &[&str]) -> Result<Vec<Stanza>, Error> {
        let output = self.shown(names)?;
        let stanzas = stanzas(&String::from_utf8_lossy(&output.stdout));
        names
            .iter()
            .map(|name| {
                stanzas.iter().find(|stanza| stanza.name == *name).cloned().ok_or_else(|| {
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    // An index that cannot be read is no missing package.
                    if !output.status.success()
                        && !stderr.contains("No packages found")
                        && !stderr.contains("Unable to locate")
                    {
                        return failure("apt-cache show", &output.stderr, &self.folder);
                    }
                    Error::NoPackage { name: name.to_string(), suite: self.suite.clone() }
                })
            })
            .collect()
    }

    /// Packages and, after them, the shared libraries that they need, of those in turn too: what
    /// `Depends` names, the first of alternatives, as far as its section is `libs`.
    pub(super) fn show_with_libraries(&self, names: &[&str]) -> Result<Vec<Stanza>, Error> {
        let mut all = self.show(names)?;
        let mut asked: BTreeSet<String> = all.iter().map(|stanza| stanza.name.clone()).collect();
        let mut fresh = all.clone();
        loop {
            let depends = fresh.iter().flat_map(|stanza| first_alternatives(&stanza.depends));
            let next: Vec<&str> = depends.filter(|name| asked.insert((*name).into())).collect();
            if next.is_empty() {
                return Ok(all);
            }
            let output = self.shown(&next)?;
            let found = stanzas(&String::from_utf8_lossy(&output.stdout));
            // A name that is only virtual has no stanza; no library's is.
            let library = |name: &&str| {
                found.iter().find(|stanza| stanza.name == *name && stanza.section == "libs")
            };
            fresh = next.iter().filter_map(library).cloned().collect();
            all.extend_from_slice(&fresh);
        }
    }

    fn shown(&self, names: &[&str]) -> Result<Output, Error> {
        let mut arguments = vec!["show", "--no-all-versions", "--"];
        arguments.extend(names);
        self.run("apt-cache", &arguments, &self.folder)
    }

    /// Downloads packages into a folder.
    pub(super) fn download(&self, packages: &[&Stanza], into: &Path) -> Result<(), Error> {
        let exact: Vec<String> =
            packages.iter().map(|stanza| format!("{}={}", stanza.name, stanza.version)).collect();
        let mut arguments = vec!["-q", "download", "--"];
        arguments.extend(exact.iter().map(String::as_str));
        let output = self.run("apt-get", &arguments, into)?;
        if output.status.success() {
            return Ok(());
        }
        Err(failure("apt-get download", &output.stderr, into))
    }
}

/// What a failed tool's words mean.
pub(super) fn failure(tool: &'static str, stderr: &[u8], writing: &Path) -> Error {
    let text = String::from_utf8_lossy(stderr);
    // Errors first: apt's warnings often repeat them at length.
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with("E:")).collect();
    if lines.is_empty() {
        lines = text.lines().collect();
    }
    let detail: String = lines.join("; ").chars().take(600).collect();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["No space left on device", "enough free space", "Disk quota exceeded"]) {
        Error::DiskFull { path: writing.to_path_buf() }
    } else if says(&[
        "NO_PUBKEY",
        "BADSIG",
        "EXPKEYSIG",
        "REVKEYSIG",
        "GPG error",
        "OpenPGP signature",
        "is not signed",
        "no longer signed",
        "Hash Sum mismatch",
    ]) {
        Error::Signature { detail }
    } else if says(&[
        "Failed to fetch",
        "Unable to connect",
        "Temporary failure",
        "Unable to fetch",
    ]) {
        Error::Unreachable { detail }
    } else {
        Error::Tool { tool, detail }
    }
}

/// The stanzas that `apt-cache show` prints; those that lack what is wanted of them are left out.
pub fn stanzas(text: &str) -> Vec<Stanza> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza
                    .lines()
                    .filter_map(|line| line.split_once(": "))
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.trim().to_string())
            };
            let name = field("Package")?;
            let sha256 = field("SHA256")?;
            // It becomes a file's name.
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            Some(Stanza {
                source: field("Source").unwrap_or_else(|| name.clone()),
                name,
                version: field("Version")?,
                depends: field("Depends").unwrap_or_default(),
                section: field("Section").unwrap_or_default(),
                filename: field("Filename")?,
                bytes: field("Size")?.parse().ok()?,
                sha256: sha256.to_ascii_lowercase(),
            })
        })
        .collect()
}

/// The packages that a `Depends` field names, of alternatives the first: `a (>= 1) | b, c:any`.
fn first_alternatives(depends: &str) -> impl Iterator<Item = &str> {
    depends
        .split(',')
        .filter_map(|clause| clause.split(['|', ' ', ':', '(']).find(|word| !word.is_empty()))
}

/// Every source that the host's apt is given.
fn host_sources(etc: &Path) -> Result<Vec<sources::Source>, Error> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut found = Vec::new();
    for file in files {
        let deb822 = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => false,
            Some("sources") => true,
            _ => continue,
        };
        match fs::read_to_string(&file) {
            Ok(text) => found.extend(sources::parse(&text, deb822)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(&file, error)),
        }
    }
    Ok(found)
}

/// `VERSION_CODENAME` of os-release(5), empty when there is none.
fn host_codename(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.unwrap_or_default().trim_matches('"').to_string()
}

fn write_if_changed(path: &Path, text: &str) -> Result<bool, Error> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    fs::write(path, text).at(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_apt_become_errors_with_blame() {
        let at = Path::new("cache");
        let error = |words: &str| failure("apt-get update", words.as_bytes(), at);
        assert!(matches!(
            error(
                "W: GPG error: x trixie InRelease: NO_PUBKEY 1\nE: The repository 'x' is not signed."
            ),
            Error::Signature { .. }
        ));
        assert!(matches!(
            error("E: Failed to fetch http://x/ Could not connect to x:80"),
            Error::Unreachable { .. }
        ));
        assert!(matches!(
            error(
                "E: Failed to fetch x  Error writing to file - write (28: No space left on device)"
            ),
            Error::DiskFull { .. }
        ));
        assert!(matches!(error("E: Something else"), Error::Tool { .. }));
    }

    #[test]
    fn stanzas_are_read_and_a_digest_that_is_no_digest_is_left_out() {
        let digest = "ab".repeat(32);
        let text = format!(
            "Package: a\nVersion: 1\nDepends: b\nFilename: pool/a.deb\nSize: 5\nSHA256: {digest}\nDescription: x\n more: y\n\nPackage: b\nVersion: 1\nFilename: p\nSize: 5\nSHA256: ../../etc\n"
        );
        let stanzas = stanzas(&text);
        assert_eq!(stanzas.len(), 1);
        assert_eq!(stanzas[0].sha256, digest);
        assert_eq!(stanzas[0].source, "a");
    }

    #[test]
    fn of_alternatives_the_first_is_named() {
        let depends = "libc6 (>= 2.38), bochs-wx | bochs-gui,python3:any (>= 3), libz|zlib1g";
        let names: Vec<_> = first_alternatives(depends).collect();
        assert_eq!(names, ["libc6", "bochs-wx", "python3", "libz"]);
        assert_eq!(first_alternatives("").count(), 0);
    }
}
