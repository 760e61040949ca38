//! Leases of IPv6 addresses in the store. An address is written as 32 hexadecimal digits: no
//! database has a number of 128 bits.

use super::{
    Store, StoreError,
    machines::progress,
    sql::{Part, Sql, values},
};
use crate::{
    dhcp6::{
        lease::{Key, Lease, LeaseChange},
        pool::Pool6,
    },
    machine::Mac,
    progress::Progress,
};
use std::net::Ipv6Addr;

/// The most addresses that one machine holds at a time: firmware's, iPXE's and the system's, some of
/// an earlier boot. Then it gets its own oldest one back under another name: EDK2's HTTP boot makes
/// up a new name at every boot, and a machine that restarts for ever must not empty the pool.
const MAX_EACH: u32 = 8;
/// How many addresses are tried for one that nobody ever had, before one that was somebody's
/// is taken again: keeps a SOLICIT cheap in a large pool.
const FRESH_PROBES: usize = 256;

/// What a DHCPv6 answer needs to know of a client.
#[derive(Clone, Debug, Default)]
pub struct Lease6Facts {
    /// What it holds, or held last.
    pub lease: Option<Lease>,
    /// Whether somebody else holds what it wants.
    pub wanted_is_taken: bool,
    /// An address that it may have, where it has none.
    pub free: Option<Ipv6Addr>,
    /// Whether our iPXE was loaded in its latest boot.
    pub loaded_ipxe: bool,
    /// Whether it fetched the UKI then and has not been heard of since.
    pub took_uki: bool,
}

impl Store {
    /// Looks up what an answer to `mac`, asking under `key`, needs. `except` (our own address) is
    /// never free, nor is any address to who asks for none.
    pub fn lease6_facts(
        &self,
        key: Option<&Key>,
        mac: Mac,
        wanted: Option<Ipv6Addr>,
        (pool, except): (&Pool6, Ipv6Addr),
        now: u64,
    ) -> Result<Lease6Facts, StoreError> {
        self.read(|sql| {
            let progress = progress(sql, &mac.to_string())?;
            let mut facts = Lease6Facts {
                loaded_ipxe: progress.as_ref().is_some_and(Progress::loaded_ipxe),
                took_uki: progress.is_some_and(|progress| progress.took_uki()),
                ..Lease6Facts::default()
            };
            let Some(key) = key else { return Ok(facts) };
            let select = "SELECT address, expires FROM leases6 WHERE duid = ?1 AND iaid = ?2";
            if let Some(row) = sql.first(select, values![hex::encode(&key.duid), key.iaid])? {
                let expires = row.get(1)?;
                facts.lease =
                    read(&row.get::<String>(0)?).map(|address| Lease { address, expires });
            }
            if let Some(wanted) = wanted {
                let holder = holder(sql, wanted, now)?;
                facts.wanted_is_taken = holder.is_some_and(|holder| !holder.is(key));
            }
            let mut another = true;
            if !facts.lease.is_some_and(|lease| pool.contains(lease.address)) {
                let free = free(sql, pool, except, key, mac, now)?;
                another = free.is_some_and(|(_, is_kept)| !is_kept);
                facts.free = free.map(|(address, _)| address);
            }
            // What is kept for a machine of ours goes to nobody else while there is another.
            if let Some(wanted) = wanted.filter(|_| another) {
                facts.wanted_is_taken |= is_kept(sql, wanted, mac)?;
            }
            Ok(facts)
        })
    }

    /// Applies a change for `mac` under `key`. False where the address went to another machine
    /// meanwhile.
    pub fn change_lease6(
        &self,
        key: &Key,
        mac: Mac,
        change: LeaseChange,
        now: u64,
    ) -> Result<bool, StoreError> {
        if change == LeaseChange::Keep {
            return Ok(true);
        }
        let duid = hex::encode(&key.duid);
        self.write(Part::Leases, |sql| {
            match change {
                LeaseChange::Keep => {}
                LeaseChange::Hold(address, until) => {
                    let holder = holder(sql, address, now)?;
                    let others = |holder: Holder| {
                        !holder.is(key) && holder.mac.as_deref() != Some(mac.to_string().as_str())
                    };
                    if holder.is_some_and(others) {
                        return Ok(false);
                    }
                    sql.execute(
                        "DELETE FROM leases6 WHERE duid = ?1 AND iaid = ?2 AND address != ?3",
                        values![&duid, key.iaid, written(address)],
                    )?;
                    put(sql, address, Some((&duid, key.iaid, mac)), until)?;
                }
                LeaseChange::Release => {
                    sql.execute(
                        "DELETE FROM leases6 WHERE duid = ?1 AND iaid = ?2",
                        values![duid, key.iaid],
                    )?;
                }
                LeaseChange::Decline(address, until) => put(sql, address, None, until)?,
            }
            Ok(true)
        })
    }
}

fn put(
    sql: &mut dyn Sql,
    address: Ipv6Addr,
    whose: Option<(&str, u32, Mac)>,
    until: u64,
) -> Result<(), StoreError> {
    let duid = whose.map(|(duid, ..)| duid);
    let iaid = whose.map(|(_, iaid, _)| iaid);
    let mac = whose.map(|(.., mac)| mac.to_string());
    sql.execute(
        "INSERT INTO leases6 (address, duid, iaid, mac, expires) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (address) DO UPDATE SET duid = ?2, iaid = ?3, mac = ?4, expires = ?5",
        values![written(address), duid, iaid, mac, until],
    )?;
    Ok(())
}

/// Who holds an address: nobody in particular where it was declined.
struct Holder {
    duid: Option<String>,
    iaid: Option<u32>,
    mac: Option<String>,
}

impl Holder {
    fn is(&self, key: &Key) -> bool {
        self.iaid == Some(key.iaid) && self.duid.as_deref() == Some(hex::encode(&key.duid).as_str())
    }
}

fn holder(sql: &mut dyn Sql, address: Ipv6Addr, now: u64) -> Result<Option<Holder>, StoreError> {
    let select = "SELECT duid, iaid, mac FROM leases6 WHERE address = ?1 AND expires > ?2";
    let Some(row) = sql.first(select, values![written(address), now])? else { return Ok(None) };
    Ok(Some(Holder { duid: row.get(0)?, iaid: row.get(1)?, mac: row.get(2)? }))
}

/// An address that this one may have, and whether it was a machine's that was taken in.
fn free(
    sql: &mut dyn Sql,
    pool: &Pool6,
    except: Ipv6Addr,
    key: &Key,
    mac: Mac,
    now: u64,
) -> Result<Option<(Ipv6Addr, bool)>, StoreError> {
    let own =
        "SELECT address FROM leases6 WHERE mac = ?1 AND expires > ?2 ORDER BY expires, address";
    let own = sql.query(own, values![mac.to_string(), now])?;
    if own.len() >= MAX_EACH as usize {
        let own = own.iter().map(|row| row.get(0)).collect::<Result<Vec<String>, _>>()?;
        let own = own.iter().filter_map(|own| read(own)).find(|own| pool.contains(*own));
        return Ok(own.map(|own| (own, false)));
    }
    let live = sql.first("SELECT count(*) FROM leases6 WHERE expires > ?1", values![now])?;
    if live.map_or(Ok(0), |row| row.get::<u64>(0))? >= u64::from(pool.size()) {
        return Ok(None);
    }
    let everybodys = pool.link().first();
    let candidates = pool.candidates(key).filter(|&a| a != except && a != everybodys);
    let select = "SELECT expires FROM leases6 WHERE address = ?1";
    let (mut expired, mut kept) = (None, None);
    for (tried, address) in candidates.enumerate() {
        match sql.first(select, values![written(address)])? {
            None => return Ok(Some((address, false))),
            Some(row) if row.get::<u64>(0)? > now => {}
            Some(_) if is_kept(sql, address, mac)? => kept = kept.or(Some((address, true))),
            Some(_) => expired = expired.or(Some((address, false))),
        }
        if expired.is_some() && tried >= FRESH_PROBES {
            break;
        }
        // Counting costs as much as there are leases: only where the pool seems full.
        if tried == FRESH_PROBES && not_for_strangers(sql, now)? >= u64::from(pool.size()) {
            break;
        }
    }
    Ok(expired.or(kept))
}

/// Whether an address was another machine's last, one that was taken in: it may be off for long, and is
/// known by that address to others.
fn is_kept(sql: &mut dyn Sql, address: Ipv6Addr, mac: Mac) -> Result<bool, StoreError> {
    let kept = "SELECT 1 FROM leases6 JOIN machines ON machines.mac = leases6.mac
                WHERE leases6.address = ?1 AND leases6.mac != ?2 AND machines.node IS NOT NULL";
    sql.exists(kept, values![written(address), mac.to_string()])
}

/// How many addresses are held, or kept for who was taken in.
fn not_for_strangers(sql: &mut dyn Sql, now: u64) -> Result<u64, StoreError> {
    let count = "SELECT count(*) FROM leases6 WHERE expires > ?1 OR EXISTS
                     (SELECT 1 FROM machines
                      WHERE machines.mac = leases6.mac AND machines.node IS NOT NULL)";
    sql.first(count, values![now])?.map_or(Ok(0), |row| row.get(0))
}

fn written(address: Ipv6Addr) -> String {
    hex::encode(address.octets())
}

fn read(text: &str) -> Option<Ipv6Addr> {
    let mut octets = [0; 16];
    hex::decode_to_slice(text, &mut octets).ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temporary;
    use std::collections::{BTreeMap, BTreeSet};

    const US: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

    fn key(n: u8) -> Key {
        Key { duid: vec![0, 4, n], iaid: 1 }
    }

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn pool(text: &str) -> Pool6 {
        text.parse().unwrap()
    }

    fn take(store: &Store, key: &Key, mac: Mac, pool: &Pool6, now: u64) -> Option<Ipv6Addr> {
        let facts = store.lease6_facts(Some(key), mac, None, (pool, US), now).unwrap();
        let address = facts.lease.map(|lease| lease.address).or(facts.free)?;
        let hold = LeaseChange::Hold(address, now + 100);
        assert!(store.change_lease6(key, mac, hold, now).unwrap());
        Some(address)
    }

    #[test]
    fn a_pool_is_given_out_to_the_last_address_each_to_one_and_never_our_own() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::-fd00::8");
        let given: BTreeSet<_> =
            (0..7).map(|n| take(&store, &key(n), mac(n), &pool, 0).unwrap()).collect();
        assert_eq!(given.len(), 7);
        assert!(!given.contains(&US) && !given.contains(&pool.ends().0), "ours, all routers'");
        assert_eq!(take(&store, &key(99), mac(99), &pool, 0), None);
        assert!(take(&store, &key(99), mac(99), &pool, 200).is_some(), "expired ones go again");
    }

    #[test]
    fn a_lease_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = crate::store::places::fresh(folder.path()).parse().unwrap();
        let pool = pool("fd00::10-fd00::20");
        let before = take(&Store::open(&path, BTreeMap::new()).unwrap(), &key(1), mac(1), &pool, 0);
        let after = Store::open(&path, BTreeMap::new()).unwrap();
        assert!(before.is_some());
        assert_eq!(take(&after, &key(1), mac(1), &pool, 50), before);
        assert_eq!(take(&after, &key(1), mac(1), &pool, 5_000), before, "long expired");
    }

    #[test]
    fn firmware_and_system_of_one_machine_have_an_address_each() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::10-fd00::20");
        let firmware = take(&store, &key(1), mac(1), &pool, 0).unwrap();
        let other = Key { iaid: 2, ..key(1) };
        let system = take(&store, &other, mac(1), &pool, 0).unwrap();
        assert_ne!(firmware, system);
        let facts =
            store.lease6_facts(Some(&other), mac(1), Some(firmware), (&pool, US), 0).unwrap();
        assert!(facts.wanted_is_taken, "of one machine's two it may not take the other's");
    }

    #[test]
    fn a_machine_under_ever_new_names_goes_round_in_its_own_addresses() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::10-fd00::2f");
        let name = |n: u32| Key { iaid: n, ..key(1) };
        let given: Vec<_> =
            (0..40).map(|n| take(&store, &name(n), mac(1), &pool, u64::from(n)).unwrap()).collect();
        let all: BTreeSet<_> = given.iter().collect();
        assert_eq!(all.len(), MAX_EACH as usize);
        assert_eq!(given[MAX_EACH as usize], given[0], "the oldest first");
        assert!(take(&store, &key(2), mac(2), &pool, 40).is_some_and(|new| !all.contains(&new)));
    }

    #[test]
    fn an_address_that_somebody_else_took_meanwhile_is_not_given_twice() {
        let (_folder, store) = temporary();
        let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
        let pool = pool("fd00::1-fd00::ff");
        let hold = |n: u8, until, now| {
            let change = LeaseChange::Hold(address, until);
            store.change_lease6(&key(n), mac(n), change, now).unwrap()
        };
        assert!(hold(1, 100, 0));
        assert!(!hold(2, 100, 0));
        let taken = |now| {
            let place = (&pool, US);
            store.lease6_facts(Some(&key(2)), mac(2), Some(address), place, now).unwrap()
        };
        assert!(taken(0).wanted_is_taken);
        assert!(!taken(101).wanted_is_taken);
        assert!(hold(2, 300, 101));
    }

    #[test]
    fn an_expired_lease_of_a_machine_that_was_taken_in_is_kept_while_there_are_others() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::10-fd00::12");
        let boots = crate::timeline::Sighting { boots: true, ..Default::default() };
        let seen = crate::timeline::Record::new(mac(1), crate::timeline::Kind::Dhcp, "boots");
        store.record(&[seen.sighting(boots)]).unwrap();
        super::super::believed::taken_in(&store, mac(1));
        let own = take(&store, &key(1), mac(1), &pool, 0).unwrap();
        let wanting = |n, now| {
            store.lease6_facts(Some(&key(n)), mac(n), Some(own), (&pool, US), now).unwrap()
        };
        assert!(wanting(50, 200).wanted_is_taken);
        let given = [10, 11].map(|n| take(&store, &key(n), mac(n), &pool, 200).unwrap());
        assert!(!given.contains(&own), "{own} of {given:?}");
        let last = wanting(52, 250);
        assert_eq!((last.free, last.wanted_is_taken), (Some(own), false), "there is no other");
    }

    #[test]
    fn a_declined_address_is_nobodys_until_its_time_is_over() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::10-fd00::10");
        let address = take(&store, &key(1), mac(1), &pool, 0).unwrap();
        store.change_lease6(&key(1), mac(1), LeaseChange::Decline(address, 600), 0).unwrap();
        assert_eq!(take(&store, &key(1), mac(1), &pool, 10), None);
        assert_eq!(take(&store, &key(1), mac(1), &pool, 700), Some(address));
    }

    #[test]
    fn a_released_address_is_free_at_once() {
        let (_folder, store) = temporary();
        let pool = pool("fd00::10-fd00::10");
        let address = take(&store, &key(1), mac(1), &pool, 0);
        assert_eq!(take(&store, &key(2), mac(2), &pool, 0), None);
        store.change_lease6(&key(1), mac(1), LeaseChange::Release, 0).unwrap();
        assert_eq!(take(&store, &key(2), mac(2), &pool, 0), address);
    }
}
