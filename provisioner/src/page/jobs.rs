//! Jobs, as their parameter servers tell of them: all of them, and one with its workers, batches and
//! receipts.

use super::{
    Names, live, silent,
    text::{count, seconds},
    watched,
};
use maud::{Markup, html};
use protocol::{
    Digest, PublicKey,
    api::{JobPhase, JobStatus},
    fleet::UpstreamStatus,
};
use url::form_urlencoded;

/// Jobs at a time.
const AT_ONCE: usize = 20;
/// The phases that a list can be of.
const PHASES: [&str; 5] = ["waiting", "running", "settling", "done", "failed"];

/// Which jobs are shown.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Those whose label or id contains this, whatever its case.
    pub search: String,
    /// Those of this phase alone.
    pub phase: Option<String>,
    /// Behind so many others.
    pub skip: usize,
}

impl Wanted {
    fn fits(&self, job: &JobStatus) -> bool {
        let search = self.search.to_lowercase();
        let named =
            job.label.to_lowercase().contains(&search) || job.job.to_string().contains(&search);
        named && self.phase.as_deref().is_none_or(|wanted| wanted == name(&job.phase))
    }

    /// Where the list goes on.
    fn next(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(Some(&self.search).filter(|s| !s.is_empty()).map(|s| ("search", s)));
        query.extend_pairs(self.phase.as_ref().map(|phase| ("phase", phase)));
        query.append_pair("skip", &self.skip.saturating_add(AT_ONCE).to_string());
        format!("/jobs?{}", query.finish())
    }
}

/// All jobs that are known.
fn all(upstream: &UpstreamStatus) -> impl Iterator<Item = &JobStatus> {
    upstream.parameter_servers.iter().flat_map(|server| &server.jobs)
}

/// The job of that id.
pub fn find<'a>(upstream: &'a UpstreamStatus, id: &str) -> Option<&'a JobStatus> {
    all(upstream).find(|job| job.job.to_string() == id)
}

/// `GET /jobs`.
pub fn list(upstream: &UpstreamStatus, wanted: &Wanted, operator: Option<&str>) -> Markup {
    let known = all(upstream).count();
    let mut found = all(upstream).filter(|job| wanted.fits(job)).skip(wanted.skip);
    let shown: Vec<&JobStatus> = found.by_ref().take(AT_ONCE).collect();
    let more = found.next().is_some();
    let body = html! {
        (silent(upstream))
        @if shown.is_empty() {
            @if known == 0 {
                p.none {
                    strong { "None is known." } " " code { "alia job submit" } " makes one. Jobs are those of the parameter \
                    servers that this provisioner asks (" code { "--parameter-server" } ")."
                }
            } @else {
                p.none { "None of " (known) " is so. " a href="/jobs" { "Show all" } }
            }
        }
        @for job in shown { (card(job)) }
        @if more { p { a rel="next" href=(wanted.next()) { "More jobs" } } }
    };
    watched(
        "Jobs · aliaOS",
        "/jobs",
        operator,
        html! {
            main #main {
                h2 { "Jobs" }
                form.search method="get" action="/jobs" role="search" {
                    label { "Search " input type="search" name="search" value=(wanted.search) maxlength="100"
                        placeholder="label, id"; }
                    label { "Phase "
                        select name="phase" {
                            option value="" { "any" }
                            @for phase in PHASES {
                                option value=(phase) selected[wanted.phase.as_deref() == Some(phase)] { (phase) }
                            }
                        }
                    }
                    button type="submit" { "Show" }
                }
                (live(None, None, body))
            }
        },
    )
}

/// A job with how far it came.
pub(super) fn card(job: &JobStatus) -> Markup {
    html! {
        article.card id={ "job-" (job.job) } {
            div.row {
                h3 { a href={ "/jobs/" (job.job) } { bdi { (job.label) } } }
                (phase_tag(job))
                span.quiet { (job.kind) }
                span.end.quiet { (count(job.workers.len(), "worker")) }
            }
            (standing(job))
        }
    }
}

fn phase_tag(job: &JobStatus) -> Markup {
    html! { span class={ "stands " (name(&job.phase)) } { (phase(&job.phase)) } }
}

/// How far it came, and what keeps it.
fn standing(job: &JobStatus) -> Markup {
    let (done, all) = steps(job);
    let (epoch, step) = at(job, done >= all);
    html! {
        @if let JobPhase::Failed(reason) = &job.phase { p.problem role="alert" { (reason) } }
        @if let Some(why) = &job.obstacle { p.note role="status" { "Stands still: " (why) } }
        progress max=(all) value=(done) aria-label={ "steps done of " (job.label) } {}
        div.facts.small {
            div.fact { span.quiet { "Epoch" } strong { (epoch) } span.quiet { "of " (job.epochs) } }
            div.fact { span.quiet { "Step" } strong { (step) } span.quiet { "of " (job.steps) } }
            div.fact { span.quiet { "Loss" } strong { (job.loss.map_or("-".into(), |loss| format!("{loss:.4}"))) } span.quiet { "a target token" } }
            div.fact { span.quiet { "Tokens/s" } strong { (format!("{:.0}", job.tokens_per_second)) } span.quiet { (seconds(job.seconds)) " so far" } }
            div.fact { span.quiet { "Receipts" } strong { (job.receipts) } span.quiet { (job.receipts_on_chain) " in blocks, " (job.receipts_confirmed) " confirmed" } }
        }
    }
}

/// `GET /jobs/{job}`.
pub fn job(
    upstream: &UpstreamStatus,
    job: &JobStatus,
    names: &Names,
    operator: Option<&str>,
) -> Markup {
    let digest = |name: &str, digest: Option<&Digest>| {
        html! { @if let Some(digest) = digest { dt { (name) } dd { code.long { (digest) } } } }
    };
    let body = html! {
        (silent(upstream))
        div.row.title {
            h2 { bdi { (job.label) } }
            (phase_tag(job))
            span.quiet { (job.kind) }
        }
        (standing(job))
        dl {
            dt { "Job" } dd { code.long { (job.job) } }
            (digest("Newest parameters", job.parameters.as_ref()))
            (digest("Result", job.result.as_ref()))
        }
        @if job.result.is_some() {
            p.quiet { code { "alia job fetch" } " fetches the result, as receipts on the chain name it." }
        }
        section #workers { h3 { "Who works" } (workers(job, names)) }
        section #batches {
            h3 { "Batches and receipts" }
            (recent(job, names))
            p.quiet {
                "The last 64 batches. What the parameter server says is not proven here: "
                code { "alia receipts" } " proves a receipt by the chain."
            }
        }
    };
    watched(
        &format!("{} · aliaOS", job.label),
        "/jobs",
        operator,
        html! { main #main { (live(None, None, body)) } },
    )
}

/// A node by its machine's name, where it is one of ours.
fn worker(node: &PublicKey, names: &Names) -> Markup {
    html! {
        @match names.get(node) {
            Some((mac, name)) => { a href={ "/machines/" (mac) } { (name) } },
            None => { code title=(node) { (node.short()) } },
        }
    }
}

fn workers(job: &JobStatus, names: &Names) -> Markup {
    html! {
        @if job.workers.is_empty() {
            p.none { "Nobody works at it now. A machine that is ready asks its parameter servers for work by itself." }
        } @else {
            div.wide { table.rows {
                thead { tr { th { "Node" } th { "With" } th.number { "Batches" } th.number { "Receipts" } th.number { "ms a batch" } th { "Now" } } }
                tbody { @for each in &job.workers { tr {
                    td { (worker(&each.node, names)) }
                    td { (each.device) }
                    td.number data-of="batches" { (each.batches) }
                    td.number data-of="receipts" { (each.receipts) }
                    td.number data-of="ms a batch" { (each.batch_ms.map_or("-".into(), |ms| format!("{ms:.0}"))) }
                    td.text { (each.doing.clone().unwrap_or_else(|| format!("silent for {:.0} s", each.silent_seconds))) }
                } } }
            } }
        }
    }
}

fn recent(job: &JobStatus, names: &Names) -> Markup {
    html! {
        @if job.recent.is_empty() {
            p.none { "None was done yet." }
        } @else {
            div.wide { table.rows {
                thead { tr { th.number { "Epoch" } th.number { "Step" } th { "Part" } th { "By" } th { "Receipt" } th { "" } } }
                tbody { @for batch in &job.recent { tr {
                    td.number data-of="epoch" { (batch.epoch.saturating_add(1)) }
                    td.number data-of="step" { (batch.step.saturating_add(1)) }
                    td { (batch.part) }
                    td { (worker(&batch.node, names)) }
                    td { code title=(batch.receipt) { (batch.receipt.0.short()) } }
                    td { @if !batch.used { "late, not used" } }
                } } }
            } }
        }
    }
}

/// The nodes that a job's page names.
pub fn nodes(job: &JobStatus) -> impl Iterator<Item = PublicKey> {
    let recent = job.recent.iter().map(|batch| batch.node);
    job.workers.iter().map(|worker| worker.node).chain(recent)
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

/// Epoch and step as people count them, from 1; of a job that is computed, its last.
fn at(job: &JobStatus, is_computed: bool) -> (u32, u32) {
    match is_computed {
        true => (job.epochs, job.steps),
        false => {
            (job.epoch.saturating_add(1).min(job.epochs), job.step.saturating_add(1).min(job.steps))
        }
    }
}

fn phase(phase: &JobPhase) -> &'static str {
    match phase {
        JobPhase::Settling => "computed, receipts on their way",
        phase => name(phase),
    }
}

/// As it is written in JSON and in a URL.
fn name(phase: &JobPhase) -> &'static str {
    match phase {
        JobPhase::Waiting => "waiting",
        JobPhase::Running => "running",
        JobPhase::Settling => "settling",
        JobPhase::Done => "done",
        JobPhase::Failed(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{JobId, fleet::ParameterServerStatus};

    fn numbered(n: u8) -> JobStatus {
        JobStatus {
            job: JobId(Digest([n; 32])),
            label: format!("<job {n}.>"),
            kind: "train".into(),
            phase: if n.is_multiple_of(2) {
                JobPhase::Running
            } else {
                JobPhase::Failed("<why>".into())
            },
            obstacle: None,
            epoch: 0,
            epochs: 13,
            step: 0,
            steps: 0,
            loss: None,
            tokens_per_second: 0.0,
            parameters: None,
            result: None,
            receipts: 0,
            receipts_on_chain: 0,
            receipts_confirmed: 0,
            workers: vec![],
            recent: vec![],
            seconds: 0.0,
        }
    }

    #[test]
    fn many_jobs_are_shown_a_page_at_a_time_by_label_id_and_phase() {
        let jobs = (0..50).map(numbered).collect();
        let server = ParameterServerStatus { url: "http://a".into(), jobs, error: None };
        let upstream = UpstreamStatus { ledger: None, parameter_servers: vec![server] };
        let page = |wanted: &Wanted| list(&upstream, wanted, None).into_string();
        let first = page(&Wanted::default());
        assert_eq!(first.matches("<article").count(), 20);
        assert!(first.contains("href=\"/jobs?skip=20\"") && !first.contains("<job"), "{first}");
        let running = Wanted { phase: Some("running".into()), skip: 20, ..Wanted::default() };
        let running = page(&running);
        assert_eq!(running.matches("<article").count(), 5);
        assert!(!running.contains("rel=\"next\"") && !running.contains("&lt;why&gt;"));
        let found = |search: &str| {
            page(&Wanted { search: search.into(), ..Wanted::default() }).matches("<article").count()
        };
        assert_eq!((found("JOB 7."), found(&"07".repeat(32)), found("nothing")), (1, 1, 0));
        assert!(find(&upstream, &"07".repeat(32)).is_some() && find(&upstream, "7").is_none());
    }
}
