//! What the machine's sensors say, for the provisioner: the processor's temperature (hwmon) and power
//! (powercap), and what NVIDIA's library said of its cards last.

use crate::{
    api::metrics::temperatures,
    kernel::{Kernel, text},
};
use protocol::{
    certificate::{CardReading, MAX_CARDS_READ, Readings},
    nvidia::Reading,
};
use std::{path::Path, time::Duration};

/// Drivers of processors' own sensors: Intel's, AMD's, and firmware's for others.
const PROCESSORS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];
/// Counters of energy, a folder each (Documentation/power/powercap of Linux); AMD's are called so too.
const POWERCAP: &str = "/sys/class/powercap";
const PACKAGE: &str = "intel-rapl:";

/// What has to be known of the last time: energy is counted, and power is what came since.
#[derive(Debug, Default)]
pub struct Sensors {
    last: Option<(Duration, u64)>,
}

impl Sensors {
    /// Reads them all; none where there are none.
    pub fn read(&mut self, kernel: &dyn Kernel, cards: &[Reading]) -> Option<Readings> {
        let of_processor = |sensor: &str| PROCESSORS.iter().any(|name| sensor.starts_with(name));
        let found = temperatures(kernel).into_iter().filter(|t| of_processor(&t.sensor));
        let cards: Vec<CardReading> = cards.iter().take(MAX_CARDS_READ).map(card).collect();
        let processor = self.power(kernel.since_start(), energy(kernel));
        let of_cards = cards.iter().filter_map(|card| card.milliwatts);
        let all: Vec<u64> = of_cards.chain(processor).collect();
        let readings = Readings {
            milliwatts: (!all.is_empty()).then(|| all.iter().sum()),
            cpu_millidegrees: found.map(|t| t.millidegrees).max(),
            cards,
        };
        (readings != Readings::default()).then_some(readings)
    }

    /// Thousandths of watts since the last time, of a count of millionths of joules.
    fn power(&mut self, now: Duration, energy: Option<u64>) -> Option<u64> {
        let before = std::mem::replace(&mut self.last, energy.map(|energy| (now, energy)));
        let ((then, before), energy) = before.zip(energy)?;
        let passed = now.checked_sub(then).filter(|passed| !passed.is_zero())?;
        // A count that is less than before began anew; the next time tells.
        let used = energy.checked_sub(before)?;
        u64::try_from(u128::from(used) * 1_000_000 / passed.as_nanos()).ok()
    }
}

fn card(reading: &Reading) -> CardReading {
    CardReading {
        address: reading.address.clone(),
        name: reading.name.clone(),
        milliwatts: reading.milliwatts,
        millidegrees: reading.millidegrees,
    }
}

/// Energy that the processors' packages used, in millionths of joules.
fn energy(kernel: &dyn Kernel) -> Option<u64> {
    let root = Path::new(POWERCAP);
    let mut sum = None;
    for entry in kernel.list(root).unwrap_or_default() {
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
        let Some(number) = entry.name.strip_prefix(PACKAGE) else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let count = text(kernel, root.join(&entry.name).join("energy_uj"));
        let Some(count) = count.and_then(|count| count.parse::<u64>().ok()) else { continue };
        sum = Some(sum.unwrap_or(0u64).saturating_add(count));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    fn card(milliwatts: Option<u64>) -> Reading {
        Reading {
            address: "0000:01:00.0".into(),
            name: "NVIDIA X".into(),
            memory_bytes: 1 << 34,
            persistent: None,
            ecc: None,
            milliwatts,
            millidegrees: Some(61_000),
        }
    }

    #[test]
    fn a_machine_without_sensors_says_nothing() {
        assert_eq!(Sensors::default().read(&Fake::new(&[]), &[]), None);
    }

    #[test]
    fn the_processors_hottest_sensor_counts_and_no_other_chips() {
        let kernel = Fake::new(&[
            ("/sys/class/hwmon/hwmon0/name", "coretemp"),
            ("/sys/class/hwmon/hwmon0/temp1_input", "41000"),
            ("/sys/class/hwmon/hwmon0/temp2_input", "47000"),
            ("/sys/class/hwmon/hwmon1/name", "nvme"),
            ("/sys/class/hwmon/hwmon1/temp1_input", "70000"),
            ("/sys/class/powercap/intel-rapl:0/energy_uj", "5000000"),
            ("/sys/class/powercap/intel-rapl:0:0/energy_uj", "9000000"),
        ]);
        let mut sensors = Sensors::default();
        let first = sensors.read(&kernel, &[card(Some(250_000)), card(None)]).unwrap();
        assert_eq!(first.cpu_millidegrees, Some(47_000));
        assert_eq!((first.milliwatts, first.cards.len()), (Some(250_000), 2));
        assert_eq!(first.cards[1].millidegrees, Some(61_000));
        assert_eq!(sensors.last.map(|(_, energy)| energy), Some(5_000_000));
    }

    #[test]
    fn power_is_energy_by_time() {
        let mut sensors = Sensors::default();
        let at = Duration::from_secs;
        assert_eq!(sensors.power(at(10), Some(1_000_000)), None, "nothing to compare with");
        assert_eq!(sensors.power(at(70), Some(2_401_000_000)), Some(40_000), "40 W");
        assert_eq!(sensors.power(at(130), Some(5)), None, "it began anew");
        assert_eq!(sensors.power(at(190), None), None);
        assert_eq!(sensors.power(at(250), Some(5)), None);
    }

    proptest! {
        #[test]
        fn no_count_overflows(first in any::<u64>(), second in any::<u64>(), ns in 0u64..u64::MAX) {
            let mut sensors = Sensors::default();
            sensors.power(Duration::ZERO, Some(first));
            sensors.power(Duration::from_nanos(ns), Some(second));
        }
    }
}
