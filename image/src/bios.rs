//! What a BIOS starts of a small stick, as a stick and as a CD: ISOLINUX (syslinux 6), which reads kernel
//! and initramfs out of the UKI in the stick's EFI System Partition, so that nothing lies there twice.
//!
//! A BIOS vouches for nothing: who starts a medium so trusts who wrote it. The owner's record comes as an
//! archive behind the initramfs, at the path where systemd's stub puts it by UEFI.

use crate::{
    cpio::Tree,
    el_torito::{self, Boots, File, Platform, SECTOR},
    uki::{self, UkiError},
};
use protocol::medium::{RECORD_FILE, blank};
use std::ops::Range;

/// The packages with it, and where it is in them.
pub const ISOLINUX_PACKAGE: &str = "isolinux";
/// What a CD's BIOS loads.
pub const ISOLINUX: &str = "usr/lib/ISOLINUX/isolinux.bin";
/// The master boot record that loads it from a stick.
pub const MASTER: &str = "usr/lib/ISOLINUX/isohdpfx.bin";
/// The package with its module.
pub const MODULES_PACKAGE: &str = "syslinux-common";
/// The module that it does its work by.
pub const MODULE: &str = "usr/lib/syslinux/modules/bios/ldlinux.c32";

/// The volume's names. ISOLINUX looks for the first two.
const CONFIGURATION_FILE: &str = "ISOLINUX.CFG";
const MODULE_FILE: &str = "LDLINUX.C32";
const LOADER_FILE: &str = "ISOLINUX.BIN";
const KERNEL_FILE: &str = "VMLINUZ.BIN";
const MICROCODE_FILE: &str = "UCODE.IMG";
const INITRAMFS_FILE: &str = "INITRD.IMG";
const RECORD_ARCHIVE: &str = "RECORD.IMG";
/// The most that ISOLINUX takes as one line.
const MAX_LINE: usize = 2_047;
/// The master boot record's program, and where it is told the loader's place: a sector of 512 bytes.
const PROGRAM: Range<usize> = 0..432;
const LOADER_AT: Range<usize> = 432..440;
/// The second entry of the partition table. Some BIOSes boot from no disk of which none is active
/// (Fujitsu P772, HP ProBook 6570b): this one is, and is of no partition, one sector long, so that all
/// who look for a GPT find its protective one as they want it (UEFI 2.10, 5.2.3).
const SECOND: Range<usize> = 462..478;
const ACTIVE: [u8; 16] = [0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0];
/// What the loader is told of itself: behind its first eight bytes (mkisofs(8), -boot-info-table).
const TABLE: Range<usize> = 8..64;
/// Four sectors of 512 bytes are loaded by firmware; the loader fetches what is left of itself.
const LOADED: u64 = 2_048;
/// What marks a loader that can be started from a master boot record.
const HYBRID: Range<usize> = 64..68;
const HYBRID_MARK: [u8; 4] = 0x7078_c0fbu32.to_le_bytes();

/// ISOLINUX, as its packages have it.
#[derive(Clone, Debug)]
pub struct Loader {
    /// [`ISOLINUX`].
    pub isolinux: Vec<u8>,
    /// [`MASTER`].
    pub master: Vec<u8>,
    /// [`MODULE`].
    pub module: Vec<u8>,
}

/// Why a disk cannot be made to start by BIOS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BiosError {
    /// What it is to start is no UKI.
    #[error("the UKI: {0}")]
    Uki(#[from] UkiError),
    /// A UKI without a kernel, say.
    #[error("the UKI has no section {0}; make it anew by `cargo xtask medium`")]
    NoSection(&'static str),
    /// The UKI's command line is no text, or too long for ISOLINUX.
    #[error("the UKI's command line is no text, or longer than ISOLINUX takes ({MAX_LINE} bytes)")]
    CommandLine,
    /// A UKI of another layout.
    #[error("{0} begins in the midst of a CD's sector; make the UKI anew by `cargo xtask medium`")]
    Misaligned(&'static str),
    /// The loader does not fit before the first partition.
    #[error("ISOLINUX is too large for its place; take that of another {ISOLINUX_PACKAGE}")]
    TooLarge,
    /// A loader that is none, or an old one.
    #[error("{0} is not what starts from a stick; take that of another {ISOLINUX_PACKAGE}")]
    NotALoader(&'static str),
}

/// Makes a disk start by BIOS too. Its EFI System Partition lies at `system`, and in it, at `uki`, the
/// UKI, whole and in one piece.
pub(crate) fn add(
    disk: &mut [u8],
    system: &Range<usize>,
    uki: &Range<usize>,
    loader: &Loader,
) -> Result<(), BiosError> {
    let program = disk.get(uki.clone()).unwrap_or_default();
    let sections = uki::sections(program)?;
    let section = |name: &str| {
        let found = sections.iter().find(|section| section.name == name);
        found.map(|section| section.content.clone())
    };
    let wanted = |name: &'static str| section(name).ok_or(BiosError::NoSection(name));
    let line = program.get(wanted(".cmdline")?).unwrap_or_default().to_vec();
    let line = String::from_utf8(line).map_err(|_| BiosError::CommandLine)?;

    let inside = |name, section: Range<usize>| File {
        name,
        at: (uki.start + section.start) as u64,
        length: section.len() as u64,
    };
    let mut files = vec![inside(KERNEL_FILE, wanted(".linux")?)];
    // In the stub's order.
    files.extend(section(".ucode").map(|ucode| inside(MICROCODE_FILE, ucode)));
    files.push(inside(INITRAMFS_FILE, wanted(".initrd")?));
    if let Some(file) = files.iter().find(|file| !file.at.is_multiple_of(SECTOR as u64)) {
        return Err(BiosError::Misaligned(file.name));
    }
    let archives = files[1..].iter().map(|file| file.name).chain([RECORD_ARCHIVE]);
    let configuration = configuration(&line, &archives.collect::<Vec<_>>())?;

    let mut record = Tree::default();
    // The path is plain, and nothing else is there.
    let _ = record.file(RECORD_FILE, blank(), false);
    let own = [
        (LOADER_FILE, loader.isolinux.clone()),
        (MODULE_FILE, loader.module.clone()),
        (CONFIGURATION_FILE, configuration),
        (RECORD_ARCHIVE, record.to_newc()),
    ];
    let mut at = el_torito::END * SECTOR;
    for (name, content) in own {
        let place = at..at + content.len();
        if place.end > system.start {
            return Err(BiosError::TooLarge);
        }
        let content = match name {
            LOADER_FILE => told(content, at)?,
            _ => content,
        };
        disk[place.clone()].copy_from_slice(&content);
        files.push(File { name, at: place.start as u64, length: place.len() as u64 });
        at = place.end.next_multiple_of(SECTOR);
    }

    let bios =
        Boots { platform: Platform::Bios, at: (el_torito::END * SECTOR) as u64, length: LOADED };
    let efi =
        Boots { platform: Platform::Efi, at: system.start as u64, length: system.len() as u64 };
    el_torito::add(disk, &files, &[bios, efi]);
    let master = loader.master.get(PROGRAM).ok_or(BiosError::NotALoader(MASTER))?;
    disk[PROGRAM].copy_from_slice(master);
    disk[LOADER_AT].copy_from_slice(&(bios.at / 512).to_le_bytes());
    disk[SECOND].copy_from_slice(&ACTIVE);
    Ok(())
}

/// What ISOLINUX is to do: all there is, at once.
fn configuration(line: &str, archives: &[&str]) -> Result<Vec<u8>, BiosError> {
    let text = format!(
        "DEFAULT aliaos\nPROMPT 0\nNOESCAPE 1\nLABEL aliaos\nLINUX {KERNEL_FILE}\nINITRD {}\nAPPEND {line}\n",
        archives.join(",")
    );
    match text.lines().all(|line| line.len() <= MAX_LINE) {
        true => Ok(text.into_bytes()),
        false => Err(BiosError::CommandLine),
    }
}

/// The loader, told where it lies on the disk.
fn told(mut loader: Vec<u8>, at: usize) -> Result<Vec<u8>, BiosError> {
    if loader.get(HYBRID) != Some(&HYBRID_MARK) {
        return Err(BiosError::NotALoader(ISOLINUX));
    }
    let length = loader.len();
    loader.resize(length.next_multiple_of(4), 0);
    let words = loader[TABLE.end..].as_chunks::<4>().0.iter();
    let sum = words.fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
    loader.truncate(length);
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let table = [number(el_torito::PRIMARY), number(at / SECTOR), number(length), sum];
    loader[TABLE].fill(0);
    let table = table.map(u32::to_le_bytes).concat();
    loader[TABLE.start..TABLE.start + table.len()].copy_from_slice(&table);
    Ok(loader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader() -> Vec<u8> {
        let mut loader: Vec<u8> = (0..150u8).collect();
        loader[HYBRID].copy_from_slice(&HYBRID_MARK);
        loader
    }

    #[test]
    fn a_loader_knows_where_it_lies_and_its_own_sum() {
        let told = told(loader(), 24 * SECTOR).unwrap();
        assert_eq!(told.len(), 150);
        assert_eq!(told[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(told[8..20], [16, 0, 0, 0, 24, 0, 0, 0, 150, 0, 0, 0]);
        let mut padded = told.clone();
        padded.resize(152, 0);
        let words = padded[64..].as_chunks::<4>().0.iter();
        let sum = words.fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
        assert_eq!(told[20..24], sum.to_le_bytes());
        assert_eq!(told[24..64], [0; 40]);
        assert_eq!(told[64..], loader()[64..]);
    }

    #[test]
    fn what_is_no_loader_or_too_long_a_line_is_refused() {
        for bytes in [vec![], vec![0; 40], vec![0; 200]] {
            assert!(told(bytes, 0).is_err());
        }
        assert!(configuration(&"x".repeat(2_100), &[]).is_err());
        let text = String::from_utf8(configuration("a=b", &["A.IMG", "B.IMG"]).unwrap()).unwrap();
        assert!(text.contains("\nINITRD A.IMG,B.IMG\nAPPEND a=b\n"), "{text}");
    }
}
