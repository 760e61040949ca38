//! Machines' configuration in the store: each revision whole, where rules put machines, and what
//! documents are checked against. What a document says is [`crate::groups`]'.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::{
    groups::{Document, Placed, Site},
    machine::Mac,
};
use protocol::configuration::{History, Revision};
use std::collections::BTreeMap;

/// The most revisions kept.
const MAX_REVISIONS: u64 = 500;
/// The most bytes of them all. The newest is kept whatever its size.
const MAX_REVISIONS_LEN: u64 = 64 << 20;

/// A document that somebody wants to be the configuration.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who.
    pub actor: String,
    /// Why.
    pub why: String,
    /// The document, read and checked.
    pub document: Document,
    /// Where rules put machines, where that is to be what it was at an export.
    pub placed: Option<BTreeMap<String, Placed>>,
}

/// What became of a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drafted {
    /// It is this revision.
    Taken(u64),
    /// Somebody else changed the configuration meanwhile: it is at this revision.
    Stale(u64),
}

/// How far the configuration has come: whatever was read at these numbers holds still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The revision; 0 where nothing was ever configured.
    pub revision: u64,
    /// How often rules put machines somewhere, or an import did.
    pub placed: u64,
}

impl Store {
    /// How far the configuration has come.
    pub fn configuration_mark(&self) -> Result<Mark, StoreError> {
        self.read(mark)
    }

    /// How far it has come, and where a rule put a machine.
    pub fn configuration_of(&self, mac: Mac) -> Result<(Mark, Option<Placed>), StoreError> {
        let select = "SELECT rule, home, labels FROM placed WHERE mac = ?1";
        self.read(|sql| {
            let row = sql.first(select, values![mac.to_string()])?;
            Ok((mark(sql)?, row.map(|row| placed(&row, 0)).transpose()?))
        })
    }

    /// The document that holds, and its revision.
    pub fn configuration(&self) -> Result<(u64, Document), StoreError> {
        self.read(head)
    }

    /// The document of a revision; none where it was dropped, or never was. Revision 0 is empty.
    pub fn configuration_at(&self, revision: u64) -> Result<Option<Document>, StoreError> {
        if revision == 0 {
            return Ok(Some(Document::default()));
        }
        let select = "SELECT document FROM revisions WHERE revision = ?1";
        let row = self.read(|sql| sql.first(select, values![revision]))?;
        row.map(|row| Ok(serde_json::from_str(&row.get::<String>(0)?)?)).transpose()
    }

    /// The document that holds and where rules put machines, all of one moment.
    pub fn configuration_whole(
        &self,
    ) -> Result<(Mark, Document, BTreeMap<String, Placed>), StoreError> {
        self.write(Part::Machines, |sql| {
            let (_, document) = head(sql)?;
            let rows = sql.query("SELECT mac, rule, home, labels FROM placed ORDER BY mac", &[])?;
            let placed = rows.iter().map(|row| Ok((row.get(0)?, placed(row, 1)?)));
            Ok((mark(sql)?, document, placed.collect::<Result<_, StoreError>>()?))
        })
    }

    /// The revisions before that one, or the newest, of those that are kept.
    pub fn configuration_history(
        &self,
        before: Option<u64>,
        most: u32,
    ) -> Result<History, StoreError> {
        let select = "SELECT revision, at, actor, why, bytes FROM revisions WHERE revision < ?1
                      ORDER BY revision DESC LIMIT ?2";
        let oldest = "SELECT coalesce(min(revision), 1) FROM revisions";
        let wanted = values![before.unwrap_or(u64::MAX), most];
        let (rows, oldest) =
            self.read(|sql| Ok((sql.query(select, wanted)?, sql.first(oldest, &[])?)))?;
        let read = |row: &Row| {
            let (revision, at, actor) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Revision { revision, at, actor, why: row.get(3)?, bytes: row.get(4)? })
        };
        let revisions: Vec<Revision> = rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        // They are numbered without gaps, and the oldest go first.
        let oldest = oldest.map_or(Ok(1), |row| row.get::<u64>(0))?;
        let dropped = oldest.saturating_sub(1);
        Ok(History { dropped, revisions })
    }

    /// Makes a draft the configuration, where that is still at the revision `expected`. Of two that
    /// come at once one is taken, and the other is told.
    pub fn take_configuration(
        &self,
        expected: u64,
        draft: &Draft,
        now: u64,
    ) -> Result<Drafted, StoreError> {
        let document = serde_json::to_string(&draft.document)?;
        self.write(Part::Machines, |sql| {
            let before = mark(sql)?;
            if before.revision != expected {
                return Ok(Drafted::Stale(before.revision));
            }
            let revision = before.revision + 1;
            sql.execute(
                "INSERT INTO revisions (revision, at, actor, why, document, bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                values![revision, now, &draft.actor, &draft.why, &document, document.len() as u64,],
            )?;
            drop_old(sql)?;
            if let Some(placed) = &draft.placed {
                sql.execute("DELETE FROM placed", &[])?;
                for (mac, placed) in placed {
                    place(sql, mac, placed, now)?;
                }
            }
            self.name_machines(sql, &draft.document)?;
            Ok(Drafted::Taken(revision))
        })
    }

    /// How many machines each rule let in, but for one.
    pub(super) fn taken_by_rules(
        sql: &mut dyn Sql,
        but: &str,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let select = "SELECT rule, count(*) FROM placed WHERE mac != ?1 GROUP BY rule";
        let rows = sql.query(select, values![but])?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// What documents are checked against.
    pub fn site(&self) -> Result<Site, StoreError> {
        let select = "SELECT text FROM configuration_state WHERE name = 'site'";
        let row = self.read(|sql| sql.first(select, &[]))?;
        let Some(row) = row else { return Ok(Site::default()) };
        Ok(serde_json::from_str(&row.get::<String>(0)?)?)
    }

    /// Writes down what documents are checked against.
    pub fn set_site(&self, site: &Site) -> Result<(), StoreError> {
        let text = serde_json::to_string(site)?;
        self.write(Part::Machines, |sql| {
            sql.execute(
                "INSERT INTO configuration_state (name, text, number) VALUES ('site', ?1, 0)
                 ON CONFLICT (name) DO UPDATE SET text = ?1",
                values![text],
            )
        })?;
        Ok(())
    }

    /// Gives machines the names that the document has for them; those that it names no more get
    /// back what they are called without it.
    fn name_machines(&self, sql: &mut dyn Sql, document: &Document) -> Result<(), StoreError> {
        let before = sql.query("SELECT mac FROM machine_names", &[])?;
        sql.execute("DELETE FROM machine_names", &[])?;
        let mut changed: Vec<String> =
            before.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
        for (mac, machine) in &document.machine {
            if let Some(name) = machine.values.get("name").and_then(|name| name.as_str()) {
                let insert = "INSERT INTO machine_names (mac, name) VALUES (?1, ?2)";
                sql.execute(insert, values![mac, name])?;
                changed.push(mac.clone());
            }
        }
        for mac in changed {
            if let Ok(parsed) = mac.parse() {
                let name = self.name(sql, parsed)?;
                let update = "UPDATE machines SET name = ?2 WHERE mac = ?1";
                sql.execute(update, values![mac, name])?;
            }
        }
        Ok(())
    }
}

/// Writes down where a rule put a machine.
pub(super) fn place(
    sql: &mut dyn Sql,
    mac: &str,
    placed: &Placed,
    now: u64,
) -> Result<(), StoreError> {
    let labels = serde_json::to_string(&placed.labels)?;
    sql.execute(
        "INSERT INTO placed (mac, rule, home, labels, at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (mac) DO UPDATE SET rule = ?2, home = ?3, labels = ?4, at = ?5",
        values![mac, &placed.rule, placed.group.clone(), labels, now],
    )?;
    sql.execute(
        "INSERT INTO configuration_state (name, text, number) VALUES ('placed', '', 1)
         ON CONFLICT (name) DO UPDATE SET number = configuration_state.number + 1",
        &[],
    )?;
    Ok(())
}

fn mark(sql: &mut dyn Sql) -> Result<Mark, StoreError> {
    let select = "SELECT (SELECT coalesce(max(revision), 0) FROM revisions),
                         (SELECT coalesce(max(number), 0) FROM configuration_state
                          WHERE name = 'placed')";
    let Some(row) = sql.first(select, &[])? else { return Ok(Mark::default()) };
    Ok(Mark { revision: row.get(0)?, placed: row.get(1)? })
}

fn head(sql: &mut dyn Sql) -> Result<(u64, Document), StoreError> {
    let select = "SELECT revision, document FROM revisions ORDER BY revision DESC LIMIT 1";
    let Some(row) = sql.first(select, &[])? else { return Ok((0, Document::default())) };
    Ok((row.get(0)?, serde_json::from_str(&row.get::<String>(1)?)?))
}

/// Rule, home and labels, from a column on.
fn placed(row: &Row, from: usize) -> Result<Placed, StoreError> {
    let labels = serde_json::from_str(&row.get::<String>(from + 2)?)?;
    Ok(Placed { rule: row.get(from)?, group: row.get(from + 1)?, labels })
}

/// Keeps history within its bounds.
fn drop_old(sql: &mut dyn Sql) -> Result<(), StoreError> {
    let rows = sql.query("SELECT revision, bytes FROM revisions ORDER BY revision DESC", &[])?;
    let (mut count, mut bytes) = (0, 0);
    for row in rows {
        count += 1;
        bytes += row.get::<u64>(1)?;
        if count > 1 && (count > MAX_REVISIONS || bytes > MAX_REVISIONS_LEN) {
            let delete = "DELETE FROM revisions WHERE revision <= ?1";
            sql.execute(delete, values![row.get::<u64>(0)?])?;
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        groups::{Configured, Machine},
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };
    use serde_json::json;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn draft(name: Option<&str>) -> Draft {
        let values = name.map(|name| ("name".to_string(), json!(name))).into_iter().collect();
        let machine = Machine { values, ..Machine::default() };
        let document =
            Document { machine: [(MAC.to_string(), machine)].into(), ..Document::default() };
        Draft { actor: "anna".into(), why: "because".into(), document, placed: None }
    }

    #[test]
    fn of_two_who_change_the_configuration_at_once_one_is_told() {
        let (_folder, store) = temporary();
        assert_eq!(store.configuration().unwrap(), (0, Document::default()));
        let take =
            |expected, name| store.take_configuration(expected, &draft(Some(name)), 5).unwrap();
        assert_eq!(take(0, "a"), Drafted::Taken(1));
        assert_eq!(take(0, "b"), Drafted::Stale(1));
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| take(1, "c"))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(results.iter().filter(|result| **result == Drafted::Taken(2)).count(), 1);
        assert_eq!(results.iter().filter(|result| **result == Drafted::Stale(2)).count(), 3);
        let history = store.configuration_history(None, 10).unwrap();
        assert_eq!((history.dropped, history.revisions.len()), (0, 2));
        assert_eq!(history.revisions[1].actor, "anna");
        assert_eq!(store.configuration_at(1).unwrap(), Some(draft(Some("a")).document));
        assert_eq!(store.configuration_at(3).unwrap(), None);
    }

    #[test]
    fn history_is_bounded_and_says_what_was_dropped() {
        let (_folder, store) = temporary();
        for revision in 0..MAX_REVISIONS + 20 {
            let taken = store.take_configuration(revision, &draft(None), revision).unwrap();
            assert_eq!(taken, Drafted::Taken(revision + 1));
        }
        let all = MAX_REVISIONS as u32 + 1;
        let history = store.configuration_history(None, all).unwrap();
        assert_eq!((history.dropped, history.revisions.len() as u64), (20, MAX_REVISIONS));
        let page = store.configuration_history(Some(31), 7).unwrap();
        let told: Vec<u64> = page.revisions.iter().map(|one| one.revision).collect();
        assert_eq!((page.dropped, told), (20, (24..31).rev().collect()));
        assert_eq!(store.configuration_history(Some(21), 7).unwrap().revisions, []);
        assert_eq!(store.configuration_at(20).unwrap(), None);
        assert!(store.configuration_at(21).unwrap().is_some());
    }

    #[test]
    fn names_are_the_documents_at_once_and_for_those_who_come_later_too() {
        let (_folder, store) = temporary();
        let sighting = Sighting { boots: true, ..Sighting::default() };
        let named = || store.machine(MAC, 0).unwrap().unwrap().machine.name;
        store.take_configuration(0, &draft(Some("first")), 0).unwrap();
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        assert_eq!(named(), "first");
        store.take_configuration(1, &draft(Some("second")), 0).unwrap();
        assert_eq!(named(), "second");
        store.take_configuration(2, &draft(None), 0).unwrap();
        assert_eq!(named(), "node-000001");
    }

    #[test]
    fn while_the_store_fails_what_was_configured_last_holds() {
        let (_folder, store) = temporary();
        let configured = Configured::open(store.clone(), BTreeMap::new()).unwrap();
        store.take_configuration(0, &draft(Some("first")), 0).unwrap();
        let named = || configured.now(MAC).settings.name;
        assert_eq!(named().as_deref(), Some("first"), "read again, since it changed");
        store.write(Part::Machines, |sql| sql.execute("DROP TABLE placed", &[])).unwrap();
        assert!(configured.refresh().is_ok_and(|changed| !changed));
        assert!(store.configuration_of(MAC).is_err());
        assert_eq!(named().as_deref(), Some("first"));
    }

    #[test]
    fn where_rules_put_machines_is_counted_and_an_import_says_it_all() {
        let (_folder, store) = temporary();
        let home = |rule: &str| Placed { rule: rule.into(), ..Placed::default() };
        let placed = |mac: &str, rule: &str| {
            store.write(Part::Machines, |sql| place(sql, mac, &home(rule), 0)).unwrap();
        };
        placed(&MAC.to_string(), "a");
        placed("02:00:00:00:00:02", "a");
        placed("02:00:00:00:00:03", "b");
        let count = |but: &str| store.read(|sql| Store::taken_by_rules(sql, but)).unwrap();
        assert_eq!(count(&MAC.to_string()), [("a".to_string(), 1), ("b".to_string(), 1)].into());
        let (mark, known) = store.configuration_of(MAC).unwrap();
        assert_eq!((mark, known), (Mark { revision: 0, placed: 3 }, Some(home("a"))));
        let only = [("02:00:00:00:00:09".to_string(), home("c"))].into();
        let draft = Draft { placed: Some(only), ..draft(None) };
        store.take_configuration(0, &draft, 0).unwrap();
        let (mark, _, all) = store.configuration_whole().unwrap();
        assert_eq!((mark, all), (Mark { revision: 1, placed: 4 }, draft.placed.unwrap()));
    }

    #[test]
    fn what_documents_are_checked_against_outlasts_a_front_end() {
        let (_folder, store) = temporary();
        assert_eq!(store.site().unwrap(), Site::default());
        let site = Site { flavours: vec!["gpu".into()], ..Site::default() };
        store.set_site(&site).unwrap();
        store.set_site(&site).unwrap();
        assert_eq!(store.site().unwrap(), site);
    }
}
