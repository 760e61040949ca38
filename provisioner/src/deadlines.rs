//! Ends the waits of machines' states when their time is over ([`crate::life`]).

use crate::{
    store::{SILENT_MS, Store, StoreError},
    timeline::unix_ms,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// A clock that is off by more was set, or is wrong, in milliseconds.
const OFF_MS: i64 = 60_000;

/// Watches until the program ends.
pub async fn watch(store: Arc<Store>) {
    let mut last = (Instant::now(), unix_ms());
    let mut told = false;
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = (Instant::now(), unix_ms());
        let jump = jump(now.0.duration_since(last.0), last.1, now.1);
        last = now;
        // Who starts has heard of nobody yet.
        let hears = began.elapsed() > Duration::from_millis(SILENT_MS);
        match store.run(move |store| look(store, now.1, jump, hears)).await {
            Ok(off) => {
                if off != 0 && !told {
                    tracing::error!(
                        "this host's clock is {} s from the database's: set it; until then other \
                         front-ends alone end machines' waits, and leases go by the database's",
                        off / 1_000
                    );
                }
                told = off != 0;
            }
            Err(error) if error.may_pass() => tracing::debug!("waits are not ended: {error}"),
            Err(error) => tracing::error!("waits are not ended: {error}"),
        }
    }
}

/// By how many milliseconds the clock was set while `passed` went by; 0 where it merely drifts. Pure.
fn jump(passed: Duration, before: u64, now: u64) -> i64 {
    let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    let jump = now.cast_signed().wrapping_sub(before.cast_signed()).saturating_sub(passed);
    if jump.saturating_abs() > OFF_MS { jump } else { 0 }
}

/// Ends what is over; gives by how much our clock is off, where it is too far off to judge by.
fn look(store: &Store, now: u64, jump: i64, hears: bool) -> Result<i64, StoreError> {
    match store.server_time()? {
        Some(theirs) => {
            let off = now.cast_signed().saturating_sub(theirs.cast_signed());
            let far = off.saturating_abs() > OFF_MS;
            store.set_ahead(if far { off } else { 0 });
            if far {
                return Ok(off);
            }
        }
        // Nobody else's clock is in there: what was to end in an hour still does.
        None if jump != 0 => {
            tracing::warn!(
                "the clock was set by {} s; machines' waits and leases go with it",
                jump / 1_000
            );
            store.shift_deadlines(jump)?;
        }
        None => {}
    }
    store.pass_overdue(now)?;
    if hears {
        store.miss_silent(now)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        life::{Actor, Cause},
        machine::Mac,
        timeline::{Kind, Record, Sighting},
    };
    use protocol::fleet::MachineState;

    #[test]
    fn a_clock_that_is_set_is_told_from_one_that_runs() {
        let seconds = Duration::from_secs;
        assert_eq!(jump(seconds(5), 1_000_000, 1_005_100), 0);
        assert_eq!(jump(seconds(5), 0, 1_700_000_000_000), 1_699_999_995_000);
        assert_eq!(jump(seconds(5), 1_700_000_000_000, 0), -1_700_000_005_000);
        // The host slept.
        assert_eq!(jump(seconds(3_600), 0, 3_600_000), 0);
    }

    #[test]
    fn a_clock_that_is_set_ends_no_wait() {
        let (_folder, store) = crate::store::temporary();
        if store.is_shared() {
            return;
        }
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let sighting = Sighting { boots: true, ..Sighting::default() };
        let record = Record::new(mac, Kind::Dhcp, "boots").sighting(sighting);
        store.record(&[Record { at: 1_000, ..record }]).unwrap();
        store.pass(mac, Cause::TakenIn, &Actor::Machine, 1_000).unwrap();
        let state = || store.life(mac).unwrap().unwrap().state;
        let year = 365 * 24 * 3_600_000;
        assert_eq!(look(&store, year, year.cast_signed(), true).unwrap(), 0);
        assert_eq!(state(), MachineState::Booting);
        assert_eq!(look(&store, year + 15 * 60_000 + 1_000, 0, true).unwrap(), 0);
        assert_eq!(state(), MachineState::Discovered);
    }
}
