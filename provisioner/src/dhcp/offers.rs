//! Addresses that were offered and not asked for yet. A hint and no truth: a lease is in the store
//! before it is acknowledged, and what is forgotten here costs a client a second question.

use super::pool::MAX_POOL;
use crate::machine::Mac;
use std::{collections::HashMap, net::Ipv4Addr};

/// Offers, each to one client. As many as a pool has addresses at most.
#[derive(Debug, Default)]
pub struct Offers(HashMap<Ipv4Addr, (Mac, u64)>);

impl Offers {
    /// Whether at `now` an address is offered to somebody else than `mac`.
    pub fn is_others(&self, address: Ipv4Addr, mac: Mac, now: u64) -> bool {
        self.0.get(&address).is_some_and(|&(holder, until)| holder != mac && until > now)
    }

    /// Keeps an address for a client until then. An offer to somebody else before ends: there was no
    /// other address left.
    pub fn add(&mut self, address: Ipv4Addr, mac: Mac, until: u64, now: u64) {
        if self.0.len() >= MAX_POOL as usize && !self.0.contains_key(&address) {
            self.0.retain(|_, (_, until)| *until > now);
        }
        if self.0.len() < MAX_POOL as usize || self.0.contains_key(&address) {
            self.0.insert(address, (mac, until));
        }
    }

    /// An address is no longer on offer.
    pub fn end(&mut self, address: Ipv4Addr) {
        self.0.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn what_is_offered_is_kept_from_others_for_its_time() {
        let mut offers = Offers::default();
        offers.add(ADDRESS, mac(1), 160, 100);
        assert!(offers.is_others(ADDRESS, mac(2), 159) && !offers.is_others(ADDRESS, mac(2), 160));
        assert!(!offers.is_others(ADDRESS, mac(1), 100));
        offers.add(ADDRESS, mac(2), 170, 110);
        assert!(offers.is_others(ADDRESS, mac(1), 111));
        offers.end(ADDRESS);
        assert!(!offers.is_others(ADDRESS, mac(1), 111));
    }

    #[test]
    fn a_flood_of_clients_fills_it_and_no_more_and_what_is_over_makes_room() {
        let mut offers = Offers::default();
        for n in 0..MAX_POOL + 10 {
            offers.add(Ipv4Addr::from_bits(n), mac(n), 160, 100);
        }
        assert_eq!(offers.0.len(), MAX_POOL as usize);
        offers.add(Ipv4Addr::from_bits(MAX_POOL + 10), mac(1), 300, 200);
        assert_eq!(offers.0.len(), 1);
    }
}
