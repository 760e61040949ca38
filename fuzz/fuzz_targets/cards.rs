//! What NVIDIA's driver and the kernel say of cards and their faults, and the distribution's lists of
//! them.
#![no_main]

use fuzz::target;
use fuzz::{files::Files, parts};
use node_init::{
    nvidia::{
        told,
        xid::{self, MAX_TOLD, Watch},
    },
    stages::cards,
};
use protocol::node_api::KernelLine;

/// The files whose contents an input has, in turn.
const FILES: [&str; 7] = [
    "/etc/alia/nvidia.json",
    "/proc/devices",
    "/proc/driver/nvidia/gpus/0000:01:00.0/information",
    "/sys/bus/pci/devices/0000:01:00.0/vendor",
    "/sys/bus/pci/devices/0000:01:00.0/device",
    "/sys/bus/pci/devices/0000:01:00.0/class",
    "/lib/modules/6.12/modules.dep",
];

target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let information = told::information(&text);
    assert!(information.name.is_none_or(|name| !name.contains(char::is_control)));
    told::major(&text, "nvidia-uvm");
    let _ = image::nvidia::ids::branches("550.1", [("nvidia.ids", &*text)]);
    let _ = image::nvidia::patch::resize(&text, &text);
    let lines: Vec<KernelLine> = (0..)
        .zip(text.lines())
        .map(|(sequence, text)| KernelLine { level: 3, sequence, at_us: 0, text: text.into() })
        .collect();
    let mut watch = Watch::default();
    let (told, _) = watch.step(&lines);
    assert!(told.len() <= MAX_TOLD);
    assert!(watch.step(&lines).0.is_empty());
    lines.iter().filter_map(|line| xid::parse(&line.text)).for_each(|xid| drop(xid.to_string()));

    let mut kernel = Files::default();
    for (path, content) in FILES.into_iter().zip(parts::<{ FILES.len() }>(bytes)) {
        kernel.files.insert(path.into(), content.to_vec());
    }
    for (path, text) in
        [("/proc/sys/kernel/osrelease", "6.12"), ("/lib/modules/6.12/modules.alias", "")]
    {
        kernel.files.insert(path.into(), text.as_bytes().to_vec());
    }
    let _ = cards::run(&kernel, 900);
});
