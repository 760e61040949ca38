//! Leases of IPv6 addresses: which belongs to whom, and until when.

use std::net::Ipv6Addr;

pub use crate::dhcp::lease::{DECLINED_SECONDS, OFFER_SECONDS};

/// Whose a lease is (RFC 8415 section 12): one association of one client. A machine has several:
/// firmware, iPXE and system each come with their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The client's DUID.
    pub duid: Vec<u8>,
    /// The association's number.
    pub iaid: u32,
}

/// An address that is, or was, somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv6Addr,
    /// Until when, in seconds since 1970.
    pub expires: u64,
}

/// What an answer does to leases. Applied before the answer is sent, and where it cannot be
/// applied (another front-end was faster) the answer is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Nothing.
    Keep,
    /// The client holds this address until then, in seconds since 1970.
    Hold(Ipv6Addr, u64),
    /// The client holds no address.
    Release,
    /// Nobody may have this address until then, in seconds since 1970.
    Decline(Ipv6Addr, u64),
}
