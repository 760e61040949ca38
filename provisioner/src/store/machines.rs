//! Machines in the store: what they are called, what is known of them, and whose identity is whose.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::{
    enrol::Admitted,
    hardware::Hardware,
    life::{Actor, Cause},
    machine::Mac,
    progress::Progress,
};
use protocol::{
    Digest, PublicKey,
    certificate::Readings,
    evidence::Held,
    fleet::{MachineDetail, MachineState, MachineStatus, Read, TimelineEvent},
    inventory::Inventory,
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    str::FromStr,
};

/// The most machines kept. A network of more has more than one provisioner. Where it is full, of those
/// that were only seen the one that was silent for longest makes room, and nobody else does.
///
/// Somebody who invents MAC addresses can fill this and no more: of each machine 192 KiB of events, 4,096
/// ids of reports with their indices (some 0.9 MB) and the boot's progress (0.1 MB) make 1.2 MB, of all
/// machines 12 GB; deaths that nothing proves are 64 MB in all. Of those that were taken in there are eight
/// deaths of 64 KiB each and an inventory, at most 2 MiB as a request's body is: 25 GB more where approval
/// is automatic.
pub(super) const MAX_MACHINES: u64 = 10_000;
/// The most machines that wait for approval and were never taken in. To ask takes nothing but a key of
/// one's own, so they displace each other alone: those of the address that most of them ask from.
pub(super) const MAX_PENDING: u64 = 1_000;
/// Those.
pub(super) const STRANGERS_WAIT: &str = "FROM machines WHERE state = 'pending' AND node IS NULL";
/// The most boots kept of a machine, of which a recording is known: half a year of one a day and more.
const MAX_BOOTS: u32 = 256;

/// A machine that enrolment compares a newcomer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its MAC address.
    pub mac: Mac,
    /// Its name.
    pub name: String,
    /// Its UUID, where it has a usable one.
    pub uuid: Option<String>,
    /// The node key that it enrolled with.
    pub node: Option<PublicKey>,
    /// The boot in which it did.
    pub boot_id: Option<Digest>,
    /// When it was last heard of under that key, milliseconds since 1970.
    pub node_seen: u64,
    /// Its TPM, where that was checked.
    pub chip: Option<Digest>,
    /// How often that was reset, when it was checked last.
    pub resets: u32,
    /// The key that an operator approved for it and that did not come yet.
    pub approved: Option<PublicKey>,
    /// Where it stands in its life.
    pub state: MachineState,
    /// What was approved of its hardware.
    pub hardware: Option<Hardware>,
    /// What came with the key that an operator approved, where that was shown.
    pub approved_hardware: Option<Hardware>,
    /// Whether the newcomer's boot was one of this machine's, and another one came after it.
    pub replayed: bool,
}

/// What enrolment writes.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The machine.
    pub mac: Mac,
    /// Its node key.
    pub node: PublicKey,
    /// The boot.
    pub boot_id: Digest,
    /// The image that it booted.
    pub release: Digest,
    /// What it is made of.
    pub inventory: Inventory,
    /// Its UUID, where usable.
    pub uuid: Option<String>,
    /// Where it was seen.
    pub address: Option<IpAddr>,
    /// What keeps its key.
    pub held: Held,
    /// Its TPM, once its evidence is checked, and how often that was reset.
    pub chip: Option<(Digest, u32)>,
    /// The digest of that evidence.
    pub evidence: Option<Digest>,
}

/// Which machines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those in this state alone.
    pub state: Option<MachineState>,
    /// Those with a problem, or those without.
    pub problem: Option<bool>,
    /// Those of which a name, a number, an address or a key contains this; whatever its case.
    pub search: Option<String>,
    /// Those behind this name and MAC address.
    pub after: Option<(String, String)>,
    /// So many.
    pub most: u32,
}

/// What LIKE takes for a text anywhere, `!` before what it would take for more.
pub(super) fn pattern(text: &str) -> String {
    let plain = |c: char| if matches!(c, '!' | '%' | '_') { vec!['!', c] } else { vec![c] };
    let text: String = text.to_lowercase().chars().flat_map(plain).collect();
    format!("%{text}%")
}

const COLUMNS: &str = "mac, name, uuid, serial, firmware, boot_mode, address, node, release,
                       first_seen, last_seen, problem, progress, held, chip, pending,
                       state, state_since, deadline, readings, readings_at";

impl Store {
    /// All machines, in the order of their names.
    pub fn machines(&self, now: u64) -> Result<Vec<MachineStatus>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM machines ORDER BY name, mac");
        let rows = self.read(|sql| sql.query(&select, &[]))?;
        rows.iter().map(|row| status(row, now)).collect()
    }

    /// Those machines that a filter lets through, in the order of their names.
    pub fn listed(&self, filter: &Filter, now: u64) -> Result<Vec<MachineStatus>, StoreError> {
        let problem = match filter.problem {
            Some(true) => "AND problem IS NOT NULL",
            Some(false) => "AND problem IS NULL",
            None => "",
        };
        let select = format!(
            "SELECT {COLUMNS} FROM machines
             WHERE (CAST(?1 AS TEXT) IS NULL OR state = ?1)
               AND (CAST(?2 AS TEXT) IS NULL OR lower(name) LIKE ?2 ESCAPE '!' OR mac LIKE ?2 ESCAPE '!'
                    OR lower(coalesce(serial, '')) LIKE ?2 ESCAPE '!'
                    OR coalesce(uuid, '') LIKE ?2 ESCAPE '!'
                    OR coalesce(address, '') LIKE ?2 ESCAPE '!'
                    OR coalesce(node, '') LIKE ?2 ESCAPE '!'
                    OR coalesce(pending, '') LIKE ?2 ESCAPE '!')
               AND (CAST(?3 AS TEXT) IS NULL OR name > ?3 OR (name = ?3 AND mac > ?4))
               {problem}
             ORDER BY name, mac LIMIT ?5"
        );
        let (name, mac) = filter.after.clone().unzip();
        let wanted = values![
            filter.state.map(|state| state.as_str().to_owned()),
            filter.search.as_deref().map(pattern),
            name,
            mac,
            filter.most,
        ];
        let rows = self.read(|sql| sql.query(&select, wanted))?;
        rows.iter().map(|row| status(row, now)).collect()
    }

    /// Machines that need somebody: those with a problem, those that wait for approval, those that are
    /// not trusted.
    pub fn in_need(&self, most: u32, now: u64) -> Result<Vec<MachineStatus>, StoreError> {
        let select = format!(
            "SELECT {COLUMNS} FROM machines
             WHERE (problem IS NOT NULL AND state != 'retired')
                OR state IN ('pending', 'quarantined')
             ORDER BY state_since DESC, mac LIMIT ?1"
        );
        let rows = self.read(|sql| sql.query(&select, values![most]))?;
        rows.iter().map(|row| status(row, now)).collect()
    }

    /// How many machines are in each state; none of it where it has none.
    pub fn count_by_state(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let select = "SELECT state, count(*) FROM machines GROUP BY state";
        let rows = self.read(|sql| sql.query(select, &[]))?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// What sensors of power said since, together, in thousandths of watts, and of how many machines.
    pub fn power(&self, since: u64) -> Result<(u64, u64), StoreError> {
        let select = "SELECT CAST(coalesce(sum(milliwatts), 0) AS BIGINT), count(milliwatts)
                      FROM machines WHERE readings_at >= ?1";
        let row = self.read(|sql| sql.first(select, values![since]))?;
        row.map_or(Ok((0, 0)), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The node keys of all machines.
    pub fn nodes(&self) -> Result<Vec<PublicKey>, StoreError> {
        let select = "SELECT node FROM machines WHERE node IS NOT NULL";
        let rows = self.read(|sql| sql.query(select, &[]))?;
        rows.iter().filter_map(|row| text(row, 0).transpose()).collect::<Result<_, _>>()
    }

    /// MAC addresses and names of the machines of those node keys, where there are such.
    pub fn names_of(
        &self,
        nodes: &BTreeSet<PublicKey>,
    ) -> Result<BTreeMap<PublicKey, (String, String)>, StoreError> {
        self.read(|sql| {
            let mut names = BTreeMap::new();
            for node in nodes {
                let select = "SELECT mac, name FROM machines WHERE node = ?1";
                if let Some(row) = sql.first(select, values![node.to_string()])? {
                    names.insert(*node, (row.get(0)?, row.get(1)?));
                }
            }
            Ok(names)
        })
    }

    /// How many machines are known.
    pub fn count_machines(&self) -> Result<u64, StoreError> {
        self.read(count)
    }

    /// One machine with its inventory and timeline.
    pub fn machine(&self, mac: Mac, now: u64) -> Result<Option<MachineDetail>, StoreError> {
        let select = format!(
            "SELECT {COLUMNS}, inventory, hardware, pending_hardware FROM machines WHERE mac = ?1"
        );
        let events = "SELECT at, kind, text FROM events WHERE mac = ?1 ORDER BY id DESC";
        self.read(|sql| {
            let Some(row) = sql.first(&select, values![mac.to_string()])? else { return Ok(None) };
            let event = |row: &Row| {
                let (at, kind, text) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(TimelineEvent { mac: mac.to_string(), at, kind, text })
            };
            let timeline = sql.query(events, values![mac.to_string()])?;
            Ok(Some(MachineDetail {
                machine: status(&row, now)?,
                inventory: parsed(row.get(21)?)?,
                timeline: timeline.iter().map(event).collect::<Result<_, StoreError>>()?,
                crashes: super::crashes::of(sql, mac)?,
                changes: changes(&row, 22)?,
            }))
        })
    }

    /// Takes a machine in, unless `judge` finds that its identity is another's. What `judge` is
    /// given is everyone with this MAC address, node key or UUID, and how many other machines each
    /// rule let in; between that and the writing nobody else writes.
    pub fn enrol<E>(
        &self,
        newcomer: &Enrolled,
        now: u64,
        judge: impl FnOnce(&[Known], &BTreeMap<String, u64>) -> Result<Admitted, E>,
    ) -> Result<Result<(String, Admitted), E>, StoreError> {
        let mac = newcomer.mac.to_string();
        self.write(Part::Machines, |sql| {
            let known = known(sql, newcomer)?;
            let admitted = match judge(&known, &Self::taken_by_rules(sql, &mac)?) {
                Ok(admitted) => admitted,
                Err(error) => return Ok(Err(error)),
            };
            let before = known.iter().find(|known| known.mac == newcomer.mac);
            if !before.is_some_and(|before| is_in_already(newcomer, before)) {
                self.make_machine(sql, newcomer.mac, now)?;
                take_in(sql, newcomer, &admitted, now)?;
            }
            let name = sql.first("SELECT name FROM machines WHERE mac = ?1", values![&mac])?;
            let name = name.map(|row| row.get(0)).transpose()?.unwrap_or_default();
            Ok(Ok((name, admitted)))
        })
    }

    /// Remembers that a key waits for approval, with the hardware that it came with; true where it
    /// did not wait so already. `from` is where it asks.
    pub fn pend(
        &self,
        mac: Mac,
        (node, from): (&PublicKey, Option<IpAddr>),
        hardware: Option<&Hardware>,
        cause: Cause,
        now: u64,
    ) -> Result<bool, StoreError> {
        let hardware = hardware.map(serde_json::to_string).transpose()?;
        self.write(Part::Machines, |sql| {
            self.make_machine(sql, mac, now)?;
            // Where a stranger is, is known before it counts as one who waits.
            sql.execute(
                "UPDATE machines SET address = coalesce(?2, address) WHERE mac = ?1 AND node IS NULL",
                values![mac.to_string(), from.map(|from| from.to_canonical().to_string())],
            )?;
            let changed = sql.execute(
                "UPDATE machines SET pending = ?2, pending_hardware = ?3 WHERE mac = ?1
                     AND (pending IS DISTINCT FROM ?2 OR pending_hardware IS DISTINCT FROM ?3)",
                values![mac.to_string(), node.to_string(), hardware],
            )?;
            super::life::pass(sql, &mac.to_string(), cause, &Actor::Machine, now)?;
            bound_pending(sql)?;
            Ok(changed > 0)
        })
    }

    /// The key of a machine that waits for approval.
    pub fn pending(&self, mac: Mac) -> Result<Option<PublicKey>, StoreError> {
        let select = "SELECT pending FROM machines WHERE mac = ?1";
        let row = self.read(|sql| sql.first(select, values![mac.to_string()]))?;
        row.map_or(Ok(None), |row| text(&row, 0))
    }

    /// What was approved of a machine's hardware, and what waits for approval.
    pub fn hardware(&self, mac: Mac) -> Result<(Option<Hardware>, Option<Hardware>), StoreError> {
        let select = "SELECT hardware, pending_hardware FROM machines WHERE mac = ?1";
        let row = self.read(|sql| sql.first(select, values![mac.to_string()]))?;
        row.map_or(Ok((None, None)), |row| Ok((parsed(row.get(0)?)?, parsed(row.get(1)?)?)))
    }

    /// Lets a key take a machine's place the next time that it comes, be it one that was revoked.
    /// False where no such machine is known.
    pub fn approve(
        &self,
        mac: Mac,
        node: &PublicKey,
        actor: &Actor,
        now: u64,
    ) -> Result<bool, StoreError> {
        let (mac, node) = (mac.to_string(), node.to_string());
        self.write(Part::Machines, |sql| approve(sql, &mac, &node, actor, now))
    }

    /// Makes a machine known, where there is room. False where there is none.
    pub(super) fn make_machine(
        &self,
        sql: &mut dyn Sql,
        mac: Mac,
        now: u64,
    ) -> Result<bool, StoreError> {
        if sql.exists("SELECT 1 FROM machines WHERE mac = ?1", values![mac.to_string()])? {
            return Ok(true);
        }
        if count(sql)? >= MAX_MACHINES {
            let oldest = "SELECT mac FROM machines
                          WHERE state = 'discovered' AND node IS NULL AND approved IS NULL
                          ORDER BY last_seen LIMIT 1";
            let Some(oldest) = sql.first(oldest, &[])? else { return Ok(false) };
            forget(sql, &oldest.get::<String>(0)?)?;
        }
        let name = self.name(sql, mac)?;
        sql.execute(
            "INSERT INTO machines (mac, name, first_seen, last_seen, state_since, deadline)
             VALUES (?1, ?2, ?3, ?3, ?3, ?4)",
            values![mac.to_string(), name, now, super::life::first_deadline(now)],
        )?;
        Ok(true)
    }

    /// The configured name, of our file or of the document, or one made of the last half of the MAC
    /// address.
    pub(super) fn name(&self, sql: &mut dyn Sql, mac: Mac) -> Result<String, StoreError> {
        if let Some(name) = self.names.get(&mac) {
            return Ok(name.clone());
        }
        let select = "SELECT name FROM machine_names WHERE mac = ?1";
        let made = || Ok(format!("node-{}", hex::encode(&mac.0[3..])));
        sql.first(select, values![mac.to_string()])?.map_or_else(made, |row| row.get(0))
    }

    /// Gives machines known from before the names that the configuration has now.
    pub(crate) fn rename(&self) -> Result<(), StoreError> {
        let update = "UPDATE machines SET name = ?2 WHERE mac = ?1";
        self.write(Part::Machines, |sql| {
            for (mac, name) in &self.names {
                sql.execute(update, values![mac.to_string(), name])?;
            }
            Ok(())
        })
    }
}

/// Makes room where more machines wait for approval than are kept.
fn bound_pending(sql: &mut dyn Sql) -> Result<(), StoreError> {
    let waiting = sql.first(&format!("SELECT count(*) {STRANGERS_WAIT}"), &[])?;
    if waiting.map_or(Ok(0), |row| row.get::<u64>(0))? <= MAX_PENDING {
        return Ok(());
    }
    let place = "coalesce(address, '')";
    let oldest = format!(
        "SELECT mac {STRANGERS_WAIT} AND {place} =
             (SELECT {place} {STRANGERS_WAIT} GROUP BY {place}
              ORDER BY count(*) DESC, {place} LIMIT 1)
         ORDER BY state_since, mac LIMIT 1"
    );
    let Some(row) = sql.first(&oldest, &[])? else { return Ok(()) };
    forget(sql, &row.get::<String>(0)?)
}

/// A machine goes, with all that is kept of it.
pub(super) fn forget(sql: &mut dyn Sql, mac: &str) -> Result<(), StoreError> {
    let tables = [
        "machines",
        "events",
        "reports",
        "crashes",
        "attempts",
        "transitions",
        "placed",
        "boots",
        "console",
        "console_heads",
    ];
    for table in tables {
        sql.execute(&format!("DELETE FROM {table} WHERE mac = ?1"), values![mac])?;
    }
    Ok(())
}

/// As [`Store::approve`], within a transaction.
pub(super) fn approve(
    sql: &mut dyn Sql,
    mac: &str,
    node: &str,
    actor: &Actor,
    now: u64,
) -> Result<bool, StoreError> {
    // What waited for that waits no more.
    // Of the hardware, what was shown beside the key.
    let update = "UPDATE machines SET approved = ?2,
            approved_hardware = CASE WHEN pending = ?2 THEN pending_hardware END,
            problem = CASE WHEN pending = ?2 THEN NULL ELSE problem END,
            pending = CASE WHEN pending = ?2 THEN NULL ELSE pending END
         WHERE mac = ?1";
    if sql.execute(update, values![mac, node])? == 0 {
        return Ok(false);
    }
    sql.execute("DELETE FROM revoked WHERE node = ?1", values![node])?;
    super::life::pass(sql, mac, Cause::Approve, actor, now)?;
    Ok(true)
}

fn count(sql: &mut dyn Sql) -> Result<u64, StoreError> {
    sql.first("SELECT count(*) FROM machines", &[])?.map_or(Ok(0), |row| row.get(0))
}

/// Whether this very boot is in, and nothing was said of it since: asked again it gets its settings
/// again, and nothing is written, so that a recording of it moves nothing.
fn is_in_already(newcomer: &Enrolled, before: &Known) -> bool {
    use MachineState::{Booting, Draining, Ready, Reimaging};
    before.node == Some(newcomer.node)
        && before.boot_id == Some(newcomer.boot_id)
        && before.approved.is_none()
        && matches!(before.state, Booting | Ready | Draining | Reimaging)
}

/// Writes a newcomer down.
fn take_in(
    sql: &mut dyn Sql,
    newcomer: &Enrolled,
    admitted: &Admitted,
    now: u64,
) -> Result<(), StoreError> {
    let (mac, node) = (newcomer.mac.to_string(), newcomer.node.to_string());
    let chip = newcomer.chip.map(|(chip, _)| chip.to_string());
    let system = &newcomer.inventory.system;
    let serial = Some(system.serial.trim()).filter(|serial| !serial.is_empty());
    let firmware = if system.uefi { "uefi" } else { "bios" };
    // The same machine by another of its NICs: the key goes where the machine is.
    sql.execute(
        "UPDATE machines SET node = NULL WHERE node = ?1 AND mac != ?2",
        values![&node, &mac],
    )?;
    // So does the chip where an operator said so: its count of resets goes on here.
    sql.execute(
        "UPDATE machines SET chip = NULL WHERE chip = ?1 AND mac != ?2
             AND EXISTS (SELECT 1 FROM machines WHERE mac = ?2 AND approved = ?3)",
        values![chip.clone(), &mac, &node],
    )?;
    sql.execute(
        "UPDATE machines SET node = ?2, boot_id = ?3, release = ?4, inventory = ?5,
             node_seen = ?6, last_seen = ?6, uuid = coalesce(?7, uuid),
             serial = coalesce(?8, serial), firmware = ?9, address = coalesce(?10, address),
             held = ?11, chip = ?12, resets = ?13, evidence = ?14, hardware = ?15, pending = NULL,
             pending_hardware = NULL, approved = NULL, approved_hardware = NULL, problem = NULL
         WHERE mac = ?1",
        values![
            &mac,
            &node,
            newcomer.boot_id.to_string(),
            newcomer.release.to_string(),
            serde_json::to_string(&newcomer.inventory)?,
            now,
            newcomer.uuid.clone(),
            serial,
            firmware,
            newcomer.address.map(|address| address.to_string()),
            newcomer.held.name(),
            chip,
            newcomer.chip.map(|(_, resets)| resets),
            newcomer.evidence.map(|digest| digest.to_string()),
            serde_json::to_string(&newcomer.hardware())?,
        ],
    )?;
    sql.execute(
        "INSERT INTO boots (mac, boot_id) VALUES (?1, ?2) ON CONFLICT (mac, boot_id) DO NOTHING",
        values![&mac, newcomer.boot_id.to_string()],
    )?;
    sql.execute(
        "DELETE FROM boots WHERE mac = ?1 AND id <=
             (SELECT id FROM boots WHERE mac = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        values![&mac, MAX_BOOTS],
    )?;
    if let Some(placed) = &admitted.placed {
        super::configuration::place(sql, &mac, placed, now)?;
        let rule = Actor::Rule(format!("rule {}", placed.rule));
        super::life::pass(sql, &mac, Cause::Approve, &rule, now)?;
    }
    super::life::pass(sql, &mac, Cause::TakenIn, &Actor::Machine, now)?;
    Ok(())
}

fn known(sql: &mut dyn Sql, newcomer: &Enrolled) -> Result<Vec<Known>, StoreError> {
    let (mac, boot_id) = (newcomer.mac.to_string(), newcomer.boot_id.to_string());
    let rows = sql.query(
        "SELECT mac, name, uuid, node, boot_id, node_seen, chip, resets, approved,
             state, state_since, deadline, hardware, approved_hardware FROM machines
         WHERE mac = ?1 OR node = ?2 OR uuid = ?3 OR chip = ?4 ORDER BY mac",
        values![
            &mac,
            newcomer.node.to_string(),
            newcomer.uuid.clone(),
            newcomer.chip.map(|(chip, _)| chip.to_string()),
        ],
    )?;
    let was = "SELECT 1 FROM boots WHERE mac = ?1 AND boot_id = ?2";
    let was = sql.exists(was, values![mac, boot_id])?;
    let read = |row: &Row| {
        let Ok(mac) = row.get::<String>(0)?.parse() else { return Ok(None) };
        let boot_id: Option<Digest> = text(row, 4)?;
        Ok(Some(Known {
            mac,
            name: row.get(1)?,
            uuid: row.get(2)?,
            node: text(row, 3)?,
            boot_id,
            node_seen: row.get::<Option<u64>>(5)?.unwrap_or(0),
            chip: text(row, 6)?,
            resets: row.get::<Option<u32>>(7)?.unwrap_or(0),
            approved: text(row, 8)?,
            state: super::life::of(row, 9)?.state,
            hardware: parsed(row.get(12)?)?,
            approved_hardware: parsed(row.get(13)?)?,
            replayed: was && mac == newcomer.mac && boot_id != Some(newcomer.boot_id),
        }))
    };
    rows.iter().filter_map(|row| read(row).transpose()).collect()
}

/// What changed from what was approved to what waits, two columns of it, from a column on.
fn changes(row: &Row, from: usize) -> Result<Vec<String>, StoreError> {
    let before: Option<Hardware> = parsed(row.get(from)?)?;
    let waits: Option<Hardware> = parsed(row.get(from + 1)?)?;
    Ok(before.zip(waits).map_or(vec![], |(before, waits)| before.changes_to(&waits)))
}

/// What stands as text, where it is a text of its kind.
fn text<T: FromStr>(row: &Row, column: usize) -> Result<Option<T>, StoreError> {
    Ok(row.get::<Option<String>>(column)?.and_then(|text| text.parse().ok()))
}

/// A row of [`COLUMNS`].
fn status(row: &Row, now: u64) -> Result<MachineStatus, StoreError> {
    let progress: Option<Progress> = parsed(row.get(12)?)?;
    Ok(MachineStatus {
        mac: row.get(0)?,
        name: row.get(1)?,
        uuid: row.get(2)?,
        serial: row.get(3)?,
        firmware: row.get(4)?,
        boot_mode: row.get(5)?,
        address: row.get(6)?,
        node: text(row, 7)?,
        release: text(row, 8)?,
        first_seen: row.get(9)?,
        last_seen: row.get(10)?,
        life: super::life::of(row, 16)?,
        problem: row.get(11)?,
        held: row.get(13)?,
        chip: text(row, 14)?,
        pending: text(row, 15)?,
        boot: progress.map(|progress| progress.status(now)),
        readings: read(row, 19)?,
    })
}

/// What a machine's sensors said, and when, two columns of it.
fn read(row: &Row, from: usize) -> Result<Option<Read>, StoreError> {
    let said: Option<Readings> = parsed(row.get(from)?)?;
    let at: Option<u64> = row.get(from + 1)?;
    Ok(said.zip(at).map(|(said, at)| Read { at, said }))
}

/// How far a machine's latest boot came, where it is known at all.
pub(super) fn progress(sql: &mut dyn Sql, mac: &str) -> Result<Option<Progress>, StoreError> {
    match sql.first("SELECT progress FROM machines WHERE mac = ?1", values![mac])? {
        Some(row) => parsed(row.get(0)?),
        None => Ok(None),
    }
}

fn parsed<T: DeserializeOwned>(json: Option<String>) -> Result<Option<T>, StoreError> {
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };

    fn mac(n: u64) -> Mac {
        let [.., a, b, c] = n.to_be_bytes();
        Mac([2, 0, 0, a, b, c])
    }

    fn key() -> PublicKey {
        protocol::SecretKey::from_seed([9; 32]).public()
    }

    fn appear(store: &Store, numbers: std::ops::Range<u64>, at: u64) {
        let boots = Sighting { boots: true, ..Sighting::default() };
        let seen =
            |n| Record { at, ..Record::new(mac(n), Kind::Dhcp, "x").sighting(boots.clone()) };
        let records: Vec<Record> = numbers.map(seen).collect();
        store.record(&records).unwrap();
    }

    #[test]
    fn who_invents_machines_displaces_those_that_were_only_seen_and_no_other() {
        let (_folder, store) = temporary();
        appear(&store, 0..4, 1);
        store.pend(mac(0), (&key(), None), None, Cause::Waits, 2).unwrap();
        store.pend(mac(1), (&key(), None), None, Cause::Waits, 2).unwrap();
        store.approve(mac(1), &key(), &Actor::Operator("anna".into()), 3).unwrap();
        store.pass(mac(2), Cause::Quarantine, &Actor::Operator("anna".into()), 3).unwrap();
        appear(&store, 10..10 + MAX_MACHINES, 5);
        let known = |n| store.life(mac(n)).unwrap().map(|life| life.state);
        assert_eq!(known(0), Some(MachineState::Pending));
        assert_eq!(known(1), Some(MachineState::Approved));
        assert_eq!(known(2), Some(MachineState::Quarantined));
        assert_eq!(known(3), None, "it was only seen");
        assert_eq!(store.count_machines().unwrap(), MAX_MACHINES);
    }

    #[test]
    fn who_has_many_wait_displaces_his_own() {
        let (_folder, store) = temporary();
        let waits = |n, from: [u8; 4], at| {
            let from = Some(IpAddr::from(from));
            store.pend(mac(n), (&key(), from), None, Cause::Waits, at).unwrap();
        };
        waits(0, [10, 0, 0, 5], 1);
        for n in 1..=MAX_PENDING + 20 {
            waits(n, [10, 0, 0, 66], 1 + n);
        }
        let waiting = |n| store.life(mac(n)).unwrap().is_some();
        assert!(waiting(0) && waiting(MAX_PENDING + 20));
        assert!(!waiting(1) && !waiting(20));
        assert_eq!(store.count_by_state().unwrap()["pending"], MAX_PENDING);
    }
}
