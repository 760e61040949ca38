//! Which system calls the compute service makes: traced through training and translating, with the
//! libraries that images have, and held against what `image.toml` lets it.

use crate::{
    build,
    setup::{self, Sources, recipe},
    up::summary::Summary,
    workspace,
};
use anyhow::{Context, bail};
use lab::tools::Purpose;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// A call that the sandbox does not let through, and which libc then makes: its flags can be seen.
const INSTEAD: &[(&str, &str)] = &[("clone3", "clone")];
/// The service of `image.toml`.
const SERVICE: &str = "compute";

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    if !setup::announce(sources, Purpose::Bench, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Bench)?;
    let packages = setup::packages(sources)?;
    let recipe = recipe()?;
    build::programs()?;
    build::image(&packages, build::KernelFrom::Prebuilt)?;

    // Programs as `up` finds them, but the service's is traced.
    let folder = workspace::target().join("long/syscalls");
    let _ = fs::remove_dir_all(&folder);
    let programs = folder.join("release");
    fs::create_dir_all(&programs)?;
    for name in ["abci-app", "alia", "paramserver", "provisioner"] {
        symlink(workspace::program(name), programs.join(name))?;
    }
    symlink(workspace::image(), folder.join("image"))?;
    let libraries = packages.with_libraries(&["libc6", "libgcc-s1"])?;
    wrap(&programs.join("compute"), &libraries, &folder)?;
    let summary = up(&folder)?;
    if summary.receipts.confirmed == 0 {
        bail!("no receipt was confirmed: the service did not do all its work");
    }

    let made = traced(&folder)?;
    println!("{} calls: {}", made.len(), made.iter().cloned().collect::<Vec<_>>().join(" "));
    let sandbox = recipe.sandboxes.get(SERVICE).context("image.toml has no sandboxes.compute")?;
    let listed: BTreeSet<String> = sandbox.system_calls.iter().cloned().collect();
    let rare: BTreeSet<String> = sandbox.rare_calls.keys().cloned().collect();
    let instead: BTreeSet<String> = INSTEAD.iter().map(|(call, _)| (*call).to_owned()).collect();
    let known = |call: &&String| [&listed, &rare, &instead].iter().any(|set| set.contains(*call));
    let missing: Vec<&String> = made.iter().filter(|call| !known(call)).collect();
    super::hold(missing.is_empty(), &format!("every call it makes is let through {missing:?}"))?;
    let instead: BTreeSet<&str> = INSTEAD.iter().map(|(_, with)| *with).collect();
    let made_so = |call: &&String| made.contains(*call) || instead.contains(call.as_str());
    let stale: Vec<&String> = listed.iter().filter(|call| !made_so(call)).collect();
    super::hold(stale.is_empty(), &format!("and none besides {stale:?}"))
}

/// Runs `up` with this folder's programs.
fn up(folder: &Path) -> anyhow::Result<Summary> {
    let json = folder.join("up.json");
    let status = Command::new(workspace::program("xtask"))
        .args(["up", "--small", "--no-machines", "--no-build", "--exit-when-done", "--port", "0"])
        .arg("--folder")
        .arg(folder.join("up"))
        .arg("--json")
        .arg(&json)
        .env("CARGO_TARGET_DIR", folder)
        .status()
        .context("running xtask")?;
    if !status.success() {
        bail!("`up` failed");
    }
    Ok(serde_json::from_slice(&fs::read(json)?)?)
}

/// A program in the service's place: the service, traced, run by the images' loader.
fn wrap(path: &Path, libraries: &Path, folder: &Path) -> anyhow::Result<()> {
    let loader = libraries.join("usr/lib64/ld-linux-x86-64.so.2");
    let library_path = libraries.join("usr/lib/x86_64-linux-gnu");
    let compute = workspace::program("compute");
    let text = format!(
        "#!/bin/sh\nexec strace -f -qq -o '{}'.$$ '{}' --inhibit-cache --library-path '{}' '{}' \"$@\"\n",
        folder.join("trace").display(),
        loader.display(),
        library_path.display(),
        compute.display(),
    );
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// The names of all calls in the traces: `PID NAME(…` a line, or `PID <... NAME resumed>…`.
fn traced(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("trace.") {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            calls.extend(String::from_utf8_lossy(&text).lines().filter_map(call));
        }
    }
    Ok(calls)
}

/// The name of the call that a line begins. Pure.
fn call(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_names_the_call_that_each_line_begins() {
        assert_eq!(call("51    read(3, \"x\", 1) = 1"), Some("read".into()));
        assert_eq!(call("7 epoll_wait(3,  <unfinished ...>"), Some("epoll_wait".into()));
        assert_eq!(call("7 <... epoll_wait resumed>[], 1024, 0) = 0"), None);
        assert_eq!(call("7 --- SIGTERM {si_signo=SIGTERM} ---"), None);
        assert_eq!(call("7 +++ killed by SIGKILL +++"), None);
    }
}
