//! Events into the store: the timeline, the boot's progress, and what was learnt of a machine.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::{
    life::{Actor, Cause},
    machine::Mac,
    progress::{Mark, Progress, SCRIPT, UKI},
    timeline::{Kind, Record},
};
use protocol::{
    boot::{STAGE_POWER, STAGE_STANDS, StageState},
    fleet::TimelineEvent,
};
use std::collections::BTreeMap;

/// The most events kept of a machine: some ten boots.
const MAX_EVENTS: u32 = 500;
/// The most of those besides that anybody could have caused, so that they displace no others.
const MAX_WEAK: u32 = 250;
/// The most bytes of the texts of either: with some 100 each, as most have, all of them are kept.
const MAX_BYTES: u64 = 128 << 10;
const MAX_WEAK_BYTES: u64 = 64 << 10;
/// How many of a machine's own reports are remembered, so that none counts twice: sixteen posts of
/// the largest size, where a node sends again only what the last post did not get through.
const MAX_REPORTS: u32 = 4_096;

impl Store {
    /// Writes records, all or none, and gives back those that were new: a machine's own report
    /// that is already in is not, nor is anything about a machine that is not ours to know.
    pub fn record<'a>(&self, records: &'a [Record]) -> Result<Vec<&'a Record>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Part::Machines, |sql| {
            let mut new = Vec::with_capacity(records.len());
            let mut grown: BTreeMap<Mac, [u64; 2]> = BTreeMap::new();
            for record in records {
                if let Some((is_weak, bytes)) = self.put(sql, record)? {
                    grown.entry(record.mac).or_default()[usize::from(is_weak)] += bytes;
                    new.push(record);
                }
            }
            for (mac, bytes) in grown {
                prune(sql, mac, bytes)?;
            }
            Ok(new)
        })
    }

    /// Writes a record that is new: whether anybody could have caused it, and its text's length.
    fn put(&self, sql: &mut dyn Sql, record: &Record) -> Result<Option<(bool, u64)>, StoreError> {
        let mac = record.mac.to_string();
        if record.sighting.boots {
            if !self.make_machine(sql, record.mac, record.at)? {
                return Ok(None);
            }
        } else if !sql.exists("SELECT 1 FROM machines WHERE mac = ?1", values![&mac])? {
            return Ok(None);
        }
        let believed = super::believed::is_believed(sql, &mac, record.claimed_at)?;
        if let Some((boot_id, sequence)) = &record.report {
            let boot_id = boot_id.to_string();
            let inserted = sql.execute(
                "INSERT INTO reports (mac, boot_id, sequence) VALUES (?1, ?2, ?3)
                 ON CONFLICT (mac, boot_id, sequence) DO NOTHING",
                values![&mac, &boot_id, *sequence],
            )?;
            if inserted == 0 {
                return Ok(None);
            }
            if record.claimed_at.is_none() {
                sql.execute(
                    "UPDATE machines SET node_seen = ?3 WHERE mac = ?1 AND boot_id = ?2",
                    values![&mac, boot_id, record.at],
                )?;
            }
        }
        let text = match (believed, record.claimed_at) {
            (false, Some(from)) => format!("unproven, from {from}: {}", record.text),
            _ => record.text.clone(),
        };
        let is_weak = record.claimed_at.is_some() || matches!(record.kind, Kind::Dhcp | Kind::Tftp);
        let bytes = text.len() as u64;
        sql.execute(
            "INSERT INTO events (mac, at, kind, text, weak) VALUES (?1, ?2, ?3, ?4, ?5)",
            values![&mac, record.at, record.kind.as_str(), text, u32::from(is_weak)],
        )?;
        if believed {
            learn(sql, &mac, record)?;
        }
        Ok(Some((is_weak, bytes)))
    }

    /// A machine's events before that number, or its newest, newest first, with their numbers.
    pub fn timeline(
        &self,
        mac: Mac,
        before: Option<u64>,
        most: u32,
    ) -> Result<Vec<(u64, TimelineEvent)>, StoreError> {
        let select = "SELECT id, at, kind, text FROM events WHERE mac = ?1 AND id < ?2
                      ORDER BY id DESC LIMIT ?3";
        let wanted = values![mac.to_string(), before.unwrap_or(u64::MAX), most];
        let rows = self.read(|sql| sql.query(select, wanted))?;
        let read = |row: &Row| {
            let (at, kind, text) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, TimelineEvent { mac: mac.to_string(), at, kind, text }))
        };
        rows.iter().map(read).collect()
    }

    /// The number of the newest event.
    pub fn newest_event(&self) -> Result<u64, StoreError> {
        let row = self.read(|sql| sql.first("SELECT max(id) FROM events", &[]))?;
        Ok(row.map(|row| row.get::<Option<u64>>(0)).transpose()?.flatten().unwrap_or(0))
    }

    /// Events after that number in their order, with theirs; at most `most`. They are numbered in
    /// the order in which they came into the store, by whatever front-end.
    pub fn events_after(
        &self,
        number: u64,
        most: u32,
    ) -> Result<Vec<(u64, TimelineEvent)>, StoreError> {
        let select =
            "SELECT id, mac, at, kind, text FROM events WHERE id > ?1 ORDER BY id LIMIT ?2";
        let rows = self.read(|sql| sql.query(select, values![number, most]))?;
        let read = |row: &Row| {
            let (mac, at, kind, text) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            Ok((row.get(0)?, TimelineEvent { mac, at, kind, text }))
        };
        rows.iter().map(read).collect()
    }
}

/// Puts into the machine's row what the record tells.
fn learn(sql: &mut dyn Sql, mac: &str, record: &Record) -> Result<(), StoreError> {
    let sighting = &record.sighting;
    // Firmware's word on who the machine is counts only until the machine itself has enrolled:
    // a second machine with the same MAC address must not rename the first.
    sql.execute(
        "UPDATE machines SET
             last_seen = CASE WHEN last_seen > ?2 THEN last_seen ELSE ?2 END,
             uuid = CASE WHEN node IS NULL THEN coalesce(?3, uuid) ELSE uuid END,
             serial = CASE WHEN node IS NULL THEN coalesce(?4, serial) ELSE serial END,
             firmware = coalesce(?5, firmware), boot_mode = coalesce(?6, boot_mode),
             address = coalesce(?7, address)
         WHERE mac = ?1",
        values![
            mac,
            record.at,
            sighting.uuid.clone(),
            sighting.serial.clone(),
            sighting.firmware,
            sighting.boot_mode,
            sighting.address.map(|address| address.to_string()),
        ],
    )?;
    match record.kind {
        Kind::Refused | Kind::Conflict => {
            let update = "UPDATE machines SET problem = ?2 WHERE mac = ?1";
            sql.execute(update, values![mac, &record.text])?;
        }
        // It got past whatever it was.
        Kind::Http | Kind::Enrol => {
            sql.execute("UPDATE machines SET problem = NULL WHERE mac = ?1", values![mac])?;
        }
        Kind::Dhcp | Kind::Tftp | Kind::Boot | Kind::Crash => {}
    }
    if record.marks.iter().any(ends_a_row) {
        super::attempts::forget(sql, mac)?;
    }
    for cause in record.marks.iter().filter_map(cause) {
        // Of the boot that was taken in, and by its certificate, alone.
        let of_boot = "SELECT 1 FROM machines WHERE mac = ?1 AND boot_id = ?2";
        let proven = record.report.as_ref().filter(|_| record.claimed_at.is_none());
        let boot = proven.map(|(boot, _)| boot.to_string());
        if cause == Cause::Boots || sql.exists(of_boot, values![mac, boot])? {
            super::life::pass(sql, mac, cause, &Actor::Machine, record.at)?;
        }
    }
    if record.marks.is_empty() {
        return Ok(());
    }
    let before = super::machines::progress(sql, mac)?;
    let apply = |before, mark| Some(Progress::apply(before, mark, record.at));
    let after = record.marks.iter().fold(before, apply);
    sql.execute(
        "UPDATE machines SET progress = ?2 WHERE mac = ?1",
        values![mac, serde_json::to_string(&after)?],
    )?;
    Ok(())
}

/// What a step of a boot is in its machine's life.
fn cause(mark: &Mark) -> Option<Cause> {
    match mark {
        Mark::Done(SCRIPT | UKI, _) => Some(Cause::Boots),
        Mark::Node(event) if event.state == StageState::Done && event.stage == STAGE_STANDS => {
            Some(Cause::Stands)
        }
        Mark::Node(event) if event.state == StageState::Started && event.stage == STAGE_POWER => {
            Some(Cause::Ends)
        }
        _ => None,
    }
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

/// Keeps a machine's tables within their bounds; so many bytes came, and so many of what anybody could
/// have caused.
fn prune(sql: &mut dyn Sql, mac: Mac, grown: [u64; 2]) -> Result<(), StoreError> {
    let mac = mac.to_string();
    for (weak, most) in [(0u32, MAX_EVENTS), (1, MAX_WEAK)] {
        sql.execute(
            "DELETE FROM events WHERE mac = ?1 AND weak = ?2 AND id <=
                 (SELECT id FROM events WHERE mac = ?1 AND weak = ?2
                  ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            values![&mac, weak, most],
        )?;
    }
    sql.execute(
        "DELETE FROM reports WHERE mac = ?1 AND id <=
             (SELECT id FROM reports WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        values![&mac, MAX_REPORTS],
    )?;
    let added = "UPDATE machines SET event_bytes = event_bytes + ?2, weak_bytes = weak_bytes + ?3
                 WHERE mac = ?1 RETURNING event_bytes, weak_bytes";
    let Some(row) = sql.first(added, values![&mac, grown[0], grown[1]])? else { return Ok(()) };
    if row.get::<u64>(0)? > MAX_BYTES {
        shorten(sql, &mac, 0, MAX_BYTES)?;
    }
    if row.get::<u64>(1)? > MAX_WEAK_BYTES {
        shorten(sql, &mac, 1, MAX_WEAK_BYTES)?;
    }
    Ok(())
}

/// Keeps of a machine's events of one sort the newest that have three quarters of so many bytes
/// together, and counts them anew: what was counted is never too little, and seldom right, since what
/// goes by number is not counted. So it is not looked at each time.
fn shorten(sql: &mut dyn Sql, mac: &str, weak: u32, most: u64) -> Result<(), StoreError> {
    sql.execute(
        "DELETE FROM events WHERE mac = ?1 AND weak = ?2 AND id <=
             (SELECT max(id) FROM
                 (SELECT id, sum(octet_length(text)) OVER (ORDER BY id DESC) AS bytes
                  FROM events WHERE mac = ?1 AND weak = ?2) AS sizes
              WHERE bytes > ?3)",
        values![mac, weak, most / 4 * 3],
    )?;
    let column = if weak == 0 { "event_bytes" } else { "weak_bytes" };
    let counted = format!(
        "UPDATE machines SET {column} =
             (SELECT CAST(coalesce(sum(octet_length(text)), 0) AS BIGINT) FROM events
              WHERE mac = ?1 AND weak = ?2)
         WHERE mac = ?1"
    );
    sql.execute(&counted, values![mac, weak])?;
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
        assert_eq!(timeline.len() as u32, MAX_EVENTS + 1, "what DHCP saw is counted apart");
        assert_eq!(timeline[0].text, format!("report {}", MAX_REPORTS + 499), "newest first");
        let kept = store.read(|sql| sql.first("SELECT count(*) FROM reports", &[])).unwrap();
        assert_eq!(kept.unwrap().get::<u32>(0).unwrap(), MAX_REPORTS);
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

    #[test]
    fn what_anybody_could_have_caused_displaces_nothing_else_and_is_bounded_in_bytes() {
        let (_folder, store) = temporary();
        store.record(&[Record::new(MAC, Kind::Enrol, "taken in").sighting(boots())]).unwrap();
        let peer = "10.0.0.66:9".parse().unwrap();
        let lie = |n: u32, length: usize| {
            Record::new(MAC, Kind::Http, format!("{n} {}", "x".repeat(length))).claimed(peer)
        };
        let told = || store.machine(MAC, 0).unwrap().unwrap().timeline;
        store.record(&(0..2 * MAX_WEAK).map(|n| lie(n, 5)).collect::<Vec<_>>()).unwrap();
        assert_eq!(told().len() as u32, MAX_WEAK + 1);
        for n in 0..MAX_WEAK {
            store.record(&[lie(n, 2_000)]).unwrap();
        }
        let bytes = |kind: &str| -> usize {
            told().iter().filter(|event| event.kind == kind).map(|event| event.text.len()).sum()
        };
        assert!(bytes("http") as u64 <= MAX_WEAK_BYTES, "{}", bytes("http"));
        assert!(bytes("http") as u64 > MAX_WEAK_BYTES / 2, "{}", bytes("http"));
        assert!(told().iter().any(|event| event.text == "taken in"));
        for n in 0..MAX_EVENTS {
            let long = format!("{n} {}", "x".repeat(2_000));
            store
                .record(&[Record {
                    report: report(n).report,
                    ..Record::new(MAC, Kind::Boot, long)
                }])
                .unwrap();
        }
        assert!(bytes("boot") as u64 <= MAX_BYTES, "{}", bytes("boot"));
    }
}
