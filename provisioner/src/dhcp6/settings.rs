//! What DHCPv6 is told once.

use super::pool::Pool6;
use crate::{dhcp::settings::HttpBoot, machine::Mac, net6::Network6};
use std::net::Ipv6Addr;

/// What does not change while we run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our address and network.
    pub network: Network6,
    /// Our DUID.
    pub duid: Vec<u8>,
    /// Addresses to give out: on our own link, or on another one that relays are on.
    pub pool: Pool6,
    /// Option 23.
    pub dns: Vec<Ipv6Addr>,
    /// How long a lease lasts.
    pub lease_seconds: u32,
    /// Base of our URLs, `http://[fd00:77::1]:8080`.
    pub base_url: String,
    /// The same by TLS, `https://[fd00:77::1]:8443`.
    pub https_url: String,
    /// Which of the two UEFI HTTP boot is told.
    pub http_boot: HttpBoot,
    /// iPXE for BIOS, by TFTP.
    pub bios_file: String,
    /// iPXE for UEFI, by TFTP or HTTP.
    pub uefi_file: String,
    /// A signed unified kernel image that UEFI firmware gets instead, by the name under which it
    /// is served.
    pub uki: Option<String>,
}

impl Settings {
    /// Our address.
    pub fn server(&self) -> Ipv6Addr {
        self.network.address
    }
}

/// Our DUID: DUID-LL (RFC 8415 section 11.4) of the interface that is served, which outlives
/// restarts and a lost database.
pub fn duid(mac: Mac) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac.0].concat()
}
