//! The page: HTML from values. Complete without JavaScript; with it, the part that changes is
//! fetched again when something happened. Nothing comes from elsewhere.

mod act;
mod approvals;
mod job;
pub mod miners;
mod sign;
mod style;
mod text;

use crate::life::STATES;
pub use approvals::approvals;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::{
    boot::StageState,
    fleet::{
        MachineDetail, MachineState, MachineStatus, ProvisionerStatus, StageStatus, UpstreamStatus,
    },
    inventory::Inventory,
};
pub use sign::sign_in;
pub use text::moment;
use text::{ago, seconds};

/// What the overview shows.
pub struct Seen {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The provisioner, and what it heard from others.
    pub status: ProvisionerStatus,
    /// The machines of this page of the list.
    pub machines: Vec<MachineStatus>,
    /// Those that need somebody, shown before the list.
    pub first: Vec<MachineStatus>,
    /// What was sought: a text, a state, those with a problem alone.
    pub sought: (String, Option<MachineState>, bool),
    /// Where the list goes on.
    pub next: Option<String>,
}

/// `GET /`.
pub fn overview(seen: &Seen, operator: Option<&str>) -> Markup {
    page(
        "aliaOS",
        operator,
        html! {
            main {
                (search(seen))
                div #live { (live(seen)) }
            }
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
        @if !seen.first.is_empty() {
            section {
                h2 { "Need somebody" }
                @for machine in &seen.first {
                    (machine_card(machine, heard(machine, upstream, seen.now), seen.now))
                }
                p.quiet { a href="/?problem=true" { "All with a problem" } }
            }
        }
        section {
            h2 { "Machines" }
            @if seen.machines.is_empty() {
                @if seen.status.machines == 0 {
                    p.quiet { "None yet. A machine appears here when it asks this network what to boot." }
                } @else {
                    p.quiet { "None of " (seen.status.machines) " is so. " a href="/" { "Show all" } }
                }
            }
            @for machine in &seen.machines {
                (machine_card(machine, heard(machine, upstream, seen.now), seen.now))
            }
            @if let Some(next) = &seen.next { p { a rel="next" href=(next) { "More machines" } } }
        }
        @for job in upstream.parameter_servers.iter().flat_map(|server| &server.jobs) {
            (job::section(job, &seen.machines))
        }
    }
}

/// What is sought, as a form whose answer is a URL.
fn search(seen: &Seen) -> Markup {
    let (text, state, problem) = &seen.sought;
    html! {
        form.search method="get" action="/" role="search" {
            label { "Search " input type="search" name="search" value=(text) maxlength="100"
                placeholder="name, serial, address, key"; }
            label { "State "
                select name="state" {
                    option value="" { "any" }
                    @for each in STATES {
                        option value=(each.as_str()) selected[Some(each) == *state] { (each.as_str()) }
                    }
                }
            }
            label { input type="checkbox" name="problem" value="true" checked[*problem]; " with a problem" }
            button type="submit" { "Show" }
        }
    }
}

/// `GET /jobs`.
pub fn jobs(
    upstream: &UpstreamStatus,
    machines: &[MachineStatus],
    operator: Option<&str>,
) -> Markup {
    let jobs = || upstream.parameter_servers.iter().flat_map(|server| &server.jobs);
    page(
        "Jobs · aliaOS",
        operator,
        html! {
            main {
                (silent(upstream))
                @if jobs().next().is_none() {
                    h2 { "Jobs" }
                    p.quiet { "None is known. " code { "alia job submit" } " makes one." }
                }
                @for job in jobs() { (job::section(job, machines)) }
            }
        },
    )
}

/// The processor's faults that nothing is done about.
fn vulnerable(inventory: &Inventory) -> String {
    let open = inventory.cpu.vulnerabilities.iter().filter(|v| v.state.starts_with("Vulnerable"));
    open.map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// `GET /machines/{mac}`.
/// `wrong` says what could not be done a moment ago.
pub fn machine(detail: &MachineDetail, operator: Option<&str>, wrong: Option<&str>) -> Markup {
    let machine = &detail.machine;
    let or_none = |text: &Option<String>| text.clone().unwrap_or("-".into());
    page(
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

/// Where a machine stands, at a glance.
fn state_tag(machine: &MachineStatus) -> Markup {
    let state = machine.life.state;
    html! { span class={ "stands " (state.as_str()) } { (state.as_str()) } }
}

fn page(title: &str, operator: Option<&str>, body: Markup) -> Markup {
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
                header {
                    h1 { a href="/" { "aliaOS" } }
                    nav aria-label="Pages" {
                        a href="/" { "Machines" }
                        a href="/approvals" { "Approvals" }
                        a href="/jobs" { "Jobs" }
                    }
                    span #link.quiet role="status" {}
                    @match operator {
                        None => { a.end href="/sign-in" { "Sign in" } },
                        Some(operator) => {
                            form.end method="post" action="/sign-out" {
                                span.quiet { (operator) " " }
                                button type="submit" { "Sign out" }
                            }
                        },
                    }
                }
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
            (fact("Machines", status.machines.to_string(), states(status)))
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

/// How many machines are in each state, and who gives addresses.
fn states(status: &ProvisionerStatus) -> String {
    let count = |state: &MachineState| {
        status.states.get(state.as_str()).map(|count| format!("{count} {}", state.as_str()))
    };
    let counts: Vec<String> = STATES.iter().filter_map(count).collect();
    format!("{}; DHCP: {}", counts.join(", "), status.dhcp).trim_start_matches("; ").into()
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
                (state_tag(machine))
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
            (trouble(machine))
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

/// What is wrong with a machine, or that its key waits, which says the same and what to do.
fn trouble(machine: &MachineStatus) -> Markup {
    html! {
        @if let Some(pending) = &machine.pending {
            p.problem role="alert" {
                "Node key " code { (pending.short()) } " waits for approval: "
                a href="/approvals" { "approve it here" } ", or by "
                code { "alia node approve " (machine.name) } "."
            }
        } @else if let Some(problem) = &machine.problem {
            p.problem role="alert" { (problem) }
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
            changes: vec!["processor: A -> B".into()],
        };
        let page = super::machine(&detail, None, None).into_string();
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
        let page = super::machine(&detail, None, None).into_string();
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
