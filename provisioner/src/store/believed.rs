//! Whom is believed that he is a machine, where nothing but his address says so.
//!
//! Firmware, loaders and a node before it is taken in prove nothing. Of a machine that was never taken
//! in all is believed: it has nothing to lose. One that was is believed where it was proven to be last,
//! by its key or its certificate, or where our own DHCP put it since; from anywhere else somebody only
//! says that he is it: that is told, and changes nothing.

use super::{
    Store, StoreError,
    sql::{Sql, values},
};
use crate::machine::Mac;
use protocol::{Digest, fleet::Life};
use std::net::IpAddr;

impl Store {
    /// Where a machine stands, none where it is not known; and whether who asks from there is it.
    pub fn caller(
        &self,
        mac: Mac,
        from: Option<IpAddr>,
    ) -> Result<(Option<Life>, bool), StoreError> {
        let mac = mac.to_string();
        self.read(|sql| Ok((super::life::life(sql, &mac)?, is_believed(sql, &mac, from)?)))
    }

    /// Whether a machine was taken in in that boot: from then on it speaks by its certificate.
    pub fn was_taken_in(&self, mac: Mac, boot_id: &Digest) -> Result<bool, StoreError> {
        let values = values![mac.to_string(), boot_id.to_string()];
        let now = "SELECT 1 FROM machines WHERE mac = ?1 AND boot_id = ?2";
        let once = "SELECT 1 FROM boots WHERE mac = ?1 AND boot_id = ?2";
        self.read(|sql| Ok(sql.exists(now, values)? || sql.exists(once, values)?))
    }
}

/// Whether who speaks from there, or without `from` has proven it, is the machine.
pub(super) fn is_believed(
    sql: &mut dyn Sql,
    mac: &str,
    from: Option<IpAddr>,
) -> Result<bool, StoreError> {
    let Some(from) = from else { return Ok(true) };
    let elsewhere = "SELECT 1 FROM machines
                     WHERE mac = ?1 AND node IS NOT NULL AND address IS DISTINCT FROM ?2";
    Ok(!sql.exists(elsewhere, values![mac, from.to_string()])?)
}

/// For tests: a machine was taken in, with a key of its own, in the boot of ones.
#[cfg(test)]
pub(super) fn taken_in(store: &Store, mac: Mac) {
    let node = protocol::SecretKey::from_seed([mac.0[5]; 32]).public();
    let update = "UPDATE machines SET node = ?2, boot_id = ?3 WHERE mac = ?1";
    let values = values![mac.to_string(), node.to_string(), Digest([1; 32]).to_string()];
    store.write(super::sql::Part::Machines, |sql| sql.execute(update, values)).unwrap();
}
