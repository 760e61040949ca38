//! The kernel command line, which nobody vouches for.
#![no_main]

use fuzz::files::Files;
use libfuzzer_sys::fuzz_target;
use node_init::stages::command_line::{is_probe, parse};
use protocol::boot::{ARG_CHAIN, ARG_PROVISIONER, ARG_PROVISIONER_KEY, ARG_RELEASE};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = parse(&text);
    // After one that is complete, so that each argument is reached; the last one counts.
    let digits = "ab".repeat(32);
    let line = format!(
        "{ARG_PROVISIONER}=http://10.1.2.1:8080 {ARG_PROVISIONER_KEY}={digits} \
         {ARG_CHAIN}=alia {ARG_RELEASE}={digits} {text}"
    );
    if let Ok(arguments) = parse(&line) {
        let base = arguments.provisioner.to_string();
        assert!(base.starts_with("http://") && base.parse() == Ok(arguments.provisioner));
        if let Some(network) = arguments.network {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    }
    let mut kernel = Files::default();
    kernel.files.insert("/proc/cmdline".into(), bytes.to_vec());
    is_probe(&kernel);
});
