//! One machine: what it is, what it did, what it says.

use super::{
    act, console, page, state, state_tag, state_text, style,
    text::{moment, seconds},
    trouble, watched, work,
};
use maud::{Markup, PreEscaped, html};
use protocol::{
    Digest,
    console::ConsolePage,
    earnings::MachineWork,
    fleet::{MachineDetail, MachineStatus},
    inventory::Inventory,
};

/// What a machine's page shows.
pub struct Machine {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The machine.
    pub detail: MachineDetail,
    /// Which of its events and deaths those are.
    pub past: Past,
    /// Its groups, strongest first.
    pub groups: Vec<String>,
    /// What the ledger says of its work.
    pub work: MachineWork,
    /// The end of its console, or what was sought of it.
    pub console: ConsolePage,
    /// Whether there are lines before those.
    pub before: bool,
    /// What was sought: a text, a boot, and before which line.
    pub sought: (String, Option<Digest>, Option<u64>),
}

/// Which events and deaths are shown.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Whether its kernel died at all.
    pub died: bool,
    /// What the deaths' logs were sought through for.
    pub crash: Option<String>,
    /// Before which event there are older ones.
    pub older: Option<u64>,
    /// Whether the events are the newest.
    pub newest: bool,
}

/// The processor's faults that nothing is done about.
fn vulnerable(inventory: &Inventory) -> String {
    let open = inventory.cpu.vulnerabilities.iter().filter(|v| v.state.starts_with("Vulnerable"));
    open.map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `GET /machines/{mac}`.
/// `wrong` says what could not be done a moment ago.
pub fn machine(shown: &Machine, operator: Option<&str>, wrong: Option<&str>) -> Markup {
    let detail = &shown.detail;
    let machine = &detail.machine;
    let or_none = |text: &Option<String>| text.clone().unwrap_or("-".into());
    // An operator may be writing.
    let frame = if operator.is_some() { page } else { watched };
    frame(
        &format!("{} · aliaOS", machine.name),
        operator,
        html! {
            main {
                h2 { (machine.name) " " (state_tag(machine)) }
                @if let Some(wrong) = wrong { p.problem role="alert" { (wrong) } }
                @if let Some(waits) = &machine.life.waits_for {
                    p.quiet {
                        "Waits for " (waits)
                        @if let Some(deadline) = machine.life.deadline { ", until " (moment(deadline)) " (UTC)" }
                        "."
                    }
                }
                (act::actions(machine, operator))
                (trouble(machine))
                @if !detail.changes.is_empty() {
                    p { "Its hardware is not what was approved:" }
                    ul { @for change in &detail.changes { li { (change) } } }
                }
                dl {
                    dt { "MAC address" } dd { code { (machine.mac) } }
                    dt { "UUID" } dd { code { (or_none(&machine.uuid)) } }
                    dt { "Serial" } dd { (or_none(&machine.serial)) }
                    dt { "Firmware" } dd {
                        (or_none(&machine.firmware))
                        @if let Some(mode) = &machine.boot_mode { " by " (mode) }
                    }
                    dt { "Address" } dd { (or_none(&machine.address)) }
                    dt { "Node key" } dd { code.long { (machine.node.map_or("-".into(), |key| key.to_string())) } }
                    dt { "Key kept in" } dd { (held(machine)) }
                    @if !shown.groups.is_empty() {
                        dt { "Groups" } dd { @for (at, group) in shown.groups.iter().enumerate() {
                            @if at > 0 { ", " }
                            a href={ "/groups/" (group) } { (group) }
                        } }
                    }
                    (work::sensors(machine.readings.as_ref(), shown.now))
                    @if let Some(inventory) = &detail.inventory {
                        dt { "System" } dd { (inventory.system.vendor) " " (inventory.system.product) }
                        dt { "Processor" } dd { (inventory.cpu.model) ", " (inventory.cpu.threads) " threads" }
                        @if !inventory.cpu.microcode.is_empty() {
                            dt { "Microcode" } dd { (inventory.cpu.microcode) }
                        }
                        @let open = vulnerable(inventory);
                        @if !open.is_empty() { dt { "Vulnerable" } dd.problem { (open) } }
                        dt { "Memory" } dd { (inventory.memory_bytes >> 20) " MiB" }
                        dt { "GPUs" } dd { (inventory.gpus.len()) }
                        dt { "Disks" } dd { (inventory.disks.len()) }
                        @if !inventory.undriven.is_empty() {
                            dt { "Without a driver" } dd.problem {
                                @for device in &inventory.undriven {
                                    p {
                                        (device.bus) " " (device) " at " (device.address)
                                        @match &device.module {
                                            Some(module) => { ": " (module) " does not take it" },
                                            None => { ": no module of the image is for it" },
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if let Some(boot) = &machine.boot {
                    h3 { "Latest boot: " (seconds(boot.seconds)) }
                    table {
                        thead { tr { th { "Stage" } th { "State" } th.number { "Seconds" } th { "" } } }
                        tbody { @for stage in &boot.stages { tr class=(state(stage.state)) {
                            td { (stage.name) }
                            td { (state_text(stage.state)) }
                            td.number { (format!("{:.3}", stage.seconds)) }
                            td.text { (stage.detail) }
                        } } }
                    }
                }
                (crashes(shown))
                (work::section(&shown.work))
                (console::section(shown))
                h3 #timeline { "Timeline" }
                table {
                    thead { tr { th { "When (UTC)" } th { "What" } th { "" } } }
                    tbody { @for event in &detail.timeline { tr class=(event.kind) {
                        td.when { (moment(event.at)) }
                        td { (event.kind) }
                        td.text { (event.text) }
                    } } }
                }
                @if !shown.past.newest {
                    p { a href={ "/machines/" (machine.mac) "#timeline" } { "Newest events" } }
                }
                @if let Some(older) = shown.past.older {
                    p { a rel="next" href={ "/machines/" (machine.mac) "?events=" (older) "#timeline" } {
                        "Older events"
                    } }
                }
            }
            script { (PreEscaped(style::CONSOLE)) }
        },
    )
}

/// Its kernel's deaths, and a form to seek through their logs.
fn crashes(shown: &Machine) -> Markup {
    let mac = &shown.detail.machine.mac;
    let sought = shown.past.crash.as_deref();
    html! {
        @if shown.past.died {
            section #crashes {
                h3 { "Crashes" }
                form.search method="get" action={ "/machines/" (mac) "#crashes" } role="search" {
                    label { "Search logs " input type="search" name="crash" value=(sought.unwrap_or(""))
                        maxlength="100" placeholder="words of a line"; }
                    button type="submit" { "Show crashes" }
                    @if sought.is_some() { a href={ "/machines/" (mac) "#crashes" } { "All" } }
                }
                @if shown.detail.crashes.is_empty() { p.quiet { "No log has a line like that." } }
                table {
                    thead { tr { th { "Reported (UTC)" } th { "The kernel's word" } th { "" } } }
                    tbody { @for crash in &shown.detail.crashes { tr {
                        td.when { (moment(crash.at)) }
                        td.text {
                            (crash.reason)
                            @for line in &crash.found { p { code { (line) } } }
                        }
                        td { a href={ "/v1/machines/" (mac) "/crashes/" (crash.id) } {
                            "log, " (crash.bytes) " bytes"
                        } }
                    } } }
                }
            }
        }
    }
}

/// How a machine's key outlasts the power.
fn held(machine: &MachineStatus) -> Markup {
    html! {
        @match machine.held.as_deref() {
            Some("tpm") => { "its TPM" }
            Some("uefi-variable") => { "a UEFI variable, which root on the machine reads" }
            Some("medium") => { "the stick that it boots from, for whoever holds that" }
            Some("memory") => { "memory: it ends with this boot" }
            _ => { "-" }
        }
        @if let Some(chip) = &machine.chip { ", boot vouched for by TPM " code { (chip.short()) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        console::{ConsoleBoot, ConsoleEntry, ConsoleSource},
        inventory::{Undriven, Vulnerability},
    };

    #[test]
    fn a_machine_that_lacks_a_driver_says_so_by_the_devices_id() {
        let undriven = |id: &str, module: Option<&str>| Undriven {
            bus: "pci".into(),
            address: "0000:00:02.0".into(),
            id: id.into(),
            class: "network".into(),
            module: module.map(str::to_owned),
        };
        let fault =
            |name: &str, state: &str| Vulnerability { name: name.into(), state: state.into() };
        let mut inventory = Inventory {
            undriven: vec![undriven("8086:15f3", None), undriven("<b>", Some("igc"))],
            ..Inventory::default()
        };
        inventory.cpu.microcode = "0xf4".into();
        inventory.cpu.vulnerabilities =
            vec![fault("mds", "Vulnerable; SMT vulnerable"), fault("l1tf", "Not affected")];
        let detail = MachineDetail {
            machine: status(),
            inventory: Some(inventory),
            timeline: vec![],
            crashes: vec![],
            changes: vec!["processor: A -> B".into()],
        };
        let page = super::machine(&shown(detail), None, None).into_string();
        let told = "pci 8086:15f3 (network) at 0000:00:02.0: no module of the image is for it";
        assert!(page.contains(told), "{page}");
        assert!(page.contains(": igc does not take it") && !page.contains("<b>"), "{page}");
        assert!(page.contains("not what was approved") && page.contains("processor: A"), "{page}");
        assert!(page.contains("0xf4") && page.contains(">mds<"), "{page}");
    }

    #[test]
    fn what_a_machine_says_of_itself_cannot_become_markup() {
        let detail = MachineDetail {
            machine: status(),
            inventory: None,
            timeline: vec![],
            crashes: vec![],
            changes: vec!["<b>".into()],
        };
        let page = super::machine(&shown(detail), None, None).into_string();
        assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains("<b>"));
        assert!(page.contains("&lt;script&gt;"));
    }

    fn status() -> MachineStatus {
        MachineStatus {
            mac: "02:00:00:00:00:01".into(),
            name: "<script>alert(1)</script>".into(),
            uuid: None,
            serial: Some("\"><img src=x onerror=alert(1)>".into()),
            firmware: None,
            boot_mode: None,
            address: None,
            node: None,
            release: None,
            first_seen: 0,
            last_seen: 0,
            life: protocol::fleet::Life::default(),
            problem: Some("<b>".into()),
            held: None,
            chip: None,
            pending: None,
            boot: None,
            readings: None,
        }
    }

    fn shown(detail: MachineDetail) -> Machine {
        let line = |id: u64, missing, text: &str| ConsoleEntry {
            id,
            boot: Digest([1; 32]),
            source: ConsoleSource::Kernel,
            sequence: id,
            at_ms: 1_500,
            received: 0,
            level: Some(3),
            missing,
            text: text.into(),
        };
        let lines = vec![line(7, 0, "<img src=x>"), line(8, 12, "usb 1-1")];
        let boots = vec![ConsoleBoot { boot: Digest([1; 32]), began: 0, lines: 2 }];
        Machine {
            now: 0,
            detail,
            past: Past::default(),
            groups: vec!["<b>".into()],
            work: MachineWork::default(),
            console: ConsolePage { lines, gone: 40, boots },
            before: true,
            sought: ("<b>".into(), None, None),
        }
    }

    #[test]
    fn a_console_says_what_is_missing_and_where_the_older_lines_are() {
        let detail = MachineDetail {
            machine: status(),
            inventory: None,
            timeline: vec![],
            crashes: vec![],
            changes: vec![],
        };
        let page = super::machine(&shown(detail), None, None).into_string();
        assert!(page.contains("lines are missing here: 12"), "{page}");
        assert!(page.contains("40 older lines went"), "{page}");
        assert!(page.contains("before=7") && page.contains("search=%3Cb%3E"), "{page}");
    }
}
