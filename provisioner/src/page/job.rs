//! A job, as its parameter server tells of it.

use super::{Names, text::seconds};
use maud::{Markup, html};
use protocol::{
    PublicKey,
    api::{JobPhase, JobStatus},
};

/// Batches shown of each job.
const RECENT: usize = 12;

/// A job with its progress, its workers, and the batches done last.
pub(super) fn section(job: &JobStatus, names: &Names) -> Markup {
    let name = |node: &PublicKey| names.get(node).cloned().unwrap_or_else(|| node.short());
    let (done, all) = steps(job);
    let (epoch, step) = at(job, done >= all);
    html! {
        section {
            h2 { "Job " bdi { (job.label) } " " span.quiet { (job.kind) ", " (phase(&job.phase)) } }
            @if let JobPhase::Failed(reason) = &job.phase { p.problem role="alert" { (reason) } }
            @if let Some(why) = &job.obstacle { p.quiet role="status" { "Stands still: " (why) } }
            progress max=(all) value=(done) aria-label="steps done" {}
            div.facts.small {
                div.fact { span.quiet { "Epoch" } strong { (epoch) } span.quiet { "of " (job.epochs) } }
                div.fact { span.quiet { "Step" } strong { (step) } span.quiet { "of " (job.steps) } }
                div.fact { span.quiet { "Loss" } strong { (job.loss.map_or("-".into(), |loss| format!("{loss:.4}"))) } span.quiet { "a target token" } }
                div.fact { span.quiet { "Tokens/s" } strong { (format!("{:.0}", job.tokens_per_second)) } span.quiet { (seconds(job.seconds)) " so far" } }
                div.fact { span.quiet { "Receipts" } strong { (job.receipts) } span.quiet { (job.receipts_on_chain) " in blocks, " (job.receipts_confirmed) " confirmed" } }
            }
            div.two {
                @if !job.workers.is_empty() { (workers(job, &name)) }
                @if !job.recent.is_empty() { (recent(job, &name)) }
            }
        }
    }
}

fn workers(job: &JobStatus, name: &dyn Fn(&PublicKey) -> String) -> Markup {
    html! {
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
    }
}

fn recent(job: &JobStatus, name: &dyn Fn(&PublicKey) -> String) -> Markup {
    html! {
        div.wide {
            h3 { "Batches done last" }
            table {
                thead { tr { th.number { "Epoch" } th.number { "Step" } th { "Part" } th { "By" } th { "Receipt" } th { "" } } }
                tbody { @for batch in job.recent.iter().take(RECENT) { tr {
                    td.number { (batch.epoch.saturating_add(1)) }
                    td.number { (batch.step.saturating_add(1)) }
                    td { (batch.part) }
                    td { (name(&batch.node)) }
                    td { code title=(batch.receipt) { (batch.receipt.0.short()) } }
                    td { @if !batch.used { "late" } }
                } } }
            }
        }
    }
}

/// The nodes that a job's section names.
pub fn nodes(job: &JobStatus) -> impl Iterator<Item = PublicKey> {
    let recent = job.recent.iter().take(RECENT).map(|batch| batch.node);
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
        JobPhase::Waiting => "waiting",
        JobPhase::Running => "running",
        JobPhase::Settling => "computed, receipts on their way",
        JobPhase::Done => "done",
        JobPhase::Failed(_) => "failed",
    }
}
