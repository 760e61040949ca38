//! A provisioner with a network of its own, in namespaces that end with the run.
//!
//! The sandbox of `lab` has two network namespaces: the provisioner's, with the interface that it
//! serves, and ours, with the other end of a pair. Every address of the pool is ours, so that each
//! machine speaks from its own; the provisioner's way to the pool leads over one neighbour, because
//! the kernel's table of neighbours holds 1,024 (gc_thresh3) and a fleet is larger.

use crate::{
    boot::{Site, Way},
    dhcp::Wire,
    error::Error,
    process,
    target::Target,
};
use lab::{
    Service, ServiceSpec, net, sandbox,
    services::{Dhcp, Provisioner},
};
use protocol::{ChainId, SecretKey};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The provisioner's namespace.
pub const SERVER_NAMESPACE: &str = "server";
/// Our end of the pair; the other is [`net::BRIDGE`], as the provisioner is told.
pub const INTERFACE: &str = "fleet0";
/// Our address; the network is a /16, its upper half the pool: 32,767 addresses.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The pool.
pub const POOL: &str = "10.77.128.0/17";
/// Its first address.
pub const POOL_START: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 0);
/// Page, API and image.
pub const HTTP_PORT: u16 = 8080;
const READY: Duration = Duration::from_secs(60);

/// Makes the network. To be called once, inside of the sandbox.
///
/// # Errors
/// Where it cannot be made.
pub fn network() -> Result<(), Error> {
    sandbox::inside()?;
    let server = net::SERVER;
    net::ip(&[
        format!("netns add {SERVER_NAMESPACE}"),
        format!(
            "link add {INTERFACE} type veth peer name {} netns {SERVER_NAMESPACE}",
            net::BRIDGE
        ),
        format!("address add {OURS}/16 dev {INTERFACE}"),
        format!("link set {INTERFACE} up"),
        format!("route add local {POOL} dev lo"),
    ])?;
    net::ip_in(
        SERVER_NAMESPACE,
        &[
            "link set lo up".into(),
            format!("address add {server}/16 broadcast + dev {}", net::BRIDGE),
            format!("link set {} up", net::BRIDGE),
            format!("route add {POOL} via {OURS} dev {}", net::BRIDGE),
        ],
    )?;
    Ok(())
}

/// The provisioner of such a network.
pub struct Own {
    /// Its process.
    pub service: Service,
    /// Its folder.
    pub folder: PathBuf,
}

/// What it is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The program.
    pub program: PathBuf,
    /// The image's folder.
    pub image: PathBuf,
    /// The folder of iPXE's files.
    pub ipxe: PathBuf,
}

impl Own {
    /// Starts it in an empty folder; every machine is taken in.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(parts: &Parts, folder: &Path) -> Result<Self, Error> {
        let mut service = Service::start(Self::spec(parts, folder)?)?;
        service.wait_ready(READY)?;
        Ok(Self { service, folder: folder.into() })
    }

    fn spec(parts: &Parts, folder: &Path) -> Result<ServiceSpec, Error> {
        fs::create_dir_all(folder).map_err(|source| Error::File { path: folder.into(), source })?;
        let chain: ChainId = "alia-fleet"
            .parse()
            .map_err(|error| Error::System("the chain's name", std::io::Error::other(error)))?;
        let provisioner = Provisioner {
            program: parts.program.clone(),
            folder: folder.into(),
            dhcp: Dhcp::Full,
            image: parts.image.clone(),
            ipxe: parts.ipxe.clone(),
            bios_file: None,
            uki: None,
            chain,
            owner: SecretKey::from_seed([7; 32]),
            ledgers: Vec::new(),
            parameter_servers: Vec::new(),
        };
        let mut spec = provisioner.service()?;
        spec.namespace = Some(SERVER_NAMESPACE.into());
        // A line for each of ten thousand machines is nobody's to read.
        spec.environment.push(("RUST_LOG".into(), "warn".into()));
        Ok(spec)
    }

    /// Its process's id.
    pub fn id(&self) -> u32 {
        self.service.id()
    }

    /// What it takes now.
    pub fn usage(&self) -> process::Usage {
        process::usage(self.id()).unwrap_or_default()
    }
}

/// The provisioner's address in such a network.
pub fn base() -> SocketAddrV4 {
    SocketAddrV4::new(net::SERVER, HTTP_PORT)
}

/// The machines' side of such a network.
///
/// # Errors
/// Where DHCP's socket cannot be had.
pub fn machines(way: Way) -> Result<Site, Error> {
    let mut site = Site::new(Target::named(net::SERVER), way, salt());
    site.base = Some(base());
    site.own_addresses = Some(POOL_START);
    if way.firmware {
        site.wire = Some(Wire::on(INTERFACE)?);
    }
    Ok(site)
}

/// Another number in each run.
pub fn salt() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(std::process::id()) << 40 ^ since.as_nanos() as u64
}

/// The same, shared.
///
/// # Errors
/// As [`machines`].
pub fn shared_machines(way: Way) -> Result<Arc<Site>, Error> {
    machines(way).map(Arc::new)
}
