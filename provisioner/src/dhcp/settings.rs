//! What DHCP is told once: our part and our network. What single machines need is in
//! [`crate::quirks`].

use super::pool::{Network, Pool};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// Which part we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The network's one DHCP server: addresses and boot files.
    Full,
    /// Boot files alone, beside a DHCP server that gives the addresses.
    Proxy,
}

/// How firmware is told its boot file. Where a machine's firmware takes one way only, that
/// machine's is set in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootMethod {
    /// Option 43 `6=8`: load the file named in the offer.
    #[default]
    File,
    /// No option 43: ask our boot server (BINL, port 4011) for it.
    BootServer,
}

/// By which door UEFI HTTP boot fetches its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpBoot {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTPS: firmware has to know our CA, or the operator's.
    Https,
}

/// What does not change while we run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our part.
    pub mode: Mode,
    /// Our address and network.
    pub network: Network,
    /// Addresses to give out, in full mode.
    pub pool: Pool,
    /// Option 3, where there is a way out of the network.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// How long a lease lasts.
    pub lease_seconds: u32,
    /// Base of our URLs, `http://10.0.0.1:8080`.
    pub base_url: String,
    /// The same by TLS, `https://10.0.0.1:8443`.
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
    pub fn server(&self) -> Ipv4Addr {
        self.network.address
    }

    /// The network that addresses are given out on: ours, or that of a relay.
    pub fn link(&self) -> Network {
        self.pool.link(self.network)
    }
}
