//! Links, leases and routes: what the network stage decides with, and the table of functions
//! behind which rtnetlink and the DHCP client stand ([`linux`]).

pub mod choose;
pub mod flaps;
pub mod lease;
pub mod linux;
pub mod plan;

use crate::mac::Mac;
use lease::Lease;
use plan::{Addressing, Way};
use std::{future::Future, net::Ipv6Addr, time::Duration};

/// How long each thing of the network is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For links to come up.
    pub link: Duration,
    /// With no link at all for this long, drivers are looked for again.
    pub late_devices: Duration,
    /// For a DHCP server's answer on one link.
    pub dhcp: Duration,
    /// For the other end of a bond to speak LACP.
    pub partner: Duration,
    /// Between two looks at whether links are still there.
    pub watch: Duration,
    /// Before a DHCP client that failed is replaced.
    pub client_pause: Duration,
}

/// The waits of a machine.
pub const WAITS: Waits = Waits {
    // Gigabit auto-negotiation takes 2 to 4 s.
    link: Duration::from_secs(8),
    // USB takes a second or two to say what is plugged in.
    late_devices: Duration::from_secs(2),
    // The client asks at 0, about 4 and about 12 s. A switch port that learns its spanning tree
    // (30 s) is met by the stage's next attempts.
    dhcp: Duration::from_secs(14),
    // Both ends speak once a second.
    partner: Duration::from_secs(3),
    watch: Duration::from_secs(2),
    client_pause: Duration::from_secs(5),
};

/// The most links that one attempt asks on, the one that booted first: a server with more NICs
/// than that on live networks without DHCP is none of ours.
pub const MAX_TRIED: usize = 12;
/// The longest that an attempt of the stage may take: all of that, and coming up.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(200);

/// A network interface with hardware behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// The kernel's name.
    pub name: String,
    /// Its address.
    pub mac: Mac,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether something answers at the other end of the cable.
    pub carrier: bool,
}

/// The kernel's or the DHCP client's own words on what went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct NetError {
    /// What was tried.
    pub what: &'static str,
    /// The answer.
    pub reason: String,
}

/// What a DHCP client comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpEvent {
    /// A lease, new or renewed.
    Lease(Lease),
    /// The server that gave the lease does not answer; others are asked.
    Unanswered,
    /// The lease ended; the search begins anew.
    Lost,
    /// It goes on: nothing to do.
    Busy,
}

/// Links and their configuration.
pub trait Network: 'static {
    /// A DHCP client on one link.
    type Dhcp: Dhcp;

    /// Ethernet links with hardware behind them, by number.
    fn links(&self) -> impl Future<Output = Result<Vec<Link>, NetError>>;
    /// Sets a link administratively up.
    fn raise(&self, link: &Link) -> impl Future<Output = Result<(), NetError>>;
    /// One link of that name, of whatever kind.
    fn link(&self, name: &str) -> impl Future<Output = Result<Option<Link>, NetError>>;
    /// Makes bond and VLAN of a way, sets MTUs, and sets all of it up.
    fn make(&self, way: &Way) -> impl Future<Output = Result<(), NetError>>;
    /// Takes bond and VLAN of a way away, where they are there.
    fn unmake(&self, way: &Way) -> impl Future<Output = ()>;
    /// Sets addresses and routes of our own.
    fn fix(
        &self,
        link: &Link,
        addressing: &Addressing,
    ) -> impl Future<Output = Result<(), NetError>>;
    /// Takes addresses of our own away, and with them their routes.
    fn unfix(&self, link: &Link, addressing: &Addressing) -> impl Future<Output = ()>;
    /// An IPv6 address of more than the link itself that may be used, and its prefix's length.
    fn autoconfigured(
        &self,
        link: &Link,
    ) -> impl Future<Output = Result<Option<(Ipv6Addr, u8)>, NetError>>;
    /// A new DHCP client.
    fn dhcp(&self, link: &Link) -> impl Future<Output = Result<Self::Dhcp, NetError>>;
    /// Gives a link the lease's address, MTU and routes.
    fn apply(&self, link: &Link, lease: &Lease) -> impl Future<Output = Result<(), NetError>>;
    /// Takes a lease's address away, and with it its routes.
    fn remove(&self, link: &Link, lease: &Lease) -> impl Future<Output = Result<(), NetError>>;
}

/// A DHCP client on one link.
pub trait Dhcp: 'static {
    /// Waits for the next event; with a lease in hand that is when it must be renewed.
    fn next(&mut self) -> impl Future<Output = Result<DhcpEvent, NetError>>;
}
