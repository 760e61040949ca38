//! A TFTP packet: what opens a transfer, the file that it names, the options that it asks for.
#![no_main]

use fuzz::target;
use provisioner::tftp::{
    care::Care,
    name::wanted,
    options::{MAX_WINDOW, negotiate},
    packet::{self, FromClient, MAX_REQUEST_LEN},
};
use std::path::Component;

const MAX_BLKSIZE: u16 = 1468;

target!(|bytes: &[u8]| {
    if let FromClient::Error(_, text) = packet::parse(bytes) {
        assert!(text.len() <= 3 * bytes.len() && !text.contains(char::is_control));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        named(text);
    }
    let Ok(request) = packet::parse_request(bytes) else { return };
    assert!(bytes.len() <= MAX_REQUEST_LEN);
    named(&request.name);
    let care = wanted(&request.name).map(|found| found.care).unwrap_or_default();
    let terms = negotiate(&request.options, 1_000_000, MAX_BLKSIZE, &care);
    assert!(care.part().is_none_or(|part| Care::of_part(&part) == Some(care)));
    assert!(terms.pace.is_none_or(|pace| !pace.is_zero()));
    assert!((8..=MAX_BLKSIZE).contains(&terms.blksize) && (1..=MAX_WINDOW).contains(&terms.window));
    assert!((1..=255).contains(&terms.timeout.as_secs()));
    // Nothing is answered that was not asked, and nothing twice.
    assert!(terms.oack.len() <= 4);
    assert!(packet::oack(&terms.oack).len() <= MAX_REQUEST_LEN);
});

/// A path that is found leads down from its folder.
fn named(name: &str) {
    let Ok(found) = wanted(name) else { return };
    assert!(found.path.components().all(|part| matches!(part, Component::Normal(_))), "{found:?}");
    assert!(found.path.components().count() > 0 && found.path.as_os_str().len() <= name.len());
}
