//! What `up` was asked for, as it is handed inside.

use super::summary::Stage;
use cli::JobSettings;
use lab::{machine::Firmware, services::Dhcp};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The pairs that a job is made of when `up --small` makes it: the project's own grammar's.
pub const SMALL_PAIRS: usize = 270;

/// The corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Corpus {
    /// The gettext catalogues of packages: name and unpacked tree each.
    Catalogues {
        /// The language, as the catalogues' folders are called.
        language: String,
        /// Package name and folder.
        packages: Vec<(String, PathBuf)>,
    },
    /// One file of `source<TAB>target` lines.
    Tsv(PathBuf),
    /// Two files, line by line.
    Parallel(PathBuf, PathBuf),
    /// The project's own grammar: needs no network, for tests.
    Grammar,
}

/// How large a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Size {
    /// Seconds on one core.
    Small,
    /// About 12 minutes on two cores.
    Default,
    /// All that the corpus has.
    Full,
}

/// Pairs that the default job trains on.
pub const DEFAULT_PAIRS: usize = 24_000;

impl Size {
    /// The job's settings.
    pub fn settings(self, label: String) -> JobSettings {
        let settings = JobSettings { label, ..JobSettings::default() };
        match self {
            Self::Full => settings,
            Self::Default => JobSettings { sample: Some(DEFAULT_PAIRS), ..settings },
            Self::Small => {
                let mut small = settings;
                small.held_out = 50;
                small.vocabulary = 400;
                small.epochs = 2;
                small.micro_batches = 8;
                small.micro_batch_tokens = Some(400);
                small.adam.warmup_steps = 10;
                small.model.width = 32;
                small.model.feed_forward = 64;
                small.model.max_length = 64;
                small
            }
        }
    }
}

/// A machine that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum MachineKind {
    /// OVMF.
    Uefi,
    /// SeaBIOS.
    Bios,
}

/// Everything that happens inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The folder of this run: data, logs, results.
    pub folder: PathBuf,
    /// The corpus.
    pub corpus: Corpus,
    /// The job.
    pub size: Size,
    /// The machines.
    pub machines: Vec<MachineKind>,
    /// Whether a worker runs on the host.
    pub host_worker: bool,
    /// The instruction set that the host's worker is held to.
    pub isa: Option<String>,
    /// Whether the provisioner is the DHCP server or stands beside one.
    pub proxy: bool,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why.
    pub accelerator_reason: String,
    /// UEFI firmware: code, and template of its variables.
    pub ovmf: (PathBuf, PathBuf),
    /// iPXE's folder.
    pub ipxe: PathBuf,
    /// CometBFT.
    pub comet: PathBuf,
    /// The image's folder.
    pub image: PathBuf,
    /// What happened outside before.
    pub stages: Vec<Stage>,
    /// Seconds since `up` was started, when the plan was made.
    pub elapsed: f64,
    /// Whether to end when all is shown.
    pub exit_when_done: bool,
    /// Where the summary goes.
    pub json: Option<PathBuf>,
    /// Addresses outside, by relay name.
    pub addresses: Vec<(String, String)>,
}

impl Plan {
    /// The provisioner's part in DHCP.
    pub fn dhcp(&self) -> Dhcp {
        if self.proxy { Dhcp::Proxy } else { Dhcp::Full }
    }

    /// A machine's firmware.
    pub fn firmware(&self, kind: MachineKind) -> Firmware {
        match kind {
            MachineKind::Bios => Firmware::SeaBios,
            MachineKind::Uefi => {
                let (code, variables) = self.ovmf.clone();
                Firmware::Ovmf { code, variables }
            }
        }
    }

    /// An address outside.
    pub fn address(&self, name: &str) -> &str {
        let found = self.addresses.iter().find(|(relay, _)| relay == name);
        found.map_or("", |(_, address)| address)
    }
}
