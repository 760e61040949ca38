//! Leases in the store.

use super::{
    Store, StoreError,
    machines::progress,
    sql::{Part, Sql, values},
};
use crate::{
    dhcp::{
        lease::{Lease, LeaseChange},
        pool::Pool,
    },
    machine::Mac,
    progress::Progress,
};
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

/// Leases, as one transaction sees them.
pub struct Leases<'a> {
    sql: &'a mut dyn Sql,
}

impl Store {
    /// Several answers in one transaction: all that they change is kept, or nothing.
    pub fn leases<T>(
        &self,
        work: impl FnOnce(&mut Leases<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write(Part::Leases, |sql| work(&mut Leases { sql }))
    }

    /// The same where nothing is changed: it may be read where it cannot be written.
    pub fn leases_seen<T>(
        &self,
        work: impl FnOnce(&mut Leases<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read(|sql| work(&mut Leases { sql }))
    }

    /// Whether a machine fetched the whole UKI in its latest boot and has not been heard of since.
    pub fn took_uki(&self, mac: Mac) -> Result<bool, StoreError> {
        let progress = self.read(|sql| progress(sql, &mac.to_string()))?;
        Ok(progress.is_some_and(|progress| progress.took_uki()))
    }
}

impl Leases<'_> {
    /// Looks up what an answer to `mac` needs. `except` (our own address) is never free; without
    /// a pool none is. One that is `offered` to somebody else is free where there is no other.
    pub fn facts(
        &mut self,
        mac: Mac,
        wanted: Option<Ipv4Addr>,
        pool: Option<(&Pool, Ipv4Addr)>,
        offered: &dyn Fn(Ipv4Addr) -> bool,
        now: u64,
    ) -> Result<LeaseFacts, StoreError> {
        let select = "SELECT address, expires FROM leases WHERE mac = ?1";
        let lease = match self.sql.first(select, values![mac.to_string()])? {
            Some(row) => Some(Lease {
                address: Ipv4Addr::from_bits(row.get(0)?),
                mac: Some(mac),
                expires: row.get(1)?,
            }),
            None => None,
        };
        let wanted_is_taken = match wanted {
            Some(wanted) => {
                holder(self.sql, wanted, now)?.is_some_and(|holder| holder != Some(mac))
            }
            None => false,
        };
        let usable =
            lease.is_some_and(|lease| pool.is_some_and(|(p, _)| p.contains(lease.address)));
        let free = match pool {
            Some((pool, except)) if !usable => free(self.sql, pool, except, (mac, offered), now)?,
            _ => None,
        };
        // What is kept for a machine of ours goes to nobody else while there is another.
        let another = usable || free.is_some_and(|free| !free.is_kept);
        let wanted_is_taken = match wanted {
            Some(wanted) if another && !wanted_is_taken => is_kept(self.sql, wanted, mac)?,
            _ => wanted_is_taken,
        };
        let free = free.map(|free| free.address);
        let progress = progress(self.sql, &mac.to_string())?;
        let loaded_ipxe = progress.as_ref().is_some_and(Progress::loaded_ipxe);
        let took_uki = progress.is_some_and(|progress| progress.took_uki());
        Ok(LeaseFacts { lease, wanted_is_taken, free, loaded_ipxe, took_uki })
    }

    /// Applies a change for `mac`. False where the address is somebody else's.
    pub fn change(&mut self, mac: Mac, change: LeaseChange, now: u64) -> Result<bool, StoreError> {
        let name = mac.to_string();
        let upsert = "INSERT INTO leases (address, mac, expires) VALUES (?1, ?2, ?3)
                      ON CONFLICT (address) DO UPDATE SET mac = ?2, expires = ?3";
        match change {
            LeaseChange::Keep => {}
            LeaseChange::Offer(address, until) | LeaseChange::Hold(address, until) => {
                let holder = holder(self.sql, address, now)?;
                if holder.is_some_and(|holder| holder != Some(mac)) {
                    return Ok(false);
                }
                self.sql.execute(
                    "DELETE FROM leases WHERE mac = ?1 AND address != ?2",
                    values![&name, address.to_bits()],
                )?;
                self.sql.execute(upsert, values![address.to_bits(), name, until])?;
            }
            LeaseChange::Release => {
                self.sql.execute("DELETE FROM leases WHERE mac = ?1", values![name])?;
            }
            LeaseChange::Decline(address, until) => {
                self.sql.execute(upsert, values![address.to_bits(), None::<String>, until])?;
            }
        }
        Ok(true)
    }
}

/// Who holds an address at `now`: nobody, a machine, or (declined) nobody in particular.
fn holder(
    sql: &mut dyn Sql,
    address: Ipv4Addr,
    now: u64,
) -> Result<Option<Option<Mac>>, StoreError> {
    let select = "SELECT mac FROM leases WHERE address = ?1 AND expires > ?2";
    let Some(row) = sql.first(select, values![address.to_bits(), now])? else { return Ok(None) };
    let mac: Option<String> = row.get(0)?;
    Ok(Some(mac.and_then(|mac| mac.parse().ok())))
}

fn free(
    sql: &mut dyn Sql,
    pool: &Pool,
    except: Ipv4Addr,
    (mac, offered): (Mac, &dyn Fn(Ipv4Addr) -> bool),
    now: u64,
) -> Result<Option<Free>, StoreError> {
    let select = "SELECT expires FROM leases WHERE address = ?1";
    let (mut expired, mut only_offered, mut kept) = (None, None, None);
    for (tried, address) in pool.candidates(mac).filter(|&a| a != except).enumerate() {
        if tried >= FRESH_PROBES && expired.is_some() {
            break;
        }
        // Counting costs as much as there are leases: only where the pool seems full.
        if tried == FRESH_PROBES && not_for_strangers(sql, now)? >= u64::from(pool.size()) {
            break;
        }
        let free = Free { address, is_kept: false };
        let is_fresh = match sql.first(select, values![address.to_bits()])? {
            None => true,
            Some(row) if row.get::<u64>(0)? > now => continue,
            Some(_) if is_kept(sql, address, mac)? => {
                kept = kept.or(Some(Free { is_kept: true, ..free }));
                continue;
            }
            Some(_) => false,
        };
        match (is_fresh, offered(address)) {
            (true, false) => return Ok(Some(free)),
            (false, false) => expired = expired.or(Some(free)),
            (_, true) => only_offered = only_offered.or(Some(free)),
        }
    }
    Ok(expired.or(only_offered).or(kept))
}

/// An address that nobody holds.
#[derive(Clone, Copy)]
struct Free {
    address: Ipv4Addr,
    /// It was a machine's that was taken in.
    is_kept: bool,
}

/// Whether an address was another machine's last, one that was taken in: it may be off for long, and is
/// known by that address to others.
fn is_kept(sql: &mut dyn Sql, address: Ipv4Addr, mac: Mac) -> Result<bool, StoreError> {
    let kept = "SELECT 1 FROM leases JOIN machines ON machines.mac = leases.mac
                WHERE leases.address = ?1 AND leases.mac != ?2 AND machines.node IS NOT NULL";
    sql.exists(kept, values![address.to_bits(), mac.to_string()])
}

/// How many addresses are held, or kept for who was taken in.
fn not_for_strangers(sql: &mut dyn Sql, now: u64) -> Result<u64, StoreError> {
    let count = "SELECT count(*) FROM leases WHERE expires > ?1 OR EXISTS
                     (SELECT 1 FROM machines
                      WHERE machines.mac = leases.mac AND machines.node IS NOT NULL)";
    sql.first(count, values![now])?.map_or(Ok(0), |row| row.get(0))
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
        let facts = store
            .leases(|leases| leases.facts(mac(n), None, Some((pool, us)), &|_| false, now))
            .unwrap();
        let address = facts.lease.map(|lease| lease.address).or(facts.free)?;
        assert!(
            store
                .leases(|leases| leases.change(mac(n), LeaseChange::Hold(address, now + 100), now))
                .unwrap()
        );
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
    fn what_is_offered_to_others_is_given_out_last() {
        let (_folder, store) = temporary();
        let pool: Pool = "10.0.0.10-10.0.0.12".parse().unwrap();
        let us = Ipv4Addr::new(10, 0, 0, 1);
        let free = |offered: &[Ipv4Addr], now| {
            let offered = |address| offered.contains(&address);
            let facts =
                store.leases(|leases| leases.facts(mac(9), None, Some((&pool, us)), &offered, now));
            facts.unwrap().free
        };
        let first = free(&[], 0).unwrap();
        let second = free(&[first], 0).unwrap();
        let third = free(&[first, second], 0).unwrap();
        assert!(first != second && second != third && first != third);
        assert_eq!(free(&[first, second, third], 0), Some(first), "all are only offered");
        take(&store, 1, &"10.0.0.10-10.0.0.10".parse().unwrap(), 0).unwrap();
        let held = Ipv4Addr::new(10, 0, 0, 10);
        let others: Vec<_> = [first, second, third].into_iter().filter(|&a| a != held).collect();
        assert_ne!(free(&others, 50), Some(held), "held for 100 s");
        assert_eq!(free(&others, 200), Some(held), "expired, and offered to nobody");
    }

    #[test]
    fn a_lease_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = crate::store::places::fresh(folder.path()).parse().unwrap();
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
        assert!(
            store
                .leases(|leases| leases.change(mac(1), LeaseChange::Hold(address, 100), 0))
                .unwrap()
        );
        assert!(
            !store
                .leases(|leases| leases.change(mac(2), LeaseChange::Hold(address, 100), 0))
                .unwrap()
        );
        assert!(
            store
                .leases(|leases| leases.facts(mac(2), Some(address), None, &|_| false, 0))
                .unwrap()
                .wanted_is_taken
        );
        assert!(
            store
                .leases(|leases| leases.change(mac(2), LeaseChange::Hold(address, 300), 101))
                .unwrap()
        );
    }

    #[test]
    fn an_expired_lease_of_a_machine_that_was_taken_in_is_kept_while_there_are_others() {
        let (_folder, store) = temporary();
        let pool: Pool = "10.0.0.10-10.0.0.13".parse().unwrap();
        let boots = crate::timeline::Sighting { boots: true, ..Default::default() };
        let seen = crate::timeline::Record::new(mac(1), crate::timeline::Kind::Dhcp, "boots");
        store.record(&[seen.sighting(boots)]).unwrap();
        super::super::believed::taken_in(&store, mac(1));
        let own = take(&store, 1, &pool, 0).unwrap();
        // Two strangers' expired ones and one that nobody had; whoever asks for the machine's by name
        // is told that it is taken.
        for n in 2..4 {
            take(&store, n, &pool, 0).unwrap();
        }
        let us = Ipv4Addr::new(10, 0, 0, 1);
        let wanting = |n, now| {
            let facts = |leases: &mut Leases<'_>| {
                leases.facts(mac(n), Some(own), Some((&pool, us)), &|_| false, now)
            };
            store.leases(facts).unwrap()
        };
        assert!(wanting(50, 200).wanted_is_taken);
        let given: Vec<_> = (10..13).map(|n| take(&store, n, &pool, 200).unwrap()).collect();
        assert!(!given.contains(&own), "{own} of {given:?}");
        assert_eq!(take(&store, 1, &pool, 250), Some(own), "it comes back");
        // With no other left it goes, by name too.
        let last = wanting(51, 360);
        assert!(last.wanted_is_taken, "the strangers' are over as well");
        let held: Vec<_> = (20..23).map(|n| take(&store, n, &pool, 360).unwrap()).collect();
        assert!(!held.contains(&own), "{own} of {held:?}");
        let last = wanting(52, 361);
        assert_eq!((last.free, last.wanted_is_taken), (Some(own), false));
    }

    #[test]
    fn a_declined_address_is_nobodys_until_its_time_is_over() {
        let (_folder, store) = temporary();
        let pool: Pool = "10.0.0.10-10.0.0.10".parse().unwrap();
        let address = take(&store, 1, &pool, 0).unwrap();
        store
            .leases(|leases| leases.change(mac(1), LeaseChange::Decline(address, 600), 0))
            .unwrap();
        assert_eq!(take(&store, 1, &pool, 10), None);
        assert_eq!(take(&store, 1, &pool, 700), Some(address));
    }
}
