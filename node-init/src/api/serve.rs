//! The sockets: who is let in, how many, for how long.

use super::{
    Api,
    access::Access,
    answer::{self, Asker},
};
use crate::stages::share::Giving;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use listener::{Peers, Seat};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use pieces::{Shop, give, shop::Place};
use protocol::{PublicKey, SecretKey, node_api::OperatorRole};
use rustls::server::Acceptor;
use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, server::TlsStream};

/// How many may speak to the node, and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of keys that are known.
    pub connections: usize,
    /// Handshakes at a time: strangers hold these places alone, and each for
    /// [`handshake`](Self::handshake) at the longest.
    pub handshakes: usize,
    /// Connections from one address, or one IPv6 network of 64 bits.
    pub of_one_peer: usize,
    /// The longest that a handshake may take.
    pub handshake: Duration,
    /// The longest that a connection may be without a request's head, or a peer without taking
    /// what it is sent.
    pub silence: Duration,
    /// Between two handshakes that begin: a flood of them, about a millisecond each, leaves the
    /// machine its time.
    pub pause: Duration,
}

impl Limits {
    /// For a node.
    pub const USUAL: Self = Self {
        connections: 32,
        handshakes: 16,
        of_one_peer: 12,
        handshake: Duration::from_secs(10),
        silence: Duration::from_secs(60),
        pause: Duration::from_millis(10),
    };
}

/// The largest head of a request, in bytes and in lines: hyper's least.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 32;
/// How long a peer that was refused may take to close.
const PARTING: Duration = Duration::from_secs(1);
/// How long accepting rests where it failed.
const REST: Duration = Duration::from_millis(200);

/// Listens on a port of every address, IPv6's and IPv4's.
///
/// # Errors
/// Where the port is taken.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // A kernel without IPv6.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// A node's side of TLS: known by its key, and open to the keys that its settings name.
///
/// # Errors
/// A mistake of ours.
pub fn acceptor(key: &SecretKey, access: Arc<Access>) -> Result<TlsAcceptor, rustls::Error> {
    let knows = move |asked: &PublicKey| access.role(asked).is_some();
    Ok(TlsAcceptor::from(Arc::new(mtls::server(key, Arc::new(knows))?)))
}

/// Who may come in: those who are known, and, for pieces of the root alone, anybody of the site.
#[derive(Clone)]
pub struct Doors {
    /// For those who are known.
    pub acceptor: TlsAcceptor,
    /// For whoever wants pieces.
    pub giving: Option<Giving>,
}

/// Serves until it is dropped. Runs in a [`tokio::task::LocalSet`].
pub async fn serve(
    api: Rc<Api>,
    listener: Arc<TcpListener>,
    doors: Doors,
    limits: Limits,
) -> Infallible {
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let connections = Arc::new(Semaphore::new(limits.connections));
    let peers = Peers::default();
    loop {
        let place = handshakes.clone().acquire_owned().await.ok();
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of file descriptors, most likely: they come back as connections end.
                sleep(REST).await;
                continue;
            }
        };
        let Some(seat) = peers.seat(peer.ip(), limits.of_one_peer) else {
            api.refused(peer, &format!("it has {} connections already", limits.of_one_peer));
            continue;
        };
        let guest = Guest { stream, peer, seat, place };
        let (api, doors, connections) = (api.clone(), doors.clone(), connections.clone());
        spawn_local(async move { guest.welcome(api, doors, connections, limits).await });
        sleep(limits.pause).await;
    }
}

/// Somebody who connected.
struct Guest {
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    place: Option<OwnedSemaphorePermit>,
}

impl Guest {
    async fn welcome(
        self,
        api: Rc<Api>,
        doors: Doors,
        connections: Arc<Semaphore>,
        limits: Limits,
    ) {
        let Self { stream, peer, seat, place } = self;
        // Answers are small: no waiting for more to send. Who takes nothing is given up.
        let _ = stream.set_nodelay(true);
        let silence = u32::try_from(limits.silence.as_millis()).unwrap_or(u32::MAX);
        let _ = setsockopt(&stream, TcpUserTimeout, &silence);
        let stream = match timeout(limits.handshake, greet(stream, peer, &doors)).await {
            Ok(Ok(Greeted::Known(stream))) => *stream,
            Ok(Ok(Greeted::Sharer(stream, shop, sharer))) => {
                drop(place);
                give::give(*stream, shop, sharer).await;
                return drop(seat);
            }
            Ok(Ok(Greeted::NoPlace)) => return,
            Ok(Err((error, stream))) => {
                api.refused(peer, &error.to_string());
                if let Some(stream) = stream {
                    part(stream).await;
                }
                return;
            }
            Err(_) => return api.refused(peer, "it said too little for too long"),
        };
        // The handshake let it in, so it is known.
        let Some((key, role)) = shown(&stream, &api.access) else { return };
        let Ok(_connection) = connections.try_acquire_owned() else {
            let most = limits.connections;
            return api.refused(peer, &format!("{most} connections are there already"));
        };
        drop(place);
        let asker = Asker { key, role, peer: peer.ip().to_canonical().to_string() };
        let service = service_fn(move |request: Request<Incoming>| {
            let (api, asker) = (api.clone(), asker.clone());
            async move { Ok::<_, Infallible>(answer::answer(api, asker, request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.silence)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        // How it ended is the peer's to know: it had its answers, each of them audited.
        let _ = served.await;
        drop(seat);
    }
}

/// Who came.
enum Greeted {
    /// Somebody who is known.
    Known(Box<TlsStream<TcpStream>>),
    /// A machine of the site that wants pieces, and has a place.
    Sharer(Box<TlsStream<TcpStream>>, Arc<Shop>, Place),
    /// One for which there is none: it asks elsewhere.
    NoPlace,
}

/// The handshake: by the door that the first words ask for (ALPN).
async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    doors: &Doors,
) -> Result<Greeted, (io::Error, Option<TcpStream>)> {
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let start = match (&mut hello).await {
        Ok(start) => start,
        Err(error) => return Err((error, hello.take_io())),
    };
    let for_pieces = start.client_hello().alpn().is_some_and(pieces::is_for_pieces);
    let back = |(error, stream)| (error, Some(stream));
    let Some(giving) = doors.giving.as_ref().filter(|_| for_pieces) else {
        let config = doors.acceptor.config().clone();
        let stream = start.into_stream(config).into_fallible().await.map_err(back)?;
        return Ok(Greeted::Known(Box::new(stream)));
    };
    let Some(place) = giving.shop.place(peer.ip()) else { return Ok(Greeted::NoPlace) };
    let stream = start.into_stream(giving.config.clone()).into_fallible().await.map_err(back)?;
    give::yield_to_all_else(stream.get_ref().0, peer);
    Ok(Greeted::Sharer(Box::new(stream), giving.shop.clone(), place))
}

/// Lets a peer hear why it was refused: closing at once, with words of its own unread, would have
/// the kernel throw away what it was told.
async fn part(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let rest = async {
        let mut bytes = [0; 4 << 10];
        for _ in 0..4 {
            let Ok(1..) = stream.read(&mut bytes).await else { return };
        }
    };
    let _ = timeout(PARTING, rest).await;
}

/// Whose connection it is.
fn shown(stream: &TlsStream<TcpStream>, access: &Access) -> Option<(PublicKey, OperatorRole)> {
    let key = mtls::certificate::key_of(stream.get_ref().1.peer_certificates()?.first()?)?;
    Some((key, access.role(&key)?))
}
