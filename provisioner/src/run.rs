//! Puts the parts together: one function from options to a running provisioner.

use crate::{
    config::Options,
    counters::Counters,
    dhcp::{self, decide::Port},
    enrol::{Authority, AuthorityError},
    http::{self, App},
    image::{Image, ImageError},
    ipv6,
    net::{self, NetError},
    net6::Network6,
    script,
    store::{Store, StoreError},
    tftp,
    timeline::{Timeline, unix_ms},
    unstarted, upstream,
};
use listener::Limits;
use protocol::{SecretKey, Signed, key::KeyError, node::Delegation};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::TcpListener;

/// The provisioner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image is wrong.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Key and delegation do not fit.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A file cannot be read.
    #[error("{what} {path}: {source}{mend}")]
    File {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// What to do.
        mend: &'static str,
    },
    /// The key file holds something else.
    #[error("the key {path}: {source}; make one by `provisioner key {path}`")]
    Key {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The delegation file holds something else.
    #[error("the delegation {path}: {source}; the owner's signed delegation as JSON is wanted")]
    Delegation {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
    /// Only some of what belongs together is given.
    #[error(
        "--key, --delegation and --chain belong together: with all three machines are taken in, \
         without all three they only boot"
    )]
    Partly,
    /// The network has no room for a pool.
    #[error("the network {0} has no room for an address pool: name one by --pool")]
    NoPool(Ipv4Addr),
    /// The pool is elsewhere.
    #[error("the pool {pool} is not within our network, that of {address}: name another by --pool")]
    PoolElsewhere {
        /// The pool.
        pool: dhcp::pool::Pool,
        /// Our address.
        address: Ipv4Addr,
    },
    /// The IPv6 network has no room for a pool.
    #[error("the network {0} has no room for a pool of IPv6 addresses: name one by --pool6")]
    NoPool6(Network6),
    /// Something of the system's.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// The HTTP client for parameter servers cannot be made.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// A provisioner that runs.
pub struct Running {
    /// Where page and API are.
    pub http: SocketAddr,
    /// Where they are by IPv6, where that is wanted.
    pub http6: Option<SocketAddr>,
    /// Where TFTP is, where iPXE's folder is given.
    pub tftp: Option<SocketAddr>,
    /// What it says about itself at the start.
    pub banner: String,
    /// Its timeline, to be flushed at the end.
    pub timeline: Timeline,
    /// Its store.
    pub store: Arc<Store>,
}

/// Starts everything; it runs until the runtime ends.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let interface = net::interface(options.interface.as_deref(), options.address)?;
    let address = interface.network.address;
    let part = options.dhcp.unwrap_or(crate::config::Part::Off);
    let image = options.image.as_deref().map(Image::open).transpose()?;
    let authority = authority(&options)?;

    // All ports before anything else: what is busy is told before anything was written.
    let http_port = options.http_port.unwrap_or(8080);
    let listener = net::tcp(SocketAddrV4::new(address, http_port), "boot scripts, page and API")?;
    let http = listener.local_addr().map_err(|error| StartError::System("HTTP", error))?;
    let base_url = format!("http://{http}");
    let any = Ipv4Addr::UNSPECIFIED;
    let device = Some(interface.name.as_str());
    let dhcp_sockets = match part.mode() {
        None => None,
        Some(mode) => Some((
            mode,
            net::udp(SocketAddrV4::new(any, 67), device, "DHCP")?,
            net::udp(SocketAddrV4::new(any, 4011), device, "the boot server (BINL)")?,
        )),
    };
    let tftp_place = SocketAddrV4::new(address, options.tftp_port.unwrap_or(69));
    let watches_ukis = options.uki.is_some();
    let serves_files = options.ipxe.is_some() || options.uki.is_some();
    let tftp_socket = if serves_files { Some(net::udp(tftp_place, None, "TFTP")?) } else { None };
    let mut six = ipv6::bind(&options, &interface)?;

    let machines = options.machines();
    let names = machines.iter().filter_map(|(&mac, machine)| Some((mac, machine.name.clone()?)));
    let database = options.database.clone().unwrap_or_else(|| "provisioner.sqlite".into());
    let store = Arc::new(Store::open(&database, names.collect())?);
    if let Some(image) = &image {
        store.add_image(&image.manifest, unix_ms())?;
    }
    let counters = Arc::new(Counters::default());
    let timeline = Timeline::start(store.clone(), counters.clone())
        .map_err(|error| StartError::System("the timeline's thread", error))?;
    let bios_file = options.bios_file.clone().unwrap_or_else(|| "undionly.kpxe".into());
    let uefi_file = options.uefi_file.clone().unwrap_or_else(|| "snponly.efi".into());

    if let Some((mode, dhcp_socket, binl_socket)) = dhcp_sockets {
        let pool = match options.pool.or_else(|| interface.network.upper_half()) {
            Some(pool) => pool,
            None if mode == dhcp::settings::Mode::Full => return Err(StartError::NoPool(address)),
            // Never given from, in proxy mode.
            None => dhcp::pool::Pool::single(address),
        };
        let (first, last) = pool.ends();
        let within = |end| interface.network.contains(end);
        if mode == dhcp::settings::Mode::Full && !(within(first) && within(last)) {
            return Err(StartError::PoolElsewhere { pool, address });
        }
        let server = Arc::new(dhcp::server::Server {
            settings: dhcp::settings::Settings {
                mode,
                network: interface.network,
                pool,
                routers: options.router.clone(),
                dns: options.dns.clone(),
                lease_seconds: options.lease_seconds.unwrap_or(3600),
                base_url: base_url.clone(),
                bios_file: bios_file.clone(),
                uefi_file: uefi_file.clone(),
                uki: options.uki.as_ref().map(|_| script::UKI_FILE.to_string()),
            },
            quirks: machines.iter().map(|(&mac, machine)| (mac, machine.quirks())).collect(),
            store: store.clone(),
            timeline: timeline.clone(),
            counters: counters.clone(),
        });
        let failed = |error| StartError::System("a DHCP thread", error);
        server.clone().serve(dhcp_socket, Port::Dhcp).map_err(failed)?;
        server.serve(binl_socket, Port::Binl).map_err(failed)?;
    }

    let six_told = six.as_ref().map(ipv6::Sockets::told);
    if let Some(six) = &mut six {
        let shared = ipv6::Shared {
            options: &options,
            mtu: interface.mtu,
            files: (&bios_file, &uefi_file),
            uki: options.uki.as_ref().map(|_| script::UKI_FILE),
            store: &store,
            timeline: &timeline,
            counters: &counters,
        };
        six.start(&shared).map_err(|error| StartError::System("DHCPv6's threads", error))?;
    }

    let mut tftp_address = None;
    if tftp_socket.is_some() {
        if let Some(folder) = &options.ipxe {
            for file in [&bios_file, &uefi_file] {
                readable("iPXE", &folder.join(file), NO_IPXE)?;
            }
        }
        if let Some(uki) = &options.uki {
            readable("the UKI", uki, "; make one by `cargo xtask uki`")?;
        }
    }
    let tftp_sockets = tftp_socket.into_iter().chain(six.as_mut().and_then(|six| six.tftp.take()));
    for socket in tftp_sockets {
        let folder = options.ipxe.as_deref();
        let files = options.uki.iter().map(|uki| (script::UKI_FILE.into(), uki.clone()));
        let observer = Arc::new(tftp::record::observer(timeline.clone(), counters.clone()));
        let server =
            tftp::server::Server::new(socket, folder, files.collect(), interface.mtu, observer)
                .map_err(|error| StartError::System("TFTP", error))?;
        let address = server.address().map_err(|error| StartError::System("TFTP", error))?;
        tftp_address = tftp_address.or(Some(address));
        tokio::spawn(server.serve());
    }

    let setup = script::Setup {
        base_url: base_url.clone(),
        base_url6: six.as_ref().map(ipv6::Sockets::base_url),
        image,
        key: authority.as_ref().map(|authority| authority.key.public()),
        chain: options.chain.clone(),
        consoles: match options.console.as_slice() {
            // The first virtual terminal, not the one that is shown: node-init draws on another.
            [] => vec!["tty1".into(), "ttyS0,115200".into()],
            given => given.to_vec(),
        },
        arguments: options.kernel_argument.clone(),
        networks: options
            .machines()
            .into_iter()
            .filter_map(|(mac, own)| Some((mac, own.network?)))
            .collect(),
    };
    let mut banner = banner(&setup, part.as_str(), &interface, tftp_address, authority.is_some());
    if let Some(told) = six_told {
        banner = format!("{banner}\n{told}");
    }
    let app = Arc::new(App {
        store: store.clone(),
        timeline: timeline.clone(),
        counters,
        setup,
        ipxe: (
            options.ipxe.clone().unwrap_or_default(),
            match options.ipxe {
                Some(_) => vec![bios_file, uefi_file],
                None => vec![],
            },
        ),
        uki: options.uki,
        authority,
        upstream: upstream::watch(
            options.ledger.clone(),
            options.parameter_server.clone(),
            timeline.clone(),
        )?,
        dhcp: part.as_str(),
        watchers: App::places(),
    });
    let http6 = six.as_ref().map(|six| six.http);
    let listeners = [Some(listener), six.map(|six| six.listener)].into_iter().flatten();
    let listeners: Vec<TcpListener> = listeners
        .map(TcpListener::from_std)
        .collect::<Result<_, _>>()
        .map_err(|error| StartError::System("HTTP", error))?;
    if watches_ukis {
        tokio::spawn(unstarted::watch(store.clone(), timeline.clone()));
    }
    for listener in listeners {
        tokio::spawn(listener::serve(listener, Limits::USUAL, http::router(app.clone())));
    }
    Ok(Running { http, http6, tftp: tftp_address, banner, timeline, store })
}

/// Key, delegation and chain: all of them, or none.
fn authority(options: &Options) -> Result<Option<Authority>, StartError> {
    let (key, delegation, chain) = match (&options.key, &options.delegation, &options.chain) {
        (Some(key), Some(delegation), Some(chain)) => (key, delegation, chain),
        (None, None, _) => return Ok(None),
        _ => return Err(StartError::Partly),
    };
    let read = |what, path: &Path, mend| {
        let failed = |source| StartError::File { what, path: path.into(), source, mend };
        fs::read_to_string(path).map_err(failed)
    };
    let text = read("the key", key, "; make one by `provisioner key FILE`")?;
    let secret = SecretKey::from_hex(&text)
        .map_err(|source| StartError::Key { path: key.clone(), source })?;
    let text = read("the delegation", delegation, "; the owner makes one for our key")?;
    let signed: Signed<Delegation> = serde_json::from_str(&text)
        .map_err(|source| StartError::Delegation { path: delegation.clone(), source })?;
    let authority = Authority {
        chain: chain.clone(),
        key: secret,
        delegation: signed,
        ledgers: options.ledger.clone(),
        parameter_servers: options.parameter_server.clone(),
        approval: options.approval.unwrap_or_default(),
        operators: options.operator.clone(),
        time_servers: options.time_server.clone(),
        machines: options.machines(),
    };
    authority.check()?;
    Ok(Some(authority))
}

const NO_IPXE: &str = "; name the folder of iPXE's files by --ipxe, the files by --bios-file and \
                       --uefi-file";

fn readable(what: &'static str, path: &Path, mend: &'static str) -> Result<(), StartError> {
    let failed = |source| StartError::File { what, path: path.into(), source, mend };
    fs::File::open(path).map(drop).map_err(failed)
}

fn banner(
    setup: &script::Setup,
    dhcp: &str,
    interface: &net::Interface,
    tftp: Option<SocketAddr>,
    enrols: bool,
) -> String {
    let image = setup.image.as_ref().map_or("none (--image)".into(), |image| {
        format!("{} ({})", image.manifest.version, image.digest.short())
    });
    format!(
        "page and API {}\ninterface    {} ({})\nDHCP         {dhcp}\nTFTP         {}\n\
         image        {image}\nenrolment    {}",
        setup.base_url,
        interface.name,
        interface.network.address,
        tftp.map_or("off (--ipxe)".into(), |address| address.to_string()),
        if enrols { "on" } else { "off (--key, --delegation, --chain)" },
    )
}
