//! How full a service is, for whoever watches it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts of one service, or of several together.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    others: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Load {
    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Of them those whose handshake is under way.
    pub fn handshakes(&self) -> usize {
        self.0.handshakes.load(Ordering::Relaxed)
    }

    /// Of those the ones that are served by what they alone need, and wait for it.
    pub fn others(&self) -> usize {
        self.0.others.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once since the start, their peer having its share, or later, to
    /// make room for others.
    pub fn turned_away(&self) -> usize {
        self.0.turned_away.load(Ordering::Relaxed)
    }

    pub(crate) fn connection(&self) -> Counted {
        Counted::new(self, |counts| &counts.connections)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn handshake(&self) -> Counted {
        Counted::new(self, |counts| &counts.handshakes)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn other(&self) -> Counted {
        Counted::new(self, |counts| &counts.others)
    }

    pub(crate) fn turn_away(&self) {
        self.0.turned_away.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counted as long as it is there.
pub(crate) struct Counted {
    load: Load,
    which: fn(&Counts) -> &AtomicUsize,
}

impl Counted {
    fn new(load: &Load, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(&load.0).fetch_add(1, Ordering::Relaxed);
        Self { load: load.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.load.0).fetch_sub(1, Ordering::Relaxed);
    }
}
