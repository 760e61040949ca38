//! A fleet of simulated machines, to size a site before its machines are there.
//!
//! Each machine goes the whole way by the real protocols on real sockets ([`boot`]): DHCP as EDK2
//! sends it ([`dhcp`]), iPXE by TFTP ([`tftp`]), DHCP as iPXE sends it, boot scripts ([`script`]),
//! kernel, microcode and initramfs by one HTTP connection ([`http`]), then what node-init does
//! ([`node`]): time, release, root, challenge, enrolment, events. [`mod@run`] starts many of them and
//! sums up ([`summary`]).
//!
//! What is not as in a real machine: nothing runs what was fetched; files are digested and held
//! against the image's manifest where the run says so; a TPM is asked for ([`node`]) and
//! answers nothing, so machines enrol as those without one; a release is fetched, not verified.
//!
//! Machines may fetch their root from each other ([`swarm`]).
//!
//! [`site`] makes a provisioner with a network of its own in namespaces; [`mod@bench`] times a
//! provisioner's parts against their peers.
//!
//! **Never** sends to another address than the one that it was given: what a script or an offer
//! names beside it is refused ([`target`]).

pub mod bench;
pub mod boot;
pub mod dhcp;
pub mod error;
pub mod histogram;
pub mod http;
pub mod machine;
pub mod node;
pub mod process;
pub mod run;
pub mod sample;
pub mod script;
pub mod siege;
pub mod site;
pub mod summary;
pub mod swarm;
pub mod target;
pub mod tftp;

pub use error::Error;
pub use machine::Machine;
pub use run::{Plan, run};
pub use summary::Summary;
pub use target::Target;
