//! Machines' states in the store. What leads where is [`crate::life`]'s to say.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::{
    life::{self, Actor, Cause, STATES},
    machine::Mac,
};
use protocol::{
    PublicKey,
    fleet::{Life, MachineState},
};
use std::sync::atomic::Ordering;

/// The most transitions kept of a machine.
const MAX_TRANSITIONS: u32 = 200;
/// The most machines whose time is looked at in one go.
const AT_ONCE: u32 = 256;

/// What became of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It led there.
    To(MachineState),
    /// It says nothing in the state that the machine is in.
    Not(MachineState),
    /// There is no such machine.
    Unknown,
    /// It is not as the asker knew it any more.
    Changed,
}

impl Store {
    /// Where a machine stands; none where it is not known.
    pub fn life(&self, mac: Mac) -> Result<Option<Life>, StoreError> {
        self.read(|sql| life(sql, &mac.to_string()))
    }

    /// Moves a machine on, where the cause leads anywhere from its state.
    pub fn pass(
        &self,
        mac: Mac,
        cause: Cause,
        actor: &Actor,
        now: u64,
    ) -> Result<Moved, StoreError> {
        self.write(Part::Machines, |sql| pass(sql, &mac.to_string(), cause, actor, now))
    }

    /// Does what an operator asks, where the machine still is as `expected` wants it. The key that
    /// waits is the one that is approved; where the operator names one, `meant`, none but that.
    /// Gives how the machine stands then.
    pub fn command(
        &self,
        mac: Mac,
        cause: Cause,
        meant: Option<&PublicKey>,
        expected: impl FnOnce(&Life) -> bool,
        actor: &Actor,
        now: u64,
    ) -> Result<(Moved, Option<Life>), StoreError> {
        let mac = mac.to_string();
        self.write(Part::Machines, |sql| {
            let Some(found) = life(sql, &mac)? else { return Ok((Moved::Unknown, None)) };
            if !expected(&found) {
                return Ok((Moved::Changed, Some(found)));
            }
            let pending =
                sql.first("SELECT pending FROM machines WHERE mac = ?1", values![&mac])?;
            let pending: Option<String> = pending.map_or(Ok(None), |row| row.get(0))?;
            let is_other = |meant: &PublicKey| pending != Some(meant.to_string());
            if cause == Cause::Approve && meant.is_some_and(is_other) {
                return Ok((Moved::Changed, Some(found)));
            }
            let moved = match (cause, pending) {
                (Cause::Approve, Some(node)) => {
                    super::machines::approve(sql, &mac, &node, actor, now)?;
                    None
                }
                (Cause::Approve, None) => Some(Moved::Not(found.state)),
                (cause, _) => Some(pass(sql, &mac, cause, actor, now)?),
            };
            let life = life(sql, &mac)?;
            let state = life.as_ref().map(|life| life.state).unwrap_or_default();
            Ok((moved.unwrap_or(Moved::To(state)), life))
        })
    }

    /// Moves those on whose time is over at `now`; gives how many those were. Of several front-ends
    /// that look one alone moves each.
    pub fn pass_overdue(&self, now: u64) -> Result<usize, StoreError> {
        let select =
            "SELECT mac, state FROM machines WHERE deadline <= ?1 ORDER BY deadline LIMIT ?2";
        // Most of the time there is nothing, and a question alone holds nobody up.
        if !self.read(|sql| sql.exists(select, values![now, AT_ONCE]))? {
            return Ok(0);
        }
        self.write(Part::Machines, |sql| {
            let late = sql.query(select, values![now, AT_ONCE])?;
            for row in &late {
                let mac: String = row.get(0)?;
                if named(&row.get::<String>(1)?) == MachineState::Discovered {
                    super::machines::forget(sql, &mac)?;
                } else {
                    pass(sql, &mac, Cause::Overdue, &Actor::Clock, now)?;
                }
            }
            Ok(late.len())
        })
    }

    /// The clock of the server that front-ends share, milliseconds since 1970; none where nobody
    /// shares the store.
    pub fn server_time(&self) -> Result<Option<u64>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let select = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
        self.read(|sql| sql.first(select, &[]))?.map(|row| row.get(0)).transpose()
    }

    /// Moves the ends of all waits, and of leases, by so many milliseconds.
    pub fn shift_deadlines(&self, by: i64) -> Result<(), StoreError> {
        let update = "UPDATE machines SET deadline = deadline + ?1 WHERE deadline IS NOT NULL";
        self.write(Part::Machines, |sql| sql.execute(update, values![by]).map(drop))?;
        self.write(Part::Leases, |sql| {
            for table in ["leases", "leases6"] {
                let update = format!(
                    "UPDATE {table} SET expires =
                         CASE WHEN expires + ?1 < 0 THEN 0 ELSE expires + ?1 END"
                );
                sql.execute(&update, values![by / 1_000])?;
            }
            Ok(())
        })
    }

    /// By how many milliseconds our clock is ahead of the one that leases are judged by: that of the
    /// server that front-ends share. 0 where it is near enough.
    pub fn set_ahead(&self, by: i64) {
        self.ahead.store(by, Ordering::Relaxed);
    }

    /// The time that leases are judged by, seconds since 1970, where our own clock says so many
    /// milliseconds.
    pub fn lease_time(&self, now: u64) -> u64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        now.saturating_add_signed(ahead.saturating_neg()) / 1_000
    }
}

pub(super) fn life(sql: &mut dyn Sql, mac: &str) -> Result<Option<Life>, StoreError> {
    let select = "SELECT state, state_since, deadline FROM machines WHERE mac = ?1";
    sql.first(select, values![mac])?.map(|row| of(&row, 0)).transpose()
}

/// The state of that name. A newer program's database is not opened, so there is no other.
pub(super) fn named(name: &str) -> MachineState {
    STATES.into_iter().find(|state| state.as_str() == name).unwrap_or_default()
}

/// State, since and deadline, from a column on.
pub(super) fn of(row: &Row, from: usize) -> Result<Life, StoreError> {
    let state = named(&row.get::<String>(from)?);
    let deadline: Option<u64> = row.get(from + 2)?;
    Ok(Life {
        state,
        since: row.get(from + 1)?,
        waits_for: match deadline {
            None if state == MachineState::Draining => Some(life::DRAINED.into()),
            _ => life::wait(state).map(|wait| wait.what.into()),
        },
        deadline,
    })
}

/// When the time of a state that begins at `now` is over.
fn deadline(state: MachineState, now: u64) -> Option<u64> {
    life::wait(state).map(|wait| now.saturating_add(wait.seconds * 1_000))
}

/// A machine that drains said whether it has done all its work: then it waits for nothing, until
/// somebody moves it on.
pub(super) fn drained(
    sql: &mut dyn Sql,
    mac: &str,
    is_drained: bool,
    now: u64,
) -> Result<(), StoreError> {
    let until = if is_drained { None } else { deadline(MachineState::Draining, now) };
    sql.execute("UPDATE machines SET deadline = ?2 WHERE mac = ?1", values![mac, until])?;
    let told = match is_drained {
        true => "its work is done; it takes no more until it is released, or boots",
        false => "it works again, by somebody's word to the node itself",
    };
    sql.execute(
        "INSERT INTO events (mac, at, kind, text) VALUES (?1, ?2, 'state', ?3)",
        values![mac, now, told],
    )?;
    Ok(())
}

/// Moves a machine on, within a transaction.
pub(super) fn pass(
    sql: &mut dyn Sql,
    mac: &str,
    cause: Cause,
    actor: &Actor,
    now: u64,
) -> Result<Moved, StoreError> {
    let select = "SELECT state FROM machines WHERE mac = ?1";
    let Some(row) = sql.first(select, values![mac])? else { return Ok(Moved::Unknown) };
    let from = named(&row.get::<String>(0)?);
    let Some(to) = life::next(from, cause) else { return Ok(Moved::Not(from)) };
    if from == to {
        let update = "UPDATE machines SET deadline = ?2 WHERE mac = ?1";
        sql.execute(update, values![mac, deadline(to, now)])?;
        // It really boots: that its script was fetched is not the last that is known of it.
        if cause == Cause::TakenIn {
            moved(sql, mac, [from, to], cause, actor, now)?;
        }
        return Ok(Moved::To(to));
    }
    sql.execute(
        "UPDATE machines SET state = ?2, state_since = ?3, deadline = ?4 WHERE mac = ?1",
        values![mac, to.as_str(), now, deadline(to, now)],
    )?;
    if cause == Cause::Overdue
        && let Some(wait) = life::wait(from)
    {
        sql.execute("UPDATE machines SET problem = ?2 WHERE mac = ?1", values![mac, wait.late])?;
    }
    moved(sql, mac, [from, to], cause, actor, now)?;
    sql.execute(
        "INSERT INTO events (mac, at, kind, text) VALUES (?1, ?2, 'state', ?3)",
        values![mac, now, life::told(from, to, cause, actor)],
    )?;
    Ok(Moved::To(to))
}

/// Writes a transition down, of which so many are kept.
fn moved(
    sql: &mut dyn Sql,
    mac: &str,
    [from, to]: [MachineState; 2],
    cause: Cause,
    actor: &Actor,
    now: u64,
) -> Result<(), StoreError> {
    sql.execute(
        "INSERT INTO transitions (mac, at, from_state, to_state, cause, actor)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        values![mac, now, from.as_str(), to.as_str(), cause.as_str(), actor.to_string()],
    )?;
    sql.execute(
        "DELETE FROM transitions WHERE mac = ?1 AND id <=
             (SELECT id FROM transitions WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        values![mac, MAX_TRANSITIONS],
    )?;
    Ok(())
}

/// When a machine that appears at `now` is forgotten unless it does more.
pub(super) fn first_deadline(now: u64) -> Option<u64> {
    deadline(MachineState::default(), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const DAY: u64 = 24 * 3_600_000;

    fn appears(store: &Store, at: u64) {
        let sighting = Sighting { boots: true, ..Sighting::default() };
        let record = Record::new(MAC, Kind::Dhcp, "boots").sighting(sighting);
        store.record(&[Record { at, ..record }]).unwrap();
    }

    #[test]
    fn a_life_is_written_down_with_who_moved_it_and_every_wait_ends() {
        let (_folder, store) = temporary();
        let moved = |cause, actor: &Actor, at| store.pass(MAC, cause, actor, at).unwrap();
        let anna = Actor::Operator("anna".into());
        assert_eq!(moved(Cause::TakenIn, &Actor::Machine, 0), Moved::Unknown);
        appears(&store, 0);
        assert_eq!(moved(Cause::Waits, &Actor::Machine, 1), Moved::To(MachineState::Pending));
        let life = store.life(MAC).unwrap().unwrap();
        assert!(life.waits_for.unwrap().contains("approval"));
        assert_eq!(life.deadline, Some(1 + 7 * DAY));
        assert_eq!(moved(Cause::Approve, &anna, 2), Moved::To(MachineState::Approved));
        assert_eq!(moved(Cause::Drain, &anna, 3), Moved::Not(MachineState::Approved));
        assert_eq!(store.pass_overdue(2 + DAY - 1).unwrap(), 0);
        assert_eq!(store.pass_overdue(2 + DAY).unwrap(), 1);
        let detail = store.machine(MAC, 0).unwrap().unwrap();
        assert_eq!(detail.machine.life.state, MachineState::Discovered);
        assert!(detail.machine.problem.unwrap().contains("within a day"));
        let told: Vec<&str> = detail.timeline.iter().map(|event| event.text.as_str()).collect();
        assert!(told[0].starts_with("approved -> discovered"), "{told:?}");
        assert!(told[1].ends_with("by operator anna"), "{told:?}");
    }

    #[test]
    fn a_machine_that_was_only_seen_is_forgotten_after_a_month_of_silence() {
        let (_folder, store) = temporary();
        appears(&store, 0);
        assert_eq!(store.pass_overdue(30 * DAY - 1).unwrap(), 0);
        store.pass(MAC, Cause::Boots, &Actor::Machine, 10 * DAY).unwrap();
        assert_eq!(store.pass_overdue(30 * DAY).unwrap(), 0, "heard of since");
        assert_eq!(store.pass_overdue(40 * DAY).unwrap(), 1);
        assert_eq!(store.count_machines().unwrap(), 0);
    }

    #[test]
    fn a_machine_that_flaps_fills_no_table() {
        let (_folder, store) = temporary();
        appears(&store, 0);
        for at in 0..u64::from(MAX_TRANSITIONS) + 50 {
            let cause = if at % 2 == 0 { Cause::Retire } else { Cause::Restore };
            store.pass(MAC, cause, &Actor::Operator("anna".into()), at).unwrap();
        }
        let rows = store.read(|sql| sql.query("SELECT 1 FROM transitions", &[])).unwrap();
        assert_eq!(rows.len() as u32, MAX_TRANSITIONS);
    }
}
