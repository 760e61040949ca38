//! Groups of machines and their configuration: one document, from which each machine's own values
//! come.
//!
//! [`key`] is the table of what can be set, [`mod@members`] who is in a group, [`reader`] takes a document whole or says all that is
//! wrong with it, [`effective`] settles what holds for one machine and where it comes from, [`change`]
//! says what differs between two documents, [`rule`] whether a newcomer fits a rule; all of them pure.
//! [`configured`] is the edge: what the store has, kept at hand, so that a machine boots while the
//! database is away. `store/configuration.rs` keeps revisions, `http/configuration/` is the API, and
//! `docs/configuration.md` is for people.
//!
//! A machine's own table outweighs its groups, in their order, and those the defaults. The tables
//! `[machine."MAC"]` of a front-end's own file outweigh all of them: whoever may write that file may
//! do more than any operator.

pub mod change;
pub mod command;
pub mod configured;
pub mod document;
pub mod effective;
pub mod key;
pub mod members;
pub mod reader;
pub mod rule;
pub mod settings;
pub mod text;

pub use configured::{Configured, Own};
pub use document::{Document, Everything, Group, Labels, Machine, Placed, Rule, Site, Values};
pub use members::members;
pub use reader::{Mistake, Mistakes};
pub use settings::{Jobs, Settings};

/// A value as JSON has it.
pub type Json = serde_json::Value;
