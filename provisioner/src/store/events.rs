//! Events into the store: the timeline, the boot's progress, and what was learnt of a machine.

use super::{Store, StoreError, to_sql};
use crate::{
    machine::Mac,
    progress::{Mark, Progress},
    timeline::{Kind, Record},
};
use protocol::boot::{STAGE_POWER, STAGE_STANDS, StageState};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeSet;

/// The most events kept of a machine: some ten boots.
const MAX_EVENTS: u32 = 500;
/// How many of a machine's own reports are remembered, so that none counts twice: sixteen posts of
/// the largest size, where a node sends again only what the last post did not get through.
const MAX_REPORTS: u32 = 4_096;

impl Store {
    /// Writes records, all or none, and gives back those that were new: a machine's own report
    /// that is already in is not, nor is anything about a machine that is not ours to know.
    pub fn record<'a>(&self, records: &'a [Record]) -> Result<Vec<&'a Record>, StoreError> {
        let mut new = Vec::with_capacity(records.len());
        if records.is_empty() {
            return Ok(new);
        }
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let mut touched = BTreeSet::new();
        for record in records {
            if self.write(&transaction, record)? {
                touched.insert(record.mac);
                new.push(record);
            }
        }
        for mac in touched {
            prune(&transaction, mac)?;
        }
        transaction.commit()?;
        Ok(new)
    }

    fn write(&self, transaction: &Transaction<'_>, record: &Record) -> Result<bool, StoreError> {
        let mac = record.mac.to_string();
        if record.sighting.boots {
            if !self.make_machine(transaction, record.mac, record.at)? {
                return Ok(false);
            }
        } else if !exists(transaction, &mac)? {
            return Ok(false);
        }
        if let Some((boot_id, sequence)) = &record.report {
            let inserted = transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO reports (mac, boot_id, sequence) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![mac, boot_id.to_string(), sequence])?;
            if inserted == 0 {
                return Ok(false);
            }
            transaction
                .prepare_cached(
                    "UPDATE machines SET node_seen = ?3 WHERE mac = ?1 AND boot_id = ?2",
                )?
                .execute(params![mac, boot_id.to_string(), to_sql(record.at)])?;
        }
        transaction
            .prepare_cached("INSERT INTO events (mac, at, kind, text) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![mac, to_sql(record.at), record.kind.as_str(), record.text])?;
        learn(transaction, &mac, record)?;
        Ok(true)
    }
}

fn exists(connection: &Connection, mac: &str) -> Result<bool, StoreError> {
    Ok(connection.prepare_cached("SELECT 1 FROM machines WHERE mac = ?1")?.exists([mac])?)
}

/// Puts into the machine's row what the record tells.
fn learn(transaction: &Transaction<'_>, mac: &str, record: &Record) -> Result<(), StoreError> {
    let sighting = &record.sighting;
    // Firmware's word on who the machine is counts only until the machine itself has enrolled:
    // a second machine with the same MAC address must not rename the first.
    transaction
        .prepare_cached(
            "UPDATE machines SET last_seen = max(last_seen, ?2),
                 uuid = CASE WHEN node IS NULL THEN coalesce(?3, uuid) ELSE uuid END,
                 serial = CASE WHEN node IS NULL THEN coalesce(?4, serial) ELSE serial END,
                 firmware = coalesce(?5, firmware), boot_mode = coalesce(?6, boot_mode),
                 address = coalesce(?7, address)
             WHERE mac = ?1",
        )?
        .execute(params![
            mac,
            to_sql(record.at),
            sighting.uuid,
            sighting.serial,
            sighting.firmware,
            sighting.boot_mode,
            sighting.address.map(|address| address.to_string()),
        ])?;
    match record.kind {
        Kind::Refused | Kind::Conflict => {
            transaction
                .prepare_cached("UPDATE machines SET problem = ?2 WHERE mac = ?1")?
                .execute([mac, &record.text])?;
        }
        // It got past whatever it was.
        Kind::Http | Kind::Enrol => {
            transaction
                .prepare_cached("UPDATE machines SET problem = NULL WHERE mac = ?1")?
                .execute([mac])?;
        }
        Kind::Dhcp | Kind::Tftp | Kind::Boot | Kind::Crash => {}
    }
    if record.marks.iter().any(ends_a_row) {
        super::attempts::forget(transaction, mac)?;
    }
    if record.marks.is_empty() {
        return Ok(());
    }
    let before: Option<String> = transaction
        .prepare_cached("SELECT progress FROM machines WHERE mac = ?1")?
        .query_row([mac], |row| row.get(0))
        .optional()?
        .flatten();
    let before: Option<Progress> = before.map(|json| serde_json::from_str(&json)).transpose()?;
    let apply = |before, mark| Some(Progress::apply(before, mark, record.at));
    let after = record.marks.iter().fold(before, apply);
    transaction
        .prepare_cached("UPDATE machines SET progress = ?2 WHERE mac = ?1")?
        .execute(params![mac, serde_json::to_string(&after)?])?;
    Ok(())
}

/// Whether boots before it no longer count as failed in a row.
fn ends_a_row(mark: &Mark) -> bool {
    let Mark::Node(event) = mark else { return false };
    match event.stage.as_str() {
        STAGE_STANDS => event.state == StageState::Done,
        STAGE_POWER => event.state == StageState::Started,
        _ => false,
    }
}

/// Keeps a machine's tables within their bounds.
fn prune(transaction: &Transaction<'_>, mac: Mac) -> Result<(), StoreError> {
    for (table, most) in [("events", MAX_EVENTS), ("reports", MAX_REPORTS)] {
        transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE mac = ?1 AND id <=
                     (SELECT id FROM {table} WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
            ))?
            .execute(params![mac.to_string(), most])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{progress::Asker, store::temporary, timeline::Sighting};
    use protocol::Digest;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn boots() -> Sighting {
        Sighting { boots: true, ..Sighting::default() }
    }

    fn report(sequence: u32) -> Record {
        let report = Some((Digest([1; 32]), sequence));
        Record { report, ..Record::new(MAC, Kind::Boot, format!("report {sequence}")) }
    }

    #[test]
    fn a_telephone_that_asks_for_an_address_does_not_become_a_machine() {
        let (_folder, store) = temporary();
        let record = Record::new(MAC, Kind::Dhcp, "a running system has 10.0.0.7");
        assert_eq!(store.record(std::slice::from_ref(&record)).unwrap().len(), 0);
        assert_eq!(store.count_machines().unwrap(), 0);
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(boots())]).unwrap();
        assert_eq!(store.record(&[record]).unwrap().len(), 1, "now that it is known");
    }

    #[test]
    fn a_report_sent_twice_counts_once() {
        let (_folder, store) = temporary();
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(boots())]).unwrap();
        assert_eq!(store.record(&[report(0), report(1)]).unwrap().len(), 2);
        assert_eq!(store.record(&[report(1), report(2)]).unwrap().len(), 1);
        assert_eq!(store.machine(MAC, 0).unwrap().unwrap().timeline.len(), 4);
    }

    #[test]
    fn a_machines_timeline_and_reports_are_bounded() {
        let (_folder, store) = temporary();
        let first = Record::new(MAC, Kind::Dhcp, "boots").sighting(boots());
        let reports = (0..MAX_REPORTS + 500).map(report);
        let records: Vec<Record> = std::iter::once(first).chain(reports).collect();
        store.record(&records).unwrap();
        let timeline = store.machine(MAC, 0).unwrap().unwrap().timeline;
        assert_eq!(timeline.len() as u32, MAX_EVENTS);
        assert_eq!(timeline[0].text, format!("report {}", MAX_REPORTS + 499), "newest first");
        let kept: u32 =
            store.reader().query_row("SELECT count(*) FROM reports", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, MAX_REPORTS);
    }

    #[test]
    fn a_problem_stands_until_the_machine_gets_past_it() {
        let (_folder, store) = temporary();
        let problem = || store.machine(MAC, 0).unwrap().unwrap().machine.problem;
        store.record(&[Record::new(MAC, Kind::Refused, "no").sighting(boots())]).unwrap();
        store.record(&[Record::new(MAC, Kind::Dhcp, "asks again")]).unwrap();
        assert_eq!(problem().as_deref(), Some("no"));
        store.record(&[Record::new(MAC, Kind::Http, "script fetched")]).unwrap();
        assert_eq!(problem(), None);
    }

    #[test]
    fn progress_is_kept_in_the_store() {
        let (_folder, store) = temporary();
        let asks = Record::new(MAC, Kind::Dhcp, "DISCOVER")
            .sighting(boots())
            .marks([Mark::Asks(Asker::Firmware)]);
        store.record(&[asks]).unwrap();
        store.record(&[Record::new(MAC, Kind::Tftp, "x").marks([Mark::Began("tftp")])]).unwrap();
        let boot = store.machine(MAC, 0).unwrap().unwrap().machine.boot.unwrap();
        let names: Vec<&str> = boot.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["dhcp", "tftp"]);
    }
}
