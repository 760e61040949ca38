//! The node API: requests of whoever got in, certificates of whoever wants to, what the kernel
//! says of processes and itself, and what an operator types.
#![no_main]

use cli::node::{Wanted, target};
use fuzz::target;
use fuzz::{files::Files, parts};
use node_init::api::{kernel_log, metrics, processes, route::route};
use protocol::node_api::{ApiCounters, ComputeStatus, Operator, OperatorRole};
use rustls::pki_types::CertificateDer;

/// The files whose contents an input has, in turn.
const FILES: [&str; 11] = [
    "/proc/stat",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/vmstat",
    "/proc/net/dev",
    "/sys/class/hwmon/hwmon0/name",
    "/sys/class/hwmon/hwmon0/temp1_input",
    "/sys/class/hwmon/hwmon0/temp1_label",
    "/proc/7/stat",
    "/proc/7/status",
    "/proc/7/cgroup",
];

target!(|bytes: &[u8]| {
    if let Some(key) = mtls::certificate::key_of(&CertificateDer::from(bytes.to_vec())) {
        assert!(bytes.windows(32).any(|part| part == key.0), "a key that was not shown");
    }
    if let Some(line) = kernel_log::line(bytes) {
        assert!(line.level < 8 && !line.text.contains(char::is_control));
    }
    let mut kernel = Files::default();
    for (path, content) in FILES.into_iter().zip(parts::<{ FILES.len() }>(bytes)) {
        kernel.files.insert(path.into(), content.to_vec());
    }
    let measured = metrics::measure(&kernel, ComputeStatus::default(), ApiCounters::default());
    for line in metrics::prometheus(&measured).lines() {
        assert!(line.starts_with("# ") || line.starts_with("alia_"), "{line:?}");
    }
    for process in processes::list(&kernel).processes {
        assert!(!process.name.contains(char::is_control));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    for path in [path, "/v1/logs", "/v1/identify"] {
        if let Ok(call) = route("GET", path, Some(query)) {
            assert_eq!(call.needs(), OperatorRole::Reader, "{path} changes something");
        }
        let _ = route("POST", path, Some(query));
    }
    let _ = text.parse::<Operator>();
    if let Ok(wanted) = text.parse::<Wanted>() {
        let _ = target::find(&wanted, &[]);
    }
});
