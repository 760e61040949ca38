//! Times as people read them.

/// A duration in seconds, as short as it may be.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

/// Power in thousandths of watts.
pub(super) fn watts(milliwatts: u64) -> String {
    match milliwatts {
        mw if mw < 10_000 => format!("{:.1} W", mw as f64 / 1e3),
        mw if mw < 10_000_000 => format!("{} W", mw / 1_000),
        mw => format!("{:.1} kW", mw as f64 / 1e6),
    }
}

/// A temperature in thousandths of degrees.
pub(super) fn degrees(millidegrees: i64) -> String {
    format!("{} °C", millidegrees.saturating_add(500).div_euclid(1_000))
}

/// Memory, as it is counted in powers of two.
pub(super) fn memory(bytes: u64) -> String {
    match bytes {
        b if b < 10 << 30 => format!("{} MiB", b >> 20),
        b => format!("{:.0} GiB", b as f64 / f64::from(1 << 30)),
    }
}

/// A disk's size, as its maker counts it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        b if b < 1_000_000_000 => format!("{} MB", b / 1_000_000),
        b if b < 1_000_000_000_000 => format!("{} GB", b / 1_000_000_000),
        b => format!("{:.1} TB", b as f64 / 1e12),
    }
}

/// So many of a thing.
pub(super) fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// How long ago.
pub(super) fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) / 1000 {
        0..=4 => "now".into(),
        s => format!("{} ago", seconds(s as f64)),
    }
}

/// `2026-03-01 12:34:56.789`, by the civil calendar from days since 1970 (proleptic Gregorian;
/// eras of 400 years that begin on 1 March).
pub fn moment(unix_ms: u64) -> String {
    let (day, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = day + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(memory(2 << 30), "2048 MiB");
        assert_eq!(memory((64 << 30) - (300 << 20)), "64 GiB");
        assert_eq!(
            (size(512_110_190_592), size(2_000_398_934_016)),
            ("512 GB".into(), "2.0 TB".into())
        );
    }

    #[test]
    fn a_moment_reads_as_the_calendar_has_it() {
        assert_eq!(moment(0), "1970-01-01 00:00:00.000");
        assert_eq!(moment(951_827_696_789), "2000-02-29 12:34:56.789");
        assert_eq!(moment(1_735_689_599_999), "2024-12-31 23:59:59.999");
    }
}
