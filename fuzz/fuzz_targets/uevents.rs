//! What the kernel says of devices that appear, and whoever else can send to that socket.
#![no_main]

use fuzz::{parts, target};
use node_init::hotplug::{Intake, uevent};
use std::time::Duration;

target!(|bytes: &[u8]| {
    let mut intake = Intake::default();
    let mut now = Duration::ZERO;
    for datagram in parts::<16>(bytes) {
        // The parts are told apart by zero bytes, as a datagram's words are.
        let datagram: Vec<u8> =
            datagram.iter().map(|byte| if *byte == b';' { 0 } else { *byte }).collect();
        if let Some(event) = uevent::parse(&datagram) {
            assert!(!event.action.is_empty() && event.path.starts_with('/'));
            intake.push(now, event.modalias);
            now += Duration::from_millis(70);
            intake.take(now);
        }
    }
});
