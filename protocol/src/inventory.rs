//! What a machine is made of, as node-init finds it.

use crate::digest::Digest;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A machine's hardware. Lists stand in the order of bus addresses or names.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
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
}

impl Inventory {
    /// The digest that stands on the ledger.
    pub fn digest(&self) -> Digest {
        Digest::of("aliaOS inventory v1", self)
    }
}

/// DMI (SMBIOS) strings; empty where firmware gives none.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
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
pub struct Cpu {
    /// The model's name.
    pub model: String,
    /// Logical processors.
    pub threads: u32,
    /// Those instruction sets that our operators can use: `avx2`, `fma`, `avx512f`.
    pub features: Vec<String>,
}

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
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
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// The model.
    pub model: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it spins.
    pub rotational: bool,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
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
    pub usable: Result<(), String>,
}
