//! Interfaces and bound sockets, with errors that say what to do.

use crate::dhcp::pool::Network;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, setsockopt, socket,
        sockopt,
    },
};
use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

/// What a UDP socket holds that nobody has read yet, in bytes: some thousand DISCOVERs.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The MTU where the interface does not tell: Ethernet's.
const ETHERNET_MTU: u16 = 1500;

/// An interface with an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Our address and the network on it.
    pub network: Network,
    /// Its MTU.
    pub mtu: u16,
}

/// What keeps us from the network. All of them are this host's.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The list of interfaces cannot be had.
    #[error("the host's network interfaces cannot be listed: {0}")]
    List(Errno),
    /// No such interface.
    #[error("there is no interface {name:?} here; there are: {known}")]
    NoInterface {
        /// The name asked for.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// No usable address.
    #[error(
        "interface {name} has {wanted}: give it one first (ip addr add 10.0.0.1/24 dev {name}), \
         or name another by --interface and --address"
    )]
    NoAddress {
        /// The interface.
        name: String,
        /// What it lacks.
        wanted: String,
    },
    /// No interface was named, and there is more or less than one to choose.
    #[error("name the interface to serve by --interface; there are: {known}")]
    Unclear {
        /// Those that exist.
        known: String,
    },
    /// No IPv6 address that machines could be told.
    #[error(
        "interface {name} has no {wanted}, which machines could be told: give it one first \
         (ip addr add fd00:77::1/64 dev {name}), or name another by --interface and --address6"
    )]
    NoIpv6 {
        /// The interface.
        name: String,
        /// What it lacks.
        wanted: String,
    },
    /// Raw sockets are not allowed.
    #[error(
        "router advertisements need a raw socket on {place}: run as root, or with the capability \
         CAP_NET_RAW ({source})"
    )]
    Raw {
        /// The interface.
        place: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody else has the port.
    #[error(
        "{protocol} port {port} on {place}, wanted for {purpose}, is in use: \
         `ss -{flag}lpn 'sport = :{port}'` shows by which program; stop that one, or move this \
         one away from it (--help tells how)"
    )]
    Busy {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// `u` or `t`, for `ss`.
        flag: char,
        /// The port.
        port: u16,
        /// Address or interface.
        place: String,
        /// What it was wanted for.
        purpose: &'static str,
    },
    /// Not allowed.
    #[error(
        "{purpose} needs port {port} on {place}, which this user may not take: run as root, or \
         with the capability CAP_NET_BIND_SERVICE"
    )]
    Denied {
        /// The port.
        port: u16,
        /// Address or interface.
        place: String,
        /// What it was wanted for.
        purpose: &'static str,
    },
    /// Something else.
    #[error("{purpose} cannot have port {port} on {place}: {source}")]
    Socket {
        /// The port.
        port: u16,
        /// Address or interface.
        place: String,
        /// What it was wanted for.
        purpose: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// Finds the interface to serve: the one named, or the only one there is beside loopback. An
/// `address` chooses among several on it.
pub fn interface(name: Option<&str>, address: Option<Ipv4Addr>) -> Result<Interface, NetError> {
    let mut found = Vec::new();
    let mut known = Vec::new();
    for entry in getifaddrs().map_err(NetError::List)? {
        if !known.contains(&entry.interface_name) {
            known.push(entry.interface_name.clone());
        }
        let ipv4 = |storage: Option<nix::sys::socket::SockaddrStorage>| {
            storage.and_then(|storage| storage.as_sockaddr_in().map(SockaddrIn::ip))
        };
        let (Some(ip), Some(mask)) = (ipv4(entry.address), ipv4(entry.netmask)) else { continue };
        let chosen = match name {
            Some(name) => entry.interface_name == name,
            None => !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        };
        if chosen && address.is_none_or(|address| address == ip) {
            found.push((entry.interface_name, Network { address: ip, mask }));
        }
    }
    let list = || known.join(", ");
    if let Some(name) = name.filter(|name| !known.iter().any(|known| known == name)) {
        return Err(NetError::NoInterface { name: name.into(), known: list() });
    }
    let (chosen, network) = match (found.as_slice(), name) {
        ([], Some(name)) => {
            let wanted = match address {
                Some(address) => format!("no address {address}"),
                None => "no IPv4 address".into(),
            };
            return Err(NetError::NoAddress { name: name.into(), wanted });
        }
        ([one], None) => one.clone(),
        (_, None) => return Err(NetError::Unclear { known: list() }),
        ([first, ..], Some(_)) => first.clone(),
    };
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{chosen}/mtu"))
        .ok()
        .and_then(|mtu| mtu.trim().parse::<u32>().ok())
        .map_or(ETHERNET_MTU, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    Ok(Interface { name: chosen, network, mtu })
}

/// The IPv6 addresses of an interface but for link-local ones, in order.
pub fn ipv6(name: &str) -> Result<Vec<Ipv6Addr>, NetError> {
    let addresses = getifaddrs().map_err(NetError::List)?;
    let mut found: Vec<Ipv6Addr> = addresses
        .filter(|entry| entry.interface_name == name)
        .filter_map(|entry| Some(entry.address?.as_sockaddr_in6()?.ip()))
        .filter(|address| !address.is_unicast_link_local())
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// A UDP socket that may broadcast, on one interface alone where one is named: packets of others
/// never reach it, and its own leave by no other. One of IPv6 takes no packets of IPv4.
pub fn udp(
    address: impl Into<SocketAddr>,
    device: Option<&str>,
    purpose: &'static str,
) -> Result<UdpSocket, NetError> {
    let address = address.into();
    let failed = |errno: Errno| error("UDP", 'u', address, device, purpose, errno.into());
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&fd, sockopt::Broadcast, &true).map_err(failed)?,
        SocketAddr::V6(_) => setsockopt(&fd, sockopt::Ipv6V6Only, &true).map_err(failed)?,
    }
    if let Some(device) = device {
        setsockopt(&fd, sockopt::BindToDevice, &OsString::from(device)).map_err(failed)?;
    }
    // The usual 208 KiB overflow where a thousand machines ask at once. Where we may not have more
    // than the host's limit, that is what there is.
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    // No SO_REUSEADDR: two servers on one port would each get half of the packets, silently.
    let place = SockaddrStorage::from(address);
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &place).map_err(failed)?;
    Ok(fd.into())
}

/// A TCP listener.
pub fn tcp(address: impl Into<SocketAddr>, purpose: &'static str) -> Result<TcpListener, NetError> {
    let address = address.into();
    let failed = |source| error("TCP", 't', address, None, purpose, source);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// What a port's failure is called.
pub(crate) fn error(
    protocol: &'static str,
    flag: char,
    address: SocketAddr,
    device: Option<&str>,
    purpose: &'static str,
    source: io::Error,
) -> NetError {
    let port = address.port();
    let place = device.map_or_else(|| address.ip().to_string(), str::to_owned);
    match source.kind() {
        io::ErrorKind::AddrInUse => NetError::Busy { protocol, flag, port, place, purpose },
        io::ErrorKind::PermissionDenied => NetError::Denied { port, place, purpose },
        _ => NetError::Socket { port, place, purpose, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV4;

    #[test]
    fn a_busy_port_is_named_with_how_to_see_who_holds_it() {
        let held = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let error = udp(address, None, "TFTP").unwrap_err().to_string();
        assert!(error.contains(&format!("UDP port {port}")), "{error}");
        assert!(error.contains(&format!("ss -ulpn 'sport = :{port}'")), "{error}");
    }

    #[test]
    fn an_unknown_interface_is_answered_with_those_that_exist() {
        let error = interface(Some("nosuch0"), None).unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
        let loopback = interface(Some("lo"), None).unwrap();
        assert_eq!(loopback.network.address, Ipv4Addr::LOCALHOST);
    }
}
