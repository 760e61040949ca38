//! Releases that no machine may boot (`lab/tests/trust.rs`), made of one image with real keys.

use super::{copy_image, lab_test, machines};
use crate::{keys, release, release::Terms, setup::Sources, workspace};
use ::release::sign::{Keys, Shape};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use protocol::{Digest, boot::ImageManifest};
use std::{fs, path::Path};

const DAY: u64 = 24 * 3_600;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = "swtpm, of the newer suite: the TPM of a machine that keeps its floor there";
    if machines(sources, Purpose::Test, &[more])?.is_none() {
        return Ok(());
    }
    let folder = workspace::target().join("long/trust");
    let _ = fs::remove_dir_all(&folder);
    images(&folder)?;
    lab_test("trust", &[("ALIA_TRUST", folder.into())])
}

/// Folders that differ in what their names say.
fn images(folder: &Path) -> anyhow::Result<()> {
    let ours = keys::ensure()?;
    let strangers = strangers(&folder.join("keys"))?;
    let now = keys::now()?;
    let terms = |version, floor, expires| Terms { version, floor, expires, chain: None };
    let all: [(&str, &Keys, Terms); 5] = [
        ("good", &ours, terms(10, 10, now + DAY)),
        ("older", &ours, terms(5, 0, now + DAY)),
        ("expired", &ours, terms(11, 0, now - DAY)),
        ("stranger", &strangers, terms(12, 0, now + DAY)),
        ("block", &ours, terms(13, 0, now + DAY)),
    ];
    for (name, keys, terms) in all {
        let folder = folder.join(name);
        copy_image(&folder, |manifest| match name {
            "block" => alter_block(&folder, manifest),
            _ => Ok(()),
        })?;
        let missing = release::make(&folder, keys, terms).with_context(|| name.to_string())?;
        if !missing.is_empty() {
            bail!("the keys that sign releases are not all here, so none can be made to try");
        }
    }
    Ok(())
}

/// Whoever made the release signed for a root of which one block is not what its hash tree says:
/// every digest is right, and dm-verity alone can tell. The first block is what every mount reads.
fn alter_block(folder: &Path, manifest: &mut ImageManifest) -> anyhow::Result<()> {
    let root = folder.join(&manifest.root.file.file);
    let mut bytes = fs::read(&root)?;
    // EROFS's superblock begins at 1024; this is within its volume's name.
    bytes[1024 + 64] ^= 1;
    manifest.root.file.digest = Digest::of_bytes(&bytes);
    fs::write(&root, bytes)?;
    Ok(())
}

/// Keys of another network.
fn strangers(folder: &Path) -> anyhow::Result<Keys> {
    let one = Shape { threshold: 1, keys: 1 };
    Keys::make(folder, &[one; 4], keys::now()? + DAY)?;
    Ok(Keys::open(folder)?)
}
