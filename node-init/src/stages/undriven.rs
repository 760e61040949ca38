//! Devices that no driver of the image drives, by their ids: what an image would need for this
//! machine. Part of the stage `inventory`.
//!
//! Asked are those classes without which a machine is of less use: network, storage, display, and
//! TPM. A device has a driver when one is bound to it; a USB device, when one is bound to each
//! interface of such a class.

use crate::{
    kernel::{Kernel, text},
    modalias::Catalogue,
    stages::sysfs::{devices, driver, hex, string},
};
use protocol::inventory::{MAX_UNDRIVEN, Undriven};
use std::path::Path;

const PCI: &str = "/sys/bus/pci/devices";
const USB: &str = "/sys/bus/usb/devices";
const ACPI: &str = "/sys/bus/acpi/devices";
/// The most devices of a bus that are looked at.
const MAX_LOOKED_AT: usize = 4_096;
/// TPM 2.0 and TPM 1.2 in ACPI's tables (TCG ACPI Specification).
const TPM_IDS: [&str; 2] = ["MSFT0101", "PNP0C31"];

/// Lists them, by bus and address; at most [`MAX_UNDRIVEN`].
pub fn run(kernel: &dyn Kernel, catalogue: &Catalogue) -> Vec<Undriven> {
    let pci = devices(kernel, PCI).take(MAX_LOOKED_AT).filter_map(|(address, path)| {
        let class = pci_class(hex(&text(kernel, path.join("class"))?)?)?;
        // Of displays only the NIC's kind of proof counts, a driver; and those without one are
        // still consoles by firmware's frame buffer, which is why they are told all the same.
        let id = |name: &str| hex(&text(kernel, path.join(name))?);
        let id = format!("{:04x}:{:04x}", id("vendor")?, id("device")?);
        undriven(kernel, catalogue, "pci", &address, &path, id, class)
    });
    let usb = devices(kernel, USB).take(MAX_LOOKED_AT).filter_map(|(address, path)| {
        let part = |name: &str| text(kernel, path.join(name));
        let class = usb_class(&part("bInterfaceClass")?, &part("bInterfaceSubClass")?)?;
        // Ids stand with the device that the interface is of: `1-1` of `1-1:1.0`.
        let device = Path::new(USB).join(address.split(':').next()?);
        let id = |name: &str| text(kernel, device.join(name));
        let id = string(&format!("{}:{}", id("idVendor")?, id("idProduct")?));
        undriven(kernel, catalogue, "usb", &address, &path, id, class)
    });
    let acpi = devices(kernel, ACPI).take(MAX_LOOKED_AT).filter_map(|(address, path)| {
        let id = TPM_IDS.iter().find(|id| address.starts_with(**id))?;
        // A driver is bound to the platform device that stands for it.
        let node = path.join("physical_node");
        if kernel.list(&node).is_err() {
            return None;
        }
        undriven(kernel, catalogue, "acpi", &address, &node, (*id).to_owned(), "tpm")
    });
    pci.chain(usb).chain(acpi).take(MAX_UNDRIVEN).collect()
}

fn undriven(
    kernel: &dyn Kernel,
    catalogue: &Catalogue,
    bus: &str,
    address: &str,
    path: &Path,
    id: String,
    class: &str,
) -> Option<Undriven> {
    if driver(kernel, path).is_some() {
        return None;
    }
    let modalias = text(kernel, path.join("modalias")).unwrap_or_default();
    let module = catalogue.matching(&modalias).into_iter().find(|module| catalogue.has(module));
    Some(Undriven {
        bus: bus.to_owned(),
        address: string(address),
        id,
        class: class.to_owned(),
        module: module.map(string),
    })
}

/// By the base class (PCI Code and ID Assignment Specification).
fn pci_class(class: u32) -> Option<&'static str> {
    match class >> 16 {
        0x01 => Some("storage"),
        0x02 => Some("network"),
        0x03 => Some("display"),
        _ => None,
    }
}

/// By an interface's class (USB-IF): communications with Ethernet in them, and mass storage.
/// Adapters of classes of their vendor's own are not told from other things.
fn usb_class(class: &str, subclass: &str) -> Option<&'static str> {
    match (class, subclass) {
        // Ethernet, EEM and NCM control models (CDC 1.2, table 4).
        ("02", "06" | "0c" | "0d") => Some("network"),
        ("08", _) => Some("storage"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use std::path::PathBuf;

    const ALIAS: &str = "alias pci:v00008086d00001533* igb\n";

    fn function(kernel: Fake, address: &str, id: (&str, &str), class: &str) -> Fake {
        let folder = PathBuf::from(PCI).join(address);
        let modalias = format!("pci:v0000{}d0000{}sv", id.0, id.1).to_uppercase();
        let modalias = modalias.replacen("PCI:V", "pci:v", 1).replacen('D', "d", 1);
        for (name, content) in [
            ("vendor", format!("0x{}\n", id.0)),
            ("device", format!("0x{}\n", id.1)),
            ("class", format!("0x{class}\n")),
            ("modalias", modalias),
        ] {
            kernel.world().files.insert(folder.join(name), content.into_bytes());
        }
        kernel
    }

    fn told(kernel: &Fake) -> Vec<String> {
        let catalogue = Catalogue::parse(ALIAS.into(), "kernel/igb.ko:\n", "");
        let tell = |device: Undriven| {
            let module = device.module.map(|module| format!(" {module}")).unwrap_or_default();
            format!("{} {} {} ({}){module}", device.bus, device.address, device.id, device.class)
        };
        run(kernel, &catalogue).into_iter().map(tell).collect()
    }

    #[test]
    fn a_device_that_matters_and_has_no_driver_is_named_by_its_id() {
        let kernel = function(Fake::new(&[]), "0000:00:02.0", ("8086", "15f3"), "020000");
        let kernel = function(kernel, "0000:00:03.0", ("10ec", "8168"), "020000")
            .link("/sys/bus/pci/devices/0000:00:03.0/driver", "r8169");
        // A host bridge does not matter.
        let kernel = function(kernel, "0000:00:00.0", ("8086", "29c0"), "060000");
        let kernel = function(kernel, "0000:00:04.0", ("1000", "0097"), "010700");
        assert_eq!(
            told(&kernel),
            ["pci 0000:00:02.0 8086:15f3 (network)", "pci 0000:00:04.0 1000:0097 (storage)"]
        );
    }

    #[test]
    fn a_device_that_its_module_does_not_take_is_told_with_the_module() {
        let kernel = function(Fake::new(&[]), "0000:00:02.0", ("8086", "1533"), "020000");
        assert_eq!(told(&kernel), ["pci 0000:00:02.0 8086:1533 (network) igb"]);
    }

    #[test]
    fn usb_interfaces_and_tpms_are_told_too() {
        let kernel = Fake::new(&[
            ("/sys/bus/usb/devices/1-1/idVendor", "0bda\n"),
            ("/sys/bus/usb/devices/1-1/idProduct", "8153\n"),
            ("/sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "02\n"),
            ("/sys/bus/usb/devices/1-1:1.0/bInterfaceSubClass", "06\n"),
            ("/sys/bus/usb/devices/1-2:1.0/bInterfaceClass", "03\n"),
            ("/sys/bus/usb/devices/1-2:1.0/bInterfaceSubClass", "01\n"),
            ("/sys/bus/acpi/devices/MSFT0101:00/physical_node/modalias", "acpi:MSFT0101:\n"),
            ("/sys/bus/acpi/devices/PNP0C31:00/hid", "PNP0C31\n"),
        ]);
        let wanted = ["usb 1-1:1.0 0bda:8153 (network)", "acpi MSFT0101:00 MSFT0101 (tpm)"];
        assert_eq!(told(&kernel), wanted);
        let bound =
            kernel.link("/sys/bus/acpi/devices/MSFT0101:00/physical_node/driver", "tpm_tis");
        assert_eq!(told(&bound), wanted[..1]);
    }

    #[test]
    fn the_list_is_bounded() {
        let kernel = (0..100).fold(Fake::new(&[]), |kernel, n| {
            function(kernel, &format!("0000:00:{n:02}.0"), ("8086", "15f3"), "020000")
        });
        assert_eq!(told(&kernel).len(), MAX_UNDRIVEN);
    }
}
