//! The database: one file, one atomic fsynced write a block.
//!
//! Height, app hash, tree and listings are written together in Commit, so a crash at any moment
//! leaves either the state before a block or the state after it.

use super::{
    Committed, StoreError, Writes,
    committed::TermsCache,
    fork::Listing,
    tree::{TreeChange, place},
};
use borsh::{BorshDeserialize, BorshSerialize};
use protocol::signed::ChainId;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use std::{
    fs, mem,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

/// How many of the newest heights can be proven. A proof of height h is asked for as soon as
/// block h + 1 is there; a thousand blocks leave a slow client minutes.
pub const RETAINED_HEIGHTS: u64 = 1_000;

/// The layout of the tables; another one is refused, not guessed at.
const FORMAT: u32 = 1;
/// Pages of the database kept in memory.
const CACHE_BYTES: usize = 128 << 20;
/// Rows that a commit prunes however little its block made stale; beyond these it prunes twice
/// what the block made stale, so that pruning keeps up and a commit's work stays bounded by its
/// block's.
const LEAST_PRUNED: usize = 1_000;

pub(super) const NODES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("nodes");
/// Place and big-endian version, so that a place's values stand in the order of versions.
pub(super) const VALUES: TableDefinition<&[u8; 40], &[u8]> = TableDefinition::new("values");
pub(super) const PATHS: TableDefinition<&[u8; 32], &str> = TableDefinition::new("paths");
/// Height to tree version and app hash.
pub(super) const HEIGHTS: TableDefinition<u64, (u64, &[u8; 32])> = TableDefinition::new("heights");
/// Kind, job where there is one, and big-endian sequence, to an id.
pub(super) const LISTINGS: TableDefinition<&[u8], &[u8; 32]> = TableDefinition::new("listings");
const STALE_NODES: TableDefinition<(u64, &[u8]), ()> = TableDefinition::new("stale nodes");
const STALE_VALUES: TableDefinition<(u64, &[u8; 40]), ()> = TableDefinition::new("stale values");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The newest commit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// The chain.
    pub chain: ChainId,
    /// Its height.
    pub height: u64,
    /// The tree's root.
    pub app_hash: [u8; 32],
    /// The tree's version.
    pub version: u64,
}

/// The database.
pub struct Store {
    /// None once closed.
    database: RwLock<Option<Database>>,
    terms: Arc<TermsCache>,
}

pub(super) fn value_key(place: &[u8; 32], version: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(place);
    key[32..].copy_from_slice(&version.to_be_bytes());
    key
}

/// A listing's prefix in the table.
pub(crate) fn listing_prefix(job: Option<&protocol::JobId>, kind: u8) -> Vec<u8> {
    let mut prefix = vec![kind];
    prefix.extend(job.map(|job| job.0.0).into_iter().flatten());
    prefix
}

fn listing_row(listing: &Listing) -> (Vec<u8>, [u8; 32]) {
    let (mut key, sequence, id) = match listing {
        Listing::Node(sequence, key) => (listing_prefix(None, b'n'), sequence, key.0),
        Listing::Job(sequence, job) => (listing_prefix(None, b'j'), sequence, job.0.0),
        Listing::Receipt(job, sequence, id) => (listing_prefix(Some(job), b'r'), sequence, id.0.0),
    };
    key.extend(sequence.to_be_bytes());
    (key, id)
}

impl Store {
    /// Opens the database in `home`, or makes it.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        let directory = |source| StoreError::Directory { path: home.display().to_string(), source };
        fs::create_dir_all(home).map_err(directory)?;
        let path = home.join("state.redb");
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|source| {
                let mend = match &source {
                    DatabaseError::DatabaseAlreadyOpen => "another abci-app runs on it: stop it",
                    _ => {
                        "see that the disk has room and is whole; a damaged database is removed \
                          and rebuilt by replaying the chain"
                    }
                };
                StoreError::Open { path: path.display().to_string(), source: source.into(), mend }
            })?;
        let write = durable(&database)?;
        {
            let mut meta = write.open_table(META)?;
            let found = meta.get("format")?.map(|row| row.value().to_vec());
            match found {
                None => {
                    meta.insert("format", FORMAT.to_be_bytes().as_slice())?;
                }
                Some(bytes) if bytes == FORMAT.to_be_bytes() => {}
                Some(bytes) => {
                    return Err(StoreError::Broken {
                        at: path.display().to_string(),
                        wrong: format!("its format is {bytes:02x?}, ours is {FORMAT}"),
                    });
                }
            }
            write.open_table(NODES)?;
            write.open_table(VALUES)?;
            write.open_table(PATHS)?;
            write.open_table(HEIGHTS)?;
            write.open_table(LISTINGS)?;
            write.open_table(STALE_NODES)?;
            write.open_table(STALE_VALUES)?;
        }
        write.commit()?;
        Ok(Self { database: RwLock::new(Some(database)), terms: Arc::default() })
    }

    /// A snapshot of the newest commit.
    pub fn committed(&self) -> Result<Committed, StoreError> {
        let read = self.read()?;
        let head = match read.open_table(META)?.get("head")? {
            None => None,
            Some(row) => Some(Head::try_from_slice(row.value()).map_err(|error| {
                StoreError::Broken { at: "head".into(), wrong: error.to_string() }
            })?),
        };
        Committed::open(&read, head, self.terms.clone())
    }

    /// Writes a block: its records, what they do to the tree, and the new head, at once or not at
    /// all. When it returns, they are on the disk.
    pub fn commit(
        &self,
        head: &Head,
        writes: &Writes,
        change: &TreeChange,
    ) -> Result<(), StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let write = durable(database.as_ref().ok_or_else(closed)?)?;
        let stale = write_values(&write, writes, change.version)? + write_nodes(&write, change)?;
        {
            let mut listings = write.open_table(LISTINGS)?;
            for listing in &writes.listings {
                let (key, id) = listing_row(listing);
                listings.insert(key.as_slice(), &id)?;
            }
            write.open_table(HEIGHTS)?.insert(head.height, (head.version, &head.app_hash))?;
            let bytes = borsh::to_vec(head).map_err(|error| StoreError::Broken {
                at: "head".into(),
                wrong: error.to_string(),
            })?;
            write.open_table(META)?.insert("head", bytes.as_slice())?;
        }
        prune(&write, head.height, LEAST_PRUNED + 2 * stale)?;
        write.commit()?;
        Ok(())
    }

    fn read(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Ok(database.as_ref().ok_or_else(closed)?.begin_read()?)
    }

    /// Closes the database after what is being written, for good: whoever asks later waits for
    /// ever. The file is marked as closed in order, so that opening it needs no repair.
    pub fn close(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        mem::forget(database);
    }

    /// How many rows the tables hold, for measurements and tests: nodes, values, heights.
    pub fn rows(&self) -> Result<(u64, u64, u64), StoreError> {
        let read = self.read()?;
        Ok((
            read.open_table(NODES)?.len()?,
            read.open_table(VALUES)?.len()?,
            read.open_table(HEIGHTS)?.len()?,
        ))
    }
}

fn closed() -> StoreError {
    StoreError::Tree("the database is closed".into())
}

fn durable(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    Ok(write)
}

/// Writes records; gives how many older ones they make stale.
fn write_values(
    write: &WriteTransaction,
    writes: &Writes,
    version: u64,
) -> Result<usize, StoreError> {
    let mut values = write.open_table(VALUES)?;
    let mut paths = write.open_table(PATHS)?;
    let mut stale = write.open_table(STALE_VALUES)?;
    let mut made_stale = 0;
    for (key, bytes) in &writes.records {
        let path = key.path();
        let place = place(&path).0;
        let before = {
            let (first, next) = (value_key(&place, 0), value_key(&place, version));
            let mut rows = values.range::<&[u8; 40]>(&first..&next)?;
            rows.next_back().transpose()?.map(|(key, _)| *key.value())
        };
        match before {
            Some(before) => {
                stale.insert((version, &before), ())?;
                made_stale += 1;
            }
            None => {
                paths.insert(&place, path.as_str())?;
            }
        }
        values.insert(&value_key(&place, version), bytes.as_slice())?;
    }
    Ok(made_stale)
}

/// Writes the tree's new nodes; gives how many older ones they make stale.
fn write_nodes(write: &WriteTransaction, change: &TreeChange) -> Result<usize, StoreError> {
    let bytes_of = |key: &jmt::storage::NodeKey| {
        borsh::to_vec(key).map_err(|error| StoreError::Tree(error.to_string()))
    };
    let mut nodes = write.open_table(NODES)?;
    for (key, node) in change.batch.node_batch.nodes() {
        let node = borsh::to_vec(node).map_err(|error| StoreError::Tree(error.to_string()))?;
        nodes.insert(bytes_of(key)?.as_slice(), node.as_slice())?;
    }
    let mut stale = write.open_table(STALE_NODES)?;
    for index in &change.batch.stale_node_index_batch {
        let key = bytes_of(&index.node_key)?;
        stale.insert((index.stale_since_version, key.as_slice()), ())?;
    }
    Ok(change.batch.stale_node_index_batch.len())
}

/// Forgets heights older than the newest [`RETAINED_HEIGHTS`], then up to `budget` nodes and as
/// many values that no kept height needs.
fn prune(write: &WriteTransaction, height: u64, budget: usize) -> Result<(), StoreError> {
    let oldest = {
        let mut heights = write.open_table(HEIGHTS)?;
        let first_kept = (height + 1).saturating_sub(RETAINED_HEIGHTS);
        // One height comes with each commit, so two going catch up with any backlog.
        for _ in 0..2 {
            let first = heights.first()?.map(|(height, _)| height.value());
            match first {
                Some(first) if first < first_kept => heights.remove(first)?,
                _ => break,
            };
        }
        heights.first()?.map_or(0, |(_, row)| row.value().0)
    };
    let mut stale_nodes = write.open_table(STALE_NODES)?;
    let mut nodes = write.open_table(NODES)?;
    for _ in 0..budget {
        let first = stale_nodes.first()?.map(|(row, _)| (row.value().0, row.value().1.to_vec()));
        match first {
            // Stale since a version that is kept, or before: no kept version holds it.
            Some((since, key)) if since <= oldest => {
                nodes.remove(key.as_slice())?;
                stale_nodes.remove((since, key.as_slice()))?;
            }
            _ => break,
        }
    }
    let mut stale_values = write.open_table(STALE_VALUES)?;
    let mut values = write.open_table(VALUES)?;
    for _ in 0..budget {
        let first = stale_values.first()?.map(|(row, _)| (row.value().0, *row.value().1));
        match first {
            Some((since, key)) if since <= oldest => {
                values.remove(&key)?;
                stale_values.remove((since, &key))?;
            }
            _ => break,
        }
    }
    Ok(())
}
