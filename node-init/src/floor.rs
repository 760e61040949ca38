//! The floor: the least release version that this machine still boots.
//!
//! It only rises. It lies in the TPM where there is one: in an index of the chip's own memory that
//! is written when the initramfs has verified a release, and locked before anything of that release
//! runs, so that nothing lowers it before the next reset. (An index, not one of the chip's
//! counters: a counter goes up by one, so the floor would be a difference to a base, and who could
//! write the base could lower the floor. Neither holds against
//! whoever is root on this machine under another system: the index can be written there, or taken out
//! alone, and the node's key stays in an index of its own.) Else it lies in a
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

/// What keeps the floor does not do so. It is never taken for no floor: then any old release could
/// be had by disturbing the chip.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// There is a chip, and it does not say.
    #[error(
        "the floor cannot be read: {0}; start the machine anew, and if that does not help, clear \
         the TPM in firmware"
    )]
    Unreadable(TpmError),
    /// Firmware does not say.
    #[error("the floor cannot be read: the UEFI variable: {0}; start the machine anew")]
    UnreadableVariable(io::Error),
    /// What lies in its place was not written by us.
    #[error(
        "what the {keeper} keeps as the floor is none: {length} bytes, and not {LENGTH}; {}",
        .keeper.mend()
    )]
    Malformed {
        /// Where it lies.
        keeper: Keeper,
        /// How long it is.
        length: usize,
    },
    /// The chip refuses.
    #[error("the floor was not raised to {0}: {1}")]
    Tpm(u64, TpmError),
    /// Firmware refuses.
    #[error("the floor was not raised to {0}: the UEFI variable: {1}")]
    Variable(u64, io::Error),
}

/// What keeps a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The chip.
    Tpm,
    /// Firmware's memory.
    UefiVariable,
}

impl Keeper {
    /// What its owner can do about what somebody else wrote there.
    fn mend(self) -> &'static str {
        match self {
            Self::Tpm => "clear the TPM in firmware",
            Self::UefiVariable => "delete that variable, or reset firmware to its defaults",
        }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tpm => "TPM",
            Self::UefiVariable => "UEFI variable",
        })
    }
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

/// Bytes of a floor, the highest first.
const LENGTH: usize = size_of::<u64>();

/// A floor's bytes; 0 where none was ever written.
fn version(keeper: Keeper, bytes: Option<Vec<u8>>) -> Result<u64, FloorError> {
    let Some(bytes) = bytes else { return Ok(0) };
    let malformed = |bytes: Vec<u8>| FloorError::Malformed { keeper, length: bytes.len() };
    <[u8; LENGTH]>::try_from(bytes).map(u64::from_be_bytes).map_err(malformed)
}

fn in_chip(mut tpm: Tpm) -> Result<Floor, FloorError> {
    let bytes = tpm.load(index::FLOOR).map_err(FloorError::Unreadable)?;
    version(Keeper::Tpm, bytes).map(Floor::Tpm)
}

/// Reads the floor.
///
/// # Errors
/// [`FloorError`], where there is something to keep it that does not say what it is.
pub fn read(kernel: &dyn Kernel) -> Result<Floor, FloorError> {
    let no_chip = match kernel.tpm() {
        Ok(tpm) => return in_chip(tpm),
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        Err(error) => return Err(FloorError::Unreadable(error.into())),
    };
    match variable::read(kernel, variable::FLOOR) {
        Ok(bytes) => version(Keeper::UefiVariable, bytes).map(Floor::UefiVariable),
        // Without UEFI there is no folder of it, and without the module no file system.
        Err(error) if variable::absent(kernel) => {
            Ok(Floor::None(format!("no TPM ({no_chip}), and no UEFI variables ({error})")))
        }
        Err(error) => Err(FloorError::UnreadableVariable(error)),
    }
}

/// Raises the floor; one that is as high already stays.
///
/// # Errors
/// [`FloorError`]. Where nothing could keep it, that is no error but what is given.
pub fn raise(kernel: &dyn Kernel, to: u64) -> Result<Floor, FloorError> {
    let floor = read(kernel)?;
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
    use tpm::Transport;

    /// A chip that answers each command alike.
    struct Says(Vec<u8>);

    impl Transport for Says {
        fn transmit(&mut self, _: &[u8]) -> io::Result<Vec<u8>> {
            Ok(self.0.clone())
        }
    }

    /// What a chip makes of the floor that answers with this response code alone.
    fn answered(code: u32) -> Result<Floor, FloorError> {
        in_chip(Tpm::new(Says([&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat())))
    }

    #[test]
    fn a_chip_without_the_index_has_no_floor_yet_and_one_that_fails_is_not_passed_over() {
        // `code::HANDLE` of the first handle.
        assert_eq!(answered(0x18B).unwrap(), Floor::Tpm(0));
        // Failure mode, lockout, a locked index.
        for code in [0x101, 0x921, code::NV_LOCKED] {
            let error = answered(code).unwrap_err();
            assert!(matches!(error, FloorError::Unreadable(_)), "{error}");
            assert!(error.to_string().contains("the floor cannot be read"), "{error}");
        }
        let cut = in_chip(Tpm::new(Says(vec![0x80, 1])));
        assert!(matches!(cut, Err(FloorError::Unreadable(_))), "{cut:?}");
    }

    #[test]
    fn a_value_of_another_length_is_no_floor() {
        assert_eq!(version(Keeper::Tpm, None).unwrap(), 0);
        assert_eq!(version(Keeper::Tpm, Some(7u64.to_be_bytes().to_vec())).unwrap(), 7);
        for length in [0, 7, 9] {
            let error = version(Keeper::Tpm, Some(vec![1; length])).unwrap_err().to_string();
            assert!(error.contains("the TPM keeps") && error.contains("clear the TPM"), "{error}");
        }
    }

    #[test]
    fn without_a_tpm_the_floor_is_a_variable_that_only_rises() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        assert_eq!(read(&kernel).unwrap(), Floor::UefiVariable(0));
        assert_eq!(raise(&kernel, 7).unwrap(), Floor::UefiVariable(7));
        assert_eq!(raise(&kernel, 3).unwrap(), Floor::UefiVariable(7));
        assert_eq!(read(&kernel).unwrap(), Floor::UefiVariable(7));
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
    fn a_variable_that_is_none_of_ours_is_neither_believed_nor_overwritten() {
        let kernel = Fake::new(&[("/sys/firmware/efi/runtime", "")]);
        variable::write(&kernel, variable::FLOOR, b"nonsense of another length").unwrap();
        for error in [read(&kernel).unwrap_err(), raise(&kernel, 7).unwrap_err()] {
            let wanted = Keeper::UefiVariable;
            let is = matches!(error, FloorError::Malformed { keeper, .. } if keeper == wanted);
            assert!(is && error.to_string().contains("delete that variable"), "{error}");
        }
    }
}
