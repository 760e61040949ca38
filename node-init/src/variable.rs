//! Variables of ours in UEFI's memory, for what must outlast the power where no TPM keeps it.
//!
//! What that is worth: they are not for boot services alone, so whoever is root on this machine,
//! under any system, reads and writes them, and so does whoever opens firmware's setup. They keep
//! an honest machine's memory; they keep nothing secret from somebody at the machine.

use crate::{
    kernel::{Kernel, Mount},
    stages::modules,
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The node's key.
pub const NODE_KEY: &str = "AliaNodeKey";
/// The floor.
pub const FLOOR: &str = "AliaFloor";

/// Whose variables they are: ours.
const VENDOR: &str = "a11a05d4-6c1e-4d8b-9f2a-3b7e5c90d1f6";
const FOLDER: &str = "/sys/firmware/efi/efivars";
/// Non-volatile, for boot services and at run time (UEFI 2.10, 8.2).
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
/// The longest of ours.
const MAX_LEN: usize = 256;
/// EBUSY: it is mounted already.
const BUSY: i32 = 16;

const MOUNT: Mount =
    Mount { kind: "efivarfs", on: FOLDER, devices: false, programs: false, options: "" };

fn path(name: &str, vendor: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}-{vendor}"))
}

/// Has the kernel show firmware's variables; an error where firmware is not UEFI.
fn open(kernel: &dyn Kernel) -> io::Result<()> {
    // Without UEFI the folder is not there, and no mount makes one in sysfs.
    kernel.list(Path::new("/sys/firmware/efi"))?;
    match kernel.mount(&MOUNT) {
        Err(error) if error.raw_os_error() == Some(BUSY) => Ok(()),
        Err(_) => {
            let _ = modules::load(kernel, &["efivarfs"]);
            kernel.mount(&MOUNT)
        }
        Ok(()) => Ok(()),
    }
}

/// Whether this machine has no variables at all.
pub fn absent(kernel: &dyn Kernel) -> bool {
    open(kernel).is_err()
}

/// A variable of ours; none where it was never written.
///
/// # Errors
/// Where there are no variables, or firmware fails.
pub fn read(kernel: &dyn Kernel, name: &str) -> io::Result<Option<Vec<u8>>> {
    open(kernel)?;
    match kernel.read(&path(name, VENDOR), ATTRIBUTES.len() + MAX_LEN) {
        Ok(bytes) => Ok(bytes.get(ATTRIBUTES.len()..).map(<[u8]>::to_vec)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a variable of ours.
///
/// # Errors
/// Where there are no variables, or firmware fails: its memory may be full.
pub fn write(kernel: &dyn Kernel, name: &str, content: &[u8]) -> io::Result<()> {
    open(kernel)?;
    kernel.write_variable(&path(name, VENDOR), &[&ATTRIBUTES, content].concat())
}

/// Whether firmware started only what is signed.
pub fn secure_boot(kernel: &dyn Kernel) -> bool {
    /// EFI_GLOBAL_VARIABLE.
    const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let on = || -> io::Result<bool> {
        open(kernel)?;
        Ok(kernel.read(&path("SecureBoot", GLOBAL), 16)?.get(4) == Some(&1))
    };
    on().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn a_variable_is_read_back_without_its_attributes() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        assert_eq!(read(&kernel, FLOOR).unwrap(), None);
        write(&kernel, FLOOR, b"seven").unwrap();
        assert_eq!(read(&kernel, FLOOR).unwrap(), Some(b"seven".to_vec()));
        let raw = kernel.read(&path(FLOOR, VENDOR), 100).unwrap();
        assert_eq!(raw, b"\x07\0\0\0seven");
    }

    #[test]
    fn without_uefi_there_are_none() {
        let kernel = Fake::new(&[]);
        assert!(read(&kernel, FLOOR).is_err() && write(&kernel, FLOOR, b"x").is_err());
        assert!(!secure_boot(&kernel));
    }
}
