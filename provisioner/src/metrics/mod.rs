//! What `GET /metrics` shows: counts since the start, and what stands at the moment. Names and units
//! are those of Prometheus; no label holds what a peer chooses.
//!
//! Counts ([`Metrics`]) are made where the thing happens and cost an addition. What stands
//! (machines, leases, tables) is looked up for each answer (`moment`).

mod body;
mod boots;
mod labels;
mod moment;
mod parts;
mod tables;
pub mod watched;

pub(crate) use labels::values;

pub use body::Metered;
pub use boots::Outcome as Boot;
pub use labels::{Code, Door, Exchange, Family, Port, Transfer};
pub use moment::{Moment, Pools, text};
pub use parts::{Alive, Listening};
pub use tables::Tables;

use crate::timeline::Record;
use labels::{BootLabels, DhcpLabels, FamilyLabels, HttpLabels, RouteLabels, TransferLabels};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family as Each,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What all names begin with.
const PREFIX: &str = "provisioner";

/// Counts since the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    dhcp_packets: Each<DhcpLabels, Counter>,
    dhcp_received: Each<DhcpLabels, Counter>,
    dhcp_sent: Each<FamilyLabels, Counter>,
    transfers: Each<TransferLabels, Counter>,
    tftp_sent: Counter,
    tftp_resent: Counter,
    tftp_seconds: Histogram,
    requests: Each<HttpLabels, Counter>,
    http_sent: Each<RouteLabels, Counter>,
    http_seconds: Histogram,
    boots: Each<BootLabels, Counter>,
    /// What is bounded, and how full it is.
    pub tables: Tables,
    /// What listens.
    pub listening: Alive,
    /// Addresses to give out.
    pub pools: OnceLock<Pools>,
}

impl Default for Metrics {
    fn default() -> Self {
        let made = Self {
            registry: Registry::with_prefix(PREFIX),
            dhcp_packets: Each::default(),
            dhcp_received: Each::default(),
            dhcp_sent: Each::default(),
            transfers: Each::default(),
            tftp_sent: Counter::default(),
            tftp_resent: Counter::default(),
            tftp_seconds: seconds(),
            requests: Each::default(),
            http_sent: Each::default(),
            http_seconds: seconds(),
            boots: Each::default(),
            tables: Tables::default(),
            listening: Alive::default(),
            pools: OnceLock::new(),
        };
        made.registered().begun()
    }
}

/// From a tenth of a millisecond to some minutes, each four times the last.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-4, 4.0, 11))
}

impl Metrics {
    fn registered(mut self) -> Self {
        let all = &mut self.registry;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        all.register("build", "Which program this is", Info::new(version));
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        all.register_with_unit(
            "start_time",
            "When it was started, since 1970",
            Unit::Seconds,
            ConstGauge::new(start.as_secs_f64()),
        );
        let help = "DHCP packets that came, by what became of them";
        all.register("dhcp_packets", help, self.dhcp_packets.clone());
        let help = "DHCP packets that came, in bytes of UDP, by what became of them";
        all.register_with_unit("dhcp_received", help, Unit::Bytes, self.dhcp_received.clone());
        let help = "DHCP replies, in bytes of UDP";
        all.register_with_unit("dhcp_sent", help, Unit::Bytes, self.dhcp_sent.clone());
        let help = "TFTP requests, by how they ended";
        all.register("tftp_transfers", help, self.transfers.clone());
        let help = "Files that were given by TFTP to their end";
        all.register_with_unit("tftp_sent", help, Unit::Bytes, self.tftp_sent.clone());
        let help = "TFTP packets that were sent more than once";
        all.register("tftp_resent_packets", help, self.tftp_resent.clone());
        let help = "How long whole TFTP transfers took";
        all.register_with_unit("tftp_transfer", help, Unit::Seconds, self.tftp_seconds.clone());
        let help = "HTTP requests that were answered";
        all.register("http_requests", help, self.requests.clone());
        let help = "Bodies of HTTP answers, as far as they were taken";
        all.register_with_unit("http_sent", help, Unit::Bytes, self.http_sent.clone());
        let help = "From an HTTP request's head to its answer's";
        all.register_with_unit("http_answer", help, Unit::Seconds, self.http_seconds.clone());
        let help = "Boots, by what became of them: those that began here, and their ends";
        all.register("boots", help, self.boots.clone());
        self
    }

    /// With every count that there can be, at 0: what never happened is not unknown. (Of HTTP's the
    /// routes are the router's to say.)
    fn begun(self) -> Self {
        for &port in Port::ALL {
            for &outcome in Exchange::ALL {
                drop(self.dhcp_packets.get_or_create(&DhcpLabels { port, outcome }));
                drop(self.dhcp_received.get_or_create(&DhcpLabels { port, outcome }));
            }
        }
        for &family in Family::ALL {
            drop(self.dhcp_sent.get_or_create(&FamilyLabels { family }));
        }
        for &outcome in Transfer::ALL {
            drop(self.transfers.get_or_create(&TransferLabels { outcome }));
        }
        for &outcome in Boot::ALL {
            drop(self.boots.get_or_create(&BootLabels { outcome }));
        }
        self.request(Door::Http, "/metrics", Code::Success, 0, Duration::ZERO);
        drop(self.sent(Door::Http, "/metrics"));
        self
    }

    /// A DHCP packet that came, and the reply's length where there was one.
    pub fn dhcp(&self, port: Port, outcome: Exchange, received: usize, sent: usize) {
        let family = FamilyLabels { family: port.family() };
        let labels = DhcpLabels { port, outcome };
        self.dhcp_packets.get_or_create(&labels).inc();
        self.dhcp_received.get_or_create(&labels).inc_by(received as u64);
        self.dhcp_sent.get_or_create(&family).inc_by(sent as u64);
    }

    /// A TFTP request that came to its end.
    pub fn transfer(&self, outcome: Transfer, bytes: u64, resent: u64, took: Duration) {
        self.transfers.get_or_create(&TransferLabels { outcome }).inc();
        self.tftp_resent.inc_by(resent);
        if outcome == Transfer::Complete {
            self.tftp_sent.inc_by(bytes);
            self.tftp_seconds.observe(took.as_secs_f64());
        }
    }

    /// An HTTP request, by the route that it took.
    pub fn request(&self, door: Door, route: &str, code: Code, count: u64, took: Duration) {
        let labels = HttpLabels { door, route: route.into(), code };
        self.requests.get_or_create(&labels).inc_by(count);
        if count > 0 {
            self.http_seconds.observe(took.as_secs_f64());
        }
    }

    /// Where the bytes of an answer's body are counted.
    pub fn sent(&self, door: Door, route: &str) -> Counter {
        self.http_sent.get_or_create(&RouteLabels { door, route: route.into() }).clone()
    }

    /// An event that came into the store: where it begins or ends a boot, that is counted.
    pub fn event(&self, record: &Record) {
        if let Some(outcome) = boots::outcome(record) {
            self.boots.get_or_create(&BootLabels { outcome }).inc();
        }
    }
}
