//! A TCP port inside the sandbox, reached at 127.0.0.1 outside.
//!
//! The two network namespaces share the file system: inside, a Unix socket leads to the port;
//! outside, a port on 127.0.0.1 leads to that socket.

use crate::error::{At, Error};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Connections of one relay at a time; a browser opens six, scripts a few. More are closed.
const MAX_CONNECTIONS: usize = 64;

/// The inner half: connections to the Unix socket at `path` go on to `target`.
pub fn inside(path: &Path, target: SocketAddr) -> Result<(), Error> {
    let listener = UnixListener::bind(path).at(path.display())?;
    spawn(move || {
        let open = Arc::new(AtomicUsize::new(0));
        for client in listener.incoming().flatten() {
            serve(&open, move || pump(client, TcpStream::connect(target)?));
        }
    })
}

/// The outer half: connections to 127.0.0.1 at `port` (0: any free one) go on to the Unix socket
/// at `path`. Gives the address.
pub fn outside(port: u16, path: &Path) -> Result<SocketAddr, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Error::BusyPort { address },
        _ => Error::Io { what: address.to_string(), source: error },
    })?;
    let address = listener.local_addr().at(address)?;
    let path = path.to_path_buf();
    spawn(move || {
        let open = Arc::new(AtomicUsize::new(0));
        for client in listener.incoming().flatten() {
            let path = path.clone();
            serve(&open, move || pump(client, UnixStream::connect(&path)?));
        }
    })?;
    Ok(address)
}

fn spawn(body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new().name("relay".into()).spawn(body).at("a thread for a relay").map(drop)
}

/// Runs one connection on a thread of its own unless there are too many. A connection that fails
/// is closed, which is all that its client needs to know.
fn serve(open: &Arc<AtomicUsize>, body: impl FnOnce() -> io::Result<()> + Send + 'static) {
    if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
        open.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let open_here = open.clone();
    let started = spawn(move || {
        let _ = body();
        open_here.fetch_sub(1, Ordering::Relaxed);
    });
    if started.is_err() {
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connected socket of either kind.
trait Stream: Read + Write + Send + Sized + 'static {
    fn twin(&self) -> io::Result<Self>;
    fn end_writing(&self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Stream for UnixStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }
    fn end_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Copies both ways until both have ended; the end of one way is passed on.
fn pump(mut client: impl Stream, mut server: impl Stream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.twin()?, server.twin()?);
    let up = thread::Builder::new().name("relay".into()).spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.end_writing();
    })?;
    let _ = io::copy(&mut server, &mut client);
    let _ = client.end_writing();
    let _ = up.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_ends_go_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("echo.sock");
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in server.incoming().flatten() {
                let mut asked = Vec::new();
                client.read_to_end(&mut asked).unwrap();
                asked.reverse();
                client.write_all(&asked).unwrap();
            }
        });
        inside(&path, target).unwrap();
        let address = outside(0, &path).unwrap();
        for _ in 0..MAX_CONNECTIONS + 6 {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"alia").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "aila");
        }
    }

    #[test]
    fn a_busy_port_is_an_error_that_names_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = outside(port, Path::new("unused")).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("ss -ltnp"), "{error}");
    }
}
