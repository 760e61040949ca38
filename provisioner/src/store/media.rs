//! Tokens of miners' media in the store. Which claims are believed is [`protocol::medium`]'s to say.

use super::{
    Store, StoreError,
    sql::{Part, Row, Sql, values},
};
use crate::{machine::Mac, miners::limits};
use protocol::{
    Address, Digest, PublicKey,
    medium::{Claimed, Grant, Granted, TokenState, TokenStatus},
    node::Ownership,
};

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It waits for its first use from now on.
    Made,
    /// It was registered before, by the same signatures.
    Before,
    /// It was registered before, and something else was signed for it, or it was taken back.
    Taken,
    /// The owner has as many that wait as may be.
    Waiting,
    /// The owner has as many as may be.
    Owner,
    /// All owners together have.
    Full,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// This was its first use.
    First,
    /// The node has had it since then.
    Again,
    /// No such token was registered here, or its time was over long ago.
    Unknown,
    /// Something else was registered for it.
    Otherwise,
    /// It was taken back.
    Revoked,
    /// Its time was over before.
    Expired,
    /// Another node has it.
    OtherNode {
        /// Which.
        node: PublicKey,
        /// The MAC address that it came by.
        mac: String,
    },
    /// Its node came from another machine.
    OtherMachine,
    /// Its node is another owner's already.
    OtherOwner(Address),
}

/// What became of a token that is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is worth nothing from now on, nor is the node that came of it.
    Done(Option<PublicKey>),
    /// There is none such.
    Unknown,
    /// There is no room for one more node that is refused.
    Full,
}

/// By which medium a node came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// The token.
    pub token: PublicKey,
    /// Who is paid.
    pub owner: Address,
    /// What its firmware said of the machine ([`protocol::medium::machine_facts`]).
    pub machine: Digest,
    /// How the node belongs to the owner.
    pub ownership: Ownership,
    /// All nodes of that owner that came by media.
    pub siblings: Vec<PublicKey>,
}

/// How many there are of all owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those that wait, or waited in vain.
    pub issued: u64,
    /// Those that a node came of.
    pub bound: u64,
    /// Those that were taken back, and not forgotten yet.
    pub revoked: u64,
}

const COLUMNS: &str = "token, owner, state, made, expires, node, mac, bound_at";

impl Store {
    /// Writes down what an owner signed, once it was checked; `now` in milliseconds since 1970.
    pub fn register_medium(&self, granted: &Granted, now: u64) -> Result<Registered, StoreError> {
        let Grant { token, expires, .. } = granted.grant.body;
        let (token, owner) = (token.to_string(), granted.owner().address().to_string());
        let json = serde_json::to_string(granted)?;
        let seconds = now / 1_000;
        self.write(Part::Machines, |sql| {
            let kept = "SELECT granted, state FROM media WHERE token = ?1";
            if let Some(row) = sql.first(kept, values![&token])? {
                let same = row.get::<String>(0)? == json && row.get::<String>(1)? != REVOKED;
                return Ok(if same { Registered::Before } else { Registered::Taken });
            }
            sql.execute(
                "DELETE FROM media WHERE state != 'bound' AND expires <= ?1",
                values![seconds.saturating_sub(limits::REMEMBERED_SECONDS)],
            )?;
            let of_owner = "SELECT count(*) FROM media WHERE owner = ?1 AND expires > ?2
                            AND state = 'issued'";
            if count(sql, of_owner, values![&owner, seconds])? >= limits::MOST_WAITING {
                return Ok(Registered::Waiting);
            }
            let of_owner = "SELECT count(*) FROM media WHERE owner = ?1";
            if count(sql, of_owner, values![&owner])? >= limits::MOST_OF_OWNER {
                return Ok(Registered::Owner);
            }
            if count(sql, "SELECT count(*) FROM media", &[])? >= limits::MOST {
                return Ok(Registered::Full);
            }
            sql.execute(
                "INSERT INTO media (token, owner, granted, state, made, expires)
                 VALUES (?1, ?2, ?3, 'issued', ?4, ?5)",
                values![token, owner, json, now, expires],
            )?;
            Ok(Registered::Made)
        })
    }

    /// Binds a token to the node that shows it, or finds that it is; of two that come at once one
    /// alone has it. `now` in milliseconds since 1970.
    pub fn bind_medium(&self, claimed: &Claimed, mac: Mac, now: u64) -> Result<Bound, StoreError> {
        let (token, node) = (claimed.token.to_string(), claimed.node.to_string());
        let owner = claimed.owner().address();
        let machine = claimed.machine.to_string();
        let endorsement = serde_json::to_string(&claimed.ownership.endorsement)?;
        self.write(Part::Machines, |sql| {
            let select = "SELECT owner, state, expires, node, mac, machine, granted FROM media
                          WHERE token = ?1";
            let Some(row) = sql.first(select, values![&token])? else { return Ok(Bound::Unknown) };
            let granted: Granted = serde_json::from_str(&row.get::<String>(6)?)?;
            if granted.delegation != claimed.ownership.delegation
                || granted.grant.body.expires != claimed.expires
            {
                return Ok(Bound::Otherwise);
            }
            if row.get::<String>(1)? == REVOKED {
                return Ok(Bound::Revoked);
            }
            if let Some(had) = row.get::<Option<String>>(3)? {
                return Ok(if had != node {
                    let mac = row.get::<Option<String>>(4)?.unwrap_or_default();
                    had.parse().map_or(Bound::Revoked, |node| Bound::OtherNode { node, mac })
                } else if row.get::<Option<String>>(5)?.as_ref() != Some(&machine) {
                    Bound::OtherMachine
                } else {
                    Bound::Again
                });
            }
            if row.get::<u64>(2)? <= now / 1_000 {
                return Ok(Bound::Expired);
            }
            // A node that came by another medium: its owner made a new one for it.
            let before = "SELECT owner FROM media WHERE node = ?1";
            if let Some(row) = sql.first(before, values![&node])? {
                let other: String = row.get(0)?;
                if other != owner.to_string() {
                    return Ok(other.parse().map_or(Bound::Revoked, Bound::OtherOwner));
                }
                sql.execute(
                    "UPDATE media SET state = 'revoked', node = NULL WHERE node = ?1",
                    values![&node],
                )?;
            }
            sql.execute(
                "UPDATE media SET state = 'bound', node = ?2, machine = ?3, mac = ?4,
                     endorsement = ?5, bound_at = ?6
                 WHERE token = ?1",
                values![token, node, machine, mac.to_string(), endorsement, now],
            )?;
            Ok(Bound::First)
        })
    }

    /// By which medium a node came; none where by none.
    pub fn came_by(&self, node: &PublicKey) -> Result<Option<Came>, StoreError> {
        let select = "SELECT token, owner, machine, granted, endorsement FROM media
                      WHERE node = ?1 AND state = 'bound'";
        let siblings = "SELECT node FROM media WHERE owner = ?1 AND state = 'bound'";
        self.read(|sql| {
            let Some(row) = sql.first(select, values![node.to_string()])? else { return Ok(None) };
            let owner: String = row.get(1)?;
            let granted: Granted = serde_json::from_str(&row.get::<String>(3)?)?;
            let endorsement = serde_json::from_str(&row.get::<String>(4)?)?;
            let nodes = sql.query(siblings, values![&owner])?;
            let parsed = |row: &Row| Ok(row.get::<String>(0)?.parse().ok());
            let nodes: Vec<_> = nodes.iter().map(parsed).collect::<Result<_, StoreError>>()?;
            Ok(Some(Came {
                token: granted.grant.body.token,
                owner: granted.owner().address(),
                machine: read(&row, 2)?,
                ownership: Ownership { delegation: granted.delegation, endorsement },
                siblings: nodes.into_iter().flatten().collect(),
            }))
        })
    }

    /// How a token stands; `now` in milliseconds since 1970.
    pub fn medium(&self, token: &PublicKey, now: u64) -> Result<Option<TokenStatus>, StoreError> {
        let select = format!("SELECT {COLUMNS} FROM media WHERE token = ?1");
        let row = self.read(|sql| sql.first(&select, values![token.to_string()]))?;
        row.map(|row| status(&row, now)).transpose()
    }

    /// An owner's tokens, newest first.
    pub fn media_of(&self, owner: &Address, now: u64) -> Result<Vec<TokenStatus>, StoreError> {
        let select =
            format!("SELECT {COLUMNS} FROM media WHERE owner = ?1 ORDER BY made DESC, token");
        let rows = self.read(|sql| sql.query(&select, values![owner.to_string()]))?;
        rows.iter().map(|row| status(row, now)).collect()
    }

    /// How many there are.
    pub fn count_media(&self) -> Result<Count, StoreError> {
        let rows =
            self.read(|sql| sql.query("SELECT state, count(*) FROM media GROUP BY state", &[]))?;
        let mut all = Count::default();
        for row in rows {
            match row.get::<String>(0)?.as_str() {
                "bound" => all.bound = row.get(1)?,
                REVOKED => all.revoked = row.get(1)?,
                _ => all.issued = row.get(1)?,
            }
        }
        Ok(all)
    }

    /// Takes a token back, with the node that came of it.
    pub fn withdraw_medium(&self, token: &PublicKey, now: u64) -> Result<Withdrawn, StoreError> {
        let token = token.to_string();
        self.write(Part::Machines, |sql| {
            let select = "SELECT node, mac FROM media WHERE token = ?1";
            let Some(row) = sql.first(select, values![&token])? else {
                return Ok(Withdrawn::Unknown);
            };
            let node = row.get::<Option<String>>(0)?.and_then(|node| node.parse().ok());
            if let Some(node) = &node {
                let mac = row.get::<Option<String>>(1)?.unwrap_or_default();
                if !super::revoked::refuse(sql, node, &mac, now)? {
                    return Ok(Withdrawn::Full);
                }
            }
            let update = "UPDATE media SET state = 'revoked' WHERE token = ?1";
            sql.execute(update, values![token])?;
            Ok(Withdrawn::Done(node))
        })
    }
}

const REVOKED: &str = "revoked";

fn count(
    sql: &mut dyn Sql,
    question: &str,
    values: &[super::sql::Value],
) -> Result<u64, StoreError> {
    sql.first(question, values)?.map_or(Ok(0), |row| row.get(0))
}

/// What stands as text, of its kind.
fn read<T: std::str::FromStr>(row: &Row, column: usize) -> Result<T, StoreError> {
    let value: String = row.get(column)?;
    value.parse().map_err(|_| StoreError::Column { column, value })
}

fn status(row: &Row, now: u64) -> Result<TokenStatus, StoreError> {
    let expires = row.get(4)?;
    let state = match row.get::<String>(2)?.as_str() {
        REVOKED => TokenState::Revoked,
        "bound" => TokenState::Bound,
        _ if expires <= now / 1_000 => TokenState::Expired,
        _ => TokenState::Issued,
    };
    Ok(TokenStatus {
        token: read(row, 0)?,
        owner: read(row, 1)?,
        state,
        made: row.get(3)?,
        expires,
        node: row.get::<Option<String>>(5)?.and_then(|node| node.parse().ok()),
        mac: row.get(6)?,
        bound_at: row.get(7)?,
    })
}

#[cfg(test)]
#[path = "media/tests.rs"]
mod tests;
