//! How the node is, as the node API tells it. Fed by whatever PID 1 reports, and by what the stages
//! found out; pure. The display has a shorter view of its own, [`crate::screen::Status`].

use protocol::{
    Digest, PublicKey,
    boot::StageState,
    node_api::{ComputeStatus, Health, NodeProblem, NodeStage},
};
use std::time::Duration;

/// The most names that are kept: the boot's stages, and what else tells of itself.
const MAX_STAGES: usize = 48;

/// How the node is.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The machine's name for people, once the provisioner gave it.
    pub name: Option<String>,
    /// The node's key, once there is one.
    pub node: Option<PublicKey>,
    /// Its addresses, once it has one.
    pub address: Option<String>,
    /// The image that it booted.
    pub release: Option<Digest>,
    /// That image's version.
    pub version: Option<String>,
    /// The compute service.
    pub compute: ComputeStatus,
    /// Stages, and what else told of itself, in the order in which they began.
    stages: Vec<NodeStage>,
    /// What went wrong last.
    problem: Option<NodeProblem>,
}

impl Status {
    /// Takes in what PID 1 reports: the stage, or another part's name, and how it stands.
    pub fn reported(
        &mut self,
        now: Duration,
        stage: &str,
        state: StageState,
        took: Option<Duration>,
        detail: &str,
    ) {
        let at_ms = milliseconds(now);
        let bad = is_bad(state);
        if bad {
            let (stage, detail) = (stage.to_owned(), detail.to_owned());
            self.problem = Some(NodeProblem { stage, at_ms, detail, over: false });
        } else if let Some(problem) = self.problem.as_mut().filter(|p| p.stage == stage) {
            problem.over = true;
        }
        let took_ms = took.map(milliseconds);
        let has_room = self.stages.len() < MAX_STAGES;
        match self.stages.iter_mut().find(|known| known.name == stage) {
            Some(known) => {
                known.state = state;
                known.took_ms = took_ms.or(known.took_ms);
                known.detail = detail.to_owned();
            }
            None if has_room => self.stages.push(NodeStage {
                name: stage.to_owned(),
                state,
                began_ms: at_ms.saturating_sub(took_ms.unwrap_or(0)),
                took_ms,
                detail: detail.to_owned(),
            }),
            None => {}
        }
    }

    /// Stages and what else told of itself, in the order in which they began. The time of those
    /// that still run is up to `now`.
    pub fn stages(&self, now: Duration) -> Vec<NodeStage> {
        let mut stages = self.stages.clone();
        for stage in &mut stages {
            if stage.state == StageState::Started {
                stage.took_ms = Some(milliseconds(now).saturating_sub(stage.began_ms));
            }
        }
        stages
    }

    /// What went wrong last.
    pub fn problem(&self) -> Option<&NodeProblem> {
        self.problem.as_ref()
    }

    /// How the node is. `plan` names the stages of the boot: it is booting until all are done.
    pub fn health<'a>(&self, mut plan: impl Iterator<Item = &'a str>) -> Health {
        let done = |name: &str| {
            self.stages.iter().any(|s| s.name == name && s.state != StageState::Started)
        };
        if self.stages.iter().any(|stage| is_bad(stage.state)) {
            Health::Troubled
        } else if self.compute.drained {
            Health::Drained
        } else if plan.all(done) {
            Health::Working
        } else {
            Health::Booting
        }
    }
}

fn is_bad(state: StageState) -> bool {
    matches!(state, StageState::Retrying | StageState::Failed)
}

/// As JSON has times.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: [&str; 2] = ["network", "compute"];

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn health(status: &Status) -> Health {
        status.health(PLAN.into_iter())
    }

    #[test]
    fn a_node_boots_has_trouble_and_works() {
        let mut status = Status::default();
        assert_eq!(health(&status), Health::Booting);
        status.reported(at(1), "network", StageState::Started, None, "");
        assert_eq!(status.stages(at(3))[0].took_ms, Some(2_000));
        status.reported(at(4), "network", StageState::Retrying, Some(at(3)), "no cable");
        assert_eq!(health(&status), Health::Troubled);
        let problem = status.problem().unwrap();
        assert_eq!(
            (problem.stage.as_str(), problem.at_ms, problem.over),
            ("network", 4_000, false)
        );
        status.reported(at(5), "network", StageState::Done, Some(at(4)), "eth0");
        assert!(status.problem().unwrap().over);
        assert_eq!(health(&status), Health::Booting);
        status.reported(at(6), "compute", StageState::Done, Some(at(0)), "process 7");
        assert_eq!(health(&status), Health::Working);
        let stages = status.stages(at(9));
        let times: Vec<_> = stages.iter().map(|s| (s.began_ms, s.took_ms)).collect();
        assert_eq!(times, [(1_000, Some(4_000)), (6_000, Some(0))]);
        status.compute.drained = true;
        assert_eq!(health(&status), Health::Drained);
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let mut status = Status::default();
        for name in 0..1000 {
            status.reported(at(1), &name.to_string(), StageState::Done, None, "");
        }
        assert_eq!(status.stages(at(1)).len(), MAX_STAGES);
    }
}
