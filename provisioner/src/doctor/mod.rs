//! `provisioner doctor`: looks at a network before it is trusted, and says what to change.
//!
//! Each check is a file with a pure `judge` from what was seen to findings, and beside it the edge
//! that looks: `link`, `limits`, `mtu` and `ports` at this host, `servers` and `tree` at
//! what `wire` heard, `clock` at those who know the time. Nothing is changed, and no lease is
//! taken: it asks for offers and requests none.
//!
//! Foreign bytes go through [`Ear::take`] alone, which is bounded and never panics: `frame` reads
//! the envelope, `offer`, `bpdu` and `neighbour` what is in it.
//!
//! What it does not see: servers on this host itself (their answers never reach the wire; `ports`
//! names them), packet filters, and other switches than the nearest.

mod bpdu;
mod clock;
mod finding;
mod frame;
mod heard;
mod host;
mod limits;
mod link;
mod mtu;
mod neighbour;
mod offer;
mod ports;
mod question;
mod servers;
mod text;
mod tree;
mod wire;

pub use finding::{Check, Finding, Report, VERSION, Verdict};
pub use heard::{Ear, Heard};
pub use question::Asked;

use crate::{
    config::{ConfigError, Options, Part},
    dhcp::pool::Pool,
    machine::Mac,
    net::{self, NetError},
    store::Place,
};
use clap::Args;
use host::Host;
use nix::{errno::Errno, ifaddrs::getifaddrs, sys::socket::SockaddrIn};
use std::{net::Ipv4Addr, path::PathBuf};

/// Interfaces that are listened on: a bridge with its ports.
const MAX_LISTENED: usize = 8;

/// How `provisioner doctor` is told what to look at.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The interface to look at; needed where the host has more than one
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// The configuration that `serve` is to run with: its part in DHCP, pool, ports, time servers
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long to listen. DHCP servers answer within 4 s, spanning tree speaks every 2 s; switches
    /// tell their names every 30 s (LLDP) or 60 s (CDP)
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// There is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such interface, or it is not clear which.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The host's interfaces cannot be listed.
    #[error("the host's network interfaces cannot be listed: {0}")]
    List(#[from] Errno),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Looks at everything. `progress` hears how many seconds of the listening have gone.
pub async fn run(
    arguments: &Arguments,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<Report, DoctorError> {
    let flags = Options {
        config: arguments.config.clone(),
        interface: arguments.interface.clone(),
        ..Options::default()
    };
    let options = flags.with_file()?;
    let name = chosen(&options)?;
    let host = Host::this();

    let mut link = link::look(&host, &name, &options)?;
    let address = link.chosen.map(|network| network.address);
    // Before anything is sent: what holds a port is the same either way.
    let ports = ports::look(&host, &options, &name, address);
    let database = options.database.clone().unwrap_or_default();
    let limits = limits::look(&host, &name, machines(&link), &database);

    let mut random = [0; 20];
    getrandom::fill(&mut random).map_err(DoctorError::Random)?;
    let mut listened = vec![name.clone()];
    listened.extend(host.below(&name));
    listened.truncate(MAX_LISTENED);
    let plan = wire::Plan {
        interface: name.clone(),
        listen: listened,
        mac: link.mac,
        own: own_macs(&host),
        address,
        link_local: link.link_local,
        pool: probed_pool(&link),
        seconds: arguments.seconds,
    };
    let (probes, seconds) = (plan.pool.is_some(), plan.seconds);
    let listening =
        tokio::task::spawn_blocking(move || wire::listen(&plan, random, &progress)).await;
    let outcome = match listening {
        Ok(outcome) => outcome,
        Err(error) => wire::Outcome {
            ear: Ear::new(Asked::new(random), None, Vec::new()),
            deaf: Some(format!("the listening ended: {error}")),
            probed: 0,
        },
    };
    let (deaf, ear) = (outcome.deaf, outcome.ear);

    link.taken = ear.heard.taken.clone();
    link.served = match &database {
        Place::File(file) => file.exists(),
        Place::Server { .. } => true,
    };
    if probes {
        link.probed = Some(deaf.clone().map_or(Ok(outcome.probed), Err));
    }
    let time_servers = clock::named(ear.heard.offers.iter().map(|o| o.time_servers.clone()));
    let clock = clock::look(&host, &options.time_server, &time_servers, &options.ledger).await;
    let deaf_of_six = match link.link_local {
        Some(_) => None,
        None => Some(format!("{name} has no IPv6 link-local address")),
    };
    let servers = servers::Seen {
        heard: ear.heard.clone(),
        part: options.dhcp,
        network: link.chosen,
        own: own_addresses()?,
        deaf: deaf.clone(),
        deaf_of_six,
        seconds,
    };
    let findings = [
        link::judge(&link),
        servers::judge(&servers),
        ports::judge(&ports),
        mtu::judge(&mtu::look(&host, &name, &ear.heard)),
        tree::judge(&tree::look(&host, &name, &ear, deaf, seconds)),
        clock::judge(&clock),
        limits::judge(&limits),
    ];
    Ok(Report::new(name, seconds, findings.concat()))
}

impl Ear {
    /// What is to be said of what was heard alone, where nothing is known of this host: judgements
    /// take strangers' words too, and the fuzzer goes through them by this.
    pub fn findings(&self) -> Vec<Finding> {
        let servers = servers::Seen { heard: self.heard.clone(), ..servers::Seen::default() };
        let tree = tree::Seen {
            bridges: self.bridges.clone(),
            neighbours: self.heard.neighbours.clone(),
            ..tree::Seen::default()
        };
        [servers::judge(&servers), tree::judge(&tree)].concat()
    }
}

/// The interface that `serve` would take; one that is named may lack an address.
fn chosen(options: &Options) -> Result<String, NetError> {
    match (net::interface(options.interface.as_deref(), options.address), &options.interface) {
        (Ok(interface), _) => Ok(interface.name),
        (Err(NetError::NoAddress { .. }), Some(name)) => Ok(name.clone()),
        (Err(error), _) => Err(error),
    }
}

/// How many machines there may be.
fn machines(link: &link::Seen) -> Option<u64> {
    let network = link.chosen.map(|network| u64::from(!network.mask.to_bits()).saturating_sub(1));
    match link.part {
        Some(Part::Full) => link.pool.map(|pool| u64::from(pool.size())).or(network),
        _ => network,
    }
}

/// The addresses to probe: where we are to give any, and of our own network.
fn probed_pool(link: &link::Seen) -> Option<Pool> {
    let ours = !matches!(link.part, Some(Part::Proxy | Part::Off));
    let within = |pool: &Pool| {
        let (first, last) = pool.ends();
        link.chosen.is_some_and(|network| network.contains(first) && network.contains(last))
    };
    link.pool.filter(|_| ours).filter(within)
}

fn own_macs(host: &Host) -> Vec<Mac> {
    let names = host.names("sys/class/net").into_iter();
    names
        .filter_map(|name| host.text(&format!("sys/class/net/{name}/address"))?.parse().ok())
        .collect()
}

fn own_addresses() -> Result<Vec<Ipv4Addr>, Errno> {
    let ipv4 = |entry: nix::ifaddrs::InterfaceAddress| {
        entry.address.and_then(|storage| storage.as_sockaddr_in().map(SockaddrIn::ip))
    };
    Ok(getifaddrs()?.filter_map(ipv4).collect())
}
