//! How often a peer may ask. Counted for a minute at a time, in memory: each front-end has its own
//! count, and a restart forgets it.

use std::{collections::HashMap, net::IpAddr};

/// How long is counted, in milliseconds.
const WINDOW_MS: u64 = 60_000;
/// How often a peer may look in that time, and a machine of his show its token: a room of machines
/// that start at once behind one address.
const LOOKS: u32 = 60;
/// How often it may write.
const WRITES: u32 = 10;
/// The most peers that are counted. While it is full, no other peer is answered.
pub(crate) const MOST_PEERS: usize = 4_096;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To see something, or to be taken in.
    Look,
    /// To have something kept.
    Write,
}

/// Too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooOften {
    /// This peer.
    #[error("you ask too often: ask again in {0} s")]
    You(u64),
    /// So many others.
    #[error("too many ask at once: ask again in {0} s")]
    All(u64),
}

impl TooOften {
    /// After how many seconds to ask again.
    pub fn seconds(self) -> u64 {
        let (Self::You(seconds) | Self::All(seconds)) = self;
        seconds
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: u64,
    looks: u32,
    writes: u32,
}

/// Who asked how often in the last minute: an IPv4 address, or all that a home has of IPv6 (a /64).
#[derive(Debug, Default)]
pub struct Rates(HashMap<IpAddr, Window>);

impl Rates {
    /// How many peers asked in the last minute.
    pub fn peers(&self, now: u64) -> usize {
        self.0.values().filter(|window| now.saturating_sub(window.began) < WINDOW_MS).count()
    }

    /// Counts one; `now` in milliseconds of any clock that goes on.
    ///
    /// # Errors
    /// Where it is one too many.
    pub fn take(&mut self, peer: IpAddr, ask: Ask, now: u64) -> Result<(), TooOften> {
        let peer = listener::network(peer);
        let over = |window: &Window| now.saturating_sub(window.began) >= WINDOW_MS;
        if !self.0.contains_key(&peer) && self.0.len() >= MOST_PEERS {
            self.0.retain(|_, window| !over(window));
            if self.0.len() >= MOST_PEERS {
                return Err(TooOften::All(WINDOW_MS / 1_000));
            }
        }
        let fresh = Window { began: now, looks: 0, writes: 0 };
        let window = self.0.entry(peer).or_insert(fresh);
        // A clock that was set back begins anew too.
        if over(window) || window.began > now {
            *window = fresh;
        }
        let (count, most) = match ask {
            Ask::Look => (&mut window.looks, LOOKS),
            Ask::Write => (&mut window.writes, WRITES),
        };
        if *count >= most {
            let left = WINDOW_MS.saturating_sub(now.saturating_sub(window.began));
            return Err(TooOften::You(left.div_ceil(1_000)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_peer_writes_so_often_and_again_once_its_minute_is_over() {
        let mut rates = Rates::default();
        for _ in 0..WRITES {
            assert_eq!(rates.take(peer(1), Ask::Write, 1_000), Ok(()));
        }
        assert_eq!(rates.take(peer(1), Ask::Write, 1_001), Err(TooOften::You(60)));
        assert_eq!(rates.take(peer(1), Ask::Look, 1_001), Ok(()));
        assert_eq!(rates.take(peer(2), Ask::Write, 1_001), Ok(()));
        assert_eq!((rates.peers(1_002), rates.peers(61_000)), (2, 1));
        assert_eq!(rates.take(peer(1), Ask::Write, 61_000), Ok(()));
        assert_eq!(rates.take(peer(1), Ask::Write, 5), Ok(()), "a clock that was set back");
    }

    #[test]
    fn a_home_by_ipv6_is_one_peer() {
        let mut rates = Rates::default();
        let host = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        for n in 0..LOOKS as u16 {
            assert!(rates.take(host(n), Ask::Look, 0).is_ok());
        }
        assert!(rates.take(host(99), Ask::Look, 0).is_err());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(rates.take(mapped, Ask::Look, 0).is_ok());
        assert!(rates.0.contains_key(&"192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn the_table_is_bounded_and_a_flood_ends_with_its_minute() {
        let mut rates = Rates::default();
        for n in 0..MOST_PEERS as u32 {
            assert!(rates.take(peer(n), Ask::Look, u64::from(n)).is_ok());
        }
        let flood = rates.take(peer(1 << 20), Ask::Look, 5_000);
        assert_eq!(flood, Err(TooOften::All(60)));
        assert!(rates.take(peer(7), Ask::Look, 5_000).is_ok(), "who is counted goes on");
        assert!(rates.take(peer(1 << 20), Ask::Look, WINDOW_MS + 5_000).is_ok());
        assert!(rates.0.len() < MOST_PEERS);
    }
}
