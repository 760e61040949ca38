//! The configuration at hand: what the store has, read again when it changed.
//!
//! No truth is here: each boot script and enrolment asks the store whether what is known still holds.
//! Where the store does not answer, what was known last holds, and machines boot all the same. DHCP
//! answers from what is known alone, which [`Configured::watch`] keeps no older than a second or so.

use super::{Document, Json, Placed, Settings, Values, effective};
use crate::{
    machine::Mac,
    quirks::Hand,
    store::{Mark, Store, StoreError},
};
use protocol::{Signed, configuration::Effective, node::Delegation};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// How old what DHCP knows may be.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration as this front-end has it.
pub struct Configured {
    store: Arc<Store>,
    file: BTreeMap<Mac, Values>,
    known: RwLock<Arc<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    mark: Mark,
    document: Document,
    placed: BTreeMap<String, Placed>,
}

/// What holds for one machine.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// As programs are told.
    pub effective: Effective<Json>,
    /// As we use it.
    pub settings: Settings,
    /// The delegation of the owner that is named, where one is.
    pub delegation: Option<Signed<Delegation>>,
}

impl std::fmt::Debug for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Configured").field("mark", &self.known().mark).finish_non_exhaustive()
    }
}

impl Configured {
    /// What the store has, and over it a front-end's own file.
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: Arc<Store>, file: BTreeMap<Mac, Values>) -> Result<Self, StoreError> {
        let configured = Self { store, file, known: RwLock::default() };
        configured.refresh()?;
        Ok(configured)
    }

    fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what changed; true where something had.
    ///
    /// # Errors
    /// The store's.
    pub fn refresh(&self) -> Result<bool, StoreError> {
        if self.store.configuration_mark()? == self.known().mark {
            return Ok(false);
        }
        let (mark, document, placed) = self.store.configuration_whole()?;
        let fresh = Arc::new(Known { mark, document, placed });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        // A command on the database does not know our file, which outweighs the document.
        self.store.rename()?;
        Ok(true)
    }

    /// Keeps what is known fresh, until the program ends.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let configured = self.clone();
            match self.store.run(move |_| configured.refresh()).await {
                Ok(true) => {
                    let mark = self.known().mark;
                    tracing::info!("the machines' configuration is at revision {}", mark.revision);
                }
                Ok(false) => {}
                Err(error) => tracing::debug!("the configuration is not read again: {error}"),
            }
        }
    }

    /// What holds for a machine now. Blocks; [`Configured::own`] is for others.
    pub fn now(&self, mac: Mac) -> Own {
        let asked = self.store.configuration_of(mac).and_then(|(mark, placed)| {
            if mark.revision != self.known().mark.revision {
                self.refresh()?;
            }
            Ok(placed)
        });
        let known = self.known();
        let placed = asked.unwrap_or_else(|error| {
            tracing::debug!("what was configured last holds: {error}");
            known.placed.get(&mac.to_string()).cloned()
        });
        self.own_of(&known, placed.as_ref(), mac)
    }

    /// What holds for a machine now.
    pub async fn own(self: &Arc<Self>, mac: Mac) -> Own {
        let configured = self.clone();
        let own = self.store.run(move |_| Ok(configured.now(mac))).await;
        own.unwrap_or_default()
    }

    fn own_of(&self, known: &Known, placed: Option<&Placed>, mac: Mac) -> Own {
        let file = self.file.get(&mac);
        let effective =
            effective::effective(known.mark.revision, &known.document, file, placed, mac);
        let settings = effective::settings(&effective);
        let owner = settings.owner.as_ref();
        let delegation = owner.and_then(|name| known.document.owner.get(name)).cloned();
        Own { effective, settings, delegation }
    }

    /// What is set for a machine's firmware by hand, as far as it is known here: DHCP waits for no
    /// database.
    pub fn hand(&self, mac: Mac) -> Option<Hand> {
        let known = self.known();
        if !self.file.contains_key(&mac) && known.document == Document::default() {
            return None;
        }
        let placed = known.placed.get(&mac.to_string());
        Some(self.own_of(&known, placed, mac).settings.hand())
    }

    /// The rules of enrolment as they are now.
    ///
    /// # Errors
    /// The store's.
    pub fn rules(&self) -> Result<BTreeMap<String, super::Rule>, StoreError> {
        // Where rules put machines changes with each that they let in, and does not matter here.
        if self.store.configuration_mark()?.revision != self.known().mark.revision {
            self.refresh()?;
        }
        Ok(self.known().document.rule.clone())
    }
}
