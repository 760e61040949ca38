//! What apt and its sources say of packages, and a package's own first header.
#![no_main]

use fuzz::{switches, target};
use image::packages::{apt, deb_time, sources};

target!(|bytes: &[u8]| {
    deb_time(bytes);
    let Some((switch, text)) = switches(bytes) else { return };
    let text = String::from_utf8_lossy(text);
    for stanza in apt::stanzas(&text) {
        // It becomes a file's name.
        assert!(stanza.sha256.len() == 64 && stanza.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    let found = sources::parse(&text, switch(0));
    let ours = sources::for_suite(&found, "bookworm", "trixie", &["main".into()]);
    let written = sources::write(&ours);
    assert!(!written.to_lowercase().lines().any(|line| line.starts_with("trusted")), "{written}");
    assert_eq!(sources::parse(&written, true), ours, "{written}");
    sources::is_mirror(&text);
});
