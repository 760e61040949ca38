//! The page in a real Chromium: `provisioner/tests/browser.rs`.

use crate::{
    build,
    setup::{self, Sources},
    workspace,
};
use lab::tools::Purpose;
use std::process::{Command, Stdio};

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = ["chromium and chromium-driver, where they are not here"];
    if !setup::announce(sources, Purpose::Test, &more)? {
        return Ok(());
    }
    if Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status().is_err() {
        let packages = ["chromium", "chromium-driver"];
        let install = ["install", "--yes", "--no-install-recommends"];
        setup::run("apt-get", &[&install[..], &packages].concat())?;
    }
    let pictures = workspace::target().join("long/page");
    let environment = [("ALIA_SCREENSHOTS", pictures.clone().into())];
    let test = ["test", "--release", "--quiet", "--workspace", "--test", "browser", "--"];
    // One window after the other: which has the focus matters.
    let flags = ["--ignored", "--test-threads", "1"];
    build::run(&[&test[..], &flags].concat(), &environment)?;
    println!("pictures: {}", pictures.display());
    Ok(())
}
