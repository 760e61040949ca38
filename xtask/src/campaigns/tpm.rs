//! Machines with a TPM and without one, from real firmware: what keeps a node's key, and what a
//! copy of it comes to (`lab/tests/measured.rs`).

use super::{copy_image, lab_test, machines};
use crate::{release, setup::Sources, workspace};
use lab::tools::Purpose;
use protocol::{Digest, boot::ImageManifest};
use std::{fs, path::Path};

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = "swtpm, of the newer suite: the machines' TPMs";
    if machines(sources, Purpose::Test, &[more])?.is_none() {
        return Ok(());
    }
    let next = workspace::target().join("long/tpm/next");
    let _ = fs::remove_dir_all(&next);
    copy_image(&next, |manifest| lengthen_initramfs(&next, manifest))?;
    release::of_image(&next, None)?;
    let more = [
        ("ALIA_TPM_BOOTS", "1".into()),
        ("ALIA_COMMAND", workspace::program("alia").into()),
        ("ALIA_NEXT_IMAGE", next.into()),
    ];
    lab_test("measured", &more)
}

/// Another initramfs with the same in it: the kernel skips zeros behind an archive.
fn lengthen_initramfs(folder: &Path, manifest: &mut ImageManifest) -> anyhow::Result<()> {
    let initramfs = &mut manifest.initramfs;
    let path = folder.join(&initramfs.file);
    let mut bytes = fs::read(&path)?;
    bytes.extend([0; 4]);
    (initramfs.digest, initramfs.bytes) = (Digest::of_bytes(&bytes), bytes.len() as u64);
    fs::write(&path, bytes)?;
    Ok(())
}
