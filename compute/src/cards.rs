//! NVIDIA's cards as its management library (NVML) describes them: `compute cards` prints one JSON line
//! for each ([`Reading`]). PID 1 runs it, being static, in the sandbox of the service.

use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    error::NvmlError,
};
use protocol::nvidia::{Ecc, Reading};
use std::ffi::OsStr;

/// As the image has it; the name without a number is for programs that are being built.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Cards cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CardsError {
    /// There is no driver, or it does not answer.
    #[error("NVIDIA's driver cannot be asked: {0}")]
    Driver(#[from] NvmlError),
    /// It names a card in another way than it did.
    #[error("a card at {0:?}: that is no PCI address")]
    Address(String),
}

/// Every card that the driver has.
///
/// # Errors
/// [`CardsError`]; also where one card of many does not answer.
pub fn readings() -> Result<Vec<Reading>, CardsError> {
    let nvml = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init()?;
    let count = nvml.device_count()?;
    (0..count).map(|index| reading(&nvml.device_by_index(index)?)).collect()
}

fn reading(card: &Device<'_>) -> Result<Reading, CardsError> {
    let bus = card.pci_info()?.bus_id;
    let errors = |kind| card.total_ecc_errors(kind, EccCounter::Volatile).ok();
    let ecc = || {
        Some(Ecc {
            corrected: errors(MemoryError::Corrected)?,
            uncorrected: errors(MemoryError::Uncorrected)?,
        })
    };
    Ok(Reading {
        address: address(&bus).ok_or(CardsError::Address(bus))?,
        name: card.name()?,
        memory_bytes: card.memory_info()?.total,
        persistent: card.is_in_persistent_mode().ok(),
        ecc: ecc(),
        milliwatts: card.power_usage().ok().map(u64::from),
        millidegrees: card
            .temperature(TemperatureSensor::Gpu)
            .ok()
            .map(|degrees| i64::from(degrees) * 1_000),
    })
}

/// NVML writes a PCI domain with eight digits, and Linux with four at least.
fn address(bus: &str) -> Option<String> {
    let (domain, rest) = bus.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_kernel_writes_them() {
        assert_eq!(address("00000000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(address("00010000:E1:00.0").as_deref(), Some("10000:e1:00.0"));
        assert_eq!(address("nonsense"), None);
    }

    #[test]
    fn a_machine_without_the_driver_says_so() {
        // On one that has it this is another's to say.
        if let Err(error) = readings() {
            assert!(error.to_string().contains("NVIDIA's driver"), "{error}");
        }
    }
}
