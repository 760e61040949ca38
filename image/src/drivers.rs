//! Which of a kernel's drivers are in an image, and of those that are not, why: held against what
//! the kernel's package has, so that a new driver of it is noticed.

use crate::{
    Error, Recipe,
    build::modules::{Modules, read_module},
    elf,
    error::At,
    kernel::Kernel,
    kmod::{self, Module},
};
use std::{collections::BTreeSet, fs};

/// Folders of the kernel's tree whose drivers count: wired network and disks.
const FOLDERS: [&str; 11] = [
    "drivers/net/ethernet/",
    "drivers/net/usb/",
    "drivers/net/hyperv/",
    "drivers/net/vmxnet3/",
    "drivers/nvme/host/",
    "drivers/ata/",
    "drivers/scsi/",
    "drivers/message/",
    "drivers/block/",
    "drivers/mmc/host/",
    "drivers/pci/controller/",
];

/// A driver of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// Its module's name.
    pub name: String,
    /// Its folder in the kernel's tree.
    pub folder: String,
    /// PCI ids (or patterns of them) that it is for.
    pub pci: usize,
    /// USB ids.
    pub usb: usize,
    /// Devices of other buses.
    pub other: usize,
    /// What the image does about it.
    pub place: Place,
}

/// What an image does about a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is in it.
    In,
    /// It is left out, for a reason.
    LeftOut(String),
    /// Nobody said anything about it.
    Unsaid,
}

/// All of a kernel's drivers that count, by folder and name.
pub fn survey(kernel: &Kernel, recipe: &Recipe) -> Result<Vec<Driver>, Error> {
    let (_, release) = kernel.image()?;
    let folder = kernel.modules(&release)?;
    let list = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).at(&path)
    };
    let order = kmod::index(&list("modules.order")?);
    let read = |path: &str| {
        let bytes = read_module(&folder.join(path))?;
        let info = elf::modinfo(&bytes).map_err(|error| Error::bad_file(path, error))?;
        Ok(Module::new(path.into(), &info))
    };
    let taken: BTreeSet<String> = Modules::read(recipe, kernel, &release)?.names();
    let mut drivers = Vec::new();
    for (name, path) in &order {
        let Some(folder) = counts(path) else { continue };
        let driver = driver(name, folder, &read(path)?);
        let place = if taken.contains(name) {
            Place::In
        } else {
            let why = recipe.kernel.left_out.iter();
            let why = why.filter(|(_, names)| names.iter().any(|left| kmod::name(left) == *name));
            why.map(|(why, _)| why.clone()).next().map_or(Place::Unsaid, Place::LeftOut)
        };
        let some = driver.pci + driver.usb + driver.other > 0;
        drivers.extend(some.then_some(Driver { place, ..driver }));
    }
    drivers.sort_by(|a, b| (&a.folder, &a.name).cmp(&(&b.folder, &b.name)));
    Ok(drivers)
}

/// Modules that the recipe names for the prebuilt kernel and that this one has neither as modules nor
/// built in.
///
/// # Errors
/// Where its lists cannot be read.
pub fn lacking(kernel: &Kernel, recipe: &Recipe) -> Result<Vec<String>, Error> {
    let (_, release) = kernel.image()?;
    let folder = kernel.modules(&release)?;
    let mut has = BTreeSet::new();
    for name in ["modules.order", "modules.builtin"] {
        let path = folder.join(name);
        has.extend(kmod::index(&fs::read_to_string(&path).at(&path)?).into_keys());
    }
    let wanted = recipe.kernel.modules.iter().map(|name| kmod::name(name));
    Ok(wanted.filter(|name| !has.contains(name)).collect())
}

/// A module's folder, where its kind counts: `drivers/net/ethernet/intel`.
fn counts(path: &str) -> Option<&str> {
    let (folder, _) = path.strip_prefix("kernel/").unwrap_or(path).rsplit_once('/')?;
    let within = |wanted: &&&str| format!("{folder}/").starts_with(**wanted);
    FOLDERS.iter().find(within).map(|_| folder)
}

fn driver(name: &str, folder: &str, module: &Module) -> Driver {
    let count = |bus: &str| module.aliases.iter().filter(|alias| alias.starts_with(bus)).count();
    Driver {
        name: name.to_owned(),
        folder: folder.to_owned(),
        pci: count("pci:"),
        usb: count("usb:"),
        other: ["virtio:", "vmbus:", "acpi", "platform:", "xen:"].into_iter().map(count).sum(),
        place: Place::Unsaid,
    }
}

/// Names in `left_out` that no driver has, or that are in the image all the same.
pub fn stale(drivers: &[Driver], recipe: &Recipe) -> Vec<String> {
    let left = recipe.kernel.left_out.values().flatten().map(|name| kmod::name(name));
    let is = |name: &String| {
        let found = drivers.iter().find(|driver| driver.name == *name);
        found.is_some_and(|driver| matches!(driver.place, Place::LeftOut(_)))
    };
    left.filter(|name| !is(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wired_network_and_disks_count_and_wireless_does_not() {
        let intel = "drivers/net/ethernet/intel/igc";
        assert_eq!(counts("kernel/drivers/net/ethernet/intel/igc/igc.ko"), Some(intel));
        assert_eq!(counts("kernel/drivers/ata/ahci.ko"), Some("drivers/ata"));
        assert_eq!(counts("kernel/drivers/net/wireless/intel/iwlwifi/iwlwifi.ko"), None);
        assert_eq!(counts("kernel/sound/pci/hda/hda.ko"), None);
    }

    #[test]
    fn a_drivers_ids_are_counted_by_bus() {
        let aliases = ["pci:v1d2*", "pci:v1d3*", "usb:v1p2*", "of:N*", "virtio:d1v*"];
        let aliases = aliases.map(str::to_owned).to_vec();
        let module = Module { aliases, ..Module::default() };
        let driver = driver("x", "drivers/ata", &module);
        assert_eq!((driver.pci, driver.usb, driver.other), (2, 1, 1));
    }
}
