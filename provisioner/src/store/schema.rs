//! The tables, and how an older file becomes a newer one.

use super::StoreError;
use rusqlite::Connection;

/// One entry a schema version, applied in order; an entry once released never changes.
const UPGRADES: &[&str] = &[
    "
CREATE TABLE machines (
    mac         TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    uuid        TEXT,
    serial      TEXT,
    firmware    TEXT,
    boot_mode   TEXT,
    address     TEXT,
    first_seen  INTEGER NOT NULL,   -- milliseconds since 1970, as all times but a lease's
    last_seen   INTEGER NOT NULL,
    problem     TEXT,
    progress    TEXT,               -- JSON, progress::Progress
    node        TEXT UNIQUE,        -- the rest by enrolment
    boot_id     TEXT,
    release     TEXT,
    inventory   TEXT,               -- JSON, protocol::inventory::Inventory
    node_seen   INTEGER
) STRICT;
CREATE INDEX machines_uuid ON machines (uuid);
CREATE INDEX machines_last_seen ON machines (last_seen);

CREATE TABLE leases (
    address     INTEGER PRIMARY KEY,
    mac         TEXT UNIQUE,        -- none: declined
    expires     INTEGER NOT NULL    -- seconds since 1970
) STRICT;
CREATE INDEX leases_expires ON leases (expires);

CREATE TABLE events (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    at          INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    text        TEXT NOT NULL
) STRICT;
CREATE INDEX events_mac ON events (mac, id);

-- Which of a machine's own reports are in: each counts once.
CREATE TABLE reports (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    boot_id     TEXT NOT NULL,
    sequence    INTEGER NOT NULL,
    UNIQUE (mac, boot_id, sequence)
) STRICT;
CREATE INDEX reports_mac ON reports (mac, id);

CREATE TABLE images (
    digest      TEXT PRIMARY KEY,
    manifest    TEXT NOT NULL,      -- JSON, protocol::boot::ImageManifest
    served_from INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE machines ADD COLUMN held TEXT;        -- protocol::evidence::Held, of node
ALTER TABLE machines ADD COLUMN chip TEXT;        -- the TPM's id, where its quote was checked
ALTER TABLE machines ADD COLUMN resets INTEGER;   -- the TPM's count of them
ALTER TABLE machines ADD COLUMN evidence TEXT;    -- the digest of what was checked
ALTER TABLE machines ADD COLUMN pending TEXT;     -- a node key that waits for approval
ALTER TABLE machines ADD COLUMN approved TEXT;    -- a node key that may take the machine's place
CREATE INDEX machines_chip ON machines (chip);
",
    "
-- What kernels kept of their own deaths.
CREATE TABLE crashes (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    at          INTEGER NOT NULL,
    digest      TEXT NOT NULL,      -- of the text: reported twice it counts once
    reason      TEXT NOT NULL,
    text        TEXT NOT NULL,
    UNIQUE (mac, digest)
) STRICT;

-- Boots in a row that did not come to stand.
CREATE TABLE attempts (
    mac         TEXT PRIMARY KEY,
    image       TEXT NOT NULL,
    count       INTEGER NOT NULL,
    at          INTEGER NOT NULL,   -- of the last one
    boot_id     TEXT                -- of the last one, where the machine itself told of it
) STRICT;
",
    "
CREATE TABLE leases6 (
    address     TEXT PRIMARY KEY,   -- 32 hexadecimal digits
    duid        TEXT,               -- hexadecimal; none: declined
    iaid        INTEGER,            -- 32 bits without a sign
    mac         TEXT,
    expires     INTEGER NOT NULL,   -- seconds since 1970
    UNIQUE (duid, iaid)
) STRICT;
CREATE INDEX leases6_mac ON leases6 (mac, expires);
CREATE INDEX leases6_expires ON leases6 (expires);
",
];

/// Brings the database to the newest schema; all or nothing.
pub(super) fn upgrade(connection: &mut Connection) -> Result<(), StoreError> {
    let known = UPGRADES.len() as i64;
    let transaction = connection.transaction()?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for upgrade in UPGRADES.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(upgrade)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_programs_database_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = upgrade(&mut connection).unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }

    #[test]
    fn upgrading_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        upgrade(&mut connection).unwrap();
        upgrade(&mut connection).unwrap();
    }
}
