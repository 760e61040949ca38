//! One HTTP exchange at a time: JSON over plain HTTP/1.1 on a connection of its own.
//!
//! What matters is signed, so nothing here is trusted for having come from the right address.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{fmt, io, str::FromStr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// The longest that an exchange may take, from connecting to the last byte.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a node's settings are a few kilobytes.
pub const MAX_ANSWER: usize = 256 << 10;

/// A server's base address: `http://10.0.0.1:8080`, perhaps with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    authority: String,
    port: u16,
    host: String,
    path: String,
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
        if uri.scheme_str() != Some("http") || uri.query().is_some() || authority.host().is_empty()
        {
            return Err(refused());
        }
        Ok(Self {
            authority: authority.to_string(),
            port: authority.port_u16().unwrap_or(80),
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
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
    let exchange = exchange(server, path, body);
    timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(HttpError::Slow(server.clone())))
}

async fn exchange(server: &Base, path: &str, body: Vec<u8>) -> Result<Bytes, HttpError> {
    let unreachable = |reason| HttpError::Unreachable { server: server.clone(), reason };
    let broken = |reason: &dyn fmt::Display| HttpError::Broken {
        server: server.clone(),
        reason: reason.to_string(),
    };
    let address = (server.host.as_str(), server.port);
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("{}{path}", server.path))
        .header(header::HOST, server.authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header(protocol::version::HEADER, protocol::version::offer())
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    let body = body.map_err(|error| broken(&error))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let reason: String = String::from_utf8_lossy(&body).trim().chars().take(300).collect();
    Err(HttpError::Refused { server: server.clone(), status: status.as_u16(), reason })
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

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let error = post(&base, "/", Vec::new()).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("{base} cannot be reached")), "{error}");
    }

    #[test]
    fn addresses_are_http_ones() {
        for good in ["http://10.0.0.1:8080", "http://[fe80::1]:80/x", "http://boot.lan"] {
            assert_eq!(good.parse::<Base>().unwrap().to_string(), good);
        }
        for bad in ["", "10.0.0.1", "https://10.0.0.1", "http://", "http://x/?y", "ftp://x"] {
            assert!(bad.parse::<Base>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(http://)?.{0,40}") {
            let _ = text.parse::<Base>();
        }
    }
}
