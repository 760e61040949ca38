//! `cargo xtask test --long NAME`: what no CI run could hold.

mod avx512;
mod buildroot;
mod cuda;
mod fuzz;
mod hardware;
mod home;
mod hostile;
mod kernel;
mod living;
mod matrix;
mod page;
mod reproducible;
mod secure_boot;
mod siege;
mod syscalls;
mod tpm;
mod trust;

use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    up::summary::Summary,
    workspace,
};
use anyhow::{Context, bail};
use image::Packages;
use lab::tools::Purpose;
use protocol::boot::{ImageFile, ImageManifest};
use std::{ffi::OsString, fs, path::Path};

/// A campaign: its name, what it holds, and how it is run.
type Campaign = (&'static str, &'static str, fn(&Sources) -> anyhow::Result<()>);

const CAMPAIGNS: &[Campaign] = &[
    (
        "default",
        "`up` as a newcomer runs it: its summary is held to what the README promises",
        |_| default(),
    ),
    ("full", "`up --full`: all of the corpus, against what a plain PyTorch reached", |_| full()),
    (
        "avx512",
        "the kernels' tests of bits on an emulated CPU with AVX-512: none at hand need have it",
        avx512::run,
    ),
    (
        "cuda",
        "the image for NVIDIA's cards, booted without one: its driver as far as it goes, and one that was changed",
        cuda::run,
    ),
    (
        "kernel",
        "the kernel built from source: its score by kernel-hardening-checker, what files its image has, and machines that boot it",
        kernel::run,
    ),
    (
        "buildroot",
        "image/buildroot in the tree that ALIA_BUILDROOT names: configurations, graph, a build",
        buildroot::run,
    ),
    (
        "tpm",
        "machines with a TPM, a UEFI variable or neither: sealed keys, quotes, copies found out; Secure Boot",
        tpm::run,
    ),
    (
        "hostile",
        "a compute service that turned: all that it tries is refused, and the node lives on",
        hostile::run,
    ),
    (
        "syscalls",
        "the compute service's system calls, traced: held against what image.toml lets it",
        syscalls::run,
    ),
    (
        "hardware",
        "machines of odd hardware and odd networks: late devices, disks, clocks, bonds, VLANs, IPv6",
        hardware::run,
    ),
    (
        "ipv6",
        "of the matrix what boots by IPv6 alone: our DHCPv6 and router advertisements",
        matrix::ipv6,
    ),
    (
        "https",
        "of the matrix what boots by HTTPS; and OVMF fetches nothing from whom it does not know",
        matrix::https,
    ),
    (
        "matrix",
        "every way to boot on every kind of network, some 40 minutes; writes docs/matrix.md",
        matrix::run,
    ),
    (
        "home",
        "a miner's medium behind NAT: from its registration to its owner's node, in two boots; its copy",
        home::run,
    ),
    (
        "secure-boot",
        "what is signed boots under Secure Boot, and what was changed or signed by others does not",
        secure_boot::run,
    ),
    (
        "page",
        "the page in a real Chromium: each task, by mouse and by keys, on a telephone, light and dark",
        page::run,
    ),
    (
        "siege",
        "a provisioner that strangers attack, each way at its full rate, while machines boot from it",
        siege::run,
    ),
    (
        "living",
        "machines that hang, die, boot in a loop or whose service does wrong end working or in rescue",
        living::living,
    ),
    (
        "console",
        "displays under both firmwares show the machine, and a code that can be read",
        living::console,
    ),
    (
        "trust",
        "releases that no machine may boot: altered, of strangers, expired, rolled back, of altered roots",
        trust::run,
    ),
    (
        "reproducible",
        "programs, kernel, NVIDIA's modules and images, built twice in different places: the same bytes",
        reproducible::run,
    ),
    ("fuzz", "every reader of foreign bytes that is ours, coverage-guided, a minute each", |_| {
        fuzz::run()
    }),
];

/// Runs a campaign, or lists them.
pub(crate) fn run(name: &str, sources: &Sources) -> anyhow::Result<()> {
    if let Some((_, _, campaign)) = CAMPAIGNS.iter().find(|(each, _, _)| *each == name) {
        return campaign(sources);
    }
    for (name, what, _) in CAMPAIGNS {
        println!("{name:<12} {what}");
    }
    println!("Those that boot machines boot the source kernel with ALIA_KERNEL=source.");
    if name == "list" { Ok(()) } else { bail!("there is no campaign {name:?}") }
}

fn default() -> anyhow::Result<()> {
    let summary = up("default", &[])?;
    let model = summary.model.as_ref().context("no model")?;
    let first = summary.machines.iter().filter_map(|m| m.first_receipt_after_build_seconds);
    let first = first.fold(f64::INFINITY, f64::min);
    hold(model.bleu >= model.bleu_copy + 8.0, "BLEU at least 8 above copying the source")?;
    hold(first <= 300.0, "a booted machine's first receipt within 5 minutes of the build")?;
    hold(summary.total_seconds <= 2_400.0, "done within 40 minutes")
}

fn full() -> anyhow::Result<()> {
    let summary = up("full", &["--full"])?;
    let model = summary.model.as_ref().context("no model")?;
    hold(model.bleu_all >= 36.6, "the BLEU of a plain PyTorch on this corpus, to a point")
}

/// Says and installs what machines need, and builds the programs and the image that they boot; none
/// where that it is said is all that was asked for.
fn machines(
    sources: &Sources,
    purpose: Purpose,
    more: &[&str],
) -> anyhow::Result<Option<Packages>> {
    let kernel = KernelFrom::of_campaign()?;
    let purpose = purpose.max(kernel.purpose());
    if !setup::announce(sources, purpose, more)? {
        return Ok(None);
    }
    setup::install(purpose)?;
    let packages = setup::packages(sources)?;
    build::programs()?;
    build::image(&packages, kernel)?;
    println!("machines boot the {kernel:?} kernel (ALIA_KERNEL)");
    Ok(Some(packages))
}

/// Copies the image into another folder, as `change` would have it there; it has no release yet.
fn copy_image(
    to: &Path,
    change: impl FnOnce(&mut ImageManifest) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let said = || to.display().to_string();
    fs::create_dir_all(to).with_context(said)?;
    let from = workspace::image();
    let mut manifest = crate::image::manifest(&from)?;
    for ImageFile { file, .. } in manifest.files() {
        fs::copy(from.join(file), to.join(file)).with_context(|| file.clone())?;
    }
    change(&mut manifest)?;
    fs::write(to.join("manifest.json"), serde_json::to_vec_pretty(&manifest)?).with_context(said)
}

/// Runs a test of the lab's that boots machines, with more in its environment.
fn lab_test(name: &str, more: &[(&'static str, OsString)]) -> anyhow::Result<()> {
    let usual = [
        ("ALIA_BOOTS", "1".into()),
        ("ALIA_CACHE", workspace::cache().into()),
        ("ALIA_IMAGE", workspace::image().into()),
        ("ALIA_PROVISIONER", workspace::program("provisioner").into()),
    ];
    let test = ["test", "--release", "--quiet", "--workspace", "--test", name];
    build::run(&test, &[&usual, more].concat())
}

/// Builds and runs `up`, shown to whoever watches.
fn up(name: &str, flags: &[&str]) -> anyhow::Result<Summary> {
    let folder = workspace::target().join("long");
    fs::create_dir_all(&folder)?;
    let json = folder.join(format!("{name}.json"));
    let mut arguments = vec!["run", "--quiet", "--release", "-p", "xtask", "--", "up"];
    arguments.extend(["--exit-when-done", "--json"]);
    let path = json.to_str().context("the target folder's name is not UTF-8")?;
    arguments.push(path);
    arguments.extend(flags);
    build::run(&arguments, &[])?;
    Ok(serde_json::from_slice(&fs::read(json)?)?)
}

fn hold(holds: bool, what: &str) -> anyhow::Result<()> {
    println!("{} {what}", if holds { "holds: " } else { "FAILS: " });
    if holds { Ok(()) } else { bail!("not held: {what}") }
}
