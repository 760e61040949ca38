//! Stage `inventory`: what the machine is made of, from /sys and /proc.
//!
//! Firmware's strings are foreign: they are cut, and control characters leave them. Lists are
//! bounded, since virtual functions can make them long.

use crate::{
    kernel::{Kernel, text},
    mac::Mac,
    stages::{
        modules,
        sysfs::{devices, driver, hex, string},
        undriven,
    },
};
use protocol::inventory::{
    Cpu, Disk, Gpu, Inventory, MAX_VULNERABILITIES, Nic, PciFunction, System, Undriven,
    Vulnerability,
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// The most PCI functions: eight buses full of them.
const MAX_PCI: usize = 2_048;
/// The most network interfaces and the most disks.
const MAX_DEVICES: usize = 256;
/// Instruction sets that the operators can use, by /proc/cpuinfo's names.
const FEATURES: [&str; 3] = ["avx2", "fma", "avx512f"];
/// PCI base classes (PCI Code and ID Assignment, class code's upper byte).
const CLASS_NETWORK: u32 = 0x02;
const CLASS_DISPLAY: u32 = 0x03;
const PCI: &str = "/sys/bus/pci/devices";
/// Linux counts a disk's size in units of 512 bytes, whatever its blocks.
pub(super) const SECTOR: u64 = 512;

/// Describes the machine. What cannot be read is left empty.
pub fn run(kernel: &dyn Kernel, boot_nic: Option<Mac>) -> Inventory {
    let pci = pci(kernel);
    let gpus =
        pci.iter().filter(|function| function.class >> 16 == CLASS_DISPLAY).map(gpu).collect();
    Inventory {
        system: system(kernel),
        cpu: Cpu {
            vulnerabilities: vulnerabilities(kernel),
            ..cpu(&text(kernel, "/proc/cpuinfo").unwrap_or_default())
        },
        memory_bytes: memory(&text(kernel, "/proc/meminfo").unwrap_or_default()),
        pci,
        nics: nics(kernel, boot_nic),
        disks: disks(kernel),
        gpus,
        undriven: undriven(kernel),
    }
}

/// Takes in what came since: links were hardly set up when the inventory was taken, and some
/// drivers look for their devices at leisure.
pub fn refresh(kernel: &dyn Kernel, inventory: &mut Inventory) {
    for nic in &mut inventory.nics {
        nic.carrier = carrier(kernel, &Path::new("/sys/class/net").join(&nic.name));
    }
    inventory.disks = disks(kernel);
    inventory.undriven = undriven(kernel);
}

fn undriven(kernel: &dyn Kernel) -> Vec<Undriven> {
    let catalogue = modules::catalogue(kernel).map(|(_, catalogue)| catalogue);
    undriven::run(kernel, &catalogue.unwrap_or_default())
}

/// An interface that is down does not say.
fn carrier(kernel: &dyn Kernel, interface: &Path) -> bool {
    text(kernel, interface.join("carrier")).as_deref() == Some("1")
}

/// For people: `2 threads, 2.0 GiB, 12 PCI functions, 1 NIC, 0 disks, 1 GPU (none usable)`.
pub fn detail(inventory: &Inventory) -> String {
    let usable = inventory.gpus.iter().filter(|gpu| gpu.usable.is_ok()).count();
    let mut detail = format!(
        "{} threads, {:.1} GiB, {} PCI functions, {} NICs, {} disks, {} GPUs ({usable} usable)",
        inventory.cpu.threads,
        inventory.memory_bytes as f64 / (1u64 << 30) as f64,
        inventory.pci.len(),
        inventory.nics.len(),
        inventory.disks.len(),
        inventory.gpus.len(),
    );
    // One that has a module may still be looked for by it.
    let lacking = inventory.undriven.iter().filter(|device| device.module.is_none());
    let list: Vec<String> = lacking.map(Undriven::to_string).collect();
    if !list.is_empty() {
        let _ = write!(detail, "; no driver for {}", list.join(", "));
    }
    detail
}

/// Network controllers that no interface came of, as `8086:1533 at 0000:00:03.0`: their driver is
/// not in the image, or lacks its firmware.
pub fn undriven_nics(kernel: &dyn Kernel) -> Vec<String> {
    let undriven = |function: &PciFunction| {
        let folder = Path::new(PCI).join(&function.address);
        function.class >> 16 == CLASS_NETWORK && !has_interface(kernel, &folder)
    };
    let name = |function: PciFunction| match &function.driver {
        None => format!("{} at {}", pci_id(&function), function.address),
        Some(driver) => format!("{} at {} ({driver})", pci_id(&function), function.address),
    };
    pci(kernel).into_iter().filter(undriven).map(name).collect()
}

/// Whether a PCI function has a network interface, itself or by a device below it (virtio).
fn has_interface(kernel: &dyn Kernel, function: &Path) -> bool {
    let below = kernel.list(function).unwrap_or_default().into_iter();
    let folders = below.filter(|entry| entry.directory).map(|entry| function.join(entry.name));
    std::iter::once(function.to_owned()).chain(folders).any(|f| kernel.list(&f.join("net")).is_ok())
}

fn system(kernel: &dyn Kernel) -> System {
    let dmi =
        |name: &str| string(&text(kernel, format!("/sys/class/dmi/id/{name}")).unwrap_or_default());
    let firmware = format!("{} {}", dmi("bios_vendor"), dmi("bios_version"));
    System {
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        serial: dmi("product_serial"),
        uuid: dmi("product_uuid").to_lowercase(),
        firmware: firmware.trim().to_owned(),
        uefi: kernel.list(Path::new("/sys/firmware/efi")).is_ok(),
    }
}

/// Reads /proc/cpuinfo.
fn cpu(text: &str) -> Cpu {
    let fields = || {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        text.lines().filter_map(field)
    };
    let first = |wanted: &str| fields().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let flags = first("flags").unwrap_or_default();
    let has = |feature: &&&str| flags.split_ascii_whitespace().any(|flag| flag == **feature);
    let threads = fields().filter(|(name, _)| name == "processor").count();
    Cpu {
        model: string(&first("model name").unwrap_or_default()),
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        features: FEATURES.iter().filter(has).map(|feature| (*feature).to_owned()).collect(),
        microcode: string(&first("microcode").unwrap_or_default()),
        vulnerabilities: Vec::new(),
    }
}

/// What the kernel says of the processor's faults.
fn vulnerabilities(kernel: &dyn Kernel) -> Vec<Vulnerability> {
    let fault = |(name, path): (String, PathBuf)| {
        Some(Vulnerability { name: string(&name), state: string(&text(kernel, path)?) })
    };
    let all = devices(kernel, "/sys/devices/system/cpu/vulnerabilities").filter_map(fault);
    all.take(MAX_VULNERABILITIES).collect()
}

/// Reads MemTotal of /proc/meminfo, in bytes.
pub(super) fn memory(text: &str) -> u64 {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// PCI functions in the order of their addresses.
pub fn pci(kernel: &dyn Kernel) -> Vec<PciFunction> {
    let function = |(address, path): (String, PathBuf)| {
        let number = |name: &str| hex(&text(kernel, path.join(name))?);
        Some(PciFunction {
            vendor: u16::try_from(number("vendor")?).ok()?,
            device: u16::try_from(number("device")?).ok()?,
            class: number("class")?,
            driver: driver(kernel, &path),
            address: string(&address),
        })
    };
    devices(kernel, PCI).filter_map(function).take(MAX_PCI).collect()
}

fn pci_id(function: &PciFunction) -> String {
    format!("{:04x}:{:04x}", function.vendor, function.device)
}

fn gpu(function: &PciFunction) -> Gpu {
    Gpu {
        address: function.address.clone(),
        pci_id: pci_id(function),
        name: None,
        memory_bytes: None,
        usable: Err("this image computes on the CPU alone".to_owned()),
    }
}

fn nics(kernel: &dyn Kernel, boot_nic: Option<Mac>) -> Vec<Nic> {
    let nic = |(name, path): (String, PathBuf)| {
        let device = path.join("device");
        // Without a device behind it (lo, bridges, bonds) it is no hardware.
        kernel.list(&device).ok()?;
        let mac: Option<Mac> = text(kernel, path.join("address"))?.parse().ok();
        Some(Nic {
            name: string(&name),
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
            driver: driver(kernel, &device),
            carrier: carrier(kernel, &path),
            booted_from: mac.is_some() && mac == boot_nic,
        })
    };
    devices(kernel, "/sys/class/net").filter_map(nic).take(MAX_DEVICES).collect()
}

pub(super) fn disks(kernel: &dyn Kernel) -> Vec<Disk> {
    let disk = |(name, path): (String, PathBuf)| {
        let device = path.join("device");
        // Loop devices and the like have no device behind them.
        kernel.list(&device).ok()?;
        let sectors: u64 = text(kernel, path.join("size"))?.parse().ok()?;
        Some(Disk {
            name: string(&name),
            model: string(&text(kernel, device.join("model")).unwrap_or_default()),
            bytes: sectors.saturating_mul(SECTOR),
            rotational: text(kernel, path.join("queue/rotational")).as_deref() == Some("1"),
            id: disk_id(kernel, &name, &path),
        })
    };
    devices(kernel, "/sys/block").filter_map(disk).take(MAX_DEVICES).collect()
}

/// As udev names it in /dev/disk/by-id, where the kernel tells the parts.
fn disk_id(kernel: &dyn Kernel, name: &str, path: &Path) -> String {
    let part = |file: &str| text(kernel, path.join(file)).filter(|text| !text.is_empty());
    let id = match (name.get(..2), part("device/model"), part("device/serial"), part("serial")) {
        (Some("nv"), Some(model), Some(serial), _) => Some(format!("nvme-{model}_{serial}")),
        (Some("vd"), _, _, Some(serial)) => Some(format!("virtio-{serial}")),
        _ => part("device/wwid").or_else(|| part("wwid")),
    };
    // One word: white space becomes an underscore, as udev has it.
    string(&id.unwrap_or_default()).split_whitespace().collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+\n\
        microcode\t: 0x1000065\n\
        flags\t\t: fpu sse2 fma avx avx2\n\nprocessor\t: 1\n\
        model name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu sse2 fma avx avx2\n";
    const NIC: &str = "/sys/bus/pci/devices/0000:00:02.0";

    fn machine() -> Fake {
        Fake::new(&[
            ("/proc/cpuinfo", CPUINFO),
            ("/proc/meminfo", "MemTotal:         490000 kB\nMemFree:  1 kB\n"),
            ("/sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n"),
            ("/sys/devices/system/cpu/vulnerabilities/spectre_v2", "Vulnerable\u{7}\n"),
            ("/sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("/sys/class/dmi/id/product_name", "Standard PC\u{7}\n"),
            ("/sys/class/dmi/id/product_uuid", "AB3F\n"),
            ("/sys/class/dmi/id/bios_vendor", "SeaBIOS\n"),
            ("/sys/class/dmi/id/bios_version", "1.16\n"),
            ("/sys/bus/pci/devices/0000:00:02.0/vendor", "0x1af4\n"),
            ("/sys/bus/pci/devices/0000:00:02.0/device", "0x1000\n"),
            ("/sys/bus/pci/devices/0000:00:02.0/class", "0x020000\n"),
            ("/sys/bus/pci/devices/0000:00:01.0/vendor", "0x1234\n"),
            ("/sys/bus/pci/devices/0000:00:01.0/device", "0x1111\n"),
            ("/sys/bus/pci/devices/0000:00:01.0/class", "0x030000\n"),
            ("/sys/bus/pci/devices/0000:00:03.0/vendor", "nonsense\n"),
            ("/sys/class/net/eth0/address", "52:54:00:12:34:56\n"),
            ("/sys/class/net/eth0/carrier", "1\n"),
            ("/sys/class/net/eth0/device/vendor", "0x1af4\n"),
            ("/sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("/sys/block/sda/size", "2048\n"),
            ("/sys/block/sda/device/model", "Disk X \n"),
            ("/sys/block/sda/device/wwid", "naa.5000  1\n"),
            ("/sys/block/sda/queue/rotational", "0\n"),
            ("/sys/block/loop0/size", "0\n"),
        ])
        .link("/sys/class/net/eth0/device/driver", "virtio_net")
    }

    #[test]
    fn a_machine_is_described() {
        let inventory = run(&machine(), Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(inventory.system.vendor, "QEMU");
        assert_eq!(inventory.system.product, "Standard PC");
        assert_eq!(inventory.system.uuid, "ab3f");
        assert_eq!(inventory.system.firmware, "SeaBIOS 1.16");
        assert!(!inventory.system.uefi);
        assert_eq!(inventory.cpu.model, "QEMU TCG CPU version 2.5+");
        assert_eq!(inventory.cpu.threads, 2);
        assert_eq!(inventory.cpu.features, ["avx2", "fma"]);
        assert_eq!(inventory.cpu.microcode, "0x1000065");
        let faults: Vec<_> = inventory
            .cpu
            .vulnerabilities
            .iter()
            .map(|v| (v.name.as_str(), v.state.as_str()))
            .collect();
        assert_eq!(faults, [("mds", "Not affected"), ("spectre_v2", "Vulnerable")]);
        assert_eq!(inventory.memory_bytes, 490_000 * 1024);
        let addresses: Vec<_> = inventory.pci.iter().map(|f| f.address.as_str()).collect();
        assert_eq!(addresses, ["0000:00:01.0", "0000:00:02.0"]);
        let wanted = Nic {
            name: "eth0".into(),
            mac: "52:54:00:12:34:56".into(),
            driver: Some("virtio_net".into()),
            carrier: true,
            booted_from: true,
        };
        assert_eq!(inventory.nics, [wanted]);
        let wanted = Disk {
            name: "sda".into(),
            model: "Disk X".into(),
            bytes: 1 << 20,
            rotational: false,
            id: "naa.5000_1".into(),
        };
        assert_eq!(inventory.disks, [wanted]);
        assert_eq!(
            detail(&inventory),
            "2 threads, 0.5 GiB, 2 PCI functions, 1 NICs, 1 disks, 1 GPUs (0 usable); \
             no driver for 1234:1111 (display), 1af4:1000 (network)"
        );
    }

    #[test]
    fn a_link_that_came_up_after_the_inventory_is_noted() {
        let kernel = machine();
        kernel.world().files.insert("/sys/class/net/eth0/carrier".into(), b"0\n".to_vec());
        let mut inventory = run(&kernel, None);
        assert!(!inventory.nics[0].carrier);
        kernel.world().files.insert("/sys/class/net/eth0/carrier".into(), b"1\n".to_vec());
        refresh(&kernel, &mut inventory);
        assert!(inventory.nics[0].carrier);
    }

    #[test]
    fn a_gpu_that_is_not_used_says_why() {
        let gpus = run(&machine(), None).gpus;
        assert_eq!(gpus[0].pci_id, "1234:1111");
        assert!(gpus[0].usable.as_ref().unwrap_err().contains("CPU alone"));
    }

    #[test]
    fn a_uefi_machine_is_told_by_its_runtime() {
        let kernel = Fake::new(&[("/sys/firmware/efi/fw_platform_size", "64\n")]);
        assert!(run(&kernel, None).system.uefi);
    }

    #[test]
    fn a_network_controller_without_an_interface_is_named_by_its_pci_id() {
        assert_eq!(undriven_nics(&machine()), ["1af4:1000 at 0000:00:02.0"]);
        let half = machine().link(&format!("{NIC}/driver"), "virtio-pci");
        assert_eq!(undriven_nics(&half), ["1af4:1000 at 0000:00:02.0 (virtio-pci)"]);
        for net in ["net/eth0/mtu", "virtio0/net/eth0/mtu"] {
            let driven = machine();
            driven.world().files.insert(format!("{NIC}/{net}").into(), b"1500".to_vec());
            assert!(undriven_nics(&driven).is_empty(), "{net}");
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_has_an_empty_inventory() {
        assert_eq!(run(&Fake::new(&[]), None), Inventory::default());
    }

    proptest! {
        #[test]
        fn no_text_of_the_kernel_or_firmware_panics(
            foreign in "(MemTotal:|processor|flags|model name|[ \t:]|0x|[0-9a-fk]|\n|\\PC){0,60}",
        ) {
            cpu(&foreign);
            memory(&foreign);
            let files = ["/proc/cpuinfo", "/proc/meminfo", "/sys/class/dmi/id/product_serial",
                "/sys/bus/pci/devices/x/vendor", "/sys/bus/pci/devices/x/device",
                "/sys/bus/pci/devices/x/class", "/sys/class/net/x/address",
                "/sys/class/net/x/device/y", "/sys/block/x/size", "/sys/block/x/device/model"];
            let files: Vec<_> = files.iter().map(|path| (*path, foreign.as_str())).collect();
            detail(&run(&Fake::new(&files), None));
        }
    }
}
