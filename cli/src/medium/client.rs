//! A provisioner by TLS, known by its key alone: no authority is asked, and no name compared.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, Uri, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use protocol::{PublicKey, plain, problem::ProblemDetails, told, version};
use rustls::pki_types::ServerName;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// How long connecting, shaking hands and answering may take, each; and how long a download may stand
/// still.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// A provisioner's address, and the key that it is known by.
#[derive(Clone, Debug)]
pub struct Provisioner {
    host: String,
    port: u16,
    key: PublicKey,
}

/// A provisioner did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AwayError {
    /// No such address.
    #[error("{0:?} is no provisioner's address: one like https://boot.example:8443 is wanted")]
    Address(String),
    /// No connection, or somebody else's.
    #[error("{server} cannot be spoken to ({why}); is that the address, and the key, of its page?")]
    Away {
        /// Who.
        server: String,
        /// Why.
        why: String,
    },
    /// It said no.
    #[error("{server} refuses ({status}): {why}")]
    Refused {
        /// Who.
        server: String,
        /// HTTP's status.
        status: u16,
        /// Its words.
        why: String,
    },
}

impl fmt::Display for Provisioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

impl Provisioner {
    /// The provisioner at a URL, known by that key.
    ///
    /// # Errors
    /// Where the URL is none by TLS.
    pub fn new(url: &str, key: PublicKey) -> Result<Self, AwayError> {
        let refused = || AwayError::Address(url.chars().take(100).collect());
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("https") || authority.host().is_empty() || !bare {
            return Err(refused());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), key })
    }

    /// The key that it is known by.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    fn away(&self, why: impl fmt::Display) -> AwayError {
        AwayError::Away { server: self.to_string(), why: plain(&why.to_string()) }
    }

    /// What a path gives.
    ///
    /// # Errors
    /// [`AwayError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AwayError> {
        let answer = self.ask(Method::GET, path, Vec::new()).await?;
        self.read(answer).await
    }

    /// What a path gives for a body of JSON.
    ///
    /// # Errors
    /// [`AwayError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AwayError> {
        let body = serde_json::to_vec(body).map_err(|error| self.away(error))?;
        let answer = self.ask(Method::POST, path, body).await?;
        self.read(answer).await
    }

    /// A file of that many bytes; `told` hears how many came.
    ///
    /// # Errors
    /// [`AwayError`], where it is shorter or longer too.
    pub async fn download(
        &self,
        path: &str,
        bytes: u64,
        mut told: impl FnMut(u64),
    ) -> Result<Vec<u8>, AwayError> {
        let mut body = self.ask(Method::GET, path, Vec::new()).await?.into_body();
        let mut kept = Vec::new();
        while let Some(frame) =
            timeout(PATIENCE, body.frame()).await.map_err(|_| self.away("it stands still"))?
        {
            let frame = frame.map_err(|error| self.away(protocol::told(&error)))?;
            kept.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            if kept.len() as u64 > bytes {
                break;
            }
            told(kept.len() as u64);
        }
        if kept.len() as u64 != bytes {
            return Err(self.away(format!("{} of {bytes} bytes came", kept.len())));
        }
        Ok(kept)
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response<Incoming>) -> Result<T, AwayError> {
        let body = self.whole(answer).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.away(format!("its answer cannot be read: {error}")))
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, AwayError> {
        let body = timeout(PATIENCE, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        let body = body.map_err(|_| self.away("its answer does not come to an end"))?;
        Ok(body.map_err(|error| self.away(error))?.to_bytes())
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, AwayError> {
        let late = |_| self.away(format!("no answer within {} s", PATIENCE.as_secs()));
        let stream = timeout(PATIENCE, TcpStream::connect((self.host.as_str(), self.port)));
        let stream = stream.await.map_err(late)?.map_err(|error| self.away(error))?;
        let config = mtls::client_of_nobody(self.key).map_err(|error| self.away(error))?;
        // No name is sent or compared.
        let name = ServerName::try_from("alia").map_err(|error| self.away(error))?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let stream = timeout(PATIENCE, tls).await.map_err(late)?;
        let stream = stream.map_err(|error| self.away(error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.away(told(&error)))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.to_string().trim_start_matches("https://"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(version::HEADER, version::offer())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.away(error))?;
        let answer = timeout(PATIENCE, sender.send_request(request)).await.map_err(late)?;
        let answer = answer.map_err(|error| self.away(told(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let body = self.whole(answer).await?;
        let why = match serde_json::from_slice::<ProblemDetails>(&body) {
            Ok(problem) => problem.detail,
            Err(_) => String::from_utf8_lossy(&body).chars().take(300).collect(),
        };
        Err(AwayError::Refused { server: self.to_string(), status, why: plain(&why) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_by_tls_and_nothing_behind_it() {
        let shown =
            |url: &str| Provisioner::new(url, PublicKey([1; 32])).map(|one| one.to_string());
        assert_eq!(shown("https://boot.example:8443/").unwrap(), "https://boot.example:8443");
        assert_eq!(shown("https://boot.example").unwrap(), "https://boot.example:443");
        assert_eq!(shown("https://[fd00::1]:8443").unwrap(), "https://[fd00::1]:8443");
        for bad in
            ["", "boot.example", "http://boot.example", "https://", "https://x/y", "https://x?y"]
        {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
