//! What our CA may vouch for, written into it.
//!
//! People import a CA into browsers, and firmware keeps it for years. With this a CA whose key was
//! stolen makes nobody a bank: it vouches for private addresses, for host names that exist on local
//! networks alone, and for what it was made with.
//!
//! The extension is not marked critical, though RFC 5280 (4.2.1.10) wants it to be: whoever knows
//! it (OpenSSL, GnuTLS, NSS, Go, rustls) heeds it either way, and iPXE, which does not, refuses
//! certificates with critical extensions that it does not know.

use super::Names;
use rcgen::CustomExtension;
use std::net::IpAddr;

/// `id-ce-nameConstraints`.
const OID: [u64; 4] = [2, 5, 29, 30];
/// GeneralName's choices (RFC 5280, 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
const SEQUENCE: u8 = 0x30;
/// `permittedSubtrees [0]`.
const PERMITTED: u8 = 0xa0;

/// Networks that are nobody's in the world: RFC 1918, 6598 (carriers' NAT), 3927, 1122.
const NETWORKS_4: [([u8; 4], u8); 6] = [
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    ([100, 64, 0, 0], 10),
    ([169, 254, 0, 0], 16),
    ([127, 0, 0, 0], 8),
];
/// RFC 4193, link-local, and the host itself.
const NETWORKS_6: [(u16, u16, u8); 3] = [(0xfc00, 0, 7), (0xfe80, 0, 10), (0, 1, 128)];
/// Names that no public DNS has (RFC 6761, 6762, 8375; `.internal`, ICANN 2024).
const DOMAINS: [&str; 5] = ["localhost", "local", "lan", "home.arpa", "internal"];

/// The extension of a CA that is made for `names`.
pub(super) fn extension(names: &Names) -> CustomExtension {
    let networks_4 = NETWORKS_4.iter().map(|&(address, prefix)| network(&address, prefix));
    let networks_6 = NETWORKS_6.iter().map(|&(first, last, prefix)| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&first.to_be_bytes());
        address[14..].copy_from_slice(&last.to_be_bytes());
        network(&address, prefix)
    });
    let own = names.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => network(&address.octets(), 32),
        IpAddr::V6(address) => network(&address.octets(), 128),
    });
    let hosts = DOMAINS.into_iter().chain(names.hosts.iter().map(String::as_str));
    let hosts = hosts.map(|host| (DNS_NAME, host.as_bytes().to_vec()));
    let addresses = networks_4.chain(networks_6).chain(own).map(|bytes| (IP_ADDRESS, bytes));
    let subtrees: Vec<u8> = hosts
        .chain(addresses)
        .flat_map(|(choice, content)| element(SEQUENCE, &element(choice, &content)))
        .collect();
    CustomExtension::from_oid_content(&OID, element(SEQUENCE, &element(PERMITTED, &subtrees)))
}

/// An address and its mask, one after the other.
fn network(address: &[u8], prefix: u8) -> Vec<u8> {
    let mask = (0..address.len()).map(|at| {
        let ones = usize::from(prefix).saturating_sub(8 * at).min(8);
        (0xff00_u16 >> ones) as u8
    });
    address.iter().copied().chain(mask).collect()
}

/// DER: tag, length, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|&byte| byte == 0).collect();
    let mut bytes = vec![tag];
    match content.len() {
        short @ ..0x80 => bytes.push(short as u8),
        _ => {
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_masks_are_as_der_and_x509_have_them() {
        assert_eq!(element(4, &[]), [4, 0]);
        assert_eq!(element(4, &[7; 200])[..4], [4, 0x81, 200, 7]);
        assert_eq!(element(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
        assert_eq!(network(&[172, 16, 0, 0], 12), [172, 16, 0, 0, 255, 240, 0, 0]);
        assert_eq!(network(&[1, 2, 3, 4], 32), [1, 2, 3, 4, 255, 255, 255, 255]);
    }
}
