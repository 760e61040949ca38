//! Machines of people whom nobody here knows: they register a token for an address of theirs, boot a
//! medium that has it, and are paid there. `docs/home.md` says who can do what with which part.
//!
//! What they sign is `protocol::medium`; tokens stand in the store (`store/media.rs`); [`medium`] is
//! the file that is given out, [`judge`] says whether a machine that came by one is taken in,
//! [`rates`] how often a stranger may ask. Pure but for [`medium`]'s file.

pub mod judge;
pub mod limits;
pub mod medium;
pub mod rates;

use medium::Medium;
use rates::Rates;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// What strangers are served.
pub struct Miners {
    /// The medium.
    pub medium: Medium,
    /// Who asked how often.
    pub rates: Mutex<Rates>,
    /// Places for who fetches a medium.
    pub places: Arc<Semaphore>,
}

impl Miners {
    /// Gives out that medium.
    pub fn new(medium: Medium) -> Self {
        Self { medium, rates: Mutex::default(), places: Arc::new(Semaphore::new(limits::AT_ONCE)) }
    }
}
