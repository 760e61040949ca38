//! What nodes answer, for people: pure.

use protocol::{
    boot::StageState,
    fleet::MachineStatus,
    inventory::Inventory,
    node_api::{
        AuditRecord, KernelLine, LogLine, NodeMetrics, NodeProcesses, NodeStage, NodeStatus,
    },
};

/// `3 d 4 h`, `12 min`, `5.2 s`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=59 => format!("{:.1} s", ms as f64 / 1e3),
        60..=3_599 => format!("{} min", seconds / 60),
        3_600..=86_399 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `1.5 GiB`, `300 MiB`, `12 KiB`.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30)),
    }
}

fn state(state: StageState) -> &'static str {
    match state {
        StageState::Started => "runs",
        StageState::Done => "done",
        StageState::Retrying => "retries",
        StageState::Failed => "failed",
    }
}

/// Rows under a heading, each column as wide as its widest cell; the last is not padded.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: Vec<[String; N]>) -> Vec<String> {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(heading)).chain(rows).collect()
}

/// `alia node list`. `now` is milliseconds since 1970.
pub fn machines(machines: &[MachineStatus], now: u64) -> Vec<String> {
    let row = |machine: &MachineStatus| {
        let or = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let stage = machine.boot.as_ref().and_then(|boot| boot.stages.last());
        let stage = stage.map(|stage| format!("{} {}", stage.name, state(stage.state)));
        [
            machine.name.clone(),
            or(machine.address.clone()),
            or(machine.node.map(|node| node.short())),
            format!("{} ago", duration(now.saturating_sub(machine.last_seen))),
            machine.problem.clone().unwrap_or_else(|| or(stage)),
        ]
    };
    table(["NAME", "ADDRESS", "NODE", "HEARD OF", "STATE"], machines.iter().map(row).collect())
}

/// `alia node status`. `whose` says what is known of its owner.
pub fn status(status: &NodeStatus, whose: &str) -> Vec<String> {
    let NodeStatus { memory, compute, .. } = status;
    let mut lines = vec![
        format!("name        {}", status.name),
        format!("node        {}", status.node),
        format!("owner       {whose}"),
        format!("address     {}", status.address.as_deref().unwrap_or("-")),
        format!("release     {} ({})", status.version, status.release),
        format!("kernel      {}", status.kernel),
        format!("health      {}", status.health),
        format!("up          {}", duration(status.uptime_ms)),
        format!("memory      {} of {} available", bytes(memory.available), bytes(memory.total)),
    ];
    let runs = match (compute.pid, compute.drained) {
        (Some(pid), false) => format!("process {pid}"),
        (Some(pid), true) => format!("drained; process {pid} finishes its work"),
        (None, true) => "drained; nothing runs".into(),
        (None, false) => "does not run".into(),
    };
    let starts = match compute.restarts {
        0 => String::new(),
        1 => ", started again once".into(),
        count => format!(", started again {count} times"),
    };
    lines.push(format!("compute     {runs}{starts}"));
    if let Some(problem) = &status.problem {
        let over = if problem.over { ", over now" } else { "" };
        let at = duration(problem.at_ms);
        let (stage, detail) = (&problem.stage, &problem.detail);
        lines.push(format!("problem     {stage}, {at} after power-on{over}: {detail}"));
    }
    lines
}

/// `alia node stages`.
pub fn stages(stages: &[NodeStage]) -> Vec<String> {
    let row = |stage: &NodeStage| {
        [
            stage.name.clone(),
            format!("{:.3}", stage.began_ms as f64 / 1e3),
            stage.took_ms.map_or("-".into(), |ms| format!("{:.3}", ms as f64 / 1e3)),
            state(stage.state).into(),
            stage.detail.clone(),
        ]
    };
    table(["STAGE", "AT S", "TOOK S", "STATE", "DETAIL"], stages.iter().map(row).collect())
}

/// A line of `alia node logs`.
pub fn log_line(line: &LogLine) -> String {
    format!("{:>10.3}  {}", line.at_ms as f64 / 1e3, line.text)
}

/// A line of `alia node dmesg`.
pub fn kernel_line(line: &KernelLine) -> String {
    const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    let level = LEVELS.get(usize::from(line.level)).unwrap_or(&"?");
    format!("{:>12.6}  {level:<6}  {}", line.at_us as f64 / 1e6, line.text)
}

/// `alia node inventory`.
pub fn inventory(inventory: &Inventory) -> Vec<String> {
    let (system, cpu) = (&inventory.system, &inventory.cpu);
    let firmware = if system.uefi { "UEFI" } else { "BIOS" };
    let mut lines = vec![
        format!("system      {} {}", system.vendor, system.product),
        format!("firmware    {} ({firmware})", system.firmware),
        format!("processor   {} ({} threads; {})", cpu.model, cpu.threads, cpu.features.join(" ")),
        format!("memory      {}", bytes(inventory.memory_bytes)),
    ];
    for nic in &inventory.nics {
        let driver = nic.driver.as_deref().unwrap_or("no driver");
        let booted = if nic.booted_from { ", booted from" } else { "" };
        lines.push(format!("nic         {} {} ({driver}{booted})", nic.name, nic.mac));
    }
    for disk in &inventory.disks {
        lines.push(format!("disk        {} {} {}", disk.name, bytes(disk.bytes), disk.model));
    }
    for gpu in &inventory.gpus {
        let name = gpu.name.as_deref().unwrap_or(&gpu.pci_id);
        let usable = match &gpu.usable {
            Ok(_) => "usable".into(),
            Err(why) => format!("not usable: {why}"),
        };
        lines.push(format!("gpu         {name} at {} ({usable})", gpu.address));
    }
    for function in &inventory.pci {
        let driver = function.driver.as_deref().unwrap_or("no driver");
        let (vendor, device, class) = (function.vendor, function.device, function.class);
        let address = &function.address;
        lines.push(format!("pci         {address} {vendor:04x}:{device:04x} {class:06x} {driver}"));
    }
    lines
}

/// `alia node metrics`.
pub fn metrics(metrics: &NodeMetrics) -> Vec<String> {
    let load = metrics.load_hundredths.map(|load| format!("{:.2}", load as f64 / 100.0));
    let busy =
        metrics.cpu_busy_ms as f64 / (metrics.cpu_busy_ms + metrics.cpu_idle_ms).max(1) as f64;
    let memory = &metrics.memory;
    let mut lines = vec![
        format!("up          {}", duration(metrics.uptime_ms)),
        format!("processors  {:.1} % busy since power-on, load {}", busy * 100.0, load.join(" ")),
        format!("memory      {} of {} available", bytes(memory.available), bytes(memory.total)),
        format!("killed      {} for want of memory", metrics.out_of_memory_kills),
        format!("compute     started again {} times", metrics.compute.restarts),
        format!("api         {} answered, {} refused", metrics.api.answered, metrics.api.refused),
    ];
    for interface in &metrics.interfaces {
        lines.push(format!(
            "network     {}: {} in, {} out, {} errors, {} dropped",
            interface.name,
            bytes(interface.received),
            bytes(interface.sent),
            interface.errors,
            interface.dropped
        ));
    }
    for sensor in &metrics.temperatures {
        let degrees = sensor.millidegrees as f64 / 1e3;
        lines.push(format!("sensor      {}: {degrees:.1} C", sensor.sensor));
    }
    lines
}

/// `alia node processes`.
pub fn processes(found: &NodeProcesses) -> Vec<String> {
    let rows = found.processes.iter().map(|process| {
        [
            process.pid.to_string(),
            process.name.clone(),
            process.user.to_string(),
            process.threads.to_string(),
            bytes(process.resident),
            format!("{:.2}", process.cpu_ms as f64 / 1e3),
            process.group.clone(),
        ]
    });
    let heading = ["PID", "NAME", "USER", "THREADS", "RESIDENT", "CPU S", "GROUP"];
    let mut lines = table(heading, rows.collect());
    lines.push(format!(
        "{} user processes, {} kernel threads",
        found.processes.len(),
        found.kernel_threads
    ));
    let listening: Vec<String> = found.listening.iter().map(ToString::to_string).collect();
    let listening = if listening.is_empty() { "nothing".to_owned() } else { listening.join(", ") };
    lines.push(format!("listening: {listening}"));
    lines
}

/// `alia node audit`.
pub fn audit(records: &[AuditRecord]) -> Vec<String> {
    let row = |record: &AuditRecord| {
        [
            format!("{:.3}", record.at_ms as f64 / 1e3),
            record.key.short(),
            record.role.to_string(),
            record.peer.clone(),
            record.status.to_string(),
            record.call.clone(),
        ]
    };
    table(["AT S", "KEY", "ROLE", "FROM", "STATUS", "CALL"], records.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{
        Digest, SecretKey,
        node_api::{ComputeStatus, Health, MemoryStatus, NodeProblem},
    };

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(
            [900, 61_000, 3_700_000, 90_000_000].map(duration),
            ["0.9 s", "1 min", "1 h 1 min", "1 d 1 h"]
        );
        assert_eq!([2_048, 5 << 20, 3 << 29].map(bytes), ["2 KiB", "5 MiB", "1.5 GiB"]);
    }

    #[test]
    fn a_status_says_how_the_node_is_and_what_went_wrong_last() {
        let detail = "eth0: no cable".to_owned();
        let problem = NodeProblem { stage: "network".into(), at_ms: 4_000, detail, over: true };
        let shown = status(
            &NodeStatus {
                node: SecretKey::from_seed([1; 32]).public(),
                name: "bear".into(),
                address: Some("10.0.0.3".into()),
                release: Digest([3; 32]),
                version: "0.1.0".into(),
                kernel: "6.12".into(),
                boot_id: Digest([7; 32]),
                health: Health::Drained,
                problem: Some(problem),
                unix_time: 5,
                uptime_ms: 3_700_000,
                memory: MemoryStatus { total: 1 << 30, available: 1 << 29 },
                compute: ComputeStatus { pid: Some(7), restarts: 2, drained: true },
                stages: vec![],
            },
            "alia1x",
        );
        let text = shown.join("\n");
        for line in [
            "health      drained",
            "up          1 h 1 min",
            "memory      512 MiB of 1.0 GiB available",
            "compute     drained; process 7 finishes its work, started again 2 times",
            "problem     network, 4.0 s after power-on, over now: eth0: no cable",
        ] {
            assert!(shown.iter().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let rows = vec![["a".into(), "b".into()], ["longer".into(), "".into()]];
        assert_eq!(table(["X", "Y"], rows), ["X       Y", "a       b", "longer"]);
    }
}
