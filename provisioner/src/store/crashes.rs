//! What kernels kept of their own deaths: bounded for each machine.

use super::{
    Store, StoreError,
    sql::{Part, Sql, values},
};
use crate::machine::Mac;
use protocol::{Digest, boot::CrashReport, fleet::CrashStatus};

/// The most deaths kept of a machine, of at most 64 KiB each.
const MAX_CRASHES: u32 = 8;
/// The most lines that are shown of a log that is sought through, and the longest of them in
/// characters.
const MAX_FOUND: usize = 10;
const MAX_FOUND_LEN: usize = 300;

impl Store {
    /// Keeps a report of a machine; whether it is new. None where the machine is not known.
    pub fn add_crash(
        &self,
        mac: Mac,
        report: &CrashReport,
        now: u64,
    ) -> Result<Option<bool>, StoreError> {
        let mac = mac.to_string();
        let digest = Digest::of_bytes(report.text.as_bytes()).to_string();
        self.write(Part::Machines, |sql| {
            if !sql.exists("SELECT 1 FROM machines WHERE mac = ?1", values![&mac])? {
                return Ok(None);
            }
            let inserted = sql.execute(
                "INSERT INTO crashes (mac, at, digest, reason, text) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (mac, digest) DO NOTHING",
                values![&mac, now, digest, &report.reason, &report.text],
            )?;
            sql.execute(
                "DELETE FROM crashes WHERE mac = ?1 AND id <=
                     (SELECT id FROM crashes WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                values![&mac, MAX_CRASHES],
            )?;
            Ok(Some(inserted > 0))
        })
    }

    /// A machine's deaths, newest first; of those alone in whose log a line contains a text, whatever
    /// its case, where one is sought.
    pub fn crashes(&self, mac: Mac, sought: Option<&str>) -> Result<Vec<CrashStatus>, StoreError> {
        let Some(sought) = sought else { return self.read(|sql| of(sql, mac)) };
        let select = "SELECT id, at, reason, text FROM crashes WHERE mac = ?1 ORDER BY id DESC";
        let rows = self.read(|sql| sql.query(select, values![mac.to_string()]))?;
        // Here and not by the database: SQLite knows capitals of ASCII alone, and few logs are kept.
        let sought = sought.to_lowercase();
        let mut crashes = Vec::new();
        for row in &rows {
            let text = row.get::<String>(3)?;
            let found = lines_with(&text, &sought);
            if !found.is_empty() {
                let (id, at, reason) = (row.get(0)?, row.get(1)?, row.get(2)?);
                crashes.push(CrashStatus { id, at, reason, bytes: text.len() as u64, found });
            }
        }
        Ok(crashes)
    }

    /// The log of one death.
    pub fn crash(&self, mac: Mac, id: u64) -> Result<Option<String>, StoreError> {
        let select = "SELECT text FROM crashes WHERE mac = ?1 AND id = ?2";
        let row = self.read(|sql| sql.first(select, values![mac.to_string(), id]))?;
        row.map(|row| row.get(0)).transpose()
    }
}

/// The first lines that contain a text of small letters.
fn lines_with(text: &str, sought: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.to_lowercase().contains(sought));
    lines.take(MAX_FOUND).map(|line| line.chars().take(MAX_FOUND_LEN).collect()).collect()
}

/// A machine's deaths, newest first.
pub(super) fn of(sql: &mut dyn Sql, mac: Mac) -> Result<Vec<CrashStatus>, StoreError> {
    let select = "SELECT id, at, reason, octet_length(text) FROM crashes
                  WHERE mac = ?1 ORDER BY id DESC";
    let rows = sql.query(select, values![mac.to_string()])?;
    let read = |row: &super::sql::Row| {
        let (id, at, reason, bytes) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(CrashStatus { id, at, reason, bytes, found: Vec::new() })
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn report(text: &str) -> CrashReport {
        let (boot_id, text) = (Digest([1; 32]), text.to_owned());
        CrashReport { boot_id, reason: "Kernel panic".into(), text }
    }

    #[test]
    fn deaths_are_kept_once_each_bounded_and_of_known_machines_alone() {
        let (_folder, store) = temporary();
        assert_eq!(store.add_crash(MAC, &report("x"), 5).unwrap(), None, "nobody knows it");
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        for n in 0..20 {
            let added = |at| store.add_crash(MAC, &report(&format!("log {n}")), at).unwrap();
            assert_eq!((added(n), added(n + 1)), (Some(true), Some(false)));
        }
        let crashes = store.machine(MAC, 0).unwrap().unwrap().crashes;
        assert_eq!(crashes.len() as u32, MAX_CRASHES);
        assert_eq!((crashes[0].at, crashes[0].bytes), (19, 6));
        assert_eq!(store.crash(MAC, crashes[0].id).unwrap().as_deref(), Some("log 19"));
        assert_eq!(store.crash(Mac([9; 6]), crashes[0].id).unwrap(), None);
    }

    #[test]
    fn logs_are_sought_through_whatever_the_case() {
        let (_folder, store) = temporary();
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        let texts = ["BUG: \u{c4}rger\nnvme0: timeout 1\nnvme0: timeout 2\n", "oom_reaper\n"];
        for (at, text) in (1..).zip(texts) {
            store.add_crash(MAC, &report(text), at).unwrap();
        }
        let found = |text: &str| store.crashes(MAC, Some(text)).unwrap();
        let timeouts = found("NVMe0: Timeout");
        assert_eq!((timeouts.len(), timeouts[0].at), (1, 1));
        assert_eq!(timeouts[0].found, ["nvme0: timeout 1", "nvme0: timeout 2"]);
        assert_eq!(found("\u{e4}rger").len(), 1);
        assert_eq!(found("%").len() + found("_reape_").len(), 0, "signs like any other");
        assert_eq!(store.crashes(MAC, None).unwrap().len(), 2);
        assert_eq!(store.crashes(Mac([9; 6]), Some("oom")).unwrap(), []);
        let long = format!("{}{}", "x".repeat(1_000), "\nx".repeat(30));
        let lines = lines_with(&long, "x");
        assert_eq!((lines.len(), lines[0].len()), (MAX_FOUND, MAX_FOUND_LEN));
    }
}
