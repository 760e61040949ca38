//! Boots in a row that did not come to stand: what a machine that boots over and over is told.

use super::{
    Store, StoreError,
    sql::{Part, Sql, values},
};
use crate::machine::Mac;
use protocol::Digest;

/// A boot that failed longer ago than this, in milliseconds, is no part of a loop.
const WINDOW_MS: u64 = 60 * 60 * 1000;

/// The boots of a machine so far.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempts {
    image: String,
    count: u64,
    at: u64,
    boot: Option<String>,
}

/// The number of a boot at `now` into that image. Another image is another chance. Pure.
fn next(before: Option<&Attempts>, image: &str, now: u64) -> u64 {
    match before {
        Some(before) if before.image == image && now.saturating_sub(before.at) < WINDOW_MS => {
            before.count.saturating_add(1)
        }
        _ => 1,
    }
}

impl Store {
    /// The number of a machine's last boot in its row, from 1.
    pub fn attempt(&self, mac: Mac) -> Result<u32, StoreError> {
        let before = self.read(|sql| read(sql, &mac.to_string()))?;
        Ok(before.map_or(1, |before| u32::try_from(before.count).unwrap_or(u32::MAX)))
    }

    /// Counts a boot into that image; gives its number in its row, from 1. One that is known by its
    /// id counts once, however often it is told of.
    pub fn count_attempt(
        &self,
        mac: Mac,
        image: &Digest,
        boot: Option<Digest>,
        now: u64,
    ) -> Result<u32, StoreError> {
        let (mac, image) = (mac.to_string(), image.to_string());
        let boot = boot.map(|boot| boot.to_string());
        let count = self.write(Part::Machines, |sql| {
            let before = read(sql, &mac)?;
            let told = before.as_ref().filter(|before| boot.is_some() && before.boot == boot);
            if let Some(before) = told {
                return Ok(before.count);
            }
            let count = next(before.as_ref(), &image, now);
            // Of machines that are known alone: they are bounded.
            sql.execute(
                "INSERT INTO attempts (mac, image, count, at, boot_id)
                 SELECT mac, ?2, ?3, ?4, ?5 FROM machines WHERE mac = ?1
                 ON CONFLICT (mac) DO UPDATE SET image = excluded.image, count = excluded.count,
                     at = excluded.at, boot_id = excluded.boot_id",
                values![&mac, image, count, now, boot],
            )?;
            Ok(count)
        })?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

fn read(sql: &mut dyn Sql, mac: &str) -> Result<Option<Attempts>, StoreError> {
    let select = "SELECT image, count, at, boot_id FROM attempts WHERE mac = ?1";
    let Some(row) = sql.first(select, values![mac])? else { return Ok(None) };
    let (image, count, at, boot) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Some(Attempts { image, count, at, boot }))
}

/// The machine came to stand, or was asked to end: its boots before count no longer.
pub(super) fn forget(sql: &mut dyn Sql, mac: &str) -> Result<(), StoreError> {
    sql.execute("DELETE FROM attempts WHERE mac = ?1", values![mac])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        progress::Mark,
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };
    use protocol::boot::{BootEvent, STAGE_POWER, STAGE_STANDS, StageState};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn boots_are_in_a_row_within_an_hour_and_of_one_image() {
        let before = Attempts { image: "a".into(), count: 3, at: 1_000, boot: None };
        assert_eq!(next(None, "a", 5), 1);
        assert_eq!(next(Some(&before), "a", 2_000), 4);
        assert_eq!(next(Some(&before), "b", 2_000), 1);
        assert_eq!(next(Some(&before), "a", 1_000 + WINDOW_MS), 1);
    }

    #[test]
    fn a_boot_that_stands_and_an_end_that_was_asked_for_begin_a_new_row() {
        let (_folder, store) = temporary();
        let image = Digest([4; 32]);
        assert_eq!(store.count_attempt(MAC, &image, None, 1).unwrap(), 1);
        assert_eq!(store.count_attempt(MAC, &image, None, 2).unwrap(), 1, "nobody knows it");
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Http, "boots").sighting(sighting)]).unwrap();
        let told = |stage: &str, state, boot: u8| {
            let event = BootEvent {
                sequence: 0,
                boot_id: Digest([boot; 32]),
                stage: stage.into(),
                state,
                at_ms: 5,
                detail: String::new(),
            };
            store.record(&[Record::new(MAC, Kind::Boot, "x").marks([Mark::Node(event)])]).unwrap();
        };
        let boot = |at| store.count_attempt(MAC, &image, None, at).unwrap();
        assert_eq!((boot(3), boot(4), boot(5)), (1, 2, 3));
        told("network", StageState::Done, 1);
        told(STAGE_STANDS, StageState::Started, 1);
        assert_eq!(boot(6), 4);
        told(STAGE_STANDS, StageState::Done, 2);
        assert_eq!((boot(7), boot(8)), (1, 2));
        told(STAGE_POWER, StageState::Started, 3);
        assert_eq!((boot(9), store.attempt(MAC).unwrap()), (1, 1));
    }

    #[test]
    fn a_boot_that_tells_of_itself_counts_once() {
        let (_folder, store) = temporary();
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Http, "boots").sighting(sighting)]).unwrap();
        let image = Digest([4; 32]);
        let boot =
            |id: u8, at| store.count_attempt(MAC, &image, Some(Digest([id; 32])), at).unwrap();
        assert_eq!((boot(1, 1), boot(1, 2), boot(2, 3), boot(2, 4)), (1, 1, 2, 2));
        assert_eq!(store.attempt(MAC).unwrap(), 2);
    }
}
