//! Machines with a TPM and without one, from real firmware: what keeps a node's key, and what a
//! copy of it comes to (`lab/tests/measured.rs`).

use super::{lab_test, machines};
use crate::{setup::Sources, workspace};
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = "swtpm, of the newer suite: the machines' TPMs";
    match machines(sources, Purpose::Test, &[more])? {
        Some(_) => lab_test(
            "measured",
            &[("ALIA_TPM_BOOTS", "1".into()), ("ALIA_COMMAND", workspace::program("alia").into())],
        ),
        None => Ok(()),
    }
}
