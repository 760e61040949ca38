//! The supervisor of a service: pure decisions over events, with times as values.
//!
//! It never waits on a child: that a process ended comes as an event, whenever it comes. Two
//! starts lie at least [`MINIMUM_RUN`] apart, which bounds the restart rate whatever the service
//! does; a service that keeps failing is started less and less often, and never given up. One that
//! makes no sign of progress for [`SILENCE`] hangs: it is killed, and again until it is gone.

use crate::{
    kernel::{Exit, Pid, Stop},
    runner::back_off,
};
use protocol::boot::StageState;
use std::time::Duration;

/// The least time between two starts: a service that crashes at once costs at most this rate.
pub const MINIMUM_RUN: Duration = Duration::from_secs(5);
/// The longest pause after a failure.
pub const MOST_PAUSE: Duration = Duration::from_secs(60);
/// A run this long is a good one: failures before it no longer count.
pub const GOOD_RUN: Duration = Duration::from_secs(60);
/// A service that makes no sign for so long hangs. It makes one for each operation, answer and
/// piece of a download; what may take minutes in one piece is a result on its way up a slow line.
pub const SILENCE: Duration = Duration::from_secs(600);
/// How long a service that was asked to end may take to do so.
pub const GRACE: Duration = Duration::from_secs(5);

/// Where a service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not started yet: its first start is the boot stage's.
    Idle,
    /// It runs.
    Running {
        /// The process.
        pid: Pid,
        /// Since when.
        since: Duration,
        /// When it made its last sign of progress, or began.
        heard: Duration,
        /// Failures in a row before.
        failures: u32,
    },
    /// It hung and was killed, and is not gone yet.
    Hung {
        /// The process.
        pid: Pid,
        /// Since when it ran.
        since: Duration,
        /// When it was first killed.
        killed: Duration,
        /// When it is killed again.
        again: Duration,
        /// Failures in a row before.
        failures: u32,
    },
    /// It ended and is started again then.
    Pausing {
        /// When.
        until: Duration,
        /// Failures in a row.
        failures: u32,
    },
    /// It was asked to end.
    Ending {
        /// The process.
        pid: Pid,
        /// When it is killed.
        kill: Duration,
    },
    /// An operator drained the node: it was asked to finish its work and end, however long that
    /// takes. A process that does not is still the operator's to end, with the machine.
    Draining {
        /// The process.
        pid: Pid,
        /// Whether it is started again when it ended: the operator thought better of it.
        again: bool,
    },
    /// An operator drained the node, and nothing runs.
    Drained,
    /// It ended and stays so.
    Ended,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service was started, by the boot stage or after [`Action::Start`].
    Started(Pid),
    /// [`Action::Start`] failed, for this reason.
    NotStarted(String),
    /// A process ended; not always the service's.
    Exited(Pid, Exit),
    /// An operator wants it to finish its work and stay stopped.
    Drain,
    /// An operator wants it to work again.
    Undrain,
    /// The service made its last sign of progress then.
    Sign(Duration),
    /// The machine ends: the service is to end too.
    End,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the service, and say what came of it.
    Start,
    /// Signal it.
    Stop(Pid, Stop),
    /// Tell people.
    Report(StageState, String),
}

impl State {
    /// When the next [`Event::Tick`] is due, if nothing else happens.
    pub fn wake(&self) -> Option<Duration> {
        match self {
            Self::Pausing { until, .. } => Some(*until),
            Self::Running { heard, .. } => Some(*heard + SILENCE),
            Self::Hung { again, .. } => Some(*again),
            Self::Ending { kill, .. } => Some(*kill),
            Self::Idle | Self::Draining { .. } | Self::Drained | Self::Ended => None,
        }
    }

    /// Since when a service that hung and was killed is still there.
    pub fn unkillable(&self) -> Option<Duration> {
        match self {
            Self::Hung { killed, .. } => Some(*killed),
            _ => None,
        }
    }

    /// Takes an event in at `now`; gives the next state and what is to be done.
    pub fn step(self, now: Duration, event: Event) -> (Self, Vec<Action>) {
        match (self, event) {
            (Self::Idle, Event::Started(pid)) => {
                (Self::Running { pid, since: now, heard: now, failures: 0 }, Vec::new())
            }
            (Self::Pausing { until, failures }, Event::Tick) if now >= until => {
                // What came of it is an event; should none come, it is tried again all the same.
                (Self::Pausing { until: now + MOST_PAUSE, failures }, vec![Action::Start])
            }
            (Self::Pausing { failures, .. }, Event::Started(pid)) => {
                let detail = match failures {
                    0 => format!("process {pid}"),
                    1 => format!("process {pid}, after 1 failure"),
                    _ => format!("process {pid}, after {failures} failures"),
                };
                let report = Action::Report(StageState::Done, detail);
                (Self::Running { pid, since: now, heard: now, failures }, vec![report])
            }
            (Self::Pausing { failures, .. }, Event::NotStarted(reason)) => {
                again(now, now, failures.saturating_add(1), reason)
            }
            (
                Self::Running { pid, since, failures, .. }
                | Self::Hung { pid, since, failures, .. },
                Event::Exited(ended, how),
            ) if pid == ended => {
                let ran = now.saturating_sub(since);
                let failures = if ran >= GOOD_RUN { 0 } else { failures.saturating_add(1) };
                let reason = format!("process {pid} {how} after {:.1} s", ran.as_secs_f64());
                let (state, mut actions) = again(now, since, failures, reason);
                // What it forked must not outlive it.
                actions.insert(0, Action::Stop(pid, Stop::Kill));
                (state, actions)
            }
            (Self::Running { pid, .. } | Self::Hung { pid, .. }, Event::Drain) => {
                let detail =
                    format!("drained: process {pid} finishes its work and is not replaced");
                let report = Action::Report(StageState::Done, detail);
                (Self::Draining { pid, again: false }, vec![Action::Stop(pid, Stop::Ask), report])
            }
            (Self::Pausing { .. }, Event::Drain) => {
                (Self::Drained, vec![done("drained: no process runs")])
            }
            (Self::Draining { pid, .. }, Event::Drain) => {
                (Self::Draining { pid, again: false }, Vec::new())
            }
            (Self::Draining { pid, .. }, Event::Undrain) => {
                let detail = format!("process {pid} is replaced once it finished its work");
                let report = Action::Report(StageState::Done, detail);
                (Self::Draining { pid, again: true }, vec![report])
            }
            (Self::Draining { pid, again }, Event::Exited(ended, how)) if pid == ended => {
                let detail = format!("drained: process {pid} {how}");
                let report = Action::Report(StageState::Done, detail);
                let next = match again {
                    true => Self::Pausing { until: now, failures: 0 },
                    false => Self::Drained,
                };
                (next, vec![Action::Stop(pid, Stop::Kill), report])
            }
            (Self::Drained, Event::Undrain) => {
                (Self::Pausing { until: now, failures: 0 }, Vec::new())
            }
            (Self::Running { pid, since, heard, failures }, Event::Sign(at)) => {
                (Self::Running { pid, since, heard: heard.max(at), failures }, Vec::new())
            }
            (Self::Running { pid, since, heard, failures }, Event::Tick)
                if now >= heard + SILENCE =>
            {
                let seconds = SILENCE.as_secs();
                let told =
                    format!("process {pid} made no sign of progress for {seconds} s: killed");
                let actions =
                    vec![Action::Report(StageState::Retrying, told), Action::Stop(pid, Stop::Kill)];
                (Self::Hung { pid, since, killed: now, again: now + GRACE, failures }, actions)
            }
            (Self::Hung { pid, since, killed, again, failures }, Event::Tick) if now >= again => {
                let again = now + GRACE;
                let actions = vec![Action::Stop(pid, Stop::Kill)];
                (Self::Hung { pid, since, killed, again, failures }, actions)
            }
            (
                Self::Running { pid, .. } | Self::Draining { pid, .. } | Self::Hung { pid, .. },
                Event::End,
            ) => {
                let actions = vec![Action::Stop(pid, Stop::Ask)];
                (Self::Ending { pid, kill: now + GRACE }, actions)
            }
            (Self::Ending { pid, .. }, Event::Exited(ended, _)) if pid == ended => {
                (Self::Ended, vec![Action::Stop(pid, Stop::Kill)])
            }
            (Self::Ending { pid, kill }, Event::Tick) if now >= kill => {
                // Killed again if even that takes long: a process in the kernel's hands may.
                let kill = now + GRACE;
                (Self::Ending { pid, kill }, vec![Action::Stop(pid, Stop::Kill)])
            }
            (Self::Idle | Self::Pausing { .. } | Self::Drained, Event::End) => {
                (Self::Ended, Vec::new())
            }
            // A start that was under way when the machine began to end.
            (Self::Ended, Event::Started(pid)) => {
                (Self::Ending { pid, kill: now }, vec![Action::Stop(pid, Stop::Kill)])
            }
            (state, _) => (state, Vec::new()),
        }
    }
}

impl State {
    /// The process, where one runs.
    pub fn pid(&self) -> Option<Pid> {
        match self {
            Self::Running { pid, .. }
            | Self::Hung { pid, .. }
            | Self::Ending { pid, .. }
            | Self::Draining { pid, .. } => Some(*pid),
            Self::Idle | Self::Pausing { .. } | Self::Drained | Self::Ended => None,
        }
    }

    /// Whether an operator drained the node.
    pub fn is_drained(&self) -> bool {
        matches!(self, Self::Draining { again: false, .. } | Self::Drained)
    }
}

fn done(detail: &str) -> Action {
    Action::Report(StageState::Done, detail.to_owned())
}

/// The next start after a failure: back-off, and never sooner than [`MINIMUM_RUN`] after the last.
fn again(now: Duration, last: Duration, failures: u32, reason: String) -> (State, Vec<Action>) {
    let pause = match failures {
        0 => Duration::ZERO,
        _ => back_off(Duration::from_secs(1), MOST_PAUSE, failures),
    };
    let until = (now + pause).max(last + MINIMUM_RUN);
    let wait = until.saturating_sub(now).as_secs_f64();
    let detail = format!("{reason}; started again in {wait:.0} s");
    (State::Pausing { until, failures }, vec![Action::Report(StageState::Retrying, detail)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn running(since: Duration, failures: u32) -> State {
        State::Running { pid: 7, since, heard: since, failures }
    }

    fn running_as(pid: Pid, since: Duration, failures: u32) -> State {
        State::Running { pid, since, heard: since, failures }
    }

    #[test]
    fn a_service_that_makes_no_sign_is_killed_until_it_is_gone_and_started_again() {
        let state = running(SECOND, 0);
        let (state, actions) = state.step(SECOND * 500, Event::Sign(SECOND * 400));
        assert_eq!((actions, state.wake()), (vec![], Some(SECOND * 400 + SILENCE)));
        assert_eq!(state.step(SECOND * 999, Event::Tick), (state, vec![]));
        // A sign from before is none.
        let (state, _) = state.step(SECOND * 999, Event::Sign(SECOND * 300));
        let (state, actions) = state.step(SECOND * 1000, Event::Tick);
        let told = "process 7 made no sign of progress for 600 s: killed";
        assert_eq!(
            actions,
            [Action::Report(StageState::Retrying, told.into()), Action::Stop(7, Stop::Kill)]
        );
        assert_eq!(state.unkillable(), Some(SECOND * 1000));
        let (state, actions) = state.step(SECOND * 1005, Event::Tick);
        assert_eq!(actions, [Action::Stop(7, Stop::Kill)]);
        assert_eq!(state.unkillable(), Some(SECOND * 1000));
        let (state, actions) = state.step(SECOND * 1006, Event::Exited(7, Exit::Signal(9)));
        assert!(matches!(&actions[1], Action::Report(StageState::Retrying, detail)
            if detail == "process 7 was killed by signal 9 after 1005.0 s; started again in 0 s"));
        assert_eq!((state.unkillable(), state.pid()), (None, None));
        assert_eq!(state.step(SECOND * 1006, Event::Tick).1, [Action::Start]);
    }

    #[test]
    fn a_service_that_used_more_memory_than_it_may_is_said_so() {
        let (_, actions) =
            running(SECOND, 0).step(SECOND * 4, Event::Exited(7, Exit::OutOfMemory(512_000_000)));
        let told = "process 7 was killed because it used more than 512 MB of memory after 3.0 s; \
                    started again in 2 s";
        assert_eq!(actions[1], Action::Report(StageState::Retrying, told.into()));
    }

    #[test]
    fn a_service_that_ended_is_started_again_and_both_are_reported() {
        let (state, actions) = State::Idle.step(SECOND, Event::Started(7));
        assert_eq!((state, actions), (running(SECOND, 0), vec![]));
        assert_eq!(state.wake(), Some(SECOND + SILENCE));
        let (state, actions) = state.step(SECOND * 4, Event::Exited(7, Exit::Signal(11)));
        let told = "process 7 was killed by signal 11 after 3.0 s; started again in 2 s";
        let told = Action::Report(StageState::Retrying, told.into());
        assert_eq!(actions, [Action::Stop(7, Stop::Kill), told]);
        assert_eq!(state.step(SECOND * 5, Event::Tick).1, []);
        let (state, actions) = state.step(SECOND * 6, Event::Tick);
        assert_eq!(actions, [Action::Start]);
        let (state, actions) = state.step(SECOND * 6, Event::Started(8));
        assert_eq!(state, running_as(8, SECOND * 6, 1));
        let told = Action::Report(StageState::Done, "process 8, after 1 failure".into());
        assert_eq!(actions, [told]);
    }

    #[test]
    fn a_service_that_crashes_at_once_is_started_less_and_less_often() {
        let mut now = SECOND;
        let mut state = State::Idle;
        let mut starts = Vec::new();
        for _ in 0..9 {
            starts.push(now.as_secs());
            state = state.step(now, Event::Started(7)).0;
            let (next, actions) = state.step(now, Event::Exited(7, Exit::Status(101)));
            assert_eq!(actions[0], Action::Stop(7, Stop::Kill));
            assert!(matches!(&actions[1], Action::Report(StageState::Retrying, detail)
                if detail.starts_with("process 7 ended with status 101 after 0.0 s; started")));
            now = next.wake().unwrap();
            let (next, actions) = next.step(now, Event::Tick);
            assert_eq!(actions, [Action::Start]);
            state = next;
        }
        assert_eq!(starts, [1, 6, 11, 16, 24, 40, 72, 132, 192]);
    }

    #[test]
    fn after_a_good_run_a_killed_service_is_started_again_at_once() {
        let state = running(SECOND, 5);
        let now = SECOND + GOOD_RUN;
        let (state, _) = state.step(now, Event::Exited(7, Exit::Signal(9)));
        assert_eq!(state, State::Pausing { until: now, failures: 0 });
    }

    #[test]
    fn the_end_of_another_process_is_none_of_the_services() {
        let state = running(SECOND, 0);
        assert_eq!(state.step(SECOND, Event::Exited(8, Exit::Status(0))), (state, vec![]));
    }

    #[test]
    fn a_start_that_fails_is_tried_again() {
        let (state, _) = running(SECOND, 0).step(SECOND * 9, Event::Exited(7, Exit::Status(0)));
        let (state, _) = state.step(SECOND * 10, Event::Tick);
        let (state, actions) = state.step(SECOND * 10, Event::NotStarted("no memory".into()));
        let told = "no memory; started again in 5 s";
        assert_eq!(actions, [Action::Report(StageState::Retrying, told.into())]);
        assert_eq!(state.step(SECOND * 15, Event::Tick).1, [Action::Start]);
    }

    #[test]
    fn a_service_that_does_not_end_when_asked_is_killed() {
        let (state, actions) = running(SECOND, 0).step(SECOND * 9, Event::End);
        assert_eq!(actions, [Action::Stop(7, Stop::Ask)]);
        assert_eq!(state.step(SECOND * 13, Event::Tick).1, []);
        let (state, actions) = state.step(SECOND * 14, Event::Tick);
        assert_eq!(actions, [Action::Stop(7, Stop::Kill)]);
        let (state, _) = state.step(SECOND * 14, Event::Exited(7, Exit::Signal(9)));
        assert_eq!(state, State::Ended);
    }

    #[test]
    fn a_drained_service_finishes_its_work_and_stays_stopped_until_it_is_wanted_again() {
        let (state, actions) = running(SECOND, 2).step(SECOND * 9, Event::Drain);
        assert_eq!(state, State::Draining { pid: 7, again: false });
        assert_eq!(actions[0], Action::Stop(7, Stop::Ask));
        // It has all the time that it wants.
        assert_eq!(state.wake(), None);
        assert_eq!(state.step(SECOND * 999, Event::Tick).1, []);
        let (state, actions) = state.step(SECOND * 999, Event::Exited(7, Exit::Status(0)));
        assert_eq!((state, state.is_drained(), state.pid()), (State::Drained, true, None));
        assert_eq!(actions[0], Action::Stop(7, Stop::Kill));
        assert_eq!(state.step(SECOND * 9999, Event::Tick), (State::Drained, vec![]));
        let (state, _) = state.step(SECOND * 9999, Event::Undrain);
        assert_eq!(state.wake(), Some(SECOND * 9999));
        assert_eq!(state.step(SECOND * 9999, Event::Tick).1, [Action::Start]);
    }

    #[test]
    fn a_service_that_is_wanted_again_while_it_drains_is_replaced_when_it_ended() {
        let (state, _) = running(SECOND, 0).step(SECOND * 2, Event::Drain);
        let (state, _) = state.step(SECOND * 3, Event::Undrain);
        assert!(!state.is_drained());
        let (state, _) = state.step(SECOND * 4, Event::Exited(7, Exit::Status(0)));
        assert_eq!(state, State::Pausing { until: SECOND * 4, failures: 0 });
    }

    #[test]
    fn a_machine_that_ends_does_not_wait_for_a_service_that_drains() {
        let (state, _) = running(SECOND, 0).step(SECOND * 2, Event::Drain);
        let (state, actions) = state.step(SECOND * 3, Event::End);
        assert_eq!(actions, [Action::Stop(7, Stop::Ask)]);
        assert_eq!(state, State::Ending { pid: 7, kill: SECOND * 3 + GRACE });
        assert_eq!(State::Drained.step(SECOND, Event::End).0, State::Ended);
        let pausing = State::Pausing { until: SECOND, failures: 3 };
        assert_eq!(pausing.step(SECOND, Event::Drain).0, State::Drained);
    }

    #[test]
    fn nothing_is_started_once_the_machine_ends() {
        let (state, _) = State::Pausing { until: SECOND, failures: 1 }.step(SECOND, Event::End);
        assert_eq!(state, State::Ended);
        assert_eq!(state.step(SECOND * 100, Event::Tick).1, []);
        let (_, actions) = state.step(SECOND * 100, Event::Started(9));
        assert_eq!(actions, [Action::Stop(9, Stop::Kill)]);
    }

    proptest! {
        // Starts lie MINIMUM_RUN apart whatever the service does, and there is always one process.
        #[test]
        fn the_restart_rate_is_bounded(runs in proptest::collection::vec((0u64..90, any::<bool>()), 1..60)) {
            let mut now = Duration::ZERO;
            let mut state = running(now, 0).step(now, Event::Exited(7, Exit::Status(1))).0;
            now = state.wake().unwrap();
            state = state.step(now, Event::Tick).0;
            let mut last: Option<Duration> = None;
            for (pid, (seconds, starts)) in runs.into_iter().enumerate() {
                let pid = pid as Pid;
                if let Some(last) = last {
                    prop_assert!(now >= last + MINIMUM_RUN, "{now:?} after {last:?}");
                }
                last = Some(now);
                if starts {
                    state = state.step(now, Event::Started(pid)).0;
                    now += Duration::from_secs(seconds);
                    state = state.step(now, Event::Exited(pid, Exit::Status(1))).0;
                } else {
                    state = state.step(now, Event::NotStarted("full".into())).0;
                }
                let wake = state.wake().unwrap();
                prop_assert!(wake <= now + MOST_PAUSE);
                now = now.max(wake);
                let (next, actions) = state.step(now, Event::Tick);
                prop_assert_eq!(actions, [Action::Start]);
                state = next;
            }
        }
    }
}
