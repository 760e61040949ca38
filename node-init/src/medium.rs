//! A medium that keeps the node's key where a machine has neither TPM nor UEFI variables: a partition
//! of a GPT that is called [`NAME`], as sticks of ours have one.
//!
//! What it is worth: whoever has the medium has the key. No file system lies on it, so nothing of it
//! is parsed but one record: `MAGIC`, the key, and the BLAKE3 of both. Zeros are an empty one;
//! anything else is somebody else's, and is left alone.

use crate::kernel::{Kernel, text};
use protocol::boot::KEY_PARTITION as NAME;
use std::{
    io,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 16] = b"aliaOS node key\n";
const SEED: usize = 32;
const RECORD: usize = MAGIC.len() + SEED + blake3::OUT_LEN;
/// What is written at once: a device takes whole blocks.
const BLOCK: usize = 4096;
/// Mass storage (USB-IF's class codes).
const USB_STORAGE: &str = "08";

/// The medium does not keep a key.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// Which is meant?
    #[error("{0} partitions are called {NAME}; leave one of these media in the machine")]
    Several(usize),
    /// It holds something of somebody else's.
    #[error(
        "{0} holds something else than a key; fill it with zeros if what it holds is to be lost"
    )]
    Foreign(String),
    /// There is nothing to make a key of.
    #[error("the kernel gave no randomness for a key: {0}")]
    Random(io::Error),
    /// It cannot be read or written.
    #[error("{0}: {1}; try another medium")]
    Device(String, io::Error),
}

/// Whether a medium may still come: USB's are asked for what they are a second after they are found.
pub fn may_come(kernel: &dyn Kernel) -> bool {
    let devices = kernel.list(Path::new("/sys/bus/usb/devices")).unwrap_or_default();
    let class = |name: &str| text(kernel, format!("/sys/bus/usb/devices/{name}/bInterfaceClass"));
    devices.iter().any(|entry| class(&entry.name).as_deref() == Some(USB_STORAGE))
}

/// The partition, if there is one.
pub fn find(kernel: &dyn Kernel) -> Result<Option<PathBuf>, MediumError> {
    let devices = kernel.list(Path::new("/sys/class/block")).unwrap_or_default();
    let named = |name: &str| {
        let event = text(kernel, format!("/sys/class/block/{name}/uevent"))?;
        event.lines().find_map(|line| line.strip_prefix("PARTNAME=")).map(|name| name == NAME)
    };
    let mut found = devices.into_iter().filter(|entry| named(&entry.name) == Some(true));
    match (found.next(), found.count()) {
        (None, _) => Ok(None),
        (Some(entry), 0) => Ok(Some(Path::new("/dev").join(entry.name))),
        (Some(_), more) => Err(MediumError::Several(more + 1)),
    }
}

/// The key that the medium has, and whether it had it before; `fresh` where it was empty, which it
/// has from now on.
pub fn key(
    kernel: &dyn Kernel,
    partition: &Path,
    fresh: [u8; SEED],
) -> Result<([u8; SEED], bool), MediumError> {
    let name = || partition.display().to_string();
    let failed = |error| MediumError::Device(name(), error);
    let block = kernel.read_at(partition, 0, BLOCK).map_err(failed)?;
    if let Some(seed) = read(&block) {
        return Ok((seed, true));
    }
    if block.len() < BLOCK || block.iter().any(|byte| *byte != 0) {
        return Err(MediumError::Foreign(name()));
    }
    kernel.write_at(partition, 0, &written(&fresh)).map_err(failed)?;
    let back = kernel.read_at(partition, 0, BLOCK).map_err(failed)?;
    match read(&back) == Some(fresh) {
        true => Ok((fresh, false)),
        false => Err(failed(io::Error::other("it does not hold what was written"))),
    }
}

fn read(block: &[u8]) -> Option<[u8; SEED]> {
    let (record, _) = block.split_at_checked(RECORD)?;
    let (signed, sum) = record.split_at(MAGIC.len() + SEED);
    let seed = signed.strip_prefix(MAGIC)?.try_into().ok()?;
    (blake3::hash(signed).as_bytes() == sum).then_some(seed)
}

fn written(seed: &[u8; SEED]) -> Vec<u8> {
    let mut block = [MAGIC.as_slice(), seed].concat();
    let sum = blake3::hash(&block);
    block.extend(sum.as_bytes());
    block.resize(BLOCK, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    const EVENT: (&str, &str) =
        ("/sys/class/block/sda2/uevent", "DEVTYPE=partition\nPARTN=2\nPARTNAME=alia-key\n");

    #[test]
    fn the_partition_is_found_by_its_name_and_two_are_one_too_many() {
        let other = ("/sys/class/block/sda1/uevent", "PARTNAME=alia-keys\n");
        let kernel = Fake::new(&[other, EVENT]);
        assert_eq!(find(&kernel).unwrap(), Some("/dev/sda2".into()));
        assert!(find(&Fake::new(&[other])).unwrap().is_none());
        let twin = ("/sys/class/block/sdb1/uevent", "PARTNAME=alia-key\n");
        let error = find(&Fake::new(&[EVENT, twin])).unwrap_err().to_string();
        assert!(error.starts_with("2 partitions"), "{error}");
    }

    #[test]
    fn a_stick_may_still_come() {
        let class = "/sys/bus/usb/devices/1-1:1.0/bInterfaceClass";
        assert!(may_come(&Fake::new(&[(class, "08\n")])));
        assert!(!may_come(&Fake::new(&[(class, "03\n")])));
    }

    #[test]
    fn what_is_neither_empty_nor_a_key_is_left_alone() {
        let kernel = Fake::new(&[]);
        kernel.world().files.insert("/dev/sda2".into(), vec![0; BLOCK]);
        assert_eq!(key(&kernel, Path::new("/dev/sda2"), [7; SEED]).unwrap(), ([7; SEED], false));
        for at in [0, MAGIC.len(), RECORD - 1] {
            let mut block = written(&[7; SEED]);
            block[at] ^= 1;
            kernel.world().files.insert("/dev/sda2".into(), block);
            let error = key(&kernel, Path::new("/dev/sda2"), [8; SEED]).unwrap_err().to_string();
            assert!(error.contains("something else than a key"), "{error}");
        }
        kernel.world().files.insert("/dev/sda2".into(), written(&[7; SEED]));
        assert_eq!(key(&kernel, Path::new("/dev/sda2"), [8; SEED]).unwrap(), ([7; SEED], true));
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written(seed: [u8; SEED]) {
            prop_assert_eq!(read(&written(&seed)), Some(seed));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read(&bytes), None);
        }
    }
}
