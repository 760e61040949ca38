//! Signature lists, the form in which firmware and shim keep certificates (UEFI 2.10, 32.4.1).

/// `EFI_CERT_X509_GUID`.
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// Whose entries ours are, so that they can be found and removed again:
/// `9a4ef0c5-6b1d-4d3e-8a51-0c1f5d2b7e64`, drawn once.
pub const OWNER: [u8; 16] = [
    0xc5, 0xf0, 0x4e, 0x9a, 0x1d, 0x6b, 0x3e, 0x4d, 0x8a, 0x51, 0x0c, 0x1f, 0x5d, 0x2b, 0x7e, 0x64,
];
/// Type, and three lengths.
const HEADER: usize = 28;

/// An `EFI_SIGNATURE_LIST` of one certificate (DER).
pub fn signature_list(der: &[u8]) -> Vec<u8> {
    let entry = OWNER.len() + der.len();
    // A certificate has kilobytes.
    let number = |value: usize| (value as u32).to_le_bytes();
    let mut list = Vec::with_capacity(HEADER + entry);
    list.extend_from_slice(&X509);
    list.extend_from_slice(&number(HEADER + entry));
    list.extend_from_slice(&number(0));
    list.extend_from_slice(&number(entry));
    list.extend_from_slice(&OWNER);
    list.extend_from_slice(der);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_its_own_length_and_its_entrys() {
        let list = signature_list(&[7; 100]);
        assert_eq!(list.len(), 28 + 16 + 100);
        assert_eq!(list[16..20], 144u32.to_le_bytes());
        assert_eq!(list[20..24], [0; 4]);
        assert_eq!(list[24..28], 116u32.to_le_bytes());
        assert_eq!(list[44..], [7; 100]);
    }
}
