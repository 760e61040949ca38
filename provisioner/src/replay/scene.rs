//! Where we stand in a capture: in the place of whoever answered there, unless told otherwise.

use super::{frame::Datagram, heard::Heard};
use crate::{
    config::Options,
    dhcp::{
        pool::{Network, Pool},
        settings::{Mode, Settings},
    },
    run,
    start_error::StartError,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where nobody answers, and nobody says where we stand: an address that is nobody's (RFC 5737).
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const USUAL_MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// `serve`'s own.
const HTTP_PORT: u16 = 8080;
const HTTPS_PORT: u16 = 8443;

/// Our place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Our part.
    pub mode: Mode,
    /// Our address and network.
    pub network: Network,
    /// How it was found.
    pub place: Place,
}

/// Where our address is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of a server in the capture.
    StandsIn,
    /// The options'.
    Told,
    /// Nobody answers in the capture, and the options name none.
    Nowhere,
}

impl Place {
    /// For people.
    pub fn told(self) -> &'static str {
        match self {
            Self::StandsIn => "in the place of who answered there",
            Self::Told => "as told",
            Self::Nowhere => "since nobody answers there (--address names another place)",
        }
    }
}

impl Scene {
    /// Finds our place: what the options say, and what they leave open from the capture.
    pub fn of(datagrams: &[Datagram<'_>], options: &Options) -> Self {
        let replies = || datagrams.iter().filter(|datagram| is_reply(datagram)).filter_map(read);
        let gives = replies().any(|(_, heard)| heard.address.is_some());
        let proposes = replies().any(|(_, heard)| heard.is_proxy());
        let guess = if gives && proposes { Mode::Proxy } else { Mode::Full };
        let mode = options.dhcp.and_then(|part| part.mode()).unwrap_or(guess);

        let ours = |heard: &Heard| match mode {
            Mode::Full => heard.address.is_some(),
            Mode::Proxy => heard.is_proxy(),
        };
        let stood = replies().find(|(_, heard)| ours(heard)).or_else(|| replies().next());
        let stood = stood.and_then(|(from, heard)| heard.server.or(from));
        let mask = replies().find_map(|(_, heard)| heard.mask).unwrap_or(USUAL_MASK);
        let address = options.address.or(stood).unwrap_or(NOWHERE);
        let place = match (options.address, stood) {
            (Some(_), _) => Place::Told,
            (None, Some(_)) => Place::StandsIn,
            (None, None) => Place::Nowhere,
        };
        Self { mode, network: Network { address, mask }, place }
    }

    /// Settings for this place. Where no pool is named all of the network's addresses are ours to
    /// give: which of them the captured server had we cannot know.
    pub fn settings(&self, options: &Options) -> Result<Settings, StartError> {
        let mut options = options.clone();
        options.pool = options.pool.or_else(|| whole(&self.network));
        let address = self.network.address;
        let (http, https) = (options.http_port, options.https_port);
        let base_url = format!("http://{address}:{}", http.unwrap_or(HTTP_PORT));
        let https_url = format!("https://{address}:{}", https.unwrap_or(HTTPS_PORT));
        run::settings(&options, self.mode, self.network, base_url, https_url)
    }
}

/// From a server's port to a client's or a relay's.
pub fn is_reply(datagram: &Datagram<'_>) -> bool {
    let (from, to) = (datagram.source.port(), datagram.destination.port());
    matches!(from, 67 | 4011)
        && matches!(to, 67 | 68 | 4011)
        && datagram.payload.first() == Some(&2)
}

fn read(datagram: &Datagram<'_>) -> Option<(Option<Ipv4Addr>, Heard)> {
    let from = match datagram.source {
        SocketAddr::V4(from) => Some(*from.ip()),
        SocketAddr::V6(_) => None,
    };
    Some((from, Heard::read(datagram.payload)?))
}

/// All of a network but its ends; none where it is larger than a pool may be.
fn whole(network: &Network) -> Option<Pool> {
    let first = network.address.to_bits() & network.mask.to_bits();
    let last = network.broadcast().to_bits();
    let (first, last) = (first.checked_add(1)?, last.checked_sub(1)?);
    format!("{}-{}", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).parse().ok()
}

/// Whether an address is one of IPv4's.
pub fn ipv4(address: SocketAddr) -> Option<std::net::SocketAddrV4> {
    match (address.ip(), address.port()) {
        (IpAddr::V4(ip), port) => Some(std::net::SocketAddrV4::new(ip, port)),
        (IpAddr::V6(_), _) => None,
    }
}
