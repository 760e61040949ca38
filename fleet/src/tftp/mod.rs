//! A boot file by TFTP (RFC 1350, 2347-2349, 7440) as EDK2 fetches it: it asks the size first and
//! ends that with error 8, then asks for blocks of 1,468 bytes in windows of 4.
//!
//! [`receiver`] is one transfer as a pure state machine, [`mod@fetch`] its socket.

pub mod fetch;
pub mod receiver;

pub use fetch::{Fetched, fetch, size};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes of a block.
    pub blksize: u16,
    /// Blocks of a window; 1 asks for no windows.
    pub windowsize: u16,
    /// Asks the size alone.
    pub size_only: bool,
}

impl Wanted {
    /// EDK2's (`PXE_BLKSIZE`, `PXE_DEFAULT_WINDOWSIZE`).
    pub const EDK2: Self = Self { blksize: 1_468, windowsize: 4, size_only: false };
}
