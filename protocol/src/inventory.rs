//! What a machine is made of, as node-init finds it.

use crate::digest::Digest;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A machine's hardware. Lists stand in the order of bus addresses or names.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Inventory {
    /// Firmware's own description.
    pub system: System,
    /// The processor.
    pub cpu: Cpu,
    /// Memory in bytes, as the kernel counts it.
    pub memory_bytes: u64,
    /// PCI functions.
    pub pci: Vec<PciFunction>,
    /// Network interfaces that have a hardware behind them.
    pub nics: Vec<Nic>,
    /// Block devices.
    pub disks: Vec<Disk>,
    /// GPUs.
    pub gpus: Vec<Gpu>,
    /// Devices of classes that matter that no driver of the image drives; at most
    /// [`MAX_UNDRIVEN`].
    pub undriven: Vec<Undriven>,
}

/// The most devices without a driver that an inventory lists.
pub const MAX_UNDRIVEN: usize = 64;
/// The most faults of a processor that an inventory lists; Linux 6.12 knows of 17.
pub const MAX_VULNERABILITIES: usize = 64;

impl Inventory {
    /// The digest that stands on the ledger.
    pub fn digest(&self) -> Digest {
        Digest::of("aliaOS inventory v2", self)
    }
}

/// DMI (SMBIOS) strings; empty where firmware gives none.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct System {
    /// System manufacturer.
    pub vendor: String,
    /// Product name.
    pub product: String,
    /// Serial number.
    pub serial: String,
    /// UUID, lower case with dashes.
    pub uuid: String,
    /// Firmware vendor and version.
    pub firmware: String,
    /// Booted by UEFI rather than BIOS.
    pub uefi: bool,
}

/// The processor.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cpu {
    /// The model's name.
    pub model: String,
    /// Logical processors.
    pub threads: u32,
    /// Those instruction sets that our operators can use: `avx2`, `fma`, `avx512f`.
    pub features: Vec<String>,
    /// The microcode's revision, `0xf4`; empty where the kernel does not say.
    pub microcode: String,
    /// The processor's known faults and what the kernel does about each, by name; at most
    /// [`MAX_VULNERABILITIES`].
    pub vulnerabilities: Vec<Vulnerability>,
}

/// A fault that processors have, as /sys/devices/system/cpu/vulnerabilities names it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vulnerability {
    /// `spectre_v2`.
    pub name: String,
    /// `Not affected`, `Mitigation: …` or `Vulnerable…`.
    pub state: String,
}

/// A device that no driver of the image drives.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Undriven {
    /// `pci` or `usb`.
    pub bus: String,
    /// `0000:00:02.0`, `1-1:1.0`.
    pub address: String,
    /// Vendor and device, `8086:15f3`.
    pub id: String,
    /// `network`, `storage`, `display` or `tpm`.
    pub class: String,
    /// Whether a module of the image is for it all the same: then the driver refused it, or lacks
    /// its firmware.
    pub module: Option<String>,
}

/// `8086:15f3 (network)`.
impl std::fmt::Display for Undriven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.class)
    }
}

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PciFunction {
    /// `0000:00:02.0`.
    pub address: String,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// The driver bound to it.
    pub driver: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Nic {
    /// The kernel's name.
    pub name: String,
    /// Its MAC address, lower case with colons.
    pub mac: String,
    /// The driver.
    pub driver: Option<String>,
    /// Whether a link was there.
    pub carrier: bool,
    /// Whether firmware booted from it.
    pub booted_from: bool,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// The model.
    pub model: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it spins.
    pub rotational: bool,
    /// What names this very disk wherever it is plugged in: `nvme-MODEL_SERIAL`, `virtio-SERIAL`
    /// or the kernel's world-wide id; empty where it has none.
    pub id: String,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gpu {
    /// Its PCI address.
    pub address: String,
    /// Vendor and device id.
    pub pci_id: String,
    /// Its name where a driver told it.
    pub name: Option<String>,
    /// Its memory in bytes where a driver told it.
    pub memory_bytes: Option<u64>,
    /// Whether work runs on it, or the reason why not.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub usable: Result<(), String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bytes_are_fixed() {
        let inventory = Inventory {
            cpu: Cpu {
                threads: 2,
                microcode: "0xf4".into(),
                vulnerabilities: vec![Vulnerability {
                    name: "mds".into(),
                    state: "Not affected".into(),
                }],
                ..Cpu::default()
            },
            undriven: vec![Undriven {
                bus: "pci".into(),
                address: "0000:00:02.0".into(),
                id: "8086:15f3".into(),
                class: "network".into(),
                module: None,
            }],
            ..Inventory::default()
        };
        assert_eq!(inventory.undriven[0].to_string(), "8086:15f3 (network)");
        let bytes = borsh::to_vec(&inventory).unwrap();
        assert_eq!(borsh::from_slice::<Inventory>(&bytes).unwrap(), inventory);
        let wanted = "b3722950971a077e29342cbc5508542520b6411c473daa612b58e1f9f78434f4";
        assert_eq!(inventory.digest().to_string(), wanted);
    }
}
