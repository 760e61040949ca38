//! The overview: what needs somebody first, then the list.

use super::{
    Names, job, silent, state, state_tag, state_text, style,
    text::{ago, seconds, watts},
    trouble, watched,
};
use crate::life::STATES;
use maud::{Markup, PreEscaped, html};
use protocol::{
    boot::StageState,
    fleet::{MachineState, MachineStatus, ProvisionerStatus, StageStatus, UpstreamStatus},
};

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
    /// What the machines are called that work at jobs.
    pub names: Names,
    /// Where the list goes on.
    pub next: Option<String>,
    /// Whether there is a medium for machines elsewhere.
    pub medium: bool,
}

/// `GET /`.
pub fn overview(seen: &Seen, operator: Option<&str>) -> Markup {
    watched(
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
            @if seen.medium {
                p.quiet {
                    "A machine that is not on this network boots a medium: "
                    a href="/miners" { "make one, or look at those that were made" } ", or "
                    a href="/miners/medium" download="alia-medium.img" { "download it as it is" } "."
                }
            }
        }
        @for job in upstream.parameter_servers.iter().flat_map(|server| &server.jobs) {
            (job::section(job, &seen.names))
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
            @if status.upstream.ledger.is_some() {
                (fact(
                    "Earned by",
                    status.work.confirmed.to_string(),
                    format!(
                        "confirmed receipts of {} machines; {} pending",
                        status.work.nodes,
                        status.work.receipts.saturating_sub(status.work.confirmed),
                    ),
                ))
            }
            @if status.work.measured > 0 {
                (fact(
                    "Power",
                    watts(status.work.milliwatts),
                    format!("of {} machines that measure it", status.work.measured),
                ))
            }
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
                @if let Some(power) = machine.readings.as_ref().and_then(|read| read.said.milliwatts) {
                    span.quiet { (watts(power)) }
                }
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

fn stage_pill(stage: &StageStatus) -> Markup {
    html! {
        li class=(state(stage.state)) title=(stage.detail) {
            (stage.name) " " span.number { (seconds(stage.seconds)) }
            @if stage.state != StageState::Done { " " em { (state_text(stage.state)) } }
        }
    }
}
