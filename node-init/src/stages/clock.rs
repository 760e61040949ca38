//! Stage `clock`: the wall clock's floor, and later the provisioner's signed time.
//!
//! A battery-backed clock may say 1970 or 2099. The image is never older than its own build, so
//! that is the floor; the true time comes with the provisioner's answer to a nonce, and with the node's
//! settings, which name this boot's id: nobody can play old ones back to set the clock back.

use crate::kernel::{self, Kernel};
use serde::Deserialize;
use std::io;

/// What this image is.
pub const BUILD: &str = "/etc/alia/build.json";
/// Differences up to this many seconds are left alone: the answer's way takes time too.
const NEAR: u64 = 2;

/// What the image says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Build {
    /// The image's version.
    pub version: String,
    /// The kernel's release.
    pub kernel_release: String,
    /// The build's timestamp, seconds since 1970.
    pub unix_time: u64,
}

/// The clock is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The image does not say when it was built.
    #[error(
        "{BUILD} {0}; the clock has no floor until the provisioner says the time: rebuild the image"
    )]
    NoBuild(String),
    /// The kernel refused.
    #[error("the clock cannot be set to {}: {reason}", date(*.wanted))]
    Refused {
        /// To when.
        wanted: u64,
        /// Why not.
        reason: io::Error,
    },
}

/// Sets the clock to the build's time where it is before that.
pub fn run(kernel: &dyn Kernel) -> Result<(Build, String), ClockError> {
    let text = kernel::text(kernel, BUILD)
        .ok_or_else(|| ClockError::NoBuild("cannot be read".to_owned()))?;
    let build: Build = serde_json::from_str(&text)
        .map_err(|error| ClockError::NoBuild(format!("cannot be understood ({error})")))?;
    let now = kernel.unix_time();
    if now >= build.unix_time {
        return Ok((build, date(now)));
    }
    set(kernel, build.unix_time)?;
    let detail = format!("{}, the build's: the machine said {}", date(build.unix_time), date(now));
    Ok((build, detail))
}

/// Takes the provisioner's signed time, but never one before the floor. Gives what to tell people
/// where the clock was set.
pub fn take(kernel: &dyn Kernel, floor: u64, signed: u64) -> Result<Option<String>, ClockError> {
    let now = kernel.unix_time();
    let wanted = signed.max(floor);
    if now.abs_diff(wanted) <= NEAR {
        return Ok(None);
    }
    set(kernel, wanted)?;
    let whose = if signed < floor {
        "the build's: the provisioner's is before it"
    } else {
        "the provisioner's"
    };
    Ok(Some(format!("{}, {whose}; it was {}", date(wanted), date(now))))
}

fn set(kernel: &dyn Kernel, wanted: u64) -> Result<(), ClockError> {
    kernel.set_unix_time(wanted).map_err(|reason| ClockError::Refused { wanted, reason })
}

/// `2026-03-01T12:30:05Z`, for seconds since 1970 (the proleptic Gregorian calendar, as in
/// RFC 3339).
pub fn date(unix_time: u64) -> String {
    let (days, second) = (unix_time / 86_400, unix_time % 86_400);
    // Whole 400-year cycles have 146,097 days; then year by year, month by month.
    let mut year = 1970 + 400 * (days / 146_097);
    let mut days = days % 146_097;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    /// 2026-03-01T00:00:00Z.
    const BUILT: u64 = 1_772_323_200;

    fn machine(clock: u64) -> Fake {
        let build =
            format!("{{\"version\":\"0.1.0\",\"kernel_release\":\"6.12\",\"unix_time\":{BUILT}}}");
        let kernel = Fake::new(&[(BUILD, &build)]);
        kernel.world().clock = clock;
        kernel
    }

    #[test]
    fn a_clock_at_1970_is_set_to_the_build() {
        let kernel = machine(5);
        let (build, detail) = run(&kernel).unwrap();
        assert_eq!(build.version, "0.1.0");
        assert_eq!(kernel.unix_time(), BUILT);
        assert_eq!(
            detail,
            "2026-03-01T00:00:00Z, the build's: the machine said 1970-01-01T00:00:05Z"
        );
    }

    #[test]
    fn a_clock_after_the_build_is_left_alone() {
        let kernel = machine(BUILT + 60);
        assert_eq!(run(&kernel).unwrap().1, "2026-03-01T00:01:00Z");
        assert_eq!(kernel.unix_time(), BUILT + 60);
    }

    #[test]
    fn a_clock_at_2099_is_set_back_by_the_signed_time() {
        let kernel = machine(4_076_352_000);
        let told = take(&kernel, BUILT, BUILT + 100).unwrap().unwrap();
        assert_eq!(kernel.unix_time(), BUILT + 100);
        assert_eq!(told, "2026-03-01T00:01:40Z, the provisioner's; it was 2099-03-05T00:00:00Z");
    }

    #[test]
    fn a_signed_time_before_the_floor_is_not_taken() {
        let kernel = machine(BUILT + 100);
        take(&kernel, BUILT, 0).unwrap();
        assert_eq!(kernel.unix_time(), BUILT);
    }

    #[test]
    fn a_clock_that_is_right_is_not_touched() {
        assert!(take(&machine(BUILT + 9), BUILT, BUILT + 10).unwrap().is_none());
    }

    #[test]
    fn an_image_that_does_not_say_when_it_was_built_is_said_so() {
        let error = run(&Fake::new(&[])).unwrap_err().to_string();
        assert!(error.contains(BUILD) && error.contains("rebuild the image"), "{error}");
        assert!(run(&Fake::new(&[(BUILD, "{")])).is_err());
    }

    #[test]
    fn a_clock_that_cannot_be_set_is_an_error() {
        let error = run(&machine(5).failing("clock", 1)).unwrap_err().to_string();
        assert!(error.contains("cannot be set to 2026-03-01T00:00:00Z"), "{error}");
    }

    #[test]
    fn dates_are_the_calendars() {
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (12_622_780_800, "2370-01-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), wanted);
        }
    }

    proptest! {
        #[test]
        fn no_time_panics(seconds: u64) {
            date(seconds);
        }
    }
}
