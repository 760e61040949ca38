//! The commands of the project: what a developer runs, what CI runs, and what the README says are
//! one and the same.
//!
//! **Never** hides a step that a user would need: each command says what it installs, fetches and
//! builds, and each is thin over the libraries that do it.

mod api;
pub mod bench;
pub mod build;
pub mod buildroot;
mod campaigns;
mod crates;
pub mod fleet;
mod hardening;
pub mod image;
pub mod keys;
pub mod python;
pub mod release;
pub mod secure_boot;
pub mod setup;
pub mod test;
pub mod up;
pub mod workspace;
