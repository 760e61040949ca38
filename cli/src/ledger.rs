//! The ledger as it can be proven, from the home's trust root on.

use crate::{
    error::Error,
    home::{Home, Trust},
};
use ledger_client::{
    Client,
    verify::{BlockRef, Proven, ProvenReceipt, Prover, TrustRoot, VerifyError},
};
use protocol::{
    BatchId, JobId, ReceiptId,
    state::{BatchRecord, ReceiptRecord, ShapesRecord, StateKey},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two attempts at what is not proven yet.
const AGAIN: Duration = Duration::from_millis(500);

/// A prover that starts from what the home believes, and keeps the newest header it proved.
#[derive(Debug)]
pub struct Ledger {
    prover: Prover,
    /// Where the newest header is kept, with what was pinned at first.
    home: Option<(Home, TrustRoot)>,
}

/// The receipts of one batch, proven.
#[derive(Clone, Debug)]
pub struct ProvenBatch {
    /// Confirmed receipts, that of the first confirmed attempt first.
    pub confirmed: Vec<(ReceiptId, ReceiptRecord)>,
    /// The block whose header proves the last of them.
    pub block: BlockRef,
}

impl Ledger {
    /// Opens the ledger from a home's trust root: the pinned header, or where its trusting period
    /// is over the newest one that was proven from it.
    ///
    /// # Errors
    /// Where no server answers, one lies, or neither header can be believed any more.
    pub async fn open(home: &Home) -> Result<Self, Error> {
        let Trust { pinned, newest } = home.trust()?;
        let client = home.client()?;
        let prover = match Self::start(client.clone(), pinned.clone()).await {
            Err(VerifyError::Expired { .. }) if newest.height > pinned.height => {
                Self::start(client, newest).await?
            }
            other => other?,
        };
        let ledger = Self { prover, home: Some((home.clone(), pinned)) };
        ledger.keep()?;
        Ok(ledger)
    }

    /// Opens the ledger from a trust root of the caller's, which keeps nothing.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn from_root(client: Client, root: TrustRoot) -> Result<Self, VerifyError> {
        Ok(Self { prover: Self::start(client, root).await?, home: None })
    }

    /// A prover that has followed the chain to its end once.
    async fn start(client: Client, root: TrustRoot) -> Result<Prover, VerifyError> {
        let mut prover = Prover::new(client, root).await?;
        match prover.prove(&StateKey::Chain).await {
            // Proven, or so young a chain that nothing is yet.
            Ok(_) | Err(VerifyError::TooYoung(_)) => Ok(prover),
            Err(error) => Err(error),
        }
    }

    /// Keeps the newest header that was proven.
    fn keep(&self) -> Result<(), Error> {
        if let Some((home, pinned)) = &self.home {
            let newest = self.prover.trust_root();
            home.save_trust(&Trust { pinned: pinned.clone(), newest })?;
        }
        Ok(())
    }

    /// The header that everything here is proven from.
    pub fn pinned(&self) -> TrustRoot {
        match &self.home {
            Some((_, pinned)) => pinned.clone(),
            None => self.prover.trust_root(),
        }
    }

    /// Proves a record, or that there is none.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn record<T: borsh::BorshDeserialize>(
        &mut self,
        key: &StateKey,
    ) -> Result<Proven<T>, VerifyError> {
        self.prover.record(key).await
    }

    /// Proves a receipt's record and the transaction that carried it, or that there is none.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn receipt(&mut self, id: ReceiptId) -> Result<ProvenReceipt, VerifyError> {
        self.prover.receipt_in_block(id).await
    }

    /// As [`Ledger::receipt`]; a receipt that is not there yet is waited for.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn receipt_within(
        &mut self,
        id: ReceiptId,
        patience: Duration,
    ) -> Result<ProvenReceipt, VerifyError> {
        let end = Instant::now() + patience;
        loop {
            let proven = self.receipt(id).await;
            let there = match &proven {
                Ok(proven) => proven.record.value.is_some(),
                Err(error) => !matches!(error, VerifyError::TooYoung(_)),
            };
            if there || Instant::now() + AGAIN > end {
                return proven;
            }
            sleep(AGAIN).await;
        }
    }

    /// Proves how many distinct micro-batches a job has; none where the job is not there.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn micro_batches(&mut self, job: JobId) -> Result<Option<usize>, VerifyError> {
        let shapes = self.record::<ShapesRecord>(&StateKey::Shapes(job)).await?;
        Ok(shapes.value.map(|shapes| shapes.len()))
    }

    /// Proves the confirmed receipts of a batch; none where it has none.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub async fn batch(&mut self, batch: BatchId) -> Result<Option<ProvenBatch>, VerifyError> {
        let record = self.record::<BatchRecord>(&StateKey::Batch(batch)).await?;
        let Some(BatchRecord { attempts, confirmed: Some(first) }) = record.value else {
            return Ok(None);
        };
        let others = attempts.iter().filter_map(|attempt| attempt.receipt);
        let ids = [first].into_iter().chain(others.filter(|id| *id != first));
        let mut block = record.block;
        let mut confirmed = Vec::new();
        for id in ids {
            let proven = self.record::<ReceiptRecord>(&StateKey::Receipt(id)).await?;
            block = proven.block;
            let record = proven.value.filter(|record| record.confirmed.is_some());
            confirmed.extend(record.map(|record| (id, record)));
        }
        Ok((!confirmed.is_empty()).then_some(ProvenBatch { confirmed, block }))
    }
}
