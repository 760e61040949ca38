//! Runs the plan: pure decisions over events, with times as values.
//!
//! The caller feeds [`Event`]s, carries out the [`Action`]s, and comes back with [`Event::Tick`]
//! at [`Runner::wake`] at the latest.

use crate::plan::{OnFailure, Row, Stage};
use protocol::boot::StageState;
use std::time::Duration;

/// Where a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// What it needs is not there yet.
    Waiting,
    /// It runs since then.
    Running { since: Duration },
    /// It failed and is tried again then.
    Pausing { until: Duration },
    /// It is done, or failed and the machine goes on without.
    Settled,
    /// It failed and the machine restarts then.
    Doomed { at: Duration },
}

/// A stage's part of the state.
#[derive(Clone, Copy, Debug)]
struct Slot {
    row: Row,
    progress: Progress,
    /// Attempts begun so far.
    attempts: u32,
    /// When the first attempt began.
    began: Duration,
}

/// The state of a boot.
#[derive(Clone, Debug)]
pub struct Runner {
    slots: Vec<Slot>,
    restarting: bool,
    /// Nothing restarts the machine any more.
    rescue: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed, or the boot begins.
    Tick,
    /// An attempt ended: with a detail for people, or the reason why it failed.
    Ended {
        /// The stage.
        stage: Stage,
        /// Which attempt, as [`Action::Begin`] said.
        attempt: u32,
        /// How.
        result: Result<String, String>,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin an attempt at a stage.
    Begin {
        /// The stage.
        stage: Stage,
        /// From 1.
        attempt: u32,
    },
    /// Give an attempt up that takes too long.
    GiveUp {
        /// The stage.
        stage: Stage,
        /// Which attempt.
        attempt: u32,
    },
    /// Tell people.
    Report {
        /// The stage.
        stage: Stage,
        /// What became of it.
        state: StageState,
        /// Since its first attempt began.
        took: Duration,
        /// What, why, what is done about it.
        detail: String,
    },
    /// Restart the machine.
    Restart,
}

impl Runner {
    /// A boot that has not begun.
    pub fn new(plan: &[Row]) -> Self {
        let slot = |row: &Row| Slot {
            row: *row,
            progress: Progress::Waiting,
            attempts: 0,
            began: Duration::ZERO,
        };
        Self { slots: plan.iter().map(slot).collect(), restarting: false, rescue: false }
    }

    /// When the next [`Event::Tick`] is due, if nothing else happens.
    pub fn wake(&self) -> Option<Duration> {
        let due = |slot: &Slot| match slot.progress {
            Progress::Running { since } => Some(since + slot.row.limit),
            Progress::Pausing { until } => Some(until),
            Progress::Doomed { at } => Some(at),
            Progress::Waiting | Progress::Settled => None,
        };
        self.slots.iter().filter_map(due).min()
    }

    /// Whether a stage is done, or failed and the machine goes on without it.
    pub fn settled(&self, stage: Stage) -> bool {
        self.slots.iter().any(|s| s.row.stage == stage && s.progress == Progress::Settled)
    }

    /// From now on no failure restarts the machine, and the stages of `without` do not begin.
    pub fn rescue(&mut self, without: &[Stage]) {
        self.rescue = true;
        for slot in &mut self.slots {
            let left_out = without.contains(&slot.row.stage) && slot.attempts == 0;
            if left_out || matches!(slot.progress, Progress::Doomed { .. }) {
                slot.progress = Progress::Settled;
            }
        }
    }

    /// Takes an event in at `now` and says what is to be done.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.restarting {
            return actions;
        }
        if let Event::Ended { stage, attempt, result } = event {
            self.ended(now, stage, attempt, result, &mut actions);
        }
        self.due(now, &mut actions);
        self.begin(now, &mut actions);
        actions
    }

    fn ended(
        &mut self,
        now: Duration,
        stage: Stage,
        attempt: u32,
        result: Result<String, String>,
        actions: &mut Vec<Action>,
    ) {
        // The end of an attempt that was given up changes nothing.
        let current = |slot: &&mut Slot| {
            slot.row.stage == stage
                && slot.attempts == attempt
                && matches!(slot.progress, Progress::Running { .. })
        };
        let Some(slot) = self.slots.iter_mut().find(current) else { return };
        match result {
            Ok(detail) => {
                slot.progress = Progress::Settled;
                actions.push(slot.report(now, StageState::Done, detail));
            }
            Err(reason) => actions.push(slot.failed(now, &reason, self.rescue)),
        }
    }

    fn due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for slot in &mut self.slots {
            match slot.progress {
                Progress::Running { since } if now >= since + slot.row.limit => {
                    actions.push(Action::GiveUp { stage: slot.row.stage, attempt: slot.attempts });
                    let limit = slot.row.limit.as_secs();
                    let reason = format!("it took longer than {limit} s");
                    actions.push(slot.failed(now, &reason, self.rescue));
                }
                Progress::Pausing { until } if now >= until => slot.progress = Progress::Waiting,
                Progress::Doomed { at } if now >= at => {
                    self.restarting = true;
                    actions.push(Action::Restart);
                    return;
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.restarting {
            return;
        }
        for index in 0..self.slots.len() {
            let Slot { row, progress, .. } = self.slots[index];
            if progress != Progress::Waiting || !row.needs.iter().all(|s| self.settled(*s)) {
                continue;
            }
            let slot = &mut self.slots[index];
            slot.progress = Progress::Running { since: now };
            slot.attempts = slot.attempts.saturating_add(1);
            if slot.attempts == 1 {
                slot.began = now;
                actions.push(slot.report(now, StageState::Started, String::new()));
            }
            actions.push(Action::Begin { stage: row.stage, attempt: slot.attempts });
        }
    }
}

impl Slot {
    fn report(&self, now: Duration, state: StageState, detail: String) -> Action {
        let took = now.saturating_sub(self.began);
        Action::Report { stage: self.row.stage, state, took, detail }
    }

    fn failed(&mut self, now: Duration, reason: &str, rescue: bool) -> Action {
        match self.row.on_failure {
            OnFailure::Restart { .. } if rescue => {
                self.progress = Progress::Settled;
                let detail = format!("{reason}; the machine stays in rescue");
                self.report(now, StageState::Failed, detail)
            }
            OnFailure::Retry { first, most } => {
                let pause = back_off(first, most, self.attempts);
                self.progress = Progress::Pausing { until: now + pause };
                let detail = format!("{reason}; tried again in {} s", pause.as_secs());
                self.report(now, StageState::Retrying, detail)
            }
            OnFailure::GoOn => {
                self.progress = Progress::Settled;
                let detail = format!("{reason}; the machine goes on without");
                self.report(now, StageState::Failed, detail)
            }
            OnFailure::Restart { after } => {
                self.progress = Progress::Doomed { at: now + after };
                let detail = format!("{reason}; the machine restarts in {} s", after.as_secs());
                self.report(now, StageState::Failed, detail)
            }
        }
    }
}

/// The pause after the attempt of this number, from 1: doubling from `first` up to `most`.
pub fn back_off(first: Duration, most: Duration, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PLAN;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begun(actions: &[Action]) -> Vec<(Stage, u32)> {
        let begin = |action: &Action| match action {
            Action::Begin { stage, attempt } => Some((*stage, *attempt)),
            _ => None,
        };
        actions.iter().filter_map(begin).collect()
    }

    fn ended(stage: Stage, attempt: u32, result: Result<&str, &str>) -> Event {
        let result = result.map(str::to_owned).map_err(str::to_owned);
        Event::Ended { stage, attempt, result }
    }

    /// A runner whose stages up to and without `stage` are done at time 0.
    fn up_to(stage: Stage) -> (Runner, Vec<Action>) {
        let mut runner = Runner::new(&PLAN);
        let mut actions = runner.step(Duration::ZERO, Event::Tick);
        while let Some(done) = PLAN.iter().map(|row| row.stage).find(|done| {
            *done != stage
                && runner
                    .slots
                    .iter()
                    .any(|s| s.row.stage == *done && matches!(s.progress, Progress::Running { .. }))
        }) {
            actions.extend(runner.step(Duration::ZERO, ended(done, 1, Ok(""))));
        }
        (runner, actions)
    }

    #[test]
    fn a_stage_begins_when_all_it_needs_is_done_and_not_before() {
        let mut runner = Runner::new(&PLAN);
        assert_eq!(begun(&runner.step(Duration::ZERO, Event::Tick)), [(Stage::Mounts, 1)]);
        let next = begun(&runner.step(SECOND, ended(Stage::Mounts, 1, Ok("9 mounted"))));
        let wanted = [Stage::Hardening, Stage::CommandLine, Stage::Clock];
        assert_eq!(next, wanted.map(|stage| (stage, 1)));
        let next = begun(&runner.step(SECOND, ended(Stage::Hardening, 1, Ok(""))));
        assert_eq!(next, [(Stage::Modules, 1)]);
        let next = begun(&runner.step(SECOND, ended(Stage::Modules, 1, Ok(""))));
        assert_eq!(next, [(Stage::Firewall, 1)]);
        let next = begun(&runner.step(SECOND, ended(Stage::CommandLine, 1, Ok(""))));
        assert_eq!(next, [(Stage::Identity, 1)]);
        // No link is up before the packet filter stands.
        let next = begun(&runner.step(SECOND, ended(Stage::Firewall, 1, Ok(""))));
        assert_eq!(next, [(Stage::Network, 1)]);
    }

    #[test]
    fn a_stage_that_waits_for_others_is_tried_again_with_longer_and_longer_pauses() {
        let (mut runner, _) = up_to(Stage::Network);
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        for attempt in 1..=8 {
            let actions = runner.step(now, ended(Stage::Network, attempt, Err("no lease")));
            assert!(
                matches!(&actions[..], [Action::Report { state: StageState::Retrying, .. }]),
                "{actions:?}"
            );
            let wake = runner.wake().unwrap();
            pauses.push((wake - now).as_secs());
            assert!(runner.step(wake - SECOND / 2, Event::Tick).is_empty());
            now = wake;
            assert_eq!(begun(&runner.step(now, Event::Tick)), [(Stage::Network, attempt + 1)]);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_report_says_what_why_and_what_is_done_about_it() {
        let (mut runner, _) = up_to(Stage::Network);
        let actions = runner.step(SECOND * 2, ended(Stage::Network, 1, Err("eth0 has no link")));
        let wanted = Action::Report {
            stage: Stage::Network,
            state: StageState::Retrying,
            took: SECOND * 2,
            detail: "eth0 has no link; tried again in 1 s".into(),
        };
        assert_eq!(actions, [wanted]);
    }

    #[test]
    fn the_machine_goes_on_without_what_it_can_do_without() {
        let (mut runner, _) = up_to(Stage::Modules);
        let actions = runner.step(SECOND, ended(Stage::Modules, 1, Err("no modules.dep")));
        assert_eq!(begun(&actions), [(Stage::Firewall, 1)]);
        let Action::Report { state: StageState::Failed, detail, .. } = &actions[0] else {
            panic!("{actions:?}")
        };
        assert_eq!(detail, "no modules.dep; the machine goes on without");
    }

    #[test]
    fn the_machine_restarts_after_the_stated_time_where_it_is_of_no_use() {
        let (mut runner, _) = up_to(Stage::CommandLine);
        let actions = runner.step(SECOND, ended(Stage::CommandLine, 1, Err("no alia.key")));
        assert!(matches!(&actions[0], Action::Report { detail, .. }
            if detail == "no alia.key; the machine restarts in 60 s"));
        assert!(!runner.step(SECOND * 60, Event::Tick).contains(&Action::Restart));
        assert_eq!(runner.step(SECOND * 61, Event::Tick), [Action::Restart]);
        assert!(runner.step(SECOND * 62, Event::Tick).is_empty());
    }

    #[test]
    fn in_a_rescue_nothing_restarts_the_machine_and_no_work_begins() {
        let (mut runner, _) = up_to(Stage::CommandLine);
        runner.step(SECOND, ended(Stage::CommandLine, 1, Err("no alia.key")));
        runner.rescue(&[Stage::Registration, Stage::Compute]);
        assert!(!runner.step(SECOND * 61, Event::Tick).contains(&Action::Restart));
        let (mut runner, _) = up_to(Stage::Identity);
        runner.rescue(&[Stage::Registration, Stage::Compute]);
        let actions = runner.step(SECOND, ended(Stage::Identity, 1, Err("no randomness")));
        assert!(matches!(&actions[0], Action::Report { state: StageState::Failed, detail, .. }
            if detail == "no randomness; the machine stays in rescue"));
        assert!(!runner.step(SECOND * 600, Event::Tick).contains(&Action::Restart));
        let (mut runner, _) = up_to(Stage::Enrolment);
        runner.rescue(&[Stage::Registration, Stage::Compute]);
        let actions = runner.step(SECOND, ended(Stage::Enrolment, 1, Ok("")));
        let begun: Vec<Stage> = begun(&actions).into_iter().map(|(stage, _)| stage).collect();
        assert_eq!(begun, [Stage::Api], "people get in, and nothing else begins");
    }

    #[test]
    fn an_attempt_that_takes_too_long_is_given_up_and_its_late_end_changes_nothing() {
        let (mut runner, _) = up_to(Stage::Enrolment);
        let late = runner.wake().unwrap();
        let actions = runner.step(late, Event::Tick);
        assert_eq!(actions[0], Action::GiveUp { stage: Stage::Enrolment, attempt: 1 });
        assert!(matches!(&actions[1], Action::Report { state: StageState::Retrying, detail, .. }
            if detail == "it took longer than 30 s; tried again in 1 s"));
        assert!(runner.step(late, ended(Stage::Enrolment, 1, Ok("late"))).is_empty());
        assert!(!runner.settled(Stage::Enrolment));
    }

    #[test]
    fn compute_starts_while_the_ledger_is_away() {
        let (mut runner, actions) = up_to(Stage::Registration);
        assert!(begun(&actions).contains(&(Stage::Compute, 1)));
        runner.step(SECOND, ended(Stage::Registration, 1, Err("the ledger is away")));
        assert!(runner.settled(Stage::Compute));
    }

    fn any_event() -> impl Strategy<Value = (u64, Option<(usize, u32, bool)>)> {
        (0u64..40, proptest::option::of((0..Stage::COUNT, 1u32..4, any::<bool>())))
    }

    proptest! {
        // Whatever happens in whatever order: the machine restarts, is done, or has a moment at
        // which it does something next. It never hangs in silence.
        #[test]
        fn a_boot_never_hangs(rescue: bool, events in proptest::collection::vec(any_event(), 0..80)) {
            let mut runner = Runner::new(&PLAN);
            if rescue {
                runner.rescue(&[Stage::Registration, Stage::Compute]);
            }
            let mut now = Duration::ZERO;
            runner.step(now, Event::Tick);
            for (seconds, event) in events {
                now += Duration::from_secs(seconds);
                let event = match event {
                    None => Event::Tick,
                    Some((stage, attempt, good)) => {
                        let result = if good { Ok("done") } else { Err("failed") };
                        ended(PLAN[stage].stage, attempt, result)
                    }
                };
                let actions = runner.step(now, event);
                prop_assert!(!(rescue && actions.contains(&Action::Restart)));
                let done = PLAN.iter().all(|row| runner.settled(row.stage));
                prop_assert!(done || runner.restarting || runner.wake().is_some());
                prop_assert!(runner.wake().is_none_or(|wake| wake > now) || runner.restarting);
            }
        }
    }
}
