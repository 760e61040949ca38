//! Machines with a TPM and without one, from real firmware: what keeps a node's key, and what a
//! copy of it comes to (`lab/tests/measured.rs`).

use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    workspace,
};
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = "swtpm, of the newer suite: the machines' TPMs";
    if !setup::announce(sources, Purpose::Test, &[more])? {
        return Ok(());
    }
    setup::install(Purpose::Test)?;
    let packages = setup::packages(sources)?;
    build::programs()?;
    build::image(&packages, KernelFrom::Prebuilt)?;
    let environment = [
        ("ALIA_CACHE", workspace::cache().into()),
        ("ALIA_IMAGE", workspace::image().into()),
        ("ALIA_PROVISIONER", workspace::program("provisioner").into()),
        ("ALIA_BOOTS", "1".into()),
        ("ALIA_TPM_BOOTS", "1".into()),
    ];
    build::run(&["test", "--release", "--quiet", "--workspace", "--test", "measured"], &environment)
}
