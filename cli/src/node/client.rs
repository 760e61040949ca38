//! One connection to one node.

use super::Target;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use protocol::{
    PublicKey, SecretKey,
    node_api::{ApiError, LogLine},
    plain, version,
};
use rustls::{AlertDescription, CertificateError, pki_types::ServerName};
use serde::de::DeserializeOwned;
use std::{error::Error as StdError, io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long connecting and shaking hands may take, each.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The largest answer that is read: a bundle has some megabytes at the most.
const MAX_ANSWER: usize = 32 << 20;
/// The longest line of a log that is followed.
const MAX_LINE: usize = 64 << 10;

/// A node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No connection.
    #[error(
        "{target} cannot be reached ({why}): is it on, has it enrolled (`alia node list`), and is \
         there a way to it from here?"
    )]
    Away {
        /// Which node.
        target: String,
        /// What the system says.
        why: String,
    },
    /// Somebody else is there.
    #[error(
        "at {place} is not node {wanted}: the machine restarted and has a new key (`alia node list` \
         knows it), or somebody else answers there. Nothing was said to it"
    )]
    WrongKey {
        /// Where.
        place: String,
        /// Who should be there.
        wanted: PublicKey,
    },
    /// It does not know us.
    #[error(
        "{target} does not know your key {ours}: use the owner's (--key FILE, --home DIR), or have \
         the provisioner name yours by `--operator {ours}` and restart the node"
    )]
    Stranger {
        /// Which node.
        target: String,
        /// Our key.
        ours: PublicKey,
    },
    /// It said no.
    #[error("{target} refuses ({status}): {why}")]
    Refused {
        /// Which node.
        target: String,
        /// HTTP's status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// Its answer cannot be read.
    #[error("{target} answers what cannot be read ({why}): one side is of another version")]
    Answer {
        /// Which node.
        target: String,
        /// What is wrong.
        why: String,
    },
    /// The connection ended.
    #[error("the connection to {target} ended: {why}")]
    Ended {
        /// Which node.
        target: String,
        /// What is wrong.
        why: String,
    },
}

/// A connection to a node that proved its key.
pub struct Node {
    target: Target,
    ours: PublicKey,
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Node {
    /// Connects, and refuses whoever is not the node that is wanted.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn connect(target: Target, key: &SecretKey) -> Result<Self, NodeError> {
        let away = |why: String| NodeError::Away { target: target.to_string(), why };
        let late = |_| away(format!("no answer within {} s", CONNECT.as_secs()));
        let address = (target.host.as_str(), target.port);
        let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)?;
        let stream = stream.map_err(|error| away(error.to_string()))?;
        let config = mtls::client(key, target.key).map_err(|error| away(error.to_string()))?;
        // No name is sent or compared.
        let name = ServerName::try_from("alia").map_err(|error| away(error.to_string()))?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = timeout(CONNECT, tls).await.map_err(late)?;
        let stream = stream.map_err(|error| match tls_error(&error) {
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )) => NodeError::WrongKey { place: target.place(), wanted: target.key },
            _ => away(error.to_string()),
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| away(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { target, ours: key.public(), sender })
    }

    /// Which node.
    pub fn target(&self) -> &Target {
        &self.target
    }

    fn wrong(&self, why: impl std::fmt::Display) -> NodeError {
        NodeError::Answer { target: self.target.to_string(), why: plain(&why.to_string()) }
    }

    fn ended(&self, error: &hyper::Error) -> NodeError {
        let target = self.target.to_string();
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(AlertDescription::AccessDenied)) => {
                NodeError::Stranger { target, ours: self.ours }
            }
            _ => NodeError::Ended { target, why: protocol::told(error) },
        }
    }

    async fn answer(&mut self, method: &str, path: &str) -> Result<Response<Incoming>, NodeError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.target.place())
            .header(version::HEADER, version::offer())
            .body(Empty::new())
            .map_err(|error| self.wrong(error))?;
        // After an answer it takes the connection a moment to be ready for the next request.
        let sent = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let sent = timeout(ANSWER, sent).await;
        let why = || format!("no answer within {} s", ANSWER.as_secs());
        let sent =
            sent.map_err(|_| NodeError::Ended { target: self.target.to_string(), why: why() })?;
        let answer = sent.map_err(|error| self.ended(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.whole(answer).await?;
        let why = match serde_json::from_slice::<ApiError>(&body) {
            Ok(refused) => refused.error,
            Err(_) => String::from_utf8_lossy(&body).chars().take(300).collect(),
        };
        let target = self.target.to_string();
        Err(NodeError::Refused { target, status: status.as_u16(), why: plain(&why) })
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, NodeError> {
        let body = timeout(ANSWER, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        let body = body.map_err(|_| self.wrong("it does not come to an end"))?;
        Ok(body.map_err(|error| self.wrong(error))?.to_bytes())
    }

    /// What a path gives, as bytes.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn bytes(&mut self, path: &str) -> Result<Bytes, NodeError> {
        let answer = self.answer("GET", path).await?;
        self.whole(answer).await
    }

    /// What a path gives.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, NodeError> {
        let body = self.bytes(path).await?;
        serde_json::from_slice(&body).map_err(|error| self.wrong(error))
    }

    /// Has something done.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, NodeError> {
        let answer = self.answer("POST", path).await?;
        let body = self.whole(answer).await?;
        serde_json::from_slice(&body).map_err(|error| self.wrong(error))
    }

    /// Follows the logs, after the last `lines` of them, until the node ends the connection.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn follow(
        &mut self,
        lines: usize,
        mut each: impl FnMut(LogLine),
    ) -> Result<(), NodeError> {
        let mut body =
            self.answer("GET", &format!("/v1/logs?lines={lines}&follow=1")).await?.into_body();
        let mut begun = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.ended(&error))?;
            begun.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = begun.drain(..=end).collect();
                each(serde_json::from_slice(&line).map_err(|error| self.wrong(error))?);
            }
            if begun.len() > MAX_LINE {
                return Err(self.wrong("a line without end"));
            }
        }
        Ok(())
    }
}

/// What TLS had against it, somewhere below.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error is not the source of its own content.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = within.and_then(|within| within.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
