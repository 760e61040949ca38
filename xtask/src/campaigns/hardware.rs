//! Odd hardware and odd networks: every test of `lab/tests/hardware.rs`.

use super::{lab_test, machines};
use crate::setup::Sources;
use lab::tools::Purpose;

pub(super) fn run(sources: &Sources) -> anyhow::Result<()> {
    let more = "chrony, of the suite: a real NTP server";
    match machines(sources, Purpose::Test, &[more])? {
        Some(_) => lab_test("hardware", &[("ALIA_HARDWARE", "1".into())]),
        None => Ok(()),
    }
}
