//! Talks to one parameter server.

use crate::heart;
use borsh::BorshDeserialize;
use bytes::Bytes;
use protocol::{
    Digest, JobId, Signed,
    api::Problem,
    plain,
    receipt::WorkKeyCertificate,
    told,
    transaction::CreateJob,
    version,
    work::{FullLog, LONG_POLL_SECONDS, Pull, PullReply, ResultMessage, ResultReply},
};
use std::time::Duration;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long without a byte an answer may take: a long poll, and room.
const SILENCE: Duration = Duration::from_secs(LONG_POLL_SECONDS + 20);

/// A parameter server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address that is none.
    #[error(
        "{text:?} is not a parameter server's address ({why}): one like http://10.0.0.1:8070 is wanted"
    )]
    Address {
        /// What was given.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// It cannot be reached, or broke off.
    #[error("the parameter server {server}: {}", told(.source))]
    Away {
        /// Its address.
        server: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It said no.
    #[error("the parameter server {server} refuses ({status}): {why}")]
    Refused {
        /// Its address.
        server: String,
        /// HTTP's status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// Its answer cannot be read.
    #[error(
        "the parameter server {server} answers what cannot be read ({why}): one side is of another version"
    )]
    Answer {
        /// Its address.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// It gave other bytes than were asked for.
    #[error(
        "the parameter server {server} gave {found} for {wanted}: it is not to be trusted, or the file was damaged"
    )]
    WrongContent {
        /// Its address.
        server: String,
        /// What was asked for.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
}

impl ClientError {
    /// Whether the same may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            // Too busy, or its disk is full: it says so and may recover.
            Self::Refused { status, .. } => *status >= 500,
            Self::Address { .. } | Self::Answer { .. } | Self::WrongContent { .. } => false,
        }
    }
}

/// A server's address, `http://` where it names no scheme.
fn address(text: &str) -> Result<String, ClientError> {
    let refused = |why: &str| ClientError::Address { text: plain(text), why: why.into() };
    let full = if text.contains("://") { text.into() } else { format!("http://{text}") };
    let url = reqwest::Url::parse(&full).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("http:// or https:// is spoken"));
    }
    let more = url.query().is_some() || url.fragment().is_some() || !url.username().is_empty();
    if url.path() != "/" || more {
        return Err(refused("host and port alone are wanted"));
    }
    // With a scheme, its own port is meant.
    if url.port().is_none() && !text.contains("://") {
        return Err(refused("the port is missing"));
    }
    Ok(url.as_str().trim_end_matches('/').to_string())
}

/// One parameter server.
#[derive(Clone, Debug)]
pub struct Server {
    base: String,
    http: reqwest::Client,
}

impl Server {
    /// The server at a base address, `http://10.0.0.1:8070`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Self::patient(base, SILENCE)
    }

    /// As [`Server::new`], for questions whose answer may take up to `silence` to begin.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn patient(base: &str, silence: Duration) -> Result<Self, ClientError> {
        let base = address(base)?;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(silence)
            // A service talks to the addresses it was given and to nothing between.
            .no_proxy()
            .build()
            .map_err(|source| ClientError::Away { server: base.clone(), source })?;
        Ok(Self { base, http })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.base
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Bytes, ClientError> {
        let away = |source| ClientError::Away { server: self.base.clone(), source };
        let response = request.header(version::HEADER, version::offer()).send().await;
        let mut response = response.map_err(away)?;
        let status = response.status();
        // In pieces, each of which is progress: a large file may take long on a slow line.
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(away)? {
            heart::beat();
            body.extend_from_slice(&piece);
        }
        let body = Bytes::from(body);
        if status.is_success() {
            return Ok(body);
        }
        let why = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.error,
            Err(_) => String::from_utf8_lossy(&body).chars().take(200).collect(),
        };
        let why = plain(&why);
        Err(ClientError::Refused { server: self.base.clone(), status: status.as_u16(), why })
    }

    /// Posts bytes to a path and gives the answer's.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        self.answer(self.http.post(format!("{}{path}", self.base)).body(body)).await
    }

    /// Puts bytes at a path.
    pub async fn put(&self, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        self.answer(self.http.put(format!("{}{path}", self.base)).body(body)).await
    }

    /// The bytes at a path.
    pub async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        self.answer(self.http.get(format!("{}{path}", self.base))).await
    }

    fn read<T: BorshDeserialize>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        T::try_from_slice(bytes).map_err(|error| ClientError::Answer {
            server: self.base.clone(),
            why: error.to_string(),
        })
    }

    fn encode<T: borsh::BorshSerialize>(&self, value: &T) -> Result<Vec<u8>, ClientError> {
        borsh::to_vec(value).map_err(|error| ClientError::Answer {
            server: self.base.clone(),
            why: error.to_string(),
        })
    }

    /// Asks for work; waits up to the long poll's time.
    pub async fn pull(&self, pull: &Signed<Pull>) -> Result<PullReply, ClientError> {
        let body = self.encode(pull)?;
        self.read(&self.post("/v1/work/pull", body).await?)
    }

    /// Returns a result.
    pub async fn result(&self, message: &ResultMessage) -> Result<ResultReply, ClientError> {
        self.read(&self.post("/v1/work/result", message.to_bytes()).await?)
    }

    /// Returns a full log that was asked for.
    pub async fn log(
        &self,
        certificate: &Signed<WorkKeyCertificate>,
        log: &Signed<FullLog>,
    ) -> Result<(), ClientError> {
        let body = self.encode(&(certificate, log))?;
        self.post("/v1/work/log", body).await.map(|_| ())
    }

    /// A job as its requester signed it; its specification's digest is checked.
    pub async fn create_of(&self, job: &JobId) -> Result<Signed<CreateJob>, ClientError> {
        let bytes = self.get(&format!("/v1/jobs/{job}/create")).await?;
        let create: Signed<CreateJob> = self.read(&bytes)?;
        let found = create.body.spec.id();
        if found != *job {
            let (wanted, found) = (job.0, found.0);
            return Err(ClientError::WrongContent { server: self.base.clone(), wanted, found });
        }
        Ok(create)
    }

    /// A file by its content address, checked.
    pub async fn blob(&self, digest: &Digest) -> Result<Bytes, ClientError> {
        let bytes = self.get(&format!("/v1/blobs/{digest}")).await?;
        let found = Digest::of_bytes(&bytes);
        if found != *digest {
            let (server, wanted) = (self.base.clone(), *digest);
            return Err(ClientError::WrongContent { server, wanted, found });
        }
        Ok(bytes)
    }

    /// Parameters as a safetensors file; who parses it checks the digest of what it holds.
    pub async fn parameters(&self, digest: &Digest) -> Result<Bytes, ClientError> {
        self.get(&format!("/v1/parameters/{digest}")).await
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_address_is_host_and_port_and_what_is_none_says_what_is_wanted() {
        for (text, wanted) in [
            ("http://10.0.0.1:8070/", "http://10.0.0.1:8070"),
            ("10.0.0.1:8070", "http://10.0.0.1:8070"),
            ("https://[::1]:8070", "https://[::1]:8070"),
        ] {
            assert_eq!(address(text).ok().as_deref(), Some(wanted));
        }
        for text in ["nonsense", "", "ftp://a:1", "http://a:1/x", "http://u@a:1", "http://a:99999"]
        {
            let told = address(text).map_err(|error| error.to_string()).unwrap_err();
            assert!(told.contains("http://10.0.0.1:8070 is wanted"), "{told}");
        }
    }
}
