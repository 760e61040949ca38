//! What the view shows, as lines.

use super::{
    network::Network,
    view::{bar, clock},
    watchers::Known,
};
use protocol::{
    JobId,
    api::{JobPhase, JobStatus},
    boot::StageState,
    fleet::MachineStatus,
};
use std::time::Instant;

/// Where a machine's boot stages are broken: a terminal of 80 columns shows them whole.
const STAGES_WIDTH: usize = 62;
/// Batches shown as done last.
const RECENT: usize = 6;

/// The whole picture.
pub fn lines(known: &Known, network: &Network, job: Option<&JobId>, begun: Instant) -> Vec<String> {
    let mut lines = vec![String::new()];
    if let Some(image) = known.provisioner.as_ref().and_then(|status| status.image.as_ref()) {
        let manifest = &image.manifest;
        lines.push(format!(
            "image   kernel {}, {:.1} MB with initramfs and root, digest {}",
            manifest.kernel_release,
            manifest.bytes() as f64 / 1e6,
            image.digest.short()
        ));
    }
    lines.push(format!(
        "chain   height {}, {} nodes, {} receipts, {} of them confirmed",
        known.height, known.chain.nodes, known.chain.receipts, known.chain.confirmed
    ));
    for each in &network.machines {
        let spec = each.machine.spec();
        let text = machine(known.machines.get(&spec.mac), each.started);
        let mut name = format!("machine {:<8}", spec.name);
        for line in wrapped(&text, STAGES_WIDTH) {
            lines.push(format!("{name} {line}"));
            name = " ".repeat(name.len());
        }
    }
    match job.and_then(|id| known.job(id)) {
        Some(status) => lines.extend(job_lines(status, known, network)),
        None => lines.push("job     not there yet".into()),
    }
    lines.push(format!("        {} since the start", clock(begun.elapsed().as_secs_f64())));
    lines
}

/// Text in lines of at most `width` characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.len() + word.len() < width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_string()),
        }
    }
    lines
}

fn machine(status: Option<&MachineStatus>, started: Instant) -> String {
    let Some(boot) = status.and_then(|status| status.boot.as_ref()) else {
        return format!("switched on {} ago", clock(started.elapsed().as_secs_f64()));
    };
    let stages = boot.stages.iter().map(|stage| {
        let sign = match stage.state {
            StageState::Done => "",
            StageState::Started => "…",
            StageState::Retrying => "?",
            StageState::Failed => "!",
        };
        format!("{}{sign} {:.1}", stage.name, stage.seconds)
    });
    let problem = status.and_then(|status| status.problem.as_ref());
    let problem = problem.map(|text| format!(" PROBLEM: {text}")).unwrap_or_default();
    format!("{:.0} s: {}{problem}", boot.seconds, stages.collect::<Vec<_>>().join(", "))
}

/// One line on a job, for where there is no terminal.
pub fn short(known: &Known, job: Option<&JobId>, begun: Instant) -> String {
    let chain = format!(
        "{} height {}, receipts {} ({} confirmed)",
        clock(begun.elapsed().as_secs_f64()),
        known.height,
        known.chain.receipts,
        known.chain.confirmed
    );
    match job.and_then(|id| known.job(id)) {
        Some(JobStatus { obstacle: Some(why), .. }) => format!("{chain}; stands still: {why}"),
        Some(status) => format!("{chain}; {}", progress(status)),
        None => chain,
    }
}

fn progress(status: &JobStatus) -> String {
    let loss = status.loss.map(|loss| format!(", loss {loss:.3}")).unwrap_or_default();
    format!(
        "epoch {} of {}, step {} of {}{loss}, {:.0} tokens/s",
        (status.epoch + 1).min(status.epochs),
        status.epochs,
        (status.step + 1).min(status.steps.max(1)),
        status.steps,
        status.tokens_per_second
    )
}

fn job_lines(status: &JobStatus, known: &Known, network: &Network) -> Vec<String> {
    let steps = f64::from(status.steps.max(1));
    let done = f64::from(status.epoch) * steps + f64::from(status.step);
    let share = match status.phase {
        JobPhase::Done | JobPhase::Settling => 1.0,
        _ => done / (f64::from(status.epochs) * steps),
    };
    let phase = match &status.phase {
        JobPhase::Waiting => "waiting".to_string(),
        JobPhase::Running => progress(status),
        JobPhase::Settling => "computed; its last receipts are on their way to the chain".into(),
        JobPhase::Done => "done".into(),
        JobPhase::Failed(why) => format!("FAILED: {why}"),
    };
    let mut lines = vec![
        format!("job     {} {}", status.label, status.job.0.short()),
        format!("        [{}] {phase}", bar(share, 30)),
    ];
    lines.extend(status.obstacle.iter().map(|why| format!("        stands still: {why}")));
    lines.extend([format!(
        "        {} receipts, {} on the chain, {} confirmed",
        status.receipts, status.receipts_on_chain, status.receipts_confirmed
    )]);
    for worker in &status.workers {
        let name = known.name(network, &worker.node);
        let each = worker.batch_ms.map(|ms| format!(", {:.2} s each", ms / 1e3));
        let doing = worker.doing.as_ref().map(|what| format!(", on {what}"));
        lines.push(format!(
            "worker  {name:<8} {} batches{}{} ({})",
            worker.batches,
            each.unwrap_or_default(),
            doing.unwrap_or_default(),
            worker.device
        ));
    }
    let recent = status.recent.iter().take(RECENT).map(|batch| {
        format!(
            "{}.{} {} {}",
            batch.epoch + 1,
            batch.step + 1,
            batch.part,
            known.name(network, &batch.node)
        )
    });
    lines.push(format!("last    {}", recent.collect::<Vec<_>>().join(" | ")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_broken_between_words() {
        assert_eq!(
            wrapped("mounts 0.1, clock 0.0, modules 0.6", 16),
            ["mounts 0.1,", "clock 0.0,", "modules 0.6"]
        );
        assert_eq!(wrapped("short", 16), ["short"]);
        assert_eq!(wrapped("an-unbreakable-word-of-some-length", 16).len(), 2);
    }
}
