//! The committed state as one consistent snapshot.

use super::{
    StoreError,
    fork::{Base, derive_terms},
    store::{HEIGHTS, Head, LISTINGS, NODES, PATHS, VALUES, value_key},
    tree::{self, TreeChange},
};
use job::terms::Terms;
use protocol::{job::JobId, state::StateKey};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Terms that are kept: a ledger sees few jobs at a time, and the terms of the longest one with
/// every epoch's order take 40 MB.
const CACHED_JOBS: usize = 16;

/// Terms by job. A committed job's terms never change, so an entry is never stale.
#[derive(Debug, Default)]
pub(super) struct TermsCache(Mutex<BTreeMap<JobId, Arc<Terms>>>);

/// A snapshot of the committed state. Holding one keeps the database from reusing its pages, so
/// none is held for longer than a block.
pub struct Committed {
    head: Option<Head>,
    nodes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    values: ReadOnlyTable<&'static [u8; 40], &'static [u8]>,
    paths: ReadOnlyTable<&'static [u8; 32], &'static str>,
    heights: ReadOnlyTable<u64, (u64, &'static [u8; 32])>,
    listings: ReadOnlyTable<&'static [u8], &'static [u8; 32]>,
    terms: Arc<TermsCache>,
}

impl Committed {
    pub(super) fn open(
        read: &ReadTransaction,
        head: Option<Head>,
        terms: Arc<TermsCache>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            head,
            nodes: read.open_table(NODES)?,
            values: read.open_table(VALUES)?,
            paths: read.open_table(PATHS)?,
            heights: read.open_table(HEIGHTS)?,
            listings: read.open_table(LISTINGS)?,
            terms,
        })
    }

    /// The newest commit; none before the first.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// What writing these records over this state does to the tree.
    pub fn change(&self, records: &BTreeMap<StateKey, Vec<u8>>) -> Result<TreeChange, StoreError> {
        tree::change(self, records)
    }

    /// A record at a kept height, with its ICS-23 proof of membership or absence.
    pub fn prove(
        &self,
        path: &str,
        height: u64,
    ) -> Result<(Option<Vec<u8>>, ics23::CommitmentProof), StoreError> {
        tree::prove(self, path, self.version_at(height)?)
    }

    /// A record at a kept height.
    pub fn read_at(&self, path: &str, height: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.value_at(&tree::place(path).0, self.version_at(height)?)
    }

    fn version_at(&self, height: u64) -> Result<u64, StoreError> {
        match self.heights.get(height)? {
            Some(row) => Ok(row.value().0),
            None => Err(StoreError::NotKept {
                asked: height,
                first: self.heights.first()?.map_or(0, |(height, _)| height.value()),
                last: self.heights.last()?.map_or(0, |(height, _)| height.value()),
            }),
        }
    }

    /// A page of a listing: `(sequence, id)` from sequence `from` on, `limit` at most.
    pub fn page(
        &self,
        listing: &[u8],
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, [u8; 32])>, StoreError> {
        let bound = |sequence: u64| [listing, &sequence.to_be_bytes()].concat();
        let (first, last) = (bound(from), bound(u64::MAX));
        let rows = self.listings.range(first.as_slice()..=last.as_slice())?;
        rows.take(limit)
            .enumerate()
            .map(|(turn, row)| Ok((from + turn as u64, *row?.1.value())))
            .collect()
    }

    pub(super) fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.nodes.get(key)?.map(|row| row.value().to_vec()))
    }

    /// The newest value of a place that is not newer than version `most`.
    pub(super) fn value_at(
        &self,
        place: &[u8; 32],
        most: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (first, last) = (value_key(place, 0), value_key(place, most));
        let mut rows = self.values.range::<&[u8; 40]>(&first..=&last)?;
        match rows.next_back() {
            None => Ok(None),
            Some(row) => Ok(Some(row?.1.value().to_vec())),
        }
    }

    pub(super) fn path_of(&self, place: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.paths.get(place)?.map(|row| row.value().as_bytes().to_vec()))
    }
}

impl Base for Committed {
    fn read(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.value_at(&tree::place(&key.path()).0, u64::MAX)
    }

    fn terms(&self, job: &JobId) -> Result<Option<Arc<Terms>>, StoreError> {
        let lock = || self.terms.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(terms) = lock().get(job) {
            return Ok(Some(terms.clone()));
        }
        let Some(terms) = derive_terms(self, job)? else { return Ok(None) };
        let mut cache = lock();
        if cache.len() >= CACHED_JOBS {
            cache.clear();
        }
        cache.insert(*job, terms.clone());
        Ok(Some(terms))
    }
}
