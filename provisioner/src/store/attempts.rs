//! Boots in a row that did not come to stand: what a machine that boots over and over is told.

use super::{
    Store, StoreError,
    sql::{Part, Sql, values},
};
use crate::machine::Mac;
use protocol::Digest;
use std::net::IpAddr;

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

/// By what it is known that a machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its loader fetched its script.
    Script,
    /// Linux runs, and asks for the time in that boot; whether a script of ours began it, as it says.
    Time(Digest, bool),
}

impl Sign {
    fn boot(self) -> Option<Digest> {
        match self {
            Self::Script => None,
            Self::Time(boot, _) => Some(boot),
        }
    }

    /// Whether the last boot that was counted is this one: by its id, or as the one whose script was
    /// fetched and that did not say its id yet.
    fn is_counted(self, before: &Attempts) -> bool {
        match (self, &before.boot) {
            (Self::Script, _) => false,
            (Self::Time(boot, _), Some(known)) => *known == boot.to_string(),
            (Self::Time(_, scripted), None) => scripted,
        }
    }
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
    /// Counts a boot into that image; gives its number in its row, from 1. Who is not the machine,
    /// as far as `from` tells, counts nothing.
    pub fn count_attempt(
        &self,
        mac: Mac,
        image: &Digest,
        sign: Sign,
        from: Option<IpAddr>,
        now: u64,
    ) -> Result<u32, StoreError> {
        let (mac, image) = (mac.to_string(), image.to_string());
        let count = self.write(Part::Machines, |sql| {
            let before = read(sql, &mac)?;
            let counted = before.as_ref().filter(|before| sign.is_counted(before));
            let believed = super::believed::is_believed(sql, &mac, from)?;
            if counted.is_none() && !believed {
                return Ok(before.map_or(1, |before| before.count));
            }
            let count = counted.map_or_else(|| next(before.as_ref(), &image, now), |b| b.count);
            let boot = sign.boot().map(|boot| boot.to_string());
            if counted.is_some_and(|before| before.boot == boot) || !believed {
                return Ok(count);
            }
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
        let boot = |at| store.count_attempt(MAC, &image, Sign::Script, None, at).unwrap();
        assert_eq!((boot(1), boot(2)), (1, 1), "nobody knows it");
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
        assert_eq!((boot(3), boot(4), boot(5)), (1, 2, 3));
        told("network", StageState::Done, 1);
        told(STAGE_STANDS, StageState::Started, 1);
        assert_eq!(boot(6), 4);
        told(STAGE_STANDS, StageState::Done, 2);
        assert_eq!((boot(7), boot(8)), (1, 2));
        told(STAGE_POWER, StageState::Started, 3);
        assert_eq!(boot(9), 1);
    }

    #[test]
    fn a_boot_that_tells_of_itself_counts_once() {
        let (_folder, store) = temporary();
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Http, "boots").sighting(sighting)]).unwrap();
        let image = Digest([4; 32]);
        let count = |sign, at| store.count_attempt(MAC, &image, sign, None, at).unwrap();
        let boot = |id: u8, at| count(Sign::Time(Digest([id; 32]), false), at);
        assert_eq!((boot(1, 1), boot(1, 2), boot(2, 3), boot(2, 4)), (1, 1, 2, 2));
        // Its script counted it before it could say its id; one whose script we did not see counts too.
        let scripted = |id: u8, at| count(Sign::Time(Digest([id; 32]), true), at);
        assert_eq!((count(Sign::Script, 5), scripted(3, 6), scripted(3, 7)), (3, 3, 3));
        assert_eq!((scripted(4, 8), scripted(4, 9)), (4, 4));
        // A stick's boot is another than the one whose script was fetched.
        assert_eq!((count(Sign::Script, 10), boot(5, 11)), (5, 6));
    }

    #[test]
    fn who_is_not_where_a_machine_is_counts_no_boot_of_it() {
        let (_folder, store) = temporary();
        let image = Digest([4; 32]);
        let [here, elsewhere] = ["10.0.0.5", "10.0.0.66"].map(|a| a.parse::<IpAddr>().unwrap());
        let sighting = Sighting { boots: true, address: Some(here), ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Enrol, "boots").sighting(sighting)]).unwrap();
        let script = |from, at| store.count_attempt(MAC, &image, Sign::Script, Some(from), at);
        assert_eq!(script(elsewhere, 1).unwrap(), 1);
        assert_eq!(script(elsewhere, 2).unwrap(), 2, "it was never taken in");
        super::super::believed::taken_in(&store, MAC);
        for at in 3..20 {
            assert_eq!(script(elsewhere, at).unwrap(), 2);
            let time = Sign::Time(Digest([at as u8; 32]), at % 2 == 0);
            assert_eq!(store.count_attempt(MAC, &image, time, Some(elsewhere), at).unwrap(), 2);
        }
        assert_eq!(script(here, 20).unwrap(), 3);
        let time = Sign::Time(Digest([1; 32]), true);
        assert_eq!(store.count_attempt(MAC, &image, time, Some(here), 21).unwrap(), 3);
    }
}
