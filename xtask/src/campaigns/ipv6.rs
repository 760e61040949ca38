//! Machines that boot by IPv6 alone: every test of `lab/tests/boot6.rs`; and by HTTPS:
//! `lab/tests/https.rs`.

use super::{lab_test, machines};
use crate::setup::Sources;
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    match machines(sources, Purpose::Test, &[])? {
        Some(_) => lab_test("boot6", &[("ALIA_LONG", "1".into())]),
        None => Ok(()),
    }
}

pub(super) fn https(sources: &Sources) -> anyhow::Result<()> {
    match machines(sources, Purpose::Test, &[])? {
        Some(_) => lab_test("https", &[("ALIA_LONG", "1".into())]),
        None => Ok(()),
    }
}
