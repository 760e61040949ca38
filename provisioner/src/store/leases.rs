//! Leases in the store.

use super::{Store, StoreError, from_sql, to_sql};
use crate::{
    dhcp::{
        lease::{Lease, LeaseChange},
        pool::Pool,
    },
    machine::Mac,
    progress::Progress,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::net::Ipv4Addr;

/// How many addresses are tried for one that nobody ever had, before one that was somebody's
/// is taken again: keeps a DISCOVER cheap in a large pool.
const FRESH_PROBES: usize = 256;

/// What a DHCP answer needs to know of a client.
#[derive(Clone, Debug, Default)]
pub struct LeaseFacts {
    /// What it holds, or held last.
    pub lease: Option<Lease>,
    /// Whether somebody else holds what it wants.
    pub wanted_is_taken: bool,
    /// An address that nobody holds, where it has none.
    pub free: Option<Ipv4Addr>,
    /// Whether our iPXE was loaded in its latest boot.
    pub loaded_ipxe: bool,
    /// Whether it fetched the UKI then and has not been heard of since.
    pub took_uki: bool,
}

impl Store {
    /// Looks up what an answer to `mac` needs. `except` (our own address) is never free; without
    /// a pool none is.
    pub fn lease_facts(
        &self,
        mac: Mac,
        wanted: Option<Ipv4Addr>,
        pool: Option<(&Pool, Ipv4Addr)>,
        now: u64,
    ) -> Result<LeaseFacts, StoreError> {
        let reader = self.reader();
        let lease = reader
            .prepare_cached("SELECT address, expires FROM leases WHERE mac = ?1")?
            .query_row([mac.to_string()], |row| {
                let (address, expires): (u32, i64) = (row.get(0)?, row.get(1)?);
                Ok(Lease {
                    address: Ipv4Addr::from_bits(address),
                    mac: Some(mac),
                    expires: from_sql(expires),
                })
            })
            .optional()?;
        let wanted_is_taken = match wanted {
            Some(wanted) => holder(&reader, wanted, now)?.is_some_and(|holder| holder != Some(mac)),
            None => false,
        };
        let usable =
            lease.is_some_and(|lease| pool.is_some_and(|(p, _)| p.contains(lease.address)));
        let free = match pool {
            Some((pool, except)) if !usable => free(&reader, pool, except, mac, now)?,
            _ => None,
        };
        let progress = progress(&reader, mac)?;
        let loaded_ipxe = progress.as_ref().is_some_and(Progress::loaded_ipxe);
        let took_uki = progress.is_some_and(|progress| progress.took_uki());
        Ok(LeaseFacts { lease, wanted_is_taken, free, loaded_ipxe, took_uki })
    }

    /// Whether a machine fetched the whole UKI in its latest boot and has not been heard of since.
    pub fn took_uki(&self, mac: Mac) -> Result<bool, StoreError> {
        Ok(progress(&self.reader(), mac)?.is_some_and(|progress| progress.took_uki()))
    }

    /// Applies a change for `mac`. False where the address went to somebody else meanwhile.
    pub fn change_lease(
        &self,
        mac: Mac,
        change: LeaseChange,
        now: u64,
    ) -> Result<bool, StoreError> {
        if change == LeaseChange::Keep {
            return Ok(true);
        }
        let mac = mac.to_string();
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let upsert = "INSERT INTO leases (address, mac, expires) VALUES (?1, ?2, ?3)
                      ON CONFLICT (address) DO UPDATE SET mac = ?2, expires = ?3";
        match change {
            LeaseChange::Keep => {}
            LeaseChange::Hold(address, until) => {
                let holder = holder(&transaction, address, now)?;
                if holder.is_some_and(|holder| holder.is_none_or(|h| h.to_string() != mac)) {
                    return Ok(false);
                }
                transaction.execute(
                    "DELETE FROM leases WHERE mac = ?1 AND address != ?2",
                    params![mac, address.to_bits()],
                )?;
                transaction.prepare_cached(upsert)?.execute(params![
                    address.to_bits(),
                    mac,
                    to_sql(until)
                ])?;
            }
            LeaseChange::Release => {
                transaction.execute("DELETE FROM leases WHERE mac = ?1", [mac])?;
            }
            LeaseChange::Decline(address, until) => {
                transaction
                    .execute(upsert, params![address.to_bits(), None::<String>, to_sql(until)])?;
            }
        }
        transaction.commit()?;
        Ok(true)
    }
}

/// How far a machine's latest boot came, where it is known at all.
pub(super) fn progress(reader: &Connection, mac: Mac) -> Result<Option<Progress>, StoreError> {
    let json: Option<Option<String>> = reader
        .prepare_cached("SELECT progress FROM machines WHERE mac = ?1")?
        .query_row([mac.to_string()], |row| row.get(0))
        .optional()?;
    Ok(json.flatten().map(|json| serde_json::from_str(&json)).transpose()?)
}

/// Who holds an address at `now`: nobody, a machine, or (declined) nobody in particular.
fn holder(
    connection: &Connection,
    address: Ipv4Addr,
    now: u64,
) -> rusqlite::Result<Option<Option<Mac>>> {
    connection
        .prepare_cached("SELECT mac FROM leases WHERE address = ?1 AND expires > ?2")?
        .query_row(params![address.to_bits(), to_sql(now)], |row| row.get::<_, Option<String>>(0))
        .optional()
        .map(|found| found.map(|mac| mac.and_then(|mac| mac.parse().ok())))
}

fn free(
    connection: &Connection,
    pool: &Pool,
    except: Ipv4Addr,
    mac: Mac,
    now: u64,
) -> rusqlite::Result<Option<Ipv4Addr>> {
    let live: u32 = connection
        .prepare_cached("SELECT count(*) FROM leases WHERE expires > ?1")?
        .query_row([to_sql(now)], |row| row.get(0))?;
    if live >= pool.size() {
        return Ok(None);
    }
    let mut query = connection.prepare_cached("SELECT expires FROM leases WHERE address = ?1")?;
    let mut expired = None;
    for (tried, address) in pool.candidates(mac).filter(|&a| a != except).enumerate() {
        let expires: Option<i64> =
            query.query_row([address.to_bits()], |row| row.get(0)).optional()?;
        match expires {
            None => return Ok(Some(address)),
            Some(expires) if from_sql(expires) <= now => expired = expired.or(Some(address)),
            Some(_) => {}
        }
        if expired.is_some() && tried >= FRESH_PROBES {
            break;
        }
    }
    Ok(expired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;
    use std::collections::{BTreeMap, BTreeSet};

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn take(store: &Store, n: u8, pool: &Pool, now: u64) -> Option<Ipv4Addr> {
        let us = Ipv4Addr::new(10, 0, 0, 1);
        let facts = store.lease_facts(mac(n), None, Some((pool, us)), now).unwrap();
        let address = facts.lease.map(|lease| lease.address).or(facts.free)?;
        assert!(store.change_lease(mac(n), LeaseChange::Hold(address, now + 100), now).unwrap());
        Some(address)
    }

    #[test]
    fn a_pool_is_given_out_to_the_last_address_each_to_one_and_never_our_own() {
        let (_folder, store) = temporary();
        let pool: Pool = "10.0.0.1-10.0.0.8".parse().unwrap();
        let given: BTreeSet<_> = (0..7).map(|n| take(&store, n, &pool, 0).unwrap()).collect();
        assert_eq!(given.len(), 7);
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(take(&store, 99, &pool, 0), None);
        assert!(take(&store, 99, &pool, 200).is_some(), "expired ones are given out again");
    }

    #[test]
    fn a_lease_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.sqlite");
        let pool: Pool = "10.0.0.10-10.0.0.20".parse().unwrap();
        let before = take(&Store::open(&path, BTreeMap::new()).unwrap(), 1, &pool, 0);
        let after = Store::open(&path, BTreeMap::new()).unwrap();
        assert!(before.is_some());
        assert_eq!(take(&after, 1, &pool, 50), before);
        assert_eq!(take(&after, 1, &pool, 5_000), before, "long expired, but nobody else's");
    }

    #[test]
    fn an_address_that_somebody_else_took_meanwhile_is_not_given_twice() {
        let (_folder, store) = temporary();
        let address = Ipv4Addr::new(10, 0, 0, 9);
        assert!(store.change_lease(mac(1), LeaseChange::Hold(address, 100), 0).unwrap());
        assert!(!store.change_lease(mac(2), LeaseChange::Hold(address, 100), 0).unwrap());
        assert!(store.lease_facts(mac(2), Some(address), None, 0).unwrap().wanted_is_taken);
        assert!(store.change_lease(mac(2), LeaseChange::Hold(address, 300), 101).unwrap());
    }

    #[test]
    fn a_declined_address_is_nobodys_until_its_time_is_over() {
        let (_folder, store) = temporary();
        let pool: Pool = "10.0.0.10-10.0.0.10".parse().unwrap();
        let address = take(&store, 1, &pool, 0).unwrap();
        store.change_lease(mac(1), LeaseChange::Decline(address, 600), 0).unwrap();
        assert_eq!(take(&store, 1, &pool, 10), None);
        assert_eq!(take(&store, 1, &pool, 700), Some(address));
    }
}
