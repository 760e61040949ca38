//! Secure Boot: what is signed boots, and what was changed, unsigned or signed by others does not,
//! from real firmware.

use super::{lab_test, machines};
use crate::setup::Sources;
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    match machines(sources, Purpose::Up, &[])? {
        Some(_) => lab_test("secure_boot", &[("ALIA_LONG", "1".into())]),
        None => Ok(()),
    }
}
