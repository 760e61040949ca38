//! `cargo xtask keys`: the keys that vouch for releases, for what firmware boots, and for modules.

use crate::{
    release::Lives,
    secure_boot,
    setup::{self, Sources},
    workspace,
};
use ::image::kernel::source;
use anyhow::{Context, bail};
use protocol::told;
use release::sign::{Keys, KeysError, ROLES, RoleType, Shape};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The folder of the release keys below [`workspace::keys`].
const RELEASE: &str = "release";

/// Makes all keys of a network of your own, once, or tells of those that sign releases.
///
/// keys/secure-boot/  PK, KEK and db, which your machines' firmware is given; MOK, for PCs that keep
///                    Microsoft's. docs/secure-boot.md has more.
/// keys/modules.pem   signs the modules of the kernel built from source.
/// keys/release/      signs releases.
///
/// The last lie below keys/release/ (or $ALIA_KEYS/release/), a file each, readable by you alone. Each
/// role has its own, in the manner of TUF:
///
/// root       says which keys the roles have. Used when a key is replaced, so: offline, each at
///            another person's. Two of three must sign.
/// targets    says what is released. Used at each release: offline too, each at another person's.
///            Two of three must sign.
/// snapshot, timestamp
///            say that a release is the newest. They stay here: alone they release nothing.
///
/// They begin all in one folder, so that `cargo xtask up` can sign by itself. For a network of
/// one's own, move root-*.pem and targets-*.pem to machines without a network, leave the
/// *.root.json here, and sign there by `cargo xtask release sign`. A key that is lost or stolen is
/// replaced by `cargo xtask keys rotate ROLE --out NAME`; as long as fewer are than a role's
/// threshold, no machine has to be touched. Nothing is ever overwritten. docs/release.md has more.
#[derive(clap::Args, Debug)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct Flags {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    shapes: Shapes,
    #[command(flatten)]
    sources: Sources,
}

#[derive(clap::Args, Debug)]
struct Shapes {
    /// How many keys of role root must sign, of how many.
    #[arg(long, value_name = "N/M", default_value = "2/3")]
    root: Shape,
    /// The same of role targets.
    #[arg(long, value_name = "N/M", default_value = "2/3")]
    targets: Shape,
    /// The same of role snapshot.
    #[arg(long, value_name = "N/M", default_value = "1/1")]
    snapshot: Shape,
    /// The same of role timestamp.
    #[arg(long, value_name = "N/M", default_value = "1/1")]
    timestamp: Shape,
    /// How long the root metadata holds before a next version must be signed.
    #[arg(long, value_name = "TIME", default_value = "1825d")]
    root_expires: Lives,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Show roles, thresholds, keys, and which of them lie here.
    Show {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Replace keys of a role by new ones, in a next version of the root metadata.
    ///
    /// It takes effect once enough keys of the old root and of the new one have signed: those that
    /// lie here do at once, the others by `cargo xtask release sign --key FILE keys/release`.
    /// Machines follow from the root that they were built with to the newest by themselves.
    Rotate {
        /// root, targets, snapshot or timestamp.
        role: RoleType,
        /// The keys that are taken out, by name (`targets-2`); all of the role by default.
        #[arg(long, value_name = "NAME")]
        out: Vec<String>,
        /// How long the next root metadata holds.
        #[arg(long, value_name = "TIME", default_value = "1825d")]
        root_expires: Lives,
    },
}

/// What `keys show --json` prints.
#[derive(Serialize)]
struct Shown {
    folder: PathBuf,
    root_version: u64,
    /// Seconds since 1970.
    root_expires: i64,
    roles: Vec<ShownRole>,
}

#[derive(Serialize)]
struct ShownRole {
    role: RoleType,
    threshold: u64,
    keys: Vec<ShownKey>,
}

#[derive(Serialize)]
struct ShownKey {
    name: String,
    id: String,
    here: bool,
}

/// The folder of the release keys.
pub fn folder() -> PathBuf {
    workspace::keys().join(RELEASE)
}

/// Seconds since 1970.
pub(crate) fn now() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("this machine's clock is before 1970: set it")?.as_secs())
}

/// The release keys; made, and said so, where there are none.
pub fn ensure() -> anyhow::Result<Keys> {
    ensure_in(&folder())
}

fn ensure_in(folder: &Path) -> anyhow::Result<Keys> {
    match Keys::open(folder) {
        Err(KeysError::None(_)) => {}
        other => return Ok(other?),
    }
    let two_of_three = Shape { threshold: 2, keys: 3 };
    let one = Shape { threshold: 1, keys: 1 };
    let expires = now()?.saturating_add(1_825 * 24 * 3_600);
    let made = Keys::make(folder, &[two_of_three, two_of_three, one, one], expires)?;
    println!(
        "  made the keys that sign releases: {}; `cargo xtask keys --help` says which to take \
         elsewhere",
        folder.display()
    );
    Ok(made.keys)
}

/// Makes, shows or rotates keys.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    let folder = folder();
    match flags.command {
        None => {
            make(&folder, &flags.shapes)?;
            let modules = workspace::keys().join("modules.pem");
            if source::ensure_key(&modules)? {
                println!("made {}", modules.display());
            }
            secure_boot::keys(&setup::packages(&flags.sources)?).map(drop)
        }
        Some(Command::Show { json }) => show(&Keys::open(&folder)?, json),
        Some(Command::Rotate { role, out, root_expires }) => {
            rotate(&mut Keys::open(&folder)?, role, &out, root_expires)
        }
    }
}

fn make(folder: &Path, shapes: &Shapes) -> anyhow::Result<()> {
    let expires = now()?.saturating_add(shapes.root_expires.seconds());
    let wanted = [shapes.root, shapes.targets, shapes.snapshot, shapes.timestamp];
    match Keys::make(folder, &wanted, expires) {
        Ok(made) => {
            for file in &made.files {
                println!("made {}", file.display());
            }
            println!("made {}", folder.join("1.root.json").display());
            println!(
                "next: move root-*.pem and targets-*.pem to where only their keepers are; \
                 `cargo xtask keys --help` says why"
            );
            Ok(())
        }
        // Asked for once more, there is nothing to make; what there is is shown.
        Err(error @ KeysError::Made(_)) => match Keys::open(folder) {
            Ok(keys) => {
                println!("{}", told(&error));
                show(&keys, false)
            }
            Err(KeysError::None(_)) => bail!(
                "{} holds keys and no 1.root.json: put every N.root.json there, from the metadata/ \
                 of a release that they signed",
                folder.display()
            ),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn shown(keys: &Keys) -> Shown {
    let role = |role: RoleType| ShownRole {
        role,
        threshold: keys.threshold(role),
        keys: keys
            .of_role(role)
            .into_iter()
            .map(|(name, id, here)| ShownKey { name, id, here })
            .collect(),
    };
    let root = &keys.newest().signed;
    Shown {
        folder: keys.folder().into(),
        root_version: root.version.get(),
        root_expires: root.expires.as_second(),
        roles: ROLES.into_iter().map(role).collect(),
    }
}

fn show(keys: &Keys, json: bool) -> anyhow::Result<()> {
    let shown = shown(keys);
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    println!(
        "{}: root version {}, which expires on {}",
        shown.folder.display(),
        shown.root_version,
        keys.newest().signed.expires.strftime("%Y-%m-%d")
    );
    for role in &shown.roles {
        println!("{}: {} of {} must sign", role.role, role.threshold, role.keys.len());
        for key in &role.keys {
            let at = if key.here { "here" } else { "elsewhere" };
            println!("  {:12} {}  {at}", key.name, key.id);
        }
    }
    Ok(())
}

fn rotate(keys: &mut Keys, role: RoleType, out: &[String], lives: Lives) -> anyhow::Result<()> {
    let rotation = keys.rotate(role, out, now()?.saturating_add(lives.seconds()))?;
    for file in &rotation.new {
        println!("made {}", file.display());
    }
    println!("taken out: {}", rotation.out.join(", "));
    if rotation.missing.is_empty() {
        println!(
            "root version {} takes effect; releases made from now on carry it to the machines",
            rotation.version
        );
        println!("the secrets of the keys taken out may be destroyed");
    } else {
        for missing in &rotation.missing {
            println!("waits: {missing}");
        }
        let folder = keys.folder().display();
        println!("next: cargo xtask release sign --key FILE {folder}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_keys_has_no_secret_and_says_where_each_is() {
        let folder = tempfile::tempdir().unwrap();
        ensure_in(folder.path()).unwrap();
        std::fs::remove_file(folder.path().join("root-2.pem")).unwrap();
        let keys = ensure_in(folder.path()).unwrap();
        let shown = serde_json::to_value(shown(&keys)).unwrap();
        assert_eq!(shown["root_version"], 1);
        assert_eq!(shown["roles"][0]["role"], "root");
        assert_eq!(shown["roles"][0]["threshold"], 2);
        let names: Vec<_> = (0..3).map(|at| &shown["roles"][0]["keys"][at]["here"]).collect();
        assert_eq!(names, [true, false, true]);
        assert_eq!(shown["roles"][1]["keys"][2]["name"], "targets-3");
        assert_eq!(shown["roles"][1]["keys"][2]["id"].as_str().unwrap().len(), 64);
    }
}
