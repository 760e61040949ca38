//! Leases: which address belongs to whom, and until when.

use crate::machine::Mac;
use std::net::Ipv4Addr;

/// How long an offered address is held for the client that it was offered to. EDK2 answers an
/// offer within 4 s, iPXE within 10 s.
pub const OFFER_SECONDS: u64 = 60;
/// How long an address is left alone after a client found somebody else using it.
pub const DECLINED_SECONDS: u64 = 600;

/// An address that is, or was, somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose; nobody's where a client declined it.
    pub mac: Option<Mac>,
    /// Until when, in seconds since 1970.
    pub expires: u64,
}

/// What an answer does to leases. Applied before the answer is sent, and where it cannot be
/// applied (another front-end was faster) the answer is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Nothing.
    Keep,
    /// The client was offered this address, which is kept from others until then, in seconds since
    /// 1970.
    Offer(Ipv4Addr, u64),
    /// The client holds this address until then, in seconds since 1970.
    Hold(Ipv4Addr, u64),
    /// The client holds no address.
    Release,
    /// Nobody may have this address until then, in seconds since 1970.
    Decline(Ipv4Addr, u64),
}
