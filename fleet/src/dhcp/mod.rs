//! DHCP as firmware, iPXE and a running system speak it: an address and what to boot.
//!
//! [`request`] makes the bytes, [`reply`] reads those that come back, [`exchange`] is one exchange
//! as a pure state machine, [`wire`] the one socket that all machines share.

pub mod exchange;
pub mod reply;
pub mod request;
pub mod wire;

pub use exchange::{Bound, Exchange};
pub use request::Client;
pub use wire::Wire;
