//! What people read: pure functions from what is known to lines of text.

use crate::listing::Listed;
use protocol::api::{JobPhase, JobStatus};

/// Where a job stands, in a few words: `epoch 2 of 13, step 5 of 88`.
pub fn progress(status: &JobStatus) -> String {
    match &status.phase {
        JobPhase::Waiting => "waiting".into(),
        JobPhase::Running if status.kind == "train" => format!(
            "epoch {} of {}, step {} of {}",
            status.epoch + 1,
            status.epochs,
            status.step + 1,
            status.steps
        ),
        JobPhase::Running => "being translated".into(),
        JobPhase::Settling => format!(
            "computed; {} of {} receipts confirmed on the chain",
            status.receipts_confirmed, status.receipts
        ),
        JobPhase::Done => format!("done; {} receipts confirmed on the chain", status.receipts),
        JobPhase::Failed(why) => format!("failed: {why}"),
    }
}

/// A job in one line that says what changes.
pub fn job_line(status: &JobStatus) -> String {
    let mut line = format!("{} {}", status.job.0.short(), progress(status));
    if let Some(why) = &status.obstacle {
        line += &format!("; {why}");
    }
    if let Some(loss) = status.loss {
        line += &format!(", loss {loss:.3}");
    }
    if status.phase == JobPhase::Running {
        let working = status.workers.iter().filter(|worker| worker.doing.is_some()).count();
        line += &format!(
            ", {:.0} tokens/s, {working} working, {} receipts ({} on the chain)",
            status.tokens_per_second, status.receipts, status.receipts_on_chain
        );
    }
    line
}

/// A job's workers, a line each.
pub fn worker_lines(status: &JobStatus) -> Vec<String> {
    status
        .workers
        .iter()
        .map(|worker| {
            let speed = worker.batch_ms.map_or("not measured".into(), |ms| format!("{ms:.0} ms"));
            let doing = worker.doing.clone().unwrap_or_else(|| match worker.silent_seconds {
                silent if silent >= 10.0 => format!("silent for {silent:.0} s"),
                _ => "waiting".into(),
            });
            format!(
                "  {} {:<12} {:>6} micro-batches, {:>6} receipts, {speed} each, {doing}",
                worker.node.short(),
                worker.device,
                worker.batches,
                worker.receipts
            )
        })
        .collect()
}

/// The heading of [`receipt_line`]s.
pub const RECEIPT_HEADING: &str = "height  receipt                                                           job       node      batch                      confirmed";

/// A receipt of a listing.
pub fn receipt_line(listed: &Listed) -> String {
    let line = &listed.line;
    let confirmed = match (line.confirmed, line.first) {
        (Some(height), true) => format!("in block {height}, first of its batch"),
        (Some(height), false) => format!("in block {height}"),
        (None, _) => "not yet".into(),
    };
    let batch = format!(
        "epoch {} step {} {}{}",
        line.epoch,
        line.step,
        line.part,
        if line.attempt > 1 { format!(", attempt {}", line.attempt) } else { String::new() }
    );
    format!(
        "{:>6}  {}  {}  {}  {batch:<25}  {confirmed}",
        line.height,
        line.receipt,
        listed.job.0.short(),
        line.node.short()
    )
}

/// A number of bytes for people.
pub fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} KB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        BatchPart, Digest, JobId, ReceiptId, WorkUnits, key::PublicKey, listing::ReceiptLine,
    };

    fn status(phase: JobPhase) -> JobStatus {
        JobStatus {
            job: JobId(Digest([0xab; 32])),
            label: "en-de".into(),
            kind: "train".into(),
            phase,
            obstacle: None,
            epoch: 1,
            epochs: 13,
            step: 4,
            steps: 88,
            loss: Some(2.51637),
            tokens_per_second: 15_234.4,
            parameters: None,
            result: None,
            receipts: 1_700,
            receipts_on_chain: 1_690,
            receipts_confirmed: 1_650,
            workers: Vec::new(),
            recent: Vec::new(),
            seconds: 12.0,
        }
    }

    #[test]
    fn a_job_is_shown_with_what_changes() {
        assert_eq!(
            job_line(&status(JobPhase::Running)),
            "abababab epoch 2 of 13, step 5 of 88, loss 2.516, 15234 tokens/s, 0 working, 1700 receipts (1690 on the chain)"
        );
        assert_eq!(
            job_line(&status(JobPhase::Settling)),
            "abababab computed; 1650 of 1700 receipts confirmed on the chain, loss 2.516"
        );
        let stuck = Some("no worker asks for work".to_string());
        let stuck = job_line(&JobStatus { obstacle: stuck, ..status(JobPhase::Running) });
        assert!(stuck.contains("step 5 of 88; no worker asks for work, loss"), "{stuck}");
        let failed = job_line(&status(JobPhase::Failed("the disk is full".into())));
        assert!(failed.contains("failed: the disk is full"), "{failed}");
    }

    #[test]
    fn a_receipt_is_shown_whole_so_that_it_can_be_copied() {
        let line = ReceiptLine {
            receipt: ReceiptId(Digest([1; 32])),
            node: PublicKey([2; 32]),
            epoch: 0,
            step: 3,
            part: BatchPart::Micro(7),
            attempt: 2,
            units: WorkUnits::default(),
            height: 42,
            confirmed: Some(44),
            first: true,
        };
        let shown = receipt_line(&Listed { job: JobId(Digest([3; 32])), line });
        assert!(shown.contains(&"01".repeat(32)) && shown.contains("step 3 #7, attempt 2"));
        assert!(shown.ends_with("in block 44, first of its batch"), "{shown}");
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!([bytes(9_999), bytes(10_000), bytes(12_345_678)], ["9999 B", "10 KB", "12 MB"]);
    }
}
