//! The hardware's watchdog, fed by progress: pure decisions, with times as values, and the device.
//!
//! It is fed by the event loop itself, so that a loop that hangs feeds nothing; and only while
//! what the loop should do gets done. A watchdog that is not fed resets the machine after
//! [`TIMEOUT`]. It is never stopped before the machine ends: writing back what is not written
//! (`sync`) may hang too. The kernel's driver stops it once the restart itself has begun.

use crate::kernel::{Kernel, Watchdog};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// The device; the kernel numbers them as their drivers find them.
pub const DEVICE: &str = "/dev/watchdog0";
/// Without food for so long the machine is reset. The loop's turns take milliseconds; its longest
/// silence of its own is the half minute before a restart in which a person reads why.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// So many meals in the time that the device allows: it may miss all but one.
const MEALS: u32 = 4;
/// What is due may be so late before the machine counts as hung: a loop that turns without doing
/// what is due.
const LATE: Duration = Duration::from_secs(30);
/// A service that was killed may take so long to be gone: a process in a driver's hands that
/// outlasts it is given back by a reset alone.
pub const UNKILLABLE: Duration = Duration::from_secs(300);

/// What the loop has to show for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the next thing is to be done that waits for nothing but time.
    pub due: Option<Duration>,
    /// Since when a service that was killed is still there.
    pub unkillable: Option<Duration>,
}

/// Where feeding stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the device allows.
    timeout: Duration,
    /// The next meal.
    next: Duration,
    starves: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Feed it.
    Feed,
    /// Feed it no more, for this reason: the machine is reset in so long.
    Starve(String),
}

impl State {
    /// Feeding begins at `now`; the device resets the machine `timeout` after its last meal.
    pub fn new(now: Duration, timeout: Duration) -> Self {
        Self { timeout, next: now, starves: false }
    }

    /// When the next step is due.
    pub fn wake(&self) -> Option<Duration> {
        (!self.starves).then_some(self.next)
    }

    /// Looks at the progress at `now`. What starves once is fed no more: half a recovery is none.
    pub fn step(&mut self, now: Duration, progress: &Progress) -> Option<Action> {
        if self.starves {
            return None;
        }
        let overdue = |since: Option<Duration>, limit: Duration| {
            since.map(|since| now.saturating_sub(since)).filter(|late| *late > limit)
        };
        let reason = if let Some(late) = overdue(progress.due, LATE) {
            format!("what was due is not done for {} s", late.as_secs())
        } else if let Some(late) = overdue(progress.unkillable, UNKILLABLE) {
            format!("the service was killed {} s ago and is still there", late.as_secs())
        } else {
            if now < self.next {
                return None;
            }
            self.next = now + self.timeout / MEALS;
            return Some(Action::Feed);
        };
        self.starves = true;
        let seconds = self.timeout.as_secs();
        Some(Action::Starve(format!(
            "{reason}; the watchdog resets the machine within {seconds} s"
        )))
    }
}

/// An armed watchdog.
#[derive(Debug)]
pub struct Dog {
    device: File,
    state: State,
}

impl Dog {
    /// Arms the machine's watchdog, where it has one; with what people are told. From then on the
    /// machine is reset unless the dog is fed.
    pub fn arm(kernel: &dyn Kernel) -> io::Result<(Self, String)> {
        let Watchdog { device, timeout, reset_us, name } =
            kernel.watchdog(Path::new(DEVICE), TIMEOUT)?;
        let last = if reset_us { "; it reset the machine before this boot" } else { "" };
        let detail = format!("{name} resets the machine after {} s{last}", timeout.as_secs());
        let state = State::new(kernel.since_start(), timeout);
        Ok((Self { device: device.into(), state }, detail))
    }

    /// When [`Dog::look`] is due.
    pub fn wake(&self) -> Option<Duration> {
        self.state.wake()
    }

    /// Feeds it, or gives why not.
    pub fn look(&mut self, now: Duration, progress: &Progress) -> Option<String> {
        match self.state.step(now, progress)? {
            // Any byte but `V`, by which a driver would stop it when the device is closed.
            Action::Feed => self.device.write_all(b"a").err().map(|error| {
                format!("the watchdog takes no food ({error}); it resets the machine soon")
            }),
            Action::Starve(reason) => Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;
    use std::io::Read;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_machine_that_gets_on_feeds_it_four_times_as_often_as_it_must() {
        let mut state = State::new(SECOND, SECOND * 60);
        assert_eq!(state.wake(), Some(SECOND));
        assert_eq!(state.step(SECOND, &Progress::default()), Some(Action::Feed));
        assert_eq!(state.step(SECOND * 15, &Progress::default()), None);
        assert_eq!(state.wake(), Some(SECOND * 16));
        assert_eq!(state.step(SECOND * 16, &Progress::default()), Some(Action::Feed));
    }

    #[test]
    fn a_loop_that_turns_without_doing_what_is_due_starves_it() {
        let mut state = State::new(Duration::ZERO, SECOND * 60);
        let late = Progress { due: Some(SECOND * 10), unkillable: None };
        assert_eq!(state.step(SECOND * 40, &late), Some(Action::Feed));
        let told = "what was due is not done for 31 s; the watchdog resets the machine within 60 s";
        assert_eq!(state.step(SECOND * 41, &late), Some(Action::Starve(told.into())));
        assert_eq!(state.step(SECOND * 42, &Progress::default()), None, "it stays so");
        assert_eq!(state.wake(), None);
    }

    #[test]
    fn a_service_that_cannot_be_killed_starves_it() {
        let mut state = State::new(Duration::ZERO, SECOND * 60);
        let killed = Progress { due: None, unkillable: Some(SECOND) };
        assert_eq!(state.step(UNKILLABLE + SECOND, &killed), Some(Action::Feed));
        assert!(matches!(state.step(UNKILLABLE + SECOND * 2, &killed),
            Some(Action::Starve(reason)) if reason.starts_with("the service was killed 301 s ago")));
    }

    #[test]
    fn feeding_writes_to_the_device_and_says_who_reset_the_machine() {
        let kernel = Fake::new(&[]);
        kernel.world().reset_by_watchdog = true;
        let (mut dog, told) = Dog::arm(&kernel).unwrap();
        assert_eq!(
            told,
            "a fake resets the machine after 60 s; it reset the machine before this boot"
        );
        assert_eq!(dog.look(kernel.since_start(), &Progress::default()), None);
        let mut food = File::from(kernel.world().watchdog.take().unwrap());
        let mut byte = [0; 8];
        assert_eq!(food.read(&mut byte).unwrap(), 1);
        assert_ne!(byte[0], b'V');
    }

    #[test]
    fn a_machine_without_one_is_said_so() {
        assert!(Dog::arm(&Fake::new(&[]).failing(DEVICE, 2)).is_err());
    }

    proptest! {
        // Whatever happens: while it is fed, no two meals lie further apart than the device
        // allows, provided that it is looked after when it is due; and hunger has no end.
        #[test]
        fn no_gap_between_meals_is_longer_than_the_device_allows(
            timeout in 4u64..600,
            steps in proptest::collection::vec((0u64..40, proptest::option::of(0u64..60)), 1..60),
        ) {
            let timeout = Duration::from_secs(timeout);
            let mut state = State::new(Duration::ZERO, timeout);
            let (mut now, mut fed, mut starves) = (Duration::ZERO, Duration::ZERO, false);
            for (seconds, late) in steps {
                // The loop comes back when it is due at the latest.
                let next = now + Duration::from_secs(seconds);
                now = state.wake().map_or(next, |wake| next.min(wake.max(now)));
                let due = late.map(|late| now.saturating_sub(Duration::from_secs(late)));
                match state.step(now, &Progress { due, unkillable: None }) {
                    Some(Action::Feed) => {
                        prop_assert!(!starves && now - fed < timeout);
                        fed = now;
                    }
                    Some(Action::Starve(_)) => starves = true,
                    None => {}
                }
            }
        }
    }
}
