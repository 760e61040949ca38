//! HTTP as iPXE and node-init speak it: iPXE asks one thing after the other on one connection,
//! node-init has a connection for each question. Bodies are read and digested, and not kept.

use blake3::Hasher;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use protocol::Digest;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpSocket,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The longest that connecting, and the head of an answer, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest that a body may stand still.
const STALL: Duration = Duration::from_secs(30);
/// The longest answer that is kept: scripts, settings, manifests.
const MAX_KEPT: usize = 256 << 10;

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
    host: SocketAddrV4,
}

/// A file that was fetched and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its size.
    pub bytes: u64,
    /// Its content; all zeros where it was not to be digested.
    pub digest: Digest,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects from an address of ours.
    ///
    /// # Errors
    /// The reason.
    pub async fn open(from: Ipv4Addr, host: SocketAddrV4) -> Result<Self, String> {
        Self::open_by(from, host, None).await
    }

    /// The same, by TLS where it is said how.
    ///
    /// # Errors
    /// The reason.
    pub async fn open_by(
        from: Ipv4Addr,
        host: SocketAddrV4,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("no connection: {error}");
        let socket = TcpSocket::new_v4().map_err(|error| said(&error))?;
        if !from.is_unspecified() {
            // Many machines, few addresses: a port may be used again at once.
            socket.set_reuseaddr(true).map_err(|error| said(&error))?;
            socket.bind((from, 0).into()).map_err(|error| said(&error))?;
        }
        let connected = timeout(LIMIT, socket.connect(SocketAddr::V4(host))).await;
        let stream = connected.map_err(|_| said(&"no answer"))?.map_err(|error| said(&error))?;
        let _ = stream.set_nodelay(true);
        match tls {
            None => Self::over(stream, host).await,
            Some(config) => {
                // The server is known by its key: its name is not looked at, and not sent.
                let name = ServerName::try_from("provisioner").map_err(|error| said(&error))?;
                let spoken = timeout(LIMIT, TlsConnector::from(config).connect(name, stream)).await;
                let spoken = spoken.map_err(|_| said(&"no handshake"))?;
                Self::over(spoken.map_err(|error| said(&error))?, host).await
            }
        }
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: SocketAddrV4,
    ) -> Result<Self, String> {
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            handshake.map_err(|error: hyper::Error| format!("no connection: {error}"))?;
        let task = tokio::spawn(async move {
            // How it ended its requests tell.
            let _ = connection.await;
        });
        Ok(Self { sender, task, host })
    }

    /// Fetches a short text.
    ///
    /// # Errors
    /// The reason; what is not 200 is one.
    pub async fn text(&mut self, path: &str) -> Result<String, String> {
        let answer = self.send(Request::get(path), Bytes::new()).await?;
        let bytes = kept(answer).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "it is no text".into())
    }

    /// Fetches a file; digests it where that is wanted.
    ///
    /// # Errors
    /// The reason; what is not 200 is one.
    pub async fn file(&mut self, path: &str, digests: bool) -> Result<Body, String> {
        let mut answer = self.send(Request::get(path), Bytes::new()).await?;
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        loop {
            let frame = timeout(STALL, answer.body_mut().frame()).await;
            let Some(frame) = frame.map_err(|_| "it stands still".to_owned())? else { break };
            let frame = frame.map_err(|error| format!("it broke off: {error}"))?;
            let Some(part) = frame.data_ref() else { continue };
            bytes += part.len() as u64;
            if digests {
                hasher.update(part);
            }
        }
        let digest =
            if digests { Digest(*hasher.finalize().as_bytes()) } else { Digest::default() };
        Ok(Body { bytes, digest })
    }

    /// Fetches a short answer.
    ///
    /// # Errors
    /// The reason; what is not 200 is one.
    pub async fn bytes(&mut self, path: &str) -> Result<Bytes, String> {
        let answer = self.send(Request::get(path), Bytes::new()).await?;
        kept(answer).await
    }

    /// Fetches a part of a file; each part of it goes to `parts` as it comes.
    ///
    /// # Errors
    /// The reason; what is not that part of it is one.
    pub async fn range(
        &mut self,
        path: &str,
        range: std::ops::Range<u64>,
        parts: &tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<(), String> {
        let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let request = Request::get(path).header(header::RANGE, wanted);
        let mut answer = self.send(request, Bytes::new()).await?;
        if answer.status() != hyper::StatusCode::PARTIAL_CONTENT {
            return Err("it gives no parts of files".into());
        }
        loop {
            let frame = timeout(STALL, answer.body_mut().frame()).await;
            let Some(frame) = frame.map_err(|_| "it stands still".to_owned())? else {
                return Ok(());
            };
            let frame = frame.map_err(|error| format!("it broke off: {error}"))?;
            let Ok(part) = frame.into_data() else { continue };
            if parts.send(part).await.is_err() {
                return Err("nobody takes it".into());
            }
        }
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// The reason; what is not a success is one.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<Bytes, String> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(protocol::version::HEADER, protocol::version::offer());
        kept(self.send(request, body.into()).await?).await
    }

    async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let said = |error: hyper::Error| format!("no answer: {error}");
        let request = request
            .header(header::HOST, self.host.to_string())
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = timeout(LIMIT, exchange)
            .await
            .map_err(|_| format!("no answer within {} s", LIMIT.as_secs()))?
            .map_err(said)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let why = kept(answer).await.unwrap_or_default();
        let why: String = String::from_utf8_lossy(&why).trim().chars().take(160).collect();
        Err(format!("{status}: {why}"))
    }
}

async fn kept(answer: Response<Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(answer.into_body(), MAX_KEPT).collect();
    let body = timeout(STALL, body).await.map_err(|_| "it stands still".to_owned())?;
    Ok(body.map_err(|error| format!("it broke off: {error}"))?.to_bytes())
}

/// Posts on a connection of its own, as node-init does.
///
/// # Errors
/// The reason.
pub async fn post(
    from: Ipv4Addr,
    host: SocketAddrV4,
    tls: Option<Arc<ClientConfig>>,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, String> {
    Connection::open_by(from, host, tls).await?.post(path, body).await
}
