//! Stages `modules` and `drivers`: drivers for the devices that are there (coldplug), first those
//! that the initramfs has, which bring the network, then all that the root has.
//!
//! Every bus and class device names itself by its modalias; depmod's tables say which module
//! drives it. A loaded driver may bring new devices with it, so the search is done again until
//! nothing new turns up. Devices that appear later announce themselves ([`crate::hotplug`]); the
//! network stage comes back here for want of a link too.

use crate::{
    kernel::{self, Kernel, Probe},
    modalias::Catalogue,
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// Searches at most: a bridge behind a bridge behind a bridge needs one each.
const MAX_ROUNDS: usize = 16;

/// Modules that no modalias brings: [`super::cards`] decides by the card whether they are loaded.
pub(crate) const HELD_BACK: [&str; 2] = ["nvidia", "nvidia_uvm"];

/// No driver can be loaded at all.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// Which kernel runs is unknown.
    #[error("/proc/sys/kernel/osrelease cannot be read; see the stage \"mounts\"")]
    NoRelease,
    /// The image has no tables for this kernel.
    #[error(
        "the image has no modules for kernel {0}: {1} is missing; rebuild it with this kernel's"
    )]
    NoTables(String, PathBuf),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Modules that were loaded, in order.
    pub modules: Vec<String>,
    /// Modules that could not be, and why.
    pub failed: Vec<String>,
}

/// Loads the drivers of all devices that are there; those of disks as `disks` says, and last, since
/// all that is loaded afterwards may wait for them.
pub fn run(kernel: &dyn Kernel, disks: Probe) -> Result<Loaded, ModulesError> {
    Ok(run_after(kernel, &[], disks)?.1)
}

/// As [`load`] and then as [`run`], by tables that are read once; gives what each did.
pub fn run_after(
    kernel: &dyn Kernel,
    modules: &[&str],
    disks: Probe,
) -> Result<(Loaded, Loaded), ModulesError> {
    let (folder, catalogue) = catalogue(kernel)?;
    let named = load_named(kernel, &folder, &catalogue, modules);
    Ok((named, coldplug(kernel, &folder, &catalogue, disks)))
}

/// Loads modules by name, with what they need. One that the image does not have is passed over: the
/// kernel may have it built in.
pub fn load(kernel: &dyn Kernel, modules: &[&str]) -> Result<Loaded, ModulesError> {
    let (folder, catalogue) = catalogue(kernel)?;
    Ok(load_named(kernel, &folder, &catalogue, modules))
}

fn load_named(
    kernel: &dyn Kernel,
    folder: &Path,
    catalogue: &Catalogue,
    modules: &[&str],
) -> Loaded {
    let mut loaded = Loaded::default();
    if modules.is_empty() {
        return loaded;
    }
    let mut seen = there(kernel);
    for module in modules {
        load_one(kernel, folder, catalogue, module, &mut seen, &mut loaded);
    }
    loaded
}

/// The running kernel's modules: their folder, and depmod's tables.
pub fn catalogue(kernel: &dyn Kernel) -> Result<(PathBuf, Catalogue), ModulesError> {
    let release = kernel::text(kernel, "/proc/sys/kernel/osrelease")
        .filter(|release| !release.is_empty())
        .ok_or(ModulesError::NoRelease)?;
    let folder = Path::new("/lib/modules").join(&release);
    let table = |name: &str| {
        let path = folder.join(name);
        kernel::text(kernel, &path).ok_or(ModulesError::NoTables(release.clone(), path))
    };
    let softdep = table("modules.softdep").unwrap_or_default();
    let catalogue = Catalogue::parse(table("modules.alias")?, &table("modules.dep")?, &softdep);
    Ok((folder, catalogue))
}

/// Names of the modules that are there already, some of those among them that are built in.
pub(crate) fn there(kernel: &dyn Kernel) -> BTreeSet<String> {
    let there = kernel.list(Path::new("/sys/module")).unwrap_or_default();
    there.into_iter().map(|entry| entry.name).collect()
}

fn coldplug(kernel: &dyn Kernel, folder: &Path, catalogue: &Catalogue, disks: Probe) -> Loaded {
    let mut devices = Devices::default();
    // What is there already stays out of the account.
    let mut names = there(kernel);
    names.extend(HELD_BACK.map(str::to_owned));
    let (mut loaded, mut late) = (Loaded::default(), Vec::new());
    for _ in 0..MAX_ROUNDS {
        let new = devices.appeared(kernel);
        if new.is_empty() {
            break;
        }
        let before = loaded.modules.len();
        for module in new.iter().flat_map(|modalias| catalogue.matching(modalias)) {
            match disks {
                Probe::Aside if catalogue.file(module).is_some_and(drives_disks) => {
                    late.push(module);
                }
                _ => load_one(kernel, folder, catalogue, module, &mut names, &mut loaded),
            }
        }
        if loaded.modules.len() == before {
            break;
        }
    }
    for module in late {
        load_as(kernel, folder, catalogue, module, disks, &mut names, &mut loaded);
    }
    loaded
}

/// Controllers of disks, which take long to answer.
fn drives_disks(file: &str) -> bool {
    ["kernel/drivers/ata/", "kernel/drivers/nvme/"].iter().any(|folder| file.starts_with(folder))
}

/// Loads a module and what it needs, but for those whose names are `seen` already.
pub(crate) fn load_one(
    kernel: &dyn Kernel,
    folder: &Path,
    catalogue: &Catalogue,
    module: &str,
    seen: &mut BTreeSet<String>,
    loaded: &mut Loaded,
) {
    load_as(kernel, folder, catalogue, module, Probe::Waited, seen, loaded);
}

fn load_as(
    kernel: &dyn Kernel,
    folder: &Path,
    catalogue: &Catalogue,
    module: &str,
    probe: Probe,
    seen: &mut BTreeSet<String>,
    loaded: &mut Loaded,
) {
    for (name, file) in catalogue.load_order(module, seen) {
        match kernel.load_module(&folder.join(file), probe) {
            Ok(()) => loaded.modules.push(name.to_owned()),
            // Several drivers match by broad patterns and find, once loaded, that the machine has
            // nothing for them (ENODEV).
            Err(error) if error.raw_os_error() == Some(NO_SUCH_DEVICE) => {}
            Err(error) => loaded.failed.push(failure(name, &error)),
        }
    }
}

const NO_SUCH_DEVICE: i32 = 19;

fn failure(name: &str, error: &io::Error) -> String {
    format!("{name} ({error})")
}

/// What every device calls itself.
pub(crate) fn modaliases(kernel: &dyn Kernel) -> BTreeSet<String> {
    Devices::default().appeared(kernel)
}

/// Devices that were looked at. Buses and classes hold all of /sys/devices that can have a driver,
/// in a tenth of the directories.
#[derive(Default)]
struct Devices {
    paths: BTreeSet<PathBuf>,
    modaliases: BTreeSet<String>,
}

impl Devices {
    /// What those call themselves that were not there before, where no other did.
    fn appeared(&mut self, kernel: &dyn Kernel) -> BTreeSet<String> {
        let below = |path: &Path| -> Vec<PathBuf> {
            let entries = kernel.list(path).unwrap_or_default();
            entries.into_iter().map(|entry| path.join(entry.name)).collect()
        };
        let buses = below(Path::new("/sys/bus")).into_iter().map(|bus| bus.join("devices"));
        let mut found = BTreeSet::new();
        for folder in buses.chain(below(Path::new("/sys/class"))) {
            for device in below(&folder) {
                if self.paths.contains(&device) {
                    continue;
                }
                let modalias = kernel::text(kernel, device.join("modalias")).unwrap_or_default();
                if !modalias.is_empty() && self.modaliases.insert(modalias.clone()) {
                    found.insert(modalias);
                }
                self.paths.insert(device);
            }
        }
        found
    }
}

impl Loaded {
    /// For people.
    pub fn detail(&self) -> String {
        let mut text = format!("{} loaded", self.modules.len());
        if !self.modules.is_empty() {
            let _ = write!(text, ": {}", self.modules.join(" "));
        }
        if !self.failed.is_empty() {
            let _ = write!(text, "; failed: {}", self.failed.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    const RELEASE: (&str, &str) = ("/proc/sys/kernel/osrelease", "6.12.1\n");
    const ALIAS: (&str, &str) = (
        "/lib/modules/6.12.1/modules.alias",
        "alias pci:v00001AF4d* virtio_pci\nalias virtio:d00000001v* virtio_net\n\
         alias pci:v00008086d00001533* igb\n",
    );
    const DEP: (&str, &str) = (
        "/lib/modules/6.12.1/modules.dep",
        "kernel/virtio_pci.ko:\nkernel/virtio_net.ko: kernel/failover.ko\nkernel/failover.ko:\n\
         kernel/igb.ko:\n",
    );
    const DEVICE: (&str, &str) =
        ("/sys/bus/pci/devices/0000:00:02.0/modalias", "pci:v00001AF4d1\n");

    #[test]
    fn a_driver_that_brings_a_new_device_has_that_devices_driver_loaded_too() {
        let kernel = Fake::new(&[RELEASE, ALIAS, DEP, DEVICE]);
        let appears =
            ("/sys/bus/virtio/devices/virtio0/modalias".into(), b"virtio:d00000001v1".into());
        kernel.world().appear.insert("virtio_pci.ko".into(), vec![appears]);
        let loaded = run(&kernel, Probe::Waited).unwrap();
        assert_eq!(loaded.modules, ["virtio_pci", "failover", "virtio_net"]);
        assert_eq!(kernel.world().modules, ["virtio_pci.ko", "failover.ko", "virtio_net.ko"]);
        assert_eq!(loaded.detail(), "3 loaded: virtio_pci failover virtio_net");
    }

    #[test]
    fn disks_are_looked_for_last_and_nobody_waits_for_them() {
        let alias = "alias pci:v00008086d00001111* ahci\nalias pci:v00008086d00002222* igb\n";
        let dep = "kernel/drivers/ata/ahci.ko: kernel/drivers/ata/libahci.ko\n\
                   kernel/drivers/ata/libahci.ko:\nkernel/drivers/net/igb.ko:\n";
        let devices = [
            ("/sys/bus/pci/devices/0000:00:01.0/modalias", "pci:v00008086d00001111\n"),
            ("/sys/bus/pci/devices/0000:00:02.0/modalias", "pci:v00008086d00002222\n"),
        ];
        let tables = [RELEASE, (ALIAS.0, alias), (DEP.0, dep)];
        let kernel = Fake::new(&[tables.as_slice(), &devices].concat());
        assert_eq!(run(&kernel, Probe::Aside).unwrap().modules, ["igb", "libahci", "ahci"]);
        assert_eq!(kernel.world().aside, ["libahci.ko", "ahci.ko"]);
        let kernel = Fake::new(&[tables.as_slice(), &devices].concat());
        assert_eq!(run(&kernel, Probe::Waited).unwrap().modules, ["libahci", "ahci", "igb"]);
        assert!(kernel.world().aside.is_empty());
    }

    #[test]
    fn what_is_loaded_by_name_is_loaded_once() {
        let kernel = Fake::new(&[RELEASE, ALIAS, DEP]);
        assert_eq!(load(&kernel, &["virtio_net", "absent"]).unwrap().modules.len(), 2);
        assert!(load(&kernel, &["virtio_net"]).unwrap().modules.is_empty());
        assert_eq!(kernel.world().modules, ["failover.ko", "virtio_net.ko"]);
    }

    #[test]
    fn a_module_that_fails_is_named_and_the_others_are_loaded() {
        let igb = ("/sys/bus/pci/devices/0000:00:03.0/modalias", "pci:v00008086d00001533\n");
        let kernel = Fake::new(&[RELEASE, ALIAS, DEP, DEVICE, igb])
            .failing("/lib/modules/6.12.1/kernel/virtio_pci.ko", 8);
        let loaded = run(&kernel, Probe::Waited).unwrap();
        assert_eq!(loaded.modules, ["igb"]);
        assert!(loaded.detail().contains("failed: virtio_pci (Exec format error"), "{loaded:?}");
    }

    #[test]
    fn a_driver_that_finds_no_device_is_no_failure() {
        let kernel = Fake::new(&[RELEASE, ALIAS, DEP, DEVICE])
            .failing("/lib/modules/6.12.1/kernel/virtio_pci.ko", NO_SUCH_DEVICE);
        assert_eq!(run(&kernel, Probe::Waited).unwrap(), Loaded::default());
    }

    #[test]
    fn an_image_with_another_kernels_modules_is_said_so() {
        let error =
            run(&Fake::new(&[("/proc/sys/kernel/osrelease", "6.1\n"), ALIAS, DEP]), Probe::Waited);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no modules for kernel 6.1"), "{error}");
        assert!(matches!(run(&Fake::new(&[]), Probe::Waited), Err(ModulesError::NoRelease)));
    }
}
