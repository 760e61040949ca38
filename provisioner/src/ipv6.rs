//! The IPv6 side of a running provisioner: its sockets, all taken before anything starts, and what
//! is started with them.
//!
//! Only where it was asked for, by `--dhcp6 full` or `--address6`: a global address is reached from
//! everywhere, and page and API are for our own network.

use crate::{
    config::{Options, Part6},
    counters::Counters,
    dhcp6::{
        pool::Pool6,
        server::{ALL_RELAYS_AND_SERVERS, ALL_SERVERS, Server},
        settings::{Settings, duid},
    },
    net::{self, Interface},
    net6::{self, Interface6},
    quirks::Rules,
    ra::{self, packet::Advertisement},
    start_error::StartError,
    store::Store,
    timeline::Timeline,
};
use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket},
    sync::Arc,
};

/// Sockets that nothing listens to yet.
pub struct Sockets {
    /// Our address, and where it is.
    pub interface: Interface6,
    /// For scripts, images, page and API.
    pub listener: TcpListener,
    /// Where that is.
    pub http: SocketAddr,
    /// The same by TLS.
    pub secure_listener: TcpListener,
    /// Where that is.
    pub https: SocketAddr,
    /// For TFTP, where files are served.
    pub tftp: Option<UdpSocket>,
    dhcp: Option<Dhcp>,
}

struct Dhcp {
    pool: Pool6,
    socket: UdpSocket,
    /// None where the pool is of a relay's link: whose router advertises there.
    advertise: Option<UdpSocket>,
}

/// Takes the sockets that the options want; none where they want no IPv6.
pub fn bind(options: &Options, interface: &Interface) -> Result<Option<Sockets>, StartError> {
    let full = options.dhcp6 == Some(Part6::Full);
    if !full && options.address6.is_none() {
        return Ok(None);
    }
    let device = interface.name.as_str();
    let found = net6::find(device, options.address6)?;
    let address = found.network.address;
    let at = |port| SocketAddrV6::new(address, port, 0, 0);
    let listener =
        net::tcp(at(options.http_port.unwrap_or(8080)), "boot scripts, page and API by IPv6")?;
    let http = listener.local_addr().map_err(|error| StartError::System("HTTP", error))?;
    let secure = at(options.https_port.unwrap_or(8443));
    let secure_listener = net::tcp(secure, "the same by TLS and IPv6 (move it by --https-port)")?;
    let https = secure_listener.local_addr().map_err(|error| StartError::System("HTTPS", error))?;
    let serves_files = options.ipxe.is_some() || options.uki.is_some();
    let tftp = serves_files
        .then(|| net::udp(at(options.tftp_port.unwrap_or(69)), None, "TFTP by IPv6"))
        .transpose()?;
    let dhcp = full.then(|| dhcp(options, device, &found)).transpose()?;
    Ok(Some(Sockets { interface: found, listener, http, secure_listener, https, tftp, dhcp }))
}

fn dhcp(options: &Options, device: &str, found: &Interface6) -> Result<Dhcp, StartError> {
    let network = found.network;
    let pool =
        options.pool6.or_else(|| Pool6::usual(network)).ok_or(StartError::NoPool6(network))?;
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 547, 0, 0);
    let purpose = "DHCPv6";
    let socket = net::udp(any, Some(device), purpose)?;
    for group in [ALL_RELAYS_AND_SERVERS, ALL_SERVERS] {
        let failed = |source| net::error("UDP", 'u', any.into(), Some(device), purpose, source);
        socket.join_multicast_v6(&group, found.index).map_err(failed)?;
    }
    let ours = pool.link().contains(network.address);
    let advertise = ours.then(|| ra::server::open(device, found.index)).transpose()?;
    Ok(Dhcp { pool, socket, advertise })
}

/// What the servers share with those of IPv4.
pub struct Shared<'a> {
    /// The options.
    pub options: &'a Options,
    /// The link's MTU.
    pub mtu: u16,
    /// iPXE's files, for BIOS and for UEFI.
    pub files: (&'a str, &'a str),
    /// The name of the UKI, where there is one.
    pub uki: Option<&'a str>,
    /// Leases.
    pub store: &'a Arc<Store>,
    /// Events.
    pub timeline: &'a Timeline,
    /// Counts.
    pub counters: &'a Arc<Counters>,
    /// What odd firmware needs.
    pub rules: &'a Rules,
}

impl Sockets {
    /// Base of the URLs that clients get who come by IPv6.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Starts DHCPv6 and advertisements, where they are wanted.
    pub fn start(&mut self, shared: &Shared) -> io::Result<()> {
        let base_url = self.base_url();
        let Some(Dhcp { pool, socket, advertise }) = self.dhcp.take() else { return Ok(()) };
        let (options, Interface6 { network, index, mac, link_local }) =
            (shared.options, self.interface);
        let server = Server {
            settings: Settings {
                network,
                duid: duid(mac),
                pool,
                dns: options.dns6.clone(),
                lease_seconds: options.lease_seconds.unwrap_or(3600),
                https_url: format!("https://{}", self.https),
                http_boot: options.http_boot.unwrap_or_default(),
                base_url,
                bios_file: shared.files.0.into(),
                uefi_file: shared.files.1.into(),
                uki: shared.uki.map(String::from),
            },
            rules: shared.rules.clone(),
            store: shared.store.clone(),
            timeline: shared.timeline.clone(),
            counters: shared.counters.clone(),
        };
        server.serve(socket)?;
        let Some(socket) = advertise else { return Ok(()) };
        let advertisement = Advertisement {
            network,
            router: options.router6,
            mac,
            mtu: shared.mtu,
            dns: options.dns6.clone(),
        };
        ra::server::serve(socket, index, link_local, &advertisement, shared.counters.clone())
    }

    /// How many addresses will be given out; none without DHCPv6.
    pub fn addresses(&self) -> Option<u64> {
        self.dhcp.as_ref().map(|dhcp| u64::from(dhcp.pool.size()))
    }

    /// For the banner.
    pub fn told(&self) -> String {
        let dhcp = match &self.dhcp {
            None => "off".into(),
            Some(Dhcp { pool, advertise: Some(_), .. }) => {
                format!("full, {pool}, with router advertisements")
            }
            Some(Dhcp { pool, .. }) => format!("full, {pool}, for a relay's link alone"),
        };
        let network = self.interface.network;
        format!("IPv6         {} ({network})\nDHCPv6       {dhcp}", self.base_url())
    }
}
