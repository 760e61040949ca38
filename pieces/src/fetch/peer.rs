//! Pieces from one peer, one after the other on a connection.

use super::{Edge, Said};
use crate::{
    held::Held,
    outline::Outline,
    schedule::{End, Event, Source},
    wire,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use protocol::PublicKey;
use rustls::pki_types::ServerName;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a connection stands for which there is nothing to do: it takes a place of the peer's.
const IDLE: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Clone, Copy)]
pub(super) struct Whom {
    pub(super) key: PublicKey,
    pub(super) address: SocketAddr,
    pub(super) turn: u64,
}

pub(super) async fn fetch<E: Edge>(
    edge: Arc<E>,
    outline: Arc<Outline>,
    whom: Whom,
    mut wanted: mpsc::Receiver<u32>,
    says: mpsc::Sender<Said>,
) {
    let Whom { key, turn, .. } = whom;
    let from = Source::Peer(key);
    let mut connection = None;
    loop {
        let piece = match timeout(IDLE, wanted.recv()).await {
            Ok(piece) => piece,
            Err(_) => {
                // What was sent in this moment is brought still.
                wanted.close();
                wanted.recv().await
            }
        };
        let Some(piece) = piece else { return };
        let how = match connection.take() {
            Some(connection) => Ok(connection),
            None => open(edge.as_ref(), whom).await,
        };
        let how = match how {
            Err(how) => how,
            Ok(mut open) => {
                let (how, held) = open.piece(&outline, from, turn, piece, &says).await;
                if let Some(held) = held {
                    let event = Event::Has { peer: key, held };
                    let _ = says.send(Said::Of { from, turn, event }).await;
                }
                if matches!(how, End::Whole | End::Busy) {
                    connection = Some(open);
                }
                how
            }
        };
        let said = Said::Of { from, turn, event: Event::Ended { from, how } };
        if says.send(said).await.is_err() || matches!(how, End::Lied | End::Failed) {
            return;
        }
    }
}

/// A connection to a peer.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn open<E: Edge>(edge: &E, whom: Whom) -> Result<Connection, End> {
    let mut config = mtls::client_of_nobody(whom.key).map_err(|_| End::Failed)?;
    config.alpn_protocols = vec![wire::PROTOCOL.to_vec()];
    let name = ServerName::try_from("node").map_err(|_| End::Failed)?;
    let connect = async {
        let stream = edge.connect(whom.address).await.map_err(|_| End::Failed)?;
        let _ = stream.set_nodelay(true);
        // Whoever has no place closes at once; another key is an impostor's, or another boot's.
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::BrokenPipe => End::Busy,
            _ => End::Failed,
        })?;
        let spoken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = spoken.map_err(|_| End::Failed)?;
        let task = tokio::spawn(async move {
            // How it ended its requests tell.
            let _ = connection.await;
        });
        Ok(Connection { sender, task })
    };
    timeout(CONNECT, connect).await.unwrap_or(Err(End::Failed))
}

impl Connection {
    /// Fetches a piece; gives how that went, and what the peer has.
    async fn piece(
        &mut self,
        outline: &Outline,
        from: Source,
        turn: u64,
        piece: u32,
        says: &mpsc::Sender<Said>,
    ) -> (End, Option<Held>) {
        let request = Request::get(wire::path(outline.digest(), piece))
            .header(header::HOST, "node")
            .body(Empty::new());
        let Ok(request) = request else { return (End::Failed, None) };
        // A peer that closed a connection that was idle is asked anew.
        if self.sender.ready().await.is_err() {
            return (End::Busy, None);
        }
        let Ok(answer) = self.sender.send_request(request).await else {
            return (End::Failed, None);
        };
        let held = answer
            .headers()
            .get(wire::HELD)
            .and_then(|held| Held::from_hex(outline.layout().count(), held.to_str().ok()?));
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => return (End::Busy, held),
            _ => return (End::Failed, held),
        }
        let most = outline.layout().length(piece) as usize;
        let Ok(content) = Limited::new(answer.into_body(), most).collect().await else {
            return (End::Failed, held);
        };
        let content = content.to_bytes().to_vec();
        if !outline.fits(piece, &content) {
            return (End::Lied, held);
        }
        match says.send(Said::Piece { from, turn, piece, content }).await {
            Ok(()) => (End::Whole, held),
            Err(_) => (End::Failed, held),
        }
    }
}
