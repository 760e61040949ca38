//! What tests of DHCP share: settings, and requests made of options.

use provisioner::{
    dhcp::{
        pool::Network,
        settings::{Mode, Settings},
    },
    machine::Mac,
};

/// The client of made-up requests.
pub(crate) const MAC: Mac = Mac([0x52, 0x54, 0, 0xaa, 0, 9]);

/// 10.77.0.1/24 with the pool .100 to .200.
pub(crate) fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        network: Network { address: [10, 77, 0, 1].into(), mask: [255, 255, 255, 0].into() },
        pool: "10.77.0.100-10.77.0.200".parse().unwrap(),
        routers: vec![],
        dns: vec![],
        lease_seconds: 3600,
        base_url: "http://10.77.0.1:8080".into(),
        https_url: None,
        bios_file: "undionly.kpxe".into(),
        uefi_file: "snponly.efi".into(),
        uki: None,
    }
}

/// A request of [`MAC`] with a message type and more options.
pub(crate) fn request(message: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
    bytes[28..34].copy_from_slice(&MAC.0);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    bytes.extend([53, 1, message]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(*value);
    }
    bytes.push(255);
    bytes
}
