//! `cargo xtask release`: an image's release, signed.

use crate::{
    build::{self, KernelFrom},
    keys,
    setup::{self, Sources},
};
use anyhow::{Context, bail};
use protocol::{
    Digest,
    boot::ImageManifest,
    release::{BUNDLE_FILE, Manifest, TrustRoot},
    told,
};
use release::sign::{Keys, Missing, PENDING, Repository, SigningKey};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of an image's release in the image's.
pub const FOLDER: &str = "release";
/// The manifest of an image in its folder.
const MANIFEST: &str = "manifest.json";
/// What a day has.
const DAY: u64 = 24 * 3_600;

/// Makes an image's release, or signs one.
///
/// Builds the image (or takes one by --image), writes the release's TUF repository into release/
/// beside the image's manifest.json, and signs it with the keys that lie here. Once all have signed
/// who must, release.bundle stands there as well: what machines fetch, and what
/// `alia release verify` checks anywhere.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    make: Make,
}

#[derive(clap::Args, Debug)]
struct Make {
    #[command(flatten)]
    sources: Sources,
    /// The folder of an image that was built already.
    #[arg(long, value_name = "DIR", conflicts_with = "kernel")]
    image: Option<PathBuf>,
    /// The kernel of the image that is built.
    #[arg(long, value_enum, default_value = "source")]
    kernel: KernelFrom,
    /// The release's version; it must be above those before. The seconds since 1970 by default.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Machines that have seen this release refuse any whose version is below N; `self` stands for
    /// its own version: it cannot be rolled back. By default nothing is forbidden.
    #[arg(long, value_name = "N|self", default_value = "0")]
    floor: FloorFlag,
    /// How long it may be booted.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    expires: Lives,
    /// When it is made, seconds since 1970; now by default. With it and --version, the same keys
    /// make the same bytes again.
    #[arg(long, value_name = "SECONDS")]
    at: Option<u64>,
    /// The chain's trust root: a file of it, or the home folder of `alia` (with --genesis).
    #[arg(long, value_name = "FILE|DIR")]
    chain: Option<PathBuf>,
    /// The chain's genesis document, where --chain is a home folder.
    #[arg(long, value_name = "FILE", requires = "chain")]
    genesis: Option<PathBuf>,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Add a key's signature to a release, or to a next root metadata, wherever its role is asked.
    ///
    /// Needs the folder and the key alone: carry the image's release/ to the machine that has the
    /// key, sign, and carry it back. What is signed is shown first. Signatures may be added in any
    /// order; the last that is needed makes the bundle.
    Sign {
        /// The key's file.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The release's folder, the image's that has it, or keys/release.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// A stretch of time as people write it: `90d`, `12h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives(u64);

impl Lives {
    /// In seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl std::str::FromStr for Lives {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: 90d means ninety days, 12h twelve hours");
        let (number, unit) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
            (Some(days), _) => (days, DAY),
            (_, Some(hours)) => (hours, 3_600),
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = number.checked_mul(unit).filter(|&seconds| seconds > 0);
        // A hundred years; what is beyond is a mistake.
        seconds.filter(|&seconds| seconds <= 36_525 * DAY).map(Self).ok_or_else(wrong)
    }
}

/// A floor as people name it: a version, or the release's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FloorFlag {
    At(u64),
    Own,
}

impl FloorFlag {
    fn of(self, version: u64) -> u64 {
        match self {
            Self::At(floor) => floor,
            Self::Own => version,
        }
    }
}

impl std::str::FromStr for FloorFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "self" {
            return Ok(Self::Own);
        }
        let floor = text.parse().map(Self::At);
        floor.map_err(|_| format!("{text:?} is no floor: a release's version, or `self`"))
    }
}

/// What a release says beside its image.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its version.
    pub version: u64,
    /// The version below which nothing is booted any more.
    pub floor: u64,
    /// When it expires, seconds since 1970.
    pub expires: u64,
    /// The chain's trust root.
    pub chain: Option<TrustRoot>,
}

impl Terms {
    /// Those of an image built for a try: the time is its version, it holds for 90 days, and it
    /// forbids nothing.
    pub fn now(chain: Option<TrustRoot>) -> anyhow::Result<Self> {
        let now = keys::now()?;
        Ok(Self { version: now, floor: 0, expires: now + 90 * DAY, chain })
    }
}

/// Makes the release of the image in a folder and signs it with the keys that lie here; gives what
/// it lacks still. Where that is nothing, the bundle stands in the image's folder; where not, none
/// does.
pub fn make(image: &Path, keys: &Keys, terms: Terms) -> anyhow::Result<Vec<Missing>> {
    let path = image.join(MANIFEST);
    let said = || path.display().to_string();
    let json = fs::read(&path).with_context(said)?;
    let of: ImageManifest = serde_json::from_slice(&json).with_context(said)?;
    let Terms { version, floor, expires, chain } = terms;
    let manifest = Manifest { version, image: of, floor, chain };
    let mut repository = Repository::new(keys.roots(), manifest, expires)?;
    for key in keys.here()? {
        repository.sign(&key);
    }
    let folder = image.join(FOLDER);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        _ => {}
    }
    repository.write(&folder)?;
    finish(&repository, image)
}

/// Writes the bundle where all have signed, and takes away another where not.
fn finish(repository: &Repository, folder: &Path) -> anyhow::Result<Vec<Missing>> {
    let path = folder.join(BUNDLE_FILE);
    let said = || path.display().to_string();
    let missing = repository.missing();
    if missing.is_empty() {
        let fresh = folder.join(format!("{BUNDLE_FILE}.{}", std::process::id()));
        fs::write(&fresh, repository.bundle()?.to_bytes())
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(said)?;
    } else if path.exists() {
        fs::remove_file(&path).with_context(said)?;
    }
    Ok(missing)
}

/// Makes a release, or signs one.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    match flags.command {
        Some(Command::Sign { key, folder }) => sign(&key, &folder),
        None => run_make(flags.make),
    }
}

fn run_make(flags: Make) -> anyhow::Result<()> {
    let keys = keys::ensure()?;
    let chain = match &flags.chain {
        Some(path) => Some(trust_root(path, flags.genesis.as_deref())?),
        None => None,
    };
    let image = match flags.image {
        Some(image) => image,
        None => {
            if !setup::announce(&flags.sources, flags.kernel.purpose(), &[])? {
                return Ok(());
            }
            setup::install(flags.kernel.purpose())?;
            let packages = setup::packages(&flags.sources)?;
            build::programs()?;
            build::image(&packages, flags.kernel)?.folder
        }
    };
    let at = match flags.at {
        Some(at) => at,
        None => keys::now()?,
    };
    let version = flags.version.unwrap_or(at);
    let floor = flags.floor.of(version);
    if floor > version {
        bail!("a floor of {floor} would forbid this release itself, whose version is {version}");
    }
    let terms =
        Terms { version, floor, expires: at.saturating_add(flags.expires.seconds()), chain };
    let missing = make(&image, &keys, terms)?;
    let repository = Repository::read(&image.join(FOLDER))?;
    show(&repository);
    ended(&missing, &image)
}

/// What a release says, in plain words: to be read before it is signed.
fn show(repository: &Repository) {
    let Manifest { version, image, floor, chain } = repository.manifest();
    println!("release {version}: image {} ({})", image.version, image.digest());
    println!("  kernel {} {}", image.kernel_release, image.kernel.digest);
    println!("  initramfs {}", image.initramfs.digest);
    println!("  root {} (verity {})", image.root.file.digest, image.root.verity.root_hash);
    match floor {
        0 => println!("  forbids no release before it: it can be rolled back (--floor)"),
        _ => println!("  forbids releases below {floor}"),
    }
    match chain {
        Some(root) => println!(
            "  chain {}, trusted from block {} ({}), genesis {}",
            root.chain, root.height, root.header_hash, root.genesis_hash
        ),
        None => println!("  for no chain in particular: no light client can pin it (--chain)"),
    }
    println!("  expires at {} (seconds since 1970)", repository.expires());
}

fn ended(missing: &[Missing], folder: &Path) -> anyhow::Result<()> {
    if missing.is_empty() {
        let path = folder.join(BUNDLE_FILE);
        let bytes = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        println!("signed by all who must: {} ({bytes} bytes)", path.display());
        return Ok(());
    }
    for missing in missing {
        println!("waits: {missing}");
    }
    let folder = folder.display();
    println!("next: cargo xtask release sign --key FILE {folder}, where those keys are");
    Ok(())
}

fn sign(key: &Path, folder: &Path) -> anyhow::Result<()> {
    let signer = SigningKey::read(key)?;
    if folder.join(PENDING).exists() {
        let mut keys = Keys::open(folder)?;
        let missing = keys.sign_pending(&signer)?.unwrap_or_default();
        if missing.is_empty() {
            println!("root version {} takes effect", keys.newest().signed.version);
            return Ok(());
        }
        for missing in &missing {
            println!("waits: {missing}");
        }
        return Ok(());
    }
    // The bundle goes beside the image, where that is at hand.
    let parent = folder.parent().filter(|parent| parent.join(MANIFEST).is_file());
    let (at, beside) = match folder.join(FOLDER) {
        release if release.is_dir() => (release, folder),
        _ => (folder.to_path_buf(), parent.unwrap_or(folder)),
    };
    let mut repository = Repository::read(&at)?;
    show(&repository);
    if repository.roles_of(&signer).is_empty() {
        bail!(
            "{} is no key of this release's root version {}: its id is {}; `cargo xtask keys \
             show` tells which are",
            key.display(),
            repository.root().version,
            signer.id()
        );
    }
    let signed = repository.sign(&signer);
    if signed.is_empty() {
        println!("{} has signed it already", key.display());
    }
    for role in signed {
        println!("signed as {role}");
    }
    repository.write(&at)?;
    let missing = finish(&repository, beside)?;
    ended(&missing, beside)
}

/// The chain's trust root, from a file or from a home folder and the genesis document.
fn trust_root(path: &Path, genesis: Option<&Path>) -> anyhow::Result<TrustRoot> {
    let said = || path.display().to_string();
    if path.is_file() {
        let json = fs::read(path).with_context(said)?;
        return serde_json::from_slice(&json)
            .map_err(|error| anyhow::anyhow!("{} is no trust root: {}", said(), told(&error)));
    }
    let Some(genesis) = genesis else {
        bail!(
            "{} is a home folder, which knows no genesis document: name it by --genesis FILE",
            said()
        );
    };
    let pinned = cli::Home::open(path)?.trust()?.pinned;
    let genesis = fs::read(genesis).with_context(|| genesis.display().to_string())?;
    of_pinned(&pinned, &genesis)
}

/// A header that `alia` pinned, and the genesis document that goes with it, as releases have it.
pub fn of_pinned(
    pinned: &ledger_client::verify::TrustRoot,
    genesis: &[u8],
) -> anyhow::Result<TrustRoot> {
    Ok(TrustRoot {
        chain: pinned.chain.clone(),
        genesis_hash: Digest(Sha256::digest(genesis).into()),
        height: pinned.height,
        header_hash: pinned.header_hash.to_string().to_lowercase().parse()?,
        trusting_period_seconds: pinned.trusting_period_seconds,
    })
}

/// Keys, and a release of the image in a folder, as `up` makes them; says what is missing.
pub fn of_image(image: &Path, chain: Option<TrustRoot>) -> anyhow::Result<()> {
    let missing = make(image, &keys::ensure()?, Terms::now(chain)?)?;
    if !missing.is_empty() {
        println!("the image is not released yet, and machines will refuse it:");
        ended(&missing, image)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!("90d".parse(), Ok(Lives(90 * DAY)));
        assert_eq!("12h".parse(), Ok(Lives(12 * 3_600)));
        for text in ["", "d", "90", "0d", "-1d", "90 d", "99999999d", "9é"] {
            assert!(text.parse::<Lives>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_floor_is_a_version_or_the_releases_own() {
        let of = |text: &str| text.parse::<FloorFlag>().map(|floor| floor.of(12));
        assert_eq!((of("self"), of("11"), of("0")), (Ok(12), Ok(11), Ok(0)));
        let error = of("same").unwrap_err();
        assert_eq!(error, "\"same\" is no floor: a release's version, or `self`");
    }
}
