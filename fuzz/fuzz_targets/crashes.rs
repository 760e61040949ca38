//! Records of pstore: what a kernel that died left in firmware's memory, which others write too.
#![no_main]

use fuzz::target;
use fuzz::{files::Files, texts};
use node_init::crash;
use protocol::boot::MAX_CRASH_LEN;
use std::path::Path;

/// The most records of one input.
const MOST: usize = 8;
const FOLDER: &str = "/sys/fs/pstore";
/// The longest word for why, in bytes.
const MAX_REASON: usize = 200;

target!(|bytes: &[u8]| {
    // A file's name after `dmesg-`, and what stands in it.
    let said = texts::<{ 2 * MOST }>(bytes);
    let mut kernel = Files::default();
    for record in said.chunks_exact(2) {
        let name = format!("dmesg-{}", record[0].replace('/', "-"));
        let content = record[1].as_bytes().to_vec();
        kernel.files.insert(Path::new(FOLDER).join(name), content);
    }
    let crashes = crash::read(&kernel);
    let files: Vec<_> = crashes.iter().flat_map(|crash| &crash.files).collect();
    assert_eq!(files.len(), kernel.files.len(), "each record is in one death");
    for crash in &crashes {
        assert!(crash.text.len() <= MAX_CRASH_LEN && crash.reason.len() <= MAX_REASON);
        assert!(!crash.reason.contains(char::is_control), "{:?}", crash.reason);
        crash::erase(&kernel, crash);
    }
});
