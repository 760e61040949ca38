//! The kernel built from source: scored by kernel-hardening-checker beside others, and booted.

use super::hold;
use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources, recipe},
    workspace,
};
use anyhow::{Context, bail};
use image::{Packages, kernel::Kernel, packages::Options};
use lab::{Accelerator, accel, tools::Purpose};
use node_init::{stages::command_line, sysctl};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// The checker's package; it is newer than the suite.
const CHECKER: &str = "kernel-hardening-checker";
/// Names a configuration of another kernel to score beside ours.
const OTHER: &str = "ALIA_OTHER_KERNEL_CONFIG";
/// What is to be beaten: the best of Talos's two scores measured so far (docs/image.md; 197 and 62
/// with an older checker).
const TALOS: Score = Score { ok: 197, fail: 61 };

/// How many checks a configuration passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Score {
    ok: usize,
    fail: usize,
}

/// One check, as the checker prints it.
#[derive(Deserialize)]
struct Check {
    option_name: String,
    #[serde(rename = "type")]
    kind: String,
    check_result: String,
    check_result_bool: Option<bool>,
}

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = format!("{CHECKER}, of the suite's backports: it scores kernels");
    if !setup::announce(sources, Purpose::Kernel, &[&more])? {
        return Ok(());
    }
    setup::install(Purpose::Kernel)?;
    let packages = setup::packages(sources)?;
    let recipe = recipe()?;
    let checker = checker(sources, &recipe.suite)?;
    let ours = build::kernel(KernelFrom::Source, &packages)?;
    let prebuilt = build::kernel(KernelFrom::Prebuilt, &packages)?;

    println!("{:<40} {:>4} {:>5}", "kernel", "OK", "FAIL");
    let show = |name: &str, checks: &[Check]| {
        let score = score(checks);
        println!("{name:<40} {:>4} {:>5}", score.ok, score.fail);
        score
    };
    let checks = check(&checker, &configuration(&ours)?)?;
    let score = show("source", &checks);
    show("prebuilt", &check(&checker, &configuration(&prebuilt)?)?);
    if let Some(path) = env::var_os(OTHER) {
        show(&path.to_string_lossy(), &check(&checker, Path::new(&path))?);
    }
    for check in checks.iter().filter(|check| check.check_result_bool == Some(false)) {
        let why = recipe.kernel.source.unhardened.get(&check.option_name);
        println!("  {} {}: {}", check.option_name, check.check_result, why.map_or("?", |why| why));
    }
    hold(score.ok > TALOS.ok && score.fail < TALOS.fail, "more OK and fewer FAIL than Talos")?;
    let strays = strays(&checks, &recipe.kernel.source.unhardened);
    hold(
        strays.is_empty(),
        &format!("each FAIL has its reason, and each reason its FAIL {strays:?}"),
    )?;

    println!("building an image of it, to look at its settings as it runs");
    build::init()?;
    build::run(&["build", "--quiet", "--release", "--workspace"], &[])?;
    let image = workspace::target().join("long/kernel-image");
    build::image_into(&packages, KernelFrom::Source, build::CPU, &image)?;
    settings(&checker, &ours, &image)?;

    let summary = super::up("kernel", &["--small", "--no-host-worker", "--kernel", "source"])?;
    let all = summary.machines.iter().all(|machine| machine.boot_seconds.is_some());
    hold(all && summary.machines.len() == 2, "it boots from both firmwares")?;
    hold(summary.receipts.confirmed > 0, "and work done on it is confirmed")
}

/// Boots an image and has the checker look at the settings of the kernel that runs.
fn settings(checker: &Path, kernel: &Kernel, image: &Path) -> anyhow::Result<()> {
    let said = accel::probe_kernel(Accelerator::Tcg, image, command_line::SETTINGS)
        .map_err(anyhow::Error::msg)?;
    let line = said.lines().find(|line| line.starts_with("hardening: ")).context("no settings")?;
    println!("{line}");
    let set: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix(command_line::SETTING)).collect();
    let file = image.join("settings");
    fs::write(&file, set.join("\n"))?;
    let checks = run_checker(checker, &configuration(kernel)?, Some(&file))?;
    let checks: Vec<Check> = checks.into_iter().filter(|check| check.kind == "sysctl").collect();
    let score = score(&checks);
    println!("{:<40} {:>4} {:>5}", "its settings", score.ok, score.fail);
    let left: BTreeMap<String, String> =
        sysctl::LEFT.iter().map(|(name, why)| (name.to_string(), why.to_string())).collect();
    let strays = strays(&checks, &left);
    hold(strays.is_empty(), &format!("each setting that fails has its reason {strays:?}"))
}

fn score(checks: &[Check]) -> Score {
    let count = |wanted| checks.iter().filter(|check| check.check_result_bool == wanted).count();
    Score { ok: count(Some(true)), fail: count(Some(false)) }
}

/// FAILs without a reason, and reasons without a FAIL.
fn strays(checks: &[Check], reasons: &BTreeMap<String, String>) -> Vec<String> {
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check.check_result_bool == Some(false))
        .map(|check| check.option_name.as_str())
        .collect();
    let unexplained = failed.iter().filter(|name| !reasons.contains_key(**name));
    let stale = reasons.keys().map(String::as_str).filter(|name| !failed.contains(name));
    unexplained.copied().chain(stale).map(str::to_string).collect()
}

/// The folder of the checker's Python package.
fn checker(sources: &Sources, suite: &str) -> anyhow::Result<PathBuf> {
    let mut options = Options::new(workspace::cache(), format!("{suite}-backports"));
    options.mirrors = sources.mirror.clone();
    let packages = Packages::open(options, Arc::new(|text| println!("  {text}")))?;
    let package = packages.fetch(&[CHECKER])?.pop().context("the checker was not fetched")?;
    Ok(package.root.join("usr/lib/python3/dist-packages"))
}

/// A kernel's configuration.
fn configuration(kernel: &Kernel) -> anyhow::Result<PathBuf> {
    let (_, release) = kernel.image()?;
    Ok(kernel.root.join("boot").join(format!("config-{release}")))
}

/// What the checker says of a configuration.
fn check(checker: &Path, configuration: &Path) -> anyhow::Result<Vec<Check>> {
    run_checker(checker, configuration, None)
}

/// The same of a configuration, and of settings of the kernel that runs.
fn run_checker(
    checker: &Path,
    configuration: &Path,
    settings: Option<&Path>,
) -> anyhow::Result<Vec<Check>> {
    fs::metadata(configuration).with_context(|| configuration.display().to_string())?;
    let output = Command::new("python3")
        .args(["-c", "from kernel_hardening_checker import main; main()", "-m", "json", "-c"])
        .arg(configuration)
        .args(settings.iter().flat_map(|path| [OsStr::new("-s"), path.as_os_str()]))
        .env("PYTHONPATH", checker)
        .output()
        .context("running python3: install it")?;
    if !output.status.success() {
        bail!("{CHECKER}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {CHECKER} says"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, result: Option<bool>) -> Check {
        Check {
            option_name: name.into(),
            kind: "kconfig".into(),
            check_result: String::new(),
            check_result_bool: result,
        }
    }

    #[test]
    fn fails_and_reasons_are_held_against_each_other() {
        let checks = [
            check("A", Some(true)),
            check("B", Some(false)),
            check("C", Some(false)),
            check("D", None),
        ];
        assert_eq!(score(&checks), Score { ok: 1, fail: 2 });
        let reasons = |names: &[&str]| {
            names.iter().map(|name| (name.to_string(), "why".to_string())).collect()
        };
        assert_eq!(strays(&checks, &reasons(&["B", "C"])), [""; 0]);
        assert_eq!(strays(&checks, &reasons(&["A", "B"])), ["C", "A"]);
    }
}
