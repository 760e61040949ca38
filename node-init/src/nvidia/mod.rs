//! NVIDIA's cards: which of them the image's driver drives, and what the driver says of them.
//! Decisions and readers, all pure; [`crate::stages::cards`] carries them out.

pub mod branch;
pub mod reading;
pub mod told;
pub mod xid;
