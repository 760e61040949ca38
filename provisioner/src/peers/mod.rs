//! Machines of one site that give each other the pieces of what they boot: who has what, and what leaves
//! us (`docs/peers.md` has the whole).
//!
//! All of it is soft: a front-end that starts knows nobody, and knows the machines that ask it again
//! within a minute; until then, and for as long as it is away, nobody waits for it. So it lies in memory,
//! each front-end's own.

mod crowd;
mod near;
mod tracker;

pub use near::{Near, site};
pub use tracker::{Asker, MAX_CROWDS, MAX_MEMBERS, Told, Tracker};

use crate::image::Image;
use bytes::Bytes;
use pieces::{Outline, outline::OutlineError};
use protocol::Digest;
use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::OnceCell, task::spawn_blocking};

/// The most bytes a second that a node gives where its configuration says nothing: half of a gigabit.
pub const RATE: u64 = 64 << 20;

/// What front-ends know of machines' pieces.
pub struct Peers {
    tracker: Mutex<Tracker>,
    roots: BTreeMap<Digest, Root>,
    near: Near,
    began: Instant,
}

/// A root that machines fetch, and its outline once somebody asked for it.
struct Root {
    path: PathBuf,
    bytes: u64,
    outline: OnceCell<Bytes>,
}

impl Peers {
    /// For these images.
    pub fn new<'a>(images: impl Iterator<Item = &'a Image>, near: Near) -> Arc<Self> {
        let roots = images.filter_map(|image| {
            let file = &image.manifest.root.file;
            let path = image.path(&file.file)?;
            let outline = OnceCell::new();
            Some((file.digest, Root { path, bytes: file.bytes, outline }))
        });
        let (tracker, roots) = (Mutex::default(), roots.collect());
        Arc::new(Self { tracker, roots, near, began: Instant::now() })
    }

    /// The size of a root of ours in bytes.
    pub fn bytes(&self, file: Digest) -> Option<u64> {
        self.roots.get(&file).map(|root| root.bytes)
    }

    /// What verifies the pieces of a root of ours; made once.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn outline(&self, file: Digest) -> Option<Result<Bytes, OutlineError>> {
        let root = self.roots.get(&file)?;
        let make = || async {
            let (path, bytes) = (root.path.clone(), root.bytes);
            let made = spawn_blocking(move || {
                let mut file = BufReader::new(File::open(path)?);
                Outline::read(bytes, &mut file).map(|outline| Bytes::from(outline.bytes()))
            });
            made.await.map_err(std::io::Error::other)?
        };
        Some(root.outline.get_or_try_init(make).await.cloned())
    }

    /// Which networks are sites of themselves.
    pub fn near(&self) -> &Near {
        &self.near
    }

    /// Since we started: the tracker's clock.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Who has what.
    pub fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
