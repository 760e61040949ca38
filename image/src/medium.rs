//! The medium for miners at home: a stick whose firmware starts the site's UKI, with a place for the
//! owner's record beside it, where systemd's stub finds it (`docs/home.md`).

use crate::{
    bios::{self, BiosError, Loader},
    stick::{self, MOK_FILE, MOK_MANAGER_FILE, SHIM_STARTS, STARTED, StickError},
};
use protocol::medium::{RECORD_FILE, blank};

/// Where a record lies for a UKI of that path (systemd-stub(7)): a credential of this UKI alone.
pub fn record_of(uki: &str) -> String {
    let name = RECORD_FILE.rsplit('/').next().unwrap_or_default();
    format!("{uki}.extra.d/{name}")
}

/// Why there is no medium.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// No stick.
    #[error(transparent)]
    Stick(#[from] StickError),
    /// Not by BIOS.
    #[error("by BIOS: {0}")]
    Bios(#[from] BiosError),
    /// The file system did not take the UKI in one piece.
    #[error(
        "the stick's file system has the UKI in pieces, where a BIOS's loader does not find it"
    )]
    InPieces,
}

/// For firmware with the network's keys, or without Secure Boot, or a BIOS: it starts the UKI itself.
///
/// # Errors
/// Where it is too large, or `uki` is none.
pub fn owned(uki: &[u8], loader: &Loader) -> Result<Vec<u8>, MediumError> {
    let files = [(STARTED, uki), (&record_of(STARTED), &blank())];
    with_bios(&files, uki, loader)
}

/// For firmware with Microsoft's keys, as [`stick::through_shim`], or a BIOS.
///
/// # Errors
/// Where it is too large, or `uki` is none.
pub fn through_shim(
    shim: &[u8],
    mok_manager: &[u8],
    uki: &[u8],
    mok: &[u8],
    loader: &Loader,
) -> Result<Vec<u8>, MediumError> {
    let files = [
        (stick::STARTED, shim),
        (MOK_MANAGER_FILE, mok_manager),
        (SHIM_STARTS, uki),
        (&record_of(SHIM_STARTS), &blank()),
        (MOK_FILE, mok),
    ];
    with_bios(&files, uki, loader)
}

fn with_bios(files: &[(&str, &[u8])], uki: &[u8], loader: &Loader) -> Result<Vec<u8>, MediumError> {
    let mut small = stick::small(files)?;
    let place = small.place(uki).ok_or(MediumError::InPieces)?;
    bios::add(&mut small.disk, &small.system, &place, loader)?;
    Ok(small.disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uki::{self, Parts};
    use protocol::{
        SecretKey,
        medium::{Grant, Granted, Record, fill},
    };
    use std::collections::BTreeMap;

    /// Bytes in the places of ISOLINUX's.
    fn loader() -> Loader {
        let mut isolinux = vec![1; 40_000];
        isolinux[64..68].copy_from_slice(&0x7078_c0fbu32.to_le_bytes());
        Loader { isolinux, master: vec![0xeb; 432], module: vec![3; 120_000] }
    }

    fn uki(kernel: &[u8]) -> Vec<u8> {
        let stub = uki::tests::stub(&[(".text", b"code"), (".sbat", b"sbat,1\n")]);
        uki::build(&Parts {
            stub: &stub,
            os_release: "ID=aliaos\n",
            command_line: "alia.chain=alia-test panic=10",
            kernel_release: "6.12.0",
            kernel,
            initramfs: &[9; 2_000_003],
            microcode: b"",
        })
        .unwrap()
    }

    #[test]
    fn by_bios_a_medium_has_all_that_its_loader_asks_for() {
        let (kernel, loader) = ((0..99_999u32).map(|at| at as u8).collect::<Vec<_>>(), loader());
        let medium = owned(&uki(&kernel), &loader).unwrap();
        assert_eq!(medium[..432], loader.master);
        assert_eq!(medium[510..512], [0x55, 0xaa]);
        // What says GPT stays as it was, and beside it an entry of no partition is active.
        assert_eq!((medium[446], medium[450], medium[462], medium[466]), (0, 0xee, 0x80, 0));
        let number = |at: usize| u32::from_le_bytes(medium[at..at + 4].try_into().unwrap());
        let started = number(432) as usize * 512;
        assert_eq!(medium[started + 64..started + 40_000], loader.isolinux[64..]);
        assert_eq!(number(started + 12) as usize * 2_048, started);
        // The root folder of the volume, behind its own two records.
        let mut at = 21 * 2_048 + 68;
        let mut files = BTreeMap::new();
        while medium[at] != 0 {
            let record = &medium[at..at + usize::from(medium[at])];
            let name = &record[33..33 + usize::from(record[32])];
            let (from, length) = (number(at + 2) as usize * 2_048, number(at + 10) as usize);
            let name = String::from_utf8(name.to_vec()).unwrap();
            files.insert(name, &medium[from..from + length]);
            at += record.len();
        }
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        let wanted = ["INITRD.IMG;1", "ISOLINUX.BIN;1", "ISOLINUX.CFG;1", "LDLINUX.C32;1"];
        assert_eq!(names, [&wanted[..], &["RECORD.IMG;1", "VMLINUZ.BIN;1"]].concat());
        assert!(files["VMLINUZ.BIN;1"] == kernel && files["INITRD.IMG;1"] == [9; 2_000_003]);
        assert!(files["LDLINUX.C32;1"] == loader.module);
        let said = String::from_utf8_lossy(files["ISOLINUX.CFG;1"]);
        assert!(said.contains("\nAPPEND alia.chain=alia-test panic=10\n"), "{said}");
        assert!(said.contains("\nINITRD INITRD.IMG,RECORD.IMG\n"), "{said}");
        assert!(files["RECORD.IMG;1"].starts_with(b"070701"));
        assert!(owned(&[7; 3_000], &loader).is_err(), "no UKI");
    }

    #[test]
    fn a_medium_has_its_places_for_its_owner_whatever_lies_around_them() {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]);
        let (token, provisioner) = (key(2).public(), key(4).public());
        let grant = Grant { token, provisioner, issued: 1, expires: 2 };
        let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(1));
        let record = Record { token: key(2), granted };
        // Files of no whole clusters before and behind it.
        let (uki, loader) = (uki(&[7; 3_000_001]), loader());
        for medium in
            [owned(&uki, &loader), through_shim(&[1; 777], &[2; 5], &uki, &[3; 99], &loader)]
        {
            let mut medium = medium.unwrap();
            // By UEFI, and by BIOS.
            assert_eq!(fill(&mut medium, &record), Ok(2));
        }
        assert_eq!(record_of("EFI/a.efi"), "EFI/a.efi.extra.d/alia-medium.cred");
    }
}
