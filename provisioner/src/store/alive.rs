//! Nodes that say that they are there, and those that do not any more.

use super::{
    Store, StoreError,
    life::Moved,
    sql::{Part, Sql, values},
};
use crate::{
    life::{self, Actor, Cause},
    machine::Mac,
};
use protocol::{
    certificate::{Readings, Wish},
    fleet::MachineState,
};
use std::net::IpAddr;

/// Who works and said nothing for so long is missed, in milliseconds: several of its words.
pub const SILENT_MS: u64 = 600_000;
/// How that is told.
const SILENT: &str =
    "it was not heard of for 10 minutes; look whether it is on, and whether it reaches us";

impl Store {
    /// A node said, by the certificate of the boot that it is in, that it is alive; gives what it is
    /// to do.
    ///
    /// What its sensors say is kept until they say something else; with none of it the last is left.
    /// `from` is where it is: proven, so that what it says before it has a certificate again is
    /// believed from there.
    /// Boot scripts are given to whoever asks for them: where one was, and the node goes on as if
    /// nothing were, its machine does not boot, and what was asked of it before is asked of it still.
    pub fn alive(
        &self,
        mac: Mac,
        from: Option<IpAddr>,
        readings: Option<&Readings>,
        is_drained: bool,
        now: u64,
    ) -> Result<Wish, StoreError> {
        let update = "UPDATE machines SET last_seen = ?2, node_seen = ?2,
                 address = coalesce(?6, address),
                 readings = coalesce(?3, readings),
                 readings_at = CASE WHEN CAST(?3 AS TEXT) IS NULL THEN readings_at ELSE ?2 END,
                 milliwatts = CASE WHEN CAST(?3 AS TEXT) IS NULL THEN milliwatts ELSE ?4 END,
                 problem = CASE WHEN problem = ?5 THEN NULL ELSE problem END
             WHERE mac = ?1";
        // More than a megawatt is no machine's.
        let power = readings.and_then(|said| said.milliwatts).map(|power| power.min(1_000_000_000));
        let readings = readings.map(serde_json::to_string).transpose()?;
        let mac = mac.to_string();
        let from = from.map(|from| from.to_canonical().to_string());
        let values = values![&mac, now, readings, power, SILENT, from];
        let stands = "SELECT state, deadline FROM machines WHERE mac = ?1";
        self.write(Part::Machines, |sql| {
            sql.execute(update, values)?;
            let Some(row) = sql.first(stands, values![&mac])? else { return Ok(Wish::default()) };
            let state = super::life::named(&row.get::<String>(0)?);
            let waits = row.get::<Option<u64>>(1)?.is_some();
            // Most machines work, and nothing more is looked up.
            let last = match state {
                MachineState::Booting | MachineState::Reimaging => last(sql, &mac)?,
                _ => [None; 2],
            };
            if state == MachineState::Draining && waits == is_drained {
                super::life::drained(sql, &mac, is_drained, now)?;
            }
            let ([Some(Cause::Boots), before], MachineState::Booting) = (last, state) else {
                return Ok(life::wish(state, last[0]));
            };
            super::attempts::forget(sql, &mac)?;
            let mut state = state;
            let asked = before.filter(|cause| [Cause::Drain, Cause::Reimage].contains(cause));
            for cause in [Some(Cause::Lives), asked].into_iter().flatten() {
                if let Moved::To(to) = super::life::pass(sql, &mac, cause, &Actor::Machine, now)? {
                    state = to;
                }
            }
            Ok(life::wish(state, asked))
        })
    }

    /// Notes which machines work and were not heard of for [`SILENT_MS`]; gives how many those are.
    pub fn miss_silent(&self, now: u64) -> Result<u64, StoreError> {
        let silent = "problem IS NULL AND state IN ('ready', 'draining') AND node_seen < ?1";
        let before = now.saturating_sub(SILENT_MS);
        let select = format!("SELECT 1 FROM machines WHERE {silent} LIMIT 1");
        // Most of the time there is none, and a question alone holds nobody up.
        if !self.read(|sql| sql.exists(&select, values![before]))? {
            return Ok(0);
        }
        let update = format!("UPDATE machines SET problem = ?2 WHERE {silent}");
        self.write(Part::Machines, |sql| sql.execute(&update, values![before, SILENT]))
    }
}

/// What moved a machine last, and what before that.
fn last(sql: &mut dyn Sql, mac: &str) -> Result<[Option<Cause>; 2], StoreError> {
    let select = "SELECT cause FROM transitions WHERE mac = ?1 ORDER BY id DESC LIMIT 2";
    let rows = sql.query(select, values![mac])?;
    let mut causes = [None; 2];
    for (cause, row) in causes.iter_mut().zip(&rows) {
        *cause = Cause::named(&row.get::<String>(0)?);
    }
    Ok(causes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A machine that works.
    fn works(store: &Store) {
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        for cause in [Cause::TakenIn, Cause::Stands] {
            store.pass(MAC, cause, &Actor::Machine, 1).unwrap();
        }
        store.alive(MAC, None, None, false, 1).unwrap();
    }

    fn stands(store: &Store) -> (MachineState, Option<String>) {
        let machine = store.machine(MAC, 0).unwrap().unwrap().machine;
        (machine.life.state, machine.problem)
    }

    #[test]
    fn a_script_that_somebody_else_fetched_moves_a_machine_for_a_minute_alone() {
        let (_folder, store) = temporary();
        works(&store);
        store.pass(MAC, Cause::Boots, &Actor::Machine, 2).unwrap();
        assert_eq!(stands(&store).0, MachineState::Booting);
        store.alive(MAC, None, None, false, 3).unwrap();
        assert_eq!(stands(&store).0, MachineState::Ready);
        // One that really boots is taken in anew, and is ready once it says so itself.
        store.pass(MAC, Cause::Boots, &Actor::Machine, 4).unwrap();
        store.pass(MAC, Cause::Reimage, &Actor::Operator("anna".into()), 5).unwrap();
        store.pass(MAC, Cause::Boots, &Actor::Machine, 6).unwrap();
        store.pass(MAC, Cause::Overdue, &Actor::Clock, 7).unwrap();
        store.pass(MAC, Cause::TakenIn, &Actor::Machine, 8).unwrap();
        store.alive(MAC, None, None, false, 9).unwrap();
        assert_eq!(stands(&store).0, MachineState::Booting);
    }

    #[test]
    fn what_operators_ask_is_told_to_the_node_and_a_drain_waits_until_its_work_is_done() {
        let (_folder, store) = temporary();
        works(&store);
        let anna = Actor::Operator("anna".into());
        let asked = |cause, at| store.pass(MAC, cause, &anna, at).unwrap();
        let alive = |drained, at| store.alive(MAC, None, None, drained, at).unwrap();
        let waits = || store.life(MAC).unwrap().unwrap().deadline.is_some();
        assert_eq!(alive(false, 2), Wish::Work);
        asked(Cause::Drain, 3);
        assert_eq!((alive(false, 4), waits()), (Wish::Drain, true));
        assert_eq!((alive(true, 5), waits()), (Wish::Drain, false));
        // It waits for nothing any more, however long.
        assert_eq!(store.pass_overdue(90 * 60_000).unwrap(), 0);
        assert_eq!((stands(&store).0, alive(true, 6)), (MachineState::Draining, Wish::Drain));
        // Somebody has it work by its own API: then its time counts.
        assert_eq!((alive(false, 7), waits()), (Wish::Drain, true));
        assert_eq!(store.pass_overdue(40 * 60_000).unwrap(), 1);
        assert_eq!((stands(&store).0, alive(false, 8)), (MachineState::Ready, Wish::Work));
        asked(Cause::Drain, 9);
        asked(Cause::Release, 10);
        assert_eq!(alive(true, 11), Wish::Work);
        asked(Cause::Reimage, 12);
        assert_eq!(alive(false, 13), Wish::Restart);
        for cause in [Cause::Boots, Cause::TakenIn] {
            store.pass(MAC, cause, &Actor::Machine, 14).unwrap();
        }
        assert_eq!(alive(false, 15), Wish::Work, "it is another boot");
        assert_eq!(stands(&store).0, MachineState::Booting, "it does not stand yet");
        store.pass(MAC, Cause::Ends, &Actor::Machine, 16).unwrap();
        assert_eq!(alive(false, 17), Wish::Work, "it ends by itself");
        asked(Cause::Quarantine, 18);
        assert_eq!(alive(false, 19), Wish::Drain);
    }

    #[test]
    fn a_script_that_somebody_else_fetched_takes_nothing_back_that_was_asked() {
        let (_folder, store) = temporary();
        for (cause, wish) in [(Cause::Drain, Wish::Drain), (Cause::Reimage, Wish::Restart)] {
            works(&store);
            let before = store.pass(MAC, cause, &Actor::Operator("anna".into()), 2).unwrap();
            store.pass(MAC, Cause::Boots, &Actor::Machine, 3).unwrap();
            assert_eq!(store.alive(MAC, None, None, false, 4).unwrap(), wish);
            assert_eq!(Moved::To(stands(&store).0), before);
        }
    }

    #[test]
    fn a_machine_that_works_and_falls_silent_is_missed_until_it_speaks() {
        let (_folder, store) = temporary();
        works(&store);
        assert_eq!(store.miss_silent(SILENT_MS).unwrap(), 0);
        assert_eq!(store.miss_silent(SILENT_MS + 2).unwrap(), 1);
        assert_eq!(store.miss_silent(SILENT_MS + 3).unwrap(), 0, "once");
        assert!(stands(&store).1.unwrap().contains("10 minutes"));
        assert_eq!(store.in_need(10, SILENT_MS).unwrap().len(), 1);
        store.alive(MAC, None, None, false, SILENT_MS + 4).unwrap();
        assert_eq!(stands(&store).1, None);
    }
}
