//! The page: HTML from values. Complete without JavaScript; with it, the part that changes is
//! fetched again when something happened. Nothing comes from elsewhere.

mod style;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::{
    PublicKey,
    api::{JobPhase, JobStatus},
    boot::StageState,
    fleet::{MachineDetail, MachineStatus, ProvisionerStatus, StageStatus, UpstreamStatus},
};

/// What the overview shows.
pub struct Seen {
    /// Milliseconds since 1970.
    pub now: u64,
    /// The provisioner, and what it heard from others.
    pub status: ProvisionerStatus,
    /// All machines.
    pub machines: Vec<MachineStatus>,
}

/// Batches shown of each job.
const RECENT: usize = 12;

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
            @for machine in &seen.machines { (machine_card(machine, seen.now)) }
        }
        @for job in upstream.parameter_servers.iter().flat_map(|server| &server.jobs) {
            (job_section(job, &seen.machines))
        }
    }
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
                dl {
                    dt { "MAC address" } dd { code { (machine.mac) } }
                    dt { "UUID" } dd { code { (or_none(&machine.uuid)) } }
                    dt { "Serial" } dd { (or_none(&machine.serial)) }
                    dt { "Firmware" } dd { (or_none(&machine.firmware)) " by " (or_none(&machine.boot_mode)) }
                    dt { "Address" } dd { (or_none(&machine.address)) }
                    dt { "Node key" } dd { code.long { (machine.node.map_or("-".into(), |key| key.to_string())) } }
                    @if let Some(inventory) = &detail.inventory {
                        dt { "System" } dd { (inventory.system.vendor) " " (inventory.system.product) }
                        dt { "Processor" } dd { (inventory.cpu.model) ", " (inventory.cpu.threads) " threads" }
                        dt { "Memory" } dd { (inventory.memory_bytes >> 20) " MiB" }
                        dt { "GPUs" } dd { (inventory.gpus.len()) }
                        dt { "Disks" } dd { (inventory.disks.len()) }
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
                            td { (stage.detail) }
                        } } }
                    }
                }
                h3 { "Timeline" }
                table {
                    thead { tr { th { "When (UTC)" } th { "What" } th { "" } } }
                    tbody { @for event in &detail.timeline { tr class=(event.kind) {
                        td.when { (moment(event.at)) }
                        td { (event.kind) }
                        td { (event.text) }
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
                    (image.manifest.kernel.bytes + image.manifest.initramfs.bytes) / 1_000_000,
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

fn machine_card(machine: &MachineStatus, now: u64) -> Markup {
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
                    span.quiet { " seen " (ago(now, machine.last_seen)) }
                }
            }
            @if let Some(boot) = &machine.boot {
                ol.stages { @for stage in &boot.stages { (stage_pill(stage)) } }
            }
            @if let Some(problem) = &machine.problem { p.problem role="alert" { (problem) } }
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

fn job_section(job: &JobStatus, machines: &[MachineStatus]) -> Markup {
    let name = |node: &PublicKey| {
        let machine = machines.iter().find(|machine| machine.node.as_ref() == Some(node));
        machine.map_or_else(|| node.short(), |machine| machine.name.clone())
    };
    let (done, all) = steps(job);
    html! {
        section {
            h2 { "Job " (job.label) " " span.quiet { (job.kind) ", " (phase(&job.phase)) } }
            @if let JobPhase::Failed(reason) = &job.phase { p.problem role="alert" { (reason) } }
            progress max=(all) value=(done) aria-label="steps done" {}
            div.facts.small {
                div.fact { span.quiet { "Epoch" } strong { (shown(job.epoch, job.epochs)) } span.quiet { "of " (job.epochs) } }
                div.fact { span.quiet { "Step" } strong { (shown(job.step, job.steps)) } span.quiet { "of " (job.steps) } }
                div.fact { span.quiet { "Loss" } strong { (job.loss.map_or("-".into(), |loss| format!("{loss:.4}"))) } span.quiet { "a target token" } }
                div.fact { span.quiet { "Tokens/s" } strong { (format!("{:.0}", job.tokens_per_second)) } span.quiet { (seconds(job.seconds)) " so far" } }
                div.fact { span.quiet { "Receipts" } strong { (job.receipts) } span.quiet { (job.receipts_on_chain) " in blocks, " (job.receipts_confirmed) " confirmed" } }
            }
            div.two {
                div.wide {
                    h3 { "Who works" }
                    table {
                        thead { tr { th { "Node" } th { "With" } th.number { "Batches" } th.number { "Receipts" } th.number { "ms a batch" } th { "Now" } } }
                        tbody { @for worker in &job.workers { tr {
                            td { (name(&worker.node)) }
                            td { (worker.device) }
                            td.number { (worker.batches) }
                            td.number { (worker.receipts) }
                            td.number { (worker.batch_ms.map_or("-".into(), |ms| format!("{ms:.0}"))) }
                            td { (worker.doing.clone().unwrap_or_else(|| format!("silent for {:.0} s", worker.silent_seconds))) }
                        } } }
                    }
                }
                div.wide {
                    h3 { "Batches done last" }
                    table {
                        thead { tr { th.number { "Epoch" } th.number { "Step" } th { "Part" } th { "By" } th { "Receipt" } th { "" } } }
                        tbody { @for batch in job.recent.iter().take(RECENT) { tr {
                            td.number { (batch.epoch + 1) }
                            td.number { (batch.step + 1) }
                            td { (batch.part) }
                            td { (name(&batch.node)) }
                            td { code title=(batch.receipt) { (batch.receipt.0.short()) } }
                            td { @if !batch.used { "late" } }
                        } } }
                    }
                }
            }
        }
    }
}

/// Steps done, of how many.
fn steps(job: &JobStatus) -> (u64, u64) {
    let all = u64::from(job.epochs) * u64::from(job.steps);
    let done = match job.phase {
        JobPhase::Done | JobPhase::Settling => all,
        _ => u64::from(job.epoch) * u64::from(job.steps) + u64::from(job.step),
    };
    (done.min(all), all.max(1))
}

/// People count from 1, and the last one stays the last when it is done.
fn shown(index: u32, of: u32) -> u32 {
    index.saturating_add(1).min(of)
}

fn phase(phase: &JobPhase) -> &'static str {
    match phase {
        JobPhase::Waiting => "waiting for its files",
        JobPhase::Running => "running",
        JobPhase::Settling => "computed, receipts on their way",
        JobPhase::Done => "done",
        JobPhase::Failed(_) => "failed",
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

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) / 1000 {
        0..=4 => "now".into(),
        s => format!("{} ago", seconds(s as f64)),
    }
}

/// `2026-03-01 12:34:56.789`, by the civil calendar from days since 1970 (proleptic Gregorian;
/// eras of 400 years that begin on 1 March).
fn moment(unix_ms: u64) -> String {
    let (day, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = day + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_the_calendar_has_it() {
        assert_eq!(moment(0), "1970-01-01 00:00:00.000");
        assert_eq!(moment(951_827_696_789), "2000-02-29 12:34:56.789");
        assert_eq!(moment(1_735_689_599_999), "2024-12-31 23:59:59.999");
    }

    #[test]
    fn what_a_machine_says_of_itself_cannot_become_markup() {
        let machine = MachineStatus {
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
            problem: Some("<b>".into()),
            boot: None,
        };
        let detail = MachineDetail { machine, inventory: None, timeline: vec![] };
        let page = super::machine(&detail).into_string();
        assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains("<b>"));
        assert!(page.contains("&lt;script&gt;"));
    }
}
