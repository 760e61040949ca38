//! The hardware's watchdogs, fed by progress: pure decisions, with times as values, and the devices.
//!
//! They are fed by the event loop itself, so that a loop that hangs feeds nothing; and only while
//! what the loop should do gets done. A watchdog that is not fed resets the machine after
//! [`TIMEOUT`]. All that the machine has are armed: firmware may have told a chipset's own to count
//! without resetting (iTCO's `noreboot`), which its driver may not see. None is ever stopped before the machine ends: writing back what is not written
//! (`sync`) may hang too. The kernel's driver stops it once the restart itself has begun.

use crate::kernel::{Kernel, Watchdog};
use std::{
    collections::BTreeSet,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// The kernel's watchdogs by name, numbered as their drivers find them; each is a device of that
/// name too (Documentation/ABI/testing/sysfs-class-watchdog).
const CLASS: &str = "/sys/class/watchdog";
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

    /// One more device is to be fed from `now` on; the most impatient sets the pace.
    fn join(&mut self, now: Duration, timeout: Duration) {
        self.timeout = self.timeout.min(timeout);
        self.next = now;
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

/// The machine's watchdogs.
#[derive(Debug, Default)]
pub struct Watchdogs {
    tried: BTreeSet<PathBuf>,
    armed: Vec<File>,
    state: Option<State>,
}

impl Watchdogs {
    /// Arms those that it did not try yet, and gives what people are told of each. From then on the
    /// machine is reset unless it is fed.
    pub fn arm(&mut self, kernel: &dyn Kernel) -> Vec<Result<String, String>> {
        let found = devices(kernel).into_iter().filter(|device| self.tried.insert(device.clone()));
        let found: Vec<PathBuf> = found.collect();
        found.iter().map(|device| self.arm_one(kernel, device)).collect()
    }

    fn arm_one(&mut self, kernel: &dyn Kernel, device: &Path) -> Result<String, String> {
        let Watchdog { device, timeout, reset_us, name } = match kernel.watchdog(device, TIMEOUT) {
            Ok(watchdog) => watchdog,
            Err(error) => return Err(format!("{}: {error}", device.display())),
        };
        let now = kernel.since_start();
        self.state.get_or_insert_with(|| State::new(now, timeout)).join(now, timeout);
        self.armed.push(device.into());
        let last = if reset_us { "; it reset the machine before this boot" } else { "" };
        Ok(format!("{name} resets the machine after {} s{last}", timeout.as_secs()))
    }

    /// Whether nothing resets a machine that hangs.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// When [`Watchdogs::look`] is due.
    pub fn wake(&self) -> Option<Duration> {
        self.state.as_ref()?.wake()
    }

    /// Feeds them, or gives why not.
    pub fn look(&mut self, now: Duration, progress: &Progress) -> Option<String> {
        match self.state.as_mut()?.step(now, progress)? {
            // Any byte but `V`, by which a driver would stop it when the device is closed.
            Action::Feed => {
                let refused =
                    self.armed.iter_mut().filter_map(|device| device.write_all(b"a").err());
                let error = refused.last()?;
                Some(format!("a watchdog takes no food ({error}); it resets the machine soon"))
            }
            Action::Starve(reason) => Some(reason),
        }
    }
}

fn devices(kernel: &dyn Kernel) -> Vec<PathBuf> {
    let named = kernel.list(Path::new(CLASS)).unwrap_or_default();
    named.into_iter().map(|entry| Path::new("/dev").join(entry.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use nix::errno::Errno;
    use proptest::prelude::*;
    use std::io::Read;

    const SECOND: Duration = Duration::from_secs(1);
    const FIRST: (&str, &str) = ("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt");

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
        let kernel = Fake::new(&[FIRST]);
        kernel.world().reset_by_watchdog = true;
        let mut dogs = Watchdogs::default();
        let told = "a fake resets the machine after 60 s; it reset the machine before this boot";
        assert_eq!(dogs.arm(&kernel), [Ok(told.into())]);
        assert_eq!(dogs.look(kernel.since_start(), &Progress::default()), None);
        assert_eq!(meals(&kernel, "/dev/watchdog0"), 1);
    }

    #[test]
    fn each_that_the_machine_has_is_armed_once_and_fed() {
        let kernel = Fake::new(&[FIRST]);
        let mut dogs = Watchdogs::default();
        assert_eq!(dogs.arm(&kernel).len(), 1);
        // A second driver was loaded.
        let second = "/sys/class/watchdog/watchdog1/identity";
        kernel.world().files.insert(second.into(), b"i6300ESB timer".to_vec());
        assert_eq!(dogs.arm(&kernel), [Ok("a fake resets the machine after 60 s".into())]);
        assert_eq!(dogs.arm(&kernel), []);
        assert_eq!(dogs.look(kernel.since_start(), &Progress::default()), None);
        assert_eq!(meals(&kernel, "/dev/watchdog0"), 1);
        assert_eq!(meals(&kernel, "/dev/watchdog1"), 1);
    }

    #[test]
    fn one_that_refuses_is_told_of_and_leaves_the_others_armed() {
        let files = ["watchdog0", "watchdog1"].map(|name| format!("{CLASS}/{name}/identity"));
        let kernel = Fake::new(&files.each_ref().map(|file| (file.as_str(), "")))
            .failing("/dev/watchdog0", Errno::EBUSY as i32);
        let mut dogs = Watchdogs::default();
        let told = dogs.arm(&kernel);
        assert!(matches!(&told[0], Err(told) if told.starts_with("/dev/watchdog0: ")), "{told:?}");
        assert!(told[1].is_ok() && !dogs.is_empty());
    }

    #[test]
    fn a_machine_without_one_has_none_until_its_driver_comes() {
        let mut dogs = Watchdogs::default();
        assert_eq!(dogs.arm(&Fake::new(&[])), []);
        assert!(dogs.is_empty() && dogs.wake().is_none());
        assert_eq!(dogs.arm(&Fake::new(&[FIRST])).len(), 1);
    }

    /// How many meals a device was given.
    fn meals(kernel: &Fake, device: &str) -> usize {
        let mut food = File::from(kernel.world().watchdogs.remove(Path::new(device)).unwrap());
        let mut bytes = [0; 8];
        let meals = food.read(&mut bytes).unwrap();
        assert!(!bytes[..meals].contains(&b'V'), "it would stop it");
        meals
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
