//! Nodes that say that they are there, and those that do not any more.

use super::{
    Store, StoreError,
    sql::{Part, values},
};
use crate::{
    life::{Actor, Cause},
    machine::Mac,
};
use protocol::certificate::Readings;
use std::net::IpAddr;

/// Who works and said nothing for so long is missed, in milliseconds: several of its words.
pub const SILENT_MS: u64 = 600_000;
/// How that is told.
const SILENT: &str =
    "it was not heard of for 10 minutes; look whether it is on, and whether it reaches us";

impl Store {
    /// A node said, by the certificate of the boot that it is in, that it is alive.
    ///
    /// What its sensors say is kept until they say something else; with none of it the last is left.
    /// `from` is where it is: proven, so that what it says before it has a certificate again is
    /// believed from there.
    /// Boot scripts are given to whoever asks for them: where one was, and the node goes on as if
    /// nothing were, its machine does not boot.
    pub fn alive(
        &self,
        mac: Mac,
        from: Option<IpAddr>,
        readings: Option<&Readings>,
        now: u64,
    ) -> Result<(), StoreError> {
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
        let last = "SELECT cause FROM transitions WHERE mac = ?1
                        AND EXISTS (SELECT 1 FROM machines WHERE mac = ?1 AND state = 'booting')
                    ORDER BY id DESC LIMIT 1";
        self.write(Part::Machines, |sql| {
            sql.execute(update, values)?;
            let Some(row) = sql.first(last, values![&mac])? else { return Ok(()) };
            if row.get::<String>(0)? == Cause::Boots.as_str() {
                super::life::pass(sql, &mac, Cause::Lives, &Actor::Machine, now)?;
                super::attempts::forget(sql, &mac)?;
            }
            Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };
    use protocol::fleet::MachineState;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A machine that works.
    fn works(store: &Store) {
        let sighting = Sighting { boots: true, ..Sighting::default() };
        store.record(&[Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting)]).unwrap();
        for cause in [Cause::TakenIn, Cause::Stands] {
            store.pass(MAC, cause, &Actor::Machine, 1).unwrap();
        }
        store.alive(MAC, None, None, 1).unwrap();
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
        store.alive(MAC, None, None, 3).unwrap();
        assert_eq!(stands(&store).0, MachineState::Ready);
        // One that really boots is taken in anew, and is ready once it says so itself.
        store.pass(MAC, Cause::Boots, &Actor::Machine, 4).unwrap();
        store.pass(MAC, Cause::Reimage, &Actor::Operator("anna".into()), 5).unwrap();
        store.pass(MAC, Cause::Boots, &Actor::Machine, 6).unwrap();
        store.pass(MAC, Cause::Overdue, &Actor::Clock, 7).unwrap();
        store.pass(MAC, Cause::TakenIn, &Actor::Machine, 8).unwrap();
        store.alive(MAC, None, None, 9).unwrap();
        assert_eq!(stands(&store).0, MachineState::Booting);
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
        store.alive(MAC, None, None, SILENT_MS + 4).unwrap();
        assert_eq!(stands(&store).1, None);
    }
}
