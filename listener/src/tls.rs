//! The same service over TLS.
//!
//! A handshake costs its server a signature, and its client nothing but patience: so they are
//! bounded in number, by peer, and in time, apart from the connections that they become.

use crate::{
    Limits, Load, Peers,
    moving::Moving,
    serve::{accept, connection},
    table::{Progress, Table},
};
use axum::{Extension, Router};
use rustls::{
    ServerConfig,
    pki_types::CertificateDer,
    server::{Acceptor, ClientHello},
};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::LazyConfigAcceptor;

/// Where there is no room for one more handshake, one that lasts for so long goes: firmware computes
/// its part in a second or two.
const LASTING: Duration = Duration::from_secs(3);
/// How many a peer may have then, those that wait among them: a few who say hello and no more are not to
/// keep all others waiting.
const OF_ONE_WHERE_FULL: usize = 4;

/// How many handshakes there may be, and how long one may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// In all. For one more, one that lasts for 3 s already ends, of the peer that has most; where
    /// there is none, it waits.
    pub at_once: usize,
    /// From one address, or one IPv6 network of 64 bits. One more is closed at once.
    pub of_one_peer: usize,
    /// From the first byte wanted to the last.
    pub patience: Duration,
}

impl Handshakes {
    /// For a service that firmware uses: it computes a handshake in a second or two where it is
    /// slow, and a packet that was lost costs it another few. One peer has an eighth of the places,
    /// enough for a rack that comes through one router.
    pub const USUAL: Self =
        Self { at_once: 512, of_one_peer: 64, patience: Duration::from_secs(20) };
}

/// What is spoken.
#[derive(Clone)]
pub struct Spoken {
    /// With everybody.
    pub usual: Arc<ServerConfig>,
    /// But for those.
    pub other: Option<Other>,
}

impl From<Arc<ServerConfig>> for Spoken {
    fn from(usual: Arc<ServerConfig>) -> Self {
        Self { usual, other: None }
    }
}

/// What is spoken with those who cannot do better, and costs more: its handshakes are bounded apart,
/// so that they keep nobody else waiting.
#[derive(Clone)]
pub struct Other {
    /// Who they are, by their first message.
    pub whose: fn(&ClientHello<'_>) -> bool,
    /// What is spoken with them.
    pub config: Arc<ServerConfig>,
    /// How many such handshakes there are in all. One more waits, as long as its patience is.
    pub at_once: usize,
    /// From one address, or one IPv6 network of 64 bits. One more is closed.
    pub of_one_peer: usize,
}

/// Stands in a request's extensions where it came over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// What the peer showed of itself, judged by the configuration's verifier; its first
    /// certificate alone.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Serves over TLS until it is dropped. Handlers may ask for
/// [`ConnectInfo`](axum::extract::ConnectInfo)`<`[`SocketAddr`]`>`, and for
/// [`Extension`]`<`[`Secured`]`>`.
pub async fn serve_tls(
    listener: TcpListener,
    limits: Limits,
    handshakes: Handshakes,
    spoken: impl Into<Spoken>,
    router: Router,
) -> Infallible {
    serve_tls_counted(listener, limits, handshakes, Load::default(), spoken, router).await
}

/// The same, and `load` tells how full it is.
pub async fn serve_tls_counted(
    listener: TcpListener,
    limits: Limits,
    handshakes: Handshakes,
    load: Load,
    spoken: impl Into<Spoken>,
    router: Router,
) -> Infallible {
    let counted = load.clone();
    let spoken = spoken.into();
    let door = Arc::new(Door {
        others: Semaphore::new(spoken.other.as_ref().map_or(0, |other| other.at_once)),
        other_peers: Peers::default(),
        spoken,
        table: Table::new(handshakes.at_once, LASTING),
        peers: Peers::default(),
        handshakes,
    });
    let each = move |stream, peer, progress: Progress| {
        let (door, router, counted) = (door.clone(), router.clone(), counted.clone());
        async move {
            let Some((stream, secured)) = door.handshake(stream, peer, &counted).await else {
                return;
            };
            let router = router.layer(Extension(secured));
            let stream = Moving::new(stream, progress.clone());
            connection(stream, peer, progress, None, router, limits.silence).await;
        }
    };
    accept(listener, limits, load, each).await
}

struct Door {
    spoken: Spoken,
    others: Semaphore,
    other_peers: Peers,
    table: Arc<Table>,
    peers: Peers,
    handshakes: Handshakes,
}

type Stream = tokio_rustls::server::TlsStream<TcpStream>;

impl Door {
    async fn handshake(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        load: &Load,
    ) -> Option<(Stream, Secured)> {
        // Who says nothing has no place yet; his connection is bounded as all are.
        if !matches!(timeout(self.handshakes.patience, stream.readable()).await, Ok(Ok(()))) {
            tracing::debug!(%peer, "no TLS: it says nothing");
            return None;
        }
        let most = self.handshakes.of_one_peer;
        let most = if self.table.is_full() { most.min(OF_ONE_WHERE_FULL) } else { most };
        let Some(_seat) = self.peers.seat(peer.ip(), most) else {
            tracing::debug!(%peer, "it has {most} handshakes already");
            load.turn_away();
            return None;
        };
        let place = self.table.place(self.table.room().await?, peer.ip());
        let _counted = load.handshake();
        let shaking = timeout(self.handshakes.patience, self.shaken(stream, peer, load));
        let shaken = tokio::select! {
            shaken = shaking => shaken,
            () = place.wanted() => {
                tracing::debug!(%peer, "no TLS: the handshake made room for another");
                return None;
            }
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%peer, "no TLS: {error}");
                return None;
            }
            Err(_) => {
                tracing::debug!(%peer, "no TLS: the handshake takes too long");
                return None;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(|certificate| certificate.clone().into_owned());
        Some((stream, Secured { certificate }))
    }

    async fn shaken(&self, stream: TcpStream, peer: SocketAddr, load: &Load) -> io::Result<Stream> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let Some(other) = self.spoken.other.as_ref().filter(|o| (o.whose)(&start.client_hello()))
        else {
            return start.into_stream(self.spoken.usual.clone()).await;
        };
        let seat = self.other_peers.seat(peer.ip(), other.of_one_peer);
        let _seat = seat.ok_or_else(|| io::Error::other("it has its share of costly ones"))?;
        let _counted = load.other();
        let _place = self.others.acquire().await.map_err(io::Error::other)?;
        start.into_stream(other.config.clone()).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
mod tests {
    use super::*;
    use axum::routing::get;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{PrivateKeyDer, ServerName},
        version::TLS13,
    };
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    const SOON: Duration = Duration::from_millis(400);
    /// Long enough on a machine that has other things to do.
    const LATE: Duration = Duration::from_secs(20);

    struct Site {
        address: SocketAddr,
        client: Arc<ClientConfig>,
    }

    async fn served(limits: Limits, handshakes: Handshakes) -> Site {
        served_as(limits, handshakes, Spoken::from).await
    }

    async fn served_as(
        limits: Limits,
        handshakes: Handshakes,
        spoken: impl FnOnce(Arc<ServerConfig>) -> Spoken,
    ) -> Site {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let how = |secured: Option<Extension<Secured>>| async move {
            match secured {
                Some(Extension(Secured { certificate: None })) => "secured, by nobody known",
                _ => "something else",
            }
        };
        let router = Router::new().route("/", get(how));
        tokio::spawn(serve_tls(listener, limits, handshakes, spoken(Arc::new(server)), router));
        Site { address, client: Arc::new(client) }
    }

    impl Site {
        async fn silent(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Says that a hello follows, and no more.
        async fn held(&self) -> TcpStream {
            let mut stream = self.silent().await;
            stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
            stream
        }

        /// One that says hello, and no more.
        async fn greets(&self) -> TcpStream {
            let name = ServerName::try_from("localhost").unwrap();
            let mut hello = Vec::new();
            let mut client = ClientConnection::new(self.client.clone(), name).unwrap();
            client.write_tls(&mut hello).unwrap();
            let mut stream = self.silent().await;
            stream.write_all(&hello).await.unwrap();
            stream
        }

        /// What is answered, where something is, within a time.
        async fn asked(&self, limit: Duration) -> Option<String> {
            let stream = self.silent().await;
            let name = ServerName::try_from("localhost").unwrap();
            let shaken = TlsConnector::from(self.client.clone()).connect(name, stream);
            let mut stream = timeout(limit, shaken).await.ok()?.ok()?;
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        }
    }

    #[tokio::test]
    async fn a_request_over_tls_is_known_as_one() {
        let site = served(Limits::USUAL, Handshakes::USUAL).await;
        let answer = site.asked(LATE).await.unwrap();
        assert!(answer.ends_with("secured, by nobody known"), "{answer}");
    }

    #[tokio::test]
    async fn a_handshake_that_never_ends_is_cut_whatever_it_drips() {
        let site =
            served(Limits::USUAL, Handshakes { patience: 2 * SOON, ..Handshakes::USUAL }).await;
        let began = Instant::now();
        let mut silent = site.silent().await;
        let mut drips = site.silent().await;
        let dripping = async {
            // The head of a record that says 512 bytes follow, and then one byte after the other.
            drips.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
            while drips.write_all(&[1]).await.is_ok() {
                tokio::time::sleep(SOON / 20).await;
            }
        };
        timeout(LATE, dripping).await.unwrap();
        let mut rest = Vec::new();
        timeout(LATE, silent.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(began.elapsed() >= SOON);
        assert!(site.asked(LATE).await.is_some(), "others are served");
    }

    #[tokio::test]
    async fn no_more_handshakes_than_there_are_places_and_who_waits_gets_one() {
        let few = Handshakes { at_once: 2, patience: 4 * SOON, ..Handshakes::USUAL };
        let site = served(Limits::USUAL, few).await;
        let _silent = [site.silent().await, site.silent().await];
        tokio::time::sleep(SOON / 4).await;
        assert!(site.asked(LATE).await.is_some(), "who says nothing takes no place");
        let _held = [site.held().await, site.held().await];
        tokio::time::sleep(SOON / 4).await;
        assert_eq!(site.asked(SOON).await, None, "both places are taken");
        tokio::time::sleep(4 * SOON).await;
        assert!(site.asked(LATE).await.is_some(), "they were given back");
    }

    #[tokio::test]
    async fn one_peer_has_its_share_of_handshakes_and_no_more() {
        let one = Handshakes { of_one_peer: 1, ..Handshakes::USUAL };
        let site = served(Limits::USUAL, one).await;
        let held = site.held().await;
        tokio::time::sleep(SOON / 4).await;
        assert_eq!(site.asked(SOON).await, None);
        drop(held);
        tokio::time::sleep(SOON / 4).await;
        assert!(site.asked(LATE).await.is_some());
    }

    #[tokio::test]
    async fn costly_handshakes_are_bounded_apart_from_the_others() {
        let costly = |of_one_peer, at_once, whose: fn(&ClientHello<'_>) -> bool| {
            move |config: Arc<ServerConfig>| Spoken {
                usual: config.clone(),
                other: Some(Other { whose, config, at_once, of_one_peer }),
            }
        };
        let all = |_: &ClientHello<'_>| true;
        let patience = Handshakes { patience: 4 * SOON, ..Handshakes::USUAL };
        for spoken in [costly(1, 9, all), costly(9, 1, all)] {
            let site = served_as(Limits::USUAL, patience, spoken).await;
            let held = site.greets().await;
            tokio::time::sleep(SOON / 4).await;
            assert_eq!(site.asked(SOON).await, None);
            drop(held);
            tokio::time::sleep(SOON / 4).await;
            assert!(site.asked(LATE).await.is_some());
        }
        let site = served_as(Limits::USUAL, patience, costly(0, 0, |_| false)).await;
        let _held = site.greets().await;
        assert!(site.asked(LATE).await.is_some(), "these are none of them");
    }
}
