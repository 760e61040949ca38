//! A boot loop ends in a rescue: a state that stays, reports, and is left by people.
//!
//! A boot *stands* once the compute service was started, or after [`STANDS`] without a restart.
//! Where [`MOST_FAILED`] boots in a row did not come to stand, the next one is a rescue: network,
//! node API, reports and console, but no registration, no compute service, and no restart for
//! whatever fails. Counted by the provisioner, which sees a boot by its script, or else by its
//! question for the time, and says so with the time. An end that somebody asks for (node API, power button, Ctrl-Alt-Del) and
//! another image begin a new row; so does an hour without a boot.

use protocol::boot::StageState;
use std::time::Duration;

/// So many boots in a row may fail: once is a mishap, twice bad luck.
pub const MOST_FAILED: u32 = 3;
/// A boot that is up for so long is no part of a loop: what waits for a provisioner or a ledger
/// that is away does not fail.
pub const STANDS: Duration = Duration::from_secs(600);

/// Where a boot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody knows yet.
    Booting {
        /// From 1.
        attempt: u32,
    },
    /// It stands.
    Standing,
    /// It does not try any more.
    Rescue,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The compute service was started.
    Ready,
    /// Time passed.
    Tick,
}

impl State {
    /// The boot of this number in its row, from 1; with what people are told of it.
    pub fn new(attempt: u32) -> (Self, Option<(StageState, String)>) {
        let failed = attempt.saturating_sub(1);
        if failed >= MOST_FAILED {
            let told = format!(
                "{failed} boots in a row did not come to stand: the machine stays as it is, with \
                 network and node API, and does no work; look at what failed above and before, \
                 then restart it by `alia node reboot` or its power button, or give it another \
                 image"
            );
            return (Self::Rescue, Some((StageState::Failed, told)));
        }
        let told = match failed {
            0 => None,
            1 => Some("the boot before did not come to stand".to_owned()),
            _ => Some(format!("{failed} boots in a row did not come to stand")),
        };
        let left = MOST_FAILED - failed;
        let told = told.map(|told| {
            (StageState::Started, format!("{told}; after {left} more the machine stays in rescue"))
        });
        (Self::Booting { attempt }, told)
    }

    /// When the next [`Event::Tick`] is due.
    pub fn wake(&self) -> Option<Duration> {
        matches!(self, Self::Booting { .. }).then_some(STANDS)
    }

    /// Takes an event in at `now`; says what is told, once.
    pub fn step(&mut self, now: Duration, event: Event) -> Option<String> {
        let Self::Booting { .. } = self else { return None };
        let told = match event {
            Event::Ready => "the compute service was started",
            Event::Tick if now >= STANDS => "the machine is up for ten minutes",
            Event::Tick => return None,
        };
        *self = Self::Standing;
        Some(told.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_failed_boots_in_a_row_end_in_a_rescue_that_says_what_to_do() {
        assert_eq!(State::new(1), (State::Booting { attempt: 1 }, None));
        let (state, told) = State::new(3);
        assert_eq!(state, State::Booting { attempt: 3 });
        let (kind, text) = told.unwrap();
        assert_eq!(kind, StageState::Started);
        assert_eq!(
            text,
            "2 boots in a row did not come to stand; after 1 more the machine stays in rescue"
        );
        let (state, told) = State::new(4);
        assert_eq!(state, State::Rescue);
        assert!(told.unwrap().1.contains("restart it by `alia node reboot`"));
        assert_eq!(state.wake(), None);
    }

    #[test]
    fn a_boot_stands_when_its_service_started_or_it_lasted_and_says_so_once() {
        let mut state = State::new(2).0;
        assert_eq!(state.step(Duration::from_secs(5), Event::Tick), None);
        assert!(state.step(Duration::from_secs(6), Event::Ready).is_some());
        assert_eq!(state.step(STANDS, Event::Tick), None);
        let mut state = State::new(1).0;
        assert_eq!(state.wake(), Some(STANDS));
        assert!(state.step(STANDS, Event::Tick).is_some());
        assert_eq!(state.step(STANDS, Event::Ready), None);
    }

    proptest! {
        // A rescue is left by nothing that happens in the machine itself.
        #[test]
        fn a_rescue_stays(attempt in MOST_FAILED + 1.., events in proptest::collection::vec((any::<bool>(), 0u64..100_000), 0..20)) {
            let mut state = State::new(attempt).0;
            for (ready, seconds) in events {
                let event = if ready { Event::Ready } else { Event::Tick };
                prop_assert_eq!(state.step(Duration::from_secs(seconds), event), None);
                prop_assert_eq!(state, State::Rescue);
            }
        }
    }
}
