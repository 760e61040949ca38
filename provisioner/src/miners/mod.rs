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

use crate::places::Places;
use medium::Medium;
use rates::Rates;
use std::sync::{Arc, Mutex};

/// What strangers are served.
pub struct Miners {
    /// The medium.
    pub medium: Medium,
    /// Who asked how often.
    pub rates: Arc<Mutex<Rates>>,
    /// Places for who fetches a medium.
    pub places: Places,
}

impl Miners {
    /// Gives out that medium.
    pub fn new(medium: Medium) -> Self {
        let places = Places::new(limits::AT_ONCE, limits::AT_ONCE_EACH);
        Self { medium, rates: Arc::default(), places }
    }
}
