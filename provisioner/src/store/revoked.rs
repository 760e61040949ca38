//! Which nodes are still whom we took in.

use super::{Store, StoreError, to_sql};
use crate::machine::Mac;
use protocol::{Digest, PublicKey};
use rusqlite::{Connection, OptionalExtension, params};

/// The most node keys that are revoked. None is ever forgotten by itself: where it is full, the next
/// is refused.
const MAX_REVOKED: i64 = 100_000;

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
        let reader = self.reader();
        if is_revoked(&reader, node)? {
            return Ok(Standing::Revoked);
        }
        let good = reader
            .prepare_cached("SELECT 1 FROM machines WHERE mac = ?1 AND node = ?2 AND boot_id = ?3")?
            .exists(params![mac.to_string(), node.to_string(), boot_id.to_string()])?;
        Ok(if good { Standing::Good } else { Standing::Superseded })
    }

    /// Whether a node's key was revoked.
    pub fn is_revoked(&self, node: &PublicKey) -> Result<bool, StoreError> {
        is_revoked(&self.reader(), node)
    }

    /// Revokes the key of a machine: it is taken in no more, and its certificates are worth nothing
    /// from now on. Approving the key ends it.
    pub fn revoke(&self, mac: Mac, now: u64) -> Result<Revocation, StoreError> {
        let mut writer = self.writer();
        let transaction = writer.transaction()?;
        let node: Option<Option<String>> = transaction
            .query_row("SELECT node FROM machines WHERE mac = ?1", [mac.to_string()], |row| {
                row.get(0)
            })
            .optional()?;
        let Some(node) = node.flatten().and_then(|node| node.parse::<PublicKey>().ok()) else {
            return Ok(Revocation::NoNode);
        };
        if !is_revoked(&transaction, &node)? {
            let count: i64 =
                transaction.query_row("SELECT count(*) FROM revoked", [], |row| row.get(0))?;
            if count >= MAX_REVOKED {
                return Ok(Revocation::Full);
            }
            transaction.execute(
                "INSERT INTO revoked (node, mac, at) VALUES (?1, ?2, ?3)",
                params![node.to_string(), mac.to_string(), to_sql(now)],
            )?;
        }
        transaction.commit()?;
        Ok(Revocation::Done(node))
    }

    /// A node said that it is alive.
    pub fn alive(&self, mac: Mac, now: u64) -> Result<(), StoreError> {
        self.writer()
            .prepare_cached("UPDATE machines SET last_seen = ?2, node_seen = ?2 WHERE mac = ?1")?
            .execute(params![mac.to_string(), to_sql(now)])?;
        Ok(())
    }
}

fn is_revoked(connection: &Connection, node: &PublicKey) -> Result<bool, StoreError> {
    let mut query = connection.prepare_cached("SELECT 1 FROM revoked WHERE node = ?1")?;
    Ok(query.exists([node.to_string()])?)
}
