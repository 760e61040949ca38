//! The giving side of a connection.

use crate::{
    shop::{Answer, Place, Shop},
    wire,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use protocol::SecretKey;
use rustls::{ServerConfig, server::Acceptor};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::LazyConfigAcceptor;

/// The longest that a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The longest that a peer may ask for nothing, or take nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest that a connection may last.
const LONGEST: Duration = Duration::from_secs(120);
/// A request's head.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 16;
/// How long accepting rests where it failed: out of file descriptors, most likely.
const REST: Duration = Duration::from_millis(200);
/// The traffic class of what may wait for all else (RFC 8622: DSCP 1).
const LOWER_EFFORT: i32 = 1 << 2;

/// TLS of the giving side: known by a key of this boot, and open to anybody for pieces alone.
///
/// # Errors
/// A mistake of ours.
pub fn config(key: &SecretKey) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = mtls::server_to_anybody(key)?;
    config.alpn_protocols = vec![wire::PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// Gives pieces, and answers nothing else, until it is dropped.
pub async fn serve(listener: Arc<TcpListener>, config: Arc<ServerConfig>, shop: Arc<Shop>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(REST).await;
            continue;
        };
        // Who finds no place is told so by the connection's end, before it costs a handshake.
        if let Some(place) = shop.place(peer.ip()) {
            tokio::spawn(welcome(stream, peer, config.clone(), shop.clone(), place));
        }
    }
}

async fn welcome(
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    shop: Arc<Shop>,
    place: Place,
) {
    yield_to_all_else(&stream, peer);
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
        let offered = hello.client_hello().alpn().into_iter().flatten().collect::<Vec<_>>();
        if !wire::is_for_pieces(offered.into_iter()) {
            return None;
        }
        hello.into_stream(config).await.ok()
    };
    if let Ok(Some(stream)) = timeout(HANDSHAKE, handshake).await {
        give(stream, shop, place).await;
    }
}

/// Sets a connection's packets behind all others, and bounds how long they may lie.
pub fn yield_to_all_else(stream: &TcpStream, peer: SocketAddr) {
    let silence = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &silence);
    // What the kernel cannot do it leaves as it is.
    if peer.ip().to_canonical().is_ipv4() {
        let _ = setsockopt(stream, sockopt::Ipv4Tos, &LOWER_EFFORT);
    } else {
        let _ = setsockopt(stream, sockopt::Ipv6TClass, &LOWER_EFFORT);
    }
}

/// Gives pieces on a connection whose handshake is done.
pub async fn give(stream: impl AsyncRead + AsyncWrite + Unpin, shop: Arc<Shop>, place: Place) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shop = shop.clone();
        async move { Ok::<_, Infallible>(answer(&shop, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // How it ended is the peer's to know.
    let _ = timeout(LONGEST, served).await;
    drop(place);
}

async fn answer<T>(shop: &Shop, request: &Request<T>) -> Response<Full<Bytes>> {
    let asked = match wire::read(request.uri().path()) {
        Some(asked) if request.method() == Method::GET && request.uri().query().is_none() => asked,
        _ => return with(shop, StatusCode::NOT_FOUND, Vec::new()),
    };
    let (file, piece) = asked;
    match shop.asked(file, piece) {
        Answer::Absent => with(shop, StatusCode::NOT_FOUND, Vec::new()),
        Answer::Busy => with(shop, StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        Answer::After(wait) => {
            sleep(wait).await;
            match shop.read(piece) {
                Ok(content) => with(shop, StatusCode::OK, content),
                Err(_) => with(shop, StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
            }
        }
    }
}

fn with(shop: &Shop, status: StatusCode, content: Vec<u8>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(content)));
    *answer.status_mut() = status;
    if let Ok(held) = HeaderValue::from_str(&shop.held().hex()) {
        answer.headers_mut().insert(wire::HELD, held);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use protocol::Digest;
    use std::io;

    struct Seven;

    impl crate::shop::Shelf for Seven {
        fn read(&self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
            buffer.fill(7);
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_get_of_a_piece_that_is_there_is_answered_and_nothing_else() {
        let shop = Shop::new(Digest([1; 32]), Layout::of(300_000).unwrap(), Seven);
        shop.open("10.0.0.0/8".parse().ok(), 1 << 30);
        shop.put(0);
        let ask = async |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let answer = answer(&shop, &request).await;
            assert_eq!(answer.headers()[wire::HELD], "01");
            answer.status().as_u16()
        };
        let file = shop.file();
        assert_eq!(ask(Method::GET, &wire::path(file, 0)).await, 200);
        assert_eq!(ask(Method::GET, &wire::path(file, 1)).await, 404);
        assert_eq!(ask(Method::GET, &wire::path(Digest([2; 32]), 0)).await, 404);
        assert_eq!(ask(Method::POST, &wire::path(file, 0)).await, 404);
        for path in ["/", "/v1/status", "/v1/reboot", "/v1/logs?follow=1", "/v1/pieces/x/0"] {
            assert_eq!(ask(Method::GET, path).await, 404, "{path}");
        }
        assert_eq!(ask(Method::GET, &format!("{}?a", wire::path(file, 0))).await, 404);
        shop.open("10.0.0.0/8".parse().ok(), 0);
        assert_eq!(ask(Method::GET, &wire::path(file, 0)).await, 503);
    }
}
