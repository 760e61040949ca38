//! What CometBFT's connection carries: frames of requests, in pieces of any size.
#![no_main]

use abci_app::transport::{FrameError, FrameReader, FrameWriter};
use fuzz::target;
use std::io::{self, Read};
use tendermint_proto::v0_38::abci::Request;

/// Gives its bytes a few at a time.
struct Trickle<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = self.most.min(into.len());
        self.bytes.read(&mut into[..most])
    }
}

/// The requests before the end or the first that is none, and how it ended.
fn requests(bytes: &[u8], most: usize) -> (Vec<Request>, String) {
    let mut reader = FrameReader::new(Trickle { bytes, most });
    let mut found = Vec::new();
    loop {
        let waits = reader.has_frame();
        match reader.read::<Request>() {
            Ok(Some(request)) => found.push(request),
            Ok(None) => return (found, "the end".into()),
            Err(FrameError::Cut) => {
                assert!(!waits);
                return (found, "cut".into());
            }
            Err(error) => return (found, error.to_string()),
        }
    }
}

target!(|bytes: &[u8]| {
    let whole = requests(bytes, usize::MAX);
    for most in [1, 7] {
        assert_eq!(requests(bytes, most), whole, "in pieces of {most}");
    }
    // Written out and read again they are the same requests.
    let mut written = Vec::new();
    let mut writer = FrameWriter::new(&mut written);
    for request in &whole.0 {
        writer.push(request).expect("a vector takes all");
    }
    writer.flush().expect("a vector takes all");
    assert_eq!(requests(&written, usize::MAX), (whole.0, "the end".into()));
});
