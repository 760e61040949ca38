//! What the kernel says of processes and sockets, as they are counted; a process gives itself its
//! name.
#![no_main]

use fuzz::target;
use fuzz::{files::Files, parts};
use node_init::{census, sockets};

/// The files whose contents an input has, in turn.
const FILES: [&str; 7] = [
    "/proc/57/status",
    "/proc/1/stat",
    "/proc/57/stat",
    "/proc/net/tcp",
    "/proc/net/tcp6",
    "/proc/net/udp",
    "/proc/net/udp6",
];

target!(|bytes: &[u8]| {
    let mut kernel = Files::default();
    for (path, content) in FILES.into_iter().zip(parts::<{ FILES.len() }>(bytes)) {
        kernel.files.insert(path.into(), content.to_vec());
    }
    let census = census::take(&kernel);
    assert!(census.processes.iter().all(|process| [1, 57].contains(&process.pid)));
    assert!(census.processes.len() <= 2);
    // A line each: a table's, or the last of a file.
    let lines = bytes.split(|byte| [0, b'\n'].contains(byte)).count();
    let listening = sockets::listening(&kernel);
    assert!(listening.len() <= lines, "{listening:?}");
});
