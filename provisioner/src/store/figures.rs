//! How many of all there are.

use super::{
    Backend, Store, StoreError,
    machines::{MAX_MACHINES, MAX_PENDING, STRANGERS_WAIT},
    operators::MAX_OPERATORS,
    revoked::MAX_REVOKED,
    sql::{Sql, Value, values},
};
use crate::{dhcp::pool::Pool, life::STATES, miners::limits};

/// How many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Machines by state, every state once.
    pub machines: Vec<(&'static str, u64)>,
    /// Machines with a problem that stands.
    pub problems: u64,
    /// Leases of DHCP that are held, over, and of addresses that were declined.
    pub leases: [(&'static str, u64); 3],
    /// The same of DHCPv6.
    pub leases6: [(&'static str, u64); 3],
    /// Addresses of the pool that somebody holds, or that were declined.
    pub in_pool: u64,
    /// Tables that peers can fill: name, rows, bound.
    pub tables: Vec<(&'static str, u64, u64)>,
}

impl Store {
    /// Counts at `now`, seconds since 1970.
    pub fn figures(&self, pool: Option<Pool>, now: u64) -> Result<Figures, StoreError> {
        let mut figures = self.read(|sql| {
            let by_state = "SELECT state, count(*) FROM machines GROUP BY state";
            let mut machines: Vec<(&'static str, u64)> =
                STATES.iter().map(|state| (state.as_str(), 0)).collect();
            for row in sql.query(by_state, &[])? {
                let (state, count): (String, u64) = (row.get(0)?, row.get(1)?);
                if let Some(known) = machines.iter_mut().find(|(name, _)| *name == state) {
                    known.1 = count;
                }
            }
            let all = machines.iter().map(|(_, count)| count).sum();
            let (first, last) = pool.map_or((1, 0), |pool| {
                let (first, last) = pool.ends();
                (first.to_bits(), last.to_bits())
            });
            let problems = "SELECT count(*) FROM machines WHERE problem IS NOT NULL";
            let in_pool = "SELECT count(*) FROM leases
                           WHERE expires > ?1 AND address >= ?2 AND address <= ?3";
            let operators = count(sql, "SELECT count(*) FROM operators", &[])?;
            let revoked = count(sql, "SELECT count(*) FROM revoked", &[])?;
            let console = super::console::bytes(sql)?;
            let waiting = format!("SELECT count(*) {STRANGERS_WAIT}");
            let waiting = count(sql, &waiting, &[])?;
            let deaths = "SELECT count(*) FROM crashes WHERE source IS NOT NULL";
            let deaths = count(sql, deaths, &[])?;
            let media = count(sql, "SELECT count(*) FROM media", &[])?;
            Ok(Figures {
                machines,
                problems: count(sql, problems, &[])?,
                leases: leases(sql, "leases", "mac", now)?,
                leases6: leases(sql, "leases6", "duid", now)?,
                in_pool: count(sql, in_pool, values![now, first, last])?,
                tables: vec![
                    ("machines", all, MAX_MACHINES),
                    ("operators", operators, MAX_OPERATORS),
                    ("revoked", revoked, MAX_REVOKED),
                    ("pending", waiting, MAX_PENDING),
                    ("unproven-deaths", deaths, super::crashes::MAX_UNPROVEN),
                    ("media", media, limits::MOST),
                    ("console-bytes", console, super::console::MAX_CONSOLES),
                ],
            })
        })?;
        if let Backend::Postgres(server) = &self.backend {
            let (used, most) = server.in_use();
            figures.tables.push(("database-connections", used, most));
        }
        Ok(figures)
    }
}

fn count(sql: &mut dyn Sql, select: &str, values: &[Value]) -> Result<u64, StoreError> {
    sql.first(select, values)?.map_or(Ok(0), |row| row.get(0))
}

fn leases(
    sql: &mut dyn Sql,
    table: &str,
    holder: &str,
    now: u64,
) -> Result<[(&'static str, u64); 3], StoreError> {
    let live = format!("SELECT count(*), count({holder}) FROM {table} WHERE expires > ?1");
    let over = format!("SELECT count(*) FROM {table} WHERE expires <= ?1");
    let row = sql.first(&live, values![now])?;
    let (all, held): (u64, u64) = match row {
        Some(row) => (row.get(0)?, row.get(1)?),
        None => (0, 0),
    };
    let over = count(sql, &over, values![now])?;
    Ok([("held", held), ("expired", over), ("declined", all - held)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dhcp::lease::LeaseChange,
        machine::Mac,
        store::temporary,
        timeline::{Kind, Record, Sighting},
    };
    use std::net::Ipv4Addr;

    #[test]
    fn machines_and_leases_are_counted_by_their_state() {
        let (_folder, store) = temporary();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let boots = Sighting { boots: true, ..Sighting::default() };
        let seen = Record::new(mac, Kind::Refused, "no").sighting(boots);
        store.record(&[seen]).unwrap();
        let hold = |address: [u8; 4], until| LeaseChange::Hold(Ipv4Addr::from(address), until);
        let declined = LeaseChange::Decline(Ipv4Addr::new(10, 0, 0, 6), 200);
        for (n, change) in
            [(1, hold([10, 0, 0, 5], 200)), (2, hold([10, 0, 0, 9], 50)), (3, declined)]
        {
            let mac = Mac([2, 0, 0, 0, 0, n]);
            store.leases(|leases| leases.change(mac, change, 0)).unwrap();
        }
        let figures = store.figures("10.0.0.1-10.0.0.8".parse().ok(), 100).unwrap();
        assert_eq!(figures.leases, [("held", 1), ("expired", 1), ("declined", 1)]);
        assert_eq!((figures.in_pool, figures.problems), (2, 1));
        assert!(figures.machines.contains(&("discovered", 1)));
        assert_eq!(figures.machines.len(), STATES.len());
        assert_eq!(figures.tables[0], ("machines", 1, MAX_MACHINES));
    }
}
