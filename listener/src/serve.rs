//! The service of an axum router.

use crate::{
    Lane, Load, Peers,
    asked::Asked,
    lane::Sending,
    moving::Moving,
    table::{Progress, Table},
};
use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tower_service::Service;

/// How long accepting rests where it failed.
const PAUSE: Duration = Duration::from_millis(200);
/// A connection on which no request's head arrives for so long is closed. Clients that keep idle
/// ones for later give them up sooner: 90 s is usual.
const SILENCE: Duration = Duration::from_secs(120);
/// Where there is no room for one more, who got nothing for so long goes.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head, and what waits to be written besides files: so much memory a stranger can have
/// for nothing, 4,096 times.
const BUFFER: usize = 32 << 10;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all. For one more, one that got nothing for 5 s and waits for no answer of ours ends, of the
    /// peer that has most; where there is none, it waits in the kernel's queue.
    pub connections: usize,
    /// From one address, or one IPv6 network of 64 bits. One more is closed at once.
    pub of_one_peer: usize,
    /// How long a connection may be without a request's head.
    pub silence: Duration,
}

impl Limits {
    /// For a service that machines and people use: 4,096 connections, a quarter of them from one
    /// peer.
    pub const USUAL: Self = Self { connections: 4_096, of_one_peer: 1_024, silence: SILENCE };
}

/// Serves until it is dropped. Handlers may ask for [`ConnectInfo`]`<`[`SocketAddr`]`>`, and find a
/// [`Lane`] among a request's extensions.
pub async fn serve(listener: TcpListener, limits: Limits, router: Router) -> Infallible {
    serve_counted(listener, limits, Load::default(), router).await
}

/// The same, and `load` tells how full it is.
pub async fn serve_counted(
    listener: TcpListener,
    limits: Limits,
    load: Load,
    router: Router,
) -> Infallible {
    let each = move |stream, peer, progress: Progress| {
        let (lane, router) = (Lane::default(), router.clone());
        let stream = Moving::new(Sending::new(stream, lane.clone()), progress.clone());
        connection(stream, peer, progress, Some(lane), router, limits.silence)
    };
    accept(listener, limits, load, each).await
}

/// Accepts for ever, within the limits, and runs `each` connection as a task of its own.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    limits: Limits,
    load: Load,
    each: impl Fn(TcpStream, SocketAddr, Progress) -> F,
) -> Infallible
where
    F: Future<Output = ()> + Send + 'static,
{
    let table = Table::new(limits.connections, PATIENCE);
    let peers = Peers::default();
    loop {
        // The semaphore is never closed.
        let Some(room) = table.room().await else { continue };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: they come back as connections end.
                tracing::warn!("HTTP: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(seat) = peers.seat(peer.ip(), limits.of_one_peer) else {
            tracing::debug!(%peer, "it has {} connections already", limits.of_one_peer);
            load.turn_away();
            continue;
        };
        // Answers are small: no waiting for more to send.
        let _ = stream.set_nodelay(true);
        let place = table.place(room, peer.ip());
        let connection = each(stream, peer, place.progress.clone());
        let (counted, load) = (load.connection(), load.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection => {}
                () = place.wanted() => {
                    tracing::debug!(%peer, "the connection made room for another");
                    load.turn_away();
                }
            }
            drop((place, seat, counted));
        });
    }
}

/// One connection until it ends.
pub(crate) async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    progress: Progress,
    lane: Option<Lane>,
    router: Router,
    silence: Duration,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let progress = progress.clone();
        let mut request = request.map(|body| Body::new(Asked::new(body, progress.clone())));
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(lane) = &lane {
            request.extensions_mut().insert(lane.clone());
        }
        // A router is always ready.
        let answer = router.clone().call(request);
        async move {
            let answer = answer.await;
            progress.note();
            progress.owes(false);
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(silence)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, "the connection ended: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    const SOON: Duration = Duration::from_millis(300);

    async fn served(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let router = Router::new().route("/", get(who));
        tokio::spawn(serve(listener, limits, router));
        address
    }

    /// What comes as an answer, if one comes soon.
    async fn asked(stream: &mut TcpStream) -> Option<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.ok()?;
        let mut answer = vec![0; 4096];
        let count = timeout(SOON, stream.read(&mut answer)).await.ok()?.ok()?;
        (count > 0).then(|| String::from_utf8_lossy(&answer[..count]).into_owned())
    }

    #[tokio::test]
    async fn who_asks_is_known_and_one_more_waits_until_a_place_is_given_back() {
        let address = served(Limits { connections: 2, ..Limits::USUAL }).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        for client in &mut clients[..2] {
            let name = client.local_addr().unwrap().to_string();
            assert!(asked(client).await.unwrap().ends_with(&name));
        }
        assert_eq!(asked(&mut clients[2]).await, None);
        drop(clients.remove(0));
        let mut answer = [0; 15];
        timeout(10 * SOON, clients[1].read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn an_answer_is_owed_once_the_request_came_whole_and_until_it_is_given() {
        let (mut client, server) = tokio::io::duplex(4096);
        let (go, went) = tokio::sync::oneshot::channel::<()>();
        let went = std::sync::Arc::new(tokio::sync::Mutex::new(Some(went)));
        let answer = |body: String| async move {
            let went = went.lock().await.take().unwrap();
            went.await.unwrap();
            body
        };
        let router = Router::new().route("/", axum::routing::post(answer));
        let table = Table::new(1, SOON);
        let place = table.place(table.room().await.unwrap(), [10, 0, 0, 1].into());
        let progress = place.progress.clone();
        let peer = ([10, 0, 0, 1], 1).into();
        tokio::spawn(connection(server, peer, progress.clone(), None, router, SILENCE));
        let head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab";
        client.write_all(head).await.unwrap();
        tokio::time::sleep(SOON).await;
        assert!(!progress.is_owed(), "half of it came");
        client.write_all(b"cd").await.unwrap();
        tokio::time::sleep(SOON).await;
        assert!(progress.is_owed(), "it waits for us");
        go.send(()).unwrap();
        let mut start = [0; 15];
        timeout(10 * SOON, client.read_exact(&mut start)).await.unwrap().unwrap();
        assert!(!progress.is_owed());
    }

    #[tokio::test]
    async fn one_peer_has_its_share_and_no_more() {
        let address = served(Limits { of_one_peer: 1, ..Limits::USUAL }).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(asked(&mut first).await.is_some());
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(asked(&mut second).await, None);
        drop(first);
        tokio::time::sleep(SOON).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(asked(&mut third).await.is_some());
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed_before_its_first_request_and_after() {
        let address = served(Limits { silence: SOON, ..Limits::USUAL }).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(asked(&mut idle).await.is_some());
        for stream in [&mut silent, &mut slow, &mut idle] {
            let mut rest = Vec::new();
            timeout(10 * SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        }
    }
}
