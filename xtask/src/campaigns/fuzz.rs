//! `cargo xtask test --long fuzz`: every target of `fuzz/`, each for a while.
//!
//! Built here as cargo-fuzz builds them, without it: a nightly compiler's coverage and address
//! sanitizers, and libFuzzer's main function. Inputs that reach new code are kept below the target
//! folder, so that the next campaign goes on from them.

use crate::workspace;
use anyhow::{Context, bail};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// How long each target runs where [`SECONDS_VARIABLE`] does not say.
const SECONDS: u64 = 60;
/// Sets how many seconds each target runs.
const SECONDS_VARIABLE: &str = "ALIA_FUZZ_SECONDS";
/// Names targets, with commas between them, where not all are to run.
const TARGETS_VARIABLE: &str = "ALIA_FUZZ_TARGETS";
/// An input that is worked on longer is a hang.
const LONGEST_INPUT_SECONDS: u32 = 10;
/// The largest single allocation and the most memory, in MiB.
const MAX_ALLOCATION: u32 = 256;
const MAX_MEMORY: u32 = 2048;

/// As cargo-fuzz 0.13 has them, and assertions as in a debug build: an integer that overflows ends
/// the run too.
const RUSTFLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "--cfg fuzzing",
    "-Zsanitizer=address",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// What a target's run came to.
struct Run {
    /// Inputs run, and edges of the program reached.
    runs: String,
    coverage: String,
    /// The input that ended it.
    crash: Option<PathBuf>,
}

/// Builds the targets and runs each, from the inputs that earlier campaigns kept.
pub(super) fn run() -> anyhow::Result<()> {
    let seconds = match env::var(SECONDS_VARIABLE) {
        Ok(text) => text.parse().with_context(|| format!("{SECONDS_VARIABLE}={text}"))?,
        Err(_) => SECONDS,
    };
    toolchain()?;
    let source = workspace::root().join("fuzz");
    let target = workspace::target().join("fuzz");
    let built = build(&source, &target)?;
    let seeds = target.join("seeds");
    let status = Command::new(built.join("examples/seeds")).arg(&seeds).status();
    if !status.context("running the program that writes seeds")?.success() {
        bail!("the seeds cannot be written");
    }
    let targets = wanted(targets(&source)?, env::var(TARGETS_VARIABLE).ok().as_deref())?;
    println!("{} targets, {seconds} s each; inputs and logs: {}", targets.len(), target.display());
    println!("{:<16} {:>12} {:>8} {:>6}", "target", "runs", "edges", "s");
    let mut crashes = Vec::new();
    let mut inputs: u64 = 0;
    for name in &targets {
        let at = Instant::now();
        let run = fuzz(name, &built, &target, seconds)?;
        let took = at.elapsed().as_secs();
        println!("{name:<16} {:>12} {:>8} {took:>6}", run.runs, run.coverage);
        inputs += run.runs.parse().unwrap_or(0);
        if let Some(crash) = run.crash {
            println!("  FAILS: {}", crash.display());
            crashes.push(format!("{name}: {}", crash.display()));
        }
    }
    println!("{:<16} {inputs:>12}", "all");
    match crashes.as_slice() {
        [] => Ok(()),
        found => bail!(
            "inputs that panic, hang or take too much memory; run the target on one to see why \
             ({}/TARGET FILE):\n{}",
            built.display(),
            found.join("\n")
        ),
    }
}

/// Whether there is what the targets are built with.
fn toolchain() -> anyhow::Result<()> {
    let works = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !works(nightly().arg("--version")) {
        bail!(
            "fuzzing wants Rust's nightly compiler beside the stable one: \
             `rustup toolchain install nightly --profile minimal`"
        );
    }
    if !works(Command::new("c++").arg("--version")) {
        bail!("fuzzing wants a C++ compiler, for libFuzzer: `apt-get install g++`");
    }
    Ok(())
}

/// The nightly toolchain's cargo. By rustup and not as `cargo +nightly`: who calls us may have
/// put a toolchain's own cargo into the path, which knows no other.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command
}

/// Builds everything in `fuzz/`; gives the folder of programs.
fn build(source: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let status = nightly()
        .args(["build", "--release", "--locked", "--package", "fuzz", "--features", "libfuzzer"])
        .args(["--bins", "--examples", "--target", TRIPLE, "--target-dir"])
        .arg(target)
        .env("RUSTFLAGS", RUSTFLAGS.join(" "))
        // A crash names its lines.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .current_dir(source)
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("the targets in {} cannot be built", source.display());
    }
    Ok(target.join(TRIPLE).join("release"))
}

/// The names of all targets, in order.
fn targets(source: &Path) -> anyhow::Result<Vec<String>> {
    let folder = source.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.extend(name.map(str::to_string));
    }
    names.sort();
    Ok(names)
}

/// All targets, or those that are named. Pure.
fn wanted(all: Vec<String>, named: Option<&str>) -> anyhow::Result<Vec<String>> {
    let Some(named) = named else { return Ok(all) };
    let named: Vec<String> = named.split(',').map(|name| name.trim().to_string()).collect();
    match named.iter().find(|name| !all.contains(name)) {
        Some(stray) => {
            bail!("{TARGETS_VARIABLE}: no target {stray:?}; there are: {}", all.join(", "))
        }
        None => Ok(named),
    }
}

fn fuzz(name: &str, built: &Path, target: &Path, seconds: u64) -> anyhow::Result<Run> {
    let folder = |kind: &str| -> anyhow::Result<PathBuf> {
        let folder = target.join(kind).join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let (corpus, seeds, artifacts) = (folder("corpus")?, folder("seeds")?, folder("artifacts")?);
    let log = target.join("logs").join(format!("{name}.log"));
    fs::create_dir_all(target.join("logs"))?;
    let output = fs::File::create(&log).with_context(|| log.display().to_string())?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(&artifacts);
    prefix.push("/");
    let status = Command::new(built.join(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={LONGEST_INPUT_SECONDS}"))
        .arg(format!("-malloc_limit_mb={MAX_ALLOCATION}"))
        .arg(format!("-rss_limit_mb={MAX_MEMORY}"))
        .args(["-detect_leaks=0", "-print_final_stats=1"])
        .arg(prefix)
        .args([corpus, seeds])
        // SQLite's C file names two tables alike: no matter, and the sanitizer would end there.
        .env("ASAN_OPTIONS", "detect_odr_violation=0")
        .stdout(Stdio::null())
        .stderr(output)
        .status()
        .with_context(|| format!("running {name}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let (runs, coverage) = told(&text);
    let crash = match (status.success(), crash(&text)) {
        (true, _) => None,
        (false, Some(path)) => Some(path),
        (false, None) => bail!("{name} failed without an input; see {}", log.display()),
    };
    Ok(Run { runs, coverage, crash })
}

/// How many inputs were run and how many edges they reached, by libFuzzer's own words.
fn told(log: &str) -> (String, String) {
    let after = |line: &str, word: &str| {
        let number = line.split_once(word)?.1.split_whitespace().next()?;
        Some(number.to_string())
    };
    let last = |word: &str| log.lines().rev().find_map(|line| after(line, word));
    let runs = last("stat::number_of_executed_units:");
    (runs.unwrap_or("?".into()), last(" cov: ").unwrap_or("?".into()))
}

/// The file with the input that ended a run.
fn crash(log: &str) -> Option<PathBuf> {
    let line = log.lines().rev().find_map(|line| line.split_once("Test unit written to "));
    line.map(|(_, path)| PathBuf::from(path.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_can_be_named() {
        let all = || vec!["dhcp".to_string(), "tftp".into()];
        assert_eq!(wanted(all(), None).ok(), Some(all()));
        assert_eq!(wanted(all(), Some("tftp")).ok(), Some(vec!["tftp".to_string()]));
        assert!(wanted(all(), Some("tftp,ftp")).is_err_and(|e| e.to_string().contains("\"ftp\"")));
    }

    #[test]
    fn libfuzzers_words_are_understood() {
        let log = "#2\tINITED cov: 31 ft: 32 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #4194304\tpulse  cov: 61 ft: 90 corp: 22/1Kb exec/s: 12 rss: 50Mb\n\
                   ==1== ERROR: libFuzzer: out-of-memory (malloc(4294967296))\n\
                   artifact_prefix='a/'; Test unit written to a/oom-12\n\
                   stat::number_of_executed_units: 4200000\n";
        assert_eq!(told(log), ("4200000".to_string(), "61".to_string()));
        assert_eq!(crash(log), Some("a/oom-12".into()));
        assert_eq!((told("").0.as_str(), crash("")), ("?", None));
    }
}
