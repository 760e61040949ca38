//! Who asks: firmware (which, by which way), iPXE (which version), or a running system.

use super::packet::Request;
use std::fmt;

/// The kind of client behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Firmware's own network boot.
    Firmware(Platform, Way),
    /// iPXE, in a NIC's ROM or loaded by us.
    Ipxe(Platform, IpxeVersion),
    /// A running system's DHCP client.
    System,
    /// It wants to boot, but of this architecture (IANA "Processor Architecture Types") we have
    /// no image; none where it named no architecture at all.
    Unsupported(Option<u16>),
}

/// What runs the boot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// PC BIOS.
    Bios,
    /// UEFI on x86-64.
    Uefi,
}

/// How firmware fetches its boot file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// PXE: a file by TFTP.
    Pxe,
    /// UEFI HTTP boot: a URL.
    Http,
}

/// iPXE's version; 0.0.0 where it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpxeVersion(pub [u8; 3]);

impl IpxeVersion {
    /// Older ROMs are made to load our own iPXE first: NICs carry builds a decade old, with
    /// drivers and HTTP clients mended since. 1.21.1 is the release of December 2020.
    pub const OLDEST: Self = Self([1, 21, 1]);
}

/// Tells who asks.
pub fn classify(request: &Request) -> Client {
    let class = |prefix: &[u8]| request.vendor_class.starts_with(prefix);
    let ipxe = request.ipxe.is_some() || is_ipxe(&request.user_class);
    let way = match (class(b"HTTPClient"), class(b"PXEClient")) {
        (true, _) => Some(Way::Http),
        (_, true) => Some(Way::Pxe),
        _ => None,
    };
    if !ipxe && way.is_none() {
        return Client::System;
    }
    let Some(platform) = request.architectures.iter().find_map(|&arch| platform(arch)) else {
        return Client::Unsupported(request.architectures.first().copied());
    };
    match (ipxe, way) {
        (true, _) => Client::Ipxe(platform, version(request.ipxe.as_deref().unwrap_or_default())),
        (false, Some(way)) => Client::Firmware(platform, way),
        (false, None) => Client::System,
    }
}

/// 9 is "EBC" in IANA's list, but RFC 4578 as first printed gave 9 to x64, and firmware of that
/// time sends it.
fn platform(arch: u16) -> Option<Platform> {
    match arch {
        0 => Some(Platform::Bios),
        7 | 9 | 16 => Some(Platform::Uefi),
        _ => None,
    }
}

/// Option 77 as iPXE sends it (the bare word), and as RFC 3004 wants it (with a length before it).
fn is_ipxe(user_class: &[u8]) -> bool {
    user_class == b"iPXE" || user_class == b"\x04iPXE"
}

/// iPXE's sub-option with its version.
const VERSION: u8 = 235;

fn version(options: &[u8]) -> IpxeVersion {
    let mut rest = options;
    while let [code, length, tail @ ..] = rest {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        if let (VERSION, Ok(version)) = (*code, value.try_into()) {
            return IpxeVersion(version);
        }
        rest = tail;
    }
    IpxeVersion([0; 3])
}

/// IANA's "Processor Architecture Types", for the reason of a refusal.
pub fn architecture_name(arch: u16) -> &'static str {
    const NAMES: [&str; 42] = [
        "x86 BIOS",
        "NEC PC-98",
        "Itanium",
        "DEC Alpha",
        "Arc x86",
        "Intel Lean Client",
        "32-bit x86 UEFI",
        "x64 UEFI",
        "EFI Xscale",
        "EFI byte code",
        "32-bit ARM UEFI",
        "64-bit ARM UEFI",
        "PowerPC Open Firmware",
        "PowerPC ePAPR",
        "POWER OPAL v3",
        "32-bit x86 UEFI by HTTP",
        "x64 UEFI by HTTP",
        "EFI byte code by HTTP",
        "32-bit ARM UEFI by HTTP",
        "64-bit ARM UEFI by HTTP",
        "x86 BIOS by HTTP",
        "32-bit ARM U-Boot",
        "64-bit ARM U-Boot",
        "32-bit ARM U-Boot by HTTP",
        "64-bit ARM U-Boot by HTTP",
        "32-bit RISC-V UEFI",
        "32-bit RISC-V UEFI by HTTP",
        "64-bit RISC-V UEFI",
        "64-bit RISC-V UEFI by HTTP",
        "128-bit RISC-V UEFI",
        "128-bit RISC-V UEFI by HTTP",
        "s390 basic",
        "s390 extended",
        "32-bit MIPS UEFI",
        "64-bit MIPS UEFI",
        "32-bit Sunway UEFI",
        "64-bit Sunway UEFI",
        "32-bit LoongArch UEFI",
        "32-bit LoongArch UEFI by HTTP",
        "64-bit LoongArch UEFI",
        "64-bit LoongArch UEFI by HTTP",
        "ARM rpiboot",
    ];
    NAMES.get(usize::from(arch)).copied().unwrap_or("not in IANA's list")
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI x64",
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(platform, Way::Pxe) => write!(f, "{platform} firmware (PXE)"),
            Self::Firmware(platform, Way::Http) => write!(f, "{platform} firmware (HTTP boot)"),
            Self::Ipxe(platform, IpxeVersion([0, 0, 0])) => {
                write!(f, "iPXE of unknown version on {platform}")
            }
            Self::Ipxe(platform, IpxeVersion([a, b, c])) => {
                write!(f, "iPXE {a}.{b}.{c} on {platform}")
            }
            Self::System => f.write_str("a running system"),
            Self::Unsupported(Some(arch)) => {
                write!(f, "{} firmware (architecture {arch})", architecture_name(*arch))
            }
            Self::Unsupported(None) => f.write_str("firmware that names no architecture"),
        }
    }
}
