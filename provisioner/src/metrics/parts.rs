//! What listens, and whether it still does: a thread that ended took its guard with it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Listeners by name.
#[derive(Clone, Debug, Default)]
pub struct Alive(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Alive {
    /// One that listens as long as the guard is there.
    pub fn begins(&self, name: &'static str) -> Listening {
        self.set(name, true);
        Listening { all: self.clone(), name }
    }

    /// Whether each that ever listened does.
    pub fn all(&self) -> BTreeMap<&'static str, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: &'static str, alive: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, alive);
    }
}

/// Held by what listens.
#[derive(Debug)]
pub struct Listening {
    all: Alive,
    name: &'static str,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.all.set(self.name, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_seen_to_listen_no_more() {
        let alive = Alive::default();
        let (dhcp, tftp) = (alive.begins("dhcp"), alive.begins("tftp"));
        let panics = std::thread::spawn(move || {
            let _dhcp = dhcp;
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
        assert_eq!(alive.all(), [("dhcp", false), ("tftp", true)].into());
        drop(tftp);
    }
}
