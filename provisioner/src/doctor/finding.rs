//! What the doctor says: findings, sorted, as text and as JSON.

use super::text::wrapped;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the report's JSON; raised when a field changes its meaning or goes.
pub const VERSION: u32 = 1;
/// The width of the text form, in characters.
const WIDTH: usize = 96;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Our interface: carrier, speed, addresses, pool.
    Link,
    /// Other DHCP servers, boot servers, IPv6 routers.
    Dhcp,
    /// The ports that `serve` wants.
    Ports,
    /// The largest packet.
    Mtu,
    /// How long a switch's port waits before it forwards.
    SpanningTree,
    /// Our clock.
    Clock,
    /// Tables, files, rights and room of this host.
    Limits,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Dhcp => "DHCP",
            Self::Ports => "ports",
            Self::Mtu => "MTU",
            Self::SpanningTree => "spanning tree",
            Self::Clock => "clock",
            Self::Limits => "limits",
        }
    }
}

/// How bad it is. Sorted as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Machines will not boot, or not reliably, until it is changed.
    Problem,
    /// It works; a change would make it better or safer, or has to be decided.
    Advice,
    /// It could not be looked at. Not to be taken for good.
    Unknown,
    /// Good.
    Ok,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Problem => "PROBLEM",
            Self::Advice => "advice",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }
}

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was seen, in plain words.
    pub what: String,
    /// Why it matters; empty where it needs no word.
    #[serde(default)]
    pub why: String,
    /// What to change; empty where nothing is to be.
    #[serde(default)]
    pub change: String,
}

impl Finding {
    fn new(check: Check, verdict: Verdict, [what, why, change]: [String; 3]) -> Self {
        Self { check, verdict, what, why, change }
    }

    /// Nothing to change.
    pub(super) fn ok(check: Check, what: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, [what.into(), String::new(), String::new()])
    }

    /// Good, with a word on what follows from it.
    pub(super) fn ok_for(check: Check, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, [what.into(), why.into(), String::new()])
    }

    /// Something to decide or to better.
    pub(super) fn advice(
        check: Check,
        what: impl Into<String>,
        why: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Advice, [what.into(), why.into(), change.into()])
    }

    /// Something that keeps machines from booting.
    pub(super) fn problem(
        check: Check,
        what: impl Into<String>,
        why: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Problem, [what.into(), why.into(), change.into()])
    }

    /// Something that could not be looked at.
    pub(super) fn unknown(
        check: Check,
        what: impl Into<String>,
        why: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Unknown, [what.into(), why.into(), change.into()])
    }
}

/// All of it: what `--json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The interface that was looked at.
    pub interface: String,
    /// How long the wire was listened to, in seconds.
    pub seconds: u64,
    /// Problems first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sorts what was found.
    pub fn new(interface: String, seconds: u64, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| (finding.verdict, finding.check));
        Self { version: VERSION, interface, seconds, findings }
    }

    /// Whether nothing is a problem: exit status 0, else 1.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INDENT: &str = "         ";
        for finding in &self.findings {
            let head = format!("{}: {}", finding.check.name(), finding.what);
            writeln!(f, "{:<9}{}", finding.verdict.name(), wrapped(&head, INDENT, WIDTH))?;
            for (word, text) in [("why", &finding.why), ("change", &finding.change)] {
                if !text.is_empty() {
                    let line = format!("{word}: {text}");
                    writeln!(f, "{INDENT}{}", wrapped(&line, INDENT, WIDTH))?;
                }
            }
        }
        let count = |verdict| self.findings.iter().filter(|f| f.verdict == verdict).count();
        writeln!(
            f,
            "\n{}: {} problems, {} advice, {} unknown, {} ok; the wire was listened to for {} s",
            self.interface,
            count(Verdict::Problem),
            count(Verdict::Advice),
            count(Verdict::Unknown),
            count(Verdict::Ok),
            self.seconds,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_first_and_decide_the_exit_status() {
        let good = Finding::ok(Check::Link, "fine");
        let unknown = Finding::unknown(Check::Dhcp, "not seen", "no right", "run as root");
        let report = Report::new("eth0".into(), 3, vec![good.clone(), unknown.clone()]);
        assert!(report.is_good());
        let bad = Finding::problem(Check::Ports, "69 is taken", "no TFTP", "stop it");
        let report = Report::new("eth0".into(), 3, vec![good, unknown, bad]);
        assert!(!report.is_good());
        let text = report.to_string();
        assert!(text.starts_with("PROBLEM  ports: 69 is taken\n         why: no TFTP\n"), "{text}");
        assert!(text.contains("eth0: 1 problems, 0 advice, 1 unknown, 1 ok"), "{text}");
    }

    #[test]
    fn the_json_stays_as_it_is() {
        let finding = Finding::problem(Check::SpanningTree, "a", "b", "c");
        let report = Report::new("eth0".into(), 3, vec![finding]);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"version":1,"interface":"eth0","seconds":3,"findings":[{"check":"spanning-tree","verdict":"problem","what":"a","why":"b","change":"c"}]}"#
        );
    }
}
