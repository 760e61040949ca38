//! Kernels scored by kernel-hardening-checker
//! (<https://github.com/a13xp0p0v/kernel-hardening-checker>), the distribution's package of it.

use crate::{setup::Sources, workspace};
use anyhow::{Context, bail};
use image::{Packages, kernel::Kernel, packages::Options};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// The checker's package; it is newer than the suite.
pub(crate) const CHECKER: &str = "kernel-hardening-checker";
/// What is to be beaten: the better figure of each of two measurements of [`TALOS_URL`]
/// (docs/image.md): 189 OK and 61 FAIL by checker 0.6.17.1, 197 OK and 62 FAIL by its repository
/// after that, which has nine checks more. Neither has both of these.
pub(crate) const TALOS: Score = Score { ok: 197, fail: 61 };
/// The configuration of Talos's kernel that was measured: of 2026-08-21, Linux 6.18.45. It is not in
/// this repository, and nothing here fetches it.
pub(crate) const TALOS_URL: &str = "https://raw.githubusercontent.com/siderolabs/pkgs/28f5f23ccf05ac8633e9f85146e47f27bbbae99f/kernel/build/config-amd64";
/// SHA-256 of that file, hex.
const TALOS_SHA256: &str = "0f50608d5d76b9f82c9ba94dc83030b127235bdd5d848bb92d13fd51c66bb207";

/// Whether bytes are Talos's configuration as it was measured. Pure.
pub(crate) fn is_talos(configuration: &[u8]) -> anyhow::Result<()> {
    let found = format!("{:x}", Sha256::digest(configuration));
    if found != TALOS_SHA256 {
        bail!("its SHA-256 is {found}, and {TALOS_SHA256} is that of {TALOS_URL}");
    }
    Ok(())
}

/// How many checks a configuration passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Score {
    pub(crate) ok: usize,
    pub(crate) fail: usize,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} OK, {} FAIL", self.ok, self.fail)
    }
}

/// One check, as the checker prints it.
#[derive(Deserialize)]
pub(crate) struct Check {
    pub(crate) option_name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) check_result: String,
    pub(crate) check_result_bool: Option<bool>,
}

impl Check {
    pub(crate) fn failed(&self) -> bool {
        self.check_result_bool == Some(false)
    }
}

/// The checks' sum. Pure.
pub(crate) fn score(checks: &[Check]) -> Score {
    let count = |wanted| checks.iter().filter(|check| check.check_result_bool == wanted).count();
    Score { ok: count(Some(true)), fail: count(Some(false)) }
}

/// FAILs without a reason, and reasons without a FAIL. Pure.
pub(crate) fn strays(checks: &[Check], reasons: &BTreeMap<String, String>) -> Vec<String> {
    let failed: Vec<&str> =
        checks.iter().filter(|check| check.failed()).map(|c| c.option_name.as_str()).collect();
    let unexplained = failed.iter().filter(|name| !reasons.contains_key(**name));
    let stale = reasons.keys().map(String::as_str).filter(|name| !failed.contains(name));
    unexplained.copied().chain(stale).map(str::to_string).collect()
}

/// What the source kernel's options come to, as the repository has it.
pub(crate) fn resolved() -> PathBuf {
    workspace::root().join("image/kernel.config")
}

/// The checker, fetched.
pub(crate) struct Checker {
    /// The folder of its Python package.
    folder: PathBuf,
}

impl Checker {
    /// Fetches it into the cache.
    pub(crate) fn fetch(sources: &Sources, suite: &str) -> anyhow::Result<Self> {
        let mut options = Options::new(workspace::cache(), format!("{suite}-backports"));
        options.mirrors = sources.mirror.clone();
        let packages = Packages::open(options, Arc::new(|text| println!("  {text}")))?;
        let package = packages.fetch(&[CHECKER])?.pop().context("the checker was not fetched")?;
        Ok(Self { folder: package.root.join("usr/lib/python3/dist-packages") })
    }

    /// What it says of a configuration.
    pub(crate) fn check(&self, configuration: &Path) -> anyhow::Result<Vec<Check>> {
        self.run(configuration, None)
    }

    /// What it says of a configuration, and of settings of the kernel that runs.
    pub(crate) fn run(
        &self,
        configuration: &Path,
        settings: Option<&Path>,
    ) -> anyhow::Result<Vec<Check>> {
        fs::metadata(configuration).with_context(|| configuration.display().to_string())?;
        let output = Command::new("python3")
            .args(["-c", "from kernel_hardening_checker import main; main()", "-m", "json", "-c"])
            .arg(configuration)
            .args(settings.iter().flat_map(|path| [OsStr::new("-s"), path.as_os_str()]))
            .env("PYTHONPATH", &self.folder)
            .output()
            .context("running python3: install it")?;
        if !output.status.success() {
            bail!("{CHECKER}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("what {CHECKER} says"))
    }
}

/// The scores of a kernel and of the one from source side by side, for people; why not, where that
/// cannot be found out here.
pub(crate) fn beside_source(sources: &Sources, suite: &str, kernel: &Kernel) -> String {
    let scores = || -> anyhow::Result<String> {
        let checker = Checker::fetch(sources, suite)?;
        let its = score(&checker.check(&kernel.configuration()?)?);
        let best = score(&checker.check(&resolved())?);
        Ok(format!("{its}; of `--kernel source`: {best}"))
    };
    match scores() {
        Ok(scores) => format!("{CHECKER}: {scores}"),
        Err(error) => format!("not scored by {CHECKER}: {}", protocol::told(error.as_ref())),
    }
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
    fn another_configuration_than_the_one_that_was_measured_is_told() {
        let error = is_talos(b"CONFIG_64BIT=y\n").unwrap_err().to_string();
        let named = ["siderolabs/pkgs", TALOS_SHA256, "SHA-256 is "];
        assert!(named.iter().all(|each| error.contains(each)), "{error}");
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
