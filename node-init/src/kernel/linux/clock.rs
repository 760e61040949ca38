//! Moving the wall clock (adjtimex(2)).

use nix::errno::Errno;
use std::io;

const NANOSECONDS: i64 = 1_000_000_000;

pub(super) fn step(nanoseconds: i64) -> io::Result<()> {
    adjust(|timex| {
        timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        // The fraction is never negative; with ADJ_NANO it is of nanoseconds.
        timex.time.tv_sec = nanoseconds.div_euclid(NANOSECONDS);
        timex.time.tv_usec = nanoseconds.rem_euclid(NANOSECONDS);
    })
}

pub(super) fn slew(nanoseconds: i64) -> io::Result<()> {
    adjust(|timex| {
        timex.modes = libc::ADJ_OFFSET_SINGLESHOT;
        timex.offset = nanoseconds / 1_000;
    })
}

fn adjust(fill: impl FnOnce(&mut libc::timex)) -> io::Result<()> {
    // SAFETY: `timex` is made of integers alone, for which zeros are values.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    fill(&mut timex);
    // SAFETY: the kernel reads and writes the one live `timex` that it is given.
    Errno::result(unsafe { libc::adjtimex(&mut timex) })?;
    Ok(())
}
