//! Puts transfers on machines' timelines.

use super::{
    server::{Report, Transfer},
    session::End,
};
use crate::{
    counters::Counters,
    metrics,
    progress::{self, Mark},
    script,
    timeline::{Kind, Record, Sighting, Timeline, seen_at},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// An observer for the server: what belongs to a machine is recorded, the rest is counted.
pub fn observer(timeline: Timeline, counters: Arc<Counters>) -> impl Fn(Report) + Send + Sync {
    move |report| {
        count(&counters, &report);
        tell(&timeline, &counters, report);
    }
}

/// Counts every transfer, whosesoever it is.
fn count(counters: &Counters, report: &Report) {
    use metrics::Transfer as Ended;
    let none = (0, 0, Duration::ZERO);
    let (outcome, (bytes, resent, took)) = match report {
        Report::Began { .. } => return,
        Report::Refused { .. } => (Ended::Refused, none),
        Report::Ended(transfer) => {
            let outcome = match transfer.end {
                End::Complete => Ended::Complete,
                End::Unconfirmed => Ended::Unconfirmed,
                End::SizeAsked => Ended::SizeAsked,
                End::Aborted(..) => Ended::Aborted,
                End::Silent => Ended::Silent,
            };
            (outcome, (transfer.bytes, transfer.resent, transfer.took))
        }
    };
    counters.metrics.transfer(outcome, bytes, resent, took);
}

fn tell(timeline: &Timeline, counters: &Counters, report: Report) {
    match report {
        Report::Began { mac: Some(mac), name, peer } => {
            let record = Record::new(mac, Kind::Tftp, format!("{name}: transfer begins"));
            timeline.record(record.marks([Mark::Began(stage(&name))]).sighting(at(peer)));
        }
        Report::Ended(Transfer {
            mac: Some(mac), name, bytes, terms, took, resent, end, ..
        }) => {
            let (blksize, window) = terms;
            let seconds = took.as_secs_f64();
            let how = format!("blocks of {blksize}, window {window}, {resent} sent again");
            let whole = format!("{name}: {bytes} bytes in {seconds:.3} s ({how})");
            let (text, mark) = match end {
                End::Complete => (whole.clone(), Some(Mark::Done(stage(&name), whole))),
                End::Unconfirmed => {
                    let text = format!("{whole}; the last block was never acknowledged");
                    (text.clone(), Some(Mark::Done(stage(&name), text)))
                }
                End::SizeAsked => (format!("{name}: asked for the size, {bytes} bytes"), None),
                End::Aborted(code, reason) => {
                    let text =
                        format!("{name}: given up after {seconds:.1} s, error {code} {reason}");
                    (text.clone(), Some(Mark::Failed(stage(&name), text)))
                }
                End::Silent => {
                    let text =
                        format!("{name}: the machine fell silent, {seconds:.1} s in ({how})");
                    (text.clone(), Some(Mark::Failed(stage(&name), text)))
                }
            };
            timeline.record(Record::new(mac, Kind::Tftp, text).marks(mark));
        }
        Report::Refused { mac: Some(mac), reason, .. } => {
            timeline.record(Record::new(mac, Kind::Tftp, format!("not given: {reason}")));
        }
        Report::Refused { mac: None, peer, reason } => {
            if counters.count("tftp-refused") {
                tracing::warn!("TFTP: {peer} gets nothing: {reason}");
            }
        }
        Report::Began { mac: None, .. } | Report::Ended(Transfer { mac: None, .. }) => {
            counters.count("tftp-anonymous");
        }
    }
}

/// The stage that fetching a file is.
fn stage(name: &str) -> &'static str {
    if name == script::UKI_FILE { progress::UKI } else { "tftp" }
}

fn at(peer: SocketAddr) -> Sighting {
    Sighting { address: seen_at(peer), ..Sighting::default() }
}
