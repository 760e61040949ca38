//! The root by pieces, from other machines of the site too; and giving them on.
//!
//! A machine gives what it has from the first piece on, out of the file in memory that its root is: there
//! is no second copy. Whatever goes wrong here, the root is fetched whole from the provisioner.

use crate::{
    http::{self, Base},
    kernel::Kernel,
    mac::Mac,
    stages::{command_line::Arguments, release},
};
use hyper::body::Bytes;
use pieces::{
    Layout, Shop,
    fetch::{self, Asked, Edge, FetchError, Fetched},
    give,
};
use protocol::{
    Digest, SecretKey, Signed,
    boot::RootImage,
    pieces::{Door, PiecesAsk, Swarm},
};
use rustls::ServerConfig;
use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::sleep,
};

/// The least and the longest time between two words to the provisioner that we give.
const LEAST_AGAIN: Duration = Duration::from_secs(10);
const MOST_AGAIN: Duration = Duration::from_secs(600);

/// Where this machine gives pieces.
#[derive(Clone)]
pub struct Giving {
    /// What.
    pub shop: Arc<Shop>,
    /// How: by a key of this boot and for this alone, so that strangers have nothing signed by the
    /// node's.
    pub config: Arc<ServerConfig>,
}

/// A root that came by pieces.
pub struct Shared {
    /// It, not sealed yet.
    pub file: File,
    /// From where.
    pub fetched: Fetched,
    /// What is given of it.
    pub giving: Giving,
    side: Arc<Side>,
}

/// This machine's side.
struct Side {
    arguments: Arguments,
    mac: Mac,
    boot_id: Digest,
    address: IpAddr,
    door: Option<Door>,
    file: File,
    digest: Digest,
    path: String,
}

/// What is fetched, and by whom.
pub struct Wanted<'a> {
    /// The provisioner.
    pub arguments: &'a Arguments,
    /// The NIC that booted the machine.
    pub mac: Mac,
    /// The boot.
    pub boot_id: Digest,
    /// The image.
    pub image: Digest,
    /// Its root.
    pub root: &'a RootImage,
}

/// Fetches a root, giving what has come of it at `listener` meanwhile.
///
/// # Errors
/// Why it is to be fetched otherwise.
pub async fn fetch(
    kernel: &dyn Kernel,
    listener: Option<&Arc<TcpListener>>,
    wanted: &Wanted<'_>,
) -> Result<Shared, FetchError> {
    let untold = |error: &dyn std::fmt::Display| FetchError::Untold(error.to_string());
    let Wanted { arguments, mac, boot_id, image, root } = *wanted;
    let layout = Layout::of(root.file.bytes).map_err(|error| untold(&error))?;
    let file = kernel.memory_file().map_err(FetchError::Keep)?;
    let clone = || file.try_clone().map_err(FetchError::Keep);
    let address = ours(&arguments.provisioner).await.map_err(|error| untold(&error))?;
    let key = SecretKey::from_seed(kernel.random().map_err(|error| untold(&error))?);
    let config = give::config(&key).map_err(|error| untold(&error))?;
    let shop = Shop::new(root.file.digest, layout, clone()?);
    let port = listener.and_then(|listener| listener.local_addr().ok()).map(|at| at.port());
    let side = Arc::new(Side {
        arguments: arguments.clone(),
        mac,
        boot_id,
        address,
        door: port.map(|port| Door { key: key.public(), port }),
        file: clone()?,
        digest: root.file.digest,
        path: release::path(image, &root.file.file),
    });
    let seed = kernel.random().map_err(|error| untold(&error))?;
    let seed = seed.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte));
    let giving = Giving { shop: shop.clone(), config: config.clone() };
    let fetches = fetch::run(side.clone(), shop.clone(), seed);
    let fetched = match listener {
        None => fetches.await?,
        Some(listener) => tokio::select! {
            fetched = fetches => fetched?,
            () = give::serve(listener.clone(), config, shop) => return Err(FetchError::Nothing),
        },
    };
    Ok(Shared { file, fetched, giving, side })
}

impl Shared {
    /// For people.
    pub fn detail(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let Fetched { origin, peers, givers, .. } = self.fetched;
        let (origin, peers) = (megabytes(origin), megabytes(peers));
        let machines = if givers == 1 { "machine" } else { "machines" };
        format!(
            "{origin:.1} MB of it from the provisioner, {peers:.1} MB from {givers} other {machines}"
        )
    }

    /// Goes on telling the provisioner that we have all of it, and gives as it says.
    pub fn tells(&self) -> impl Future<Output = ()> + use<> {
        let (side, shop) = (self.side.clone(), self.giving.shop.clone());
        // Questions of the fetch come before.
        let mut number = 1 << 20;
        async move {
            loop {
                let (held, avoid) = (shop.held(), Vec::new());
                let asked = Asked { number, held, avoid, stuck: Duration::ZERO };
                let again = match side.ask(asked).await {
                    Ok(swarm) => {
                        shop.open(swarm.site, swarm.rate);
                        Duration::from_millis(swarm.again_ms.into())
                    }
                    // A provisioner that is away: who was told of us by it may come still.
                    Err(_) => Duration::ZERO,
                };
                number += 1;
                sleep(again.clamp(LEAST_AGAIN, MOST_AGAIN)).await;
            }
        }
    }
}

/// The address from which we speak to a server.
async fn ours(server: &Base) -> io::Result<IpAddr> {
    let v6 = server.address().is_some_and(|address| address.is_ipv6());
    let any = if v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Sends nothing: of UDP the kernel only looks up the way.
    socket.connect(server.place()).await?;
    Ok(socket.local_addr()?.ip())
}

impl Edge for Side {
    async fn ask(&self, asked: Asked) -> Result<Swarm, String> {
        let ask = PiecesAsk {
            boot_id: self.boot_id,
            number: asked.number,
            file: self.digest,
            held: asked.held.hex(),
            address: self.address,
            door: self.door,
            avoid: asked.avoid,
            stuck_ms: u64::try_from(asked.stuck.as_millis()).unwrap_or(u64::MAX),
        };
        let body = serde_json::to_vec(&ask).map_err(|error| error.to_string())?;
        let path = format!("/v1/machines/{}/pieces", self.mac);
        let answer = http::post(&self.arguments.provisioner, &path, body).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: Signed<Swarm> =
            serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let swarm = answer.verify(&self.arguments.chain).map_err(|error| error.to_string())?;
        let fits = (swarm.boot_id, swarm.number) == (ask.boot_id, ask.number);
        if answer.signer != self.arguments.key || !fits {
            return Err("it is signed by somebody else, or an old answer played back".into());
        }
        Ok(swarm.clone())
    }

    async fn outline(&self) -> Result<Bytes, String> {
        let path = format!("/v1/pieces/{}", self.digest);
        let outline = http::get(&self.arguments.provisioner, &path, http::MAX_ANSWER).await;
        outline.map_err(|error| error.to_string())
    }

    async fn origin(&self, range: Range<u64>, parts: mpsc::Sender<Bytes>) -> Result<(), String> {
        let server = &self.arguments.provisioner;
        let fetched = http::part(server, &self.path, range, parts).await;
        fetched.map_err(|error| error.to_string())
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(to).await
    }

    fn keep(&self, at: u64, piece: &[u8]) -> io::Result<()> {
        self.file.write_all_at(piece, at)
    }
}
