//! Which nodes are still whom we took in.

use super::{
    Store, StoreError,
    sql::{Part, Sql, values},
};
use crate::machine::Mac;
use protocol::{Digest, PublicKey};

/// The most node keys that are revoked. None is ever forgotten by itself: where it is full, the next
/// is refused.
pub(super) const MAX_REVOKED: u64 = 100_000;

/// How a node stands that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is whom we took in, in the boot in which we did.
    Good,
    /// Its key was revoked.
    Revoked,
    /// Another key, or another boot, has its machine's place; or nobody has.
    Superseded,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// This key is revoked now.
    Done(PublicKey),
    /// The machine has no key that could be.
    NoNode,
    /// There is no room for one more.
    Full,
}

impl Store {
    /// How a node stands. Asked for each of its requests, so that a revocation acts at once,
    /// whichever front-end it came to.
    pub fn standing(
        &self,
        mac: Mac,
        node: &PublicKey,
        boot_id: &Digest,
    ) -> Result<Standing, StoreError> {
        let same = "SELECT 1 FROM machines WHERE mac = ?1 AND node = ?2 AND boot_id = ?3";
        self.read(|sql| {
            if is_revoked(sql, node)? {
                return Ok(Standing::Revoked);
            }
            let good = values![mac.to_string(), node.to_string(), boot_id.to_string()];
            Ok(if sql.exists(same, good)? { Standing::Good } else { Standing::Superseded })
        })
    }

    /// Whether a node's key was revoked.
    pub fn is_revoked(&self, node: &PublicKey) -> Result<bool, StoreError> {
        self.read(|sql| is_revoked(sql, node))
    }

    /// Revokes the key of a machine: it is taken in no more, and its certificates are worth nothing
    /// from now on. Approving the key ends it. Where one is `meant`, no other is revoked.
    pub fn revoke(
        &self,
        mac: Mac,
        meant: Option<&PublicKey>,
        now: u64,
    ) -> Result<Revocation, StoreError> {
        let mac = mac.to_string();
        self.write(Part::Machines, |sql| {
            let node = sql.first("SELECT node FROM machines WHERE mac = ?1", values![&mac])?;
            let node: Option<String> = node.map_or(Ok(None), |row| row.get(0))?;
            let node = node.and_then(|node| node.parse::<PublicKey>().ok());
            let Some(node) = node.filter(|node| meant.is_none_or(|meant| meant == node)) else {
                return Ok(Revocation::NoNode);
            };
            if !refuse(sql, &node, &mac, now)? {
                return Ok(Revocation::Full);
            }
            Ok(Revocation::Done(node))
        })
    }
}

/// From now on a key is taken in no more. False where there is no room for one more.
pub(super) fn refuse(
    sql: &mut dyn Sql,
    node: &PublicKey,
    mac: &str,
    now: u64,
) -> Result<bool, StoreError> {
    if is_revoked(sql, node)? {
        return Ok(true);
    }
    let count = sql.first("SELECT count(*) FROM revoked", &[])?;
    if count.map_or(Ok(0), |row| row.get::<u64>(0))? >= MAX_REVOKED {
        return Ok(false);
    }
    sql.execute(
        "INSERT INTO revoked (node, mac, at) VALUES (?1, ?2, ?3)",
        values![node.to_string(), mac, now],
    )?;
    Ok(true)
}

fn is_revoked(sql: &mut dyn Sql, node: &PublicKey) -> Result<bool, StoreError> {
    sql.exists("SELECT 1 FROM revoked WHERE node = ?1", values![node.to_string()])
}
