//! What nodes send of their consoles, and foreign lines that are to be shown.
#![no_main]

use fuzz::{parts, target};
use protocol::{
    console::{ConsoleBatch, MAX_CONSOLE_LINE, MAX_CONSOLE_LINES, readable, without_secrets},
    is_plain,
};
use provisioner::console::Head;

target!(|bytes: &[u8]| {
    let [batch, text] = parts(bytes);
    if let Ok(batch) = serde_json::from_slice::<ConsoleBatch>(batch) {
        let mut head = Head::new(batch.boot_id, 0);
        for now in [0, 1, 120_000] {
            let taken = head.take(batch.clone(), now);
            assert!(taken.len() <= MAX_CONSOLE_LINES);
            for taken in taken {
                assert!(taken.line.text.chars().all(is_plain));
                assert!(taken.line.text.len() <= MAX_CONSOLE_LINE);
            }
        }
        assert_eq!(head.take(batch, 120_001), [], "nothing is taken twice");
    }
    let text = String::from_utf8_lossy(text);
    let shown = readable(&text);
    assert!(shown.chars().all(is_plain) && shown.len() <= MAX_CONSOLE_LINE);
    let hidden = without_secrets(&text);
    assert!(!hidden.contains("alia-operator-"), "{hidden}");
});
