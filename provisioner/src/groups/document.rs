//! The document: defaults, groups, machines, owners and rules. What of it may be written, and how it
//! is checked, is `reader`'s.

use super::Json;
use protocol::{ChainId, Digest, PublicKey, Signed, node::Delegation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Values by their keys (`key::KEYS`), each as its key writes it.
pub type Values = BTreeMap<String, Json>;
/// Labels: for people and programs to find machines by. They change nothing by themselves.
pub type Labels = BTreeMap<String, String>;

/// The configuration of all machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Document {
    /// What holds where nobody says otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Value>)]
    pub defaults: Values,
    /// Groups by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub group: BTreeMap<String, Group>,
    /// Machines by MAC address, lower case with colons.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub machine: BTreeMap<String, Machine>,
    /// Owners' accounts by name: each has let our key take nodes in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub owner: BTreeMap<String, Signed<Delegation>>,
    /// Rules of enrolment by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rule: BTreeMap<String, Rule>,
}

/// Machines that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Group {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Its machines have these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Its machines' values.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, Value>)]
    pub values: Values,
}

/// One machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Machine {
    /// Its groups, strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Its labels, over those of its groups.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Its own values.
    #[serde(flatten)]
    #[schema(value_type = BTreeMap<String, Value>)]
    pub values: Values,
}

/// Lets machines in without an operator. Of each list that is not empty one must fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Rule {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Serial numbers, as firmware gives them: a machine's own word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serials: Vec<String>,
    /// How MAC addresses begin: a machine's own word too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<String>,
    /// Node keys, which a machine proves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PublicKey>,
    /// TPMs, which a machine proves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chips: Vec<Digest>,
    /// From when on it lets nobody in (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The most machines that it lets in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The group that those are in from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels that they have from then on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// Where a rule put a machine. What the document says of the machine outweighs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placed {
    /// The rule that let it in.
    pub rule: String,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

/// What is exported: the document, and where rules put machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Everything {
    /// The document.
    #[serde(flatten)]
    pub document: Document,
    /// By MAC address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub placed: BTreeMap<String, Placed>,
}

/// What a document is checked against: what the front-ends of this store know. Each writes it down
/// at its start, so that a command on the database checks as strictly as a running front-end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Site {
    /// The chain.
    pub chain: Option<ChainId>,
    /// Our key, to which owners delegate.
    pub key: Option<PublicKey>,
    /// Flavours of the image.
    pub flavours: Vec<String>,
    /// Names of the tables of quirks.
    pub quirks: Vec<String>,
}
