//! Receipts wait here until they stand on the chain: none is lost while the chain is away, and
//! none stands twice.
//!
//! [`Queue`] decides, [`Outbox`] acts. A receipt leaves only when the server says that its record
//! is on the chain, or when the ledger refuses it for good; an accepted transaction alone proves
//! nothing, for a proposer may leave it out. The same receipt may be handed in by its node and by
//! a parameter server at once: the ledger takes one.
//!
//! The outbox is memory. Who must survive a restart keeps [`Outbox::pending`] on disk; a node
//! that dies leaves its receipts with the parameter server, which got them with the results.

mod queue;

pub use queue::{Answer, Full, Queue, Report, Settings, Status, Step};

use crate::client::Client;
use protocol::{SignedReceipt, Transaction, state::StateKey};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A queue and what wakes its driver; clones share it.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    added: Notify,
    begin: Instant,
}

impl Outbox {
    /// An empty outbox; [`Outbox::run`] drives it.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::new(Queue::new(settings)),
            added: Notify::new(),
            begin: Instant::now(),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves the queue whole: each of its methods ends in order.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a receipt in.
    ///
    /// # Errors
    /// Where [`Settings::capacity`] receipts wait already; the receipt stays the caller's.
    pub fn add(&self, receipt: &SignedReceipt) -> Result<(), Full> {
        let now = self.0.begin.elapsed();
        self.queue().add(now, receipt)?;
        self.0.added.notify_one();
        Ok(())
    }

    /// Counts for people.
    pub fn status(&self) -> Status {
        self.queue().status()
    }

    /// Receipts that do not stand yet, oldest first.
    pub fn pending(&self) -> Vec<SignedReceipt> {
        self.queue().pending().cloned().collect()
    }

    /// Brings receipts to the chain for ever; each one's end goes to `report`. Dropped, it loses
    /// nothing: run again, it goes on.
    pub async fn run(self, client: Client, mut report: impl FnMut(Report)) {
        let shared = &self.0;
        loop {
            let step = self.queue().step(shared.begin.elapsed());
            match step {
                Step::Submit(group) => {
                    let transaction = Transaction::SubmitReceipts(group);
                    let outcome = client.submit(&transaction).await;
                    let Transaction::SubmitReceipts(group) = transaction else { continue };
                    self.queue().submitted(shared.begin.elapsed(), &group, &outcome);
                }
                Step::Ask(id) => {
                    let answer = match client.query(&StateKey::Receipt(id)).await {
                        Ok(Some(_)) => Answer::Stands,
                        Ok(None) => Answer::Absent,
                        Err(_) => Answer::Away,
                    };
                    self.queue().asked(shared.begin.elapsed(), id, answer);
                }
                Step::Wait(Some(until)) => tokio::select! {
                    () = sleep_until(shared.begin + until) => {}
                    () = shared.added.notified() => {}
                },
                Step::Wait(None) => shared.added.notified().await,
            }
            let reports = self.queue().take_reports();
            reports.into_iter().for_each(&mut report);
        }
    }
}
