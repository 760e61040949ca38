//! Machines' consoles: bounded for each machine and in all, oldest lines go first.

use super::{
    Store, StoreError,
    machines::pattern,
    sql::{Part, Row, Sql, Value, values},
};
use crate::{
    console::{Head, Taken},
    machine::Mac,
};
use protocol::{
    Digest,
    console::{ConsoleBatch, ConsoleBoot, ConsoleEntry, ConsolePage, ConsoleSource},
};

/// What is kept at the most.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Lines of a machine: two boots' and more.
    lines: u64,
    /// Bytes of text of a machine.
    bytes: u64,
    /// Bytes of text of all machines. With its numbers and its place in the index a line takes some
    /// 150 bytes besides.
    all: u64,
}

const BOUNDS: Bounds = Bounds { lines: 4_000, bytes: 256 << 10, all: MAX_CONSOLES };
/// Bytes of text of all consoles.
pub(super) const MAX_CONSOLES: u64 = 512 << 20;
/// Rows of one INSERT.
const CHUNK: usize = 32;
/// Rows that make room at once.
const PRUNED: u32 = 4_096;
/// So often, in lines of whatever machine, is looked whether all of them are too much.
const LOOK: u64 = 1_024;

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Those of this boot alone.
    pub boot: Option<Digest>,
    /// Those that contain this, whatever its case.
    pub search: Option<String>,
    /// Those behind this one.
    pub after: Option<u64>,
    /// Those before this one: the last of them.
    pub before: Option<u64>,
    /// So many.
    pub most: u32,
}

impl Store {
    /// Keeps the lines of a batch that are new; gives how many those are.
    pub fn add_console(
        &self,
        mac: Mac,
        batch: ConsoleBatch,
        now: u64,
    ) -> Result<usize, StoreError> {
        self.add_console_within(mac, batch, now, BOUNDS)
    }

    fn add_console_within(
        &self,
        mac: Mac,
        batch: ConsoleBatch,
        now: u64,
        bounds: Bounds,
    ) -> Result<usize, StoreError> {
        let mac = mac.to_string();
        self.write(Part::Console, |sql| {
            let mut head = match head(sql, &mac)? {
                Some(head) => head,
                None => Head::new(batch.boot_id, now),
            };
            let boot = batch.boot_id.to_string();
            let taken = head.take(batch, now);
            let bytes = taken.iter().map(|taken| taken.line.text.len() as u64).sum();
            for chunk in taken.chunks(CHUNK) {
                insert(sql, (&mac, &boot), chunk, now)?;
            }
            keep(sql, &mac, &head, (taken.len() as u64, bytes))?;
            if !taken.is_empty() {
                prune_one(sql, &mac, bounds)?;
                let newest = sql.first("SELECT max(id) FROM console", &[])?;
                let newest: u64 = newest.map_or(Ok(0), |row| row.get(0))?;
                if newest / LOOK != newest.saturating_sub(taken.len() as u64) / LOOK {
                    prune_all(sql, bounds.all)?;
                }
            }
            Ok(taken.len())
        })
    }

    /// A page of a machine's console, oldest line first.
    pub fn console(&self, mac: Mac, wanted: &Lines) -> Result<ConsolePage, StoreError> {
        let mac = mac.to_string();
        // Those before one are sought from there backwards.
        let order = if wanted.before.is_some() && wanted.after.is_none() { "DESC" } else { "ASC" };
        let select = format!(
            "SELECT id, boot_id, source, sequence, at_ms, received, level, missing, text FROM console
             WHERE mac = ?1 AND id > ?2 AND id < ?3
               AND (CAST(?4 AS TEXT) IS NULL OR boot_id = ?4)
               AND (CAST(?5 AS TEXT) IS NULL OR lower(text) LIKE ?5 ESCAPE '!')
             ORDER BY id {order} LIMIT ?6"
        );
        let values = values![
            &mac,
            wanted.after.unwrap_or(0),
            wanted.before.unwrap_or(u64::MAX),
            wanted.boot.map(|boot| boot.to_string()),
            wanted.search.as_deref().map(pattern),
            wanted.most,
        ];
        self.read(|sql| {
            let rows = sql.query(&select, values)?;
            let mut lines: Vec<ConsoleEntry> =
                rows.iter().filter_map(|row| entry(row).transpose()).collect::<Result<_, _>>()?;
            if order == "DESC" {
                lines.reverse();
            }
            let gone = sql.first("SELECT gone FROM console_heads WHERE mac = ?1", values![&mac])?;
            let gone = gone.map_or(Ok(0), |row| row.get(0))?;
            Ok(ConsolePage { lines, gone, boots: boots(sql, &mac)? })
        })
    }

    /// The lines of a machine behind one, oldest first.
    pub fn console_after(&self, mac: Mac, wanted: &Lines) -> Result<Vec<ConsoleEntry>, StoreError> {
        let select = "SELECT id, boot_id, source, sequence, at_ms, received, level, missing, text
             FROM console WHERE mac = ?1 AND id > ?2
               AND (CAST(?3 AS TEXT) IS NULL OR lower(text) LIKE ?3 ESCAPE '!')
             ORDER BY id LIMIT ?4";
        let search = wanted.search.as_deref().map(pattern);
        let values = values![mac.to_string(), wanted.after.unwrap_or(0), search, wanted.most];
        let rows = self.read(|sql| sql.query(select, values))?;
        rows.iter().filter_map(|row| entry(row).transpose()).collect()
    }

    /// The number of a machine's newest line; 0 where there is none.
    pub fn newest_line(&self, mac: Mac) -> Result<u64, StoreError> {
        let select = "SELECT max(id) FROM console WHERE mac = ?1";
        let row = self.read(|sql| sql.first(select, values![mac.to_string()]))?;
        Ok(row.map(|row| row.get::<Option<u64>>(0)).transpose()?.flatten().unwrap_or(0))
    }
}

/// Bytes of all consoles.
pub(super) fn bytes(sql: &mut dyn Sql) -> Result<u64, StoreError> {
    let select = "SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM console_heads";
    sql.first(select, &[])?.map_or(Ok(0), |row| row.get(0))
}

fn head(sql: &mut dyn Sql, mac: &str) -> Result<Option<Head>, StoreError> {
    let select = "SELECT boot_id, kernel, init, window_began, taken, refused
                  FROM console_heads WHERE mac = ?1";
    let Some(row) = sql.first(select, values![mac])? else { return Ok(None) };
    let Ok(boot) = row.get::<String>(0)?.parse() else { return Ok(None) };
    Ok(Some(Head {
        boot,
        kernel: row.get(1)?,
        init: row.get(2)?,
        window: row.get(3)?,
        taken: row.get(4)?,
        refused: row.get(5)?,
    }))
}

/// Writes how far a console is known, and how much more of it is kept.
fn keep(
    sql: &mut dyn Sql,
    mac: &str,
    head: &Head,
    (lines, bytes): (u64, u64),
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO console_heads
             (mac, boot_id, kernel, init, window_began, taken, refused, kept, bytes, gone)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)
         ON CONFLICT (mac) DO UPDATE SET boot_id = ?2, kernel = ?3, init = ?4, window_began = ?5,
             taken = ?6, refused = ?7, kept = console_heads.kept + ?8,
             bytes = console_heads.bytes + ?9",
        values![
            mac,
            head.boot.to_string(),
            head.kernel,
            head.init,
            head.window,
            head.taken,
            head.refused,
            lines,
            bytes,
        ],
    )?;
    Ok(())
}

fn insert(
    sql: &mut dyn Sql,
    (mac, boot): (&str, &str),
    chunk: &[Taken],
    now: u64,
) -> Result<(), StoreError> {
    let mut values: Vec<Value> = values![mac, boot, now].to_vec();
    let mut rows = Vec::with_capacity(chunk.len());
    for Taken { line, missing } in chunk {
        let first = values.len() + 1;
        let at = |n: usize| format!("?{}", first + n);
        rows.push(format!(
            "(?1, ?2, ?3, {}, {}, {}, {}, {}, {})",
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5)
        ));
        let level = line.level.map(u32::from);
        let source = line.source.as_str();
        values.extend_from_slice(values![
            source,
            line.sequence,
            line.at_ms,
            level,
            *missing,
            &line.text
        ]);
    }
    let insert = format!(
        "INSERT INTO console
             (mac, boot_id, received, source, sequence, at_ms, level, missing, text)
         VALUES {}",
        rows.join(", ")
    );
    sql.execute(&insert, &values)?;
    Ok(())
}

/// Keeps a machine's console within its bounds.
fn prune_one(sql: &mut dyn Sql, mac: &str, bounds: Bounds) -> Result<(), StoreError> {
    let kept = "SELECT kept, bytes FROM console_heads WHERE mac = ?1";
    let Some(row) = sql.first(kept, values![mac])? else { return Ok(()) };
    let (mut lines, mut bytes): (u64, u64) = (row.get(0)?, row.get(1)?);
    if lines <= bounds.lines && bytes <= bounds.bytes {
        return Ok(());
    }
    let oldest = "SELECT id, octet_length(text) FROM console WHERE mac = ?1 ORDER BY id LIMIT ?2";
    let (mut last, mut gone, mut less): (u64, u64, u64) = (0, 0, 0);
    for row in sql.query(oldest, values![mac, PRUNED])? {
        if lines <= bounds.lines && bytes <= bounds.bytes {
            break;
        }
        let size: u64 = row.get(1)?;
        last = row.get(0)?;
        (lines, bytes) = (lines.saturating_sub(1), bytes.saturating_sub(size));
        (gone, less) = (gone + 1, less + size);
    }
    sql.execute("DELETE FROM console WHERE mac = ?1 AND id <= ?2", values![mac, last])?;
    shrink(sql, mac, gone, less)
}

/// Keeps all consoles together within their bound: the oldest lines go, whoever's they are.
fn prune_all(sql: &mut dyn Sql, most: u64) -> Result<(), StoreError> {
    let mut all = bytes(sql)?;
    while all > most {
        let oldest = "SELECT id, mac, octet_length(text) FROM console ORDER BY id LIMIT ?1";
        let rows = sql.query(oldest, values![PRUNED])?;
        let mut gone: std::collections::BTreeMap<String, (u64, u64)> = Default::default();
        let mut last: u64 = 0;
        for row in &rows {
            if all <= most {
                break;
            }
            let size: u64 = row.get(2)?;
            last = row.get(0)?;
            all = all.saturating_sub(size);
            let of = gone.entry(row.get(1)?).or_default();
            *of = (of.0 + 1, of.1 + size);
        }
        if gone.is_empty() {
            return Ok(());
        }
        sql.execute("DELETE FROM console WHERE id <= ?1", values![last])?;
        for (mac, (lines, bytes)) in gone {
            shrink(sql, &mac, lines, bytes)?;
        }
    }
    Ok(())
}

fn shrink(sql: &mut dyn Sql, mac: &str, lines: u64, bytes: u64) -> Result<(), StoreError> {
    let update = "UPDATE console_heads
                  SET kept = kept - ?2, bytes = bytes - ?3, gone = gone + ?2 WHERE mac = ?1";
    sql.execute(update, values![mac, lines, bytes]).map(drop)
}

fn boots(sql: &mut dyn Sql, mac: &str) -> Result<Vec<ConsoleBoot>, StoreError> {
    // No more than there are lines.
    let select = "SELECT boot_id, min(received), count(*) FROM console WHERE mac = ?1
                  GROUP BY boot_id ORDER BY max(id) DESC LIMIT 100";
    let rows = sql.query(select, values![mac])?;
    let read = |row: &Row| {
        let Ok(boot) = row.get::<String>(0)?.parse() else { return Ok(None) };
        Ok(Some(ConsoleBoot { boot, began: row.get(1)?, lines: row.get(2)? }))
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

fn entry(row: &Row) -> Result<Option<ConsoleEntry>, StoreError> {
    let Ok(boot) = row.get::<String>(1)?.parse() else { return Ok(None) };
    let source = match row.get::<String>(2)?.as_str() {
        "kernel" => ConsoleSource::Kernel,
        _ => ConsoleSource::Init,
    };
    let level = row.get::<Option<u32>>(6)?.and_then(|level| u8::try_from(level).ok());
    Ok(Some(ConsoleEntry {
        id: row.get(0)?,
        boot,
        source,
        sequence: row.get(3)?,
        at_ms: row.get(4)?,
        received: row.get(5)?,
        level,
        missing: row.get(7)?,
        text: row.get(8)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;
    use protocol::console::ConsoleLine;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn batch(boot: u8, numbers: std::ops::Range<u64>, text: &str) -> ConsoleBatch {
        let line = |sequence| ConsoleLine {
            source: ConsoleSource::Kernel,
            sequence,
            at_ms: sequence,
            level: Some(4),
            text: format!("{text} {sequence}"),
        };
        ConsoleBatch { boot_id: Digest([boot; 32]), lines: numbers.map(line).collect() }
    }

    fn all() -> Lines {
        Lines { most: 10_000, ..Lines::default() }
    }

    fn texts(page: &ConsolePage) -> Vec<&str> {
        page.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_kept_once_found_and_paged_both_ways() {
        let (_folder, store) = temporary();
        assert_eq!(store.add_console(MAC, batch(1, 0..70, "Usb"), 5).unwrap(), 70);
        assert_eq!(store.add_console(MAC, batch(1, 60..72, "Usb"), 6).unwrap(), 2);
        store.add_console(OTHER, batch(9, 0..3, "other"), 7).unwrap();
        store.add_console(MAC, batch(2, 2..5, "100%"), 8).unwrap();
        let page = store.console(MAC, &all()).unwrap();
        assert_eq!((page.lines.len(), page.gone), (75, 0));
        let (first, late) = (&page.lines[0], &page.lines[72]);
        assert_eq!((first.level, first.received, first.missing), (Some(4), 5, 0));
        assert_eq!((late.text.as_str(), late.missing), ("100% 2", 2));
        let boots: Vec<_> = page.boots.iter().map(|b| (b.boot, b.began, b.lines)).collect();
        assert_eq!(boots, [(Digest([2; 32]), 8, 3), (Digest([1; 32]), 5, 72)]);
        let found = |search: &str| {
            let wanted = Lines { search: Some(search.into()), ..all() };
            store.console(MAC, &wanted).unwrap().lines.len()
        };
        assert_eq!((found("uSB 7"), found("%"), found("other")), (3, 3, 0));
        let of = Lines { boot: Some(Digest([2; 32])), ..all() };
        assert_eq!(texts(&store.console(MAC, &of).unwrap()), ["100% 2", "100% 3", "100% 4"]);
        let last = Lines { before: Some(u64::MAX), most: 2, ..all() };
        let last = store.console(MAC, &last).unwrap();
        assert_eq!(texts(&last), ["100% 3", "100% 4"]);
        let before = Lines { before: Some(last.lines[0].id), most: 2, ..all() };
        assert_eq!(texts(&store.console(MAC, &before).unwrap()), ["Usb 71", "100% 2"]);
        let after = Lines { after: Some(last.lines[0].id), ..all() };
        assert_eq!(texts(&store.console(MAC, &after).unwrap()), ["100% 4"]);
        let lines = store.console_after(MAC, &after).unwrap();
        assert_eq!(lines.last().map(|line| line.id), Some(store.newest_line(MAC).unwrap()));
        assert_eq!(store.newest_line(Mac([9; 6])).unwrap(), 0);
    }

    #[test]
    fn a_console_is_bounded_in_lines_and_in_bytes_and_what_went_is_counted() {
        let (_folder, store) = temporary();
        let add = |batch, bounds| store.add_console_within(MAC, batch, 1, bounds).unwrap();
        let few = Bounds { lines: 10, ..BOUNDS };
        add(batch(1, 0..25, "x"), few);
        let page = store.console(MAC, &all()).unwrap();
        assert_eq!((page.lines.len(), page.gone, page.lines[0].sequence), (10, 15, 15));
        let small = Bounds { bytes: 1_000, ..BOUNDS };
        add(batch(1, 25..35, &"y".repeat(200)), small);
        let page = store.console(MAC, &all()).unwrap();
        let bytes: usize = page.lines.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= 1_000 && page.lines.len() == 4, "{bytes}");
        assert_eq!(page.gone, 31);
        assert_eq!(store.read(super::bytes).unwrap(), bytes as u64);
    }

    #[test]
    fn all_consoles_together_are_bounded_whoever_fills_them() {
        let (_folder, store) = temporary();
        let bounds = Bounds { all: 100_000, ..BOUNDS };
        let text = "z".repeat(990);
        for n in 0..20 {
            let mac = Mac([2, 0, 0, 0, 1, n]);
            store.add_console_within(mac, batch(1, 0..110, &text), 1, bounds).unwrap();
        }
        let bytes = store.read(super::bytes).unwrap();
        // One look's lines may be over it.
        assert!(bytes <= 100_000 + (LOOK + 256) * 1_000 && bytes > 0, "{bytes}");
        let first = store.console(Mac([2, 0, 0, 0, 1, 0]), &all()).unwrap();
        assert_eq!((first.lines.len(), first.gone), (0, 110), "the oldest went, and it is told");
        let newest = store.console(Mac([2, 0, 0, 0, 1, 19]), &all()).unwrap();
        assert_eq!(newest.lines.len(), 110);
    }
}
