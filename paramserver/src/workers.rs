//! The workers that a server has heard of: how fast they are and whether they are there.
//!
//! All of it is forgotten by a restart and learnt again from the next pulls.

use protocol::{Digest, PublicKey, api::WorkerStatus, plain, work::Pull};
use std::{collections::HashMap, time::Duration};

/// The most workers kept; the longest silent one makes room.
pub const MAX_WORKERS: usize = 10_000;
/// A worker that was heard of within this time is expected to come back for work.
const PRESENT_MS: u64 = 5_000;
/// How much the newest measurement counts, in quarters.
const NEWEST_QUARTERS: f64 = 1.0;
/// What a worker is taken to be able to do that said less, until it was measured: 0.04 G
/// multiply-adds a second, an emulated machine's. Its own word is of a busy moment at its start.
const LEAST_SPEED: f64 = 4e7;

/// One worker.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What it computes with.
    pub device: String,
    /// The longest aligned run that it takes at once.
    pub most: u32,
    /// Multiply-adds a second: measured once there is a result, its own word before.
    pub speed: f64,
    measured: bool,
    /// When it was last heard of, milliseconds.
    pub seen: u64,
    /// Pulls of it that wait for work.
    pub waiting: u32,
    boot: Digest,
    sequence: u64,
}

impl Worker {
    /// Whether its speed was measured, and is not its own word.
    pub fn is_measured(&self) -> bool {
        self.measured
    }
}

/// Why a pull was not heard.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("pull {sequence} of this boot was heard before, or a later one: it is a replay")]
pub struct Replayed {
    sequence: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    all: HashMap<PublicKey, Worker>,
}

impl Workers {
    /// Takes note of a pull whose signatures were checked.
    pub fn hear(&mut self, pull: &Pull, now: u64) -> Result<(), Replayed> {
        let node = pull.certificate.signer;
        let boot = pull.certificate.body.boot_id;
        if let Some(worker) = self.all.get(&node)
            && worker.boot == boot
            && worker.sequence >= pull.sequence
        {
            return Err(Replayed { sequence: pull.sequence });
        }
        if self.all.len() >= MAX_WORKERS && !self.all.contains_key(&node) {
            let silent = self.all.iter().filter(|(_, worker)| worker.waiting == 0);
            if let Some(longest) = silent.min_by_key(|(_, worker)| worker.seen).map(|(key, _)| *key)
            {
                self.all.remove(&longest);
            }
        }
        let said = (f64::from(pull.speed) * 1e6).max(LEAST_SPEED);
        let worker = self.all.entry(node).or_insert_with(|| Worker {
            device: String::new(),
            most: 1,
            speed: said,
            measured: false,
            seen: now,
            waiting: 0,
            boot,
            sequence: 0,
        });
        if worker.boot != boot {
            (worker.measured, worker.speed, worker.boot) = (false, said, boot);
        }
        worker.sequence = pull.sequence;
        worker.seen = now;
        worker.most = pull.most_micro_batches.clamp(1, 1 << 20);
        worker.device = plain(&pull.device).chars().take(80).collect();
        Ok(())
    }

    /// A pull begins (`+1`) or ceases (`-1`) to wait.
    pub fn wait(&mut self, node: &PublicKey, change: i32, now: u64) {
        if let Some(worker) = self.all.get_mut(node) {
            worker.waiting = worker.waiting.saturating_add_signed(change);
            worker.seen = now;
        }
    }

    /// A worker returned `products` multiply-adds after `took`.
    pub fn measured(&mut self, node: &PublicKey, products: u64, took: Duration, now: u64) {
        if let Some(worker) = self.all.get_mut(node) {
            let speed = products as f64 / took.as_secs_f64().max(1e-6);
            worker.speed = if worker.measured {
                worker.speed + (speed - worker.speed) * NEWEST_QUARTERS / 4.0
            } else {
                speed
            };
            worker.speed = worker.speed.max(1.0);
            worker.measured = true;
            worker.seen = now;
        }
    }

    /// A worker has not returned a micro-batch of `products` multiply-adds after `elapsed`.
    pub fn at_most(&mut self, node: &PublicKey, products: u64, elapsed: Duration) {
        if let Some(worker) = self.all.get_mut(node) {
            let speed = products as f64 / elapsed.as_secs_f64().max(1e-6);
            worker.speed = worker.speed.min(speed).max(1.0);
        }
    }

    /// Those that wait for work or are expected back any moment, in the order of their keys.
    pub fn present(&self, now: u64) -> Vec<(PublicKey, &Worker)> {
        let mut present: Vec<_> = self
            .all
            .iter()
            .filter(|(_, worker)| worker.waiting > 0 || worker.seen + PRESENT_MS > now)
            .map(|(key, worker)| (*key, worker))
            .collect();
        present.sort_by_key(|(key, _)| *key);
        present
    }

    /// One worker.
    pub fn get(&self, node: &PublicKey) -> Option<&Worker> {
        self.all.get(node)
    }

    /// All of them as a job of `products` multiply-adds a micro-batch shows them.
    pub fn statuses(&self, products: u64, now: u64) -> Vec<(PublicKey, WorkerStatus)> {
        let mut all: Vec<_> = self
            .all
            .iter()
            .map(|(key, worker)| {
                let status = WorkerStatus {
                    node: *key,
                    device: worker.device.clone(),
                    batches: 0,
                    receipts: 0,
                    batch_ms: worker.measured.then(|| products as f64 / worker.speed * 1e3),
                    doing: None,
                    silent_seconds: if worker.waiting > 0 {
                        0.0
                    } else {
                        now.saturating_sub(worker.seen) as f64 / 1e3
                    },
                };
                (*key, status)
            })
            .collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{SecretKey, Signed, receipt::WorkKeyCertificate};

    fn pull(seed: u8, boot: u8, sequence: u64) -> Pull {
        let key = SecretKey::from_seed([seed; 32]);
        let body =
            WorkKeyCertificate { work_key: key.public(), boot_id: Digest::of_bytes(&[boot]) };
        let certificate = Signed::sign(&"alia-test".parse().unwrap(), body, &key);
        Pull { certificate, sequence, most_micro_batches: 8, speed: 500, device: "avx2 x1".into() }
    }

    #[test]
    fn a_replayed_pull_is_refused_until_the_next_boot() {
        let mut workers = Workers::default();
        assert!(workers.hear(&pull(1, 1, 5), 0).is_ok());
        assert!(workers.hear(&pull(1, 1, 5), 1).is_err());
        assert!(workers.hear(&pull(1, 1, 6), 2).is_ok());
        assert!(workers.hear(&pull(1, 2, 1), 3).is_ok());
    }

    #[test]
    fn a_worker_s_word_counts_until_it_was_measured() {
        let mut workers = Workers::default();
        let pull = pull(1, 1, 1);
        let node = pull.certificate.signer;
        workers.hear(&pull, 0).unwrap();
        assert_eq!(workers.get(&node).unwrap().speed, 5e8);
        workers.measured(&node, 1_000_000, Duration::from_millis(10), 1);
        assert_eq!(workers.get(&node).unwrap().speed, 1e8);
    }

    #[test]
    fn the_waiting_and_the_recently_heard_are_present() {
        let mut workers = Workers::default();
        for seed in [1, 2] {
            workers.hear(&pull(seed, 1, 1), 0).unwrap();
        }
        let waiting = pull(1, 1, 1).certificate.signer;
        workers.wait(&waiting, 1, 0);
        assert_eq!(workers.present(10).len(), 2);
        let present = workers.present(60_000);
        assert_eq!(present.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [waiting]);
    }

    #[test]
    fn the_table_is_bounded_and_the_longest_silent_makes_room() {
        let mut workers = Workers::default();
        let template = pull(1, 1, 1);
        let key = |i: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&i.to_le_bytes());
            PublicKey(bytes)
        };
        for i in 0..MAX_WORKERS as u32 + 5 {
            let mut pull = template.clone();
            pull.certificate.signer = key(i);
            workers.hear(&pull, u64::from(i)).unwrap();
        }
        assert_eq!(workers.all.len(), MAX_WORKERS);
        assert!(workers.get(&key(4)).is_none() && workers.get(&key(5)).is_some());
    }
}
