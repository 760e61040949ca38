//! The edge: a socket for each transfer.

use super::{
    Wanted,
    receiver::{Action, Event, Receiver},
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// How long EDK2 waits for a packet (`MTFTP4_DEFAULT_TIMEOUT`).
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest packet: a block of 65,464 bytes (RFC 2348) with its head.
const MAX_LEN: usize = 65_468;

/// A file that came whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its size in bytes.
    pub bytes: u64,
    /// Packets sent more than once.
    pub resent: u32,
}

/// Asks how long a file is, as EDK2 does before it fetches it; gives how often it asked again.
///
/// # Errors
/// The reason.
pub async fn size(
    from: Ipv4Addr,
    server: SocketAddrV4,
    name: &str,
    wanted: Wanted,
) -> Result<u32, String> {
    let wanted = Wanted { size_only: true, ..wanted };
    let (receiver, _) = transfer(from, server, name, wanted, |_| {}).await?;
    Ok(receiver.resent())
}

/// Fetches a file; each part goes to `keep` as it comes.
///
/// # Errors
/// The reason.
pub async fn fetch(
    from: Ipv4Addr,
    server: SocketAddrV4,
    name: &str,
    wanted: Wanted,
    keep: impl FnMut(&[u8]),
) -> Result<Fetched, String> {
    let (receiver, bytes) = transfer(from, server, name, wanted, keep).await?;
    match receiver.size() {
        Some(size) if size != bytes => Err(format!("{bytes} bytes came of {size}")),
        _ => Ok(Fetched { bytes, resent: receiver.resent() }),
    }
}

async fn transfer(
    from: Ipv4Addr,
    server: SocketAddrV4,
    name: &str,
    wanted: Wanted,
    mut keep: impl FnMut(&[u8]),
) -> Result<(Receiver, u64), String> {
    let said = |error: io::Error| error.to_string();
    let socket = UdpSocket::bind((from, 0)).await.map_err(said)?;
    let (mut receiver, request) = Receiver::ask(name, wanted);
    socket.send_to(&request, server).await.map_err(said)?;
    // The server's port of this transfer is told by its first answer (RFC 1350 section 4).
    let mut peer: Option<SocketAddr> = None;
    let mut buffer = vec![0; (usize::from(wanted.blksize) + 4).clamp(516, MAX_LEN)];
    let mut bytes = 0;
    loop {
        let event = match timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
            Err(_) => Event::Silence,
            Ok(Err(error)) => return Err(said(error)),
            Ok(Ok((_, sender))) if sender.ip() != *server.ip() => continue,
            Ok(Ok((_, sender))) if peer.is_some_and(|peer| peer != sender) => continue,
            Ok(Ok((length, sender))) => {
                peer = Some(sender);
                Event::Packet(&buffer[..length])
            }
        };
        for action in receiver.step(event) {
            match action {
                Action::Keep(part) => {
                    bytes += part.len() as u64;
                    keep(part);
                }
                Action::Send(packet) => {
                    let to = peer.unwrap_or(server.into());
                    socket.send_to(&packet, to).await.map_err(said)?;
                }
                Action::Done => return Ok((receiver, bytes)),
                Action::Failed(reason) => return Err(reason),
            }
        }
    }
}
