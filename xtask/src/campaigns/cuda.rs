//! The image for NVIDIA's cards, without a card: the kernel from source takes the driver's modules
//! as the image has them and refuses what was changed, and a machine that boots it from real
//! firmware works on its processor.

use super::{hold, lab_test};
use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::Context;
use image::{build::Build, cpio::Tree, root};
use lab::{Accelerator, accel, tools::Purpose};
use node_init::stages::command_line;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const FLAVOUR: &str = "cuda";
/// A kernel with all of the driver's modules in its initramfs; 20 s under emulation.
const LIMIT: Duration = Duration::from_secs(240);
/// What ends a signed module (kernel/module/signing.c), and what stands between it and the
/// signature.
const SIGNED: &[u8] = b"~Module signature appended~\n";
const SIGNATURE_INFO: usize = 12;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let (_, flavour) = recipe()?.flavoured(FLAVOUR)?;
    let more = setup::of_flavour(&flavour);
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    if !setup::announce(sources, Purpose::Kernel, &more)? {
        return Ok(());
    }
    setup::install(Purpose::Kernel)?;
    let packages = setup::packages(sources)?;
    build::programs()?;
    let image = workspace::target().join("long/cuda-image");
    let built = build::image_into(&packages, KernelFrom::Source, FLAVOUR, &image)?;
    let (bytes, budget) = (built.manifest.bytes(), built.report.budget);
    hold(bytes <= budget, &format!("{bytes} bytes to download, of {budget}"))?;

    let files = image.join("root");
    let _ = fs::remove_dir_all(&files);
    let recipe = recipe()?;
    root::Builder::new(&packages, &recipe.root)?.unpack(&image.join("root.erofs"), &files)?;
    modules(&built, &files, &image)?;

    lab_test("cuda", &[("ALIA_CUDA_IMAGE", image.into())])
}

/// Has the kernel load the driver's modules as they are, with a changed byte, with a changed
/// signature, and with none.
fn modules(built: &Build, files: &Path, image: &Path) -> anyhow::Result<()> {
    let release = &built.manifest.kernel_release;
    let folder = files.join("lib/modules").join(release);
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let module = read(&folder.join("extra/nvidia.ko"))?;
    let (code, signature) = parts(&module).context("extra/nvidia.ko has no signature")?;
    let uvm = read(&folder.join("extra/nvidia-uvm.ko"))?;
    let (uvm_code, _) = parts(&uvm).context("extra/nvidia-uvm.ko has no signature")?;
    let depends = String::from_utf8(read(&folder.join("modules.dep"))?)?;
    let needs = depends.lines().find_map(|line| line.strip_prefix("extra/nvidia.ko:"));
    let needs = needs.context("modules.dep does not tell of nvidia.ko")?;
    let variants = [
        ("nvidia-code", flipped(&module, code / 2), needs),
        ("nvidia-signature", flipped(&module, code + signature / 2), needs),
        ("nvidia-unsigned", module[..code].to_vec(), needs),
        // By itself, as if it needed nothing: behind nvidia.ko, which finds no card, nothing is
        // loaded.
        ("nvidia-uvm-alone", uvm.clone(), ""),
        ("nvidia-uvm-code", flipped(&uvm, uvm_code / 2), ""),
    ];
    let mut tree = Tree::default();
    let below = format!("/lib/modules/{release}");
    let mut table = depends.clone();
    for (name, bytes, needs) in variants {
        tree.file(&format!("{below}/extra/{name}.ko"), bytes, false)?;
        table.push_str(&format!("extra/{name}.ko:{needs}\n"));
    }
    for path in needs.split_whitespace().chain(["extra/nvidia.ko", "extra/nvidia-uvm.ko"]) {
        // What the initramfs has the root has links to.
        if folder.join(path).is_symlink() {
            continue;
        }
        tree.file(&format!("{below}/{path}"), read(&folder.join(path))?, false)?;
    }
    tree.file(&format!("{below}/modules.dep"), table.into_bytes(), false)?;
    for name in ["modules.alias", "modules.softdep", "modules.builtin"] {
        tree.file(&format!("{below}/{name}"), read(&folder.join(name))?, false)?;
    }
    let probe = image.join("modules");
    fs::create_dir_all(&probe)?;
    fs::copy(image.join("vmlinuz"), probe.join("vmlinuz"))?;
    // The kernel unpacks archives that follow one another in turn.
    let more = zstd_of(&tree)?;
    fs::write(probe.join("initramfs.zst"), [read(&image.join("initramfs.zst"))?, more].concat())?;

    let names = [
        "nvidia_code",
        "nvidia_signature",
        "nvidia_unsigned",
        "nvidia",
        "nvidia_uvm",
        "nvidia_uvm_alone",
        "nvidia_uvm_code",
    ];
    let words = format!("{}{}", command_line::MODULES, names.join(","));
    let said = accel::probe_kernel_within(Accelerator::Tcg, &probe, &words, LIMIT)
        .map_err(anyhow::Error::msg)?;
    let told: Vec<&str> =
        said.lines().filter_map(|line| line.trim().strip_prefix(command_line::MODULE)).collect();
    told.iter().for_each(|line| println!("  {line}"));
    let of = |name: &str, wanted: &str| {
        told.iter().any(|line| line.starts_with(&format!("{name}: ")) && line.contains(wanted))
    };
    let bad = "signature is not the release's";
    hold(of("nvidia_code", bad), "a module with a changed byte is refused")?;
    hold(of("nvidia_signature", bad), "a module with a changed signature is refused")?;
    hold(of("nvidia_unsigned", bad), "a module without a signature is refused")?;
    let taken = "found no device";
    hold(
        of("nvidia", taken),
        "nvidia.ko is taken, its signature and version hold, and finds no card",
    )?;
    hold(
        of("nvidia_uvm", "the kernel refuses nvidia: it found no device"),
        "nvidia-uvm.ko is not tried where nvidia.ko, which it needs, finds no card",
    )?;
    // The kernel looks at signature and version first, and then for what a module needs.
    hold(
        of("nvidia_uvm_alone", "wants what this kernel does not have"),
        "nvidia-uvm.ko by itself is taken, its signature and version hold, and lacks what nvidia.ko has",
    )?;
    hold(of("nvidia_uvm_code", bad), "nvidia-uvm.ko with a changed byte is refused")
}

fn flipped(module: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = module.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// How many bytes of a signed module are code, and how many its signature.
fn parts(module: &[u8]) -> Option<(usize, usize)> {
    let info = module.strip_suffix(SIGNED)?;
    // `struct module_signature` ends with the signature's length, big-endian.
    let length = u32::from_be_bytes(info.last_chunk::<4>().copied()?);
    let signature = usize::try_from(length).ok()?;
    let code = info.len().checked_sub(SIGNATURE_INFO)?.checked_sub(signature)?;
    Some((code, signature))
}

fn zstd_of(tree: &Tree) -> anyhow::Result<Vec<u8>> {
    Ok(image::build::compressed(&tree.to_newc(), 3, &scratch()?)?)
}

/// Nothing of it is of use to anybody later.
fn scratch() -> anyhow::Result<PathBuf> {
    let folder = workspace::target().join("long/cuda-scratch");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_module_is_taken_apart_by_what_ends_it() {
        let signature = [7; 20];
        let info = [&[0; 8][..], &20u32.to_be_bytes()].concat();
        let module = [&[1; 100][..], &signature, &info, SIGNED].concat();
        assert_eq!(parts(&module), Some((100, 20)));
        assert_eq!(parts(&module[..100]), None);
        assert_eq!(parts(&module[90..]), Some((10, 20)));
        assert_eq!(parts(&module[110..]), None, "shorter than its signature");
    }
}
