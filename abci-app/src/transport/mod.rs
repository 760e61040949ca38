//! ABCI's socket protocol: length-delimited protobuf over TCP or a Unix socket, one blocking
//! thread a connection (CometBFT opens four).
//!
//! Beside tendermint-abci's own server: no Nagle delay, work linear in what arrives, frames
//! bounded, answers written together, and an end where one is due. A request that cannot be
//! understood, and a panic in the application, end [`Server::serve`] with a failure that the
//! process stops on: a ledger that answers half of its connections would be worse than none.

mod address;
mod dispatch;
mod frame;
mod server;

pub use address::{Address, AddressError};
pub use dispatch::{Unknown, dispatch};
pub use frame::{FrameError, FrameReader, FrameWriter, MAX_FRAME_LEN};
pub use server::{BindError, Failure, Server};
