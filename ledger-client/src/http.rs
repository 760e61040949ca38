//! The one file with sockets: a POST to one address, its answer bounded in size and time.

use crate::address::Address;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use std::{io, time::Duration};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};

/// A server that does not take the connection in this time is away.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// A server that does not answer in this time is away. `broadcast_tx_sync` waits for CheckTx,
/// which waits while a block is executed.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// The largest answer that is read: a page of listings or the largest transaction with its proof
/// in base64 fits many times; memory on a node is scarce.
const MAX_ANSWER_LEN: usize = 8 << 20;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The connection was refused or lost.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// No connection or answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// What came is not HTTP/1.1, or too much.
    #[error("no readable HTTP answer (of at most {MAX_ANSWER_LEN} bytes): {0}")]
    Http(String),
    /// The server answered that it cannot.
    #[error("HTTP status {0}")]
    Status(StatusCode),
}

/// One address and the connection to it that is kept for the next request.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Address,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Endpoint {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, kept: Mutex::new(None) }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Posts JSON to `/` and gives the answer's body.
    ///
    /// A kept connection may have been closed by the server meanwhile, so a failure on one is
    /// tried again on a fresh one: every request here may safely arrive twice.
    pub(crate) async fn post(&self, json: Vec<u8>) -> Result<Bytes, HttpError> {
        let json = Bytes::from(json);
        let kept = self.kept.lock().await.take().filter(|sender| !sender.is_closed());
        if let Some(sender) = kept {
            match self.send(sender, json.clone()).await {
                Err(HttpError::Socket(_) | HttpError::Http(_)) => {}
                answered => return answered,
            }
        }
        let sender = timeout(CONNECT_TIME, self.connect())
            .await
            .map_err(|_| HttpError::Slow(CONNECT_TIME))??;
        self.send(sender, json).await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let stream = TcpStream::connect(self.address.authority()).await?;
        // Where nothing listens on a port that the kernel gives to clients, a connection may come
        // to be with itself, and would keep the server from its port.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
        stream.set_nodelay(true)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(readable)?;
        // Ends by itself when the sender is dropped or the server closes.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        json: Bytes,
    ) -> Result<Bytes, HttpError> {
        let request = Request::post("/")
            .header(HOST, self.address.authority())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(json))
            .map_err(|error| HttpError::Http(error.to_string()))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(readable)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_LEN).collect().await;
            let body = body.map_err(|error| HttpError::Http(error.to_string()))?.to_bytes();
            Ok::<_, HttpError>((status, body))
        };
        let (status, body) =
            timeout(ANSWER_TIME, exchange).await.map_err(|_| HttpError::Slow(ANSWER_TIME))??;
        *self.kept.lock().await = Some(sender);
        // CometBFT answers errors of JSON-RPC with status 500 and a body that says more.
        if status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR {
            Ok(body)
        } else {
            Err(HttpError::Status(status))
        }
    }
}

fn readable(error: hyper::Error) -> HttpError {
    HttpError::Http(error.to_string())
}
