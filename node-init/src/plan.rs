//! The boot stages as a table: what each needs, how long it may take, and what its failure means.

use std::{fmt, time::Duration};

/// A boot stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The kernel's file systems.
    Mounts,
    /// Lockdown and the kernel's settings.
    Hardening,
    /// What the boot script says.
    CommandLine,
    /// The initramfs's drivers, by modalias: what brings the network.
    Modules,
    /// The wall clock's floor.
    Clock,
    /// The node's keys.
    Identity,
    /// The packet filter.
    Firewall,
    /// A link and a lease.
    Network,
    /// What is to run here, and who vouches for it.
    Release,
    /// The verified root.
    Root,
    /// The root's drivers.
    Drivers,
    /// What the machine is made of.
    Inventory,
    /// The provisioner takes the node in.
    Enrolment,
    /// The node answers its operators.
    Api,
    /// The ledger knows the node.
    Registration,
    /// The compute service.
    Compute,
}

/// What becomes of a machine whose stage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The stage is tried again after `first`, then twice that, at most `most`, for ever: what it
    /// waits for is somebody else's and will come back.
    Retry {
        /// The first pause.
        first: Duration,
        /// The longest pause.
        most: Duration,
    },
    /// The machine is of use without it.
    GoOn,
    /// The machine is of no use without it, and a fresh boot may bring what is missing.
    Restart {
        /// The time a person has to read why.
        after: Duration,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The stage.
    pub stage: Stage,
    /// Begins once all of these are done, or failed and gone on without.
    pub needs: &'static [Stage],
    /// The longest that one attempt may take.
    pub limit: Duration,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Whether it waits for somebody outside the machine: then the console says that it began.
    pub waits: bool,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Another machine is waited for: a server that restarts is found within seconds, and one that is
/// away for hours is asked twice a minute.
const RETRY: OnFailure = OnFailure::Retry { first: seconds(1), most: seconds(30) };
/// Local work that takes milliseconds: the limit is there for hardware that hangs.
const LOCAL: Duration = seconds(30);

/// Every stage, in the order in which those begin that could begin at once.
pub const PLAN: [Row; Stage::COUNT] = [
    Row {
        stage: Stage::Mounts,
        needs: &[],
        limit: LOCAL,
        on_failure: OnFailure::Restart { after: seconds(30) },
        waits: false,
    },
    Row {
        stage: Stage::Hardening,
        needs: &[Stage::Mounts],
        limit: LOCAL,
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::CommandLine,
        needs: &[Stage::Mounts],
        limit: LOCAL,
        on_failure: OnFailure::Restart { after: seconds(60) },
        waits: false,
    },
    Row {
        stage: Stage::Clock,
        needs: &[Stage::Mounts],
        limit: LOCAL,
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::Modules,
        // Settings for new links, and signatures, stand before any driver.
        needs: &[Stage::Hardening],
        // A driver may probe slow hardware, or wait up to a minute for firmware.
        limit: seconds(90),
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::Identity,
        // What the key is sealed to has to be measured before.
        needs: &[Stage::CommandLine],
        limit: seconds(120),
        on_failure: OnFailure::Restart { after: seconds(60) },
        waits: false,
    },
    Row {
        stage: Stage::Firewall,
        needs: &[Stage::Modules],
        limit: LOCAL,
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::Network,
        needs: &[Stage::CommandLine, Stage::Modules, Stage::Firewall],
        limit: crate::net::ATTEMPT_LIMIT,
        on_failure: RETRY,
        waits: true,
    },
    Row {
        stage: Stage::Release,
        needs: &[Stage::Network, Stage::Clock],
        limit: LOCAL,
        on_failure: RETRY,
        waits: true,
    },
    Row {
        stage: Stage::Root,
        needs: &[Stage::Release],
        // 80 MB by a line of 4 Mbit/s take 160 s; what stands still is given up much sooner.
        limit: seconds(900),
        on_failure: RETRY,
        waits: true,
    },
    Row {
        stage: Stage::Drivers,
        needs: &[Stage::Root],
        limit: seconds(90),
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::Inventory,
        needs: &[Stage::Drivers],
        limit: LOCAL,
        on_failure: OnFailure::GoOn,
        waits: false,
    },
    Row {
        stage: Stage::Enrolment,
        needs: &[Stage::Identity, Stage::Inventory],
        limit: LOCAL,
        on_failure: RETRY,
        waits: true,
    },
    Row {
        stage: Stage::Api,
        needs: &[Stage::Enrolment],
        limit: LOCAL,
        on_failure: RETRY,
        waits: false,
    },
    Row {
        stage: Stage::Compute,
        needs: &[Stage::Enrolment],
        limit: LOCAL,
        on_failure: RETRY,
        waits: false,
    },
    Row {
        stage: Stage::Registration,
        needs: &[Stage::Enrolment],
        // Submitting, and waiting for a block.
        limit: seconds(60),
        on_failure: RETRY,
        waits: true,
    },
];

impl Stage {
    /// How many there are.
    pub const COUNT: usize = 16;

    /// The name in events and on the console.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mounts => "mounts",
            Self::Hardening => "hardening",
            Self::CommandLine => "command-line",
            Self::Modules => "modules",
            Self::Clock => "clock",
            Self::Identity => "identity",
            Self::Firewall => "firewall",
            Self::Network => "network",
            Self::Release => "release",
            Self::Root => "root",
            Self::Drivers => "drivers",
            Self::Inventory => "inventory",
            Self::Enrolment => "enrolment",
            Self::Api => "api",
            Self::Registration => "registration",
            Self::Compute => "compute",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_stage_stands_in_the_plan_once_and_needs_only_earlier_ones() {
        let mut before = BTreeSet::new();
        for row in PLAN {
            for needed in row.needs {
                assert!(before.contains(needed), "{} needs {needed} before it", row.stage);
            }
            assert!(before.insert(row.stage), "{} stands twice", row.stage);
        }
        assert_eq!(before.len(), Stage::COUNT);
    }

    #[test]
    fn every_stage_that_waits_for_others_is_tried_again_for_ever() {
        for row in PLAN.iter().filter(|row| row.waits) {
            assert!(matches!(row.on_failure, OnFailure::Retry { .. }), "{}", row.stage);
        }
    }
}
