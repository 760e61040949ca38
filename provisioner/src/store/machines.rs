//! Machines in the store: what they are called, what is known of them, and whose identity is whose.

use super::{Store, StoreError, from_sql, to_sql};
use crate::{machine::Mac, progress::Progress};
use protocol::{
    Digest, PublicKey,
    evidence::Held,
    fleet::{MachineDetail, MachineStatus, TimelineEvent},
    inventory::Inventory,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

/// The most machines kept. A network of more has more than one provisioner. Where it is full, the
/// machine that was never taken in and was silent for longest makes room.
///
/// Somebody who invents MAC addresses can fill this and no more: of each machine 500 events of
/// 2,400 bytes (1.2 MB), eight deaths of 64 KiB (0.5 MB), 4,096 ids of reports with their indices
/// (some 0.9 MB) and the boot's progress (0.1 MB) make 2.7 MB, of all machines 27 GB. An inventory,
/// at most 2 MiB as a request's body is, is kept of those alone that were taken in: 21 GB more
/// where approval is automatic.
const MAX_MACHINES: u64 = 10_000;

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
    pub address: Option<std::net::IpAddr>,
    /// What keeps its key.
    pub held: Held,
    /// Its TPM, once its evidence is checked, and how often that was reset.
    pub chip: Option<(Digest, u32)>,
    /// The digest of that evidence.
    pub evidence: Option<Digest>,
}

const COLUMNS: &str = "mac, name, uuid, serial, firmware, boot_mode, address, node, release,
                       first_seen, last_seen, problem, progress, held, chip, pending";

impl Store {
    /// All machines, in the order of their names.
    pub fn machines(&self, now: u64) -> Result<Vec<MachineStatus>, StoreError> {
        let reader = self.reader();
        let mut query =
            reader.prepare_cached(&format!("SELECT {COLUMNS} FROM machines ORDER BY name, mac"))?;
        let rows = query.query_map([], Raw::read)?;
        rows.map(|row| row?.status(now)).collect()
    }

    /// How many machines are known.
    pub fn count_machines(&self) -> Result<u64, StoreError> {
        count(&self.reader())
    }

    /// One machine with its inventory and timeline.
    pub fn machine(&self, mac: Mac, now: u64) -> Result<Option<MachineDetail>, StoreError> {
        let reader = self.reader();
        let found = reader
            .prepare_cached(&format!("SELECT {COLUMNS}, inventory FROM machines WHERE mac = ?1"))?
            .query_row([mac.to_string()], |row| {
                Ok((Raw::read(row)?, row.get::<_, Option<String>>(16)?))
            })
            .optional()?;
        let Some((raw, inventory)) = found else { return Ok(None) };
        let mut events = reader
            .prepare_cached("SELECT at, kind, text FROM events WHERE mac = ?1 ORDER BY id DESC")?;
        let timeline = events.query_map([mac.to_string()], |row| {
            Ok(TimelineEvent {
                mac: mac.to_string(),
                at: from_sql(row.get(0)?),
                kind: row.get(1)?,
                text: row.get(2)?,
            })
        })?;
        Ok(Some(MachineDetail {
            machine: raw.status(now)?,
            inventory: parsed(inventory)?,
            timeline: timeline.collect::<Result<_, _>>()?,
            crashes: super::crashes::of(&reader, mac)?,
        }))
    }

    /// Takes a machine in, unless `judge` finds that its identity is another's. What `judge` is
    /// given is everyone with this MAC address, node key or UUID; between that and the writing
    /// nobody else writes.
    pub fn enrol<E>(
        &self,
        newcomer: &Enrolled,
        now: u64,
        judge: impl FnOnce(&[Known]) -> Result<(), E>,
    ) -> Result<Result<String, E>, StoreError> {
        let mac = newcomer.mac.to_string();
        let node = newcomer.node.to_string();
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let chip = newcomer.chip.map(|(chip, _)| chip.to_string());
        let known = known(&transaction, &mac, &node, newcomer.uuid.as_deref(), chip.as_deref())?;
        if let Err(error) = judge(&known) {
            return Ok(Err(error));
        }
        self.make_machine(&transaction, newcomer.mac, now)?;
        // The same machine by another of its NICs: the key goes where the machine is.
        transaction.execute(
            "UPDATE machines SET node = NULL WHERE node = ?1 AND mac != ?2",
            params![node, mac],
        )?;
        // So does the chip where an operator said so: its count of resets goes on here.
        transaction.execute(
            "UPDATE machines SET chip = NULL WHERE chip = ?1 AND mac != ?2
                 AND EXISTS (SELECT 1 FROM machines WHERE mac = ?2 AND approved = ?3)",
            params![chip, mac, node],
        )?;
        let system = &newcomer.inventory.system;
        let serial = Some(system.serial.trim()).filter(|serial| !serial.is_empty());
        let firmware = if system.uefi { "uefi" } else { "bios" };
        transaction.execute(
            "UPDATE machines SET node = ?2, boot_id = ?3, release = ?4, inventory = ?5,
                 node_seen = ?6, last_seen = ?6, uuid = coalesce(?7, uuid),
                 serial = coalesce(?8, serial), firmware = ?9, address = coalesce(?10, address),
                 held = ?11, chip = ?12, resets = ?13, evidence = ?14, pending = NULL,
                 approved = NULL, problem = NULL
             WHERE mac = ?1",
            params![
                mac,
                node,
                newcomer.boot_id.to_string(),
                newcomer.release.to_string(),
                serde_json::to_string(&newcomer.inventory)?,
                to_sql(now),
                newcomer.uuid,
                serial,
                firmware,
                newcomer.address.map(|address| address.to_string()),
                newcomer.held.name(),
                chip,
                newcomer.chip.map(|(_, resets)| resets),
                newcomer.evidence.map(|digest| digest.to_string()),
            ],
        )?;
        let name =
            transaction
                .query_row("SELECT name FROM machines WHERE mac = ?1", [&mac], |row| row.get(0))?;
        transaction.commit()?;
        Ok(Ok(name))
    }

    /// Remembers that a key waits for approval; true where it did not wait already.
    pub fn pend(&self, mac: Mac, node: &PublicKey, now: u64) -> Result<bool, StoreError> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        self.make_machine(&transaction, mac, now)?;
        let changed = transaction.execute(
            "UPDATE machines SET pending = ?2 WHERE mac = ?1 AND pending IS NOT ?2",
            params![mac.to_string(), node.to_string()],
        )?;
        transaction.commit()?;
        Ok(changed > 0)
    }

    /// Lets a key take a machine's place the next time that it comes, be it one that was revoked.
    /// False where no such machine
    /// is known.
    pub fn approve(&self, mac: Mac, node: &PublicKey) -> Result<bool, StoreError> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let changed = transaction.execute(
            "UPDATE machines SET approved = ?2 WHERE mac = ?1",
            params![mac.to_string(), node.to_string()],
        )?;
        if changed > 0 {
            transaction.execute("DELETE FROM revoked WHERE node = ?1", [node.to_string()])?;
        }
        transaction.commit()?;
        Ok(changed > 0)
    }

    /// Makes a machine known, where there is room. False where there is none.
    pub(super) fn make_machine(
        &self,
        connection: &Connection,
        mac: Mac,
        now: u64,
    ) -> Result<bool, StoreError> {
        let exists = connection
            .prepare_cached("SELECT 1 FROM machines WHERE mac = ?1")?
            .exists([mac.to_string()])?;
        if exists {
            return Ok(true);
        }
        if count(connection)? >= MAX_MACHINES {
            let oldest: Option<String> = connection
                .query_row(
                    "SELECT mac FROM machines WHERE node IS NULL ORDER BY last_seen LIMIT 1",
                    [],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(oldest) = oldest else { return Ok(false) };
            for table in ["machines", "events", "reports", "crashes", "attempts"] {
                connection.execute(&format!("DELETE FROM {table} WHERE mac = ?1"), [&oldest])?;
            }
        }
        connection
            .prepare_cached(
                "INSERT INTO machines (mac, name, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)",
            )?
            .execute(params![mac.to_string(), self.name(mac), to_sql(now)])?;
        Ok(true)
    }

    /// The configured name, or one made of the last half of the MAC address.
    fn name(&self, mac: Mac) -> String {
        let made = || format!("node-{}", hex::encode(&mac.0[3..]));
        self.names.get(&mac).cloned().unwrap_or_else(made)
    }

    /// Gives machines known from before the names that the configuration has now.
    pub(super) fn rename(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        for (mac, name) in &self.names {
            transaction.execute(
                "UPDATE machines SET name = ?2 WHERE mac = ?1",
                params![mac.to_string(), name],
            )?;
        }
        Ok(transaction.commit()?)
    }
}

fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM machines")?
        .query_row([], |row| row.get(0))?;
    Ok(from_sql(count))
}

fn known(
    connection: &Connection,
    mac: &str,
    node: &str,
    uuid: Option<&str>,
    chip: Option<&str>,
) -> Result<Vec<Known>, StoreError> {
    let mut query = connection.prepare(
        "SELECT mac, name, uuid, node, boot_id, node_seen, chip, resets, approved FROM machines
         WHERE mac = ?1 OR node = ?2 OR uuid = ?3 OR chip = ?4 ORDER BY mac",
    )?;
    let rows = query.query_map(params![mac, node, uuid, chip], |row| {
        let (chip, approved): (Option<String>, Option<String>) = (row.get(6)?, row.get(8)?);
        let (mac, node, boot_id): (String, Option<String>, Option<String>) =
            (row.get(0)?, row.get(3)?, row.get(4)?);
        Ok(mac.parse().ok().map(|mac| Known {
            mac,
            name: row.get(1).unwrap_or_default(),
            uuid: row.get(2).unwrap_or_default(),
            node: node.and_then(|node| node.parse().ok()),
            boot_id: boot_id.and_then(|id| id.parse().ok()),
            node_seen: row.get::<_, Option<i64>>(5).ok().flatten().map_or(0, from_sql),
            chip: chip.and_then(|chip| chip.parse().ok()),
            resets: row.get::<_, Option<u32>>(7).ok().flatten().unwrap_or(0),
            approved: approved.and_then(|node| node.parse().ok()),
        }))
    })?;
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// A row as it stands, before its texts are parsed.
struct Raw {
    status: MachineStatus,
    node: Option<String>,
    release: Option<String>,
    progress: Option<String>,
    chip: Option<String>,
    pending: Option<String>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            status: MachineStatus {
                mac: row.get(0)?,
                name: row.get(1)?,
                uuid: row.get(2)?,
                serial: row.get(3)?,
                firmware: row.get(4)?,
                boot_mode: row.get(5)?,
                address: row.get(6)?,
                node: None,
                release: None,
                first_seen: from_sql(row.get(9)?),
                last_seen: from_sql(row.get(10)?),
                problem: row.get(11)?,
                held: row.get(13)?,
                chip: None,
                pending: None,
                boot: None,
            },
            chip: row.get(14)?,
            pending: row.get(15)?,
            node: row.get(7)?,
            release: row.get(8)?,
            progress: row.get(12)?,
        })
    }

    fn status(self, now: u64) -> Result<MachineStatus, StoreError> {
        let progress: Option<Progress> = parsed(self.progress)?;
        Ok(MachineStatus {
            node: self.node.and_then(|node| node.parse().ok()),
            release: self.release.and_then(|release| release.parse().ok()),
            chip: self.chip.and_then(|chip| chip.parse().ok()),
            pending: self.pending.and_then(|node| node.parse().ok()),
            boot: progress.map(|progress| progress.status(now)),
            ..self.status
        })
    }
}

fn parsed<T: DeserializeOwned>(json: Option<String>) -> Result<Option<T>, StoreError> {
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?)
}
