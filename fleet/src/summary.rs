//! What a run came to.

use crate::{
    boot::{Record, Stage},
    histogram::Histogram,
    process::Usage,
    swarm::PeersSummary,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// Different reasons that are told apart; more are counted as others.
const MAX_REASONS: usize = 64;

/// What is gathered while machines boot; its size does not depend on how many there are.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    stages: BTreeMap<Stage, Histogram>,
    failures: BTreeMap<(Stage, String), u64>,
    finished: u64,
    failed: u64,
    bytes: u64,
    retries: u64,
}

/// One stage of all machines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageSummary {
    /// Which.
    pub stage: Stage,
    /// How many went through it.
    pub count: u64,
    /// Seconds that half of them did not exceed.
    pub p50: f64,
    /// Seconds that 99 of 100 did not exceed.
    pub p99: f64,
    /// The longest, in seconds.
    pub max: f64,
}

/// Machines that ended at one place for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failures {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub reason: String,
    /// How many.
    pub machines: u64,
}

/// What the server took, where it runs on this host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServerSummary {
    /// CPU seconds during the run.
    pub cpu_seconds: f64,
    /// Of one core, the mean share.
    pub cores: f64,
    /// The most resident memory seen, in bytes.
    pub max_rss: u64,
    /// Its share of memory at the end, in bytes.
    pub pss: u64,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Machines that set out.
    pub machines: u64,
    /// Machines that came through.
    pub finished: u64,
    /// Machines that did not.
    pub failed: u64,
    /// Seconds from the first machine's start to the last one's end.
    pub seconds: f64,
    /// Bytes of files that came.
    pub bytes: u64,
    /// Packets sent and questions asked more than once.
    pub retries: u64,
    /// Machines that spoke from an address that others spoke from too.
    pub shared_address: u64,
    /// Stage by stage.
    pub stages: Vec<StageSummary>,
    /// Reasons, the most frequent first.
    pub failures: Vec<Failures>,
    /// The server's part.
    pub server: Option<ServerSummary>,
    /// Where roots came from, where machines fetched them from each other too.
    pub peers: Option<PeersSummary>,
}

impl Gathered {
    /// Adds what became of one machine.
    pub fn add(&mut self, record: Record) {
        for (stage, seconds) in record.times {
            self.time(stage, seconds);
        }
        self.bytes += record.bytes;
        self.retries += u64::from(record.retries);
        match record.failure {
            None => self.finished += 1,
            Some((stage, reason)) => {
                self.failed += 1;
                self.reason(stage, reason);
            }
        }
    }

    /// Adds one time.
    pub fn time(&mut self, stage: Stage, seconds: f64) {
        self.stages.entry(stage).or_default().add(seconds);
    }

    /// Counts one reason.
    pub fn reason(&mut self, stage: Stage, reason: String) {
        let mut key = (stage, reason);
        if self.failures.len() >= MAX_REASONS && !self.failures.contains_key(&key) {
            key.1 = "other reasons".into();
        }
        *self.failures.entry(key).or_default() += 1;
    }

    /// The times of one stage.
    pub fn stage(&self, stage: Stage) -> Option<&Histogram> {
        self.stages.get(&stage)
    }

    /// Sums up.
    pub fn summary(&self, seconds: f64, shared_address: u64) -> Summary {
        let of = |(stage, times): (&Stage, &Histogram)| StageSummary {
            stage: *stage,
            count: times.count(),
            p50: times.percentile(0.5),
            p99: times.percentile(0.99),
            max: times.max(),
        };
        let mut failures: Vec<Failures> = self
            .failures
            .iter()
            .map(|((stage, reason), &machines)| Failures {
                stage: *stage,
                reason: reason.clone(),
                machines,
            })
            .collect();
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.machines));
        Summary {
            machines: self.finished + self.failed,
            finished: self.finished,
            failed: self.failed,
            seconds,
            bytes: self.bytes,
            retries: self.retries,
            shared_address,
            stages: self.stages.iter().map(of).collect(),
            failures,
            server: None,
            peers: None,
        }
    }
}

impl Summary {
    /// One stage.
    pub fn stage(&self, stage: Stage) -> Option<&StageSummary> {
        self.stages.iter().find(|each| each.stage == stage)
    }

    /// With the server's part: its usage before and after, and the most memory seen in between.
    pub fn with_server(mut self, before: Usage, after: Usage, max_rss: u64) -> Self {
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        self.server = Some(ServerSummary {
            cpu_seconds,
            cores: cpu_seconds / self.seconds.max(1e-3),
            max_rss: max_rss.max(after.rss),
            pss: after.pss,
        });
        self
    }
}

/// For people.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.bytes as f64 / 1e6 / self.seconds.max(1e-3);
        writeln!(
            f,
            "{} of {} machines came through in {:.2} s; {:.1} MB fetched ({rate:.1} MB/s), {} sent or \
             asked again",
            self.finished,
            self.machines,
            self.seconds,
            self.bytes as f64 / 1e6,
            self.retries
        )?;
        writeln!(f, "{:<12} {:>8} {:>10} {:>10} {:>10}", "seconds", "count", "p50", "p99", "max")?;
        for stage in &self.stages {
            writeln!(
                f,
                "{:<12} {:>8} {:>10.4} {:>10.4} {:>10.4}",
                stage.stage.name(),
                stage.count,
                stage.p50,
                stage.p99,
                stage.max
            )?;
        }
        let mut text = String::new();
        for failure in &self.failures {
            let (stage, reason) = (failure.stage.name(), &failure.reason);
            let _ = writeln!(text, "{} machines ended at {stage}: {reason}", failure.machines);
        }
        if self.shared_address > 0 {
            let _ = writeln!(
                text,
                "{} machines spoke from this host's address, for which a provisioner has limits; with \
                 `ip route add local POOL dev lo` here, each speaks from its own",
                self.shared_address
            );
        }
        if let Some(server) = &self.server {
            let _ = writeln!(
                text,
                "the provisioner took {:.2} CPU seconds ({:.2} cores), at most {:.1} MB of memory",
                server.cpu_seconds,
                server.cores,
                server.max_rss as f64 / 1e6
            );
        }
        if let Some(peers) = &self.peers {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (origin, given) = (megabytes(peers.origin), megabytes(peers.peers));
            let _ = writeln!(
                text,
                "of roots {origin:.1} MB came from the provisioner and {given:.1} MB from other \
                 machines; {} machines fetched all from the provisioner{}",
                peers.plain,
                peers.why.as_ref().map_or(String::new(), |why| format!(": {why}")),
            );
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str) -> Record {
        Record { failure: Some((Stage::Tftp, reason.into())), ..Record::default() }
    }

    #[test]
    fn machines_are_counted_and_reasons_told_the_most_frequent_first() {
        let mut gathered = Gathered::default();
        for seconds in [1.0, 2.0, 3.0] {
            let times = vec![(Stage::Dhcp, seconds), (Stage::Boot, 2.0 * seconds)];
            gathered.add(Record { times, bytes: 10, ..Record::default() });
        }
        gathered.add(failed("rare"));
        gathered.add(failed("often"));
        gathered.add(failed("often"));
        let summary = gathered.summary(4.0, 0);
        assert_eq!((summary.machines, summary.finished, summary.failed), (6, 3, 3));
        assert_eq!((summary.bytes, summary.stage(Stage::Boot).unwrap().max), (30, 6.0));
        let reasons: Vec<_> =
            summary.failures.iter().map(|f| (f.reason.as_str(), f.machines)).collect();
        assert_eq!(reasons, [("often", 2), ("rare", 1)]);
        let text = summary.to_string();
        assert!(
            text.contains("3 of 6 machines") && text.contains("2 machines ended at tftp: often")
        );
    }

    #[test]
    fn reasons_without_end_take_no_memory_without_end() {
        let mut gathered = Gathered::default();
        (0..10_000).for_each(|number| gathered.add(failed(&format!("port {number}"))));
        assert!(gathered.failures.len() <= MAX_REASONS + 1);
        assert_eq!(gathered.failures.values().sum::<u64>(), 10_000);
    }
}
