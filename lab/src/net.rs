//! The network inside the sandbox: one bridge with the server's address, a TAP device for each
//! machine, and a namespace with a foreign DHCP server's interface.

use crate::error::{At, Error};
use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

/// The bridge, and the server's interface on it.
pub const BRIDGE: &str = "lab0";
/// The server's address; the network is its /24.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The server's IPv6 address, where a test gives it one ([`address6`]); the network is its /64.
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 1);
/// The address of the foreign DHCP server.
pub const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The foreign server's network namespace.
pub const FOREIGN_NAMESPACE: &str = "foreign";
/// The foreign server's interface in it.
pub const FOREIGN_INTERFACE: &str = "uplink";

/// The network behind the router, where there is one; of machines alone.
pub const FAR_BRIDGE: &str = "lab1";
/// The router's address there; the network is its /24.
pub const FAR_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// Its IPv6 address there; the network is its /64.
pub const FAR_ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x78, 0, 0, 0, 0, 0, 1);
/// The router's address on the server's network.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
/// Its IPv6 address there.
pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 3);
/// The router's network namespace.
pub const ROUTER_NAMESPACE: &str = "router";
/// The router's interface on the far network.
pub const ROUTER_FAR: &str = "far";

/// What the network has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One TAP device each; names of at most 15 bytes.
    pub taps: Vec<String>,
    /// Whether there is a namespace for a foreign DHCP server.
    pub foreign: bool,
}

/// The arguments of `ip`, line by line, that make the network. Pure.
pub fn commands(plan: &Plan) -> Vec<String> {
    let mut lines = vec![
        // No spanning tree and no forward delay: a port that learns for 30 s loses firmware's
        // first DISCOVERs, which is a lesson for another test.
        format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
        // Without it the bridge takes the lowest address among its ports, and changes.
        format!("link set {BRIDGE} address 02:a1:1a:00:00:01"),
        format!("address add {SERVER}/24 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
    ];
    for tap in &plan.taps {
        lines.extend([
            format!("tuntap add dev {tap} mode tap"),
            format!("link set {tap} master {BRIDGE}"),
            format!("link set {tap} up"),
        ]);
    }
    if plan.foreign {
        let port = "foreign0";
        lines.extend([
            format!("netns add {FOREIGN_NAMESPACE}"),
            format!(
                "link add {port} type veth peer name {FOREIGN_INTERFACE} netns {FOREIGN_NAMESPACE}"
            ),
            format!("link set {port} master {BRIDGE}"),
            format!("link set {port} up"),
        ]);
    }
    lines
}

/// Makes the network in the namespace that this process is in.
pub fn make(plan: &Plan) -> Result<(), Error> {
    ip(&commands(plan))?;
    if plan.foreign {
        let lines = [
            "link set lo up".to_string(),
            format!("address add {FOREIGN}/24 dev {FOREIGN_INTERFACE}"),
            format!("link set {FOREIGN_INTERFACE} up"),
        ];
        ip_in(FOREIGN_NAMESPACE, &lines)?;
    }
    Ok(())
}

/// A second network with those TAP devices, behind a router; the server knows the way there.
pub fn make_far(taps: &[String]) -> Result<(), Error> {
    ip(&far_commands(taps))?;
    // The server is not on it, and must not hear its router: a route of its own would lead there.
    let off = format!("/proc/sys/net/ipv6/conf/{FAR_BRIDGE}/disable_ipv6");
    fs::write(&off, "1").at(off)?;
    let near = "near";
    let lines = [
        "link set lo up".to_string(),
        format!("address add {ROUTER}/24 dev {near}"),
        format!("address add {ROUTER6}/64 dev {near} nodad"),
        format!("address add {FAR_ROUTER}/24 dev {ROUTER_FAR}"),
        format!("address add {FAR_ROUTER6}/64 dev {ROUTER_FAR} nodad"),
        format!("link set {near} up"),
        format!("link set {ROUTER_FAR} up"),
    ];
    ip_in(ROUTER_NAMESPACE, &lines)?;
    for forwarding in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{ROUTER_NAMESPACE}"))
            .args(["sh", "-c", &format!("echo 1 > /proc/sys/{forwarding}")])
            .output()
            .at("nsenter")?;
        if !output.status.success() {
            let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(Error::Tool { tool: "forwarding", detail });
        }
    }
    Ok(())
}

/// The arguments of `ip`, line by line, that make it but for the router's inside. Pure.
fn far_commands(taps: &[String]) -> Vec<String> {
    let mut lines = vec![
        format!("netns add {ROUTER_NAMESPACE}"),
        format!("link add {FAR_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
        format!("link set {FAR_BRIDGE} up"),
    ];
    for (port, peer, bridge) in [("near0", "near", BRIDGE), ("far0", ROUTER_FAR, FAR_BRIDGE)] {
        lines.extend([
            format!("link add {port} type veth peer name {peer} netns {ROUTER_NAMESPACE}"),
            format!("link set {port} master {bridge}"),
            format!("link set {port} up"),
        ]);
    }
    for tap in taps {
        lines.extend([
            format!("tuntap add dev {tap} mode tap"),
            format!("link set {tap} master {FAR_BRIDGE}"),
            format!("link set {tap} up"),
        ]);
    }
    lines.extend([
        format!("route add 10.78.0.0/24 via {ROUTER}"),
        format!("route add fd00:78::/64 via {ROUTER6}"),
    ]);
    lines
}

/// As [`ip`], in another network namespace.
pub fn ip_in(namespace: &str, lines: &[String]) -> Result<(), Error> {
    batch(Command::new("nsenter").arg(format!("--net=/run/netns/{namespace}")).arg("ip"), lines)
}

/// Gives the server its IPv6 address, usable at once.
pub fn address6() -> Result<(), Error> {
    ip(&[format!("address add {SERVER6}/64 dev {BRIDGE} nodad")])
}

/// Runs `ip` commands in order, until one fails.
pub fn ip(lines: &[String]) -> Result<(), Error> {
    batch(&mut Command::new("ip"), lines)
}

fn batch(command: &mut Command, lines: &[String]) -> Result<(), Error> {
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoTool {
                program: "ip".into(),
                package: "iproute2",
                why: "the machines' network",
            },
            _ => Error::Io { what: "ip".into(), source: error },
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended early says why on stderr.
        let _ = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    }
    let output = child.wait_with_output().at("ip")?;
    if output.status.success() {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::Tool { tool: "ip", detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_port_on_the_bridge() {
        let plan = Plan { taps: vec!["tap-a".into(), "tap-b".into()], foreign: false };
        let lines = commands(&plan);
        for tap in ["tap-a", "tap-b"] {
            assert!(lines.contains(&format!("link set {tap} master lab0")));
        }
        assert!(!lines.iter().any(|line| line.contains("netns")));
        assert!(commands(&Plan { foreign: true, ..plan }).iter().any(|line| line.contains("veth")));
    }
}
