//! Puts the parts together: one function from options to a running provisioner.

use crate::{
    access::Token,
    config::Options,
    counters::Counters,
    deadlines,
    dhcp::{
        self,
        decide::Port,
        pool::{Network, Pool},
        settings::{Mode, Settings},
    },
    enrol::Authority,
    http::{self, App},
    image::Image,
    ipv6,
    miners::{Miners, medium::Medium},
    net,
    quirks::Rules,
    script,
    start_error::StartError,
    store::{Store, StoreError},
    tftp,
    timeline::{Timeline, unix_ms},
    tls, unstarted, upstream,
};
use listener::{Handshakes, Limits};
use protocol::{SecretKey, Signed, node::Delegation};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::Path,
    sync::Arc,
};
use tokio::{net::TcpListener, task::spawn_blocking};

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

/// Starts everything; it runs until the runtime ends.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let interface = net::interface(options.interface.as_deref(), options.address)?;
    let address = interface.network.address;
    let part = options.dhcp.unwrap_or(crate::config::Part::Off);
    let image = options.image.as_deref().map(Image::open).transpose()?;
    let authority = authority(&options)?;
    let miners = match (&options.medium, &authority) {
        (None, _) => None,
        (Some(_), None) => return Err(StartError::MediumAlone),
        (Some(path), Some(_)) => Some(Miners::new(Medium::open(path)?)),
    };
    let rules = Rules::load(options.quirks.as_deref(), options.hands())?;

    // All ports before anything else: what is busy is told before anything was written.
    let http_port = options.http_port.unwrap_or(8080);
    let listener = net::tcp(SocketAddrV4::new(address, http_port), "boot scripts, page and API")?;
    let http = listener.local_addr().map_err(|error| StartError::System("HTTP", error))?;
    let base_url = format!("http://{http}");
    let https_place = SocketAddrV4::new(address, options.https_port.unwrap_or(8443));
    let https_listener = net::tcp(https_place, "the same by TLS (move it by --https-port)")?;
    let https = https_listener.local_addr().map_err(|error| StartError::System("HTTPS", error))?;
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
    let database = options.database.clone().unwrap_or_default();
    let place = database.clone().known_by(options.database_ca.clone());
    let names = names.collect();
    let manifest = image.as_ref().map(|image| image.manifest.clone());
    let opened = spawn_blocking(move || {
        let store = Store::open(&place, names)?;
        manifest.map_or(Ok(()), |manifest| store.add_image(&manifest, unix_ms()))?;
        let token = Token::generate()?;
        let first = store.add_first_operator(&token.digest(), unix_ms())?;
        Ok::<_, StartError>((Arc::new(store), Some(token).filter(|_| first)))
    });
    let (store, token) = opened.await.map_err(|_| StoreError::Stopping)??;
    let key = authority.as_ref().map(|authority| &authority.key);
    let secure = tls::start::start(&options, &interface, &database, https.port(), key)?;
    let counters = Arc::new(Counters::default());
    let timeline = Timeline::start(store.clone(), counters.clone())
        .map_err(|error| StartError::System("the timeline's thread", error))?;
    let (bios_file, uefi_file) = ipxe_files(&options);

    if let Some((mode, dhcp_socket, binl_socket)) = dhcp_sockets {
        let server = Arc::new(dhcp::server::Server {
            answerer: dhcp::answerer::Answerer {
                settings: settings(
                    &options,
                    mode,
                    interface.network,
                    base_url.clone(),
                    secure.url.clone(),
                )?,
                rules: rules.clone(),
                store: store.clone(),
            },
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
    let mut banner =
        banner(&setup, part.as_str(), &interface, tftp_address, authority.is_some(), &secure);
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
        ca: secure.ca.clone(),
        own_certificate: secure.own,
        https: secure.url.clone(),
        https_port: https.port(),
        watchers: App::places(),
        miners,
    });
    let http6 = six.as_ref().map(|six| six.http);
    let (listener6, secure6) = six.map(|six| (six.listener, six.secure_listener)).unzip();
    let listeners =
        taken([Some(listener), listener6]).map_err(|error| StartError::System("HTTP", error))?;
    let secure_listeners = taken([Some(https_listener), secure6])
        .map_err(|error| StartError::System("HTTPS", error))?;
    if watches_ukis {
        tokio::spawn(unstarted::watch(store.clone(), timeline.clone()));
    }
    tokio::spawn(deadlines::watch(store.clone()));
    let router = http::router(app);
    for listener in secure_listeners {
        tokio::spawn(listener::serve_tls(
            listener,
            Limits::USUAL,
            Handshakes::USUAL,
            secure.config.clone(),
            router.clone(),
        ));
    }
    secure.keep();
    for listener in listeners {
        tokio::spawn(listener::serve(listener, Limits::USUAL, router.clone()));
    }
    Ok(Running { http, https, http6, tftp: tftp_address, banner, token, timeline, store })
}

/// Listeners as tokio has them.
fn taken(listeners: [Option<std::net::TcpListener>; 2]) -> io::Result<Vec<TcpListener>> {
    listeners.into_iter().flatten().map(TcpListener::from_std).collect()
}

/// The names of iPXE's files, for BIOS and for UEFI.
fn ipxe_files(options: &Options) -> (String, String) {
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
    if mode == Mode::Full && !(network.contains(first) && network.contains(last)) {
        return Err(StartError::PoolElsewhere { pool, address });
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
