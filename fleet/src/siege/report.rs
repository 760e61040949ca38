//! What came of an attack.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A table of what peers can fill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fullest {
    /// Its name in `/metrics`.
    pub table: String,
    /// Its entries.
    pub entries: u64,
    /// The most that it may have.
    pub limit: u64,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What was done.
    pub what: String,
    /// Packets, connections or requests.
    pub sent: u64,
    /// How long it lasted.
    pub seconds: f64,
    /// Machines known before that booted, of so many.
    pub known: (u64, u64),
    /// Machines never seen before that booted, of so many.
    pub new: (u64, u64),
    /// Whether there is no room for new ones, and they are told so.
    pub new_are_refused: bool,
    /// The 99th percentile of their boots, in seconds.
    pub p99: f64,
    /// Why machines did not come through.
    pub failures: Vec<String>,
    /// The provisioner's processors.
    pub cores: f64,
    /// The provisioner's most memory in bytes.
    pub memory: u64,
    /// Its fullest table.
    pub fullest: Option<Fullest>,
    /// How long one request by HTTPS took, in seconds; none where no answer came.
    pub https: Option<f64>,
    /// What was given out and should not have been.
    pub breach: Vec<String>,
}

/// The most memory that an attack may drive it to.
const MOST_MEMORY: u64 = 400 << 20;

impl Row {
    /// Whether it held.
    pub fn held(&self) -> bool {
        let new = self.new_are_refused || self.new.0 == self.new.1;
        let machines = self.known.0 == self.known.1 && new;
        machines && self.https.is_some() && self.breach.is_empty() && self.memory < MOST_MEMORY
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.held() { "held" } else { "DID NOT HOLD" };
        let full = self.fullest.as_ref().map_or(String::new(), |full| {
            format!(", {} {} of {}", full.table, full.entries, full.limit)
        });
        writeln!(
            f,
            "{:<18} {word}: {} in {:.0} s; known {}/{}, new {}/{}, p99 {:.2} s, HTTPS {}; {:.2} cores, {:.0} MB{full}",
            self.name,
            self.sent,
            self.seconds,
            self.known.0,
            self.known.1,
            self.new.0,
            self.new.1,
            self.p99,
            self.https.map_or("none".into(), |seconds| format!("{seconds:.2} s")),
            self.cores,
            self.memory as f64 / 1e6,
        )?;
        write!(f, "{:<18} {}", "", self.what)?;
        for line in self.failures.iter().chain(&self.breach) {
            write!(f, "\n{:<18} {line}", "")?;
        }
        Ok(())
    }
}

/// The fullest table in a text of `/metrics`.
pub fn fullest(metrics: &str) -> Option<Fullest> {
    let read = |name: &str| -> BTreeMap<String, u64> {
        let lines = metrics.lines().filter(|line| line.contains(name) && !line.starts_with('#'));
        let entry = |line: &str| {
            let (label, value) = line.rsplit_once(' ')?;
            let table = label.split("table=\"").nth(1)?.split('"').next()?;
            Some((table.to_owned(), value.parse::<f64>().ok()? as u64))
        };
        lines.filter_map(entry).collect()
    };
    let (entries, limits) = (read("table_entries"), read("table_limit"));
    let all = entries.into_iter().filter_map(|(table, entries)| {
        let limit = *limits.get(&table)?;
        (limit > 0).then_some(Fullest { table, entries, limit })
    });
    let share = |full: &Fullest| full.entries as f64 / full.limit as f64;
    all.max_by(|a, b| share(a).total_cmp(&share(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_table_is_found_by_its_share() {
        let text = "# TYPE provisioner_table_entries gauge\n\
                    provisioner_table_entries{table=\"machines\"} 50\nprovisioner_table_limit{table=\"machines\"} 10000\n\
                    provisioner_table_entries{table=\"tftp\"} 40\nprovisioner_table_limit{table=\"tftp\"} 64\n";
        let full = fullest(text).unwrap();
        assert_eq!((full.table.as_str(), full.entries, full.limit), ("tftp", 40, 64));
        assert_eq!(fullest("nothing"), None);
    }

    #[test]
    fn it_held_where_machines_came_through_and_nothing_was_given_out() {
        let row = Row {
            name: "a".into(),
            what: "b".into(),
            sent: 1,
            seconds: 1.0,
            known: (2, 2),
            new: (1, 2),
            new_are_refused: true,
            p99: 1.0,
            failures: vec![],
            cores: 0.1,
            memory: 1 << 20,
            fullest: None,
            https: Some(0.1),
            breach: vec![],
        };
        assert!(row.held());
        assert!(!Row { new_are_refused: false, ..row.clone() }.held());
        assert!(!Row { known: (1, 2), ..row.clone() }.held());
        assert!(!Row { https: None, ..row.clone() }.held());
        assert!(!Row { memory: 1 << 30, ..row.clone() }.held());
        assert!(!Row { breach: vec!["x".into()], ..row }.held());
    }
}
