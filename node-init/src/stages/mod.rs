//! The boot stages, one a file. Each takes what it needs and gives what it found; when and how
//! often they run is [`crate::runner`]'s to decide.

pub mod attestation;
pub mod cards;
pub mod clock;
pub mod command_line;
pub mod compute;
pub mod enrolment;
pub mod firewall;
pub mod hardening;
pub mod identity;
pub mod inventory;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod registration;
pub mod release;
pub mod root;
pub mod scratch;
pub mod share;
mod sysfs;
pub mod undriven;
pub mod verified_by;
