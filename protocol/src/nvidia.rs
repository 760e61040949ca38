//! What an image for NVIDIA's cards says of its driver.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the image says which driver it has: [`Driver`] as JSON. Other images do not have it.
pub const DRIVER: &str = "/etc/alia/nvidia.json";
/// NVIDIA's PCI vendor id.
pub const VENDOR: u16 = 0x10de;

/// NVIDIA's driver in an image, and which driver drives which card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// `550.163.01`.
    pub version: String,
    /// Its modules, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// What the image does not do with a card that its driver drives, in a sentence; empty where
    /// work runs on it.
    pub lacks: String,
    /// By a driver's branch, `550`, the PCI device ids of the cards that it drives, as the
    /// distribution lists them.
    pub branches: BTreeMap<u16, Vec<u16>>,
}

/// A card as NVIDIA's management library (NVML) describes it: a line of `compute cards`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Its PCI address as the kernel has it: `0000:01:00.0`.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Whether the driver's persistence mode is on, by which a card stays started while nobody uses
    /// it; none where it does not say.
    pub persistent: Option<bool>,
    /// Errors of its memory since the driver was loaded; none where it does not check it.
    pub ecc: Option<Ecc>,
    /// What its board draws, in thousandths of watts; none where it does not say.
    #[serde(default)]
    pub milliwatts: Option<u64>,
    /// Its temperature, in thousandths of degrees Celsius; none where it does not say.
    #[serde(default)]
    pub millidegrees: Option<i64>,
}

/// Errors of a card's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// Mended.
    pub corrected: u64,
    /// Not mended: what was computed with it is wrong.
    pub uncorrected: u64,
}

impl Driver {
    /// The branch of [`Self::version`].
    pub fn branch(&self) -> Option<u16> {
        self.version.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_of_the_branch_that_its_version_begins_with() {
        let driver = Driver { version: "550.163.01".into(), ..Driver::default() };
        assert_eq!(driver.branch(), Some(550));
        assert_eq!(Driver::default().branch(), None);
    }
}
