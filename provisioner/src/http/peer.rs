//! Who asks.

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use listener::Bounded;
use std::net::SocketAddr;

/// The address of whoever asks.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}
