//! Spanning tree: how long a port waits before it forwards, against how long firmware asks.

use super::{
    finding::{Check, Finding},
    heard::{Bridge, Ear},
    host::Host,
    neighbour::Neighbour,
    text::list,
};
use crate::machine::Mac;
use std::collections::BTreeMap;

/// Seconds after its first DISCOVER at which EDK2 and PXE ROMs send the last one: they wait 4, 8
/// and 16 s before, and 32 s behind it (EDK2's `PxeBcDhcp4.c`, PXE 2.1).
const LAST_DISCOVER: f32 = 28.0;
/// When they give up.
const GIVE_UP: f32 = 60.0;

/// A bridge of this host's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Local {
    pub(super) name: String,
    pub(super) address: Option<Mac>,
    /// 0 off, 1 the kernel's, 2 a program's (mstpd).
    pub(super) state: Option<u32>,
    /// Seconds.
    pub(super) forward_delay: Option<f32>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) interface: String,
    /// Why nothing was listened to.
    pub(super) deaf: Option<String>,
    pub(super) seconds: u64,
    pub(super) bridges: Vec<Bridge>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) local: Option<Local>,
    /// /sys does not know the interface: it shows another network namespace's.
    pub(super) blind: bool,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(seen.local.as_ref().map(own));
    if seen.blind {
        findings.push(Finding::unknown(
            Check::SpanningTree,
            format!("whether {} is, or is a port of, a bridge of ours", seen.interface),
            "/sys does not know it: it shows another network namespace's interfaces",
            "run it by `ip netns exec`, which mounts the right one",
        ));
    }
    if let Some(why) = &seen.deaf {
        findings.push(Finding::unknown(
            Check::SpanningTree,
            "what switches here say",
            why.clone(),
            "run it as root, or with CAP_NET_RAW",
        ));
        return findings;
    }
    let mine = seen.local.as_ref().and_then(|local| local.address);
    let foreign = |bridge: &&Bridge| bridge.last.says.is_none_or(|says| Some(says.bridge) != mine);
    findings.extend(trees(seen.bridges.iter().filter(foreign)));
    let heard = seen.bridges.iter().filter(foreign).count();
    if heard == 0 {
        let name = &seen.interface;
        findings.push(Finding::ok_for(
            Check::SpanningTree,
            format!("no switch spoke of spanning tree at {name} in {} s", seen.seconds),
            "they speak every 2 s; one that filters it at our port, or whose ports are edge ports \
             with a BPDU filter, is not heard, so look at its machines' ports too",
        ));
    }
    for neighbour in &seen.neighbours {
        findings.push(Finding::ok(
            Check::SpanningTree,
            format!("we are at port {} of the switch {}", neighbour.port, neighbour.switch),
        ));
    }
    if seen.neighbours.is_empty() && heard > 0 {
        findings.push(Finding::ok_for(
            Check::SpanningTree,
            format!("no switch told its name in {} s", seen.seconds),
            "LLDP speaks every 30 s, CDP every 60 s: `--seconds 65` hears both",
        ));
    }
    findings
}

/// A bridge of our own, whose ports are the machines'.
fn own(local: &Local) -> Finding {
    let name = &local.name;
    match (local.state, local.forward_delay) {
        (Some(0), _) => Finding::ok(
            Check::SpanningTree,
            format!("our bridge {name} has no spanning tree: its ports forward at once"),
        ),
        (Some(_), Some(0.0)) => Finding::ok(
            Check::SpanningTree,
            format!("our bridge {name} has spanning tree with no forward delay"),
        ),
        (Some(_), Some(delay)) => {
            let change = format!(
                "where it has no loops: `ip link set {name} type bridge stp_state 0`; else the \
                 least that the kernel takes with it, `ip link set {name} type bridge \
                 forward_delay 200` (2 s)"
            );
            let what = format!(
                "our bridge {name} has spanning tree: each of its ports waits {} s",
                2.0 * delay
            );
            match 2.0 * delay >= LAST_DISCOVER {
                true => Finding::problem(Check::SpanningTree, what, lost(2.0 * delay), change),
                false => Finding::advice(Check::SpanningTree, what, lost(2.0 * delay), change),
            }
        }
        (None, _) | (_, None) => Finding::unknown(
            Check::SpanningTree,
            format!("whether our bridge {name} has spanning tree"),
            "/sys does not tell",
            format!("`ip -details link show {name}` tells stp_state and forward_delay"),
        ),
    }
}

/// What a port's wait does to a machine that boots behind it.
fn lost(wait: f32) -> String {
    let asks = [0.0, 4.0, 12.0, LAST_DISCOVER];
    let heard = asks.iter().find(|&&at| at >= wait);
    let links = "firmware, iPXE and Linux each may take the link down and up again, and it waits \
                 each time";
    match heard {
        None => format!(
            "firmware asks for an address 0, 4, 12 and {LAST_DISCOVER} s after its link is up and \
             gives up at {GIVE_UP} s; a port that waits {wait} s drops all four, and the machine \
             says \"no DHCP offer\"; {links}"
        ),
        Some(at) => format!(
            "firmware asks for an address 0, 4, 12 and {LAST_DISCOVER} s after its link is up; a \
             port that waits {wait} s drops those before its {at}th second; {links}"
        ),
    }
}

/// One finding a tree: the bridges that are one's, and what it makes ports wait.
fn trees<'a>(bridges: impl Iterator<Item = &'a Bridge>) -> Vec<Finding> {
    // By what they speak and whose root it is: one network may have many VLANs' trees.
    let mut trees: BTreeMap<_, Vec<&Bridge>> = BTreeMap::new();
    for bridge in bridges {
        let root = bridge.last.says.map(|says| says.root);
        trees.entry((bridge.last.version, root)).or_default().push(bridge);
    }
    trees.into_iter().flat_map(|((version, root), bridges)| {
        let kind = version.name();
        let vlans: Vec<u16> = bridges.iter().filter_map(|bridge| bridge.last.vlan).collect();
        let of = match vlans.as_slice() {
            [] => String::new(),
            [one] => format!(" for VLAN {one}"),
            many => format!(" for VLANs {}", list(many)),
        };
        let mut findings = Vec::new();
        let longest = bridges
            .iter()
            .filter_map(|bridge| bridge.last.says)
            .max_by(|a, b| a.forward_delay.total_cmp(&b.forward_delay));
        if let (Some(says), Some(root)) = (longest, root) {
            let (wait, port) = (2.0 * says.forward_delay, says.port & 0x0fff);
            let what = format!(
                "a switch ({}, its port {port}, root {root}) speaks {kind}{of}: forward delay {} \
                 s, hello {} s",
                says.bridge, says.forward_delay, says.hello
            );
            let why = format!(
                "a port that is not an edge port waits {wait} s before it forwards: {}",
                lost(wait)
            );
            let change = "make each machine's port an edge port: `spanning-tree portfast` (Cisco), \
                          `spanning-tree edge-port`, \"admin edge\" or \"edge: yes\" (others), on \
                          access ports only; on a trunk `portfast trunk`"
                .to_string();
            findings.push(Finding::advice(Check::SpanningTree, what, why, change));
        }
        if bridges.iter().any(|bridge| bridge.changed) {
            findings.push(Finding::advice(
                Check::SpanningTree,
                format!("the tree of {kind}{of} is changing just now"),
                "ports come and go, and switches forget where machines are; a machine's link that \
                 goes up does that too, where its port is not an edge port",
                "make machines' ports edge ports; else look for a cable or switch that comes and \
                 goes",
            ));
        }
        findings
    }).collect()
}

/// Looks at /sys, and takes what was heard.
pub(super) fn look(
    host: &Host,
    interface: &str,
    ear: &Ear,
    deaf: Option<String>,
    seconds: u64,
) -> Seen {
    let is_bridge = host.has(&format!("sys/class/net/{interface}/bridge"));
    let name = if is_bridge { Some(interface.to_string()) } else { host.bridge_of(interface) };
    let local = name.map(|name| {
        let path = format!("sys/class/net/{name}");
        Local {
            address: host.text(&format!("{path}/address")).and_then(|mac| mac.parse().ok()),
            state: host.number(&format!("{path}/bridge/stp_state")),
            // Hundredths of a second.
            forward_delay: host
                .number::<f32>(&format!("{path}/bridge/forward_delay"))
                .map(|hundredths| hundredths / 100.0),
            name,
        }
    });
    Seen {
        interface: interface.into(),
        deaf,
        seconds,
        bridges: ear.bridges.clone(),
        neighbours: ear.heard.neighbours.clone(),
        local,
        blind: !host.has(&format!("sys/class/net/{interface}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            bpdu::{Bpdu, Says, Version},
            finding::Verdict,
        },
        *,
    };

    fn bridge(delay: f32, changes: bool) -> Bridge {
        let mac = Mac([2, 0, 0, 0, 0, 5]);
        let says = Says { root: mac, bridge: mac, port: 0x8003, hello: 2.0, forward_delay: delay };
        let last = Bpdu { version: Version::Stp, vlan: Some(7), says: Some(says), changes };
        Bridge { sender: mac, last, changed: changes }
    }

    fn local(state: u32, delay: f32) -> Option<Local> {
        Some(Local {
            name: "br0".into(),
            address: Some(Mac([2, 0, 0, 0, 0, 5])),
            state: Some(state),
            forward_delay: Some(delay),
        })
    }

    #[test]
    fn a_delay_of_fifteen_seconds_outlasts_every_discover() {
        assert!(lost(30.0).contains("drops all four"));
        assert!(lost(8.0).contains("before its 12th second"));
        let found = judge(&Seen { bridges: vec![bridge(15.0, true)], ..Seen::default() });
        let said = &found[0];
        assert_eq!(said.verdict, Verdict::Advice);
        assert!(said.what.contains("forward delay 15 s, hello 2 s"), "{said:?}");
        assert!(said.what.contains("VLAN 7") && said.what.contains("its port 3"));
        assert!(said.change.contains("portfast"));
        assert!(found[1].what.contains("changing just now"));
    }

    #[test]
    fn our_own_bridge_with_spanning_tree_is_a_problem_and_is_no_switch_too() {
        let seen =
            Seen { bridges: vec![bridge(15.0, false)], local: local(1, 15.0), ..Seen::default() };
        let found = judge(&seen);
        assert_eq!(found[0].verdict, Verdict::Problem);
        assert!(found[0].change.contains("stp_state 0"));
        assert!(found[1].what.contains("no switch spoke"), "{found:?}");
        let off = judge(&Seen { local: local(0, 15.0), ..Seen::default() });
        assert!(off.iter().all(|finding| finding.verdict == Verdict::Ok));
        let short = judge(&Seen { local: local(1, 2.0), ..Seen::default() });
        assert_eq!(short[0].verdict, Verdict::Advice);
    }

    #[test]
    fn who_may_not_listen_says_so() {
        let found = judge(&Seen { deaf: Some("no right".into()), ..Seen::default() });
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Unknown));
        let found = judge(&Seen { blind: true, ..Seen::default() });
        assert_eq!(found[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn a_switch_that_names_itself_is_named() {
        let neighbours = vec![Neighbour { switch: "sw-7".into(), port: "ge3".into() }];
        let found = judge(&Seen { neighbours, ..Seen::default() });
        assert!(found.iter().any(|finding| finding.what.contains("port ge3 of the switch sw-7")));
    }
}
