//! A fork of the state: what was written stands over a base that is never touched.

use super::{StoreError, broken};
use borsh::{BorshDeserialize, BorshSerialize};
use job::terms::Terms;
use protocol::{
    job::JobId,
    key::PublicKey,
    receipt::ReceiptId,
    state::{JobRecord, ShapesRecord, StateKey},
};
use std::{collections::BTreeMap, sync::Arc};

/// What a fork stands on: the committed state, or another fork.
pub trait Base {
    /// A record's bytes.
    fn read(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError>;
    /// A job's terms, derived from its specification and shapes; many receipts ask for the same
    /// ones. None where there is no such job.
    fn terms(&self, job: &JobId) -> Result<Option<Arc<Terms>>, StoreError>;
}

/// A line of a listing: derived from the records, never proven, kept so that people can page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The n-th node.
    Node(u64, PublicKey),
    /// The n-th job.
    Job(u64, JobId),
    /// A job's n-th receipt.
    Receipt(JobId, u64, ReceiptId),
}

/// What a fork wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Records by key; each takes the place of what the base has.
    pub records: BTreeMap<StateKey, Vec<u8>>,
    /// New lines of listings.
    pub listings: Vec<Listing>,
}

/// A fork of the state.
pub struct Fork<'a> {
    base: &'a dyn Base,
    writes: Writes,
}

impl<'a> Fork<'a> {
    /// A fork in which nothing is written yet.
    pub fn on(base: &'a dyn Base) -> Self {
        Self { base, writes: Writes::default() }
    }

    /// A fork with writes made earlier.
    pub fn with(base: &'a dyn Base, writes: Writes) -> Self {
        Self { base, writes }
    }

    /// A record.
    pub fn get<T: BorshDeserialize>(&self, key: &StateKey) -> Result<Option<T>, StoreError> {
        self.read(key)?.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// Writes a record.
    pub fn put<T: BorshSerialize>(&mut self, key: StateKey, record: &T) -> Result<(), StoreError> {
        let bytes = borsh::to_vec(record).map_err(|error| broken(&key, &error))?;
        self.writes.records.insert(key, bytes);
        Ok(())
    }

    /// Adds a line to a listing.
    pub fn list(&mut self, listing: Listing) {
        self.writes.listings.push(listing);
    }

    /// What was written here.
    pub fn into_writes(self) -> Writes {
        self.writes
    }

    /// Takes over what a fork of this one wrote.
    pub fn merge(&mut self, writes: Writes) {
        self.writes.records.extend(writes.records);
        self.writes.listings.extend(writes.listings);
    }
}

impl Base for Fork<'_> {
    fn read(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self.writes.records.get(key) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.base.read(key),
        }
    }

    fn terms(&self, job: &JobId) -> Result<Option<Arc<Terms>>, StoreError> {
        if self.writes.records.contains_key(&StateKey::Shapes(*job)) {
            derive_terms(self, job)
        } else {
            self.base.terms(job)
        }
    }
}

/// Reads a job's terms from its records.
pub(super) fn derive_terms(base: &dyn Base, job: &JobId) -> Result<Option<Arc<Terms>>, StoreError> {
    let key = StateKey::Job(*job);
    let Some(bytes) = base.read(&key)? else { return Ok(None) };
    let record: JobRecord = decode(&key, &bytes)?;
    let broken = |wrong: String| StoreError::Broken { at: StateKey::Shapes(*job).path(), wrong };
    let key = StateKey::Shapes(*job);
    let bytes = base.read(&key)?.ok_or_else(|| broken("a job without shapes".into()))?;
    let shapes: ShapesRecord = decode(&key, &bytes)?;
    // The same call let the job in.
    let terms = Terms::new(&record.spec, shapes).map_err(|error| broken(error.to_string()))?;
    Ok(Some(Arc::new(terms)))
}

/// A record from bytes that we wrote ourselves.
pub(crate) fn decode<T: BorshDeserialize>(key: &StateKey, bytes: &[u8]) -> Result<T, StoreError> {
    T::try_from_slice(bytes).map_err(|error| broken(key, &error))
}
