//! One HTTP exchange at a time: JSON over plain HTTP/1.1 on a connection of its own, or over TLS with
//! a provisioner that took the node in, or whose address says so.
//!
//! What matters is signed, so nothing here is trusted for having come from the right address.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use protocol::{PublicKey, problem::ProblemDetails};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The longest that an exchange may take, from connecting to the last byte.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a node's settings are a few kilobytes.
pub const MAX_ANSWER: usize = 256 << 10;

/// The longest that a download may stand still.
pub const STALL: Duration = Duration::from_secs(15);

/// A server's base address: `http://10.0.0.1:8080`, perhaps with a path. One with `https://` is a
/// provisioner's, which is known by its key alone ([`Base::known_by`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    secure: bool,
    /// Boxed: it goes into every error.
    key: Option<Box<PublicKey>>,
    authority: String,
    port: u16,
    host: String,
    path: String,
}

/// How a server is spoken to by TLS.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Who we are, and by which key the server is known.
    pub config: Arc<ClientConfig>,
    /// The port, at the server's address.
    pub port: u16,
}

/// A text is no base address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no server's address: one like http://10.0.0.1:8080 is wanted")]
pub struct NotABase(String);

impl FromStr for Base {
    type Err = NotABase;
    fn from_str(text: &str) -> Result<Self, NotABase> {
        let refused = || NotABase(text.chars().take(100).collect());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused()),
        };
        if uri.query().is_some() || authority.host().is_empty() {
            return Err(refused());
        }
        Ok(Self {
            secure,
            key: None,
            authority: authority.to_string(),
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl Base {
    /// The server is the one of this key, where it is spoken to by TLS.
    pub fn known_by(self, key: PublicKey) -> Self {
        Self { key: Some(Box::new(key)), ..self }
    }

    fn below(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// Host and port.
    pub fn place(&self) -> (&str, u16) {
        (self.host.as_str(), self.port)
    }

    /// The server's address, where it is one and not a name.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }

    /// How it is spoken to by whom it does not know.
    fn known(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let key = self.key.as_deref();
        let key = key.ok_or_else(|| self.broken(&"nothing is known to know it by"))?;
        mtls::client_of_nobody(*key).map(Arc::new).map_err(|error| self.broken(&error))
    }

    fn broken(&self, reason: &dyn fmt::Display) -> HttpError {
        HttpError::Broken { server: self.clone(), reason: reason.to_string() }
    }

    /// The name or address, an IPv6 one without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 80 or 443 where none is given.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// An exchange that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("{server} cannot be reached ({reason}); is it running, and on this network?")]
    Unreachable {
        /// Whom we asked.
        server: Base,
        /// What the kernel said.
        reason: io::Error,
    },
    /// It took longer than [`LIMIT`].
    #[error("{0} did not answer within {limit} s; is it overloaded, or a firewall between?", limit = LIMIT.as_secs())]
    Slow(Base),
    /// What came could not be kept.
    #[error("what {server} sends cannot be kept: {reason}; has the machine memory for it?")]
    Full {
        /// Whom we asked.
        server: Base,
        /// Why.
        reason: io::Error,
    },
    /// It does not speak HTTP as we do.
    #[error("{server} did not give a whole HTTP answer: {reason}")]
    Broken {
        /// Whom we asked.
        server: Base,
        /// How.
        reason: String,
    },
    /// It said no.
    #[error("{server} refused with {status}: {reason}")]
    Refused {
        /// Whom we asked.
        server: Base,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        reason: String,
    },
}

/// Posts JSON to `path` below `server`; gives the body of a successful answer.
pub async fn post(server: &Base, path: &str, body: Vec<u8>) -> Result<Bytes, HttpError> {
    post_by(server, None, path, body).await
}

/// The same, by TLS where `secured` says how.
pub async fn post_by(
    server: &Base,
    secured: Option<&Secured>,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, HttpError> {
    let exchange = exchange(server, secured, path, body);
    timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(HttpError::Slow(server.clone())))
}

/// Gets what is at `path` below `server`, at most `most` bytes of it.
pub async fn get(server: &Base, path: &str, most: usize) -> Result<Bytes, HttpError> {
    let whole = async {
        let (answer, connection) =
            send(server, None, Request::get(server.below(path)), Bytes::new()).await?;
        let body = Limited::new(answer.into_body(), most).collect().await;
        connection.abort();
        Ok(body.map_err(|error| server.broken(&error))?.to_bytes())
    };
    timeout(LIMIT, whole).await.unwrap_or_else(|_| Err(HttpError::Slow(server.clone())))
}

/// Gets what is at `path` below `server`, however long it takes, while it does not stand still for
/// longer than [`STALL`]: each part goes to `keep` as it comes, `length` bytes in all.
pub async fn download(
    server: &Base,
    path: &str,
    length: u64,
    mut keep: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), HttpError> {
    let slow = || HttpError::Slow(server.clone());
    let asked = send(server, None, Request::get(server.below(path)), Bytes::new());
    let (answer, connection) = timeout(LIMIT, asked).await.map_err(|_| slow())??;
    let mut body = answer.into_body();
    let mut got = 0;
    while let Some(frame) = timeout(STALL, body.frame()).await.map_err(|_| slow())? {
        let frame = frame.map_err(|error| server.broken(&error))?;
        let Some(part) = frame.data_ref() else { continue };
        got += part.len() as u64;
        if got > length {
            break;
        }
        keep(part).map_err(|reason| HttpError::Full { server: server.clone(), reason })?;
    }
    connection.abort();
    if got == length {
        return Ok(());
    }
    let more = if got > length { "more than " } else { "" };
    let told = format!("{more}{} of {length} bytes came", got.min(length));
    Err(server.broken(&told))
}

/// Gets a part of what is at `path` below `server`, while it does not stand still for longer than
/// [`STALL`]; each part of it goes to `parts` as it comes. Ends where nobody takes them any more.
pub async fn part(
    server: &Base,
    path: &str,
    range: std::ops::Range<u64>,
    parts: tokio::sync::mpsc::Sender<Bytes>,
) -> Result<(), HttpError> {
    let slow = || HttpError::Slow(server.clone());
    let wanted = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    let request = Request::get(server.below(path)).header(header::RANGE, wanted);
    let asked = send(server, None, request, Bytes::new());
    let (answer, connection) = timeout(LIMIT, asked).await.map_err(|_| slow())??;
    if answer.status() != hyper::StatusCode::PARTIAL_CONTENT {
        connection.abort();
        return Err(server.broken(&"it gives no parts of files"));
    }
    let mut body = answer.into_body();
    while let Some(frame) = timeout(STALL, body.frame()).await.map_err(|_| slow())? {
        let frame = frame.map_err(|error| server.broken(&error))?;
        let Ok(part) = frame.into_data() else { continue };
        if parts.send(part).await.is_err() {
            break;
        }
    }
    connection.abort();
    Ok(())
}

async fn exchange(
    server: &Base,
    secured: Option<&Secured>,
    path: &str,
    body: Vec<u8>,
) -> Result<Bytes, HttpError> {
    let request =
        Request::post(server.below(path)).header(header::CONTENT_TYPE, "application/json");
    let (answer, connection) = send(server, secured, request, Bytes::from(body)).await?;
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    Ok(body.map_err(|error| server.broken(&error))?.to_bytes())
}

/// Sends a request on a connection of its own; gives a successful answer's beginning.
async fn send(
    server: &Base,
    secured: Option<&Secured>,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), HttpError> {
    let unreachable = |reason| HttpError::Unreachable { server: server.clone(), reason };
    // An address that says how it is spoken to is where it is: what the server calls its own port may
    // be another one, behind a router.
    let port = secured.filter(|_| !server.secure).map_or(server.port, |secured| secured.port);
    let config = match secured {
        Some(secured) => Some(secured.config.clone()),
        None if server.secure => Some(server.known()?),
        None => None,
    };
    let stream = TcpStream::connect((server.host.as_str(), port)).await.map_err(unreachable)?;
    let Some(config) = config else { return speak(stream, server, request, body).await };
    // The server is known by its key: its name is not looked at, and not sent.
    let name = ServerName::try_from("provisioner").map_err(|error| server.broken(&error))?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    speak(stream.map_err(|error| server.broken(&error))?, server, request, body).await
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: &Base,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), HttpError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| server.broken(&error))?;
    let connection = tokio::spawn(connection);
    let request = request
        .header(header::HOST, server.authority.as_str())
        .header(header::CONNECTION, "close")
        .header(protocol::version::HEADER, protocol::version::offer())
        .body(Full::new(body))
        .map_err(|error| server.broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| server.broken(&error))?;
    if answer.status().is_success() {
        return Ok((answer, connection));
    }
    let status = answer.status().as_u16();
    let said = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    let said = said.map_err(|error| server.broken(&error))?.to_bytes();
    let text = match serde_json::from_slice::<ProblemDetails>(&said) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(&said).into_owned(),
    };
    let reason: String = text.trim().chars().take(300).collect();
    Err(HttpError::Refused { server: server.clone(), status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that gives one answer, whatever was asked, and hands back the request.
    async fn answering(answer: &'static [u8]) -> (Base, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut part = [0; 1024];
                let read = stream.read(&mut part).await.unwrap();
                request.extend_from_slice(&part[..read]);
            }
            // The client may hang up in the midst of an answer that is too long.
            let _ = stream.write_all(answer).await;
            String::from_utf8(request).unwrap()
        });
        (base, task)
    }

    async fn asked(answer: &'static [u8]) -> (Result<Bytes, HttpError>, String) {
        let (base, task) = answering(answer).await;
        let result = post(&base, "/v1/x", b"{}".to_vec()).await;
        (result, task.await.unwrap())
    }

    #[tokio::test]
    async fn a_body_is_posted_with_its_length_and_the_answer_is_given() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes";
        let (result, request) = asked(answer).await;
        assert_eq!(result.unwrap(), "yes");
        assert!(request.starts_with("POST /base/v1/x HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("content-length: 2\r\n"), "{request}");
        assert!(request.contains("alia-protocol: 1\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_carries_what_the_server_said() {
        let answer = b"HTTP/1.1 409 Conflict\r\ncontent-length: 12\r\n\r\ntwo machines";
        let error = asked(answer).await.0.unwrap_err().to_string();
        assert!(error.ends_with("refused with 409: two machines"), "{error}");
    }

    #[tokio::test]
    async fn a_cut_off_answer_and_one_that_is_no_http_are_errors() {
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 30\r\n\r\nyes";
        assert!(matches!(asked(cut).await.0, Err(HttpError::Broken { .. })));
        assert!(matches!(asked(b"SSH-2.0-x\r\n").await.0, Err(HttpError::Broken { .. })));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let answer: &'static [u8] =
            Vec::leak([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; MAX_ANSWER + 1]].concat());
        assert!(matches!(asked(answer).await.0, Err(HttpError::Broken { .. })));
    }

    /// Downloads `length` bytes from a server that gives this answer.
    async fn downloaded(answer: &'static [u8], length: u64) -> Result<Vec<u8>, HttpError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            assert!(part[..read].starts_with(b"GET /root HTTP/1.1\r\n"));
            let _ = stream.write_all(answer).await;
        });
        let mut kept = Vec::new();
        let keep = |part: &[u8]| {
            kept.extend_from_slice(part);
            Ok(())
        };
        download(&base, "/root", length, keep).await?;
        Ok(kept)
    }

    #[tokio::test]
    async fn a_download_has_the_length_that_was_told_or_is_an_error() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(downloaded(answer, 5).await.unwrap(), b"hello");
        let error = downloaded(answer, 6).await.unwrap_err().to_string();
        assert!(error.contains("5 of 6 bytes came"), "{error}");
        let error = downloaded(answer, 4).await.unwrap_err().to_string();
        assert!(error.contains("more than 4 of 4 bytes came"), "{error}");
        let answer = b"HTTP/1.1 404 No\r\ncontent-length: 4\r\n\r\ngone";
        assert!(matches!(downloaded(answer, 4).await, Err(HttpError::Refused { status: 404, .. })));
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let error = post(&base, "/", Vec::new()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{base} cannot be reached")), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_known_by_its_key_is_spoken_to_by_tls_and_no_other_is() {
        let key = |seed: u8| protocol::SecretKey::from_seed([seed; 32]);
        let knows = move |asked: &protocol::PublicKey| *asked == key(2).public();
        let config = mtls::server(&key(1), Arc::new(knows)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut part = [0; 1024];
                let read = stream.read(&mut part).await.unwrap();
                assert!(part[..read].starts_with(b"POST /v1/x HTTP/1.1\r\n"));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
            }
        });
        // The plain port is another one, where nobody is.
        let base: Base = "http://127.0.0.1:1".parse().unwrap();
        let asked = |wanted: u8| {
            let config = Arc::new(mtls::client(&key(2), key(wanted).public()).unwrap());
            let (base, secured) = (base.clone(), Secured { config, port });
            async move { post_by(&base, Some(&secured), "/v1/x", b"{}".to_vec()).await }
        };
        assert_eq!(asked(1).await.unwrap(), "yes");
        assert!(matches!(asked(3).await, Err(HttpError::Broken { .. })));
    }

    #[tokio::test]
    async fn an_address_by_tls_is_asked_by_tls_at_its_own_port_and_by_its_key_alone() {
        let key = |seed: u8| protocol::SecretKey::from_seed([seed; 32]);
        // As a provisioner has it: who shows no certificate may speak too.
        let identity = rustls::sign::SingleCertAndKey::from(mtls::certificate::certified(&key(1)));
        let config = rustls::ServerConfig::builder_with_provider(mtls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(identity));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
            }
        });
        let base: Base = url.parse().unwrap();
        let known = |seed: u8| base.clone().known_by(key(seed).public());
        assert_eq!(post(&known(1), "/x", b"{}".to_vec()).await.unwrap(), "yes");
        assert_eq!(get(&known(1), "/x", 10).await.unwrap(), "yes");
        assert!(matches!(get(&known(3), "/x", 10).await, Err(HttpError::Broken { .. })));
        assert!(get(&base, "/x", 10).await.unwrap_err().to_string().contains("to know it by"));
        // The port that the provisioner names is its own idea, on the other side of a router.
        let config = Arc::new(mtls::client(&key(2), key(1).public()).unwrap());
        let secured = Secured { config, port: 1 };
        assert_eq!(post_by(&known(1), Some(&secured), "/x", vec![]).await.unwrap(), "yes");
    }

    #[test]
    fn addresses_are_http_ones() {
        for good in
            ["http://10.0.0.1:8080", "http://[fe80::1]:80/x", "http://boot.lan", "https://boot.lan"]
        {
            assert_eq!(good.parse::<Base>().unwrap().to_string(), good);
        }
        for bad in ["", "10.0.0.1", "https://", "http://", "http://x/?y", "ftp://x"] {
            assert!(bad.parse::<Base>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        let address = |text: &str| text.parse::<Base>().unwrap().address();
        assert_eq!(address("http://[2001:db8::1]:8080"), "2001:db8::1".parse().ok());
        assert_eq!(address("http://10.0.0.1"), "10.0.0.1".parse().ok());
        assert_eq!(address("http://boot.lan"), None);
    }

    #[tokio::test]
    async fn a_server_with_an_ipv6_address_is_reached() {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        assert!(base.to_string().starts_with("http://[::1]:"));
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            assert!(part[..read].windows(12).any(|part| part == b"host: [::1]:"));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").await;
        });
        assert_eq!(get(&base, "/x", 10).await.unwrap(), "yes");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(http://)?.{0,40}") {
            let _ = text.parse::<Base>();
        }
    }
}
