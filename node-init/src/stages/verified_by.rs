//! Who vouches for the kernel, the initramfs and the command line that this machine runs: firmware
//! under Secure Boot, or nobody. Said at the beginning of each boot, so that no operator has to
//! guess which of his machines are which.

use crate::kernel::Kernel;
use std::{fmt, path::Path};

/// What the kernel was started with, as its own EFI stub filled it in
/// (`Documentation/arch/x86/zero-page.rst` of the kernel).
const BOOT_PARAMETERS: &str = "/sys/kernel/boot_params/data";
const PAGE: usize = 4_096;
/// There under UEFI alone.
const EFI: &str = "/sys/firmware/efi";
/// `secure_boot` in them.
const SECURE_BOOT: usize = 0x1ec;
/// `efi_secureboot_mode_disabled` and `efi_secureboot_mode_enabled`.
const DISABLED: u8 = 2;
const ENABLED: u8 = 3;

/// Who vouches for what was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifiedBy {
    /// Firmware, or shim for it: Secure Boot is on.
    Firmware,
    /// Nobody: UEFI with Secure Boot off.
    NobodyUefi,
    /// Nobody: a BIOS verifies nothing.
    NobodyBios,
    /// The kernel did not find out, which counts as nobody.
    Unknown,
}

/// Asks the kernel.
pub fn run(kernel: &dyn Kernel) -> VerifiedBy {
    let parameters = kernel.read(Path::new(BOOT_PARAMETERS), PAGE).unwrap_or_default();
    match parameters.get(SECURE_BOOT) {
        Some(&ENABLED) => VerifiedBy::Firmware,
        Some(&DISABLED) => VerifiedBy::NobodyUefi,
        _ if kernel.list(Path::new(EFI)).is_err() => VerifiedBy::NobodyBios,
        _ => VerifiedBy::Unknown,
    }
}

impl fmt::Display for VerifiedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => {
                "Secure Boot is on: firmware verified kernel, initramfs and command line"
            }
            Self::NobodyUefi => {
                "Secure Boot is off: nothing vouches for kernel, initramfs and command line"
            }
            Self::NobodyBios => "BIOS: nothing vouches for kernel, initramfs and command line",
            Self::Unknown => {
                "the kernel does not know whether Secure Boot is on: nothing vouches for it"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    fn with(secure_boot: u8, efi: bool) -> VerifiedBy {
        let fake =
            Fake::new(if efi { &[("/sys/firmware/efi/fw_platform_size", "64")] } else { &[] });
        let mut parameters = vec![0; PAGE];
        parameters[SECURE_BOOT] = secure_boot;
        fake.world().files.insert(BOOT_PARAMETERS.into(), parameters);
        run(&fake)
    }

    #[test]
    fn only_firmware_that_enforces_signatures_vouches() {
        assert_eq!(with(3, true), VerifiedBy::Firmware);
        assert_eq!(with(2, true), VerifiedBy::NobodyUefi);
        assert_eq!(with(1, true), VerifiedBy::Unknown);
        assert_eq!(with(0, true), VerifiedBy::Unknown);
        assert_eq!(with(0, false), VerifiedBy::NobodyBios);
        assert_eq!(run(&Fake::new(&[])), VerifiedBy::NobodyBios);
        for nobody in [VerifiedBy::NobodyUefi, VerifiedBy::NobodyBios, VerifiedBy::Unknown] {
            assert!(nobody.to_string().contains("nothing vouches for"), "{nobody}");
        }
    }
}
