//! The kernel built from source: scored by kernel-hardening-checker beside others, and booted.

use super::{hold, lab_test};
use crate::{
    build::{self, KernelFrom},
    hardening::{self, CHECKER, Check, Checker, Score, TALOS, TALOS_URL, is_talos, score, strays},
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::Context;
use image::{
    drivers,
    kernel::{Kernel, options},
};
use lab::{Accelerator, accel, tools::Purpose};
use node_init::{stages::command_line, sysctl};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
};

/// Names a configuration of another kernel to score beside ours.
const OTHER: &str = "ALIA_OTHER_KERNEL_CONFIG";
/// Names the file of Talos's configuration, to have it scored by the same checker.
const PEER: &str = "ALIA_TALOS_KERNEL_CONFIG";
/// Has the repository's copy of the resolved options written anew.
const WRITE: &str = "ALIA_WRITE_KERNEL_CONFIG";

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = format!("{CHECKER}, of the suite's backports: it scores kernels");
    if !setup::announce(sources, Purpose::Kernel, &[&more])? {
        return Ok(());
    }
    setup::install(Purpose::Kernel)?;
    let packages = setup::packages(sources)?;
    let recipe = recipe()?;
    let checker = Checker::fetch(sources, &recipe.suite)?;
    let ours = build::kernel(KernelFrom::Source, &packages)?;
    let prebuilt = build::kernel(KernelFrom::Prebuilt, &packages)?;

    println!("{:<40} {:>4} {:>5}", "kernel", "OK", "FAIL");
    let show = |name: &str, checks: &[Check]| {
        let score = score(checks);
        println!("{name:<40} {:>4} {:>5}", score.ok, score.fail);
        score
    };
    resolved(&ours)?;
    let lacking = drivers::lacking(&ours, &recipe)?;
    hold(lacking.is_empty(), &format!("it has each driver that the prebuilt one has {lacking:?}"))?;
    let checks = checker.check(&ours.configuration()?)?;
    let score = show("source", &checks);
    show("prebuilt", &checker.check(&prebuilt.configuration()?)?);
    if let Some(path) = env::var_os(OTHER) {
        show(&path.to_string_lossy(), &checker.check(Path::new(&path))?);
    }
    match env::var_os(PEER) {
        Some(path) => {
            let path = Path::new(&path);
            let said = || path.display().to_string();
            is_talos(&fs::read(path).with_context(said)?).with_context(said)?;
            let its = show("Talos", &checker.check(path)?);
            better("Talos's configuration, scored now", score, its)?;
        }
        None => println!("Talos is not scored now: fetch {TALOS_URL} and name the file by {PEER}"),
    }
    for check in checks.iter().filter(|check| check.failed()) {
        let why = recipe.kernel.source.unhardened.get(&check.option_name);
        println!("  {} {}: {}", check.option_name, check.check_result, why.map_or("?", |why| why));
    }
    better(&format!("Talos as it was measured ({TALOS})"), score, TALOS)?;
    let strays = strays(&checks, &recipe.kernel.source.unhardened);
    hold(
        strays.is_empty(),
        &format!("each FAIL has its reason, and each reason its FAIL {strays:?}"),
    )?;

    println!("building an image of it, to look at its settings as it runs");
    build::init()?;
    build::programs_quietly()?;
    let image = workspace::target().join("long/kernel-image");
    build::image_into(&packages, KernelFrom::Source, build::CPU, &image)?;
    settings(&checker, &ours, &image)?;
    lab_test("image", &[("ALIA_IMAGE", image.into())])?;

    let summary = super::up("kernel", &["--small", "--no-host-worker", "--kernel", "source"])?;
    let all = summary.machines.iter().all(|machine| machine.boot_seconds.is_some());
    hold(all && summary.machines.len() == 2, "it boots from both firmwares")?;
    hold(summary.receipts.confirmed > 0, "and work done on it is confirmed")
}

fn better(name: &str, ours: Score, its: Score) -> anyhow::Result<()> {
    let what = format!("more OK and fewer FAIL than {name}");
    hold(ours.ok > its.ok && ours.fail < its.fail, &what)
}

/// Boots an image and has the checker look at the settings of the kernel that runs.
fn settings(checker: &Checker, kernel: &Kernel, image: &Path) -> anyhow::Result<()> {
    let said = accel::probe_kernel(Accelerator::Tcg, image, command_line::SETTINGS)
        .map_err(anyhow::Error::msg)?;
    let line = said.lines().find(|line| line.starts_with("hardening: ")).context("no settings")?;
    println!("{line}");
    let set: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix(command_line::SETTING)).collect();
    let file = image.join("settings");
    fs::write(&file, set.join("\n"))?;
    let checks = checker.run(&kernel.configuration()?, Some(&file))?;
    let checks: Vec<Check> = checks.into_iter().filter(|check| check.kind == "sysctl").collect();
    let score = score(&checks);
    println!("{:<40} {:>4} {:>5}", "its settings", score.ok, score.fail);
    let left: BTreeMap<String, String> =
        sysctl::LEFT.iter().map(|(name, why)| (name.to_string(), why.to_string())).collect();
    let strays = strays(&checks, &left);
    hold(strays.is_empty(), &format!("each setting that fails has its reason {strays:?}"))
}

/// What the options came to is what the repository says that they come to.
fn resolved(kernel: &Kernel) -> anyhow::Result<()> {
    let (path, built) = (hardening::resolved(), kernel.configuration()?);
    let read = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
    let (wanted, built) = (read(&path)?, read(&built)?);
    if env::var_os(WRITE).is_some() {
        let head = wanted.lines().take_while(|line| !line.contains(options::TITLE));
        let head = head.collect::<Vec<_>>().join("\n");
        let text = options::kept_of(&recipe()?.kernel.source.options, &head, &built);
        return fs::write(&path, text).with_context(|| path.display().to_string());
    }
    let set = |text| options::resolved(text).collect::<BTreeSet<&str>>();
    let (wanted, built) = (set(&wanted), set(&built));
    let differ: Vec<_> = wanted.symmetric_difference(&built).collect();
    let what = format!(
        "the options come to what image/kernel.config says (with {WRITE}=1 it is written anew) \
         {differ:?}"
    );
    hold(differ.is_empty(), &what)
}
