//! What kernels kept of their own deaths: bounded for each machine.

use super::{
    Store, StoreError,
    sql::{Part, Sql, values},
};
use crate::machine::Mac;
use protocol::{Digest, boot::CrashReport, fleet::CrashStatus};

/// The most deaths kept of a machine, of at most 64 KiB each.
const MAX_CRASHES: u32 = 8;

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

    /// The log of one death.
    pub fn crash(&self, mac: Mac, id: u64) -> Result<Option<String>, StoreError> {
        let select = "SELECT text FROM crashes WHERE mac = ?1 AND id = ?2";
        let row = self.read(|sql| sql.first(select, values![mac.to_string(), id]))?;
        row.map(|row| row.get(0)).transpose()
    }
}

/// A machine's deaths, newest first.
pub(super) fn of(sql: &mut dyn Sql, mac: Mac) -> Result<Vec<CrashStatus>, StoreError> {
    let select = "SELECT id, at, reason, octet_length(text) FROM crashes
                  WHERE mac = ?1 ORDER BY id DESC";
    let rows = sql.query(select, values![mac.to_string()])?;
    let read = |row: &super::sql::Row| {
        let (id, at, reason, bytes) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(CrashStatus { id, at, reason, bytes })
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
}
