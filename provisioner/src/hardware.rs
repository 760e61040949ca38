//! What a machine is made of, as far as a change of it matters: what was approved is compared with what
//! comes. Pure.
//!
//! What matters is whose word the rest depends on, and what work is given by: the board, the
//! processor, the cards, the disks, the TPM. The order of lists, names of links and disks, NICs,
//! memory, versions of firmware and microcode do not, and neither do sticks, memory cards and
//! optical disks, of whatever size.

use protocol::{
    Digest,
    inventory::{Disk, Inventory},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most of one kind that are compared; more are told as a number.
const MAX_LISTED: usize = 256;
/// The most changes told.
const MAX_TOLD: usize = 32;
/// The longest text of firmware or disk that is kept, in characters.
const MAX_TEXT_LEN: usize = 80;

/// What matters of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// The board's serial number.
    pub serial: Option<String>,
    /// Its UUID, where firmware gives a usable one.
    pub uuid: Option<String>,
    /// The processor's model.
    pub cpu: String,
    /// Cards, by PCI id, each as often as it is there. An inventory has no serial number of them.
    pub gpus: Vec<String>,
    /// Ids of disks that have one (sticks mostly have none) and are not meant to be taken out.
    pub disks: Vec<String>,
    /// The TPM, where it vouched for the boot.
    pub chip: Option<Digest>,
}

impl Hardware {
    /// Of an inventory, with what was proven beside it.
    pub fn of(inventory: &Inventory, uuid: Option<&str>, chip: Option<Digest>) -> Self {
        let serial = Some(text(&inventory.system.serial)).filter(|serial| !serial.is_empty());
        let fixed = |disk: &&Disk| !disk.id.is_empty() && !is_removable(&disk.name);
        let disks = inventory.disks.iter().filter(fixed).map(|disk| &disk.id);
        Self {
            serial,
            uuid: uuid.map(String::from),
            cpu: text(&inventory.cpu.model),
            gpus: listed(inventory.gpus.iter().map(|gpu| &gpu.pci_id)),
            disks: listed(disks),
            chip,
        }
    }

    /// What changed from what was approved, for people; empty where nothing did that matters.
    pub fn changes_to(&self, now: &Self) -> Vec<String> {
        let mut told = Vec::new();
        let mut one = |what: &str, before: Option<&str>, now: Option<&str>| {
            if before != now {
                let (before, now) = (before.unwrap_or("none"), now.unwrap_or("none"));
                told.push(format!("{what}: {before} -> {now}"));
            }
        };
        one("board's serial number", self.serial.as_deref(), now.serial.as_deref());
        one("board's UUID", self.uuid.as_deref(), now.uuid.as_deref());
        one("processor", Some(&self.cpu), Some(&now.cpu));
        let short = |chip: Option<Digest>| chip.map(|chip| chip.short());
        one("TPM", short(self.chip).as_deref(), short(now.chip).as_deref());
        lists("GPU", &self.gpus, &now.gpus, &mut told);
        lists("disk", &self.disks, &now.disks, &mut told);
        let more = told.len().saturating_sub(MAX_TOLD);
        told.truncate(MAX_TOLD);
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told
    }
}

/// How the kernel names memory cards, optical disks and floppy disks.
fn is_removable(name: &str) -> bool {
    ["mmcblk", "mspblk", "sr", "fd"].iter().any(|start| name.starts_with(start))
}

fn text(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MAX_TEXT_LEN).collect()
}

fn listed<'a>(all: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut all: Vec<String> = all.map(|each| text(each)).collect();
    all.sort();
    let more = all.len().saturating_sub(MAX_LISTED);
    all.truncate(MAX_LISTED);
    if more > 0 {
        all.push(format!("{more} more"));
    }
    all
}

fn lists(what: &str, before: &[String], now: &[String], told: &mut Vec<String>) {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    before.iter().for_each(|each| *balance.entry(each).or_default() -= 1);
    now.iter().for_each(|each| *balance.entry(each).or_default() += 1);
    for (each, by) in balance.into_iter().filter(|(_, by)| *by != 0) {
        let count = match by.unsigned_abs() {
            1 => String::new(),
            count => format!("{count} of "),
        };
        let became = if by > 0 { "is new" } else { "is gone" };
        told.push(format!("{what} {count}{each} {became}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::inventory::{Gpu, Nic};

    fn disk(name: &str, id: &str, bytes: u64) -> Disk {
        let model = "M".into();
        Disk { name: name.into(), model, bytes, rotational: false, id: id.into() }
    }

    fn gpu(address: &str, pci_id: &str) -> Gpu {
        let (address, pci_id) = (address.into(), pci_id.into());
        Gpu { address, pci_id, name: None, memory_bytes: None, usable: Ok(()) }
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.system.serial = "S-1".into();
        inventory.cpu.model = "EPYC".into();
        inventory.gpus = vec![gpu("01:00.0", "10de:2230"), gpu("02:00.0", "10de:2230")];
        inventory.disks =
            vec![disk("nvme0n1", "nvme-A_1", 10), disk("sda", "", 5), disk("mmcblk0", "card", 7)];
        inventory
    }

    fn of(inventory: &Inventory) -> Hardware {
        Hardware::of(inventory, Some("u-1"), Some(Digest([1; 32])))
    }

    #[test]
    fn what_matters_is_told_so_that_a_person_knows_what_to_look_at() {
        let before = of(&inventory());
        let mut changed = inventory();
        changed.system.serial = "S-2".into();
        changed.cpu.model = "Xeon".into();
        changed.gpus = vec![gpu("01:00.0", "10de:1eb8")];
        changed.disks[0].id = "nvme-B_2".into();
        let told = before.changes_to(&Hardware::of(&changed, None, None));
        let chip = Digest([1; 32]).short();
        assert_eq!(
            told,
            [
                "board's serial number: S-1 -> S-2",
                "board's UUID: u-1 -> none",
                "processor: EPYC -> Xeon",
                &format!("TPM: {chip} -> none"),
                "GPU 10de:1eb8 is new",
                "GPU 2 of 10de:2230 is gone",
                "disk nvme-A_1 is gone",
                "disk nvme-B_2 is new",
            ]
        );
    }

    #[test]
    fn order_names_addresses_and_what_is_plugged_in_from_outside_do_not_matter() {
        let before = of(&inventory());
        let mut same = inventory();
        same.gpus.reverse();
        same.disks.reverse();
        same.disks[0] = disk("mmcblk0", "other", 99);
        same.disks[1].bytes = 6;
        same.disks[2].name = "nvme1n1".into();
        same.memory_bytes = 1;
        same.cpu.microcode = "0xf4".into();
        same.nics = vec![Nic {
            name: "eth9".into(),
            mac: "x".into(),
            driver: None,
            carrier: false,
            booted_from: false,
        }];
        assert_eq!(before.changes_to(&of(&same)), Vec::<String>::new());
    }

    #[test]
    fn however_much_a_machine_says_the_list_stays_one_that_people_read() {
        let mut many = inventory();
        many.disks = (0..1_000).map(|n| disk("d", &format!("id-{n}"), 1)).collect();
        let told = of(&inventory()).changes_to(&of(&many));
        assert_eq!(told.len(), MAX_TOLD + 1);
        assert!(serde_json::to_string(&of(&many)).unwrap().len() < 20_000);
    }

    proptest! {
        #[test]
        fn a_machine_has_not_changed_from_itself(ids in prop::collection::vec(".{0,9}", 0..20)) {
            let mut inventory = inventory();
            inventory.disks = ids.iter().map(|id| disk("d", id, 1)).collect();
            prop_assert!(of(&inventory).changes_to(&of(&inventory)).is_empty());
        }
    }
}
