//! Places that somebody holds for as long as he likes: bounded in all, and for each peer, so that none
//! has them all.

use listener::{Peers, Seat};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many in all, so many for each peer: an IPv4 address, or a /64.
#[derive(Clone, Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    each: usize,
    peers: Peers,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    _share: Seat,
}

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// This peer has as many as one may have.
    Yours,
    /// All are taken.
    All,
}

impl Places {
    /// `most` of them, `each` for a peer.
    pub fn new(most: usize, each: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most, each, peers: Peers::default() }
    }

    /// A place for a peer.
    ///
    /// # Errors
    /// Where it has its share, or none is left.
    pub fn take(&self, peer: IpAddr) -> Result<Place, NoPlace> {
        let share = self.peers.seat(peer, self.each).ok_or(NoPlace::Yours)?;
        let place = self.free.clone().try_acquire_owned().map_err(|_| NoPlace::All)?;
        Ok(Place { _place: place, _share: share })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.most.saturating_sub(self.free.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_its_share_and_all_together_no_more_than_there_are() {
        let places = Places::new(4, 2);
        let peer = |n: u8| IpAddr::from([10, 0, 0, n]);
        let first = places.take(peer(1)).unwrap();
        let _others = [1, 2, 2].map(|n| places.take(peer(n)).unwrap());
        assert_eq!(places.take(peer(1)).unwrap_err(), NoPlace::Yours);
        assert_eq!(places.take(peer(3)).unwrap_err(), NoPlace::All);
        drop(first);
        assert_eq!(places.taken(), 3);
        assert!(places.take(peer(3)).is_ok(), "who was refused has no place");
        assert!(places.take("::ffff:10.0.0.1".parse().unwrap()).is_ok());
    }
}
