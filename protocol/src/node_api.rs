//! What a node answers to its operators: the JSON of the node API, `docs/node-api.md`.
//!
//! HTTP/1.1 over TLS 1.3 on [`NODE_API_PORT`], where both sides show the ed25519 keys that they
//! are known by. Times are milliseconds since the node's kernel started, unless their names say
//! otherwise; sizes are bytes.

use crate::{
    boot::StageState, digest::Digest, inventory::Inventory, key::PublicKey, node::Ownership,
    signed::ChainId,
};
use serde::{Deserialize, Serialize};
use std::fmt;

pub use crate::boot::NODE_API_PORT;
pub use crate::operator::{MAX_OPERATORS, NotAnOperator, Operator, OperatorRole};

/// Why a request was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// For people: what is wrong, and what to do.
    pub error: String,
}

/// `GET /v1/identity`: whose node this is, for the asker to check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// The node, which the TLS handshake proved.
    pub node: PublicKey,
    /// The machine's name for people.
    pub name: String,
    /// The chain.
    pub chain: ChainId,
    /// From the owner's signature to the node's key.
    pub ownership: Ownership,
    /// Who asks, as the node sees it.
    pub you: Operator,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Not all of its boot stages are done yet.
    Booting,
    /// All is well.
    Working,
    /// Something failed, or is tried again.
    Troubled,
    /// An operator drained it: its compute service finishes its work, or is stopped.
    Drained,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Booting => "booting",
            Self::Working => "working",
            Self::Troubled => "troubled",
            Self::Drained => "drained",
        })
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProblem {
    /// The stage, or another part of PID 1.
    pub stage: String,
    /// When.
    pub at_ms: u64,
    /// For people: what, why, what is done about it.
    pub detail: String,
    /// Whether it is so no longer.
    pub over: bool,
}

/// A boot stage, or another part of PID 1 that tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStage {
    /// The stage.
    pub name: String,
    /// Its latest state.
    pub state: StageState,
    /// When it began.
    pub began_ms: u64,
    /// How long it took, or has taken so far; none for what is no stage of the boot.
    pub took_ms: Option<u64>,
    /// For people.
    pub detail: String,
}

/// The compute service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeStatus {
    /// Its process, where it runs.
    pub pid: Option<i32>,
    /// How often it was started after its first start.
    pub restarts: u64,
    /// Whether an operator drained the node.
    pub drained: bool,
}

/// Memory, as `/proc/meminfo` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// MemTotal.
    pub total: u64,
    /// MemAvailable.
    pub available: u64,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: PublicKey,
    /// The machine's name for people.
    pub name: String,
    /// Its own addresses.
    pub address: Option<String>,
    /// The image that it booted.
    pub release: Digest,
    /// That image's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Random, once a boot.
    pub boot_id: Digest,
    /// How it is.
    pub health: Health,
    /// What went wrong last.
    pub problem: Option<NodeProblem>,
    /// Its clock, seconds since 1970.
    pub unix_time: u64,
    /// Since the kernel started.
    pub uptime_ms: u64,
    /// Memory.
    pub memory: MemoryStatus,
    /// The compute service.
    pub compute: ComputeStatus,
    /// The boot stages and what else told of itself, in the order in which they began.
    pub stages: Vec<NodeStage>,
}

/// A line that PID 1 or the compute service said. `GET /v1/logs?lines=N` gives the last N, and
/// with `follow` those to come as well, one JSON value a line, as they are said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Counts up from 0 within a boot; a gap means that lines were lost.
    pub sequence: u64,
    /// When.
    pub at_ms: u64,
    /// The line.
    pub text: String,
}

/// A line of the kernel's log. `GET /v1/kernel-log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLine {
    /// syslog's level, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// The kernel's number of the record.
    pub sequence: u64,
    /// Microseconds of the kernel's own clock.
    pub at_us: u64,
    /// The line.
    pub text: String,
}

/// A process. `GET /v1/processes` gives the user processes; kernel threads are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProcess {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name, 15 bytes of it.
    pub name: String,
    /// Its user's number.
    pub user: u32,
    /// How many threads it has.
    pub threads: u32,
    /// Memory that it holds.
    pub resident: u64,
    /// Processor time so far, milliseconds.
    pub cpu_ms: u64,
    /// Its control group.
    pub group: String,
}

/// `GET /v1/processes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProcesses {
    /// Those that have memory of their own, by number.
    pub processes: Vec<NodeProcess>,
    /// How many threads are the kernel's.
    pub kernel_threads: u32,
    /// What it could be spoken to at.
    #[serde(default)]
    pub listening: Vec<NodeSocket>,
}

/// A socket that hears from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSocket {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub protocol: String,
    /// The port.
    pub port: u16,
    /// Whether it hears this machine alone.
    pub local: bool,
}

impl fmt::Display for NodeSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.local { " for itself" } else { "" };
        write!(f, "{} {}{whose}", self.protocol, self.port)
    }
}

/// A network interface's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounters {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Packets that could not be received or sent.
    pub errors: u64,
    /// Packets dropped, both ways.
    pub dropped: u64,
}

/// A temperature sensor (hwmon).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temperature {
    /// The chip and the sensor: `coretemp Package id 0`.
    pub sensor: String,
    /// Thousandths of a degree Celsius.
    pub millidegrees: i64,
}

/// `GET /v1/metrics`; `GET /metrics` gives the same as Prometheus' text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMetrics {
    /// Since the kernel started.
    pub uptime_ms: u64,
    /// Processor time in use, milliseconds, of all processors together.
    pub cpu_busy_ms: u64,
    /// Processor time not in use.
    pub cpu_idle_ms: u64,
    /// Load averages over 1, 5 and 15 minutes, in hundredths.
    pub load_hundredths: [u64; 3],
    /// Memory.
    pub memory: MemoryStatus,
    /// Times that the kernel killed a process for memory.
    pub out_of_memory_kills: u64,
    /// Network interfaces, without the loopback.
    pub interfaces: Vec<InterfaceCounters>,
    /// Temperatures, where there are sensors.
    pub temperatures: Vec<Temperature>,
    /// The compute service.
    pub compute: ComputeStatus,
    /// Requests to this API that were answered, and peers that were refused.
    pub api: ApiCounters,
}

/// What the node API itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiCounters {
    /// Requests answered.
    pub answered: u64,
    /// Handshakes that came to nothing: a stranger's key, another protocol, silence.
    pub refused: u64,
}

/// A call, as it is kept. `GET /v1/audit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Counts up from 0 within a boot.
    pub sequence: u64,
    /// When.
    pub at_ms: u64,
    /// The wall clock then, seconds since 1970.
    pub unix_time: u64,
    /// Who.
    pub key: PublicKey,
    /// In which role.
    pub role: OperatorRole,
    /// From where.
    pub peer: String,
    /// What was asked: `GET /v1/status`.
    pub call: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// What `POST /v1/reboot`, `/v1/power-off`, `/v1/drain`, `/v1/undrain` and `/v1/identify` answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// For people: what happens now.
    pub done: String,
}

/// `GET /v1/bundle`: all of the above at one time, to be handed on. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// As `GET /v1/identity`.
    pub identity: NodeIdentity,
    /// As `GET /v1/status`.
    pub status: NodeStatus,
    /// As `GET /v1/inventory`.
    pub inventory: Inventory,
    /// As `GET /v1/metrics`.
    pub metrics: NodeMetrics,
    /// As `GET /v1/processes`.
    pub processes: NodeProcesses,
    /// All that is kept of `GET /v1/logs`.
    pub logs: Vec<LogLine>,
    /// All that is kept of `GET /v1/kernel-log`, or why it cannot be read.
    pub kernel_log: Result<Vec<KernelLine>, String>,
    /// As `GET /v1/audit`.
    pub audit: Vec<AuditRecord>,
}
