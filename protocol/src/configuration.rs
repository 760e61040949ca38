//! What a provisioner says of its machines' configuration, as JSON.
//!
//! `GET /v1/machines/{mac}/config` gives an [`Effective`], `GET /v1/config/history` a [`History`],
//! `GET /v1/config/diff` a list of [`Change`], and whatever changes the configuration a [`Taken`].
//! The configuration itself is a document of its own (`docs/configuration.md`). Values are of type
//! `V`: whatever the reader has for JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What holds for one machine, and where each part of it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Effective<V> {
    /// The revision that it is of.
    pub revision: u64,
    /// The machine's groups, strongest first.
    pub groups: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, Sourced<String>>,
    /// Its values; what nobody set is not here.
    pub values: BTreeMap<String, Sourced<V>>,
}

/// A value, and who set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Sourced<V> {
    /// The value.
    pub value: V,
    /// `file`, `machine`, `group NAME`, `rule NAME` or `defaults`.
    pub from: String,
}

/// A machine of a group: `GET /v1/groups/{name}/machines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// Its MAC address. It may not have been seen yet.
    pub mac: String,
    /// What the configuration calls it.
    #[serde(default)]
    pub name: Option<String>,
    /// The rule that put it there; none where the configuration names the machine's groups.
    #[serde(default)]
    pub rule: Option<String>,
}

/// A revision of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revision {
    /// Its number, from 1.
    pub revision: u64,
    /// When it was taken, milliseconds since 1970.
    pub at: u64,
    /// Who changed it.
    pub actor: String,
    /// Why.
    pub why: String,
    /// The document's size in bytes.
    pub bytes: u64,
}

/// Revisions, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct History {
    /// How many old ones were dropped, all before the oldest here.
    pub dropped: u64,
    /// Those of this page.
    pub revisions: Vec<Revision>,
}

/// One value that differs between two revisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Change<V> {
    /// Where: `group.rack-7.network`.
    pub at: String,
    /// What it was; none where it was not there.
    #[serde(default = "Option::default")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub before: Option<V>,
    /// What it is; none where it is gone.
    #[serde(default = "Option::default")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub after: Option<V>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Taken<V> {
    /// The revision that holds now.
    pub revision: u64,
    /// Whether it was taken: not where it was only tried, or changes nothing.
    pub taken: bool,
    /// What it changes.
    pub changes: Vec<Change<V>>,
}

/// `+ at = value`, `- at = value` or `~ at: before -> after`.
impl<V: std::fmt::Display> std::fmt::Display for Change<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = &self.at;
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {at} = {after}"),
            (Some(before), None) => write!(f, "- {at} = {before}"),
            (Some(before), Some(after)) => write!(f, "~ {at}: {before} -> {after}"),
            (None, None) => write!(f, "  {at}"),
        }
    }
}
