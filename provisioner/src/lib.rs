//! Boots machines from the network into aliaOS, takes them in, and shows them.
//!
//! One machine's path through here: its firmware asks for an address and what to boot
//! ([`dhcp`], or by IPv6 [`dhcp6`] and [`ra`]), loads iPXE by TFTP ([`tftp`]) or has it in ROM; iPXE fetches a script made for
//! this machine, then kernel and initramfs ([`http`], [`script`], [`image`]); the running node
//! reports its boot stages ([`progress`]) and is taken in ([`enrol`]). What it may do next is its
//! [`life`]'s to say. All of it lands in the machine's [`timeline`], in the [`store`], on the page and in the API.
//!
//! What single kinds of firmware need is data ([`quirks`]); captures of what they sent are read
//! and answered again by [`replay`].
//!
//! Decisions are pure functions (`dhcp::decide`, `dhcp6::decide`, `tftp::session::step`, `enrol::judge`,
//! `script::machine`, `Progress::apply`); sockets and files are at the edges (`net`, the
//! `server` modules, `store`).
//!
//! **Never** holds state that a second front-end on the same store could not share: what a
//! restart must not lose is in the store and nowhere else. Never decides what is paid: an owner's
//! delegation does, and here it is only handed on. Never waits, in answering a machine, for
//! somebody who watches.

pub mod access;
pub mod attest;
pub mod check;
pub mod config;
pub mod confine;
pub mod console;
pub mod counters;
pub mod deadlines;
pub mod dhcp;
pub mod dhcp6;
pub mod doctor;
pub mod enrol;
pub mod groups;
pub mod hardware;
pub mod http;
pub mod image;
pub mod ipv6;
pub mod ledger;
pub mod life;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod miners;
pub mod net;
pub mod net6;
pub mod page;
pub mod peers;
pub mod places;
pub mod progress;
pub mod quirks;
pub mod ra;
pub mod readiness;
pub mod replay;
pub mod run;
pub mod script;
pub mod start_error;
pub mod store;
pub mod tftp;
pub mod timeline;
pub mod tls;
pub mod unstarted;
pub mod upstream;
