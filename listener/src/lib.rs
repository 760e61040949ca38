//! HTTP for strangers: so many connections at a time, so many of one peer, and none that says
//! nothing for long.
//!
//! Without the feature `serve` (PID 1 speaks TLS and has no router) it is the counting of peers
//! alone.
//!
//! **Never** looks at a request: what it asks for is the router's.

mod peers;
#[cfg(feature = "serve")]
mod serve;

pub use peers::{Peers, Seat};
#[cfg(feature = "serve")]
pub use serve::{Limits, serve};
