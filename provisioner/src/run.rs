//! Puts the parts together: one function from options to a running provisioner.

use crate::{
    access::Token,
    config::{Flavour, Options},
    counters::Counters,
    deadlines,
    dhcp::{
        self,
        decide::Port,
        pool::{Network, Pool},
        settings::{Mode, Settings},
    },
    enrol::Authority,
    groups::{Configured, Site},
    http::{self, App},
    image::Image,
    ipv6, ledger,
    metrics::{Pools, watched},
    miners::{Miners, medium::Medium, rates::MOST_PEERS},
    net,
    peers::{MAX_CROWDS, MAX_MEMBERS, Near, Peers},
    quirks::Rules,
    script,
    start_error::StartError,
    store::{Store, StoreError},
    tftp,
    timeline::{Timeline, unix_ms},
    tls, unstarted, upstream,
};
use listener::{Handshakes, Limits};
use protocol::{SecretKey, Signed, node::Delegation, pieces::Subnet};
use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    path::Path,
    sync::{Arc, PoisonError},
};
use tokio::task::spawn_blocking;

/// A provisioner that runs.
pub struct Running {
    /// Where page and API are.
    pub http: SocketAddr,
    /// The same by TLS.
    pub https: SocketAddr,
    /// Where they are by IPv6, where that is wanted.
    pub http6: Option<SocketAddr>,
    /// Where TFTP is, where iPXE's folder is given.
    pub tftp: Option<SocketAddr>,
    /// What it says about itself at the start.
    pub banner: String,
    /// The first operator's token, where this is the first start: shown once, and kept nowhere.
    pub token: Option<Token>,
    /// Its timeline, to be flushed at the end.
    pub timeline: Timeline,
    /// Its store.
    pub store: Arc<Store>,
}

/// Interface and ports, taken before anything else: what is busy is told before anything was
/// written, and nothing that comes after needs rights of its own.
pub struct Bound {
    /// The interface.
    pub interface: net::Interface,
    http: TcpListener,
    https: TcpListener,
    dhcp: Option<(Mode, UdpSocket, UdpSocket)>,
    tftp: Option<UdpSocket>,
    six: Option<ipv6::Sockets>,
}

impl Bound {
    /// Takes what the options want. No thread is started.
    pub fn take(options: &Options) -> Result<Self, StartError> {
        let interface = net::interface(options.interface.as_deref(), options.address)?;
        let address = interface.network.address;
        let http_port = options.http_port.unwrap_or(8080);
        let purpose = "boot scripts, page and API";
        let http = net::tcp(SocketAddrV4::new(address, http_port), purpose)?;
        let https_place = SocketAddrV4::new(address, options.https_port.unwrap_or(8443));
        let https = net::tcp(https_place, "the same by TLS (move it by --https-port)")?;
        let any = Ipv4Addr::UNSPECIFIED;
        let device = Some(interface.name.as_str());
        let dhcp = match options.dhcp.and_then(crate::config::Part::mode) {
            None => None,
            Some(mode) => Some((
                mode,
                net::udp(SocketAddrV4::new(any, 67), device, "DHCP")?,
                net::udp(SocketAddrV4::new(any, 4011), device, "the boot server (BINL)")?,
            )),
        };
        let tftp_place = SocketAddrV4::new(address, options.tftp_port.unwrap_or(69));
        let serves_files = options.ipxe.is_some() || options.uki.is_some();
        let tftp = if serves_files { Some(net::udp(tftp_place, None, "TFTP")?) } else { None };
        let six = ipv6::bind(options, &interface)?;
        Ok(Self { interface, http, https, dhcp, tftp, six })
    }
}

/// Starts everything; it runs until the runtime ends.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let bound = Bound::take(&options)?;
    serve(options, bound).await
}

/// Starts everything on ports that are ours; it runs until the runtime ends.
pub async fn serve(options: Options, bound: Bound) -> Result<Running, StartError> {
    let Bound { interface, http: listener, https: https_listener, dhcp, tftp, mut six } = bound;
    let (dhcp_sockets, tftp_socket) = (dhcp, tftp);
    let part = options.dhcp.unwrap_or(crate::config::Part::Off);
    let image = options.image.as_deref().map(Image::open).transpose()?;
    let flavours = flavours(&options)?;
    let authority = authority(&options)?;
    let miners = match (&options.medium, &authority) {
        (None, _) => None,
        (Some(_), None) => return Err(StartError::MediumAlone),
        (Some(path), Some(_)) => Some(Miners::new(Medium::open(path)?)),
    };
    let rules = Rules::load(options.quirks.as_deref(), options.hands())?;
    let http = listener.local_addr().map_err(|error| StartError::System("HTTP", error))?;
    let base_url = format!("http://{http}");
    let https = https_listener.local_addr().map_err(|error| StartError::System("HTTPS", error))?;
    let watches_ukis = options.uki.is_some();

    let machines = options.machines();
    let names = machines.iter().filter_map(|(&mac, machine)| Some((mac, machine.name.clone()?)));
    let database = options.database.clone().unwrap_or_default();
    let place = database.clone().known_by(options.database_ca.clone());
    let names = names.collect();
    let ours = IpAddr::from(interface.network.address);
    let near = Subnet::of(ours, interface.network.mask.to_bits().leading_ones() as u8);
    let images = image.iter().chain(flavours.values());
    let manifests: Vec<_> = images.map(|image| image.manifest.clone()).collect();
    let site = Site {
        chain: options.chain.clone(),
        key: authority.as_ref().map(|authority| authority.key.public()),
        flavours: flavours.keys().cloned().collect(),
        quirks: rules.names().map(String::from).collect(),
    };
    let file = machines.iter().map(|(&mac, machine)| (mac, machine.values())).collect();
    let opened = spawn_blocking(move || {
        let store = Arc::new(Store::open(&place, names)?);
        manifests.iter().try_for_each(|manifest| store.add_image(manifest, unix_ms()))?;
        store.set_site(&site)?;
        let configured = Arc::new(Configured::open(store.clone(), file)?);
        let token = Token::generate()?;
        let first = store.add_first_operator(&token.digest(), unix_ms())?;
        Ok::<_, StartError>((store, configured, Some(token).filter(|_| first)))
    });
    let (store, configured, token) = opened.await.map_err(|_| StoreError::Stopping)??;
    let key = authority.as_ref().map(|authority| &authority.key);
    let secure = tls::start::start(&options, &interface, &database, https.port(), key)?;
    let rules = rules.configured(configured.clone());
    let counters = Arc::new(Counters::default());
    let timeline = Timeline::start(store.clone(), counters.clone())
        .map_err(|error| StartError::System("the timeline's thread", error))?;
    let (bios_file, uefi_file) = ipxe_files(&options);

    let mut four = None;
    if let Some((mode, dhcp_socket, binl_socket)) = dhcp_sockets {
        let (base_url, url) = (base_url.clone(), secure.url.clone());
        let settings = settings(&options, mode, interface.network, base_url, url)?;
        four = Some(settings.pool).filter(|_| mode == Mode::Full);
        let server = Arc::new(dhcp::server::Server {
            answerer: dhcp::answerer::Answerer::new(settings, rules.clone(), store.clone()),
            timeline: timeline.clone(),
            counters: counters.clone(),
        });
        let failed = |error| StartError::System("a DHCP thread", error);
        server.clone().serve(dhcp_socket, Port::Dhcp).map_err(failed)?;
        server.serve(binl_socket, Port::Binl).map_err(failed)?;
    }

    let six_addresses = six.as_ref().and_then(ipv6::Sockets::addresses);
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
            rules: &rules,
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
            readable("the UKI", uki, NO_UKI)?;
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
        let shown = server.clone();
        let most = tftp::server::MAX_TRANSFERS as u64;
        let tables = &counters.metrics.tables;
        tables.show("tftp-transfers", most, move || shown.transfers() as u64);
        let listening = &counters.metrics.listening;
        tokio::spawn(watched::while_it_listens(listening, "tftp", server.serve()));
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
        flavours,
    };
    let mut banner =
        banner(&setup, part.as_str(), &interface, tftp_address, authority.is_some(), &secure);
    if let Some(told) = six_told {
        banner = format!("{banner}\n{told}");
    }
    let pools = Pools { four, six: six_addresses };
    // Nobody else sets it.
    let _ = counters.metrics.pools.set(pools);
    let watchers = App::places();
    let free = watchers.clone();
    let most = http::MAX_WATCHERS;
    let used = move || free.taken() as u64;
    counters.metrics.tables.show("watchers", most as u64, used);
    let shared = counters.clone();
    let metrics = &shared.metrics;
    let images = setup.image.iter().chain(setup.flavours.values());
    let peers = Peers::new(images, Near(vec![near]));
    let (sharing, sites) = (peers.clone(), peers.clone());
    let members = move || sharing.tracker().members() as u64;
    metrics.tables.show("sharing", MAX_MEMBERS as u64, members);
    metrics.tables.show("sites", MAX_CROWDS as u64, move || sites.tracker().crowds() as u64);
    if let Some(miners) = &miners {
        let rates = miners.rates.clone();
        let used =
            move || rates.lock().unwrap_or_else(PoisonError::into_inner).peers(unix_ms()) as u64;
        metrics.tables.show("asking-miners", MOST_PEERS as u64, used);
    }
    let upstream = upstream::watch(
        options.ledger.clone(),
        options.parameter_server.clone(),
        timeline.clone(),
    )?;
    let app = Arc::new(App {
        store: store.clone(),
        timeline: timeline.clone(),
        counters,
        setup,
        configured: configured.clone(),
        ipxe: (
            options.ipxe.clone().unwrap_or_default(),
            match options.ipxe {
                Some(_) => vec![bios_file, uefi_file],
                None => vec![],
            },
        ),
        uki: options.uki,
        authority,
        ledger: ledger::Work::new(ledger::watch(upstream.clone())?),
        upstream,
        dhcp: part.as_str(),
        ca: secure.ca.clone(),
        ca_rsa: secure.ca_rsa.clone(),
        own_certificate: secure.own,
        https: secure.url.clone(),
        https_port: https.port(),
        watchers,
        peers,
        miners,
    });
    let http6 = six.as_ref().map(|six| six.http);
    let (listener6, secure6) = six.map(|six| (six.listener, six.secure_listener)).unzip();
    let listeners =
        taken([Some(listener), listener6]).map_err(|error| StartError::System("HTTP", error))?;
    let secure_listeners = taken([Some(https_listener), secure6])
        .map_err(|error| StartError::System("HTTPS", error))?;
    if watches_ukis {
        let (store, timeline, shared) = (store.clone(), timeline.clone(), shared.clone());
        tokio::spawn(async move {
            unstarted::watch(store, timeline, &shared.metrics.tables).await;
        });
    }
    tokio::spawn(deadlines::watch(store.clone()));
    tokio::spawn(configured.watch());
    let router = http::router(app);
    for listener in secure_listeners {
        let load = watched::load(&metrics.tables, "https-connections", true);
        let served = listener::serve_tls_counted(
            listener,
            Limits::USUAL,
            Handshakes::USUAL,
            load,
            secure.spoken.clone(),
            router.clone(),
        );
        tokio::spawn(watched::while_it_listens(&metrics.listening, "https", served));
    }
    secure.keep();
    for listener in listeners {
        let load = watched::load(&metrics.tables, "http-connections", false);
        let served = listener::serve_counted(listener, Limits::USUAL, load, router.clone());
        tokio::spawn(watched::while_it_listens(&metrics.listening, "http", served));
    }
    Ok(Running { http, https, http6, tftp: tftp_address, banner, token, timeline, store })
}

/// Listeners as tokio has them.
fn taken(listeners: [Option<TcpListener>; 2]) -> io::Result<Vec<tokio::net::TcpListener>> {
    listeners.into_iter().flatten().map(tokio::net::TcpListener::from_std).collect()
}

/// The names of iPXE's files, for BIOS and for UEFI.
pub(crate) fn ipxe_files(options: &Options) -> (String, String) {
    let bios = options.bios_file.clone().unwrap_or_else(|| "undionly.kpxe".into());
    (bios, options.uefi_file.clone().unwrap_or_else(|| "snponly.efi".into()))
}

/// What DHCP is told once.
pub fn settings(
    options: &Options,
    mode: Mode,
    network: Network,
    base_url: String,
    https_url: String,
) -> Result<Settings, StartError> {
    let address = network.address;
    let pool = match options.pool.or_else(|| network.upper_half()) {
        Some(pool) => pool,
        None if mode == Mode::Full => return Err(StartError::NoPool(address)),
        // Never given from, in proxy mode.
        None => Pool::single(address),
    };
    let (first, last) = pool.ends();
    let link = pool.link(network);
    if mode == Mode::Full && !(link.contains(first) && link.contains(last)) {
        return Err(StartError::PoolElsewhere { pool, address });
    }
    if mode == Mode::Full && !link.contains(address) && options.router.is_empty() {
        return Err(StartError::NoRouter(pool));
    }
    let (bios_file, uefi_file) = ipxe_files(options);
    Ok(Settings {
        mode,
        network,
        pool,
        routers: options.router.clone(),
        dns: options.dns.clone(),
        lease_seconds: options.lease_seconds.unwrap_or(3600),
        base_url,
        https_url,
        http_boot: options.http_boot.unwrap_or_default(),
        bios_file,
        uefi_file,
        uki: options.uki.as_ref().map(|_| script::UKI_FILE.to_string()),
    })
}

/// The images that machines of some flavour boot.
fn flavours(options: &Options) -> Result<BTreeMap<String, Image>, StartError> {
    let open = |flavour: &Flavour| Ok((flavour.name.clone(), Image::open(&flavour.folder)?));
    options.flavour.iter().map(open).collect()
}

/// Key, delegation and chain: all of them, or none.
pub(crate) fn authority(options: &Options) -> Result<Option<Authority>, StartError> {
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
    };
    authority.check()?;
    Ok(Some(authority))
}

pub(crate) const NO_UKI: &str = "; make one by `cargo xtask uki`";
pub(crate) const NO_IPXE: &str = "; name the folder of iPXE's files by --ipxe, the files by --bios-file and \
                       --uefi-file";

pub(crate) fn readable(
    what: &'static str,
    path: &Path,
    mend: &'static str,
) -> Result<(), StartError> {
    let failed = |source| StartError::File { what, path: path.into(), source, mend };
    fs::File::open(path).map(drop).map_err(failed)
}

fn banner(
    setup: &script::Setup,
    dhcp: &str,
    interface: &net::Interface,
    tftp: Option<SocketAddr>,
    enrols: bool,
    secure: &tls::start::Https,
) -> String {
    let image = setup.image.as_ref().map_or("none (--image)".into(), |image| {
        format!("{} ({})", image.manifest.version, image.digest.short())
    });
    format!(
        "page and API {}\nby TLS       {} ({})\ninterface    {} ({})\nDHCP         {dhcp}\nTFTP         {}\n\
         image        {image}\nenrolment    {}",
        setup.base_url,
        secure.url,
        if secure.own {
            format!("our CA {}", secure.ca.path().display())
        } else {
            "the operator's certificate".into()
        },
        interface.name,
        interface.network.address,
        tftp.map_or("off (--ipxe)".into(), |address| address.to_string()),
        if enrols { "on" } else { "off (--key, --delegation, --chain)" },
    )
}
