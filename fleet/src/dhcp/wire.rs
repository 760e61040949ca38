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
    thread,
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, sync::mpsc, task::AbortHandle, time::timeout_at};

/// The socket's buffer in bytes: a thousand answers at once, twice.
const BUFFER: usize = 4 << 20;
/// Answers that wait for one machine; more are as good as lost on the way.
const WAITING: usize = 8;
/// How often, and after which pause, a port that is taken is asked for again.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(25);
/// The longest answer: one frame's.
const MAX_LEN: usize = 1_500;

/// DHCP's socket.
pub struct Wire {
    socket: Arc<UdpSocket>,
    to: SocketAddrV4,
    giaddr: Option<Ipv4Addr>,
    waiting: Waiting,
    receiver: AbortHandle,
}

/// Who waits for answers, by transaction. No more entries than machines under way.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<u32, mpsc::Sender<Reply>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Reply>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.receiver.abort();
    }
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
        let socket = Arc::new(UdpSocket::from_std(socket).map_err(failed)?);
        let waiting = Waiting::default();
        let receiver = tokio::spawn(receive(socket.clone(), waiting.clone())).abort_handle();
        Ok(Arc::new(Self { socket, to, giaddr, waiting, receiver }))
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
        self.waiting.lock().insert(xid, sender);
        let outcome = self.run(client, machine, xid, offer_wait, &mut replies).await;
        self.waiting.lock().remove(&xid);
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
}

async fn receive(socket: Arc<UdpSocket>, waiting: Waiting) {
    let mut buffer = [0; MAX_LEN];
    loop {
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = &buffer[..length];
        let waits = reply::xid(bytes).and_then(|xid| waiting.lock().get(&xid).cloned());
        if let (Some(waits), Some(reply)) = (waits, reply::parse(bytes)) {
            let _ = waits.try_send(reply);
        }
    }
}

/// Binds; waits a moment where the run before this one is still letting go of the port.
fn bind(place: SocketAddrV4) -> Result<StdSocket, Error> {
    let mut tries = 0;
    let socket = loop {
        match StdSocket::bind(place) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES => {
                tries += 1;
                thread::sleep(BIND_PAUSE);
            }
            bound => break bound.map_err(|source| Error::Socket { place, source })?,
        }
    };
    // Of an unprivileged user the kernel takes less; a storm then loses some, and asks again.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    }
    Ok(socket)
}
