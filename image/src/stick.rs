//! The content of a stick that firmware boots from: a GPT with an EFI System Partition, FAT32, and an
//! empty partition for the node's key, where its machine has no better place for it.
//!
//! The same bytes for the same files: no clock is read, and the identifiers come of the content.

use crate::el_torito::{self, Boots, Platform};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use gpt::{
    GptConfig,
    disk::LogicalBlockSize,
    mbr::ProtectiveMBR,
    partition::Partition,
    partition_types::{EFI, OperatingSystem, Type},
};
use protocol::boot::KEY_PARTITION;
use std::{
    collections::BTreeMap,
    io::{self, Cursor, Write as _},
    ops::Range,
};
use uuid::Uuid;

const SECTOR: u64 = 512;
/// Where the partition begins, in sectors: 1 MiB, as every partitioning program has it.
const FIRST: u64 = 2_048;
/// What stands behind it: the second copy of the partition table.
const LAST: u64 = 33;
/// The key's partition, in sectors, and its type: one of ours, which no system mounts by itself.
const KEY: u64 = 2_048;
const KEY_TYPE: Uuid = Uuid::from_u128(0xa11a_05d4_6c1e_4d8b_9f2a_3b7e_5c90_d1f7);
/// FAT32 has 65,525 clusters at least.
const LEAST: u64 = 64 << 20;
/// FAT16 has 4,085 to 65,524 clusters. Of a small stick each begins where a CD's sector does.
const SMALLEST_CLUSTER: u64 = el_torito::SECTOR as u64;
const LEAST_SMALL: u64 = 4_200 * SMALLEST_CLUSTER;
const MOST_CLUSTERS: u64 = 65_000;
/// Records of a small stick's root folder, at least, and how many of them have a sector.
const ROOT_RECORDS: u16 = 512;
const RECORDS_OF_SECTOR: u16 = 16;

/// How large a stick's file system is at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// FAT32, as firmware is known to read it.
    Usual,
    /// FAT16, no larger than it has to be, and a CD too: for who fetches it by a line at home. UEFI asks for it on
    /// removable media as well (UEFI 2.10, 13.3).
    Small,
}

/// Why no stick can be made.
#[derive(Debug, thiserror::Error)]
#[error("the stick's file system or partition table: {0}")]
pub struct StickError(String);

impl From<io::Error> for StickError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<gpt::GptError> for StickError {
    fn from(error: gpt::GptError) -> Self {
        Self(error.to_string())
    }
}

/// Makes a stick with files, each a path (`EFI/BOOT/BOOTX64.EFI`) and its content.
pub fn build(files: &[(&str, &[u8])]) -> Result<Vec<u8>, StickError> {
    Ok(of_size(files, Size::Usual)?.disk)
}

/// The same, no larger than it has to be; on a CD it boots too.
pub fn build_small(files: &[(&str, &[u8])]) -> Result<Vec<u8>, StickError> {
    let Made { mut disk, system } = small(files)?;
    let (at, length) = (system.start as u64, system.len() as u64);
    el_torito::add(&mut disk, &[], &[Boots { platform: Platform::Efi, at, length }]);
    Ok(disk)
}

/// A stick, and where its system partition lies.
pub(crate) struct Made {
    pub(crate) disk: Vec<u8>,
    pub(crate) system: Range<usize>,
}

impl Made {
    /// Where a file lies, in one piece: in a file system that was new nothing else can be.
    pub(crate) fn place(&self, content: &[u8]) -> Option<Range<usize>> {
        let places = self.system.clone().step_by(el_torito::SECTOR);
        let mut places = places.map(|at| at..at + content.len());
        places.find(|place| self.disk.get(place.clone()) == Some(content))
    }
}

/// As [`build_small`], and nothing on it yet that a CD starts by.
pub(crate) fn small(files: &[(&str, &[u8])]) -> Result<Made, StickError> {
    of_size(files, Size::Small)
}

fn of_size(files: &[(&str, &[u8])], size: Size) -> Result<Made, StickError> {
    let mut hash = blake3::Hasher::new();
    for (path, content) in files {
        for part in [path.as_bytes(), content] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let identity: [u8; 32] = hash.finalize().into();
    let partition = file_system(files, identity, size)?;
    let sectors = partition.len() as u64 / SECTOR;
    let key = FIRST + sectors;
    let mut disk = Cursor::new(vec![0; ((key + KEY + LAST) * SECTOR) as usize]);

    let all = u32::try_from(key + KEY + LAST - 1).unwrap_or(u32::MAX);
    let protective = ProtectiveMBR::with_lb_size(all);
    protective.overwrite_lba0(&mut disk).map_err(|error| StickError(error.to_string()))?;
    let uuid = |bytes: &[u8]| {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(bytes);
        uuid::Builder::from_random_bytes(sixteen).into_uuid()
    };
    let (first, second): (Uuid, Uuid) = (uuid(&identity[..16]), uuid(&identity[16..]));
    let third = uuid(&blake3::hash(&identity).as_bytes()[..16]);
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(disk, Some(first))?;
    let system = Partition {
        part_type_guid: EFI,
        part_guid: second,
        first_lba: FIRST,
        last_lba: key - 1,
        flags: 0,
        name: "aliaOS".into(),
    };
    let keeps = Partition {
        part_type_guid: Type { guid: KEY_TYPE, os: OperatingSystem::Custom("aliaOS".into()) },
        part_guid: third,
        first_lba: key,
        last_lba: key + KEY - 1,
        flags: 0,
        name: KEY_PARTITION.into(),
    };
    table.update_partitions(BTreeMap::from([(1, system), (2, keeps)]))?;
    let mut bytes = table.write()?.into_inner();
    let at = (FIRST * SECTOR) as usize;
    let system = at..at + partition.len();
    bytes[system.clone()].copy_from_slice(&partition);
    Ok(Made { disk: bytes, system })
}

/// The package with the distribution's shim, signed by Microsoft, and shim in it.
pub const SHIM_PACKAGE: &str = "shim-signed";
/// See [`SHIM_PACKAGE`].
pub const SHIM: &str = "usr/lib/shim/shimx64.efi.signed";
/// The package with shim's MokManager, signed by the distribution, and MokManager in it.
pub const MOK_MANAGER_PACKAGE: &str = "shim-helpers-amd64-signed";
/// See [`MOK_MANAGER_PACKAGE`].
pub const MOK_MANAGER: &str = "usr/lib/shim/mmx64.efi.signed";

/// What firmware starts from a stick.
pub const STARTED: &str = "EFI/BOOT/BOOTX64.EFI";
/// Where shim looks for MokManager, and for what it starts: these names alone.
pub const MOK_MANAGER_FILE: &str = "EFI/BOOT/mmx64.efi";
/// See [`MOK_MANAGER_FILE`].
pub const SHIM_STARTS: &str = "EFI/BOOT/grubx64.efi";
/// Beside the programs: the certificate that MokManager enrols from disk.
pub const MOK_FILE: &str = "aliaos-mok.cer";

/// For firmware with Microsoft's keys: it starts shim, and shim a UKI signed by a key that the
/// machine's user enrolled with MokManager (`mok`, its certificate in DER).
pub fn through_shim(
    shim: &[u8],
    mok_manager: &[u8],
    uki: &[u8],
    mok: &[u8],
) -> Result<Vec<u8>, StickError> {
    build(&[(STARTED, shim), (MOK_MANAGER_FILE, mok_manager), (SHIM_STARTS, uki), (MOK_FILE, mok)])
}

/// For firmware with the owner's keys: it starts the UKI itself.
pub fn owned(uki: &[u8]) -> Result<Vec<u8>, StickError> {
    build(&[(STARTED, uki)])
}

fn file_system(
    files: &[(&str, &[u8])],
    identity: [u8; 32],
    size: Size,
) -> Result<Vec<u8>, StickError> {
    let content: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
    // Room for both tables and for clusters that are not full.
    let (kind, length, cluster) = match size {
        Size::Usual => {
            let length = (content + content / 8 + (4 << 20)).max(LEAST).next_multiple_of(1 << 20);
            (FatType::Fat32, length, SECTOR)
        }
        Size::Small => {
            let length = (content + content / 64 + (256 << 10)).max(LEAST_SMALL);
            let length = length.next_multiple_of(64 << 10);
            let cluster = length.div_ceil(MOST_CLUSTERS).next_power_of_two().max(SMALLEST_CLUSTER);
            (FatType::Fat16, length, cluster)
        }
    };
    let too_large = |_| StickError(format!("{content} bytes are too many for it"));
    let cluster = u32::try_from(cluster).map_err(too_large)?;
    let [a, b, c, d, ..] = identity;
    let formatted = |records: u16| {
        let mut volume = Cursor::new(vec![0; length as usize]);
        let mut options = FormatVolumeOptions::new()
            .fat_type(kind)
            .bytes_per_cluster(cluster)
            .volume_id(u32::from_le_bytes([a, b, c, d]))
            .volume_label(*b"ALIAOS     ");
        if size == Size::Small {
            options = options.max_root_dir_entries(records);
        }
        fatfs::format_volume(&mut volume, options).map(|()| volume)
    };
    let mut volume = formatted(ROOT_RECORDS)?;
    if size == Size::Small {
        // A larger root folder moves the first cluster to where a CD's sector begins.
        let more = (1..=4).map(|sectors| ROOT_RECORDS + sectors * RECORDS_OF_SECTOR);
        for records in more {
            if first_cluster(volume.get_ref()).is_multiple_of(SMALLEST_CLUSTER) {
                break;
            }
            volume = formatted(records)?;
        }
    }
    {
        let system = FileSystem::new(&mut volume, FsOptions::new())?;
        for (path, content) in files {
            let mut folder = system.root_dir();
            let mut parts = path.split('/').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_some() {
                    folder = folder.create_dir(part)?;
                } else {
                    let mut file = folder.create_file(part)?;
                    file.write_all(content)?;
                    file.flush()?;
                }
            }
        }
        system.unmount()?;
    }
    Ok(volume.into_inner())
}

/// Where a FAT16's first cluster begins, in bytes: behind the reserved sectors, the tables and the root
/// folder (Microsoft's FAT specification, 1.03).
fn first_cluster(volume: &[u8]) -> u64 {
    let number = |at: usize| {
        let bytes = volume.get(at..at + 2).and_then(|two| two.try_into().ok());
        u64::from(bytes.map_or(0, u16::from_le_bytes))
    };
    let tables = u64::from(volume.get(16).copied().unwrap_or_default()) * number(22);
    (number(14) + tables + number(17) / u64::from(RECORDS_OF_SECTOR)) * SECTOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    const FILES: [(&str, &[u8]); 2] =
        [("EFI/BOOT/BOOTX64.EFI", &[7; 100_000]), ("EFI/BOOT/grubx64.efi", b"uki")];

    #[test]
    fn a_stick_holds_its_files_in_the_partition_that_firmware_looks_for() {
        let stick = build(&FILES).unwrap();
        let table = GptConfig::new().open_from_device(Cursor::new(stick.clone())).unwrap();
        let entry = &table.partitions()[&1];
        assert_eq!(entry.part_type_guid, EFI);
        let range = entry.first_lba as usize * 512..(entry.last_lba as usize + 1) * 512;
        let volume = Cursor::new(stick[range].to_vec());
        let system = FileSystem::new(volume, FsOptions::new()).unwrap();
        assert_eq!(system.fat_type(), FatType::Fat32);
        for (path, content) in FILES {
            let mut read = Vec::new();
            system.root_dir().open_file(path).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read, content, "{path}");
        }
    }

    #[test]
    fn a_small_stick_is_little_more_than_its_files_whatever_they_take() {
        for length in [100, 20 << 20, 70 << 20] {
            let program: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
            let small = small(&[(STARTED, &program)]).unwrap();
            assert_eq!(small.place(&program).unwrap().start % 2_048, 0);
            let stick = small.disk;
            assert!(stick.len() < program.len() + program.len() / 32 + (12 << 20), "{length}");
            let table = GptConfig::new().open_from_device(Cursor::new(stick.clone())).unwrap();
            let entry = &table.partitions()[&1];
            let range = entry.first_lba as usize * 512..(entry.last_lba as usize + 1) * 512;
            let volume = Cursor::new(stick[range].to_vec());
            let system = FileSystem::new(volume, FsOptions::new()).unwrap();
            assert_eq!(system.fat_type(), FatType::Fat16);
            let mut read = Vec::new();
            system.root_dir().open_file(STARTED).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == program, "{length}");
        }
    }

    #[test]
    fn a_stick_has_an_empty_place_for_a_key() {
        let stick = build(&FILES).unwrap();
        let table = GptConfig::new().open_from_device(Cursor::new(stick.clone())).unwrap();
        let entry = &table.partitions()[&2];
        assert_eq!((entry.name.as_str(), entry.part_type_guid.guid), (KEY_PARTITION, KEY_TYPE));
        let range = entry.first_lba as usize * 512..(entry.last_lba as usize + 1) * 512;
        assert_eq!(range.len(), 1 << 20);
        assert!(stick[range].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_same_files_make_the_same_stick_and_others_another() {
        let stick = build(&FILES).unwrap();
        assert_eq!(build(&FILES).unwrap(), stick);
        let mut others = FILES;
        others[1].1 = b"another";
        let other = build(&others).unwrap();
        // The disk's identifier in the partition table's header.
        assert_ne!(other[512 + 56..512 + 72], stick[512 + 56..512 + 72]);
    }
}
