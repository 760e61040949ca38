//! The sockets: accepts connections and serves each on its own thread.

use super::{Address, FrameError, FrameReader, FrameWriter, Unknown, dispatch};
use std::{
    any::Any,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{Request, request::Value};

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened on ({source}): {mend}")]
pub struct BindError {
    address: Address,
    source: io::Error,
    mend: &'static str,
}

/// Why serving ended: the process has to stop.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No further connection can be taken.
    #[error("no connection can be accepted any more: {0}")]
    Accept(io::Error),
    /// A connection carried something else than ABCI.
    #[error("CometBFT's connection failed: {0}")]
    Frame(#[from] FrameError),
    /// A request of an unknown kind.
    #[error("CometBFT sent {0}")]
    Unknown(#[from] Unknown),
    /// The application panicked.
    #[error("{0}")]
    Panic(String),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A bound address.
pub struct Server {
    listener: Listener,
}

impl Server {
    /// Binds an address. A Unix socket that a killed process left behind is taken over.
    pub fn bind(address: &Address) -> Result<Self, BindError> {
        let failed = |source: io::Error| {
            let mend = match source.kind() {
                ErrorKind::AddrInUse => "another process listens there; stop it or choose another",
                ErrorKind::PermissionDenied => "this user may not; choose another",
                _ => "choose another",
            };
            BindError { address: address.clone(), source, mend }
        };
        let listener = match address {
            Address::Tcp(authority) => Listener::Tcp(TcpListener::bind(authority).map_err(failed)?),
            Address::Unix(path) => Listener::Unix(bind_unix(path).map_err(failed)?, path.clone()),
        };
        Ok(Self { listener })
    }

    /// The address that was bound, with the port where 0 was asked for.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match &self.listener {
            Listener::Tcp(listener) => Address::Tcp(listener.local_addr()?.to_string()),
            Listener::Unix(_, path) => Address::Unix(path.clone()),
        })
    }

    /// Serves every connection with a clone of `app` until something fails; never returns
    /// otherwise. A peer that closes its connection between two requests may come again.
    pub fn serve<A: Application>(self, app: A) -> Failure {
        let (failures, first): (Sender<Failure>, Receiver<Failure>) = channel();
        let accepted = failures.clone();
        let spawned = thread::Builder::new().name("abci-accept".into()).spawn(move || {
            let error = self.accept(&app, &accepted);
            // Nobody listens once an earlier failure was returned.
            let _ = accepted.send(Failure::Accept(error));
        });
        if let Err(error) = spawned {
            return Failure::Accept(error);
        }
        match first.recv() {
            Ok(failure) => failure,
            Err(gone) => unreachable!("a sender is held here: {gone}"),
        }
    }

    fn accept<A: Application>(&self, app: &A, failures: &Sender<Failure>) -> io::Error {
        loop {
            let taken = match &self.listener {
                Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                    // Without it, each answer waits for the peer's delayed acknowledgement.
                    stream.set_nodelay(true)?;
                    let writer: TcpStream = stream.try_clone()?;
                    start(stream, writer, app, failures)
                }),
                Listener::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
                    let writer: UnixStream = stream.try_clone()?;
                    start(stream, writer, app, failures)
                }),
            };
            match taken {
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return error,
                Ok(()) => {}
            }
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // A socket that nobody answers on is left from a run before. Anything else is not ours.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // Whoever may connect decides what the ledger holds.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn start<A: Application>(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    app: &A,
    failures: &Sender<Failure>,
) -> io::Result<()> {
    let (app, failures) = (app.clone(), failures.clone());
    thread::Builder::new().name("abci".into()).spawn(move || {
        // What a panic leaves half-done is never looked at again: the process stops.
        let served = catch_unwind(AssertUnwindSafe(|| serve_one(reader, writer, &app)));
        let failure = match served {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure,
            Err(panic) => Failure::Panic(message(panic.as_ref())),
        };
        let _ = failures.send(failure);
    })?;
    Ok(())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").into()
}

/// Serves a connection until the peer closes it. Answers are written out on Flush and whenever
/// the next request is not here yet: CometBFT sends Flush after every synchronous call, and none
/// of its asynchronous ones waits for an answer.
fn serve_one<A: Application>(
    reader: impl Read,
    writer: impl Write,
    app: &A,
) -> Result<(), Failure> {
    let mut requests = FrameReader::new(reader);
    let mut answers = FrameWriter::new(writer);
    loop {
        if !requests.has_frame() {
            answers.flush()?;
        }
        let request: Request = match requests.read() {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            // A CometBFT that is killed leaves its connections so; it will come again.
            Err(FrameError::Socket(error)) if error.kind() == ErrorKind::ConnectionReset => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let is_flush = matches!(request.value, Some(Value::Flush(_)));
        let answer = dispatch(app, request)?;
        answers.push(&answer)?;
        if is_flush {
            answers.flush()?;
        }
    }
}
