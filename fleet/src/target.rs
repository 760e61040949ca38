//! Whom a fleet may speak to, and nobody else.

use crate::error::Error;
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    str::FromStr,
    sync::OnceLock,
};
use url::{Host, Url};

/// Where a provisioner's page and API are, unless told otherwise.
const PORT: u16 = 8080;

/// A provisioner's base address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(pub SocketAddrV4);

impl FromStr for Server {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let not = || Error::NotAServer(text.chars().take(100).collect());
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self(SocketAddrV4::new(address, PORT)));
        }
        let url: Url = text.parse().map_err(|_| not())?;
        match (url.scheme(), url.host(), url.path()) {
            ("http", Some(Host::Ipv4(address)), "" | "/") => {
                Ok(Self(SocketAddrV4::new(address, url.port().unwrap_or(80))))
            }
            _ => Err(not()),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

impl Server {
    /// Our own address on the way there.
    ///
    /// # Errors
    /// Where there is no way.
    pub fn our_side(&self) -> Result<Ipv4Addr, Error> {
        let server = *self.0.ip();
        let no_way = |source| Error::NoWay { server, source };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(no_way)?;
        // Sends nothing: of UDP the kernel only looks up the way.
        socket.connect(self.0).map_err(no_way)?;
        match socket.local_addr().map_err(no_way)?.ip() {
            std::net::IpAddr::V4(ours) => Ok(ours),
            std::net::IpAddr::V6(_) => Err(no_way(std::io::Error::other("it is not by IPv4"))),
        }
    }
}

/// Whom machines may speak to beside broadcasts on the interface that was named: the server that
/// was named, else the first that says on that interface what to boot.
#[derive(Debug, Default)]
pub struct Target(OnceLock<Ipv4Addr>);

impl Target {
    /// The server that was named.
    pub fn named(server: Ipv4Addr) -> Self {
        Self(OnceLock::from(server))
    }

    /// Whether `address` may be spoken to; the reason where not.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, address: Ipv4Addr) -> Result<(), String> {
        let allowed = *self.0.get_or_init(|| address);
        if allowed == address {
            return Ok(());
        }
        Err(format!("it leads to {address}, which was not named; only {allowed} is spoken to"))
    }

    /// Host and port of an `http` URL that may be fetched, and path with query.
    ///
    /// # Errors
    /// The reason, where it may not.
    pub fn url(&self, text: &str) -> Result<(SocketAddrV4, String), String> {
        let url: Url = text.parse().map_err(|error| format!("{text:.100}: {error}"))?;
        let Some(Host::Ipv4(address)) = url.host() else {
            return Err(format!("{text:.100}: a host by its IPv4 address is wanted"));
        };
        if url.scheme() != "http" {
            return Err(format!("{text:.100}: only http is spoken"));
        }
        self.check(address)?;
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok((SocketAddrV4::new(address, url.port().unwrap_or(80)), path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_or_a_base_url() {
        let server = |text: &str| text.parse::<Server>().map(|server| server.to_string());
        assert_eq!(server("10.0.0.1").unwrap(), "http://10.0.0.1:8080");
        assert_eq!(server("http://10.0.0.1:80/").unwrap(), "http://10.0.0.1:80");
        for text in ["", "boot.lan", "https://10.0.0.1", "http://boot.lan", "http://10.0.0.1/x"] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_but_the_one_named_is_spoken_to() {
        let target = Target::named([10, 0, 0, 1].into());
        let (place, path) = target.url("http://10.0.0.1:8080/boot.ipxe?a=b").unwrap();
        assert_eq!(
            (place.to_string().as_str(), path.as_str()),
            ("10.0.0.1:8080", "/boot.ipxe?a=b")
        );
        for text in ["http://10.0.0.2/x", "http://boot.lan/x", "ftp://10.0.0.1/x", "x"] {
            assert!(target.url(text).is_err(), "{text}");
        }
        let found = Target::default();
        found.check([10, 0, 0, 7].into()).unwrap();
        assert!(found.check([10, 0, 0, 8].into()).unwrap_err().contains("10.0.0.8"));
    }
}
