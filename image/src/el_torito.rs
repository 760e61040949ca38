//! The same bytes as a stick and as a CD: before its partitions a small stick has an ISO 9660 volume
//! (ECMA-119) and El Torito's catalogue (1.0, and UEFI 2.10, 13.3.2), which names what firmware boots
//! from. The volume's files lie somewhere on the disk already: inside a partition, too.
//!
//! ECMA-119 leaves the first 32 KiB to others, and there the partition table lies; what is here ends
//! before the first partition.

/// A CD's sector, in bytes.
pub(crate) const SECTOR: usize = 2_048;
/// The volume's descriptor.
pub(crate) const PRIMARY: usize = 16;
const BOOT_RECORD: usize = 17;
const TERMINATOR: usize = 18;
const PATHS_LITTLE: usize = 19;
const PATHS_BIG: usize = 20;
const ROOT: usize = 21;
const CATALOGUE: usize = 22;
/// The first sector behind all this.
pub(crate) const END: usize = CATALOGUE + 1;

/// The length of a directory's record but for its name.
const RECORD: usize = 33;
/// The length of a path table of the root alone.
const PATHS: usize = 10;
/// What El Torito's catalogue counts in, in bytes.
const VIRTUAL: u64 = 512;
/// The length of an entry of that catalogue.
const ENTRY: usize = 32;

/// A file of the volume's root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Capital letters, digits and a dot (7.5.1), without the version.
    pub(crate) name: &'static str,
    /// Where it begins on the disk: a multiple of [`SECTOR`].
    pub(crate) at: u64,
    /// Its length in bytes.
    pub(crate) length: u64,
}

/// What firmware of some kind boots from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boots {
    /// By whom it is started.
    pub(crate) platform: Platform,
    /// Where it begins on the disk: a multiple of [`SECTOR`].
    pub(crate) at: u64,
    /// How many bytes of it the firmware is told of.
    pub(crate) length: u64,
}

/// Kinds of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// It loads the first sectors to 0x7c00, and starts them.
    Bios = 0,
    /// It looks for `EFI/BOOT` in a file system.
    Efi = 0xef,
}

/// Writes a volume of `files`, at most a sector of records, and the catalogue of `boots`, one or two,
/// BIOS first. The disk is longer than [`END`] sectors.
pub(crate) fn add(disk: &mut [u8], files: &[File], boots: &[Boots]) {
    let sectors = number(disk.len() / SECTOR);
    disk[PRIMARY * SECTOR..END * SECTOR].fill(0);
    let mut put = |sector: usize, offset: usize, bytes: &[u8]| {
        let from = sector * SECTOR + offset;
        disk[from..from + bytes.len()].copy_from_slice(bytes);
    };
    for (sector, kind) in [(PRIMARY, 1), (BOOT_RECORD, 0), (TERMINATOR, 255)] {
        put(sector, 0, &[&[kind][..], b"CD001\x01"].concat());
    }

    // 8.4: names in spaces, numbers both ways round.
    put(PRIMARY, 8, &[b' '; 64]);
    put(PRIMARY, 40, b"ALIAOS");
    put(PRIMARY, 80, &both32(sectors));
    put(PRIMARY, 120, &both16(1));
    put(PRIMARY, 124, &both16(1));
    put(PRIMARY, 128, &both16(SECTOR as u16));
    put(PRIMARY, 132, &both32(PATHS as u32));
    put(PRIMARY, 140, &number(PATHS_LITTLE).to_le_bytes());
    put(PRIMARY, 148, &number(PATHS_BIG).to_be_bytes());
    put(PRIMARY, 156, &directory(0));
    put(PRIMARY, 190, &[b' '; 623]);
    // Four dates that are not given: no clock is read.
    for date in 0..4 {
        put(PRIMARY, 813 + date * 17, &[b'0'; 16]);
    }
    put(PRIMARY, 881, &[1]);

    put(BOOT_RECORD, 7, b"EL TORITO SPECIFICATION");
    put(BOOT_RECORD, 71, &number(CATALOGUE).to_le_bytes());

    // 9.4: one byte of name, no attributes, the root's own place, itself its parent.
    let root = number(ROOT);
    put(PATHS_LITTLE, 0, &[&[1, 0][..], &root.to_le_bytes(), &[1, 0, 0, 0]].concat());
    put(PATHS_BIG, 0, &[&[1, 0][..], &root.to_be_bytes(), &[0, 1, 0, 0]].concat());
    // 9.3: in the order of their names, behind the two of the directory itself.
    let mut files = files.to_vec();
    files.sort_by_key(|file| file.name);
    let own = [directory(0), directory(1)];
    let records = own.into_iter().chain(files.iter().map(|file| {
        let place = file.at / SECTOR as u64;
        record(&format!("{};1", file.name), place as u32, file.length as u32, 0)
    }));
    put(ROOT, 0, &records.flatten().take(SECTOR).collect::<Vec<u8>>());

    let Some((first, others)) = boots.split_first() else { return };
    let mut validation = [0; ENTRY];
    validation[..2].copy_from_slice(&[1, first.platform as u8]);
    validation[30..].copy_from_slice(&[0x55, 0xaa]);
    let words = validation.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    put(CATALOGUE, 0, &validation);
    put(CATALOGUE, ENTRY, &entry(first));
    if let [other, ..] = others {
        // The last header, of one entry.
        put(CATALOGUE, 2 * ENTRY, &[0x91, other.platform as u8, 1]);
        put(CATALOGUE, 3 * ENTRY, &entry(other));
    }
}

/// Bootable, no emulation; a length that has no room here is told as 0, up to the volume's end.
fn entry(boots: &Boots) -> [u8; ENTRY] {
    let length = u16::try_from(boots.length.div_ceil(VIRTUAL)).unwrap_or(0);
    let place = u32::try_from(boots.at / SECTOR as u64).unwrap_or(0);
    let mut entry = [0; ENTRY];
    entry[0] = 0x88;
    entry[6..8].copy_from_slice(&length.to_le_bytes());
    entry[8..12].copy_from_slice(&place.to_le_bytes());
    entry
}

/// 9.1: the root's own record (0), and its parent's, which is the same (1).
fn directory(name: u8) -> Vec<u8> {
    let name = [name];
    let name = std::str::from_utf8(&name).unwrap_or_default();
    record(name, number(ROOT), SECTOR as u32, 2)
}

/// 9.1: what lies at a sector.
fn record(name: &str, sector: u32, length: u32, flags: u8) -> Vec<u8> {
    let mut record = vec![0; (RECORD + name.len()).next_multiple_of(2)];
    record[0] = record.len() as u8;
    record[2..10].copy_from_slice(&both32(sector));
    record[10..18].copy_from_slice(&both32(length));
    record[25] = flags;
    record[28..32].copy_from_slice(&both16(1));
    record[32] = name.len() as u8;
    record[RECORD..RECORD + name.len()].copy_from_slice(name.as_bytes());
    record
}

/// Sectors of what lies in memory.
fn number(sectors: usize) -> u32 {
    u32::try_from(sectors).unwrap_or(u32::MAX)
}

fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFI: Boots = Boots { platform: Platform::Efi, at: 1 << 20, length: 2 << 20 };

    fn disk(files: &[File], boots: &[Boots]) -> Vec<u8> {
        let mut disk = vec![7; 4 << 20];
        add(&mut disk, files, boots);
        disk
    }

    fn at(disk: &[u8], sector: usize, offset: usize, length: usize) -> &[u8] {
        &disk[sector * SECTOR + offset..sector * SECTOR + offset + length]
    }

    fn sum(entry: &[u8]) -> u16 {
        let words = entry.chunks(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
        words.fold(0u16, u16::wrapping_add)
    }

    #[test]
    fn the_catalogue_names_the_partition_and_its_sum_is_right() {
        let disk = disk(&[], &[EFI]);
        assert!(disk[..PRIMARY * SECTOR].iter().all(|byte| *byte == 7), "the table is left alone");
        assert!(disk[END * SECTOR..].iter().all(|byte| *byte == 7), "so is what lies behind");
        assert_eq!(at(&disk, PRIMARY, 0, 7), b"\x01CD001\x01");
        assert_eq!(at(&disk, PRIMARY, 80, 8), [0, 8, 0, 0, 0, 0, 8, 0]);
        assert_eq!(at(&disk, BOOT_RECORD, 7, 23), b"EL TORITO SPECIFICATION");
        assert_eq!(at(&disk, BOOT_RECORD, 71, 4), [22, 0, 0, 0]);
        let validation = at(&disk, CATALOGUE, 0, 32);
        assert_eq!((sum(validation), &validation[..2]), (0, &[1, 0xef][..]));
        // 4,096 blocks of 512 bytes from the CD's sector 512 on.
        assert_eq!(at(&disk, CATALOGUE, 32, 12), [0x88, 0, 0, 0, 0, 0, 0, 16, 0, 2, 0, 0]);
        assert_eq!(at(&disk, CATALOGUE, 64, 64), [0; 64]);
    }

    #[test]
    fn firmware_of_both_kinds_finds_its_entry() {
        let bios = Boots { platform: Platform::Bios, at: 24 * 2_048, length: 2_048 };
        let disk = disk(&[], &[bios, EFI]);
        let validation = at(&disk, CATALOGUE, 0, 32);
        assert_eq!((sum(validation), &validation[..2]), (0, &[1, 0][..]));
        assert_eq!(at(&disk, CATALOGUE, 32, 12), [0x88, 0, 0, 0, 0, 0, 4, 0, 24, 0, 0, 0]);
        assert_eq!(at(&disk, CATALOGUE, 64, 4), [0x91, 0xef, 1, 0]);
        assert_eq!(at(&disk, CATALOGUE, 96, 12), [0x88, 0, 0, 0, 0, 0, 0, 16, 0, 2, 0, 0]);
    }

    #[test]
    fn files_stand_in_the_root_in_the_order_of_their_names() {
        let file = |name, at, length| File { name, at, length };
        let files = [file("LINUX", 2 << 20, 5_000), file("B.CFG", 49_152, 7)];
        let disk = disk(&files, &[EFI]);
        // Two records of the directory itself.
        let records = at(&disk, ROOT, 2 * 34, 200);
        assert_eq!((records[0], &records[33..40]), (40, &b"B.CFG;1"[..]));
        assert_eq!(records[2..6], [24, 0, 0, 0]);
        let second = &records[40..];
        assert_eq!((second[0], &second[33..40]), (40, &b"LINUX;1"[..]));
        assert_eq!(second[2..10], [0, 4, 0, 0, 0, 0, 4, 0]);
        assert_eq!(second[10..14], 5_000u32.to_le_bytes());
        assert_eq!(second[40], 0);
    }
}
