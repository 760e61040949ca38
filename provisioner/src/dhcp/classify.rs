//! Who asks: firmware (which, by which way), iPXE (which version), or a running system.

use super::packet::Request;
use std::fmt;

/// The kind of client behind a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Firmware's own network boot.
    Firmware(Platform, Way),
    /// iPXE, in a NIC's ROM or loaded by us; false where it lacks what our scripts need.
    Ipxe(Platform, Able),
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

/// Whether an iPXE can run our scripts: load by HTTP, and start a kernel of its platform.
///
/// Its features tell, not its version: distributions' builds, old and new, all say 1.0.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Able {
    /// It can.
    Yes,
    /// It was built without something.
    No,
}

/// Tells who asks.
pub fn classify(request: &Request) -> Client {
    let class = |prefix: &[u8]| request.vendor_class.starts_with(prefix);
    let ipxe = is_ipxe(request);
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
        (true, _) => Client::Ipxe(platform, able(platform, request.ipxe.as_deref())),
        (false, Some(way)) => Client::Firmware(platform, way),
        (false, None) => Client::System,
    }
}

/// 9 is "EBC" in IANA's list, but RFC 4578 as first printed gave 9 to x64, and firmware of that
/// time sends it.
pub(crate) fn platform(arch: u16) -> Option<Platform> {
    match arch {
        0 => Some(Platform::Bios),
        7 | 9 | 16 => Some(Platform::Uefi),
        _ => None,
    }
}

/// Whether iPXE asks: by its own options, or by option 77 as it sends it (the bare word) and as
/// RFC 3004 wants it (with a length before it).
pub fn is_ipxe(request: &Request) -> bool {
    request.ipxe.is_some() || matches!(&request.user_class[..], b"iPXE" | b"\x04iPXE")
}

/// iPXE's sub-option for HTTP (`DHCP_EB_FEATURE_HTTP`).
const HTTP: u8 = 0x13;
/// For Linux kernels on BIOS (`DHCP_EB_FEATURE_BZIMAGE`).
const BZIMAGE: u8 = 0x18;
/// For UEFI's executables, which kernels are there (`DHCP_EB_FEATURE_EFI`).
const EFI: u8 = 0x24;

/// What the features in option 175 amount to. An iPXE that lists none gets the benefit of the
/// doubt.
fn able(platform: Platform, options: Option<&[u8]>) -> Able {
    let Some(mut rest) = options else { return Able::Yes };
    let mut features = Vec::new();
    while let [code, length, tail @ ..] = rest {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        if value != [0] {
            features.push(*code);
        }
        rest = tail;
    }
    let kernel = match platform {
        Platform::Bios => BZIMAGE,
        Platform::Uefi => EFI,
    };
    if features.contains(&HTTP) && features.contains(&kernel) { Able::Yes } else { Able::No }
}

/// Why firmware of an architecture that we have no image for is refused, and what may help.
pub fn refusal(arch: Option<u16>) -> String {
    let Some(arch) = arch else {
        return "firmware of an architecture that it does not name (neither option 93 nor Arch: in \
                option 60); update it, or boot the machine from a medium"
            .into();
    };
    let help = match arch {
        // An x86-64 processor is likely behind these.
        1 | 4 | 5 => "no image starts by it; boot the machine from a medium",
        6 | 15 => {
            "such firmware starts 32-bit programs alone, and images are 64-bit; where the processor \
             is, switch it to BIOS mode (CSM), or boot from a medium in that mode"
        }
        17 => "byte code is no image; switch the firmware to 64-bit UEFI HTTP boot, or to PXE",
        20 => "no BIOS loader runs from HTTP; switch the firmware to PXE",
        0..=41 => {
            "there are images for x86-64 alone; take it off this network or boot it otherwise"
        }
        _ => "update this program, or boot the machine otherwise",
    };
    let name = architecture_name(arch);
    format!("firmware of {name} (architecture {arch}) wants to boot; {help}")
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
            Self::Ipxe(platform, Able::Yes) => write!(f, "iPXE on {platform}"),
            Self::Ipxe(platform, Able::No) => {
                write!(f, "iPXE on {platform} that cannot load kernels by HTTP")
            }
            Self::System => f.write_str("a running system"),
            Self::Unsupported(Some(arch)) => {
                write!(f, "{} firmware (architecture {arch})", architecture_name(*arch))
            }
            Self::Unsupported(None) => f.write_str("firmware that names no architecture"),
        }
    }
}
