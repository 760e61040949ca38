//! Measures our transport against tendermint-abci's own server, the same way round: one CheckTx
//! and one Flush in one write, as CometBFT sends a synchronous call, until both answers are back.

use crate::transport::{Address, FrameError, FrameReader, FrameWriter, Server};
use std::{
    io::{self, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};
use tendermint_abci::{Application, ServerBuilder};
use tendermint_proto::v0_38::abci::{
    Request, RequestCheckTx, RequestFlush, Response, request::Value,
};

/// A receipt transaction's usual size in bytes.
pub const TRANSACTION_LEN: usize = 1_000;

/// Which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// Ours over TCP.
    Tcp,
    /// Ours over a Unix socket at this path.
    Unix(&'a Path),
    /// tendermint-abci's, which speaks TCP alone.
    TendermintAbci,
}

/// How long round trips took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many were measured.
    pub count: usize,
    /// The middle one.
    pub median: Duration,
    /// Of a hundred, one takes longer.
    pub p99: Duration,
    /// All of them together.
    pub total: Duration,
}

/// An application that does nothing, so that the transport alone is measured.
#[derive(Clone)]
struct Idle;

impl Application for Idle {}

/// Measures `count` CheckTx round trips, after a tenth as many that are not counted.
///
/// # Errors
/// Where the sockets fail or the server answers nonsense. The server's threads live on until the
/// process ends: tendermint-abci's cannot be stopped.
pub fn check_tx(transport: Transport<'_>, count: usize) -> io::Result<RoundTrips> {
    match transport {
        Transport::Tcp => {
            let address = serve_ours(&Address::Tcp("127.0.0.1:0".into()))?;
            let Address::Tcp(authority) = address else {
                return Err(io::Error::other("bound to TCP, but the address is another kind"));
            };
            over_tcp(&authority, count)
        }
        Transport::Unix(path) => {
            serve_ours(&Address::Unix(path.into()))?;
            let stream = UnixStream::connect(path)?;
            measure(stream.try_clone()?, stream, count)
        }
        Transport::TendermintAbci => {
            let server =
                ServerBuilder::default().bind("127.0.0.1:0", Idle).map_err(io::Error::other)?;
            let authority = server.local_addr();
            thread::Builder::new().spawn(move || drop(server.listen()))?;
            over_tcp(&authority, count)
        }
    }
}

fn serve_ours(address: &Address) -> io::Result<Address> {
    let server = Server::bind(address).map_err(io::Error::other)?;
    let address = server.address()?;
    thread::Builder::new().spawn(move || server.serve(Idle))?;
    Ok(address)
}

fn over_tcp(authority: &str, count: usize) -> io::Result<RoundTrips> {
    let stream = TcpStream::connect(authority)?;
    // As Go's runtime sets it on every connection, and so CometBFT.
    stream.set_nodelay(true)?;
    measure(stream.try_clone()?, stream, count)
}

fn measure(reader: impl io::Read, writer: impl Write, count: usize) -> io::Result<RoundTrips> {
    let failed = |error: FrameError| io::Error::other(error);
    let mut answers = FrameReader::new(reader);
    let mut requests = FrameWriter::new(writer);
    let tx = vec![7u8; TRANSACTION_LEN].into();
    let check = Request { value: Some(Value::CheckTx(RequestCheckTx { tx, r#type: 0 })) };
    let flush = Request { value: Some(Value::Flush(RequestFlush {})) };
    let warm = count / 10;
    let mut times = Vec::with_capacity(count);
    for turn in 0..warm + count {
        let begin = Instant::now();
        requests.push(&check).map_err(failed)?;
        requests.push(&flush).map_err(failed)?;
        requests.flush().map_err(failed)?;
        for _ in 0..2 {
            let answer: Option<Response> = answers.read().map_err(failed)?;
            answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        if turn >= warm {
            times.push(begin.elapsed());
        }
    }
    times.sort_unstable();
    let at = |share: usize| times.get(count * share / 100).copied().unwrap_or_default();
    Ok(RoundTrips { count, median: at(50), p99: at(99), total: times.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_answers_every_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abci.sock");
        for transport in [Transport::Tcp, Transport::Unix(&path), Transport::TendermintAbci] {
            let trips = check_tx(transport, 10).unwrap();
            assert!(trips.count == 10 && trips.median <= trips.p99, "{transport:?} {trips:?}");
        }
    }
}
