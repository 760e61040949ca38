//! How `provisioner replay` is told what to do.

use crate::{
    config::{Options, Part},
    dhcp::pool::Pool,
};
use clap::Args;
use std::{net::Ipv4Addr, path::PathBuf};

/// A capture, and those of serve's options that change an answer.
#[derive(Args, Clone, Debug, Default)]
pub struct ReplayOptions {
    /// The capture, pcap or pcapng
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The configuration that `serve` uses; the options here outweigh it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Our part [default: proxy where two servers answered, else full]
    #[arg(long, value_enum, value_name = "PART")]
    pub dhcp: Option<Part>,
    /// Our address [default: that of whoever answered in the capture]
    #[arg(long, value_name = "IP")]
    pub address: Option<Ipv4Addr>,
    /// Addresses to give out in full mode [default: all of the network's]
    #[arg(long, value_name = "FIRST-LAST")]
    pub pool: Option<Pool>,
    /// What kinds of firmware need (docs/quirks.md)
    #[arg(long, value_name = "FILE")]
    pub quirks: Option<PathBuf>,
    /// The folder of iPXE's files: their lengths are told in TFTP's answers
    #[arg(long, value_name = "FOLDER")]
    pub ipxe: Option<PathBuf>,
    /// iPXE for BIOS [default: undionly.kpxe]
    #[arg(long, value_name = "NAME")]
    pub bios_file: Option<String>,
    /// iPXE for UEFI [default: snponly.efi]
    #[arg(long, value_name = "NAME")]
    pub uefi_file: Option<String>,
    /// Answer as with this unified kernel image; it is not read
    #[arg(long, value_name = "FILE")]
    pub uki: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl ReplayOptions {
    /// As `serve` takes them.
    pub fn serve(self) -> Options {
        Options {
            config: self.config,
            dhcp: self.dhcp,
            address: self.address,
            pool: self.pool,
            quirks: self.quirks,
            ipxe: self.ipxe,
            bios_file: self.bios_file,
            uefi_file: self.uefi_file,
            uki: self.uki,
            ..Options::default()
        }
    }
}
