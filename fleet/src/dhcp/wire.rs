//! The edge: one socket for all machines. Answers find their machine by transaction.

use super::{
    exchange::{Action, Bound, Event, Exchange},
    reply::{self, Reply},
    request::Client,
};
use crate::{error::Error, machine::Machine};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, sync::mpsc, time::timeout_at};

/// The socket's buffer in bytes: a thousand answers at once, twice.
const BUFFER: usize = 4 << 20;
/// Answers that wait for one machine; more are as good as lost on the way.
const WAITING: usize = 8;
/// The longest answer: one frame's.
const MAX_LEN: usize = 1_500;

/// DHCP's socket.
pub struct Wire {
    socket: UdpSocket,
    to: SocketAddrV4,
    giaddr: Option<Ipv4Addr>,
    waiting: Mutex<HashMap<u32, mpsc::Sender<Reply>>>,
}

impl Wire {
    /// As machines on `interface`: broadcasts there, hears broadcasts on port 68.
    ///
    /// # Errors
    /// Where the port is taken, or is not ours to take.
    pub fn on(interface: &str) -> Result<Arc<Self>, Error> {
        let place = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let socket = bind(place)?;
        let failed = |source: nix::Error| Error::Socket { place, source: source.into() };
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface)).map_err(failed)?;
        setsockopt(&socket, sockopt::Broadcast, &true).map_err(failed)?;
        Self::start(socket, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), None)
    }

    /// As a relay at `own` address, by unicast to `server` (RFC 1542 section 4): for a server that is
    /// not on our wire, or where no broadcast shall be sent.
    ///
    /// # Errors
    /// As [`Wire::on`].
    pub fn relay(own: Ipv4Addr, server: Ipv4Addr) -> Result<Arc<Self>, Error> {
        let socket = bind(SocketAddrV4::new(own, 67))?;
        Self::start(socket, SocketAddrV4::new(server, 67), Some(own))
    }

    fn start(
        socket: StdSocket,
        to: SocketAddrV4,
        giaddr: Option<Ipv4Addr>,
    ) -> Result<Arc<Self>, Error> {
        let place = SocketAddrV4::new(giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED), 0);
        let failed = |source| Error::Socket { place, source };
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = UdpSocket::from_std(socket).map_err(failed)?;
        let wire = Arc::new(Self { socket, to, giaddr, waiting: Mutex::default() });
        let receiver = Arc::downgrade(&wire);
        tokio::spawn(async move {
            let mut buffer = [0; MAX_LEN];
            while let Some(wire) = receiver.upgrade() {
                wire.receive(&mut buffer).await;
            }
        });
        Ok(wire)
    }

    async fn receive(&self, buffer: &mut [u8]) {
        // Looked up now and then, so that a wire that nobody uses any more ends.
        let end = tokio::time::Instant::now() + Duration::from_secs(1);
        let Ok(Ok((length, _))) = timeout_at(end, self.socket.recv_from(buffer)).await else {
            return;
        };
        let bytes = &buffer[..length];
        let waits = reply::xid(bytes).and_then(|xid| self.waiting().get(&xid).cloned());
        if let (Some(waits), Some(reply)) = (waits, reply::parse(bytes)) {
            let _ = waits.try_send(reply);
        }
    }

    /// One exchange of one machine; gives what came of it and how often it asked again.
    ///
    /// # Errors
    /// The reason, where nothing came of it.
    pub async fn exchange(
        &self,
        client: Client,
        machine: &Machine,
        xid: u32,
        offer_wait: Duration,
    ) -> Result<(Bound, u32), String> {
        let (sender, mut replies) = mpsc::channel(WAITING);
        self.waiting().insert(xid, sender);
        let outcome = self.run(client, machine, xid, offer_wait, &mut replies).await;
        self.waiting().remove(&xid);
        outcome
    }

    async fn run(
        &self,
        client: Client,
        machine: &Machine,
        xid: u32,
        offer_wait: Duration,
        replies: &mut mpsc::Receiver<Reply>,
    ) -> Result<(Bound, u32), String> {
        let began = Instant::now();
        let (mut exchange, mut action) =
            Exchange::start(client, machine, xid, self.giaddr, offer_wait, began.elapsed());
        loop {
            match action {
                Action::Send(bytes) => {
                    // What cannot be sent now is as good as lost, and sent again like that.
                    if let Err(error) = self.socket.send_to(&bytes, self.to).await
                        && error.kind() == io::ErrorKind::NetworkUnreachable
                    {
                        return Err(error.to_string());
                    }
                }
                Action::Wait => {}
                Action::Done(bound) => return Ok((bound, exchange.resent())),
                Action::Failed(reason) => return Err(reason),
            }
            let deadline = (began + exchange.deadline()).into();
            let event = match timeout_at(deadline, replies.recv()).await {
                Ok(Some(reply)) => Event::Reply(reply),
                Ok(None) | Err(_) => Event::Timer,
            };
            (exchange, action) = exchange.step(began.elapsed(), event);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind(place: SocketAddrV4) -> Result<StdSocket, Error> {
    let socket = StdSocket::bind(place).map_err(|source| Error::Socket { place, source })?;
    // Of an unprivileged user the kernel takes less; a storm then loses some, and asks again.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    }
    Ok(socket)
}
