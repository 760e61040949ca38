//! How far a machine's boot has come, stage by stage: pure bookkeeping over what was seen of it.
//!
//! Stages up to `initramfs` are timed by our clock, as requests arrive; node-init's by its own, so
//! that a report sent late (there is no network before `network`) still tells true durations.

use protocol::{
    Digest,
    boot::{BootEvent, StageState},
    fleet::{BootStatus, StageStatus},
};
use serde::{Deserialize, Serialize};

/// The most stages kept of a boot: node-init has a dozen; a forged report may name any.
pub const MAX_STAGES: usize = 48;
/// The longest name of a stage kept.
const MAX_NAME_LEN: usize = 32;
/// The longest detail kept in a stage; the timeline has the whole.
const MAX_DETAIL_LEN: usize = 300;
/// Silence after which firmware's DISCOVER begins a new boot rather than repeating itself. EDK2's
/// longest pause between two tries is 32 s; a machine that was switched off stays silent longer.
const NEW_BOOT_AFTER_MS: u64 = 180_000;
/// The stage in which a UKI is fetched.
pub const UKI: &str = "uki";
/// The stage in which iPXE has its script.
pub const SCRIPT: &str = "script";
/// node-init's stage whose end makes the machine ready.
const READY_STAGE: &str = "compute";

/// A machine's latest boot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    started: u64,
    /// Our clock at the last sign of life.
    heard: u64,
    /// Once node-init has spoken.
    boot_id: Option<Digest>,
    /// Our clock when the stage [`READY_STAGE`] was done.
    ready: Option<u64>,
    /// Our clock when the last stage so far was done.
    ended: u64,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stage {
    name: String,
    clock: Clock,
    began: u64,
    ended: Option<u64>,
    state: StageState,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Clock {
    /// Milliseconds since 1970, ours.
    Server,
    /// Milliseconds since the machine's kernel started.
    Node,
}

/// Something that moves a boot on.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Firmware, or iPXE, asks for an address and what to boot.
    Asks(Asker),
    /// It was told; with a detail for people.
    Answered(Asker, String),
    /// A stage of firmware's part began.
    Began(&'static str),
    /// A stage of firmware's part is done, with a detail for people.
    Done(&'static str, String),
    /// A stage of firmware's part failed; it will be tried again.
    Failed(&'static str, String),
    /// The machine reports.
    Node(BootEvent),
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Firmware's own network boot.
    Firmware,
    /// iPXE, from a ROM or loaded by us.
    Ipxe,
}

impl Progress {
    /// What `mark` at `now` (milliseconds since 1970) makes of a machine's progress.
    pub fn apply(before: Option<Self>, mark: &Mark, now: u64) -> Self {
        let mut progress = match before {
            Some(progress) if !progress.is_over(mark, now) => progress,
            _ => Self { started: now.saturating_sub(age(mark)), ..Self::default() },
        };
        progress.heard = now;
        match mark {
            Mark::Asks(asker) => progress.began(progress.asking(*asker), now),
            Mark::Answered(asker, detail) => {
                progress.done(progress.asking(*asker), StageState::Done, detail, now);
            }
            Mark::Began(name) => progress.began(name, now),
            Mark::Done(name, detail) => progress.done(name, StageState::Done, detail, now),
            Mark::Failed(name, detail) => progress.done(name, StageState::Retrying, detail, now),
            Mark::Node(event) => progress.node(event, now),
        }
        progress
    }

    /// Whether our own iPXE was loaded in this boot.
    pub fn loaded_ipxe(&self) -> bool {
        self.stages.iter().any(|stage| stage.name == "tftp" && stage.state == StageState::Done)
    }

    /// Whether the UKI was fetched in this boot, and nothing came after.
    pub fn took_uki(&self) -> bool {
        let fetched = |stage: &Stage| stage.name == UKI && stage.state == StageState::Done;
        self.boot_id.is_none() && self.stages.last().is_some_and(fetched)
    }

    /// For people and programs. `now` dates what still runs.
    pub fn status(&self, now: u64) -> BootStatus {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let end = self.ready.unwrap_or(self.ended).max(self.started);
        let stages = self.stages.iter().map(|stage| {
            let until = match (stage.ended, stage.clock) {
                (Some(ended), _) => ended,
                (None, Clock::Server) => now.max(stage.began),
                // The node's clock is not ours to read.
                (None, Clock::Node) => stage.began,
            };
            StageStatus {
                name: stage.name.clone(),
                state: stage.state,
                seconds: seconds(until.saturating_sub(stage.began)),
                detail: stage.detail.clone(),
            }
        });
        BootStatus {
            started: self.started,
            seconds: seconds(end - self.started),
            stages: stages.collect(),
        }
    }

    fn is_over(&self, mark: &Mark, now: u64) -> bool {
        match mark {
            Mark::Asks(_) => {
                self.boot_id.is_some()
                    || self.has(SCRIPT)
                    || now.saturating_sub(self.heard) > NEW_BOOT_AFTER_MS
            }
            Mark::Node(event) => self.boot_id.is_some_and(|boot_id| boot_id != event.boot_id),
            Mark::Answered(..) | Mark::Began(_) | Mark::Done(..) | Mark::Failed(..) => false,
        }
    }

    /// The stage in which `asker` asks: iPXE that we loaded asks for the second time.
    fn asking(&self, asker: Asker) -> &'static str {
        if asker == Asker::Ipxe && self.has("tftp") { "ipxe" } else { "dhcp" }
    }

    fn has(&self, name: &str) -> bool {
        self.stages.iter().any(|stage| stage.name == name)
    }

    /// The stage of that name, made if there is room for it.
    fn stage(&mut self, name: &str, clock: Clock, began: u64) -> Option<&mut Stage> {
        let name = cut(name, MAX_NAME_LEN);
        let place = match self.stages.iter().position(|stage| stage.name == name) {
            Some(place) => place,
            None if self.stages.len() >= MAX_STAGES => return None,
            None => {
                let (detail, state) = (String::new(), StageState::Started);
                self.stages.push(Stage { name, clock, began, ended: None, state, detail });
                self.stages.len() - 1
            }
        };
        self.stages.get_mut(place)
    }

    /// When the last stage on that clock ended, `now` where none has: a stage whose beginning is
    /// not told began then, so that waits between stages are counted, and count for what they
    /// delayed.
    fn last_end(&self, clock: Clock, now: u64) -> u64 {
        let stages = self.stages.iter().filter(|stage| stage.clock == clock);
        stages.filter_map(|stage| stage.ended).max().unwrap_or(now).min(now)
    }

    /// Firmware does one thing at a time: what begins ends what went before.
    fn began(&mut self, name: &str, now: u64) {
        for stage in &mut self.stages {
            if stage.ended.is_none() && stage.clock == Clock::Server && stage.name != name {
                stage.ended = Some(now);
                if stage.state == StageState::Started {
                    stage.state = StageState::Done;
                }
            }
        }
        let began = self.last_end(Clock::Server, now);
        self.stage(name, Clock::Server, began);
    }

    fn done(&mut self, name: &str, state: StageState, detail: &str, now: u64) {
        self.began(name, now);
        if let Some(stage) = self.stage(name, Clock::Server, now) {
            stage.ended = (state == StageState::Done).then_some(now);
            stage.state = state;
            stage.detail = cut(detail, MAX_DETAIL_LEN);
        }
        if self.boot_id.is_none() {
            self.ended = now;
        }
    }

    fn node(&mut self, event: &BootEvent, now: u64) {
        if self.boot_id.is_none() {
            self.boot_id = Some(event.boot_id);
            self.began("linux", now);
            if let Some(linux) = self.stage("linux", Clock::Node, 0) {
                *linux = Stage {
                    name: "linux".into(),
                    clock: Clock::Node,
                    began: 0,
                    ended: Some(event.at_ms),
                    state: StageState::Done,
                    detail: "from the kernel's start to PID 1".into(),
                };
            }
        }
        let began = match event.state {
            StageState::Started => event.at_ms,
            _ => self.last_end(Clock::Node, event.at_ms),
        };
        let Some(stage) = self.stage(&event.stage, Clock::Node, began) else { return };
        stage.state = event.state;
        stage.detail = cut(&event.detail, MAX_DETAIL_LEN);
        stage.ended = (event.state != StageState::Started).then_some(event.at_ms);
        if event.state == StageState::Done && self.ready.is_none() {
            self.ended = now;
            self.ready = (event.stage == READY_STAGE).then_some(now);
        }
    }
}

/// How long a boot has already lasted when its first mark is seen.
fn age(mark: &Mark) -> u64 {
    match mark {
        Mark::Node(event) => event.at_ms,
        _ => 0,
    }
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(marks: &[(u64, Mark)]) -> Progress {
        let step = |before, (at, mark): &(u64, Mark)| Some(Progress::apply(before, mark, *at));
        marks.iter().fold(None, step).unwrap()
    }

    fn report(boot: u8, at_ms: u64, stage: &str, state: StageState) -> Mark {
        let boot_id = Digest([boot; 32]);
        Mark::Node(BootEvent {
            sequence: 0,
            boot_id,
            stage: stage.into(),
            state,
            at_ms,
            detail: String::new(),
        })
    }

    #[test]
    fn a_uki_that_was_fetched_and_not_started_is_told_from_one_that_runs() {
        let fetched = [
            (0, Mark::Asks(Asker::Firmware)),
            (10, Mark::Answered(Asker::Firmware, String::new())),
            (20, Mark::Began(UKI)),
            (30, Mark::Done(UKI, String::new())),
        ];
        assert!(!run(&fetched[..3]).took_uki());
        assert!(run(&fetched).took_uki());
        let with = |mark| run(&[fetched.as_slice(), &[(40, mark)]].concat());
        assert!(!with(report(1, 9, "mounts", StageState::Done)).took_uki());
        let refused = with(Mark::Failed(UKI, "refused".into()));
        assert!(!refused.took_uki(), "told once");
        assert_eq!(refused.status(0).stages[1].detail, "refused");
    }

    fn names(progress: &Progress) -> Vec<String> {
        progress.status(0).stages.into_iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn a_boot_from_firmware_to_ready_has_each_stage_with_its_seconds() {
        let progress = run(&[
            (1_000, Mark::Asks(Asker::Firmware)),
            (2_000, Mark::Answered(Asker::Firmware, "10.0.0.9".into())),
            (2_500, Mark::Began("tftp")),
            (3_500, Mark::Done("tftp", String::new())),
            (5_000, Mark::Asks(Asker::Ipxe)),
            (5_100, Mark::Answered(Asker::Ipxe, String::new())),
            (5_200, Mark::Done("script", String::new())),
            (5_300, Mark::Began("kernel")),
            (6_300, Mark::Done("kernel", String::new())),
            (6_400, Mark::Began("initramfs")),
            (9_400, Mark::Done("initramfs", String::new())),
            (14_000, report(1, 2_000, "mounts", StageState::Started)),
            (14_000, report(1, 2_250, "mounts", StageState::Done)),
            (15_000, report(1, 4_000, "compute", StageState::Started)),
            (16_000, report(1, 5_500, "compute", StageState::Done)),
            (99_000, report(1, 88_000, "compute", StageState::Retrying)),
            (99_500, report(1, 88_500, "compute", StageState::Done)),
        ]);
        let status = progress.status(200_000);
        let seconds: Vec<(String, f64)> =
            status.stages.into_iter().map(|stage| (stage.name, stage.seconds)).collect();
        let wanted = [
            ("dhcp", 1.0),
            ("tftp", 1.5),
            ("ipxe", 1.6),
            ("script", 0.1),
            ("kernel", 1.1),
            ("initramfs", 3.1),
            ("linux", 2.0),
            ("mounts", 0.25),
            ("compute", 84.5),
        ];
        assert_eq!(
            seconds,
            wanted.map(|(name, seconds)| (name.to_string(), seconds)),
            "no wait is left out"
        );
        assert_eq!(status.seconds, 15.0, "from 1.0 s to the first time that compute was up");
    }

    #[test]
    fn firmware_that_asks_again_goes_on_with_the_same_boot_until_it_got_further() {
        let again = run(&[
            (0, Mark::Asks(Asker::Firmware)),
            (4_000, Mark::Asks(Asker::Firmware)),
            (12_000, Mark::Asks(Asker::Firmware)),
        ]);
        assert_eq!(again.started, 0);
        let rebooted = run(&[
            (0, Mark::Asks(Asker::Firmware)),
            (4_000, Mark::Done("script", String::new())),
            (30_000, Mark::Asks(Asker::Firmware)),
        ]);
        assert_eq!(rebooted.started, 30_000);
        let next_day =
            run(&[(0, Mark::Asks(Asker::Firmware)), (86_400_000, Mark::Asks(Asker::Firmware))]);
        assert_eq!(next_day.started, 86_400_000);
    }

    #[test]
    fn a_boot_that_we_did_not_serve_begins_with_its_kernel() {
        let progress = run(&[(50_000, report(1, 9_000, "network", StageState::Done))]);
        assert_eq!(progress.started, 41_000);
        let other = Progress::apply(
            Some(progress),
            &report(2, 1_000, "mounts", StageState::Started),
            90_000,
        );
        assert_eq!(other.started, 89_000, "another boot id is another boot");
        assert_eq!(names(&other), ["linux", "mounts"]);
    }

    #[test]
    fn forged_reports_cannot_grow_a_boot_without_end() {
        let marks: Vec<(u64, Mark)> = (0..1_000)
            .map(|i| (i, report(1, i, &format!("{i}{}", "x".repeat(500)), StageState::Started)))
            .collect();
        let progress = run(&marks);
        assert_eq!(progress.stages.len(), MAX_STAGES);
        assert!(serde_json::to_string(&progress).unwrap().len() < 20_000);
    }

    #[test]
    fn a_stage_that_failed_says_so_and_may_still_end_well() {
        let failed = run(&[
            (0, Mark::Asks(Asker::Firmware)),
            (100, Mark::Failed("tftp", "no answer".into())),
        ]);
        assert_eq!(failed.status(200).stages[1].state, StageState::Retrying);
        assert!(!failed.loaded_ipxe());
        let mended = Progress::apply(Some(failed), &Mark::Done("tftp", String::new()), 300);
        assert!(mended.loaded_ipxe());
    }
}
