//! What a node gives: pieces of the one file that it runs, to addresses of its site, so many at a time
//! and so many bytes a second.

use crate::{held::Held, layout::Layout, rate::Rate};
use protocol::{Digest, pieces::Subnet};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::IpAddr,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Connections at a time: each holds a piece in memory while it is sent.
pub const CONNECTIONS: usize = 16;
/// Of one address.
pub const OF_ONE_ADDRESS: usize = 2;
/// How long a peer may be made to wait for its piece; for longer it had better ask somebody else.
const LONGEST_WAIT: Duration = Duration::from_millis(1_500);

/// Where pieces lie.
pub trait Shelf: Send + Sync + 'static {
    /// Reads at an offset, all of the buffer.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Shelf for File {
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

/// What is given.
pub struct Shop {
    file: Digest,
    layout: Layout,
    shelf: Box<dyn Shelf>,
    state: Mutex<State>,
    began: Instant,
}

struct State {
    held: Held,
    site: Option<Subnet>,
    rate: Rate,
    /// Connections by address; no more entries than connections.
    guests: BTreeMap<IpAddr, usize>,
    given: u64,
}

/// What a peer gets that asks for a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The piece, after so long.
    After(Duration),
    /// It is not there.
    Absent,
    /// More was asked for than is given.
    Busy,
}

/// A place among those who are given to, given back when it is dropped.
pub struct Place {
    shop: Arc<Shop>,
    guest: IpAddr,
}

impl Shop {
    /// With nothing in it, and closed: [`Self::open`] opens it.
    pub fn new(file: Digest, layout: Layout, shelf: impl Shelf) -> Arc<Self> {
        let state = State {
            held: Held::none(layout.count()),
            site: None,
            rate: Rate::new(0),
            guests: BTreeMap::new(),
            given: 0,
        };
        let (shelf, state) = (Box::new(shelf), Mutex::new(state));
        Arc::new(Self { file, layout, shelf, state, began: Instant::now() })
    }

    /// The file of which it has pieces.
    pub fn file(&self) -> Digest {
        self.file
    }

    /// Its pieces.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Which of them are there.
    pub fn held(&self) -> Held {
        self.state().held.clone()
    }

    /// Bytes given so far.
    pub fn given(&self) -> u64 {
        self.state().given
    }

    /// A verified piece lies where it belongs.
    pub fn put(&self, piece: u32) {
        self.state().held.put(piece);
    }

    /// All of them do.
    pub fn put_all(&self) {
        self.state().held = Held::all(self.layout.count());
    }

    /// Gives to a site from now on, so many bytes a second; to nobody where there is none.
    pub fn open(&self, site: Option<Subnet>, rate: u64) {
        let mut state = self.state();
        state.site = site;
        state.rate.set(rate);
    }

    /// A place for somebody who connected, where he is of the site and there is one.
    pub fn place(self: &Arc<Self>, guest: IpAddr) -> Option<Place> {
        let guest = guest.to_canonical();
        let mut state = self.state();
        let near = state.site.is_some_and(|site| site.contains(guest));
        let all: usize = state.guests.values().sum();
        let his = state.guests.get(&guest).copied().unwrap_or_default();
        if !near || all >= CONNECTIONS || his >= OF_ONE_ADDRESS {
            return None;
        }
        state.guests.insert(guest, his + 1);
        Some(Place { shop: self.clone(), guest })
    }

    /// Whether a piece is given now.
    pub(crate) fn asked(&self, file: Digest, piece: u32) -> Answer {
        let mut state = self.state();
        if file != self.file || !state.held.has(piece) {
            return Answer::Absent;
        }
        if state.site.is_none() {
            return Answer::Busy;
        }
        let length = self.layout.length(piece);
        let Some(wait) = state.rate.take(self.began.elapsed(), length, LONGEST_WAIT) else {
            return Answer::Busy;
        };
        state.given += length;
        Answer::After(wait)
    }

    pub(crate) fn read(&self, piece: u32) -> io::Result<Vec<u8>> {
        let range = self.layout.range(piece);
        let mut content = vec![0; (range.end - range.start) as usize];
        self.shelf.read(range.start, &mut content)?;
        Ok(content)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shop.state();
        if let Some(count) = state.guests.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                state.guests.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Empty;

    impl Shelf for Empty {
        fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_the_site_has_places_and_no_address_all_of_them() {
        let shop = Shop::new(Digest([1; 32]), Layout::of(600_000).unwrap(), Empty);
        let guest = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert!(shop.place(guest(1)).is_none(), "it is closed");
        shop.open("10.0.0.0/24".parse().ok(), 1_000_000);
        assert!(shop.place([10, 0, 1, 1].into()).is_none());
        let mut places: Vec<_> = (0..4).filter_map(|_| shop.place(guest(1))).collect();
        assert_eq!(places.len(), OF_ONE_ADDRESS);
        places.extend((2..40).filter_map(|last| shop.place(guest(last))));
        assert_eq!(places.len(), CONNECTIONS);
        drop(places);
        assert!(shop.state().guests.is_empty());
        assert!(shop.place("::ffff:10.0.0.9".parse().unwrap()).is_some());
    }

    #[test]
    fn what_is_not_there_yet_or_too_much_is_not_given() {
        let shop = Shop::new(Digest([1; 32]), Layout::of(600_000).unwrap(), Empty);
        shop.open("10.0.0.0/24".parse().ok(), 100_000);
        let file = shop.file();
        assert_eq!(shop.asked(file, 1), Answer::Absent);
        shop.put(1);
        assert_eq!(shop.asked(Digest([2; 32]), 1), Answer::Absent);
        assert_eq!(shop.asked(file, 1), Answer::After(Duration::ZERO));
        // 262,144 bytes at 100,000 a second.
        assert_eq!(shop.asked(file, 1), Answer::Busy);
        assert_eq!(shop.given(), 262_144);
        shop.open(None, 0);
        assert_eq!(shop.asked(file, 1), Answer::Busy);
    }
}
