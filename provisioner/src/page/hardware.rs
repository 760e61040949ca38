//! What a machine is made of.

use super::text::{memory, size};
use crate::hardware::Hardware;
use maud::{Markup, html};
use protocol::inventory::{Gpu, Inventory};

/// The hardware of a machine's page.
pub(super) fn section(inventory: Option<&Inventory>) -> Markup {
    html! {
        section #hardware {
            h3 { "Hardware" }
            @match inventory {
                None => p.none { "Not known yet: a machine says what it is made of once it is taken in." },
                Some(inventory) => { (parts(inventory)) },
            }
        }
    }
}

fn parts(inventory: &Inventory) -> Markup {
    let system = [&inventory.system.vendor, &inventory.system.product];
    let system: Vec<&str> =
        system.into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let open = vulnerable(inventory);
    html! {
        dl {
            @if !system.is_empty() { dt { "System" } dd { (system.join(" ")) } }
            dt { "Processor" } dd {
                (inventory.cpu.model) ", " (inventory.cpu.threads) " threads"
                @if !inventory.cpu.features.is_empty() { ", " (inventory.cpu.features.join(", ")) }
            }
            @if !inventory.cpu.microcode.is_empty() {
                dt { "Microcode" } dd { (inventory.cpu.microcode) }
            }
            dt { "Memory" } dd { (memory(inventory.memory_bytes)) }
        }
        @if !open.is_empty() {
            p.problem { "Its processor is vulnerable, and its kernel does nothing about it: " (open) }
        }
        @if !inventory.gpus.is_empty() {
            div.wide { table.rows {
                thead { tr { th { "GPU" } th { "At" } th.number { "Memory" } th { "Works" } } }
                tbody { @for gpu in &inventory.gpus { (card(gpu)) } }
            } }
        }
        @if !inventory.disks.is_empty() {
            div.wide { table.rows {
                thead { tr { th { "Disk" } th { "Model" } th.number { "Size" } th { "" } } }
                tbody { @for disk in &inventory.disks { tr {
                    td { code { (disk.name) } }
                    td { (disk.model) }
                    td.number { (size(disk.bytes)) }
                    td { @if disk.rotational { "spins" } }
                } } }
            } }
        }
        @if !inventory.nics.is_empty() {
            div.wide { table.rows {
                thead { tr { th { "Network" } th { "MAC address" } th { "Driver" } th { "" } } }
                tbody { @for nic in &inventory.nics { tr {
                    td { code { (nic.name) } }
                    td { code { (nic.mac) } }
                    td { (nic.driver.as_deref().unwrap_or("-")) }
                    td {
                        @if nic.carrier { "has a link" } @else { "no link" }
                        @if nic.booted_from { ", boots" }
                    }
                } } }
            } }
        }
        @if inventory.gpus.is_empty() { p.quiet { "No GPU." } }
        @if inventory.disks.is_empty() { p.quiet { "No disk." } }
        @for device in &inventory.undriven {
            p.problem {
                "Without a driver: " (device.bus) " " (device) " at " (device.address)
                @match &device.module {
                    Some(module) => { ": " (module) " does not take it" },
                    None => { ": no module of the image is for it" },
                }
            }
        }
    }
}

fn card(gpu: &Gpu) -> Markup {
    html! {
        tr {
            td { (gpu.name.as_deref().unwrap_or(&gpu.pci_id)) }
            td { code { (gpu.address) } }
            td.number { (gpu.memory_bytes.map_or("-".into(), memory)) }
            td.text { @match &gpu.usable { Ok(()) => { "yes" }, Err(why) => { "no: " (why) } } }
        }
    }
}

/// The processor's faults that nothing is done about.
fn vulnerable(inventory: &Inventory) -> String {
    let open = inventory.cpu.vulnerabilities.iter().filter(|v| v.state.starts_with("Vulnerable"));
    open.map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What of a machine's hardware is not what was approved.
pub(super) fn changes(changes: &[String]) -> Markup {
    html! {
        @if !changes.is_empty() {
            div.note role="status" {
                strong { "Its hardware is not what was approved:" }
                ul { @for change in changes { li { (change) } } }
                "To approve it is to take it as it is now."
            }
        }
    }
}

/// What a machine that asks to be taken in says that it is made of.
pub(super) fn claimed(hardware: &Hardware) -> Markup {
    let told = |list: &[String]| if list.is_empty() { "none".into() } else { list.join(", ") };
    html! {
        dl {
            dt { "Serial" } dd { (hardware.serial.as_deref().unwrap_or("none")) }
            @if !hardware.cpu.is_empty() { dt { "Processor" } dd { (hardware.cpu) } }
            dt { "GPUs" } dd { (told(&hardware.gpus)) }
            dt { "Disks" } dd { (told(&hardware.disks)) }
            dt { "TPM" } dd {
                @match &hardware.chip {
                    Some(chip) => { code { (chip.short()) } ", which vouches for its boot" },
                    None => { "none vouches for it: all of this is the machine's own word" },
                }
            }
        }
    }
}
