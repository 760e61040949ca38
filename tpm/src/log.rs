//! Firmware's own event log, and what PCRs must hold after it.
//!
//! The crypto-agile log of the TCG PC Client Platform Firmware Profile (section 10), as Linux gives
//! it in `/sys/kernel/security/tpm0/binary_bios_measurements`. Only the digests of SHA-256 are
//! kept. Written here because the one library for it, `uefi-eventlog`, has not moved since 2021
//! and keeps what it parses by unbounded lengths.

use crate::pcr::{Value, extended};
use std::collections::BTreeMap;

/// The longest log that is taken. A PC's has 20 to 60 KB.
pub const MAX_LOG: usize = 256 << 10;
/// The most events.
const MAX_EVENTS: usize = 4_096;
/// The most hash algorithms that a log may have.
const MAX_ALGORITHMS: u32 = 16;

/// SHA-256, by TCG's registry.
const SHA256: u16 = 0x000B;
/// An event that extends nothing.
const EV_NO_ACTION: u32 = 3;
/// First in a log, its signature of 16 bytes.
const SPEC_ID: &[u8; 16] = b"Spec ID Event03\0";
/// Says from which locality the chip was started, which PCR 0 begins with.
const LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The PCR.
    pub pcr: u8,
    /// Its type, EV_….
    pub kind: u32,
    /// What the PCR was extended with; none where it was not.
    pub digest: Option<Value>,
    /// What firmware says it was.
    pub data: Vec<u8>,
}

/// A log cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It ends within an event.
    #[error("the event log ends within event {0}")]
    Cut(usize),
    /// It is not one of TPM 2.0.
    #[error("the event log does not begin as one of TPM 2.0 does")]
    NotCryptoAgile,
    /// It has no digests that we could check.
    #[error("the event log has no SHA-256 digests")]
    NoSha256,
    /// It names an algorithm that it did not announce, or a PCR that no chip has.
    #[error("event {0} of the event log is malformed")]
    Malformed(usize),
    /// More than any firmware writes.
    #[error("the event log is longer than any firmware's")]
    TooLong,
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The event that is being read.
    event: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], LogError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(LogError::Cut(self.event))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, LogError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, LogError> {
        let bytes = self.take(2)?;
        Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Result<u32, LogError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn counted(&mut self) -> Result<&'a [u8], LogError> {
        let count = self.u32()?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn pcr(&mut self) -> Result<u8, LogError> {
        let pcr = u8::try_from(self.u32()?).ok().filter(|pcr| *pcr < crate::chip::PCRS);
        pcr.ok_or(LogError::Malformed(self.event))
    }
}

/// Reads a log. Foreign bytes: a node sends them.
///
/// # Errors
/// [`LogError`].
pub fn parse(log: &[u8]) -> Result<Vec<Event>, LogError> {
    if log.len() > MAX_LOG {
        return Err(LogError::TooLong);
    }
    let mut reader = Reader { rest: log, event: 0 };
    // The first event has the older form: PCR, type, a digest of SHA-1, data.
    let (_, kind) = (reader.u32()?, reader.u32()?);
    reader.take(20)?;
    let algorithms = algorithms(kind, reader.counted()?)?;
    let mut events = Vec::new();
    while !reader.rest.is_empty() {
        reader.event += 1;
        if events.len() == MAX_EVENTS {
            return Err(LogError::TooLong);
        }
        // Some firmware leaves the end of its log's memory blank.
        if reader.rest.iter().all(|byte| *byte == 0 || *byte == 0xFF) {
            break;
        }
        events.push(event(&mut reader, &algorithms)?);
    }
    Ok(events)
}

fn event(reader: &mut Reader<'_>, algorithms: &BTreeMap<u16, u16>) -> Result<Event, LogError> {
    let (pcr, kind) = (reader.pcr()?, reader.u32()?);
    let count = reader.u32()?;
    if count > MAX_ALGORITHMS {
        return Err(LogError::Malformed(reader.event));
    }
    let mut digest = None;
    for _ in 0..count {
        let algorithm = reader.u16()?;
        let size = algorithms.get(&algorithm).ok_or(LogError::Malformed(reader.event))?;
        let bytes = reader.take(usize::from(*size))?;
        if algorithm == SHA256 {
            digest = Value::try_from(bytes).ok();
        }
    }
    let data = reader.counted()?.to_vec();
    if kind == EV_NO_ACTION {
        digest = None;
    } else if digest.is_none() {
        return Err(LogError::Malformed(reader.event));
    }
    Ok(Event { pcr, kind, digest, data })
}

/// The algorithms of a log with the lengths of their digests, from its first event's data.
fn algorithms(kind: u32, data: &[u8]) -> Result<BTreeMap<u16, u16>, LogError> {
    let mut reader = Reader { rest: data, event: 0 };
    if kind != EV_NO_ACTION || reader.take(16)? != SPEC_ID {
        return Err(LogError::NotCryptoAgile);
    }
    // Platform class, version minor, major, errata, size of UINTN.
    reader.take(8)?;
    let count = reader.u32()?;
    if count > MAX_ALGORITHMS {
        return Err(LogError::Malformed(0));
    }
    let mut algorithms = BTreeMap::new();
    for _ in 0..count {
        algorithms.insert(reader.u16()?, reader.u16()?);
    }
    let vendor = reader.u8()?;
    reader.take(usize::from(vendor))?;
    match algorithms.get(&SHA256) {
        Some(32) => Ok(algorithms),
        _ => Err(LogError::NoSha256),
    }
}

/// The values that PCRs have after events, of those PCRs that events name.
pub fn replay(events: &[Event]) -> BTreeMap<u8, Value> {
    let mut values = BTreeMap::new();
    for event in events {
        if let Some(digest) = &event.digest {
            let value = values.entry(event.pcr).or_insert([0; 32]);
            *value = extended(value, digest);
        } else if let (0, Some(locality)) = (event.pcr, event.data.strip_prefix(LOCALITY)) {
            // Only before anything else in PCR 0.
            let mut first = [0; 32];
            first[31] = locality.first().copied().unwrap_or(0);
            values.entry(0).or_insert(first);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
        let mut data = SPEC_ID.to_vec();
        data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        data.extend((algorithms.len() as u32).to_le_bytes());
        for (algorithm, size) in algorithms {
            data.extend(algorithm.to_le_bytes());
            data.extend(size.to_le_bytes());
        }
        data.push(0);
        let mut log = vec![0; 4];
        log.extend(EV_NO_ACTION.to_le_bytes());
        log.extend([0; 20]);
        log.extend((data.len() as u32).to_le_bytes());
        log.extend(data);
        log
    }

    fn push(log: &mut Vec<u8>, pcr: u32, kind: u32, digests: &[(u16, &[u8])], data: &[u8]) {
        log.extend(pcr.to_le_bytes());
        log.extend(kind.to_le_bytes());
        log.extend((digests.len() as u32).to_le_bytes());
        for (algorithm, digest) in digests {
            log.extend(algorithm.to_le_bytes());
            log.extend(*digest);
        }
        log.extend((data.len() as u32).to_le_bytes());
        log.extend(data);
    }

    const BOTH: [(u16, u16); 2] = [(4, 20), (SHA256, 32)];

    #[test]
    fn a_log_of_two_banks_is_read_and_replayed_in_the_one_of_sha_256() {
        let mut log = header(&BOTH);
        push(
            &mut log,
            0,
            EV_NO_ACTION,
            &[(4, &[0; 20]), (SHA256, &[0; 32])],
            b"StartupLocality\0\x03",
        );
        push(&mut log, 0, 8, &[(4, &[1; 20]), (SHA256, &[2; 32])], b"version");
        push(&mut log, 4, 0x8000_0003, &[(4, &[1; 20]), (SHA256, &[5; 32])], b"program");
        log.extend([0xFF; 64]);
        let events = parse(&log).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!((events[2].pcr, events[2].digest), (4, Some([5; 32])));
        let values = replay(&events);
        let mut first = [0; 32];
        first[31] = 3;
        assert_eq!(values[&0], extended(&first, &[2; 32]));
        assert_eq!(values[&4], extended(&[0; 32], &[5; 32]));
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn logs_that_are_none_are_told_apart() {
        assert_eq!(parse(&[]), Err(LogError::Cut(0)));
        assert_eq!(parse(&[0; 200]), Err(LogError::NotCryptoAgile));
        assert_eq!(parse(&header(&[(4, 20)])), Err(LogError::NoSha256));
        let mut log = header(&BOTH);
        push(&mut log, 77, 8, &[(SHA256, &[0; 32])], b"");
        assert_eq!(parse(&log), Err(LogError::Malformed(1)));
        let mut log = header(&BOTH);
        push(&mut log, 1, 8, &[(SHA256, &[0; 32])], b"some data");
        log.pop();
        assert_eq!(parse(&log), Err(LogError::Cut(1)));
    }

    proptest! {
        #[test]
        fn no_log_panics(bytes: Vec<u8>, at in 0usize..400, byte: u8) {
            let _ = parse(&bytes).map(|events| replay(&events));
            let mut log = header(&BOTH);
            log.extend(bytes);
            let _ = parse(&log).map(|events| replay(&events));
            let mut log = header(&BOTH);
            push(&mut log, 1, 8, &[(4, &[1; 20]), (SHA256, &[0; 32])], b"some data");
            let at = at % log.len();
            log[at] = byte;
            let _ = parse(&log).map(|events| replay(&events));
        }
    }
}
