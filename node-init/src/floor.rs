//! The floor: the least release version that this machine still boots.
//!
//! It only rises. It lies in the TPM where there is one: in an index of the chip's own memory that
//! is written when the initramfs has verified a release, and locked before anything of that release
//! runs, so that nothing lowers it before the next reset. (An index, not one of the chip's
//! counters: a counter goes up by one, so the floor would be a difference to a base, and who could
//! write the base could lower the floor. Neither outlives somebody who takes all of the chip: with
//! the floor goes the node's key then, and the machine has to be approved again.) Else it lies in a
//! UEFI variable, which whoever is root on this machine can write. Where there is neither, it
//! cannot be enforced, and that is said.

use crate::{kernel::Kernel, variable};
use std::{fmt, io};
use tpm::{Tpm, TpmError, code, nv::index};

/// The floor and what keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Floor {
    /// Kept in the TPM; 0 where no release was ever seen.
    Tpm(u64),
    /// Kept in a UEFI variable; 0 where no release was ever seen.
    UefiVariable(u64),
    /// Kept nowhere, and why not.
    None(String),
}

/// The floor is not kept, although there is something to keep it.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The chip refuses.
    #[error("the floor was not raised to {0}: {1}")]
    Tpm(u64, TpmError),
    /// Firmware refuses.
    #[error("the floor was not raised to {0}: the UEFI variable: {1}")]
    Variable(u64, io::Error),
}

impl Floor {
    /// The least version that may run.
    pub fn version(&self) -> u64 {
        match self {
            Self::Tpm(version) | Self::UefiVariable(version) => *version,
            Self::None(_) => 0,
        }
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tpm(version) => write!(f, "floor {version}, kept in the TPM"),
            Self::UefiVariable(version) => write!(f, "floor {version}, kept in a UEFI variable"),
            Self::None(why) => write!(f, "floor not enforced: {why}"),
        }
    }
}

/// Eight bytes, the highest first. Anything else was not written by us and counts as nothing.
fn version(bytes: Option<Vec<u8>>) -> u64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Reads the floor.
pub fn read(kernel: &dyn Kernel) -> Floor {
    let of_chip = |mut tpm: Tpm| tpm.load(index::FLOOR).map(version);
    let no_chip = match kernel.tpm().map(of_chip) {
        Ok(Ok(version)) => return Floor::Tpm(version),
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("no TPM ({error})"),
    };
    match variable::read(kernel, variable::FLOOR) {
        Ok(bytes) => Floor::UefiVariable(version(bytes)),
        Err(error) => Floor::None(format!("{no_chip}, and no UEFI variables ({error})")),
    }
}

/// Raises the floor; one that is as high already stays.
///
/// # Errors
/// [`FloorError`]. Where nothing could keep it, that is no error but what is given.
pub fn raise(kernel: &dyn Kernel, to: u64) -> Result<Floor, FloorError> {
    let floor = read(kernel);
    if floor.version() >= to {
        return Ok(floor);
    }
    let bytes = to.to_be_bytes();
    match floor {
        Floor::Tpm(_) => {
            let failed = |error| FloorError::Tpm(to, error);
            let mut tpm = kernel.tpm().map_err(|error| failed(error.into()))?;
            tpm.store(index::FLOOR, &bytes).map_err(failed)?;
            Ok(Floor::Tpm(to))
        }
        Floor::UefiVariable(_) => {
            let failed = |error| FloorError::Variable(to, error);
            variable::write(kernel, variable::FLOOR, &bytes).map_err(failed)?;
            Ok(Floor::UefiVariable(to))
        }
        Floor::None(_) => Ok(floor),
    }
}

/// Locks the floor against writing until the next reset, where the TPM keeps it. To be called
/// before anything of a release runs.
///
/// # Errors
/// What the chip said.
pub fn lock(kernel: &dyn Kernel) -> Result<(), TpmError> {
    let Ok(mut tpm) = kernel.tpm() else { return Ok(()) };
    match tpm.lock_writing(index::FLOOR) {
        // There is none yet.
        Err(error) if error.is(&[code::HANDLE]) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn without_a_tpm_the_floor_is_a_variable_that_only_rises() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        assert_eq!(read(&kernel), Floor::UefiVariable(0));
        assert_eq!(raise(&kernel, 7).unwrap(), Floor::UefiVariable(7));
        assert_eq!(raise(&kernel, 3).unwrap(), Floor::UefiVariable(7));
        assert_eq!(read(&kernel), Floor::UefiVariable(7));
        lock(&kernel).unwrap();
    }

    #[test]
    fn without_either_it_is_said_that_nothing_is_enforced() {
        let kernel = Fake::new(&[]);
        let floor = raise(&kernel, 7).unwrap();
        assert_eq!(floor.version(), 0);
        assert!(floor.to_string().contains("floor not enforced: no TPM"), "{floor}");
    }

    #[test]
    fn a_variable_that_is_none_of_ours_counts_as_nothing() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        variable::write(&kernel, variable::FLOOR, b"nonsense of another length").unwrap();
        assert_eq!(read(&kernel), Floor::UefiVariable(0));
    }
}
