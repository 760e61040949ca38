//! The test bed: one aliaOS network on one machine.
//!
//! - [`tools`]: what the host must have, by distribution package, and what is fetched into the
//!   cache instead (firmware for machines, CometBFT).
//! - [`sandbox`]: the calling program run again in namespaces of its own, which end with it
//!   however it ends; TCP ports inside are relayed to 127.0.0.1 outside.
//! - [`net`]: a bridge, TAP devices, and a second network namespace for a foreign DHCP server.
//! - [`matrix`]: every way to boot on every kind of network, as a table.
//! - [`machine`]: QEMU machines that boot over that network from real firmware.
//! - [`swtpm`]: TPM chips for them, each a process.
//! - [`postgres`]: a real PostgreSQL in a folder, for front-ends that share one.
//! - [`bochs`]: an emulator of CPUs that no CPU at hand need resemble, and [`disk`], what it boots.
//! - [`accel`]: whether KVM works here, found out by booting a guest in it.
//! - [`service`] and [`services`]: the programs of a network as child processes with logs,
//!   readiness, kill and restart.
//!
//! How a program runs a bed: outside it gets what needs the internet ([`tools::missing`] and
//! [`tools::install`], [`tools::boot_files`], [`tools::cometbft`], the image), then runs itself
//! again by [`sandbox::enter`]; inside, [`sandbox::inside`], [`net::make`], services, machines.
//! `tests/boot.rs` is the shortest example.
//!
//! Tests that boot machines or make namespaces take minutes, and a host that allows both: they
//! run where ALIA_BOOTS is set, as `cargo xtask test` sets it.
//!
//! Threads and blocking calls, no async: everything here waits for processes.
//!
//! **Never** part of what a node or a server runs; never changes the host's network, mounts or
//! package sources. The one thing that it changes on the host, and only when asked, is to install
//! distribution packages ([`tools::install`]).

pub mod accel;
pub mod bochs;
pub mod console;
pub mod disk;
pub mod efi_variables;
pub mod error;
pub mod machine;
pub mod matrix;
pub mod net;
pub mod postgres;
pub mod relay;
pub mod sandbox;
pub mod service;
pub mod services;
pub mod swtpm;
pub mod tools;

pub use accel::Accelerator;
pub use bochs::Bochs;
pub use console::Console;
pub use error::Error;
pub use machine::{Machine, MachineSpec};
pub use postgres::Postgres;
pub use service::{Ready, Service, ServiceSpec};
pub use swtpm::Swtpm;
