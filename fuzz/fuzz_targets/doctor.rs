//! Frames as the doctor hears them on a wire that is not trusted yet: each after its length, in two
//! bytes.
#![no_main]

use fuzz::target;
use provisioner::doctor::{Asked, Ear};

target!(|bytes: &[u8]| {
    let pool = "10.0.0.1-10.0.0.200".parse().expect("a pool");
    let mut ear = Ear::new(Asked::new([7; 20]), Some(pool), Vec::new());
    let mut rest = bytes;
    while let [a, b, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b])).min(tail.len());
        let (frame, tail) = tail.split_at(length);
        ear.take(frame);
        rest = tail;
    }
    let _ = ear.findings();
});
