//! What can go wrong, whose it is, and what to do.

use protocol::Digest;
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why packages could not be had or an image not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's package sources name no Debian archive.
    #[error(
        "the host's package sources name no Debian archive (looked for URIs ending in `debian…` with component `main` in {looked}): name one with --mirror"
    )]
    NoSources {
        /// Where was looked.
        looked: String,
    },
    /// A mirror was named that cannot stand in a sources file.
    #[error("{0:?} is no mirror: an address like http://HOST/debian is wanted")]
    BadMirror(String),
    /// No mirror answers.
    #[error(
        "no package mirror answers: {detail}\nlook at the network and proxy of this machine (`apt-get update` uses the same), or name another mirror with --mirror"
    )]
    Unreachable {
        /// What apt said.
        detail: String,
    },
    /// What a mirror gave is not what the archive's keys signed.
    #[error(
        "the archive's signature does not hold: {detail}\nthe mirror gives something else than Debian signed, or this host's debian-archive-keyring is too old: update that package, or use another mirror"
    )]
    Signature {
        /// What apt said.
        detail: String,
    },
    /// The suite has no such package.
    #[error("no package {name:?} in {suite}: the name is wrong, or the suite no longer has it")]
    NoPackage {
        /// The name.
        name: String,
        /// The suite.
        suite: String,
    },
    /// A package is not what the signed index says.
    #[error("{path}: its SHA-256 is {found}, the signed index says {wanted}: delete it and retry")]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What the index says.
        wanted: String,
    },
    /// A file of an image is not the one that the image's manifest names.
    #[error(
        "{path} is not the file that the image's manifest names: its digest is {found}, {wanted} is wanted; build the image again"
    )]
    Altered {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: Digest,
        /// What the manifest says.
        wanted: Digest,
    },
    /// The kernel's makefiles take names apart at these characters.
    #[error(
        "{0}: the kernel's build works in no folder whose name has a space or a colon: move the checkout, or its cache, to another"
    )]
    NoFolderForMake(PathBuf),
    /// The disk is full.
    #[error(
        "no space left on the disk that holds {path}: free some (an image build wants about 1 GB of cache) and retry"
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// A tool of the host failed or is not there.
    #[error("{tool}: {detail}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// What it said.
        detail: String,
    },
    /// The operating system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `image.toml` is wrong.
    #[error("{path}: {detail}")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        detail: String,
    },
    /// A kernel does not take options as the recipe has them.
    #[error(
        "the kernel does not take these options of image.toml as they are:\n{unmet}\nanother option that they need may be missing, or this kernel may have them no longer (`make menuconfig` in its source tells)"
    )]
    Options {
        /// One a line: what it is, what was wanted, and why.
        unmet: String,
    },
    /// The image is larger than it may be.
    #[error(
        "the image of flavour {flavour} is {bytes} bytes to download, {over} more than its budget of {budget} in image.toml; report.txt in {folder} says what they are: take something out, or give it more"
    )]
    Budget {
        /// Its flavour.
        flavour: String,
        /// Kernel, initramfs and root.
        bytes: u64,
        /// What is too much.
        over: u64,
        /// What it may have.
        budget: u64,
        /// The image's folder.
        folder: PathBuf,
    },
    /// Modules that only a kernel built here can have.
    #[error(
        "{what}: such modules are built for, and signed for, the kernel that is built from source alone: use --kernel source"
    )]
    NoModulesFor {
        /// Which.
        what: String,
    },
    /// A file of a package or an input is not what it should be.
    #[error("{path}: {detail}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The recipe asks for what its packages do not hold.
    #[error("{what} is in none of the packages {packages}: {mend}")]
    Missing {
        /// What was looked for.
        what: String,
        /// Where.
        packages: String,
        /// What to do.
        mend: &'static str,
    },
}

impl Error {
    /// An I/O error at a path; a full disk is told apart.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, source },
        }
    }

    /// A file that is not what it should be.
    pub fn bad_file(path: impl AsRef<Path>, detail: impl ToString) -> Self {
        Self::BadFile { path: path.as_ref().to_path_buf(), detail: detail.to_string() }
    }
}

/// Adds the path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|source| Error::io(path, source))
    }
}
