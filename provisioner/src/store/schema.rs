//! The tables, and how an older file becomes a newer one.

use super::{
    StoreError,
    sql::{Part, Postgres, values},
};
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
-- The life of a machine (life.rs). What was taken in before is held to stand.
ALTER TABLE machines ADD COLUMN state TEXT NOT NULL DEFAULT 'discovered';
ALTER TABLE machines ADD COLUMN state_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE machines ADD COLUMN deadline INTEGER; -- of what the state waits for; none: it does not
UPDATE machines SET state_since = last_seen;
UPDATE machines SET state = 'ready' WHERE node IS NOT NULL;
CREATE INDEX machines_deadline ON machines (deadline);

CREATE TABLE transitions (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    at          INTEGER NOT NULL,
    from_state  TEXT NOT NULL,
    to_state    TEXT NOT NULL,
    cause       TEXT NOT NULL,
    actor       TEXT NOT NULL
) STRICT;
CREATE INDEX transitions_mac ON transitions (mac, id);
",
    "
CREATE TABLE operators (
    name        TEXT PRIMARY KEY,
    digest      TEXT NOT NULL UNIQUE,   -- of the token (access.rs)
    made        INTEGER NOT NULL
) STRICT;
",
    "
-- Node keys that are taken in no more, until they are approved anew.
CREATE TABLE revoked (
    node        TEXT PRIMARY KEY,
    mac         TEXT NOT NULL,      -- whose it was then
    at          INTEGER NOT NULL
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
    "
-- What was answered to requests that may come twice.
CREATE TABLE answers (
    operator    TEXT NOT NULL,
    key         TEXT NOT NULL,      -- of the operator's choice
    request     TEXT NOT NULL,      -- its digest
    at          INTEGER NOT NULL,
    status      INTEGER,            -- none: it is being worked on
    body        TEXT,
    PRIMARY KEY (operator, key)
) STRICT;

-- Browsers in which an operator signed in.
CREATE TABLE sessions (
    digest      TEXT PRIMARY KEY,   -- of the cookie
    operator    TEXT NOT NULL,
    began       INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_began ON sessions (began);
",
    "
-- Machines' configuration (groups/): each revision whole.
CREATE TABLE revisions (
    revision    INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    why         TEXT NOT NULL,
    document    TEXT NOT NULL,      -- JSON, groups::Document
    bytes       INTEGER NOT NULL    -- of document
) STRICT;

-- Names that the newest revision gives to machines.
CREATE TABLE machine_names (
    mac         TEXT PRIMARY KEY,
    name        TEXT NOT NULL
) STRICT;

-- Where rules of enrolment put machines.
CREATE TABLE placed (
    mac         TEXT PRIMARY KEY,
    rule        TEXT NOT NULL,
    home        TEXT,               -- a group
    labels      TEXT NOT NULL,      -- JSON
    at          INTEGER NOT NULL
) STRICT;
CREATE INDEX placed_rule ON placed (rule);

-- How often rules put machines somewhere; what documents are checked against (groups::Site).
CREATE TABLE configuration_state (
    name        TEXT PRIMARY KEY,
    text        TEXT NOT NULL,
    number      INTEGER NOT NULL
) STRICT;

-- What machines are made of (hardware.rs): approved, waiting for approval, approved and not come yet.
ALTER TABLE machines ADD COLUMN hardware TEXT;
ALTER TABLE machines ADD COLUMN pending_hardware TEXT;
ALTER TABLE machines ADD COLUMN approved_hardware TEXT;

-- Boots that machines were taken in with: what asks again for an old one is a recording.
CREATE TABLE boots (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    boot_id     TEXT NOT NULL,
    UNIQUE (mac, boot_id)
) STRICT;
CREATE INDEX boots_mac ON boots (mac, id);
",
    "
-- Tokens of miners' media (miners/).
CREATE TABLE media (
    token       TEXT PRIMARY KEY,   -- a public key
    owner       TEXT NOT NULL,      -- an address
    granted     TEXT NOT NULL,      -- JSON, protocol::medium::Granted
    state       TEXT NOT NULL,      -- issued, bound or revoked; expired follows from the clock
    made        INTEGER NOT NULL,
    expires     INTEGER NOT NULL,   -- seconds since 1970
    node        TEXT UNIQUE,        -- the rest by its first use
    machine     TEXT,               -- digest, protocol::medium::machine_facts
    mac         TEXT,
    endorsement TEXT,               -- JSON, by the token
    bound_at    INTEGER
) STRICT;
CREATE INDEX media_owner ON media (owner, made);
",
    "
-- Machines' consoles (console.rs).
CREATE TABLE console (
    id          INTEGER PRIMARY KEY,
    mac         TEXT NOT NULL,
    boot_id     TEXT NOT NULL,
    source      TEXT NOT NULL,      -- kernel or init
    sequence    INTEGER NOT NULL,   -- among that boot's lines of that source
    at_ms       INTEGER NOT NULL,   -- since the kernel started
    received    INTEGER NOT NULL,
    level       INTEGER,
    missing     INTEGER NOT NULL,   -- lines before it that never came
    text        TEXT NOT NULL
) STRICT;
CREATE INDEX console_mac ON console (mac, id);

-- How far they are known, and how much of them is kept.
CREATE TABLE console_heads (
    mac         TEXT PRIMARY KEY,
    boot_id     TEXT NOT NULL,
    kernel      INTEGER NOT NULL,   -- the number of the next line
    init        INTEGER NOT NULL,
    window_began INTEGER NOT NULL,  -- of the minute that is counted
    taken       INTEGER NOT NULL,   -- lines in it
    refused     INTEGER NOT NULL,   -- lines that came too fast, not told yet
    kept        INTEGER NOT NULL,   -- lines
    bytes       INTEGER NOT NULL,   -- of their texts
    gone        INTEGER NOT NULL    -- lines that made room
) STRICT;

-- What machines' sensors said last.
ALTER TABLE machines ADD COLUMN readings TEXT;    -- JSON, protocol::certificate::Readings
ALTER TABLE machines ADD COLUMN readings_at INTEGER;
ALTER TABLE machines ADD COLUMN milliwatts INTEGER;
",
    "
-- What anybody could have caused has bounds of its own.
ALTER TABLE events ADD COLUMN weak INTEGER NOT NULL DEFAULT 0;
DROP INDEX events_mac;
CREATE INDEX events_mac ON events (mac, weak, id);
ALTER TABLE machines ADD COLUMN event_bytes INTEGER NOT NULL DEFAULT 0; -- at most: see store/events.rs
ALTER TABLE machines ADD COLUMN weak_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE crashes ADD COLUMN source TEXT;       -- whence it came, where nothing proved whose it is
CREATE INDEX crashes_source ON crashes (source, id);
CREATE INDEX machines_state ON machines (state, last_seen);
",
];

/// Brings a file to the newest schema; all or nothing.
pub(super) fn upgrade_file(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for upgrade in missing(found)? {
        transaction.execute_batch(upgrade)?;
    }
    transaction.pragma_update(None, "user_version", KNOWN)?;
    Ok(transaction.commit()?)
}

/// Brings a server's database to the newest schema; all or nothing, and by one front-end.
pub(super) fn upgrade_server(server: &Postgres) -> Result<(), StoreError> {
    let table = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
    server.write(Part::Schema, |sql| {
        sql.execute(table, &[])?;
        let found = sql.first("SELECT max(version) FROM schema_version", &[])?;
        let found = found.map(|row| row.get::<Option<i64>>(0)).transpose()?.flatten().unwrap_or(0);
        for upgrade in missing(found)? {
            for statement in statements(upgrade) {
                sql.execute(&statement, &[])?;
            }
        }
        if found < KNOWN {
            sql.execute("INSERT INTO schema_version (version) VALUES (?1)", values![KNOWN])?;
        }
        Ok(())
    })
}

pub(super) const KNOWN: i64 = UPGRADES.len() as i64;

fn missing(found: i64) -> Result<impl Iterator<Item = &'static str>, StoreError> {
    if found > KNOWN {
        return Err(StoreError::TooNew { found, known: KNOWN });
    }
    Ok(UPGRADES.iter().skip(usize::try_from(found).unwrap_or(0)).copied())
}

/// An upgrade in PostgreSQL's words, statement by statement.
fn statements(upgrade: &str) -> Vec<String> {
    let without_comments = |line: &str| line.split("--").next().unwrap_or_default().to_owned();
    let text: String = upgrade.lines().map(|line| without_comments(line) + "\n").collect();
    let text = text
        .replace("INTEGER PRIMARY KEY", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
        .replace("INTEGER", "BIGINT")
        .replace(") STRICT", ")");
    let statements = text.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements.map(str::to_owned).collect()
}

/// The text of an upgrade.
#[cfg(test)]
pub(super) fn upgrade_text(version: i64) -> &'static str {
    UPGRADES[usize::try_from(version - 1).unwrap()]
}

/// Makes a database of that version, with rows after each upgrade.
#[cfg(test)]
pub(super) fn at_version(
    place: &super::Place,
    version: i64,
    rows: impl Fn(i64) -> Option<String>,
) -> Result<(), StoreError> {
    let steps = (1..=version).map(|step| (upgrade_text(step), rows(step).unwrap_or_default()));
    match place {
        super::Place::File(path) => {
            let connection = Connection::open(path)?;
            for (upgrade, rows) in steps {
                connection.execute_batch(upgrade)?;
                connection.execute_batch(&rows)?;
            }
            Ok(connection.pragma_update(None, "user_version", version)?)
        }
        super::Place::Server { server, authority } => {
            let server = Postgres::open((**server).clone(), authority.as_deref())?;
            server.write(Part::Schema, |sql| {
                sql.execute("CREATE TABLE schema_version (version BIGINT NOT NULL)", &[])?;
                sql.execute("INSERT INTO schema_version (version) VALUES (?1)", values![version])?;
                for (upgrade, rows) in steps {
                    for statement in statements(upgrade) {
                        sql.execute(&statement, &[])?;
                    }
                    for row in rows.split(";\n").filter(|row| !row.trim().is_empty()) {
                        sql.execute(row, &[])?;
                    }
                }
                Ok(())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_programs_database_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = upgrade_file(&mut connection).unwrap_err().to_string();
        assert!(error.contains("newer version"), "{error}");
    }

    #[test]
    fn upgrading_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        upgrade_file(&mut connection).unwrap();
        upgrade_file(&mut connection).unwrap();
    }
}
