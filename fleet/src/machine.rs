//! One simulated machine: what names it, and what it is made of.

use protocol::{
    Digest, SecretKey,
    inventory::{Cpu, Disk, Inventory, Nic, PciFunction, System},
};
use std::fmt;

/// The first three bytes of every simulated machine's MAC address: locally administered, so that no
/// real card has it.
const MAC_PREFIX: [u8; 3] = [0x02, 0xf1, 0xee];
/// As many machines as the prefix has room for.
pub const MAX_MACHINES: u32 = 1 << 24;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// As URLs and file names have it.
    pub fn hyphenated(self) -> String {
        self.joined("-")
    }

    fn joined(self, between: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(between)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(":"))
    }
}

/// A machine. The same number is the same machine in every run: MAC address, UUID and node key; a
/// boot's id is of one run alone.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its number.
    pub number: u32,
    /// Its NIC.
    pub mac: Mac,
    /// SMBIOS UUID as option 97 has it: the first three fields little-endian.
    pub guid: [u8; 16],
    /// Of this boot.
    pub boot_id: Digest,
    key: [u8; 32],
}

impl Machine {
    /// Machine `number` in the boot that `salt` stands for.
    pub fn new(number: u32, salt: u64) -> Self {
        let [_, high, middle, low] = number.to_be_bytes();
        let [a, b, c] = MAC_PREFIX;
        let of = |what: &str| *blake3::hash(format!("{what} {number}").as_bytes()).as_bytes();
        let mut guid = [0; 16];
        guid.copy_from_slice(&of("aliaOS fleet uuid")[..16]);
        let boot = format!("aliaOS fleet boot {number} {salt}");
        Self {
            number,
            mac: Mac([a, b, c, high, middle, low]),
            guid,
            boot_id: Digest::of_bytes(boot.as_bytes()),
            key: of("aliaOS fleet key"),
        }
    }

    /// Its identity. Made each time: ten thousand keys need no memory.
    pub fn key(&self) -> SecretKey {
        SecretKey::from_seed(self.key)
    }

    /// SMBIOS UUID, lower case with dashes.
    pub fn uuid(&self) -> String {
        let hex = |range: &mut dyn Iterator<Item = &u8>| -> String {
            range.map(|byte| format!("{byte:02x}")).collect()
        };
        let g = &self.guid;
        format!(
            "{}-{}-{}-{}-{}",
            hex(&mut g[0..4].iter().rev()),
            hex(&mut g[4..6].iter().rev()),
            hex(&mut g[6..8].iter().rev()),
            hex(&mut g[8..10].iter()),
            hex(&mut g[10..16].iter())
        )
    }

    /// Serial number.
    pub fn serial(&self) -> String {
        format!("FLEET{:07}", self.number)
    }

    /// What it says that it is made of: as much as a small server has.
    pub fn inventory(&self) -> Inventory {
        let pci = |slot: u32, class: u32| PciFunction {
            address: format!("0000:00:{slot:02x}.0"),
            vendor: 0x8086,
            device: 0x1500 + slot as u16,
            class,
            driver: Some("simulated".into()),
        };
        Inventory {
            system: System {
                vendor: "aliaOS".into(),
                product: "simulated machine".into(),
                serial: self.serial(),
                uuid: self.uuid(),
                firmware: "fleet".into(),
                uefi: true,
            },
            cpu: Cpu {
                model: "simulated".into(),
                threads: 8,
                features: vec!["avx2".into(), "fma".into()],
                ..Cpu::default()
            },
            memory_bytes: 16 << 30,
            pci: (0..24).map(|slot| pci(slot, 0x02_0000)).collect(),
            nics: vec![Nic {
                name: "eth0".into(),
                mac: self.mac.to_string(),
                driver: Some("simulated".into()),
                carrier: true,
                booted_from: true,
            }],
            disks: vec![Disk {
                name: "nvme0n1".into(),
                model: "simulated".into(),
                bytes: 1 << 40,
                rotational: false,
                id: format!("nvme-simulated_{}", self.serial()),
            }],
            ..Inventory::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_machine_is_the_same_in_each_run_and_its_boots_differ() {
        let (one, again) = (Machine::new(7, 1), Machine::new(7, 2));
        assert_eq!((one.mac, one.guid, one.key), (again.mac, again.guid, again.key));
        assert_ne!(one.boot_id, again.boot_id);
        assert_eq!(one.mac.to_string(), "02:f1:ee:00:00:07");
    }

    #[test]
    fn no_two_machines_share_an_address_a_uuid_or_a_key() {
        let machines: Vec<_> = (0..1_000).map(|number| Machine::new(number, 1)).collect();
        let count = |of: &dyn Fn(&Machine) -> String| {
            machines.iter().map(of).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(count(&|machine| machine.mac.to_string()), 1_000);
        assert_eq!(count(&Machine::uuid), 1_000);
        assert_eq!(count(&|machine| machine.key().public().to_string()), 1_000);
    }

    #[test]
    fn the_provisioner_reads_the_uuid_that_the_machine_has() {
        let machine = Machine::new(3, 1);
        let guid = [&[0][..], &machine.guid].concat();
        assert_eq!(provisioner::machine::uuid_of_guid(&guid), Some(machine.uuid()));
    }
}
