//! The kernel command line, which nobody vouches for.
#![no_main]

use fuzz::files::Files;
use fuzz::target;
use node_init::{
    http::Base,
    stages::command_line::{is_probe, parse},
};
use protocol::boot::{ARG_CHAIN, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE};

target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse(&text);
    // After one that is complete but for one argument, so that each of them is reached: what stands
    // twice with two values is refused before it is read.
    let digits = "ab".repeat(32);
    let whole = [
        (ARG_PROVISIONER, "http://10.1.2.1:8080"),
        (ARG_PROVISIONER_KEY, &*digits),
        (ARG_CHAIN, "alia"),
        (ARG_RELEASE, &*digits),
    ];
    for left_out in 0..=whole.len() {
        let given = whole.iter().enumerate().filter(|(at, _)| *at != left_out);
        let given: Vec<String> =
            given.map(|(_, (name, value))| format!("{name}={value}")).collect();
        let Ok(arguments) = parse(&format!("{} {text}", given.join(" "))) else { continue };
        let base = arguments.provisioner.to_string();
        assert!(base.starts_with("http://") || base.starts_with("https://"), "{base}");
        let again: Base = base.parse().expect("what was read is read again");
        assert_eq!(again.known_by(arguments.key), arguments.provisioner);
        assert_eq!(arguments.chain.to_string().parse().ok(), Some(arguments.chain));
        assert_eq!(arguments.release.to_string().parse().ok(), Some(arguments.release));
        if let Some(network) = arguments.network {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
    let mut kernel = Files::default();
    kernel.files.insert("/proc/cmdline".into(), bytes.to_vec());
    is_probe(&kernel);
});
