//! What is measured of the machine, from /proc and /sys, and Prometheus' text of it
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use crate::{
    kernel::{Kernel, text},
    status::milliseconds,
};
use protocol::node_api::{
    ApiCounters, ComputeStatus, InterfaceCounters, MemoryStatus, NodeMetrics, Temperature,
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// The most interfaces and the most sensors.
const MAX_LISTED: usize = 128;
/// The longest name.
const MAX_NAME: usize = 64;
/// Ticks a second of /proc's times: `USER_HZ`.
const TICK_MS: u64 = 10;

/// Measures. What cannot be read is zero, or left out of its list.
pub fn measure(kernel: &dyn Kernel, compute: ComputeStatus, api: ApiCounters) -> NodeMetrics {
    let file = |path: &str| text(kernel, path).unwrap_or_default();
    let (cpu_busy_ms, cpu_idle_ms) = cpu(&file("/proc/stat"));
    NodeMetrics {
        uptime_ms: milliseconds(kernel.since_start()),
        cpu_busy_ms,
        cpu_idle_ms,
        load_hundredths: load(&file("/proc/loadavg")),
        memory: memory(kernel),
        out_of_memory_kills: named(&file("/proc/vmstat"), "oom_kill").unwrap_or(0),
        interfaces: interfaces(&file("/proc/net/dev")),
        temperatures: temperatures(kernel),
        compute,
        api,
    }
}

/// /proc/meminfo.
pub fn memory(kernel: &dyn Kernel) -> MemoryStatus {
    let text = text(kernel, "/proc/meminfo").unwrap_or_default();
    let kilobytes = |name| named(&text, name).unwrap_or(0).saturating_mul(1024);
    MemoryStatus { total: kilobytes("MemTotal:"), available: kilobytes("MemAvailable:") }
}

/// The first number of the line that begins with this word.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_ascii_whitespace);
    let mut line = words.find(|words| words.clone().next() == Some(name))?;
    line.nth(1)?.parse().ok()
}

/// Busy and idle time of /proc/stat's first line (proc_stat(5)): user nice system idle iowait irq
/// softirq steal; guests' time is in user's already.
fn cpu(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let (mut busy, mut idle) = (0u64, 0u64);
    for (place, ticks) in line.split_ascii_whitespace().take(8).enumerate() {
        let time = ticks.parse::<u64>().unwrap_or(0).saturating_mul(TICK_MS);
        let sum = if place == 3 || place == 4 { &mut idle } else { &mut busy };
        *sum = sum.saturating_add(time);
    }
    (busy, idle)
}

fn load(text: &str) -> [u64; 3] {
    let mut words = text.split_ascii_whitespace();
    [(); 3]
        .map(|()| {
            let (whole, part) = words.next()?.split_once('.')?;
            let whole = whole.parse::<u64>().ok()?.checked_mul(100)?;
            whole.checked_add(part.parse::<u64>().ok().filter(|part| *part < 100)?)
        })
        .map(Option::unwrap_or_default)
}

/// /proc/net/dev: after the name eight numbers received, then eight sent; of each the first is
/// bytes, the third errors, the fourth dropped.
fn interfaces(text: &str) -> Vec<InterfaceCounters> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        let number = |place: usize| numbers.get(place).copied();
        Some(InterfaceCounters {
            name: name_of(name.trim()),
            received: number(0)?,
            sent: number(8)?,
            errors: number(2)?.saturating_add(number(10)?),
            dropped: number(3)?.saturating_add(number(11)?),
        })
    };
    let all = text.lines().filter_map(interface);
    all.filter(|interface| interface.name != "lo").take(MAX_LISTED).collect()
}

/// /sys/class/hwmon: a chip's name, its sensors' labels, thousandths of degrees.
pub(crate) fn temperatures(kernel: &dyn Kernel) -> Vec<Temperature> {
    let root = Path::new("/sys/class/hwmon");
    let mut found = Vec::new();
    for chip in kernel.list(root).unwrap_or_default() {
        let folder = root.join(chip.name);
        let name = text(kernel, folder.join("name")).unwrap_or_default();
        for entry in kernel.list(&folder).unwrap_or_default() {
            let Some(sensor) = entry.name.strip_suffix("_input") else { continue };
            if !sensor.starts_with("temp") || found.len() >= MAX_LISTED {
                continue;
            }
            let file = |suffix: &str| -> PathBuf { folder.join(format!("{sensor}_{suffix}")) };
            let degrees = text(kernel, file("input")).and_then(|text| text.parse().ok());
            let Some(millidegrees) = degrees else { continue };
            let label = text(kernel, file("label")).unwrap_or_else(|| sensor.to_owned());
            found.push(Temperature { sensor: name_of(&format!("{name} {label}")), millidegrees });
        }
    }
    found
}

/// A foreign name: cut, one line, and nothing in it that a label of Prometheus' would end at.
fn name_of(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c == '"' || c == '\\' { ' ' } else { c };
    let name: String = text.chars().map(plain).take(MAX_NAME).collect();
    name.trim().to_owned()
}

/// Prometheus' text of it.
pub fn prometheus(metrics: &NodeMetrics) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // A string takes every write.
        let _ = writeln!(out, "# HELP alia_{name} {help}\n# TYPE alia_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "alia_{name}{labels} {value}");
        }
    };
    let plain = |value: f64| [(String::new(), value)];
    let seconds = |ms: u64| ms as f64 / 1e3;
    family(
        "uptime_seconds",
        "gauge",
        "Since the kernel started.",
        &plain(seconds(metrics.uptime_ms)),
    );
    let cpu = [("busy", metrics.cpu_busy_ms), ("idle", metrics.cpu_idle_ms)];
    let cpu = cpu.map(|(mode, ms)| (format!("{{mode=\"{mode}\"}}"), seconds(ms)));
    family("cpu_seconds_total", "counter", "Processor time of all processors.", &cpu);
    let load = ["1", "5", "15"].into_iter().zip(metrics.load_hundredths);
    let load: Vec<_> =
        load.map(|(m, n)| (format!("{{minutes=\"{m}\"}}"), n as f64 / 100.0)).collect();
    family("load_average", "gauge", "Load averages.", &load);
    let memory = &metrics.memory;
    family("memory_bytes", "gauge", "Memory in all.", &plain(memory.total as f64));
    let available = plain(memory.available as f64);
    family("memory_available_bytes", "gauge", "Memory that can be had.", &available);
    let kills = plain(metrics.out_of_memory_kills as f64);
    family("out_of_memory_kills_total", "counter", "Processes killed for memory.", &kills);
    let network = |value: fn(&InterfaceCounters) -> u64| -> Vec<(String, f64)> {
        let sample =
            |i: &InterfaceCounters| (format!("{{interface=\"{}\"}}", i.name), value(i) as f64);
        metrics.interfaces.iter().map(sample).collect()
    };
    family("network_received_bytes_total", "counter", "Bytes in.", &network(|i| i.received));
    family("network_sent_bytes_total", "counter", "Bytes out.", &network(|i| i.sent));
    family("network_errors_total", "counter", "Packets in error.", &network(|i| i.errors));
    family("network_dropped_total", "counter", "Packets dropped.", &network(|i| i.dropped));
    let sensor =
        |t: &Temperature| (format!("{{sensor=\"{}\"}}", t.sensor), t.millidegrees as f64 / 1e3);
    let sensors: Vec<_> = metrics.temperatures.iter().map(sensor).collect();
    family("temperature_celsius", "gauge", "Temperatures.", &sensors);
    let compute = &metrics.compute;
    let running = plain(f64::from(u8::from(compute.pid.is_some())));
    family("compute_running", "gauge", "Whether the compute service runs.", &running);
    let restarts = plain(compute.restarts as f64);
    family("compute_restarts_total", "counter", "Starts after the first.", &restarts);
    let drained = plain(f64::from(u8::from(compute.drained)));
    family("compute_drained", "gauge", "Whether an operator drained the node.", &drained);
    let (answered, refused) = (metrics.api.answered as f64, metrics.api.refused as f64);
    family("api_answered_total", "counter", "Requests answered.", &plain(answered));
    family("api_refused_total", "counter", "Handshakes that failed.", &plain(refused));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;

    const NET: &str = "Inter-|   Receive                            |  Transmit\n face |bytes packets\n\
        \u{20}   lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";

    fn machine() -> Fake {
        Fake::new(&[
            ("/proc/stat", "cpu  100 1 50 1000 10 2 3 4 0 0\ncpu0 1 2 3 4\n"),
            ("/proc/loadavg", "0.05 1.50 12.00 1/99 123\n"),
            ("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n"),
            ("/proc/vmstat", "oom_killer 7\noom_kill 2\n"),
            ("/proc/net/dev", NET),
            ("/sys/class/hwmon/hwmon0/name", "coretemp\n"),
            ("/sys/class/hwmon/hwmon0/temp1_input", "45000\n"),
            ("/sys/class/hwmon/hwmon0/temp1_label", "Package \"0\"\n"),
            ("/sys/class/hwmon/hwmon0/fan1_input", "900\n"),
        ])
    }

    #[test]
    fn a_machine_is_measured() {
        let metrics = measure(&machine(), ComputeStatus::default(), ApiCounters::default());
        assert_eq!((metrics.cpu_busy_ms, metrics.cpu_idle_ms), (1_600, 10_100));
        assert_eq!(metrics.load_hundredths, [5, 150, 1200]);
        assert_eq!(metrics.memory, MemoryStatus { total: 1_024_000, available: 614_400 });
        assert_eq!(metrics.out_of_memory_kills, 2);
        let eth0 = InterfaceCounters {
            name: "eth0".into(),
            received: 1000,
            sent: 2000,
            errors: 4,
            dropped: 6,
        };
        assert_eq!(metrics.interfaces, [eth0]);
        let package = Temperature { sensor: "coretemp Package  0".into(), millidegrees: 45_000 };
        assert_eq!(metrics.temperatures, [package]);
    }

    #[test]
    fn prometheus_gets_a_family_of_each() {
        let compute = ComputeStatus { pid: Some(7), restarts: 3, drained: false };
        let api = ApiCounters { answered: 5, refused: 1 };
        let text = prometheus(&measure(&machine(), compute, api));
        for line in [
            "# TYPE alia_cpu_seconds_total counter",
            "alia_cpu_seconds_total{mode=\"busy\"} 1.6",
            "alia_load_average{minutes=\"15\"} 12",
            "alia_memory_available_bytes 614400",
            "alia_network_sent_bytes_total{interface=\"eth0\"} 2000",
            "alia_temperature_celsius{sensor=\"coretemp Package  0\"} 45",
            "alia_compute_running 1",
            "alia_compute_restarts_total 3",
            "alia_api_refused_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_the_kernel_panics_or_forges_a_sample(
            foreign in "(cpu |oom_kill|MemTotal:|eth0:|[0-9]{0,22}|[.: \"\\\\]|\\PC|\n){0,60}",
        ) {
            let files = ["/proc/stat", "/proc/loadavg", "/proc/meminfo", "/proc/vmstat",
                "/proc/net/dev", "/sys/class/hwmon/x/name", "/sys/class/hwmon/x/temp1_input",
                "/sys/class/hwmon/x/temp1_label"];
            let files: Vec<_> = files.iter().map(|path| (*path, foreign.as_str())).collect();
            let fake = Fake::new(&files);
            let metrics = measure(&fake, ComputeStatus::default(), ApiCounters::default());
            for line in prometheus(&metrics).lines() {
                prop_assert!(line.starts_with("# ") || line.starts_with("alia_"), "{}", line);
            }
        }
    }
}
