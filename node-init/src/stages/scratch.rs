//! Room for what does not fit in memory, on disks: swap, encrypted with a key that is made for it,
//! that nobody else ever has, and that is gone with the boot.
//!
//! Swap and no file system: nothing of what a disk holds is then ever parsed as one, no program
//! that makes one is in the image, and all that is in memory, tmpfs among it, has the room. The key
//! is 512 random bits for AES-XTS in dm-crypt's plain mode, of which nothing is on the disk.
//!
//! A disk is touched only where the node's settings say `disk` or `erase`, and with `disk` only one
//! that holds nothing: no partitions, and zeros in its first and last [`MARGIN`]. Both margins stay
//! zero, so that the disk is found empty at the next boot too.

use crate::{
    kernel::{Kernel, Mapping, text},
    stages::{
        inventory::{self, SECTOR},
        modules,
    },
};
use protocol::{boot::Scratch, inventory::Disk};
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// What is looked at, and left alone, at both ends of a disk, in bytes: all that partition tables,
/// file systems, RAID and LVM put there to be known by.
pub const MARGIN: u64 = 1 << 20;
/// A smaller disk is not worth it, in bytes.
const LEAST: u64 = 64 << 20;
/// Names of the mapped devices, and so the most disks.
const NAMES: [&str; 8] = [
    "alia-scratch0",
    "alia-scratch1",
    "alia-scratch2",
    "alia-scratch3",
    "alia-scratch4",
    "alia-scratch5",
    "alia-scratch6",
    "alia-scratch7",
];
/// The file system that grows by it.
const TMP: &str = "/tmp";
/// Drivers of it all, where the kernel has them as modules.
const MODULES: [&str; 4] = ["dm_crypt", "xts", "ecb", "aesni_intel"];
const PAGE: usize = 4096;
/// The kernel's limit of 2^32 - 1 pages, short of the last one.
const MAX_SWAP: u64 = (u32::MAX as u64) * PAGE as u64;

/// There is no scratch on a disk.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// No disk may be used.
    #[error(
        "no disk may be used for scratch: {0}; name one by its id with `erase` if what it holds is to be lost"
    )]
    NoDisk(String),
    /// No disk has that id, or several do.
    #[error("{count} disks have the id {id:?} that the settings name; there are {there}")]
    NotOne {
        /// The id.
        id: String,
        /// How many have it.
        count: usize,
        /// The ids of those there are.
        there: String,
    },
    /// The kernel cannot.
    #[error("{step} of {disk} failed: {reason}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The disk.
        disk: String,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// Makes scratch as the settings say; gives what to tell people, nothing where no disk is wanted.
pub fn run(kernel: &dyn Kernel, wanted: &Scratch) -> Result<Option<String>, ScratchError> {
    let (disks, refused) = match wanted {
        Scratch::Memory => return Ok(None),
        Scratch::Disk => empty_disks(kernel),
        Scratch::Erase(id) => (vec![named_disk(kernel, id)?], Vec::new()),
    };
    if disks.is_empty() {
        let why = if refused.is_empty() { "there is none".to_owned() } else { refused.join("; ") };
        return Err(ScratchError::NoDisk(why));
    }
    // What the kernel has built in is no module, and what fails shows in the next step.
    let _ = modules::load(kernel, &MODULES);
    let (mut bytes, mut names) = (0, Vec::new());
    for (disk, name) in disks.iter().zip(NAMES) {
        if matches!(wanted, Scratch::Erase(_)) {
            wipe(kernel, disk)?;
        }
        bytes += swap(kernel, disk, name)?;
        names.push(disk.name.as_str());
    }
    // A quarter of memory, as it was mounted with, and all of the disks.
    let memory = text(kernel, "/proc/meminfo").map_or(0, |text| inventory::memory(&text));
    let _ = kernel.resize(Path::new(TMP), memory / 4 + bytes);
    let mut detail = format!("{:.1} GiB of encrypted swap on ", bytes as f64 / (1u64 << 30) as f64);
    let _ = write!(detail, "{}", names.join(", "));
    if !refused.is_empty() {
        let _ = write!(detail, "; left alone: {}", refused.join("; "));
    }
    Ok(Some(detail))
}

fn path(disk: &Disk) -> PathBuf {
    Path::new("/dev").join(&disk.name)
}

/// Disks that hold nothing, and of the others why not.
fn empty_disks(kernel: &dyn Kernel) -> (Vec<Disk>, Vec<String>) {
    let (mut empty, mut refused) = (Vec::new(), Vec::new());
    for disk in inventory::disks(kernel) {
        match why_not(kernel, &disk) {
            None => empty.push(disk),
            Some(why) => refused.push(format!("{} {why}", disk.name)),
        }
    }
    (empty, refused)
}

/// Why a disk is not to be used; none where it may.
fn why_not(kernel: &dyn Kernel, disk: &Disk) -> Option<&'static str> {
    let folder = Path::new("/sys/block").join(&disk.name);
    let flag = |name: &str| text(kernel, folder.join(name)).is_some_and(|text| text != "0");
    // A disk, a partition of it, or a device over it: each has a folder that says so.
    let below = kernel.list(&folder).unwrap_or_default();
    let partition = |entry: &crate::kernel::Entry| {
        text(kernel, folder.join(&entry.name).join("partition")).is_some()
    };
    if flag("removable") {
        Some("can be taken out")
    } else if flag("ro") {
        Some("is read-only")
    } else if disk.bytes < LEAST {
        Some("is too small")
    } else if below.iter().any(partition) {
        Some("has partitions")
    } else if kernel.list(&folder.join("holders")).is_ok_and(|holders| !holders.is_empty()) {
        Some("is in use")
    } else {
        let ends = [0, disk.bytes - MARGIN];
        let blank = |at: u64| {
            let read = kernel.read_at(&path(disk), at, MARGIN as usize);
            read.map(|bytes| bytes.len() as u64 == MARGIN && bytes.iter().all(|byte| *byte == 0))
        };
        match ends.into_iter().map(blank).collect::<io::Result<Vec<bool>>>() {
            Ok(blank) if blank.iter().all(|blank| *blank) => None,
            Ok(_) => Some("is not empty"),
            Err(_) => Some("cannot be read"),
        }
    }
}

fn named_disk(kernel: &dyn Kernel, id: &str) -> Result<Disk, ScratchError> {
    let disks = inventory::disks(kernel);
    let there: Vec<&str> = disks.iter().map(|disk| disk.id.as_str()).collect();
    let there = if there.is_empty() { "no disks".to_owned() } else { there.join(", ") };
    let mut found: Vec<Disk> =
        disks.iter().filter(|disk| !disk.id.is_empty() && disk.id == id).cloned().collect();
    let count = found.len();
    match found.pop().filter(|disk| count == 1 && disk.bytes >= LEAST) {
        Some(disk) => Ok(disk),
        None => Err(ScratchError::NotOne { id: id.to_owned(), count, there }),
    }
}

/// Overwrites both ends with zeros, so that nothing finds there what was there.
fn wipe(kernel: &dyn Kernel, disk: &Disk) -> Result<(), ScratchError> {
    let zeros = vec![0; MARGIN as usize];
    for at in [0, disk.bytes - MARGIN] {
        kernel.write_at(&path(disk), at, &zeros).map_err(failed("erasing", disk))?;
    }
    Ok(())
}

fn failed(step: &'static str, disk: &Disk) -> impl FnOnce(io::Error) -> ScratchError {
    let disk = disk.name.clone();
    move |reason| ScratchError::Kernel { step, disk, reason }
}

/// Encrypts what lies between a disk's margins, and swaps to it; gives its size in bytes.
fn swap(kernel: &dyn Kernel, disk: &Disk, name: &'static str) -> Result<u64, ScratchError> {
    let bytes = (disk.bytes - 2 * MARGIN).min(MAX_SWAP) / PAGE as u64 * PAGE as u64;
    let mut key = String::new();
    for _ in 0..2 {
        for byte in kernel.random().map_err(failed("making the key", disk))? {
            let _ = write!(key, "{byte:02x}");
        }
    }
    let device = path(disk);
    let parameters = format!("aes-xts-plain64 {key} 0 {} {}", device.display(), MARGIN / SECTOR);
    let sectors = bytes / SECTOR;
    let mapping = Mapping { name, sectors, target: "crypt", parameters, writable: true };
    // What an earlier attempt left would stand in the way.
    let _ = kernel.unmap_device(name);
    let mapped = kernel.map_device(&mapping).map_err(failed("encrypting", disk))?;
    let swapping = || {
        kernel.write_at(&mapped, 0, &header(bytes))?;
        kernel.swap_on(&mapped)
    };
    swapping()
        .inspect_err(|_| drop(kernel.unmap_device(name)))
        .map_err(failed("swapping to", disk))?;
    Ok(bytes)
}

/// A swap area's first page (`union swap_header`, linux/swap.h; as mkswap(8) writes it).
fn header(bytes: u64) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    let last = u32::try_from(bytes / PAGE as u64 - 1).unwrap_or(u32::MAX - 1);
    page[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    page[1028..1032].copy_from_slice(&last.to_ne_bytes());
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    const SIZE: u64 = 128 << 20;

    /// A machine with an NVMe disk whose content is zeros but for these bytes at that place.
    fn machine(at: usize, bytes: &[u8]) -> Fake {
        let sectors = (SIZE / SECTOR).to_string();
        let kernel = Fake::new(&[
            ("/proc/meminfo", "MemTotal: 4096 kB\n"),
            ("/sys/block/nvme0n1/size", &sectors),
            ("/sys/block/nvme0n1/ro", "0\n"),
            ("/sys/block/nvme0n1/removable", "0\n"),
            ("/sys/block/nvme0n1/device/model", "QEMU NVMe Ctrl  \n"),
            ("/sys/block/nvme0n1/device/serial", "S1\n"),
        ]);
        let mut content = vec![0; SIZE as usize];
        content[at..at + bytes.len()].copy_from_slice(bytes);
        kernel.world().files.insert("/dev/nvme0n1".into(), content);
        kernel
    }

    #[test]
    fn without_a_word_in_the_settings_no_disk_is_touched() {
        let kernel = machine(0, &[]);
        assert!(run(&kernel, &Scratch::Memory).unwrap().is_none());
        assert!(kernel.world().mappings.is_empty() && kernel.world().written.is_empty());
    }

    #[test]
    fn an_empty_disk_becomes_swap_under_a_key_of_this_boot() {
        let kernel = machine(0, &[]);
        let told = run(&kernel, &Scratch::Disk).unwrap().unwrap();
        assert_eq!(told, "0.1 GiB of encrypted swap on nvme0n1");
        let world = kernel.world();
        let Mapping { target, sectors, parameters, writable, .. } = &world.mappings[0];
        assert_eq!((*target, *sectors, *writable), ("crypt", (SIZE - 2 * MARGIN) / 512, true));
        let key = format!("{}{}", "01".repeat(32), "02".repeat(32));
        assert_eq!(*parameters, format!("aes-xts-plain64 {key} 0 /dev/nvme0n1 2048"));
        // The disk itself is not written to; the mapped device gets a swap header.
        let (device, at, page) = &world.written[0];
        assert_eq!((device.as_path(), *at, world.written.len()), (Path::new("/dev/dm-0"), 0, 1));
        assert_eq!(&page[PAGE - 10..], b"SWAPSPACE2");
        assert_eq!(page[1028..1032], ((SIZE - 2 * MARGIN) as u32 / 4096 - 1).to_ne_bytes());
        assert_eq!(world.swaps, [PathBuf::from("/dev/dm-0")]);
        assert_eq!(world.sizes, [("/tmp".into(), (1 << 20) + SIZE - 2 * MARGIN)]);
    }

    #[test]
    fn a_disk_that_holds_anything_is_left_alone_with_the_reason() {
        // A partition table, ext4's superblock, LVM's label, a GPT's copy and RAID at the end.
        for at in [510, 1080, 512, SIZE as usize - 512, SIZE as usize - 65_536] {
            let kernel = machine(at, &[0x55]);
            let error = run(&kernel, &Scratch::Disk).unwrap_err().to_string();
            assert!(error.contains("nvme0n1 is not empty") && error.contains("`erase`"), "{error}");
            assert!(kernel.world().mappings.is_empty() && kernel.world().written.is_empty());
        }
        for (file, content, why) in [
            ("nvme0n1p1/partition", "1", "has partitions"),
            ("holders/dm-3/x", "", "is in use"),
            ("ro", "1", "is read-only"),
            ("removable", "1", "can be taken out"),
        ] {
            let kernel = machine(0, &[]);
            let path = Path::new("/sys/block/nvme0n1").join(file);
            kernel.world().files.insert(path, content.into());
            let error = run(&kernel, &Scratch::Disk).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let gone = machine(0, &[]).failing("/dev/nvme0n1", 5);
        assert!(run(&gone, &Scratch::Disk).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn a_disk_is_erased_where_the_settings_name_it_and_no_other() {
        let kernel = machine(510, &[0x55, 0xaa]);
        let id = Scratch::Erase("nvme-QEMU_NVMe_Ctrl_S1".into());
        run(&kernel, &id).unwrap().unwrap();
        let written: Vec<u64> = kernel.world().written.iter().map(|(_, at, _)| *at).collect();
        assert_eq!(written, [0, SIZE - MARGIN, 0]);
        let kernel = machine(510, &[0x55, 0xaa]);
        let error = run(&kernel, &Scratch::Erase("nvme-X".into())).unwrap_err().to_string();
        assert!(error.contains("there are nvme-QEMU_NVMe_Ctrl_S1"), "{error}");
        assert!(kernel.world().written.is_empty());
        assert!(run(&machine(0, &[]), &Scratch::Erase(String::new())).is_err());
    }

    #[test]
    fn a_step_that_fails_leaves_no_mapping_behind() {
        for at in ["alia-scratch0", "/dev/dm-0", "swap"] {
            let kernel = machine(0, &[]).failing(at, 22);
            assert!(run(&kernel, &Scratch::Disk).is_err(), "{at}");
            assert!(kernel.world().mappings.is_empty(), "{at}");
        }
    }
}
