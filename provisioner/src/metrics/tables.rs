//! Everything that peers can fill, with its bound: who looks sees when it is full.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

type Used = Box<dyn Fn() -> u64 + Send + Sync>;

/// Tables in this program's memory. Those in the store are the store's to count.
#[derive(Default)]
pub struct Tables {
    shown: Mutex<Vec<(&'static str, u64, Used)>>,
    turned_away: Mutex<Vec<(&'static str, Used)>>,
}

impl Tables {
    /// Shows a table under that name. Two of one name are shown as one.
    pub fn show(
        &self,
        name: &'static str,
        limit: u64,
        used: impl Fn() -> u64 + Send + Sync + 'static,
    ) {
        let mut tables = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        tables.push((name, limit, Box::new(used)));
    }

    /// Counts, under a table's name, who found no place in it.
    pub fn turns_away(&self, name: &'static str, count: impl Fn() -> u64 + Send + Sync + 'static) {
        let mut all = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name, Box::new(count)));
    }

    /// Who found no place, by table.
    pub fn turned_away(&self) -> Vec<(&'static str, u64)> {
        let all = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::new();
        for (name, count) in all.iter() {
            *sums.entry(*name).or_default() += count();
        }
        sums.into_iter().collect()
    }

    /// Name, entries and bound of each.
    pub fn all(&self) -> Vec<(&'static str, u64, u64)> {
        let tables = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(&'static str, u64, u64)> = Vec::new();
        for (name, limit, used) in tables.iter() {
            match all.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, bound)) => {
                    *sum += used();
                    *bound += limit;
                }
                None => all.push((name, used(), *limit)),
            }
        }
        all
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
