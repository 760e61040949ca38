//! Which calls are kept, and which of them console and provisioner hear of: pure.

use super::route::Call;
use protocol::{
    PublicKey,
    node_api::{AuditRecord, OperatorRole},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The most calls that are kept.
pub const MAX_RECORDS: usize = 1_024;
/// A call that only looks, by one key, is told again after so long: a monitor asks every few
/// seconds, for months.
pub const AGAIN: Duration = Duration::from_secs(3_600);
/// The most pairs of key and call that are remembered for that.
const MAX_TOLD: usize = 1_024;
/// A stranger is told of again after so long; those between are counted.
const STRANGERS: Duration = Duration::from_secs(10);

/// Who asked what, and what came of it.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Who.
    pub key: PublicKey,
    /// In which role.
    pub role: OperatorRole,
    /// From where.
    pub peer: &'a str,
    /// What; none where the request made no sense.
    pub call: Option<Call>,
    /// What was asked, as text: method and path.
    pub line: &'a str,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// Calls, newest last.
#[derive(Debug, Default)]
pub struct Audit {
    records: VecDeque<AuditRecord>,
    next: u64,
    told: BTreeMap<(PublicKey, String), Duration>,
    strangers: Option<Duration>,
    untold: u64,
}

impl Audit {
    /// Keeps a call; gives what console and provisioner are told of it. Whatever changes the node
    /// and whatever was refused is told each time.
    pub fn asked(&mut self, now: Duration, unix_time: u64, asked: &Asked<'_>) -> Option<String> {
        let Asked { key, role, peer, call, line, status } = asked;
        self.records.push_back(AuditRecord {
            sequence: self.next,
            at_ms: crate::status::milliseconds(now),
            unix_time,
            key: *key,
            role: *role,
            peer: (*peer).to_owned(),
            call: (*line).to_owned(),
            status: *status,
        });
        self.next += 1;
        if self.records.len() > MAX_RECORDS {
            self.records.pop_front();
        }
        let mut told = format!("{role} {key} from {peer}: {line}: {status}");
        let looks = call.is_some_and(|call| call.needs() == OperatorRole::Reader);
        if looks && *status < 400 {
            // Without the query: how many lines somebody wants makes no other call.
            let name = line.split('?').next().unwrap_or_default().to_owned();
            let last = self.told.get(&(*key, name.clone()));
            if last.is_some_and(|last| now < *last + AGAIN) {
                return None;
            }
            if self.told.len() >= MAX_TOLD {
                self.told.clear();
            }
            self.told.insert((*key, name), now);
            told.push_str(" (the same is told again in an hour)");
        }
        Some(told)
    }

    /// Somebody did not get in; gives what is told of it, which is bounded in its rate.
    pub fn refused(&mut self, now: Duration, peer: &str, reason: &str) -> Option<String> {
        if self.strangers.is_some_and(|last| now < last + STRANGERS) {
            self.untold += 1;
            return None;
        }
        self.strangers = Some(now);
        let more = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            count => format!(" ({count} more were not told of)"),
        };
        Some(format!("{peer} was refused: {reason}{more}"))
    }

    /// The calls that are kept, oldest first.
    pub fn records(&self) -> Vec<AuditRecord> {
        self.records.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::enrolment::tests::key;

    fn asked(call: Call, line: &str, status: u16) -> Asked<'_> {
        let (key, role) = (key(2).public(), OperatorRole::Operator);
        Asked { key, role, peer: "10.0.0.9", call: Some(call), line, status }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_call_is_kept_and_what_changes_or_is_refused_is_told_each_time() {
        let mut audit = Audit::default();
        let looks = asked(Call::Status, "GET /v1/status", 200);
        let told = audit.asked(at(1), 5, &looks).unwrap();
        assert!(told.contains("operator") && told.contains(": GET /v1/status: 200"), "{told}");
        assert_eq!(audit.asked(at(2), 6, &looks), None);
        assert!(audit.asked(at(3601), 7, &looks).is_some());
        for second in 0..3 {
            let drains = asked(Call::Drain, "POST /v1/drain", 202);
            assert!(audit.asked(at(second), 8, &drains).is_some());
            let refused = asked(Call::Status, "GET /v1/status", 403);
            assert!(audit.asked(at(second), 8, &refused).is_some());
        }
        let records = audit.records();
        assert_eq!(records.len(), 9);
        assert_eq!((records[8].sequence, records[8].status, records[1].unix_time), (8, 403, 6));
    }

    #[test]
    fn memory_is_bounded_and_strangers_do_not_flood_the_console() {
        let mut audit = Audit::default();
        for number in 0..3 * MAX_RECORDS {
            let line = format!("GET /v1/{number}");
            audit.asked(at(1), 1, &asked(Call::Status, &line, 200));
        }
        assert_eq!(audit.records().len(), MAX_RECORDS);
        assert!(audit.told.len() <= MAX_TOLD);
        assert!(audit.refused(at(1), "10.0.0.9", "unknown key").is_some());
        for _ in 0..99 {
            assert_eq!(audit.refused(at(2), "10.0.0.9", "unknown key"), None);
        }
        let told = audit.refused(at(11), "10.0.0.8", "unknown key").unwrap();
        assert_eq!(told, "10.0.0.8 was refused: unknown key (99 more were not told of)");
    }
}
