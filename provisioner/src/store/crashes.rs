//! What kernels kept of their own deaths: bounded for each machine.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::machine::Mac;
use protocol::{Digest, boot::CrashReport, fleet::CrashStatus};
use std::net::IpAddr;

/// The most deaths kept of a machine, of at most 64 KiB each; and as many besides of those that nothing
/// proves to be its own.
const MAX_CRASHES: u32 = 8;
/// The most that nothing proves, of one peer, and in all. They displace each other alone: those of the
/// peer that has most.
const MAX_OF_SOURCE: u64 = 16;
pub(super) const MAX_UNPROVEN: u64 = 1_024;
/// The most lines that are shown of a log that is sought through, and the longest of them in
/// characters.
const MAX_FOUND: usize = 10;
const MAX_FOUND_LEN: usize = 300;

impl Store {
    /// Keeps a report of a machine; whether it is new. None where the machine is not known. `source` is
    /// the peer that it came from, where nothing proves whose it is; proven later it stays so.
    pub fn add_crash(
        &self,
        mac: Mac,
        report: &CrashReport,
        source: Option<IpAddr>,
        now: u64,
    ) -> Result<Option<bool>, StoreError> {
        let mac = mac.to_string();
        let digest = Digest::of_bytes(report.text.as_bytes()).to_string();
        let source = source.map(|source| source.to_string());
        self.write(Part::Machines, |sql| {
            if !sql.exists("SELECT 1 FROM machines WHERE mac = ?1", values![&mac])? {
                return Ok(None);
            }
            let inserted = sql.execute(
                "INSERT INTO crashes (mac, at, digest, reason, text, source)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (mac, digest) DO NOTHING",
                values![&mac, now, &digest, &report.reason, &report.text, source.clone()],
            )?;
            if inserted == 0 && source.is_none() {
                let prove = "UPDATE crashes SET source = NULL WHERE mac = ?1 AND digest = ?2";
                sql.execute(prove, values![&mac, digest])?;
            }
            for whose in ["source IS NULL", "source IS NOT NULL"] {
                let old = format!(
                    "DELETE FROM crashes WHERE mac = ?1 AND {whose} AND id <=
                         (SELECT id FROM crashes WHERE mac = ?1 AND {whose}
                          ORDER BY id DESC LIMIT 1 OFFSET ?2)"
                );
                sql.execute(&old, values![&mac, MAX_CRASHES])?;
            }
            if let Some(source) = source {
                bound(sql, &source)?;
            }
            Ok(Some(inserted > 0))
        })
    }

    /// A machine's deaths, newest first; of those alone in whose log a line contains a text, whatever
    /// its case, where one is sought.
    pub fn crashes(&self, mac: Mac, sought: Option<&str>) -> Result<Vec<CrashStatus>, StoreError> {
        let Some(sought) = sought else { return self.read(|sql| of(sql, mac)) };
        let select =
            "SELECT id, at, reason, text, source FROM crashes WHERE mac = ?1 ORDER BY id DESC";
        let rows = self.read(|sql| sql.query(select, values![mac.to_string()]))?;
        // Here and not by the database: SQLite knows capitals of ASCII alone, and few logs are kept.
        let sought = sought.to_lowercase();
        let mut crashes = Vec::new();
        for row in &rows {
            let text = row.get::<String>(3)?;
            let found = lines_with(&text, &sought);
            if !found.is_empty() {
                let (id, at, reason) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let proven = row.get::<Option<String>>(4)?.is_none();
                let bytes = text.len() as u64;
                crashes.push(CrashStatus { id, at, reason, bytes, proven, found });
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

/// Makes room where a peer, or all of them, sent more than is kept of what nothing proves.
fn bound(sql: &mut dyn Sql, source: &str) -> Result<(), StoreError> {
    let of_one = sql.first("SELECT count(*) FROM crashes WHERE source = ?1", values![source])?;
    let all = sql.first("SELECT count(*) FROM crashes WHERE source IS NOT NULL", &[])?;
    let count = |row: Option<Row>| row.map_or(Ok(0), |row| row.get::<u64>(0));
    let full = if count(of_one)? > MAX_OF_SOURCE {
        Some(source.to_owned())
    } else if count(all)? > MAX_UNPROVEN {
        let most = "SELECT source FROM crashes WHERE source IS NOT NULL
                    GROUP BY source ORDER BY count(*) DESC, min(id) LIMIT 1";
        sql.first(most, &[])?.map(|row| row.get(0)).transpose()?
    } else {
        None
    };
    let Some(full) = full else { return Ok(()) };
    let oldest = "DELETE FROM crashes WHERE id = (SELECT min(id) FROM crashes WHERE source = ?1)";
    sql.execute(oldest, values![full])?;
    Ok(())
}

/// The first lines that contain a text of small letters.
fn lines_with(text: &str, sought: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.to_lowercase().contains(sought));
    lines.take(MAX_FOUND).map(|line| line.chars().take(MAX_FOUND_LEN).collect()).collect()
}

/// A machine's deaths, newest first.
pub(super) fn of(sql: &mut dyn Sql, mac: Mac) -> Result<Vec<CrashStatus>, StoreError> {
    let select = "SELECT id, at, reason, octet_length(text), source FROM crashes
                  WHERE mac = ?1 ORDER BY id DESC";
    let rows = sql.query(select, values![mac.to_string()])?;
    let read = |row: &Row| {
        let (id, at, reason, bytes) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let source: Option<String> = row.get(4)?;
        Ok(CrashStatus { id, at, reason, bytes, proven: source.is_none(), found: Vec::new() })
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
        assert_eq!(store.add_crash(MAC, &report("x"), None, 5).unwrap(), None, "nobody knows it");
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        for n in 0..20 {
            let added = |at| store.add_crash(MAC, &report(&format!("log {n}")), None, at).unwrap();
            assert_eq!((added(n), added(n + 1)), (Some(true), Some(false)));
        }
        let crashes = store.machine(MAC, 0).unwrap().unwrap().crashes;
        assert_eq!(crashes.len() as u32, MAX_CRASHES);
        assert_eq!((crashes[0].at, crashes[0].bytes), (19, 6));
        assert_eq!(store.crash(MAC, crashes[0].id).unwrap().as_deref(), Some("log 19"));
        assert_eq!(store.crash(Mac([9; 6]), crashes[0].id).unwrap(), None);
    }

    #[test]
    fn what_strangers_send_displaces_their_own_alone() {
        let (_folder, store) = temporary();
        let mac = |n: u16| Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
        let boots = Sighting { boots: true, ..Sighting::default() };
        let seen = |n| Record::new(mac(n), Kind::Dhcp, "boots").sighting(boots.clone());
        store.record(&(0..200).map(seen).collect::<Vec<_>>()).unwrap();
        let send = |n, text: String, source: Option<[u8; 4]>| {
            store.add_crash(mac(n), &report(&text), source.map(IpAddr::from), 1).unwrap()
        };
        send(0, "own".into(), None);
        send(0, "said before it was proven".into(), Some([10, 0, 0, 5]));
        let kept = |n| store.machine(mac(n), 0).unwrap().unwrap().crashes;
        for n in 0..20u16 {
            send(0, format!("lie {n}"), Some([10, 0, 0, 66]));
        }
        let (proven, lies): (Vec<_>, Vec<_>) = kept(0).into_iter().partition(|crash| crash.proven);
        assert_eq!((proven.len(), lies.len() as u32), (1, MAX_CRASHES));
        send(0, "lie 19".into(), None);
        assert_eq!(kept(0).iter().filter(|crash| crash.proven).count(), 2, "now it is proven");

        // One peer, many machines; then many peers.
        for n in 1..100 {
            send(n, "lie".into(), Some([10, 0, 0, 66]));
        }
        let all = || (0..200).flat_map(kept).filter(|crash| !crash.proven).count() as u64;
        assert_eq!(all(), MAX_OF_SOURCE);
        send(100, "told by itself".into(), Some([10, 0, 0, 7]));
        for peer in 0..=MAX_UNPROVEN / 8 {
            for n in 0..8 {
                let from = [10, 1, (peer >> 8) as u8, peer as u8];
                send(101 + (peer % 90) as u16, format!("{peer} {n}"), Some(from));
            }
        }
        assert!(all() <= MAX_UNPROVEN);
        assert_eq!(kept(100).len(), 1, "who sent one keeps it");
    }

    #[test]
    fn logs_are_sought_through_whatever_the_case() {
        let (_folder, store) = temporary();
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        let texts = ["BUG: \u{c4}rger\nnvme0: timeout 1\nnvme0: timeout 2\n", "oom_reaper\n"];
        for (at, text) in (1..).zip(texts) {
            store.add_crash(MAC, &report(text), None, at).unwrap();
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
