//! How long questions and changes take, waiting for others' included, and how many fail.

use super::{StoreError, sql::Part};
use crate::metrics::values;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{
    fmt::{self, Write},
    time::Instant,
};

values! {
    /// What was done.
    pub(super) enum Operation {
        /// A question.
        Read = "read",
        /// A change of leases.
        Leases = "write-leases",
        /// Another change.
        Machines = "write-machines",
        /// A change of the tables themselves.
        Schema = "write-schema",
        /// Lines of a console.
        Console = "write-console",
    }
}

impl From<Part> for Operation {
    fn from(part: Part) -> Self {
        match part {
            Part::Leases => Self::Leases,
            Part::Machines => Self::Machines,
            Part::Schema => Self::Schema,
            Part::Console => Self::Console,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: Operation,
}

/// Times and failures.
#[derive(Clone, Debug)]
pub struct Meter {
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    failures: Family<Labels, Counter>,
}

impl Default for Meter {
    fn default() -> Self {
        // From 50 microseconds, a cached question, to 13 s, a lock's patience.
        let made = || Histogram::new(exponential_buckets(5e-5, 4.0, 10));
        let meter =
            Self { seconds: Family::new_with_constructor(made), failures: Family::default() };
        for &operation in Operation::ALL {
            drop(meter.seconds.get_or_create(&Labels { operation }));
            drop(meter.failures.get_or_create(&Labels { operation }));
        }
        meter
    }
}

impl Meter {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let help = "How long the database took, waiting for others included";
        registry.register_with_unit("store", help, Unit::Seconds, self.seconds.clone());
        let help = "What the database did not do";
        registry.register("store_failures", help, self.failures.clone());
    }

    pub(super) fn timed<T>(
        &self,
        operation: Operation,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let done = work();
        let labels = Labels { operation };
        self.seconds.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
        if done.is_err() {
            self.failures.get_or_create(&labels).inc();
        }
        done
    }
}
