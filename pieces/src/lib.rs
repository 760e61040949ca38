//! Files in pieces that anybody may give.
//!
//! Content is named by BLAKE3, and BLAKE3 is a tree: what a file's digest vouches for, it vouches for
//! piece by piece. An [`outline`] is the tree's row of nodes above the pieces, 32 bytes each; whoever
//! has it holds it against the digest once, and then every piece against it, whoever gave it. So
//! nothing new is signed, and every release that ever was can be fetched so.
//!
//! | file | what |
//! |---|---|
//! | [`layout`] | how long a file's pieces are, and where |
//! | [`outline`] | what verifies them |
//! | [`held`] | which of them are there |
//! | [`schedule`] | pure: which piece from whom next |
//! | [`rate`] | pure: how much may be given |
//! | [`shop`] | what a node gives, to whom, how much at a time |
//! | [`give`] | the giving side of a connection |
//! | [`fetch`] | the fetching side of all of them |
//!
//! **Never** keeps a piece that was not verified, or waits for anybody without a deadline.

pub mod fetch;
pub mod give;
pub mod held;
pub mod layout;
pub mod outline;
pub mod rate;
pub mod schedule;
pub mod shop;
mod wire;

pub use held::Held;
pub use layout::Layout;
pub use outline::Outline;
pub use shop::Shop;
pub use wire::is_for_pieces;
