//! A machine's UEFI variables, written into the flash image that OVMF keeps them in: keys as if
//! somebody had enrolled them at the machine's screen.
//!
//! The layout is EDK2's (`MdeModulePkg/Include/Guid/VariableFormat.h`): the header of a firmware
//! volume, the header of the store, then variables one after the other, aligned to four bytes.
//! OVMF checks it at each start and says so where it is not what it wants.

use image::secure_boot::signature_list;

/// A GUID as it lies in memory: the first three fields little-endian.
pub type Guid = [u8; 16];

const fn guid(a: u32, b: u16, c: u16, d: [u8; 8]) -> Guid {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
}

/// `EFI_GLOBAL_VARIABLE`: PK and KEK.
pub const GLOBAL: Guid =
    guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: db.
pub const IMAGE_SECURITY: Guid =
    guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// EDK2's switch for Secure Boot in its setup menu.
const SECURE_BOOT_ENABLE: Guid =
    guid(0xf0a3_0bc7, 0xaf08, 0x4556, [0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44]);
/// shim's variables.
pub const SHIM: Guid =
    guid(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);

/// `EFI_SYSTEM_NV_DATA_FV_GUID`.
const VOLUME: Guid =
    guid(0xfff1_2b8d, 0x7696, 0x4c8b, [0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50]);
/// `EFI_AUTHENTICATED_VARIABLE_GUID`.
const STORE: Guid =
    guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
const STORE_HEADER: usize = 28;
const VARIABLE_HEADER: usize = 60;
const START: [u8; 2] = [0xaa, 0x55];
/// `VAR_ADDED`: valid.
const ADDED: u8 = 0x3f;

/// Kept when the power is off, and seen by firmware alone.
const NON_VOLATILE: u32 = 1;
const BOOT_SERVICE: u32 = 2;
const RUNTIME: u32 = 4;
/// Written by whoever has the key above it.
const AUTHENTICATED: u32 = 0x20;

/// Why a variable cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Not a store of OVMF's.
    #[error("no store of authenticated UEFI variables, as OVMF_VARS_4M.fd is one")]
    NotAStore,
    /// It has no more room.
    #[error("the store of UEFI variables is full")]
    Full,
}

/// A flash image with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    bytes: Vec<u8>,
    /// Where the next one goes, and where there is no more room.
    free: usize,
    end: usize,
}

impl Variables {
    /// Reads a flash image.
    pub fn read(bytes: Vec<u8>) -> Result<Self, StoreError> {
        let no = StoreError::NotAStore;
        let number = |at: usize, length: usize| -> Option<usize> {
            let field = bytes.get(at..at.checked_add(length)?)?;
            Some(field.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)))
        };
        let guid = |at: usize| bytes.get(at..at.checked_add(16)?);
        let store = number(48, 2).ok_or(no)?;
        let is_store = guid(16) == Some(&VOLUME) && guid(store) == Some(&STORE);
        let size = number(store + 16, 4).filter(|_| is_store).ok_or(no)?;
        let end = store + size;
        if end > bytes.len() {
            return Err(no);
        }
        let mut free = store + STORE_HEADER;
        while bytes.get(free..free + 2) == Some(&START) {
            let (name, data) = (number(free + 36, 4).ok_or(no)?, number(free + 40, 4).ok_or(no)?);
            free = (free + VARIABLE_HEADER + name + data).next_multiple_of(4);
            if free > end {
                return Err(no);
            }
        }
        Ok(Self { bytes, free, end })
    }

    /// The flash image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Enrols an owner's keys, each a certificate in DER, and switches Secure Boot on.
    pub fn enrol(&mut self, pk: &[u8], kek: &[u8], db: &[u8]) -> Result<(), StoreError> {
        let keys = NON_VOLATILE | BOOT_SERVICE | RUNTIME | AUTHENTICATED;
        self.add("db", IMAGE_SECURITY, keys, &signature_list(db))?;
        self.add("KEK", GLOBAL, keys, &signature_list(kek))?;
        self.add("PK", GLOBAL, keys, &signature_list(pk))?;
        self.add("SecureBootEnable", SECURE_BOOT_ENABLE, NON_VOLATILE | BOOT_SERVICE, &[1])
    }

    /// Enrols a Machine Owner Key, a certificate in DER, as shim's MokManager does once its user
    /// has agreed.
    pub fn enrol_mok(&mut self, mok: &[u8]) -> Result<(), StoreError> {
        self.add("MokList", SHIM, NON_VOLATILE | BOOT_SERVICE, &signature_list(mok))
    }

    fn add(
        &mut self,
        name: &str,
        vendor: Guid,
        attributes: u32,
        data: &[u8],
    ) -> Result<(), StoreError> {
        let name: Vec<u8> =
            name.encode_utf16().chain([0]).flat_map(|unit| unit.to_le_bytes()).collect();
        let mut variable = Vec::new();
        variable.extend_from_slice(&START);
        variable.extend_from_slice(&[ADDED, 0]);
        variable.extend_from_slice(&attributes.to_le_bytes());
        // A monotonic count, which is out of use.
        variable.extend_from_slice(&[0; 8]);
        // When it was signed: what replaces it must be newer. 1 January 2020.
        let signed = if attributes & AUTHENTICATED == 0 { [0; 4] } else { [0xe4, 0x07, 1, 1] };
        variable.extend_from_slice(&signed);
        variable.extend_from_slice(&[0; 12]);
        // The index of a public key, which is out of use.
        variable.extend_from_slice(&[0; 4]);
        for length in [name.len(), data.len()] {
            variable.extend_from_slice(&(length as u32).to_le_bytes());
        }
        variable.extend_from_slice(&vendor);
        variable.extend_from_slice(&name);
        variable.extend_from_slice(data);
        let next = (self.free + variable.len()).next_multiple_of(4);
        if next > self.end {
            return Err(StoreError::Full);
        }
        self.bytes[self.free..self.free + variable.len()].copy_from_slice(&variable);
        self.free = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty store with room for `room` bytes of variables.
    fn empty(room: usize) -> Vec<u8> {
        let mut bytes = vec![0xff; 72 + STORE_HEADER + room];
        bytes[..72].fill(0);
        bytes[16..32].copy_from_slice(&VOLUME);
        bytes[48..50].copy_from_slice(&72u16.to_le_bytes());
        bytes[72..88].copy_from_slice(&STORE);
        bytes[88..92].copy_from_slice(&((STORE_HEADER + room) as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn what_was_enrolled_is_read_over_again() {
        let mut variables = Variables::read(empty(2_000)).unwrap();
        variables.enrol(&[1; 101], &[2; 102], &[3; 103]).unwrap();
        let again = Variables::read(variables.bytes().to_vec()).unwrap();
        assert_eq!(again, variables);
        let first = 72 + STORE_HEADER;
        assert_eq!(variables.bytes()[first..first + 8], [0xaa, 0x55, 0x3f, 0, 0x27, 0, 0, 0]);
        assert_eq!(variables.bytes()[first + 60..first + 66], *b"d\0b\0\0\0");
    }

    #[test]
    fn a_full_store_takes_no_more_and_keeps_what_it_has() {
        let mut variables = Variables::read(empty(300)).unwrap();
        variables.enrol_mok(&[1; 100]).unwrap();
        let before = variables.clone();
        assert_eq!(variables.enrol_mok(&[1; 100]), Err(StoreError::Full));
        assert_eq!(variables, before);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_image_it_is_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..400) {
            let mut variables = Variables::read(empty(400)).unwrap();
            variables.enrol_mok(&[1; 30]).unwrap();
            let mut bytes = variables.bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Ok(mut read) = Variables::read(bytes) {
                let _ = read.enrol_mok(&[1; 30]);
            }
        }
    }
}
