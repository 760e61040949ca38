//! Odd hardware and odd networks: every test of `lab/tests/hardware.rs`.

use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    workspace,
};
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    if !setup::announce(sources, Purpose::Test, &["chrony, of the suite: a real NTP server"])? {
        return Ok(());
    }
    setup::install(Purpose::Test)?;
    let packages = setup::packages(sources)?;
    build::programs()?;
    build::image(&packages, KernelFrom::Prebuilt)?;
    build::run(
        &["test", "--release", "--workspace", "--test", "hardware"],
        &[
            ("ALIA_BOOTS", "1".into()),
            ("ALIA_HARDWARE", "1".into()),
            ("ALIA_CACHE", workspace::cache().into()),
            ("ALIA_IMAGE", workspace::image().into()),
            ("ALIA_PROVISIONER", workspace::program("provisioner").into()),
        ],
    )
}
