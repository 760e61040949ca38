//! What /proc, /sys and firmware say of a machine: DMI, PCI, NICs, disks, buttons, devices'
//! names, and the image's own tables.
#![no_main]

use fuzz::target;
use fuzz::{files::Files, parts};
use node_init::{
    kernel::Probe,
    medium, power,
    stages::{clock, inventory, modules},
};
use std::path::PathBuf;

/// The files whose contents an input has, in turn.
const FILES: [&str; 31] = [
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/kernel/osrelease",
    "/etc/alia/build.json",
    "/sys/class/dmi/id/sys_vendor",
    "/sys/class/dmi/id/product_name",
    "/sys/class/dmi/id/product_serial",
    "/sys/class/dmi/id/product_uuid",
    "/sys/class/dmi/id/bios_vendor",
    "/sys/bus/pci/devices/0000:00:02.0/vendor",
    "/sys/bus/pci/devices/0000:00:02.0/device",
    "/sys/bus/pci/devices/0000:00:02.0/class",
    "/sys/bus/pci/devices/0000:00:02.0/modalias",
    "/sys/class/net/eth0/address",
    "/sys/class/net/eth0/carrier",
    "/sys/class/net/eth0/device/vendor",
    "/sys/block/sda/size",
    "/sys/block/sda/device/model",
    "/sys/block/sda/queue/rotational",
    "/sys/class/input/event0/device/capabilities/key",
    "/lib/modules/6.12/modules.alias",
    "/lib/modules/6.12/modules.dep",
    "/lib/modules/6.12/modules.softdep",
    "/sys/devices/system/cpu/vulnerabilities/mds",
    "/sys/bus/usb/devices/1-1/idVendor",
    "/sys/bus/usb/devices/1-1/idProduct",
    "/sys/bus/usb/devices/1-1:1.0/bInterfaceClass",
    "/sys/bus/usb/devices/1-1:1.0/bInterfaceSubClass",
    "/sys/class/block/sda1/uevent",
    "/sys/bus/acpi/devices/MSFT0101:00/physical_node/modalias",
    "link",
];

target!(|bytes: &[u8]| {
    let mut kernel = Files::default();
    for (path, content) in FILES.into_iter().zip(parts::<{ FILES.len() }>(bytes)) {
        kernel.files.insert(path.into(), content.to_vec());
    }
    let link = kernel.files.remove(&PathBuf::from("link")).unwrap_or_default();
    kernel.link = String::from_utf8_lossy(&link).into_owned();
    let found = inventory::run(&kernel, Some("52:54:00:12:34:56".parse().expect("a MAC address")));
    inventory::detail(&found);
    let system = [&found.system.vendor, &found.system.product, &found.system.serial];
    let strings = system.into_iter().chain([&found.cpu.model, &found.system.uuid]);
    let strings = strings.chain(found.disks.iter().map(|disk| &disk.model));
    for text in strings.chain(found.pci.iter().filter_map(|function| function.driver.as_ref())) {
        assert!(text.chars().count() <= 3 * 128 && !text.contains(char::is_control), "{text:?}");
    }
    // It goes to the provisioner as JSON and comes to the ledger by its digest.
    let json = serde_json::to_string(&found).expect("plain JSON");
    assert_eq!(serde_json::from_str::<protocol::inventory::Inventory>(&json).ok(), Some(found));
    inventory::undriven_nics(&kernel);
    if let Ok(loaded) = modules::run(&kernel, Probe::Aside) {
        loaded.detail();
    }
    if let Ok((build, _)) = clock::run(&kernel) {
        let _ = clock::take(&kernel, build.unix_time, build.unix_time / 2);
    }
    let _ = medium::find(&kernel);
    let (asked, _) = tokio::sync::mpsc::channel(1);
    power::listen_to_buttons(&kernel, &asked);
});
