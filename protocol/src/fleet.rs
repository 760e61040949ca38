//! What a provisioner shows of its machines, to people and programs, as JSON.
//!
//! `GET /v1/status` gives a [`ProvisionerStatus`], `GET /v1/machines` a list of
//! [`MachineStatus`], `GET /v1/machines/{mac}` a [`MachineDetail`]. `GET /v1/events` streams
//! server-sent events: `timeline` with a [`TimelineEvent`], `upstream` with an
//! [`UpstreamStatus`].

use crate::{
    api::JobStatus, boot::ImageManifest, boot::StageState, certificate::Readings, digest::Digest,
    earnings::FleetWork, inventory::Inventory, key::PublicKey, signed::ChainId,
};
use serde::{Deserialize, Serialize};

/// A machine as its provisioner knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineStatus {
    /// MAC address of the NIC that boots, lower case with colons.
    pub mac: String,
    /// For people.
    pub name: String,
    /// SMBIOS UUID, lower case with dashes.
    pub uuid: Option<String>,
    /// SMBIOS serial number.
    pub serial: Option<String>,
    /// `bios` or `uefi`.
    pub firmware: Option<String>,
    /// How it came in: `pxe`, `http`, or `ipxe` where the NIC's own ROM is iPXE.
    pub boot_mode: Option<String>,
    /// The address it was last seen at.
    pub address: Option<String>,
    /// Its node key of this boot, once enrolled.
    pub node: Option<PublicKey>,
    /// The image that it booted, once enrolled.
    pub release: Option<Digest>,
    /// First seen, milliseconds since 1970.
    pub first_seen: u64,
    /// Last seen, milliseconds since 1970.
    pub last_seen: u64,
    /// Where it stands in its life.
    #[serde(default)]
    pub life: Life,
    /// What is wrong with it, and what to do.
    pub problem: Option<String>,
    /// What keeps its node key: `tpm`, `uefi-variable` or `memory`.
    #[serde(default)]
    pub held: Option<String>,
    /// Its TPM, where that vouched for its boot ([`crate::evidence::Chip::id`]).
    #[serde(default)]
    pub chip: Option<Digest>,
    /// A node key that waits for an operator's approval.
    #[serde(default)]
    pub pending: Option<PublicKey>,
    /// Its latest boot.
    pub boot: Option<BootStatus>,
    /// What its sensors said last.
    #[serde(default)]
    pub readings: Option<Read>,
}

/// What a machine's sensors said, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Read {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What they said.
    #[serde(flatten)]
    pub said: Readings,
}

/// Where a machine stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MachineState {
    /// It was seen, and no more.
    #[default]
    Discovered,
    /// It asked to be taken in, and waits for an operator.
    Pending,
    /// It may come in.
    Approved,
    /// It is taken in and not all of its boot is done.
    Booting,
    /// It works, or could.
    Ready,
    /// It finishes its work and takes no more.
    Draining,
    /// It was restarted to boot anew.
    #[serde(rename = "re-imaging")]
    Reimaging,
    /// It is not trusted.
    Quarantined,
    /// It is here no more.
    Retired,
}

impl MachineState {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Reimaging => "re-imaging",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }
}

/// A machine's state, and what it waits for there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Life {
    /// The state.
    pub state: MachineState,
    /// Since when, milliseconds since 1970.
    pub since: u64,
    /// What it waits for, where it does.
    pub waits_for: Option<String>,
    /// Until when, milliseconds since 1970.
    pub deadline: Option<u64>,
}

/// One boot of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BootStatus {
    /// When firmware first asked, milliseconds since 1970.
    pub started: u64,
    /// Seconds from then to the end of the last stage done so far.
    pub seconds: f64,
    /// The stages in the order in which they began.
    pub stages: Vec<StageStatus>,
}

/// One stage of a boot: `dhcp`, `tftp`, `script`, `kernel`, `initramfs`, `linux`, then node-init's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageStatus {
    /// The stage.
    pub name: String,
    /// What became of it.
    pub state: StageState,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    /// For people.
    pub detail: String,
}

/// Something that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimelineEvent {
    /// The machine.
    pub mac: String,
    /// Milliseconds since 1970.
    pub at: u64,
    /// `dhcp`, `tftp`, `http`, `boot`, `crash`, `enrol`, `refused` or `conflict`.
    pub kind: String,
    /// For people.
    pub text: String,
}

/// A machine with all that is kept of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MachineDetail {
    /// The machine.
    #[serde(flatten)]
    pub machine: MachineStatus,
    /// What it is made of, once enrolled.
    pub inventory: Option<Inventory>,
    /// Its events, newest first.
    pub timeline: Vec<TimelineEvent>,
    /// What its kernel kept of its own deaths, newest first.
    #[serde(default)]
    pub crashes: Vec<CrashStatus>,
    /// What of its hardware is not what was approved, where that waits for approval.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// A kernel's death. `GET /v1/machines/{mac}/crashes/{id}` gives its log as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CrashStatus {
    /// Names it.
    pub id: u64,
    /// When it was reported, milliseconds since 1970.
    pub at: u64,
    /// The kernel's own word for why.
    pub reason: String,
    /// Size of its log in bytes.
    pub bytes: u64,
    /// Whether the machine's certificate proves that it is its own; else anybody could have sent it.
    #[serde(default)]
    pub proven: bool,
    /// The first lines of its log that contain what was sought.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
}

/// A provisioner as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisionerStatus {
    /// Its version.
    pub version: String,
    /// `full`, `proxy` or `off`.
    pub dhcp: String,
    /// Its base URL, as machines are told.
    pub url: String,
    /// The chain that it enrols for.
    pub chain: Option<ChainId>,
    /// Its public key, which nodes pin.
    pub key: Option<PublicKey>,
    /// The image that it serves.
    pub image: Option<ImageStatus>,
    /// Its base URL by TLS.
    #[serde(default)]
    pub https: Option<String>,
    /// Machines known.
    pub machines: u64,
    /// How many are in each state, by its name; none of it where it has none.
    #[serde(default)]
    pub states: std::collections::BTreeMap<String, u64>,
    /// How often each thing that is only counted happened: packets refused, events lost, and so on.
    pub counters: std::collections::BTreeMap<String, u64>,
    /// The ledger and the parameter servers.
    pub upstream: UpstreamStatus,
    /// The work of all machines, as the ledger told of it last, and what they draw.
    #[serde(default)]
    pub work: FleetWork,
}

/// What is asked of a machine: `POST /v1/machines/{mac}/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Command {
    /// `approve`, `drain`, `reimage`, `quarantine`, `release`, `retire` or `restore`.
    #[serde(rename = "do")]
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^(approve|drain|reimage|quarantine|release|retire|restore)$")
    )]
    pub what: String,
    /// To `approve`: the node key that is meant; another one that waits is not approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub node: Option<PublicKey>,
}

/// A node key that was put out: `POST /v1/machines/{mac}/revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revoked {
    /// The key.
    pub node: PublicKey,
}

/// An operator: `GET /v1/operators`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorStatus {
    /// Who it is.
    pub name: String,
    /// Since when, milliseconds since 1970.
    pub made: u64,
}

/// Who is to be an operator: `POST /v1/operators`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewOperator {
    /// 1 to 40 letters, digits, `-` and `_`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{1,40}$"))]
    pub name: String,
}

/// A new operator's token, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorToken {
    /// Whose.
    pub name: String,
    /// Whoever has it is the operator.
    pub token: String,
}

/// An image that is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImageStatus {
    /// [`ImageManifest::digest`].
    pub digest: Digest,
    /// The manifest.
    pub manifest: ImageManifest,
}

/// What a provisioner last heard from ledger and parameter servers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpstreamStatus {
    /// The ledger, where one is configured.
    pub ledger: Option<LedgerStatus>,
    /// The parameter servers.
    pub parameter_servers: Vec<ParameterServerStatus>,
}

/// The ledger as last heard of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LedgerStatus {
    /// Its RPC address.
    pub url: String,
    /// The last height heard of.
    pub height: Option<u64>,
    /// Why it does not answer now.
    pub error: Option<String>,
}

/// A parameter server as last heard of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParameterServerStatus {
    /// Its base URL.
    pub url: String,
    /// The last jobs heard of.
    pub jobs: Vec<JobStatus>,
    /// Why it does not answer now.
    pub error: Option<String>,
}
