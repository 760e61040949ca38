//! What stands at the moment of an answer, and the answer's text (OpenMetrics 1.0, which Prometheus
//! reads).

use super::{Metrics, PREFIX};
use crate::{
    counters::Counters,
    dhcp::pool::Pool,
    store::{Figures, Meter},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{
    fmt::{self, Debug},
    sync::Arc,
};

/// Addresses to give out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pools {
    /// By DHCP.
    pub four: Option<Pool>,
    /// How many by DHCPv6.
    pub six: Option<u64>,
}

/// What stands.
#[derive(Debug)]
pub struct Moment {
    /// What the store says; none where it says nothing.
    pub figures: Option<Figures>,
    /// How long it was waited for, in seconds.
    pub waited: f64,
    /// The store's times.
    pub store: Meter,
    /// Named counts.
    pub counters: Arc<Counters>,
    /// Whether there is an image, and whether machines are taken in.
    pub serves: (bool, bool),
}

/// The answer.
pub fn text(metrics: &Metrics, moment: Moment) -> Result<String, fmt::Error> {
    let mut now = Registry::with_prefix(PREFIX);
    moment.store.register(&mut now);
    now.register_collector(Box::new(moment));
    let mut out = String::with_capacity(16 << 10);
    text::encode_registry(&mut out, &metrics.registry)?;
    text::encode_registry(&mut out, &now)?;
    text::encode_eof(&mut out)?;
    Ok(out)
}

type Label<'a> = [(&'static str, &'a str); 1];

impl Collector for Moment {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.counters.metrics;
        let mut out = Out(&mut encoder);
        out.one("store_up", "Whether the database answers", None, self.figures.is_some() as u64)?;
        let help = "How long the database took to say how many of all there are";
        let waited = ConstGauge::new(self.waited);
        let mut family = out.0.encode_descriptor(
            "store_answer",
            help,
            Some(&Unit::Seconds),
            waited.metric_type(),
        )?;
        waited.encode(family.encode_family(&Label::from([("what", "figures")]))?)?;
        let listening = metrics.listening.all();
        let listening: Vec<(&str, u64)> =
            listening.iter().map(|(name, up)| (*name, u64::from(*up))).collect();
        out.each("listener_up", "Whether a port is answered at", "listener", &listening)?;
        let (image, enrols) = self.serves;
        out.one("image_served", "Whether there is an image to boot", None, image.into())?;
        out.one("enrolment", "Whether machines are taken in", None, enrols.into())?;
        if let Some(bytes) = resident() {
            out.one("resident_memory", "Memory in use", Some(&Unit::Bytes), bytes)?;
        }
        let mut tables = metrics.tables.all();
        if let Some(figures) = &self.figures {
            let help = "Machines, by the state of their life";
            out.each("machines", help, "state", &figures.machines)?;
            let help = "Machines whose last boot met a problem that still stands";
            out.one("machines_with_problem", help, None, figures.problems)?;
            out.leases("leases", &figures.leases, "DHCP")?;
            out.leases("leases6", &figures.leases6, "DHCPv6")?;
            tables.extend(figures.tables.iter().copied());
            let pools = metrics.pools.get().copied().unwrap_or_default();
            let four = pools.four.map(|pool| u64::from(pool.size()));
            let sizes =
                [("ipv4", four, figures.in_pool), ("ipv6", pools.six, figures.leases6[0].1)];
            let there: Vec<_> = sizes
                .iter()
                .filter_map(|(name, size, used)| Some((*name, (*size)?, *used)))
                .collect();
            let size: Vec<_> = there.iter().map(|(name, size, _)| (*name, *size)).collect();
            let free: Vec<_> = there
                .iter()
                .map(|(name, size, used)| (*name, size.saturating_sub(*used)))
                .collect();
            out.each("pool_addresses", "Addresses to give out", "family", &size)?;
            out.each("pool_free_addresses", "Those that nobody holds", "family", &free)?;
        }
        let used: Vec<_> = tables.iter().map(|(name, used, _)| (*name, *used)).collect();
        let limit: Vec<_> = tables.iter().map(|(name, _, limit)| (*name, *limit)).collect();
        out.each("table_entries", "Entries of what peers can fill", "table", &used)?;
        out.each("table_limit", "The most entries that it may have", "table", &limit)?;
        let help = "Connections that found no place, or lost it to others: by table";
        out.counts("turned_away", help, "table", &metrics.tables.turned_away())?;
        let counts = self.counters.all();
        let counts: Vec<_> = counts.iter().map(|(what, count)| (&**what, *count)).collect();
        let help = "What is too frequent, or too anonymous, for a machine's timeline";
        out.counts("noted", help, "what", &counts)
    }
}

struct Out<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn one(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: u64,
    ) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, unit, gauge.metric_type())?)
    }

    fn each(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&str, u64)],
    ) -> Result<(), fmt::Error> {
        match values {
            [] => Ok(()),
            values => self.family(name, help, label, values, ConstGauge::new),
        }
    }

    fn counts(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&str, u64)],
    ) -> Result<(), fmt::Error> {
        self.family(name, help, label, values, ConstCounter::new)
    }

    /// One figure for each value of a label.
    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[(&str, u64)],
        metric: impl Fn(u64) -> M,
    ) -> Result<(), fmt::Error> {
        let mut family = self.0.encode_descriptor(name, help, None, metric(0).metric_type())?;
        for (value, count) in values {
            let labels: Label = [(label, value)];
            metric(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn leases(
        &mut self,
        name: &str,
        leases: &[(&'static str, u64); 3],
        protocol: &str,
    ) -> Result<(), fmt::Error> {
        self.each(name, &format!("Leases of {protocol}, by their state"), "state", leases)
    }
}

/// Bytes of memory that are ours (proc(5), statm; pages of 4 KiB, as x86-64 has them).
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}
