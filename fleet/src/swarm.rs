//! Machines that fetch their root from each other, and give it: node-init's own code (member `pieces`)
//! on sockets of each machine's address.
//!
//! What they hold is kept once for all of them: a thousand machines need the memory of one root.

use crate::{http::Connection, machine::Machine, node::Network};
use bytes::Bytes;
use pieces::{
    Layout, Shop,
    fetch::{self, Asked, Edge, FetchError, Fetched},
    give,
    shop::Shelf,
};
use protocol::{
    Digest, SecretKey, Signed,
    boot::{ImageFile, NODE_API_PORT},
    pieces::{Door, PiecesAsk, Swarm},
};
use serde::Serialize;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

/// What machines that share have in common.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Bytes of roots that came from the provisioner, in pieces or whole.
    pub origin: AtomicU64,
    /// Bytes that came from peers.
    pub peers: AtomicU64,
    /// Machines that fetched all from the provisioner, because peers were off or failed.
    pub plain: AtomicU64,
    /// Why, of the last of them.
    pub why: Mutex<Option<String>>,
    store: Store,
    doors: Mutex<JoinSet<()>>,
}

/// Where roots came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeersSummary {
    /// Bytes from the provisioner.
    pub origin: u64,
    /// Bytes from other machines.
    pub peers: u64,
    /// Machines that fetched all from the provisioner.
    pub plain: u64,
    /// Why, of the last of them.
    pub why: Option<String>,
}

/// A file's verified bytes, once for all.
#[derive(Clone, Debug, Default)]
struct Store(Arc<Mutex<Vec<u8>>>);

impl Store {
    fn bytes(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, whole: u64, at: u64, piece: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        bytes.resize(whole as usize, 0);
        let place = bytes.get_mut(at as usize..at as usize + piece.len());
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(piece);
        Ok(())
    }
}

impl Shelf for Store {
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let part = bytes.get(at as usize..at as usize + buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// One machine's side of a fetch.
struct Side {
    from: Ipv4Addr,
    host: SocketAddrV4,
    mac: String,
    boot_id: Digest,
    network: Network,
    root: String,
    file: Digest,
    bytes: u64,
    door: Option<Door>,
    store: Store,
}

impl Edge for Side {
    async fn ask(&self, asked: Asked) -> Result<Swarm, String> {
        let ask = PiecesAsk {
            boot_id: self.boot_id,
            number: asked.number,
            file: self.file,
            held: asked.held.hex(),
            address: IpAddr::V4(self.from),
            door: self.door,
            avoid: asked.avoid,
            stuck_ms: asked.stuck.as_millis() as u64,
        };
        let body = serde_json::to_vec(&ask).map_err(|error| error.to_string())?;
        let path = format!("/v1/machines/{}/pieces", self.mac);
        let answer = crate::http::post(self.from, self.host, None, &path, body).await?;
        let answer: Signed<Swarm> =
            serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let swarm = answer.verify(&self.network.chain).map_err(|error| error.to_string())?;
        let ours = (swarm.boot_id, swarm.number) == (ask.boot_id, ask.number);
        if answer.signer != self.network.key || !ours {
            return Err("somebody else answers, or an old answer comes back".into());
        }
        Ok(swarm.clone())
    }

    async fn outline(&self) -> Result<Bytes, String> {
        let mut connection = Connection::open(self.from, self.host).await?;
        connection.bytes(&format!("/v1/pieces/{}", self.file)).await
    }

    async fn origin(&self, range: Range<u64>, parts: mpsc::Sender<Bytes>) -> Result<(), String> {
        let mut connection = Connection::open(self.from, self.host).await?;
        connection.range(&self.root, range, &parts).await
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((self.from, 0).into())?;
        socket.connect(to).await
    }

    fn keep(&self, at: u64, piece: &[u8]) -> io::Result<()> {
        self.store.keep(self.bytes, at, piece)
    }
}

impl Sharing {
    /// A machine fetches all from the provisioner.
    pub fn left(&self, error: &FetchError, bytes: u64) {
        self.plain.fetch_add(1, Ordering::Relaxed);
        self.origin.fetch_add(bytes, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// Where roots came from so far.
    pub fn summary(&self) -> PeersSummary {
        PeersSummary {
            origin: self.origin.load(Ordering::Relaxed),
            peers: self.peers.load(Ordering::Relaxed),
            plain: self.plain.load(Ordering::Relaxed),
            why: self.why.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Whether what machines hold is a file of these bytes.
    pub fn holds(&self, digest: Digest) -> bool {
        Digest::of_bytes(&self.store.bytes()) == digest
    }

    /// Fetches a machine's root from peers and provisioner, and goes on giving it; the reason where all
    /// of it is to be fetched from the provisioner alone.
    ///
    /// # Errors
    /// Why.
    pub async fn fetch(
        &self,
        machine: &Machine,
        network: &Network,
        from: Ipv4Addr,
        root: String,
        file: &ImageFile,
    ) -> Result<Fetched, FetchError> {
        let untold = |error: &dyn std::fmt::Display| FetchError::Untold(error.to_string());
        let layout = Layout::of(file.bytes).map_err(|error| untold(&error))?;
        let store = self.store.clone();
        let shop = Shop::new(file.digest, layout, store.clone());
        let seed = Digest::of_bytes(format!("door {}", machine.boot_id).as_bytes());
        let key = SecretKey::from_seed(seed.0);
        let door = self.open(from, &key, &shop).await;
        let side = Side {
            from,
            host: network.provisioner,
            mac: machine.mac.to_string(),
            boot_id: machine.boot_id,
            network: network.clone(),
            root,
            file: file.digest,
            bytes: file.bytes,
            door,
            store,
        };
        let side = Arc::new(side);
        let fetched = fetch::run(side.clone(), shop.clone(), u64::from(machine.number)).await?;
        // From now on it is known as one that has all.
        let (held, avoid) = (shop.held(), Vec::new());
        let asked = Asked { number: u32::MAX, held, avoid, stuck: Duration::ZERO };
        let _ = side.ask(asked).await;
        Ok(fetched)
    }

    /// Where machines have no addresses of their own there is one door for all, and nobody has it.
    async fn open(&self, from: Ipv4Addr, key: &SecretKey, shop: &Arc<Shop>) -> Option<Door> {
        if from.is_unspecified() {
            return None;
        }
        let listener = TcpListener::bind((from, NODE_API_PORT)).await.ok()?;
        let config = give::config(key).ok()?;
        let serve = give::serve(Arc::new(listener), config, shop.clone());
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).spawn(serve);
        Some(Door { key: key.public(), port: NODE_API_PORT })
    }
}
