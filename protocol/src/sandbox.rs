//! What a service may do on a node, as `image.toml` declares it and PID 1 enforces it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the image says what its services may do: [`Sandboxes`] as JSON.
pub const SANDBOXES: &str = "/etc/alia/sandboxes.json";

/// The sandboxes of an image, by the service's name.
pub type Sandboxes = BTreeMap<String, Sandbox>;

/// What a service may do. What is not here it may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// Its user and group, which own nothing else; never 0.
    pub user: u32,
    /// Files and folders of the image that it sees, to read.
    pub read: Vec<String>,
    /// Those that may be executed: files.
    pub execute: Vec<String>,
    /// Device files that it sees.
    pub devices: Vec<String>,
    /// Device files of cards: those of them that the machine has it sees, and may control (ioctl).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<String>,
    /// Size of the one folder that it may write to, `/tmp`, in MiB.
    pub scratch_mib: u32,
    /// What it leaves of the machine's memory to the node, in MiB; going beyond ends it, not the
    /// node.
    pub memory_left_mib: u32,
    /// The most tasks: it cannot fork, so these are threads.
    pub tasks: u32,
    /// The most open files.
    pub files: u32,
    /// Its share of the processors against the node's own 100.
    pub cpu_weight: u32,
    /// System calls that it makes, measured; some of them in certain ways alone
    /// (`node-init/src/sandbox/filter.rs`).
    pub system_calls: Vec<String>,
    /// System calls that it was not seen to make and may, and why.
    pub rare_calls: BTreeMap<String, String>,
}
