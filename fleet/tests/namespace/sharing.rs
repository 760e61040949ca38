//! Machines that fetch their root from each other.

use fleet::{
    Machine, Plan,
    boot::{Site, Way},
    node::Network,
    sample::{self, Sizes},
    site::{self, Own, Parts},
    swarm::Sharing,
};
use pieces::{Held, Layout, Shop, give, shop::Shelf};
use protocol::{
    Digest, SecretKey,
    boot::{ImageFile, NODE_API_PORT},
    fleet::MachineStatus,
    pieces::{Door, PiecesAsk},
};
use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

const MACHINES: u32 = 40;
/// 24 pieces.
const SIZES: Sizes = Sizes { root: 6 << 20, ..Sizes::SMALL };
/// The way of a machine from its boot script on.
const WAY: Way = Way { firmware: false, image: true, node: true };

fn sharing_site() -> Arc<Site> {
    let mut site = site::machines(WAY).unwrap();
    site.sharing = Some(Sharing::default());
    Arc::new(site)
}

fn sharing(site: &Site) -> &Sharing {
    site.sharing.as_ref().unwrap()
}

/// Bytes of answers from `/image/…` that left the provisioner, as it counts them.
fn sent() -> u64 {
    let metrics = lab::services::Provisioner::page("/metrics").unwrap();
    let counted = |line: &&str| line.contains("http_sent_bytes_total{") && line.contains("/image/");
    let figure = |line: &str| line.rsplit(' ').next().and_then(|figure| figure.parse::<u64>().ok());
    metrics.lines().filter(counted).filter_map(figure).sum()
}

pub(super) fn run(program: &Path, folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let parts =
        Parts { program: program.into(), image: folder.join("image"), ipxe: folder.join("ipxe") };
    let manifest = sample::image(&parts.image, &SIZES).unwrap();
    sample::boot_files(&parts.ipxe).unwrap();
    let root = &manifest.root.file;
    let own = Own::start(&parts, &folder.join("provisioner")).unwrap();
    let plan =
        Plan { machines: MACHINES, first: 0, over: 0.0, beats: None, server: Some(own.id()) };

    // A storm: all get all, and the provisioner gives little more than one.
    let before = sent();
    let site = runtime.block_on(async {
        let site = sharing_site();
        let summary = fleet::run(site.clone(), plan).await.unwrap();
        println!("{summary}");
        assert_eq!((summary.finished, summary.failed), (u64::from(MACHINES), 0));
        site
    });
    let origin = sharing(&site).origin.load(Ordering::Relaxed);
    let peers = sharing(&site).peers.load(Ordering::Relaxed);
    assert_eq!(sharing(&site).plain.load(Ordering::Relaxed), 0);
    assert_eq!(origin + peers, u64::from(MACHINES) * root.bytes, "every piece once");
    assert!(origin <= 2 * root.bytes, "{origin} bytes of a root of {} left", root.bytes);
    assert!(sharing(&site).holds(root.digest), "and the right ones");
    let others = u64::from(MACHINES) * (SIZES.total() - SIZES.root);
    let left = sent() - before;
    assert!(left > others && left < others + 2 * root.bytes + (1 << 20), "{left} of {others}");

    // Rogues, who say that they have all, and machines that died in the midst. The forty are turned off
    // and known still.
    drop(site);
    let rogues = runtime.block_on(async { Rogues::start(root).await });
    let network = runtime.block_on(async { sharing_site().network(site::base()).await.unwrap() });
    runtime.block_on(async {
        let cut = tokio::spawn(fleet::run(sharing_site(), Plan { first: 100, ..plan }));
        sleep(Duration::from_millis(60)).await;
        cut.abort();
        let site = sharing_site();
        let began = Instant::now();
        let summary = fleet::run(site.clone(), Plan { first: 200, ..plan }).await.unwrap();
        println!("beside rogues: {summary}");
        assert_eq!((summary.finished, summary.failed), (u64::from(MACHINES), 0));
        assert!(sharing(&site).holds(root.digest));
        let origin = sharing(&site).origin.load(Ordering::Relaxed);
        assert!(origin <= 10 * root.bytes, "{origin}");
        assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    });
    drop(rogues);

    // Machines that share and such as do not boot side by side.
    runtime.block_on(async {
        let alone = site::shared_machines(WAY).unwrap();
        let few = Plan { machines: 5, ..plan };
        let (one, other) = tokio::join!(
            fleet::run(sharing_site(), Plan { first: 300, ..few }),
            fleet::run(alone, Plan { first: 400, ..few })
        );
        assert_eq!((one.unwrap().failed, other.unwrap().failed), (0, 0));
    });
    let machines = lab::services::Provisioner::page("/v1/machines").unwrap();
    let machines: Vec<MachineStatus> = serde_json::from_str(&machines).unwrap();
    assert!(machines.iter().filter(|machine| machine.node.is_some()).count() >= 90);

    without_a_provisioner(&runtime, own, &network, root);
}

/// The provisioner dies once one machine has all, and the others go on.
fn without_a_provisioner(
    runtime: &tokio::runtime::Runtime,
    mut own: Own,
    network: &Network,
    root: &ImageFile,
) {
    runtime.block_on(async {
        let site = sharing_site();
        let mut fetches = JoinSet::new();
        let fetch = |number: u32| {
            let (site, network, root) = (site.clone(), network.clone(), root.clone());
            async move {
                let machine = Machine::new(500 + number, site.salt);
                let first = site.own_addresses.unwrap().to_bits();
                let from = Ipv4Addr::from_bits(first + 500 + number);
                let path = format!("/image/{}/{}", network.release, root.file);
                sharing(&site).fetch(&machine, &network, from, path, &root).await
            }
        };
        fetch(0).await.unwrap();
        for number in 1..=60 {
            fetches.spawn(fetch(number));
        }
        // All of them were told of each other once.
        let told = sleep(Duration::from_millis(300));
        tokio::pin!(told);
        let mut before = 0;
        loop {
            tokio::select! {
                () = &mut told => break,
                Some(done) = fetches.join_next() => {
                    done.unwrap().unwrap();
                    before += 1;
                }
            }
        }
        own.service.kill();
        let mut after = 0;
        while let Some(done) = fetches.join_next().await {
            done.unwrap().unwrap();
            after += 1;
        }
        println!("{before} had their root before the provisioner died, {after} later");
        assert!(after > 0, "it died too late to be missed");
        assert!(sharing(&site).holds(root.digest));
    });
}

/// Peers that are of no use.
struct Rogues(JoinSet<()>);

/// Gives what is not asked for.
struct Lies;

impl Shelf for Lies {
    fn read(&self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0xa5);
        Ok(())
    }
}

/// Breaks off.
struct Fails;

impl Shelf for Fails {
    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

impl Rogues {
    /// Two that lie, two that fail, two that answer nothing.
    async fn start(root: &ImageFile) -> Self {
        let mut all = JoinSet::new();
        for number in 0..6u8 {
            let address = Ipv4Addr::new(10, 77, 200, 1 + number);
            let layout = Layout::of(root.bytes).unwrap();
            let shop = match number {
                0 | 1 => Shop::new(root.digest, layout, Lies),
                _ => Shop::new(root.digest, layout, Fails),
            };
            shop.put_all();
            shop.open("10.77.0.0/16".parse().ok(), u64::MAX >> 1);
            let key = SecretKey::from_seed([number + 1; 32]);
            let listener = TcpListener::bind((address, NODE_API_PORT)).await.unwrap();
            let config = give::config(&key).unwrap();
            all.spawn(async move {
                if number >= 4 {
                    let mut taken = Vec::new();
                    loop {
                        taken.push(listener.accept().await);
                    }
                }
                give::serve(Arc::new(listener), config, shop).await;
            });
            let (file, count, key) = (root.digest, layout.count(), key.public());
            let boast = move || PiecesAsk {
                boot_id: Digest([number; 32]),
                number: 0,
                file,
                held: Held::all(count).hex(),
                address: address.into(),
                door: Some(Door { key, port: NODE_API_PORT }),
                avoid: Vec::new(),
                stuck_ms: 0,
            };
            let path = format!("/v1/machines/02:00:00:00:00:{number:02x}/pieces");
            let say = move || {
                let (body, path) = (serde_json::to_vec(&boast()).unwrap(), path.clone());
                async move { fleet::http::post(address, site::base(), None, &path, body).await }
            };
            say().await.unwrap();
            all.spawn(async move {
                loop {
                    sleep(Duration::from_millis(200)).await;
                    let _ = say().await;
                }
            });
        }
        Self(all)
    }
}

impl Drop for Rogues {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}
