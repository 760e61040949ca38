//! What a provisioner answers, for people: pure.

use crate::node::show::{duration, table};
use protocol::{
    configuration::{History, Member, Revision},
    console::ConsoleEntry,
    fleet::{
        CrashStatus, Life, MachineDetail, MachineState, MachineStatus, OperatorStatus,
        ProvisionerStatus, TimelineEvent,
    },
    plain,
};
use serde_json::Value;

/// The events of `alia fleet show`.
const EVENTS: usize = 20;

/// `alia fleet list`: those with a problem first, as nobody looks at a long list's end. `now` is
/// milliseconds since 1970.
pub fn machines(machines: &[MachineStatus], now: u64) -> Vec<String> {
    let mut machines: Vec<&MachineStatus> = machines.iter().collect();
    machines.sort_by_key(|machine| !needs_somebody(machine));
    let row = |machine: &&MachineStatus| {
        [
            machine.name.clone(),
            machine.mac.clone(),
            machine.life.state.as_str().into(),
            machine.address.clone().unwrap_or_else(|| "-".into()),
            format!("{} ago", duration(now.saturating_sub(machine.last_seen))),
            machine.problem.clone().unwrap_or_else(|| waits(&machine.life, now)),
        ]
    };
    let heading = ["NAME", "MAC", "STATE", "ADDRESS", "HEARD OF", "WHAT IT WAITS FOR"];
    table(heading, machines.iter().map(row).collect())
}

fn needs_somebody(machine: &MachineStatus) -> bool {
    let state = machine.life.state;
    machine.problem.is_some() || matches!(state, MachineState::Pending | MachineState::Quarantined)
}

fn waits(life: &Life, now: u64) -> String {
    let Some(what) = &life.waits_for else { return "-".into() };
    match life.deadline {
        Some(deadline) => format!("{what}, for {} more", duration(deadline.saturating_sub(now))),
        None => what.clone(),
    }
}

/// `alia fleet show`.
pub fn machine(detail: &MachineDetail, now: u64) -> Vec<String> {
    let machine = &detail.machine;
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut lines = vec![
        format!("name      {}", machine.name),
        format!("mac       {}", machine.mac),
        format!("state     {}", machine.life.state.as_str()),
        format!("waits for {}", waits(&machine.life, now)),
        format!("problem   {}", or(&machine.problem)),
        format!("address   {}", or(&machine.address)),
        format!("serial    {}", or(&machine.serial)),
        format!("firmware  {} by {}", or(&machine.firmware), or(&machine.boot_mode)),
        format!("node      {}", machine.node.map_or("-".into(), |node| node.to_string())),
        format!("heard of  {} ago", duration(now.saturating_sub(machine.last_seen))),
    ];
    lines.extend(machine.pending.map(|key| format!("pending   {key}")));
    if let Some(inventory) = &detail.inventory {
        let gpus = inventory.gpus.len();
        let (model, threads) = (&inventory.cpu.model, inventory.cpu.threads);
        let memory = inventory.memory_bytes >> 20;
        lines.push(format!("hardware  {model}, {threads} threads, {memory} MiB, {gpus} GPUs"));
    }
    if let Some(read) = &machine.readings {
        let power = read.said.milliwatts.map(|power| format!("{} W", power / 1_000));
        let heat = |millidegrees: i64| format!("{} °C", millidegrees / 1_000);
        let heats = read.said.cards.iter().filter_map(|card| card.millidegrees).map(heat);
        let heats = read.said.cpu_millidegrees.map(heat).into_iter().chain(heats);
        let said: Vec<String> = power.into_iter().chain(heats).collect();
        lines.push(format!("sensors   {}", said.join(", ")));
    }
    if let Some(boot) = &machine.boot {
        let stage = boot.stages.last().map_or("-", |stage| stage.name.as_str());
        lines.push(format!("boot      {:.1} s, up to {stage}", boot.seconds));
    }
    lines.extend(detail.crashes.iter().map(|crash| {
        let at = duration(now.saturating_sub(crash.at));
        let unproven = if crash.proven { "" } else { ", unproven" };
        format!("died      {at} ago: {} (log {}{unproven})", crash.reason, crash.id)
    }));
    lines.push(String::new());
    lines.extend(timeline(&detail.timeline[..detail.timeline.len().min(EVENTS)], now));
    lines
}

/// `alia fleet timeline`.
pub fn timeline(events: &[TimelineEvent], now: u64) -> Vec<String> {
    let line = |event: &TimelineEvent| {
        let at = duration(now.saturating_sub(event.at));
        format!("{at:>10} ago  {:<8}  {}", event.kind, event.text)
    };
    events.iter().map(line).collect()
}

/// `alia fleet crashes`.
pub fn crashes(crashes: &[CrashStatus], now: u64) -> Vec<String> {
    let lines = |crash: &CrashStatus| {
        let at = duration(now.saturating_sub(crash.at));
        let died = format!("died {at} ago: {} (log {})", crash.reason, crash.id);
        let found = crash.found.iter().map(|line| format!("  {}", plain(line)));
        std::iter::once(died).chain(found).collect::<Vec<_>>()
    };
    crashes.iter().flat_map(lines).collect()
}

/// A line of `alia fleet watch`.
pub fn event(event: &TimelineEvent) -> String {
    let seconds = event.at / 1_000 % 86_400;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let at = format!("{hours:02}:{minutes:02}:{seconds:02}Z");
    format!("{at}  {}  {:<8}  {}", event.mac, event.kind, event.text)
}

/// A line of `alia fleet console`, and one before it where lines are missing.
pub fn line(line: &ConsoleEntry) -> Vec<String> {
    let at = line.at_ms as f64 / 1e3;
    let text = format!("{at:>12.3}  {:<6}  {}", line.source.as_str(), line.text);
    let missing =
        (line.missing > 0).then(|| format!("              (lines are missing: {})", line.missing));
    missing.into_iter().chain([text]).collect()
}

/// `alia fleet groups list`.
pub fn groups(groups: &Value) -> Vec<String> {
    let row = |(name, group): (&String, &Value)| {
        let about = group.get("about").and_then(Value::as_str).unwrap_or_default();
        let keys = group.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let keys: Vec<&str> = keys.filter(|key| !matches!(*key, "about" | "labels")).collect();
        [name.clone(), keys.join(" "), about.to_owned()]
    };
    let rows = groups.as_object().into_iter().flatten().map(row).collect();
    table(["NAME", "SETS", "WHAT IT IS"], rows)
}

/// `alia fleet groups show` and so on: a table under its title.
pub fn group(title: &str, group: &Value) -> Vec<String> {
    let mut lines = vec![title.to_owned()];
    for (key, value) in group.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "labels") {
            Some(labels) => lines.extend(labels.iter().map(|(k, v)| format!("labels.{k} = {v}"))),
            None => lines.push(format!("{key} = {value}")),
        }
    }
    lines
}

/// `alia fleet groups machines`.
pub fn members(members: &[Member]) -> Vec<String> {
    let row = |member: &Member| {
        let by = member.rule.as_ref().map(|rule| format!("rule {rule}"));
        let name = member.name.clone().unwrap_or_else(|| "-".into());
        [member.mac.clone(), name, by.unwrap_or_else(|| "its own table".into())]
    };
    table(["MAC", "NAME", "BY"], members.iter().map(row).collect())
}

/// `alia fleet config show`: what holds, and whence.
pub fn effective(machine: &str, effective: &Value) -> Vec<String> {
    let mut lines = vec![format!("machine {machine}")];
    let groups = effective.get("groups").and_then(Value::as_array).into_iter().flatten();
    let groups: Vec<&str> = groups.filter_map(Value::as_str).collect();
    if !groups.is_empty() {
        lines.push(format!("groups = {}", groups.join(", ")));
    }
    for (part, before) in [("labels", "labels."), ("values", "")] {
        for (key, said) in effective.get(part).and_then(Value::as_object).into_iter().flatten() {
            let value = said.get("value").unwrap_or(&Value::Null);
            let from = said.get("from").and_then(Value::as_str).unwrap_or("-");
            lines.push(format!("{before}{key} = {value}  ({from})"));
        }
    }
    lines
}

/// `alia fleet groups history`.
pub fn history(history: &History, now: u64) -> Vec<String> {
    let row = |revision: &Revision| {
        [
            revision.revision.to_string(),
            format!("{} ago", duration(now.saturating_sub(revision.at))),
            revision.actor.clone(),
            revision.why.clone(),
        ]
    };
    let rows = history.revisions.iter().map(row).collect();
    let mut lines = table(["REVISION", "WHEN", "WHO", "WHY"], rows);
    if history.dropped > 0 {
        lines.push(format!("{} older ones are not kept any more", history.dropped));
    }
    lines
}

/// `alia fleet status`.
pub fn status(status: &ProvisionerStatus) -> Vec<String> {
    let mut lines = vec![
        format!("provisioner {} at {}", status.version, status.url),
        format!("dhcp        {}", status.dhcp),
        format!(
            "image       {}",
            status.image.as_ref().map_or("none", |image| &image.manifest.version)
        ),
        format!("machines    {}", status.machines),
    ];
    let work = &status.work;
    if status.upstream.ledger.is_some() {
        let pending = work.receipts.saturating_sub(work.confirmed);
        lines.push(format!("receipts    {} confirmed, {pending} pending", work.confirmed));
    }
    if work.measured > 0 {
        let watts = work.milliwatts / 1_000;
        lines.push(format!("power       {watts} W, of {} machines", work.measured));
    }
    lines.extend(status.states.iter().map(|(state, count)| format!("  {state:<12}{count}")));
    lines.extend(status.counters.iter().map(|(what, count)| format!("{what:<24}{count}")));
    lines
}

/// `alia fleet operators list`.
pub fn operators(operators: &[OperatorStatus], now: u64) -> Vec<String> {
    let row = |operator: &OperatorStatus| {
        [operator.name.clone(), format!("{} ago", duration(now.saturating_sub(operator.made)))]
    };
    table(["NAME", "MADE"], operators.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, life: serde_json::Value, problem: Option<&str>) -> MachineStatus {
        serde_json::from_value(serde_json::json!({
            "mac": "52:54:00:00:00:01", "name": name, "life": life, "problem": problem,
            "first_seen": 0, "last_seen": 1_000,
        }))
        .unwrap()
    }

    #[test]
    fn those_that_need_somebody_come_first() {
        let ready = serde_json::json!({"state": "ready", "since": 0});
        let pending = serde_json::json!(
            {"state": "pending", "since": 0, "waits_for": "an operator", "deadline": 61_000});
        let fleet = [
            machine("ant", ready.clone(), None),
            machine("bee", pending, None),
            machine("cow", ready, Some("its disk is full")),
        ];
        let lines = machines(&fleet, 1_000);
        assert!(lines[0].starts_with("NAME") && lines[3].starts_with("ant"), "{lines:?}");
        assert!(lines[1].ends_with("an operator, for 1 min more"), "{lines:?}");
        assert!(lines[2].ends_with("its disk is full"), "{lines:?}");
    }

    #[test]
    fn an_event_is_a_line() {
        let told = TimelineEvent {
            mac: "52:54:00:00:00:01".into(),
            at: 3_661_000,
            kind: "dhcp".into(),
            text: "offered".into(),
        };
        assert_eq!(event(&told), "01:01:01Z  52:54:00:00:00:01  dhcp      offered");
    }
}
