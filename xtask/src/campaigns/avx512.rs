//! The kernels' tests of bits on a CPU with AVX-512, emulated: no CPU at hand need have it.
//!
//! Two guests boot the same disk: one CPU has AVX-512 and must give every bit that the others give,
//! the other has none and must say so; a check that passes without AVX-512 would be none.

use crate::{
    build::{STATIC, TARGET, cargo},
    setup::{Sources, packages, recipe},
    workspace,
};
use anyhow::{Context, bail};
use image::cpio::{Node, Tree};
use lab::{
    Bochs, Service,
    bochs::{self, Cpu, Guest},
    disk,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// The longest a guest may take; see README.md for how long it does.
const LIMIT: Duration = Duration::from_secs(2 * 3600);
/// What a dead guest says; a live one ends with a verdict (kernels/examples/guest.rs).
const PANIC: &str = "Kernel panic";
/// Little said, and nothing done against attacks: both cost an emulated CPU time.
const COMMAND_LINE: &str = "console=ttyS0 quiet nokaslr mitigations=off";

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let begun = Instant::now();
    println!(
        "to be fetched into {} and unpacked there, never installed:\n  {} with their libraries, \
         and {}",
        workspace::cache().display(),
        bochs::PACKAGES.join(", "),
        recipe()?.kernel.package,
    );
    if sources.no_install {
        return Ok(());
    }
    let packages = packages(sources)?;
    let emulator = Bochs::fetch(&packages)?;
    let kernel = image::build::prebuilt(&recipe()?, &packages)?.image()?.0;
    println!("building the kernels' tests, static");
    let programs = programs()?;
    let wanted = model(&programs.guest)?;
    println!("here: {wanted}");
    let disk = disk(&kernel, &programs)?;

    let folder = workspace::target().join("long/avx512");
    // Logs are appended to.
    let _ = fs::remove_dir_all(&folder);
    let start = |name: &str, cpu| {
        let guest = Guest { name: name.into(), cpu, memory: 256, folder: folder.clone() };
        println!("booting {name}: a {} in Bochs", cpu.model());
        emulator.start(&guest, &disk)
    };
    let mut without = start("without", Cpu::Haswell)?;
    let mut with = start("with", Cpu::SkylakeX)?;
    let refused = heard(&mut without)?;
    let reached = heard(&mut with)?;
    drop((with, without));

    println!("in {:.0} s", begun.elapsed().as_secs_f64());
    super::hold(
        refused.isa == "avx2" && refused.verdict.contains("nothing was tested"),
        "a CPU without AVX-512 is told from one with it",
    )?;
    super::hold(reached.isa == "avx512", "AVX-512 is what the kernels chose")?;
    super::hold(reached.model == wanted, "a model trained there is the model trained here")?;
    super::hold(reached.verdict == "every bit is the same", &reached.verdict)
}

/// What a guest is made of.
struct Programs {
    /// PID 1.
    guest: PathBuf,
    /// The tests, by the names that they get there.
    tests: BTreeMap<String, PathBuf>,
}

/// Builds PID 1 and the kernels' tests, static.
fn programs() -> anyhow::Result<Programs> {
    let mut arguments = vec!["test", "--no-run", "--release", "-p", "kernels", "--target", TARGET];
    arguments.extend(["--lib", "--test", "bits", "--example", "guest"]);
    arguments.push("--message-format=json-render-diagnostics");
    let output = Command::new(cargo())
        .args(&arguments)
        .env(STATIC.0, STATIC.1)
        .current_dir(workspace::root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    let built = String::from_utf8(output.stdout).context("cargo's messages")?;
    let mut tests: BTreeMap<String, PathBuf> = built.lines().filter_map(executable).collect();
    let guest = tests.remove("guest").context("cargo named no program for the example guest")?;
    if !["kernels", "bits"].iter().all(|name| tests.contains_key(*name)) {
        bail!("cargo named no program for the tests: {:?}", tests.keys());
    }
    Ok(Programs { guest, tests })
}

/// The name and path of the program that a line of cargo's messages tells of.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.into(), path.into()))
}

/// The model that the guest's program trains, trained here.
fn model(guest: &Path) -> anyhow::Result<String> {
    let output = Command::new(guest).output().with_context(|| guest.display().to_string())?;
    if !output.status.success() {
        bail!("{}: {}", guest.display(), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("the model's digests")?;
    let model = text.trim().strip_prefix("model: ").context("the guest's program gave no model")?;
    Ok(model.to_string())
}

fn disk(kernel: &Path, programs: &Programs) -> anyhow::Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let mut tree = Tree::default();
    tree.put("/proc", Node::Folder)?;
    // The kernel opens the first for PID 1; tests of random numbers may want the second.
    for (path, major, minor) in [("/dev/console", 5, 1), ("/dev/urandom", 1, 9)] {
        tree.put(path, Node::Device { major, minor })?;
    }
    tree.file("/init", read(&programs.guest)?, true)?;
    for (name, path) in &programs.tests {
        tree.file(&format!("/tests/{name}"), read(path)?, true)?;
    }
    // Not compressed: reading more costs an emulated CPU less than unpacking.
    Ok(disk::build(&read(kernel)?, &tree.to_newc(), COMMAND_LINE)?)
}

/// What a guest said of itself, by the word before the colon.
#[derive(Default)]
struct Said {
    isa: String,
    model: String,
    verdict: String,
}

/// Shows what a guest says until its verdict.
fn heard(guest: &mut Service) -> anyhow::Result<Said> {
    let name = guest.spec().name.clone();
    let mut said = Said::default();
    let shown = |line: &str| {
        let (word, rest) = line.split_once(": ").unwrap_or_default();
        match word {
            "isa" => said.isa = rest.into(),
            "model" => said.model = rest.into(),
            "verdict" => said.verdict = rest.into(),
            _ => {}
        }
        // Before PID 1's first word come the emulator's and the kernel's.
        if !said.isa.is_empty() && !line.is_empty() {
            println!("{name}: {line}");
        }
        !said.verdict.is_empty() || line.contains(PANIC)
    };
    let last = guest.wait_for(0, "a verdict", shown, LIMIT)?;
    if last.text.contains(PANIC) {
        bail!("{name}: {}; its log is {}", last.text, guest.console().log().display());
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_cargos_messages_those_with_a_program_count() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"bits"},"executable":"/t/bits-1"}"#;
        assert_eq!(executable(line), Some(("bits".into(), "/t/bits-1".into())));
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"kernels"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable("not JSON"), None);
    }
}
