//! One machine: what it is, what it did, what it says.

use super::{
    act, console, hardware, live, page, state, state_tag, state_text,
    text::{ago, moment, seconds},
    timeline, trouble, watched, work,
};
use maud::{Markup, html};
use protocol::{
    Digest,
    boot::StageState,
    console::ConsolePage,
    earnings::MachineWork,
    fleet::{BootStatus, MachineDetail, MachineStatus},
};

pub use super::{act::REVOKE, timeline::Part};

/// What a machine's page shows.
pub struct Machine {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The machine.
    pub detail: MachineDetail,
    /// Whether its node key was revoked.
    pub revoked: bool,
    /// Which of its kernel's deaths those are.
    pub deaths: Deaths,
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
    /// Which part of its timeline.
    pub part: Part,
}

/// Which deaths are shown.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    /// Whether its kernel died at all.
    pub died: bool,
    /// What the deaths' logs were sought through for.
    pub sought: Option<String>,
}

/// `GET /machines/{mac}`.
/// `wrong` says what could not be done a moment ago.
pub fn machine(shown: &Machine, operator: Option<&str>, wrong: Option<&str>) -> Markup {
    let machine = &shown.detail.machine;
    // An operator may be writing.
    let frame = if operator.is_some() { page } else { watched };
    // What could not be done was asked for at another place.
    let place = wrong.map(|_| format!("/machines/{}", machine.mac));
    let places = [
        ("hardware", "Hardware"),
        ("boot", "Latest boot"),
        ("work", "Receipts and earnings"),
        ("console", "Console"),
        ("timeline", "Timeline"),
    ];
    frame(
        &format!("{} · aliaOS", machine.name),
        "/",
        operator,
        html! {
            main #main {
                @if let Some(wrong) = wrong { p.problem role="alert" { (wrong) } }
                (live(Some(&machine.mac), place.as_deref(), html! {
                    (head(shown, operator))
                    nav #on.on aria-label="On this page" {
                        @for (id, name) in places { a href={ "#" (id) } { (name) } }
                    }
                    div #made.two {
                        section #known { h3 { "What is known" } (known(shown)) }
                        (hardware::section(shown.detail.inventory.as_ref()))
                    }
                    (boot(machine.boot.as_ref()))
                    (crashes(shown))
                    (work::section(&shown.work))
                    (console::section(shown))
                    (timeline::section(&machine.mac, &shown.detail.timeline, &shown.part))
                }))
            }
        },
    )
}

/// What matters most of it, and what may be done.
fn head(shown: &Machine, operator: Option<&str>) -> Markup {
    let machine = &shown.detail.machine;
    let key = machine.node.as_ref().filter(|_| !shown.revoked);
    html! {
        div #title.row.title {
            h2 { (machine.name) }
            (state_tag(machine))
            span.end.quiet { "seen " (ago(shown.now, machine.last_seen)) }
        }
        @if let Some(waits) = &machine.life.waits_for {
            p #waits.quiet {
                "Waits for " (waits)
                @if let Some(deadline) = machine.life.deadline { ", until " (moment(deadline)) " (UTC)" }
                "."
            }
        }
        (act::actions(machine, key, operator))
        div #trouble {
            (trouble(machine))
            (hardware::changes(&shown.detail.changes))
        }
        (work::sensors(machine.readings.as_ref(), shown.now))
    }
}

fn known(shown: &Machine) -> Markup {
    let machine = &shown.detail.machine;
    let or_none = |text: &Option<String>| text.clone().unwrap_or("-".into());
    html! {
        dl {
            dt { "MAC address" } dd { code { (machine.mac) } }
            dt { "Address" } dd { code { (or_none(&machine.address)) } }
            dt { "Serial" } dd { (or_none(&machine.serial)) }
            dt { "UUID" } dd { code { (or_none(&machine.uuid)) } }
            dt { "Firmware" } dd {
                (or_none(&machine.firmware))
                @if let Some(mode) = &machine.boot_mode { " by " (mode) }
            }
            dt { "Node key" } dd {
                code.long { (machine.node.map_or("-".into(), |key| key.to_string())) }
                @if shown.revoked { " " span.stands.revoked { "revoked" } }
            }
            dt { "Key kept in" } dd { (held(machine)) }
            @if let Some(release) = &machine.release {
                dt { "Image" } dd { code title=(release) { (release.short()) } }
            }
            @if !shown.groups.is_empty() {
                dt { "Groups" } dd { @for (at, group) in shown.groups.iter().enumerate() {
                    @if at > 0 { ", " }
                    a href={ "/groups/" (group) } { (group) }
                } }
            }
            dt { "First seen" } dd { (moment(machine.first_seen)) " UTC" }
        }
    }
}

fn boot(boot: Option<&BootStatus>) -> Markup {
    html! {
        section #boot {
            @match boot {
                None => {
                    h3 { "Latest boot" }
                    p.none { "None is known: it is told of from the moment when its firmware asks what to boot." }
                },
                Some(boot) => {
                    h3 { "Latest boot: " (seconds(boot.seconds)) }
                    div.wide { table.rows {
                        thead { tr { th { "Stage" } th { "State" } th.number { "Seconds" } th { "" } } }
                        tbody { @for stage in &boot.stages { tr class=(state(stage.state)) {
                            td { (stage.name) }
                            td { @if stage.state == StageState::Done { "done" } @else { strong { (state_text(stage.state)) } } }
                            td.number { (format!("{:.3}", stage.seconds)) }
                            td.text { (stage.detail) }
                        } } }
                    } }
                },
            }
        }
    }
}

/// Its kernel's deaths, and a form to seek through their logs.
fn crashes(shown: &Machine) -> Markup {
    let mac = &shown.detail.machine.mac;
    let sought = shown.deaths.sought.as_deref();
    html! {
        section #crashes { @if shown.deaths.died {
            h3 { "Crashes" }
            form.search method="get" action={ "/machines/" (mac) "#crashes" } role="search" {
                label { "Search logs " input type="search" name="crash" value=(sought.unwrap_or(""))
                    maxlength="100" placeholder="words of a line"; }
                button type="submit" { "Show crashes" }
                @if sought.is_some() { a href={ "/machines/" (mac) "#crashes" } { "All" } }
            }
            @if shown.detail.crashes.is_empty() {
                p.none { "No log has a line like that." }
            } @else {
                div.wide { table.rows {
                    thead { tr { th { "Reported (UTC)" } th { "The kernel's word" } th { "" } } }
                    tbody { @for crash in &shown.detail.crashes { tr {
                        td.when { (moment(crash.at)) }
                        td.text {
                            (crash.reason)
                            @if !crash.proven { " (unproven: anybody could have sent it)" }
                            @for line in &crash.found { p { code { (line) } } }
                        }
                        td { a href={ "/v1/machines/" (mac) "/crashes/" (crash.id) } {
                            "log, " (crash.bytes) " bytes"
                        } }
                    } } }
                } }
            }
        } }
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
pub(super) mod tests {
    use super::*;
    use protocol::{
        console::{ConsoleBoot, ConsoleEntry, ConsoleSource},
        inventory::{Inventory, Undriven, Vulnerability},
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
        assert!(page.contains("0xf4") && page.contains("nothing about it: mds<"), "{page}");
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

    pub(in crate::page) fn status() -> MachineStatus {
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
            revoked: false,
            deaths: Deaths::default(),
            groups: vec!["<b>".into()],
            work: MachineWork::default(),
            console: ConsolePage { lines, gone: 40, boots },
            before: true,
            sought: ("<b>".into(), None, None),
            part: Part::default(),
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
