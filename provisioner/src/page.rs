//! The page: HTML from values. Complete without JavaScript; with it, the part that changes is
//! fetched again when something happened. Nothing comes from elsewhere.

mod job;
pub mod miners;
mod style;
mod text;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::{
    PublicKey,
    boot::StageState,
    fleet::{MachineDetail, MachineStatus, ProvisionerStatus, StageStatus, UpstreamStatus},
    inventory::Inventory,
};
pub use text::moment;
use text::{ago, seconds};

/// What the overview shows.
pub struct Seen {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The provisioner, and what it heard from others.
    pub status: ProvisionerStatus,
    /// All machines.
    pub machines: Vec<MachineStatus>,
}

/// `GET /`.
pub fn overview(seen: &Seen) -> Markup {
    page(
        "aliaOS",
        html! {
            main #live { (live(seen)) }
            script { (PreEscaped(style::SCRIPT)) }
        },
    )
}

/// The part of the overview that changes.
pub fn live(seen: &Seen) -> Markup {
    let upstream = &seen.status.upstream;
    html! {
        (facts(seen))
        (silent(upstream))
        section {
            h2 { "Machines" }
            @if seen.machines.is_empty() {
                p.quiet { "None yet. A machine appears here when it asks this network what to boot." }
            }
            @for machine in &seen.machines {
                (machine_card(machine, heard(machine, upstream, seen.now), seen.now))
            }
        }
        @for job in upstream.parameter_servers.iter().flat_map(|server| &server.jobs) {
            (job::section(job, &seen.machines))
        }
    }
}

/// The processor's faults that nothing is done about.
fn vulnerable(inventory: &Inventory) -> String {
    let open = inventory.cpu.vulnerabilities.iter().filter(|v| v.state.starts_with("Vulnerable"));
    open.map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `GET /machines/{mac}`.
pub fn machine(detail: &MachineDetail) -> Markup {
    let machine = &detail.machine;
    let or_none = |text: &Option<String>| text.clone().unwrap_or("-".into());
    page(
        &format!("{} · aliaOS", machine.name),
        html! {
            main {
                p { a href="/" { "All machines" } }
                h2 { (machine.name) }
                @if let Some(problem) = &machine.problem { p.problem role="alert" { (problem) } }
                @if let Some(pending) = &machine.pending { (waits(&machine.mac, pending)) }
                dl {
                    dt { "MAC address" } dd { code { (machine.mac) } }
                    dt { "UUID" } dd { code { (or_none(&machine.uuid)) } }
                    dt { "Serial" } dd { (or_none(&machine.serial)) }
                    dt { "Firmware" } dd { (or_none(&machine.firmware)) " by " (or_none(&machine.boot_mode)) }
                    dt { "Address" } dd { (or_none(&machine.address)) }
                    dt { "Node key" } dd { code.long { (machine.node.map_or("-".into(), |key| key.to_string())) } }
                    dt { "Key kept in" } dd { (held(machine)) }
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
                @if !detail.crashes.is_empty() {
                    h3 { "Crashes" }
                    table {
                        thead { tr { th { "Reported (UTC)" } th { "The kernel's word" } th { "" } } }
                        tbody { @for crash in &detail.crashes { tr {
                            td.when { (moment(crash.at)) }
                            td.text { (crash.reason) }
                            td { a href={ "/v1/machines/" (machine.mac) "/crashes/" (crash.id) } {
                                "log, " (crash.bytes) " bytes"
                            } }
                        } } }
                    }
                }
                h3 { "Timeline" }
                table {
                    thead { tr { th { "When (UTC)" } th { "What" } th { "" } } }
                    tbody { @for event in &detail.timeline { tr class=(event.kind) {
                        td.when { (moment(event.at)) }
                        td { (event.kind) }
                        td.text { (event.text) }
                    } } }
                }
            }
        },
    )
}

fn page(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // An empty icon, so that browsers ask for none.
                link rel="icon" href="data:,";
                style { (PreEscaped(style::STYLE)) }
                noscript { meta http-equiv="refresh" content="5"; }
            }
            body {
                header { h1 { a href="/" { "aliaOS" } } span #link.quiet {} }
                (body)
            }
        }
    }
}

fn facts(seen: &Seen) -> Markup {
    let status = &seen.status;
    let jobs = status.upstream.parameter_servers.iter().flat_map(|server| &server.jobs);
    let (mut made, mut chained, mut confirmed) = (0, 0, 0);
    for job in jobs {
        made += job.receipts;
        chained += job.receipts_on_chain;
        confirmed += job.receipts_confirmed;
    }
    let height = status.upstream.ledger.as_ref().and_then(|ledger| ledger.height);
    let fact = |name: &str, value: String, more: String| {
        html! { div.fact { span.quiet { (name) } strong { (value) } span.quiet { (more) } } }
    };
    let image = status.image.as_ref();
    html! {
        div.facts {
            (fact("Machines", seen.machines.len().to_string(), format!("DHCP: {}", status.dhcp)))
            (fact(
                "Receipts",
                made.to_string(),
                format!("{chained} in blocks, {confirmed} confirmed"),
            ))
            (fact(
                "Chain height",
                height.map_or("-".into(), |height| height.to_string()),
                status.chain.as_ref().map_or("no chain".into(), ToString::to_string),
            ))
            (fact(
                "Image",
                image.map_or("none".into(), |image| image.manifest.version.clone()),
                image.map_or(String::new(), |image| format!(
                    "Linux {}, {} MB",
                    image.manifest.kernel_release,
                    image.manifest.bytes() / 1_000_000,
                )),
            ))
        }
    }
}

/// Those who do not answer, and why.
fn silent(upstream: &UpstreamStatus) -> Markup {
    let ledger = upstream.ledger.iter().map(|ledger| ("Ledger", &ledger.url, &ledger.error));
    let servers = upstream
        .parameter_servers
        .iter()
        .map(|server| ("Parameter server", &server.url, &server.error));
    html! {
        @for (who, url, error) in ledger.chain(servers) {
            @if let Some(error) = error {
                p.problem role="alert" { (who) " " code { (url) } " does not answer: " (error) }
            }
        }
    }
}

/// When a machine was last heard of, here or by a parameter server that it works for.
fn heard(machine: &MachineStatus, upstream: &UpstreamStatus, now: u64) -> u64 {
    let jobs = upstream.parameter_servers.iter().flat_map(|server| &server.jobs);
    let workers = jobs.flat_map(|job| &job.workers);
    workers
        .filter(|worker| machine.node == Some(worker.node))
        .map(|worker| now.saturating_sub((worker.silent_seconds * 1e3) as u64))
        .fold(machine.last_seen, u64::max)
}

fn machine_card(machine: &MachineStatus, heard: u64, now: u64) -> Markup {
    let how: Vec<&str> =
        [&machine.firmware, &machine.boot_mode].into_iter().flatten().map(String::as_str).collect();
    html! {
        article.card {
            div.row {
                h3 { a href={ "/machines/" (machine.mac) } { (machine.name) } }
                span.quiet { code { (machine.mac) } }
                @if let Some(address) = &machine.address { span.quiet { code { (address) } } }
                span.quiet { (how.join(" ")) }
                span.end {
                    @if let Some(boot) = &machine.boot { strong { (seconds(boot.seconds)) } }
                    span.quiet { " seen " (ago(now, heard)) }
                }
            }
            @if let Some(boot) = &machine.boot {
                ol.stages { @for stage in &boot.stages { (stage_pill(stage)) } }
            }
            @if let Some(problem) = &machine.problem { p.problem role="alert" { (problem) } }
            @if let Some(pending) = &machine.pending { (waits(&machine.mac, pending)) }
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

fn waits(mac: &str, node: &PublicKey) -> Markup {
    html! {
        p.problem role="alert" {
            "Node key " code { (node.short()) } " waits for approval: "
            code { "alia node approve " (mac) }
            ", or on the provisioner's host "
            code { "provisioner approve --database FILE " (mac) " " (node) }
        }
    }
}

fn stage_pill(stage: &StageStatus) -> Markup {
    html! {
        li class=(state(stage.state)) title=(stage.detail) {
            (stage.name) " " span.number { (seconds(stage.seconds)) }
            @if stage.state != StageState::Done { " " em { (state_text(stage.state)) } }
        }
    }
}

fn state(state: StageState) -> &'static str {
    match state {
        StageState::Started => "started",
        StageState::Done => "done",
        StageState::Retrying => "retrying",
        StageState::Failed => "failed",
    }
}

fn state_text(state: StageState) -> &'static str {
    match state {
        StageState::Started => "runs",
        StageState::Done => "done",
        StageState::Retrying => "tries again",
        StageState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::inventory::{Undriven, Vulnerability};

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
        };
        let page = super::machine(&detail).into_string();
        let told = "pci 8086:15f3 (network) at 0000:00:02.0: no module of the image is for it";
        assert!(page.contains(told), "{page}");
        assert!(page.contains(": igc does not take it") && !page.contains("<b>"), "{page}");
        assert!(page.contains("0xf4") && page.contains(">mds<"), "{page}");
    }

    #[test]
    fn what_a_machine_says_of_itself_cannot_become_markup() {
        let detail =
            MachineDetail { machine: status(), inventory: None, timeline: vec![], crashes: vec![] };
        let page = super::machine(&detail).into_string();
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
        }
    }
}
