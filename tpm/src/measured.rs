//! What node-init measured, and what its PCRs must hold after it.

use crate::pcr::{Value, extended};
use protocol::evidence::Measurement;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What a PCR is extended with for a measurement.
pub fn digest(measurement: &Measurement) -> Value {
    Sha256::new()
        .chain_update(measurement.name.as_bytes())
        .chain_update([0])
        .chain_update(measurement.data.as_bytes())
        .finalize()
        .into()
}

/// Goes on from what firmware left.
pub fn replay(values: &mut BTreeMap<u8, Value>, measurements: &[Measurement]) {
    for measurement in measurements {
        let value = values.entry(measurement.pcr).or_insert([0; 32]);
        *value = extended(value, &digest(measurement));
    }
}
