//! A capture file's frames: pcap of either byte order and precision, and pcapng.

use pcap_parser::{
    Block, LegacyPcapBlock, PcapBlockOwned, PcapError, PcapHeader, PcapNGSlice, nom,
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};
use std::time::Duration;

/// The most frames looked at.
pub const MAX_FRAMES: usize = 1_000_000;

/// What a frame begins with (tcpdump.org's list of link types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header (1).
    Ethernet,
    /// Linux's cooked header (113), as of `tcpdump -i any`.
    Cooked,
    /// Its second form (276).
    Cooked2,
}

impl Link {
    fn of(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its number in the file, from 1, as other programs count.
    pub number: usize,
    /// Since 1970.
    pub at: Duration,
    /// What it begins with.
    pub link: Link,
    /// What of it was captured.
    pub bytes: &'a [u8],
}

/// The frames of a file.
#[derive(Debug, Default)]
pub struct Capture<'a> {
    /// In the file's order.
    pub frames: Vec<Frame<'a>>,
    /// How many of a link type that we do not read.
    pub foreign: usize,
    /// Why reading ended before the file did.
    pub ended: Option<&'static str>,
}

/// The bytes are no capture that can be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Some other file.
    #[error("neither pcap nor pcapng: a capture as tcpdump, Wireshark or QEMU write it is wanted")]
    NotACapture,
    /// Not Ethernet.
    #[error(
        "captured on links of type {0}: Ethernet (1) and Linux's cooked capture (113, 276) are read"
    )]
    Link(i32),
}

const CUT_OFF: &str = "the file ends within a packet";
const UNREADABLE: &str = "a record that cannot be read";
const TOO_MANY: &str = "a million packets were looked at";

/// Reads all frames. Never panics, whatever the bytes.
pub fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let mut capture = Capture::default();
    let mut other = None;
    match parse_pcap_header(bytes) {
        Ok((rest, header)) => capture.pcap(rest, &header, &mut other),
        Err(_) => {
            let blocks = PcapNGSlice::from_slice(bytes).map_err(|_| CaptureError::NotACapture)?;
            capture.pcapng(blocks, &mut other);
        }
    }
    match other {
        Some(link) if capture.frames.is_empty() => Err(CaptureError::Link(link)),
        _ => Ok(capture),
    }
}

/// Of an interface of a pcapng section.
#[derive(Clone, Copy)]
struct Interface {
    link: i32,
    /// Of its times, in a second.
    units: u64,
}

impl<'a> Capture<'a> {
    fn pcap(&mut self, mut rest: &'a [u8], header: &PcapHeader, other: &mut Option<i32>) {
        let parse = match (header.is_bigendian(), header.is_modified_format()) {
            (true, _) => parse_pcap_frame_be,
            (_, true) => parse_pcap_frame_modified,
            _ => parse_pcap_frame,
        };
        let units = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
        let mut number = 0;
        while !rest.is_empty() && self.has_room(number) {
            let block: LegacyPcapBlock<'a> = match parse(rest) {
                Ok((tail, block)) => {
                    rest = tail;
                    block
                }
                Err(error) => return self.ended = Some(reason(&error)),
            };
            number += 1;
            let fraction = nanoseconds(block.ts_usec.into(), units);
            let at = Duration::from_secs(block.ts_sec.into()) + Duration::from_nanos(fraction);
            self.take(number, at, header.network.0, block.data, other);
        }
    }

    fn pcapng(&mut self, blocks: PcapNGSlice<'a>, other: &mut Option<i32>) {
        let mut interfaces: Vec<Interface> = Vec::new();
        let (mut number, mut last) = (0, Duration::ZERO);
        for block in blocks {
            if !self.has_room(number) {
                return;
            }
            let block = match block {
                Ok(PcapBlockOwned::NG(block)) => block,
                Ok(_) => return self.ended = Some(UNREADABLE),
                Err(error) => return self.ended = Some(reason(&error)),
            };
            match block {
                Block::SectionHeader(_) => interfaces.clear(),
                Block::InterfaceDescription(described) => interfaces.push(Interface {
                    link: described.linktype.0,
                    units: described.ts_resolution().unwrap_or(1_000_000).max(1),
                }),
                Block::EnhancedPacket(packet) => {
                    number += 1;
                    let Some(from) = interfaces.get(packet.if_id as usize) else {
                        self.foreign += 1;
                        continue;
                    };
                    let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    let fraction = nanoseconds(time % from.units, from.units);
                    last = Duration::from_secs(time / from.units) + Duration::from_nanos(fraction);
                    let captured = packet.data.len().min(packet.caplen as usize);
                    self.take(number, last, from.link, &packet.data[..captured], other);
                }
                // Without a time of its own, of the first interface.
                Block::SimplePacket(packet) => {
                    number += 1;
                    let Some(from) = interfaces.first() else {
                        self.foreign += 1;
                        continue;
                    };
                    let captured = packet.data.len().min(packet.origlen as usize);
                    self.take(number, last, from.link, &packet.data[..captured], other);
                }
                _ => {}
            }
        }
    }

    fn has_room(&mut self, number: usize) -> bool {
        if number >= MAX_FRAMES {
            self.ended = Some(TOO_MANY);
        }
        number < MAX_FRAMES
    }

    fn take(
        &mut self,
        number: usize,
        at: Duration,
        link: i32,
        bytes: &'a [u8],
        other: &mut Option<i32>,
    ) {
        match Link::of(link) {
            Some(link) => self.frames.push(Frame { number, at, link, bytes }),
            None => {
                self.foreign += 1;
                *other = Some(link);
            }
        }
    }
}

fn nanoseconds(fraction: u64, units: u64) -> u64 {
    let nanoseconds = u128::from(fraction) * 1_000_000_000 / u128::from(units);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn reason(error: &nom::Err<PcapError<&[u8]>>) -> &'static str {
    match error {
        nom::Err::Incomplete(_) => CUT_OFF,
        nom::Err::Error(_) | nom::Err::Failure(_) => UNREADABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A pcap of these frames, a second apart, with numbers written by `word`.
    fn pcap(magic: u32, link: u32, frames: &[&[u8]], word: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let version = if word(1) == [1, 0, 0, 0] { [2, 0, 4, 0] } else { [0, 2, 0, 4] };
        let mut bytes = [&word(magic)[..], &version].concat();
        bytes.extend([0, 0, 65_535, link].map(word).concat());
        for (second, frame) in (100..).zip(frames) {
            let length = frame.len() as u32;
            bytes.extend([second, 500, length, length].map(word).concat());
            bytes.extend(*frame);
        }
        bytes
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let length = (padded as u32 + 12).to_le_bytes();
        let padding = vec![0; padded - body.len()];
        [&kind.to_le_bytes()[..], &length, body, &padding, &length].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn pcapng(link: u32) -> Vec<u8> {
        let section = [&words(&[0x1a2b_3c4d, 1])[..], &[0xff; 8]].concat();
        let packet = |second: u64, data: &[u8]| {
            let time = second * 1_000_000 + 7;
            let length = data.len() as u32;
            let head = words(&[0, (time >> 32) as u32, time as u32, length, length]);
            block(6, &[&head[..], data].concat())
        };
        [
            block(0x0a0d_0d0a, &section),
            block(1, &words(&[link, 65_535])),
            packet(1_700_000_000, b"first"),
            block(0x0bad, b"whatever"),
            packet(1_700_000_001, b"second frame"),
        ]
        .concat()
    }

    #[test]
    fn pcap_is_read_in_both_byte_orders_and_precisions() {
        let frames: &[&[u8]] = &[b"one", b"twelve bytes"];
        for (magic, word, nanoseconds) in [
            (0xa1b2_c3d4, u32::to_le_bytes as fn(u32) -> [u8; 4], 500_000),
            (0xa1b2_c3d4, u32::to_be_bytes, 500_000),
            (0xa1b2_3c4d, u32::to_le_bytes, 500),
            (0xa1b2_3c4d, u32::to_be_bytes, 500),
        ] {
            let bytes = pcap(magic, 1, frames, word);
            let capture = read(&bytes).unwrap();
            let found: Vec<&[u8]> = capture.frames.iter().map(|frame| frame.bytes).collect();
            assert_eq!((found, capture.ended), (frames.to_vec(), None));
            assert_eq!(capture.frames[1].at, Duration::new(101, nanoseconds));
        }
    }

    #[test]
    fn pcapng_is_read_and_blocks_that_hold_no_packets_are_passed_over() {
        let bytes = pcapng(1);
        let capture = read(&bytes).unwrap();
        let found: Vec<&[u8]> = capture.frames.iter().map(|frame| frame.bytes).collect();
        assert_eq!(found, [&b"first"[..], b"second frame"]);
        assert_eq!(capture.frames[0].at, Duration::new(1_700_000_000, 7_000));
        assert_eq!(capture.frames[1].number, 2);
    }

    #[test]
    fn a_capture_that_is_cut_off_gives_what_is_whole_and_says_so() {
        let bytes = pcap(0xa1b2_c3d4, 1, &[b"one", b"two"], u32::to_le_bytes);
        for cut in 1..=18 {
            let capture = read(&bytes[..bytes.len() - cut]).unwrap();
            assert_eq!((capture.frames.len(), capture.ended), (1, Some(CUT_OFF)), "{cut}");
        }
        let bytes = pcapng(1);
        let capture = read(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!((capture.frames.len(), capture.ended), (1, Some(CUT_OFF)));
    }

    #[test]
    fn what_is_no_capture_and_no_ethernet_is_told_so() {
        assert!(matches!(read(b"PK\x03\x04 not a capture"), Err(CaptureError::NotACapture)));
        assert!(matches!(read(b""), Err(CaptureError::NotACapture)));
        let wlan = pcap(0xa1b2_c3d4, 127, &[b"radio"], u32::to_le_bytes);
        assert!(matches!(read(&wlan), Err(CaptureError::Link(127))));
        assert!(matches!(read(&pcapng(127)), Err(CaptureError::Link(127))));
        assert!(read(&pcap(0xa1b2_c3d4, 127, &[], u32::to_le_bytes)).unwrap().frames.is_empty());
    }

    proptest! {
        #[test]
        fn no_alteration_of_a_capture_makes_reading_panic(
            ng in any::<bool>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
        ) {
            let mut bytes = match ng {
                true => pcapng(1),
                false => pcap(0xa1b2_c3d4, 1, &[b"one", b"two"], u32::to_le_bytes),
            };
            for (place, value) in changes {
                *place.get_mut(&mut bytes) = value;
            }
            let _ = read(&bytes);
        }
    }
}
