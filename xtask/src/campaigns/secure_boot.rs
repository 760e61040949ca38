//! Secure Boot: what is signed boots, and what was changed, unsigned or signed by others does not,
//! from real firmware.

use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    workspace,
};
use lab::tools::Purpose;
use std::ffi::OsString;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    if !setup::announce(sources, Purpose::Up, &[])? {
        return Ok(());
    }
    setup::install(Purpose::Up)?;
    let packages = setup::packages(sources)?;
    build::programs()?;
    build::image(&packages, KernelFrom::Prebuilt)?;
    let environment: [(&str, OsString); 5] = [
        ("ALIA_BOOTS", "1".into()),
        ("ALIA_LONG", "1".into()),
        ("ALIA_CACHE", workspace::cache().into()),
        ("ALIA_IMAGE", workspace::image().into()),
        ("ALIA_PROVISIONER", workspace::program("provisioner").into()),
    ];
    build::run(&["test", "--release", "--workspace", "--test", "secure_boot"], &environment)
}
