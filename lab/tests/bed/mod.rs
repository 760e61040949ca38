//! What tests share that run in a sandbox of their own: what the environment gives them, the suite's
//! packages, and the way inside.

use crate::common;
use image::{Packages, packages::Options};
use lab::sandbox;
use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc};

/// A path that the environment gives.
pub(crate) fn given(name: &str) -> PathBuf {
    let path = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set"));
    PathBuf::from(path).canonicalize().unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The suite's packages. What is wanted of them is fetched before [`enter`]: inside there is no
/// network to fetch it by.
#[allow(dead_code, reason = "a test may need none")]
pub(crate) fn packages() -> Packages {
    let options = Options::new(given("ALIA_CACHE"), "trixie");
    Packages::open(options, Arc::new(|text| println!("{text}"))).unwrap()
}

/// Runs this program again, inside: those of its tests that were asked for, or else that `usual`
/// names.
pub(crate) fn enter(usual: impl Into<OsString>) -> ExitCode {
    let privilege = sandbox::privilege().unwrap_or_else(|error| panic!("{error}"));
    let chosen = common::filter();
    let tests = if chosen.is_empty() { usual.into() } else { chosen.into() };
    let mut sandbox = sandbox::enter(privilege, &["inside".into(), tests], Vec::new()).unwrap();
    match sandbox.wait().unwrap().code() {
        Some(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
