//! The edge: one socket for requests, one a transfer, files below one folder.

use super::{
    care::Care,
    name,
    options::{self, MAX_BLKSIZE},
    packet::{self, Code, FromClient},
    session::{Action, End, Event, Session},
};
use crate::machine::Mac;
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};
use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, task::AbortHandle, time::timeout_at};

/// The most transfers at a time: a thousand machines' boot storm, each with the question for the
/// file's size that may not be over yet, and as many strangers. A packet's memory each.
pub const MAX_TRANSFERS: usize = 4_096;
/// The most transfers of one address at a time: firmware runs one, a relayed site shares one.
const MAX_TRANSFERS_EACH: usize = 64;
/// A client's first answer comes within a round trip; firmware's within this.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// IPv4, UDP and TFTP headers: what of the MTU a block cannot have.
pub const HEADERS: u16 = 32;
/// The same with IPv6.
const HEADERS6: u16 = 52;

/// What becomes of requests, for whoever keeps the books.
#[derive(Clone, Debug)]
pub enum Report {
    /// A transfer begins.
    Began {
        /// Whose it is, where the name tells.
        mac: Option<Mac>,
        /// The client.
        peer: SocketAddr,
        /// The file.
        name: String,
    },
    /// A transfer ended.
    Ended(Transfer),
    /// A request was turned down.
    Refused {
        /// Whose it is, where the name tells.
        mac: Option<Mac>,
        /// The client.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// A transfer that ended.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Whose it was, where the name tells.
    pub mac: Option<Mac>,
    /// The client.
    pub peer: SocketAddr,
    /// The file.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of a block and blocks of a window.
    pub terms: (u16, u16),
    /// How long it took.
    pub took: Duration,
    /// Packets sent more than once.
    pub resent: u64,
    /// How it ended.
    pub end: End,
}

/// Called with every report, from the server's tasks: it must not wait.
pub type Observer = Arc<dyn Fn(Report) + Send + Sync>;

/// A TFTP server over one folder.
pub struct Server {
    listener: UdpSocket,
    folder: Option<OwnedFd>,
    /// Served beside the folder, under names of their own.
    files: Vec<(String, PathBuf)>,
    max_blksize: u16,
    observer: Observer,
    running: Mutex<HashMap<SocketAddr, Running>>,
}

struct Running {
    task: AbortHandle,
    under_way: Arc<AtomicBool>,
    began: Instant,
}

/// A file found for a request.
struct Found {
    mac: Option<Mac>,
    care: Care,
    name: String,
    file: File,
    bytes: u64,
}

impl Server {
    /// Serves the files below `folder`, and `files` under the names given with them, on a bound
    /// socket. `mtu` bounds the block size, so that
    /// no block is fragmented on the wire.
    pub fn new(
        listener: std::net::UdpSocket,
        folder: Option<&Path>,
        files: Vec<(String, PathBuf)>,
        mtu: u16,
        observer: Observer,
    ) -> io::Result<Arc<Self>> {
        listener.set_nonblocking(true)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let headers = if listener.local_addr()?.is_ipv6() { HEADERS6 } else { HEADERS };
        let open = |folder: &Path| nix::fcntl::open(folder, flags, Mode::empty());
        Ok(Arc::new(Self {
            listener: UdpSocket::from_std(listener)?,
            folder: folder.map(open).transpose()?,
            files,
            max_blksize: max_blksize(mtu, headers),
            observer,
            running: Mutex::default(),
        }))
    }

    /// The address that it listens at.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// How many transfers run.
    pub fn transfers(&self) -> usize {
        self.running().values().filter(|transfer| !transfer.task.is_finished()).count()
    }

    /// Serves until the task is dropped.
    pub async fn serve(self: Arc<Self>) {
        // One byte more than a request may have tells the long ones.
        let mut buffer = [0; packet::MAX_REQUEST_LEN + 1];
        loop {
            match self.listener.recv_from(&mut buffer).await {
                Ok((length, peer)) => self.request(&buffer[..length], peer).await,
                // Answers to nobody come back as errors on this socket; none of them is ours.
                Err(error) => tracing::debug!("TFTP: {error}"),
            }
        }
    }

    async fn request(self: &Arc<Self>, bytes: &[u8], peer: SocketAddr) {
        let request = match packet::parse_request(bytes) {
            Ok(request) => request,
            Err(refused) => {
                return self.refuse(None, peer, refused.code(), refused.to_string()).await;
            }
        };
        let Some(places) = self.room(peer) else { return };
        if let Err(reason) = places {
            return self.refuse(None, peer, Some(Code::NotDefined), reason.into()).await;
        }
        let found = match self.find(&request.name) {
            Ok(found) => found,
            Err((mac, code, reason)) => return self.refuse(mac, peer, Some(code), reason).await,
        };
        let terms =
            options::negotiate(&request.options, found.bytes, self.max_blksize, &found.care);
        let under_way = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(self.clone().run(peer, found, terms, under_way.clone()));
        let running = Running { task: task.abort_handle(), under_way, began: Instant::now() };
        self.running().insert(peer, running);
    }

    /// Room for one more transfer of this client: none (no answer) where its request is the one
    /// being served, sent again because our answer was late.
    fn room(&self, peer: SocketAddr) -> Option<Result<(), &'static str>> {
        let mut running = self.running();
        running.retain(|_, transfer| !transfer.task.is_finished());
        if let Some(transfer) = running.get(&peer) {
            if !transfer.under_way.load(Ordering::Relaxed) {
                return None;
            }
            // The client has the port for a new transfer, so it gave the old one up.
            transfer.task.abort();
            running.remove(&peer);
        }
        if running.len() >= MAX_TRANSFERS && !drop_unanswered(&mut running) {
            return Some(Err("too many transfers at a time, try again"));
        }
        let same: IpAddr = peer.ip();
        if running.keys().filter(|other| other.ip() == same).count() >= MAX_TRANSFERS_EACH {
            return Some(Err("too many transfers of one address at a time, try again"));
        }
        Some(Ok(()))
    }

    fn find(&self, asked: &str) -> Result<Found, (Option<Mac>, Code, String)> {
        let wanted =
            name::wanted(asked).map_err(|error| (None, Code::Access, error.to_string()))?;
        let (mac, care) = (wanted.mac, wanted.care);
        let shown = wanted.path.display().to_string();
        // The kernel keeps the path below the folder, symbolic links included; O_NONBLOCK, so
        // that a pipe in the folder cannot stop us.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let own = self.files.iter().find(|(name, _)| Path::new(name) == wanted.path);
        let file = match (own, &self.folder) {
            (Some((_, path)), _) => File::open(path).ok(),
            (None, Some(folder)) => openat2(folder, &wanted.path, how).ok().map(File::from),
            (None, None) => None,
        };
        let none = || (mac, Code::NotFound, format!("there is no file {shown:?} here"));
        let file = file.ok_or_else(none)?;
        match file.metadata() {
            Ok(meta) if meta.is_file() => {
                Ok(Found { mac, care, name: shown, bytes: meta.len(), file })
            }
            _ => Err((mac, Code::NotFound, format!("{shown:?} is no file"))),
        }
    }

    async fn refuse(&self, mac: Option<Mac>, peer: SocketAddr, code: Option<Code>, reason: String) {
        if let Some(code) = code {
            // A client that does not get this tries again and gets it then.
            let _ = self.listener.send_to(&packet::error(code, &reason), peer).await;
        }
        (self.observer)(Report::Refused { mac, peer, reason });
    }

    async fn run(
        self: Arc<Self>,
        peer: SocketAddr,
        found: Found,
        terms: options::Terms,
        under_way: Arc<AtomicBool>,
    ) {
        let began = Instant::now();
        let (mac, name, bytes) = (found.mac, found.name.clone(), found.bytes);
        (self.observer)(Report::Began { mac, peer, name: name.clone() });
        let (end, resent) = match self.transfer(peer, found, &terms, began, &under_way).await {
            Ok(outcome) => outcome,
            Err(error) => (End::Aborted(0, format!("on our side: {error}")), 0),
        };
        let terms = (terms.blksize, terms.window);
        let took = began.elapsed();
        (self.observer)(Report::Ended(Transfer {
            mac,
            peer,
            name,
            bytes,
            terms,
            took,
            resent,
            end,
        }));
    }

    async fn transfer(
        &self,
        peer: SocketAddr,
        found: Found,
        terms: &options::Terms,
        began: Instant,
        under_way: &AtomicBool,
    ) -> io::Result<(End, u64)> {
        // A port of its own (RFC 1350 section 4), at the address that was asked; connected, so
        // that strangers' packets do not get here and a port that closed is told.
        let local = SocketAddr::new(self.listener.local_addr()?.ip(), 0);
        let socket = UdpSocket::bind(local).await?;
        socket.connect(peer).await?;
        let blocks = Blocks::new(found.file, found.bytes, terms.blksize);
        let (mut session, mut actions) = Session::open(began.elapsed(), found.bytes, terms);
        let mut packet = Vec::with_capacity(usize::from(terms.blksize) + 4);
        let mut buffer = [0; packet::MAX_REQUEST_LEN];
        loop {
            let mut listening = true;
            for action in actions {
                match action {
                    Action::Oack => listening &= tell(&socket, &packet::oack(&terms.oack)).await,
                    Action::Data { first, last } => {
                        for block in first..=last {
                            packet::data(&mut packet, block as u16);
                            if let Err(error) = blocks.read(block, &mut packet) {
                                let text = "the file cannot be read";
                                tell(&socket, &packet::error(Code::NotDefined, text)).await;
                                return Err(error);
                            }
                            listening &= tell(&socket, &packet).await;
                        }
                    }
                    Action::GiveUp => {
                        tell(&socket, &packet::error(Code::NotDefined, "no answer")).await;
                    }
                    Action::End(end) => return Ok((end, session.resent())),
                }
            }
            let event = loop {
                if !listening {
                    break Event::Gone;
                }
                let deadline = (began + session.deadline()).into();
                match timeout_at(deadline, socket.recv(&mut buffer)).await {
                    Err(_) => break Event::Silence,
                    Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        break Event::Gone;
                    }
                    Ok(Err(error)) => return Err(error),
                    Ok(Ok(length)) => match packet::parse(&buffer[..length]) {
                        FromClient::Ack(block) => break Event::Ack(block),
                        FromClient::Error(code, text) => break Event::Error(code, text),
                        FromClient::Other => {}
                    },
                }
            };
            (session, actions) = session.step(began.elapsed(), event);
            under_way.store(session.is_under_way(), Ordering::Relaxed);
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the transfer that waits longest for its client's first answer: who only asks, or asks in
/// another's name, keeps nobody out. False where all are under way.
fn drop_unanswered(running: &mut HashMap<SocketAddr, Running>) -> bool {
    let waits = |transfer: &Running| {
        !transfer.under_way.load(Ordering::Relaxed) && transfer.began.elapsed() >= ANSWERS_WITHIN
    };
    let waiting = running.iter().filter(|(_, transfer)| waits(transfer));
    let oldest = waiting.min_by_key(|(_, transfer)| transfer.began).map(|(&peer, _)| peer);
    let Some(transfer) = oldest.and_then(|peer| running.remove(&peer)) else { return false };
    transfer.task.abort();
    true
}

/// The largest block that is not fragmented where packets have `mtu` bytes at most.
pub fn max_blksize(mtu: u16, headers: u16) -> u16 {
    mtu.saturating_sub(headers).clamp(512, MAX_BLKSIZE)
}

/// Sends. What cannot be sent now is as good as lost on the way, and is sent again like that;
/// false where nobody listens there any more.
async fn tell(socket: &UdpSocket, packet: &[u8]) -> bool {
    match socket.send(packet).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!("TFTP: {error}");
            error.kind() != io::ErrorKind::ConnectionRefused
        }
    }
}

/// A file in blocks. Reading blocks the task's thread for as long as the page cache takes; boot files
/// are small and soon cached.
struct Blocks {
    file: File,
    length: u64,
    blksize: u64,
}

impl Blocks {
    fn new(file: File, length: u64, blksize: u16) -> Self {
        Self { file, length, blksize: blksize.into() }
    }

    /// Puts the content of block `number`, counted from 1, behind what `packet` has; shorter than the
    /// others, or empty, at the end.
    fn read(&self, number: u64, packet: &mut Vec<u8>) -> io::Result<()> {
        let from = (number - 1) * self.blksize;
        let length = self.blksize.min(self.length.saturating_sub(from)) as usize;
        let head = packet.len();
        packet.resize(head + length, 0);
        self.file.read_exact_at(&mut packet[head..], from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_made_by_who_never_answered_and_waits_for_longest() {
        let transfer = |under_way: bool, age: Duration| Running {
            task: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            under_way: Arc::new(under_way.into()),
            began: Instant::now() - age,
        };
        let client = |n: u8| SocketAddr::from(([10, 0, 0, n], 1_000));
        let seconds = Duration::from_secs;
        let mut running = HashMap::from([
            (client(1), transfer(true, seconds(9))),
            (client(2), transfer(false, seconds(3))),
            (client(3), transfer(false, seconds(5))),
            (client(4), transfer(false, Duration::ZERO)),
        ]);
        assert!(drop_unanswered(&mut running) && !running.contains_key(&client(3)));
        assert!(drop_unanswered(&mut running) && !running.contains_key(&client(2)));
        assert!(!drop_unanswered(&mut running), "one is under way, one has only asked");
        assert_eq!(running.len(), 2);
    }
}
