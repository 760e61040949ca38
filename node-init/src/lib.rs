//! PID 1 of a machine that booted aliaOS.
//!
//! A static program in an initramfs without a shell: it mounts, loads drivers, joins the network,
//! sets the clock, makes the node's key, describes the hardware, has the provisioner take the node
//! in and the ledger register it, and starts and supervises the compute service. It reaps what is
//! orphaned, and ends the machine when asked.
//!
//! **Never** runs a shell, waits on a child, executes what can be written, gives the node's key to
//! another process, or dies: a panic is reported and the machine restarts. (Beside PID 1's memory
//! the key lies where it is kept between boots: sealed in the TPM, or in a UEFI variable, which root
//! can read; [`keep`], `docs/tpm.md`.)
//!
//! # How to read it
//! - [`plan`] is the table of boot stages; [`runner`] decides over it and [`supervise`] over the
//!   service, both pure: `step(state, event) -> actions`, with times as values;
//! - [`stages`] holds one file for each stage; [`kernel`] and [`net`] are the tables of functions
//!   behind which the kernel stands, so that each stage is tested without one;
//! - [`relay`] sends the console's lines to the provisioner, [`readings`] what sensors say;
//! - [`api`] is the only way in, [`status`] what it tells; [`screen`] is what the display shows;
//! - [`machine`] is the edge that carries out what was decided; [`report`] tells console and
//!   provisioner.
//!
//! # How to build it for an image
//! ```text
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
//!     cargo build --profile init -p node-init --target x86_64-unknown-linux-gnu
//! ```
//! (That is 9.96 MB, and 3.69 MB under zstd; `--release` works as well and is larger.)
//!
//! It is the image's `/init` and expects `/etc/alia/build.json` ([`stages::clock::Build`]), the
//! kernel's modules uncompressed below `/lib/modules` with depmod's text files, the firmware they
//! ask for below `/lib/firmware`, `/usr/bin/compute`, the device nodes `/dev/console` and
//! `/dev/null`, and of modules `button` and `evdev` for the power button to work.
//!
//! # What it prints
//! `alia SECONDS STAGE STATE [TOOK] [DETAIL]`, SECONDS since the kernel started and STATE one of
//! `started`, `done`, `retrying`, `failed`:
//! ```text
//! alia 3.214s network done 0.412s eth0 10.1.2.3/24 by DHCP from 10.1.2.1
//! ```
//! The stages are those of [`plan::PLAN`]. What happens after them has names of its own, so that
//! it does not disturb their times: `hotplug` (drivers for devices that appear later), `lease`
//! (renewals that change something), `time` (the clock, set by the provisioner and kept by NTP),
//! `service` (the compute service's ends and restarts), `audit` (who asked what of the node API),
//! `watchdog`, `crash` (the kernel's log of its own death before this boot), `stands` and `rescue`
//! ([`rescue`]), `cards` (NVIDIA's, on images for them, and their faults), `power`, and on
//! the console alone `events` (their delivery) and `init`. What the service itself writes follows
//! `compute: `. With `alia.probe` on the kernel command line PID 1 prints `alia probe ok` and
//! powers off.

pub mod api;
pub mod capabilities;
pub mod census;
pub mod console;
pub mod crash;
pub mod firewall;
pub mod floor;
pub mod hotplug;
pub mod http;
pub mod hurry;
pub mod keep;
pub mod kernel;
pub mod lines;
pub mod mac;
pub mod machine;
pub mod measure;
pub mod medium;
pub mod modalias;
pub mod net;
pub mod nvidia;
pub mod outbox;
pub mod owner;
pub mod plan;
pub mod power;
pub mod readings;
pub mod relay;
pub mod report;
pub mod rescue;
pub mod ring;
pub mod runner;
pub mod sandbox;
pub mod screen;
pub mod secured;
pub mod sockets;
pub mod stages;
pub mod status;
pub mod supervise;
pub mod sysctl;
pub mod time;
pub mod variable;
pub mod watchdog;
