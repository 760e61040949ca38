//! One machine's way from power-on to a node that was taken in.

use crate::{
    dhcp::{Bound, Client, Wire},
    http::Connection,
    machine::Machine,
    node::{Network, Node},
    script::{self, Outcome},
    swarm::Sharing,
    target::Target,
    tftp::{self, Wanted},
};
use blake3::Hasher;
use protocol::{
    Digest,
    boot::{ARG_CHAIN, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE, ImageManifest},
    release::BUNDLE_FILE,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpSocket, sync::OnceCell, time::sleep};

/// Port of TFTP.
const TFTP_PORT: u16 = 69;
/// How often iPXE's script tries again, and the pause before (provisioner/src/script.rs has 24
/// tries; nobody who sizes a site waits for them).
const SCRIPT_TRIES: u32 = 4;
const SCRIPT_PAUSE: Duration = Duration::from_secs(5);
/// The most scripts that lead to one another.
const MAX_CHAINS: usize = 4;

/// A part of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Firmware's DHCP.
    Dhcp,
    /// iPXE by TFTP, the question for its size included.
    Tftp,
    /// iPXE's DHCP.
    IpxeDhcp,
    /// Both boot scripts.
    Script,
    /// The kernel.
    Kernel,
    /// Microcode.
    Microcode,
    /// The initramfs.
    Initramfs,
    /// The running system's DHCP.
    LinuxDhcp,
    /// The time.
    Time,
    /// The signed release, where there is one.
    Release,
    /// The root.
    Root,
    /// The TPM's challenge.
    Challenge,
    /// Being taken in.
    Enrol,
    /// The three reports of a boot, together, with the certificate that the last one goes by.
    Events,
    /// From power-on to the last of them.
    Boot,
    /// One report of a node that runs.
    Beat,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 16] = [
        Self::Dhcp,
        Self::Tftp,
        Self::IpxeDhcp,
        Self::Script,
        Self::Kernel,
        Self::Microcode,
        Self::Initramfs,
        Self::LinuxDhcp,
        Self::Time,
        Self::Release,
        Self::Root,
        Self::Challenge,
        Self::Enrol,
        Self::Events,
        Self::Boot,
        Self::Beat,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Tftp => "tftp",
            Self::IpxeDhcp => "ipxe-dhcp",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Microcode => "microcode",
            Self::Initramfs => "initramfs",
            Self::LinuxDhcp => "linux-dhcp",
            Self::Time => "time",
            Self::Release => "release",
            Self::Root => "root",
            Self::Challenge => "challenge",
            Self::Enrol => "enrol",
            Self::Events => "events",
            Self::Boot => "boot",
            Self::Beat => "beat",
        }
    }
}

/// Which parts of the way are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// DHCP and TFTP. Without, a machine begins at the boot script.
    pub firmware: bool,
    /// Kernel, microcode, initramfs and root. Without, they count as fetched.
    pub image: bool,
    /// All that node-init does.
    pub node: bool,
}

impl Way {
    /// All of it.
    pub const WHOLE: Self = Self { firmware: true, image: true, node: true };
    /// Enrolment alone, as of machines that run already.
    pub const NODE: Self = Self { firmware: false, image: false, node: true };
}

/// What all machines share.
pub struct Site {
    /// Whom they may speak to.
    pub target: Target,
    /// DHCP's socket, where firmware's part is gone.
    pub wire: Option<Arc<Wire>>,
    /// Where the way begins without firmware, and what nodes are told without a boot script.
    pub base: Option<SocketAddrV4>,
    /// The address that machine 0 speaks from where DHCP gives none, machine 1 from the next; none
    /// where all speak from this host's.
    pub own_addresses: Option<Ipv4Addr>,
    /// Which parts of the way are gone.
    pub way: Way,
    /// How long firmware collects offers. EDK2 does for 4 s.
    pub offer_wait: Duration,
    /// Whether files are digested and held against the manifest.
    pub digests: bool,
    /// Distinguishes this run's transactions and boots.
    pub salt: u64,
    /// Machines that had no address of their own to speak from.
    pub shared_address: AtomicU64,
    /// What machines have in common that fetch their root from each other; none where all fetch it from
    /// the provisioner.
    pub sharing: Option<Sharing>,
    /// The manifest of the image served.
    manifest: OnceCell<Arc<ImageManifest>>,
    /// What nodes are told, where no script says it.
    network: OnceCell<Arc<Network>>,
}

/// What became of one machine.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Seconds of each part.
    pub times: Vec<(Stage, f64)>,
    /// Bytes of files.
    pub bytes: u64,
    /// Packets sent and questions asked more than once.
    pub retries: u32,
    /// Where it ended, and why, unless it got through.
    pub failure: Option<(Stage, String)>,
}

impl Site {
    /// A site.
    pub fn new(target: Target, way: Way, salt: u64) -> Self {
        Self {
            target,
            wire: None,
            base: None,
            own_addresses: None,
            way,
            offer_wait: Duration::ZERO,
            digests: true,
            salt,
            shared_address: AtomicU64::new(0),
            sharing: None,
            manifest: OnceCell::new(),
            network: OnceCell::new(),
        }
    }

    /// What nodes are told by the provisioner's own status, asked once.
    ///
    /// # Errors
    /// The reason.
    pub async fn network(&self, base: SocketAddrV4) -> Result<Arc<Network>, String> {
        let ask = || async {
            let mut connection = Connection::open(Ipv4Addr::UNSPECIFIED, base).await?;
            let text = connection.text("/v1/status").await?;
            let status: protocol::fleet::ProvisionerStatus =
                serde_json::from_str(&text).map_err(|error| error.to_string())?;
            let (Some(key), Some(chain), Some(image)) = (status.key, status.chain, status.image)
            else {
                return Err("it takes no machines in, or has no image".to_owned());
            };
            Ok(Arc::new(Network { provisioner: base, key, chain, release: image.digest }))
        };
        self.network.get_or_try_init(ask).await.cloned()
    }

    async fn manifest(
        &self,
        connection: &mut Connection,
        release: &str,
    ) -> Result<Arc<ImageManifest>, String> {
        let ask = move || async move {
            let text = connection.text(&format!("/image/{release}/manifest.json")).await?;
            serde_json::from_str(&text).map(Arc::new).map_err(|error| error.to_string())
        };
        self.manifest.get_or_try_init(ask).await.cloned()
    }
}

/// A boot under way.
struct Boot<'a> {
    site: &'a Site,
    machine: &'a Machine,
    record: Record,
    /// Where it speaks from.
    from: Ipv4Addr,
}

/// Boots a machine; gives what became of it, and where it speaks from.
pub async fn boot(site: &Site, machine: &Machine) -> (Record, Ipv4Addr) {
    let record = Record::default();
    let mut boot = Boot { site, machine, record, from: Ipv4Addr::UNSPECIFIED };
    let began = Instant::now();
    match boot.run().await {
        Ok(()) => boot.record.times.push((Stage::Boot, began.elapsed().as_secs_f64())),
        Err(failure) => boot.record.failure = Some(failure),
    }
    (boot.record, boot.from)
}

type Failure = (Stage, String);

impl Boot<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        if let (Some(first), false) = (self.site.own_addresses, self.site.way.firmware) {
            self.from = self.own(Ipv4Addr::from_bits(first.to_bits() + self.machine.number));
        }
        let entry = if self.site.way.firmware { Some(self.firmware().await?) } else { None };
        let (network, manifest) = match (self.site.way.image, entry, self.site.base) {
            (_, Some(url), _) => self.ipxe(&url).await?,
            (true, None, Some(base)) => self.ipxe(&format!("http://{base}/boot.ipxe")).await?,
            (false, None, Some(base)) => {
                let network = self.site.network(base).await.map_err(|why| (Stage::Time, why))?;
                (network, None)
            }
            (_, None, None) => return Err((Stage::Script, "no provisioner is named".into())),
        };
        if self.site.way.node {
            if self.site.way.firmware {
                self.dhcp(Stage::LinuxDhcp, Client::Linux, 2).await?;
            }
            self.node(&network, manifest.as_deref()).await?;
        }
        Ok(())
    }

    /// DHCP, iPXE by TFTP, DHCP once more; gives the first script's URL.
    async fn firmware(&mut self) -> Result<String, Failure> {
        let bound = self.dhcp(Stage::Dhcp, Client::Edk2, 0).await?;
        self.from = self.own(bound.address);
        let began = Instant::now();
        self.boot_file(&bound).await.map_err(|why| (Stage::Tftp, why))?;
        self.took(Stage::Tftp, began);
        let bound = self.dhcp(Stage::IpxeDhcp, Client::Ipxe, 1).await?;
        let (url, _) =
            bound.boot.ok_or((Stage::IpxeDhcp, "nobody says what to boot".to_owned()))?;
        Ok(url)
    }

    async fn dhcp(&mut self, stage: Stage, client: Client, turn: u32) -> Result<Bound, Failure> {
        let Some(wire) = &self.site.wire else { return Err((stage, "there is no wire".into())) };
        let began = Instant::now();
        // No two machines' transactions meet within a run.
        let xid = (self.site.salt as u32) ^ (self.machine.number << 2 | turn);
        let wait = if client == Client::Edk2 { self.site.offer_wait } else { Duration::ZERO };
        let exchange = wire.exchange(client, self.machine, xid, wait).await;
        let (bound, resent) = exchange.map_err(|why| (stage, why))?;
        self.record.retries += resent;
        self.took(stage, began);
        Ok(bound)
    }

    /// The address that DHCP gave, where this host lets us speak from it (`ip route add local
    /// POOL dev lo` does); else whichever the kernel takes.
    fn own(&self, address: Ipv4Addr) -> Ipv4Addr {
        let bound = TcpSocket::new_v4().and_then(|socket| socket.bind((address, 0).into()));
        if bound.is_ok() {
            return address;
        }
        self.site.shared_address.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::UNSPECIFIED
    }

    async fn boot_file(&mut self, bound: &Bound) -> Result<(), String> {
        let (name, server) = bound.boot.as_ref().ok_or("nobody says what to boot")?;
        self.site.target.check(*server)?;
        let server = SocketAddrV4::new(*server, TFTP_PORT);
        self.record.retries += tftp::size(self.from, server, name, Wanted::EDK2).await?;
        let mut hasher = Hasher::new();
        let keep = |part: &[u8]| {
            hasher.update(part);
        };
        let fetched = tftp::fetch(self.from, server, name, Wanted::EDK2, keep).await?;
        self.record.bytes += fetched.bytes;
        self.record.retries += fetched.resent;
        Ok(())
    }

    /// Follows scripts to a kernel and fetches what they name.
    async fn ipxe(
        &mut self,
        url: &str,
    ) -> Result<(Arc<Network>, Option<Arc<ImageManifest>>), Failure> {
        let began = Instant::now();
        let (mut connection, boot) = self.scripts(url).await.map_err(|why| (Stage::Script, why))?;
        self.took(Stage::Script, began);
        let network = network(&boot, &self.site.target).map_err(|why| (Stage::Script, why))?;
        let release = network.release.to_string();
        if !self.site.way.image {
            return Ok((network.into(), None));
        }
        let manifest = self.site.manifest(&mut connection, &release).await;
        let manifest = manifest.map_err(|why| (Stage::Script, format!("the manifest: {why}")))?;
        self.file(&mut connection, Stage::Kernel, &boot.kernel, &manifest).await?;
        let last = boot.initrds.len().saturating_sub(1);
        for (number, url) in boot.initrds.iter().enumerate() {
            let stage = if number == last { Stage::Initramfs } else { Stage::Microcode };
            self.file(&mut connection, stage, url, &manifest).await?;
        }
        Ok((network.into(), Some(manifest)))
    }

    async fn scripts(&mut self, first: &str) -> Result<(Connection, script::Boot), String> {
        let settings = BTreeMap::from([
            ("netX/mac:hexhyp", self.machine.mac.hyphenated()),
            ("uuid", self.machine.uuid()),
            ("serial:uristring", self.machine.serial()),
            ("buildarch", "x86_64".to_owned()),
            ("platform", "efi".to_owned()),
        ]);
        let (host, mut path) = self.site.target.url(first)?;
        let mut connection = self.patiently(host).await?;
        for _ in 0..MAX_CHAINS {
            let text = connection.text(&path).await?;
            match script::walk(&text, &settings).map_err(|error| error.to_string())? {
                Outcome::Boot(boot) => return Ok((connection, boot)),
                Outcome::Chain(url) => {
                    let (next, below) = self.site.target.url(&url)?;
                    if next != host {
                        connection = self.patiently(next).await?;
                    }
                    path = below;
                }
            }
        }
        Err("script leads to script leads to script".into())
    }

    /// A connection; tried again as the boot script would.
    async fn patiently(&mut self, host: SocketAddrV4) -> Result<Connection, String> {
        for _ in 1..SCRIPT_TRIES {
            if let Ok(connection) = Connection::open(self.from, host).await {
                return Ok(connection);
            }
            self.record.retries += 1;
            sleep(SCRIPT_PAUSE).await;
        }
        Connection::open(self.from, host).await
    }

    async fn file(
        &mut self,
        connection: &mut Connection,
        stage: Stage,
        url: &str,
        manifest: &ImageManifest,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let fetched = async {
            let (_, path) = self.site.target.url(url)?;
            let body = connection.file(&path, self.site.digests).await?;
            let name = path.split('?').next().and_then(|path| path.rsplit('/').next());
            let wanted = manifest.files().find(|file| Some(file.file.as_str()) == name);
            let wanted = wanted.ok_or_else(|| format!("{name:?} is none of the image's files"))?;
            check(body.bytes, body.digest, wanted, self.site.digests)?;
            Ok(body.bytes)
        };
        self.record.bytes += fetched.await.map_err(|why| (stage, why))?;
        self.took(stage, began);
        Ok(())
    }

    async fn node(
        &mut self,
        network: &Network,
        manifest: Option<&ImageManifest>,
    ) -> Result<(), Failure> {
        let mut node = Node::new(self.machine, network, self.from);
        let outcome = self.tell(&mut node, network, manifest).await;
        self.record.retries += node.retries;
        outcome
    }

    async fn tell(
        &mut self,
        node: &mut Node<'_>,
        network: &Network,
        manifest: Option<&ImageManifest>,
    ) -> Result<(), Failure> {
        let mut told = 0.0;
        let began = Instant::now();
        node.time().await.map_err(|why| (Stage::Time, why))?;
        self.took(Stage::Time, began);
        let began = Instant::now();
        node.report(0).await.map_err(|why| (Stage::Events, why))?;
        told += began.elapsed().as_secs_f64();
        if let Some(manifest) = manifest {
            self.root(network, manifest).await?;
        }
        let began = Instant::now();
        node.report(1).await.map_err(|why| (Stage::Events, why))?;
        told += began.elapsed().as_secs_f64();
        let began = Instant::now();
        node.challenge().await.map_err(|why| (Stage::Challenge, why))?;
        self.took(Stage::Challenge, began);
        let began = Instant::now();
        node.enrol().await.map_err(|why| (Stage::Enrol, why))?;
        self.took(Stage::Enrol, began);
        let began = Instant::now();
        node.certificate().await.map_err(|why| (Stage::Events, why))?;
        node.report(2).await.map_err(|why| (Stage::Events, why))?;
        self.record.times.push((Stage::Events, told + began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The release and the root, each by a connection of its own.
    async fn root(&mut self, network: &Network, manifest: &ImageManifest) -> Result<(), Failure> {
        let host = network.provisioner;
        let path = |file: &str| {
            format!("/image/{}/{file}?mac={}", network.release, self.machine.mac.hyphenated())
        };
        let began = Instant::now();
        let bundle = async {
            Connection::open(self.from, host).await?.file(&path(BUNDLE_FILE), false).await
        };
        match bundle.await {
            Ok(body) => self.record.bytes += body.bytes,
            // An image that was never released: real machines would stop here.
            Err(why) if why.starts_with("404") => {}
            Err(why) => return Err((Stage::Release, why)),
        }
        self.took(Stage::Release, began);
        let began = Instant::now();
        let wanted = &manifest.root.file;
        let root = async {
            let path = path(&wanted.file);
            if let Some(sharing) = &self.site.sharing {
                let (machine, from) = (self.machine, self.from);
                // Whose a part is need not be known: it is no event of a machine.
                let unseen = format!("/image/{}/{}", network.release, wanted.file);
                let fetched = sharing.fetch(machine, network, from, unseen, wanted).await;
                match fetched {
                    Ok(fetched) => {
                        sharing.origin.fetch_add(fetched.origin, Ordering::Relaxed);
                        sharing.peers.fetch_add(fetched.peers, Ordering::Relaxed);
                        return Ok(wanted.bytes);
                    }
                    Err(error) => sharing.left(&error, wanted.bytes),
                }
            }
            let digests = self.site.digests;
            let body = Connection::open(self.from, host).await?.file(&path, digests).await?;
            check(body.bytes, body.digest, wanted, digests)?;
            Ok(body.bytes)
        };
        self.record.bytes += root.await.map_err(|why| (Stage::Root, why))?;
        self.took(Stage::Root, began);
        Ok(())
    }

    fn took(&mut self, stage: Stage, began: Instant) {
        self.record.times.push((stage, began.elapsed().as_secs_f64()));
    }
}

fn check(
    bytes: u64,
    digest: Digest,
    wanted: &protocol::boot::ImageFile,
    digests: bool,
) -> Result<(), String> {
    if bytes != wanted.bytes {
        return Err(format!("{bytes} bytes came of {}", wanted.bytes));
    }
    if digests && digest != wanted.digest {
        return Err("what came is not what the manifest names".into());
    }
    Ok(())
}

/// What the kernel's command line tells node-init.
fn network(boot: &script::Boot, target: &Target) -> Result<Network, String> {
    let argument =
        |name: &str| boot.argument(name).ok_or_else(|| format!("the command line has no {name}"));
    let (provisioner, _) = target.url(argument(ARG_PROVISIONER)?)?;
    let unreadable = |name: &str| format!("{name} on the command line cannot be read");
    Ok(Network {
        provisioner,
        key: argument(ARG_PROVISIONER_KEY)?.parse().map_err(|_| unreadable(ARG_PROVISIONER_KEY))?,
        chain: argument(ARG_CHAIN)?.parse().map_err(|_| unreadable(ARG_CHAIN))?,
        release: argument(ARG_RELEASE)?.parse().map_err(|_| unreadable(ARG_RELEASE))?,
    })
}
