//! The same bytes as a stick and as a CD: before its partitions a small stick has an ISO 9660 volume
//! (ECMA-119) with no file in it and El Torito's catalogue (1.0, and UEFI 2.10, 13.3.2), which names
//! the stick's EFI System Partition as what firmware boots from.
//!
//! ECMA-119 leaves the first 32 KiB to others, and there the partition table lies; what is here ends
//! before the first partition.

/// A CD's sector, in bytes.
pub(crate) const SECTOR: usize = 2_048;
const PRIMARY: usize = 16;
const BOOT_RECORD: usize = 17;
const TERMINATOR: usize = 18;
const PATHS_LITTLE: usize = 19;
const PATHS_BIG: usize = 20;
const ROOT: usize = 21;
const CATALOGUE: usize = 22;
/// Where the first partition may begin.
pub(crate) const END: usize = CATALOGUE + 1;

/// The length of a directory's record whose name has one byte.
const RECORD: usize = 34;
/// The length of a path table of the root alone.
const PATHS: usize = 10;
/// Of a platform that boots by UEFI.
const EFI: u8 = 0xef;
/// What El Torito's catalogue counts in, in bytes.
const VIRTUAL: u64 = 512;

/// Writes a volume and the catalogue that names what lies at `at`, `length` bytes long. The disk is
/// longer than [`END`] sectors; `at` is where a sector begins.
pub(crate) fn add(disk: &mut [u8], at: u64, length: u64) {
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
    put(ROOT, 0, &directory(0));
    put(ROOT, RECORD, &directory(1));

    let mut first = [0; 32];
    first[..2].copy_from_slice(&[1, EFI]);
    first[30..].copy_from_slice(&[0x55, 0xaa]);
    let words = first.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
    let sum = words.fold(0u16, u16::wrapping_add);
    first[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    put(CATALOGUE, 0, &first);
    // Bootable, no emulation; a length that has no room here is told as 0, up to the volume's end.
    let length = u16::try_from(length.div_ceil(VIRTUAL)).unwrap_or(0);
    let place = u32::try_from(at / SECTOR as u64).unwrap_or(0);
    put(CATALOGUE, 32, &[0x88]);
    put(CATALOGUE, 32 + 6, &length.to_le_bytes());
    put(CATALOGUE, 32 + 8, &place.to_le_bytes());
}

/// 9.1: the root's own record (0), and its parent's, which is the same (1).
fn directory(name: u8) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    record[0] = RECORD as u8;
    record[2..10].copy_from_slice(&both32(number(ROOT)));
    record[10..18].copy_from_slice(&both32(SECTOR as u32));
    // A directory.
    record[25] = 2;
    record[28..32].copy_from_slice(&both16(1));
    record[32] = 1;
    record[33] = name;
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

    #[test]
    fn the_catalogue_names_the_partition_and_its_sum_is_right() {
        let mut disk = vec![7; 4 << 20];
        add(&mut disk, 1 << 20, 2 << 20);
        assert!(disk[..PRIMARY * SECTOR].iter().all(|byte| *byte == 7), "the table is left alone");
        assert!(disk[END * SECTOR..].iter().all(|byte| *byte == 7), "so is what lies behind");
        let at = |sector: usize, offset: usize, length: usize| {
            &disk[sector * SECTOR + offset..sector * SECTOR + offset + length]
        };
        assert_eq!(at(PRIMARY, 0, 7), b"\x01CD001\x01");
        assert_eq!(at(PRIMARY, 80, 8), [0, 8, 0, 0, 0, 0, 8, 0]);
        assert_eq!(at(BOOT_RECORD, 7, 23), b"EL TORITO SPECIFICATION");
        assert_eq!(at(BOOT_RECORD, 71, 4), [22, 0, 0, 0]);
        let sum = at(CATALOGUE, 0, 32)
            .chunks(2)
            .fold(0u16, |sum, word| sum.wrapping_add(u16::from_le_bytes([word[0], word[1]])));
        assert_eq!((sum, at(CATALOGUE, 0, 2)), (0, &[1, 0xef][..]));
        // 4,096 blocks of 512 bytes from the CD's sector 512 on.
        assert_eq!(at(CATALOGUE, 32, 12), [0x88, 0, 0, 0, 0, 0, 0, 16, 0, 2, 0, 0]);
    }
}
