//! The ports that `serve` wants: free, or held by whom.

use super::{
    finding::{Check, Finding},
    host::Host,
    text::{list, shown},
};
use crate::{
    config::{Options, Part},
    net::{self, NetError},
};
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
};

/// Processes whose files are looked through.
const MAX_PROCESSES: usize = 32_768;
/// Sockets on one port that are shown.
const MAX_HOLDERS: usize = 8;
/// `st` of a TCP socket that listens (include/net/tcp_states.h).
const LISTENS: &str = "0A";

/// UDP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Udp => ["proc/self/net/udp", "proc/self/net/udp6"],
            Self::Tcp => ["proc/self/net/tcp", "proc/self/net/tcp6"],
        }
    }
}

/// What came of taking a port as `serve` would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    Free,
    Busy,
    Denied,
    Failed(String),
}

/// Who has a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Holder {
    /// The program's name and process; none where its files may not be looked at.
    pub(super) program: Option<(String, u32)>,
    /// Its command line.
    pub(super) command: String,
    /// The user whose socket it is.
    pub(super) user: u32,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    pub(super) number: u16,
    /// What it is wanted for.
    pub(super) purpose: &'static str,
    /// The flag that moves it.
    pub(super) flag: Option<&'static str>,
    pub(super) tried: Tried,
    pub(super) holders: Vec<Holder>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) ports: Vec<Port>,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let free: Vec<String> = seen
        .ports
        .iter()
        .filter(|port| port.tried == Tried::Free)
        .map(|port| format!("{} {}", port.number, port.protocol.name()))
        .collect();
    let mut findings = Vec::new();
    if !free.is_empty() {
        findings.push(Finding::ok(Check::Ports, format!("free for us: {}", list(free))));
    }
    findings.extend(seen.ports.iter().filter(|port| port.tried != Tried::Free).map(one));
    findings
}

fn one(port: &Port) -> Finding {
    let place = format!("{} port {}", port.protocol.name(), port.number);
    let need = format!("{} cannot have it meanwhile", port.purpose);
    match &port.tried {
        Tried::Free => Finding::ok(Check::Ports, format!("{place} is free")),
        Tried::Failed(error) => Finding::unknown(
            Check::Ports,
            format!("whether {place} is free: {error}"),
            format!("{} wants it", port.purpose),
            "mend what the error says",
        ),
        Tried::Denied => Finding::problem(
            Check::Ports,
            format!("{place} may not be taken by this user"),
            format!("{} wants it, and ports below 1024 want a right", port.purpose),
            "run `serve` as root, or with CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        ),
        Tried::Busy => {
            let ours = |holder: &Holder| {
                holder.program.as_ref().is_some_and(|(name, _)| name == "provisioner")
            };
            if !port.holders.is_empty() && port.holders.iter().all(ours) {
                return Finding::ok_for(
                    Check::Ports,
                    format!("{place} is held by a provisioner that runs"),
                    "a second one beside it would want another interface or other ports",
                );
            }
            let who = match port.holders.as_slice() {
                [] => "a program that cannot be seen from here".to_string(),
                holders => list(holders.iter().map(holder)),
            };
            let change = match port.holders.iter().find_map(|holder| holder.program.as_ref()) {
                Some((name, _)) => {
                    let command = port.holders.iter().map(|holder| holder.command.as_str());
                    remedy(name, &command.collect::<Vec<_>>().join(" "))
                }
                None => format!(
                    "as root `ss -{}lpn 'sport = :{}'` names the program; stop it",
                    if port.protocol == Protocol::Udp { 'u' } else { 't' },
                    port.number
                ),
            };
            let other =
                port.flag.map_or(String::new(), |flag| format!("; or give us another by {flag}"));
            Finding::problem(
                Check::Ports,
                format!("{place} is held by {who}"),
                need,
                change + &other,
            )
        }
    }
}

fn holder(holder: &Holder) -> String {
    match &holder.program {
        Some((name, process)) => format!("{name} (process {process})"),
        None => format!("a program of user {}", holder.user),
    }
}

/// What to do about a known program.
fn remedy(program: &str, command: &str) -> String {
    let unit = |unit: &str| format!("`systemctl disable --now {unit}`, where nobody else needs it");
    match program {
        "dnsmasq" if command.contains("libvirt") => {
            "this is libvirt's dnsmasq for its own network of virtual machines: name another \
             interface by --interface, or end that network (`virsh net-destroy default; virsh \
             net-autostart default --disable`)"
                .into()
        }
        "dnsmasq" if command.contains("lxc") || command.contains("lxd") => {
            "this is the dnsmasq of a network of containers: name another interface by \
             --interface, or end that network"
                .into()
        }
        "dnsmasq" => format!(
            "where it gives addresses on this network, keep it, take dhcp-boot, pxe-service and \
             enable-tftp out of its configuration, have it on other interfaces only \
             (except-interface=) or on another host, and run us with --dhcp proxy; else {}",
            unit("dnsmasq")
        ),
        "in.tftpd" => unit("tftpd-hpa"),
        "atftpd" => unit("atftpd"),
        "tftpd" | "opentftpd" | "uftpd" | "ptftpd" => unit(program),
        "inetd" | "xinetd" => {
            format!("take the service out of {program}'s configuration and have it read again")
        }
        "dhcpd" => format!(
            "only one DHCP server may be at this port: {}, or move it to another host and run us \
             with --dhcp proxy",
            unit("isc-dhcp-server")
        ),
        "kea-dhcp4" => format!(
            "only one DHCP server may be at this port: {}, or move it to another host and run us \
             with --dhcp proxy",
            unit("kea-dhcp4-server")
        ),
        "systemd-network" | "systemd-networkd" => {
            "take DHCPServer= out of this interface's .network file and `networkctl reload`".into()
        }
        "systemd-resolve" | "systemd-resolved" => {
            "set DNSStubListener=no in resolved.conf and restart systemd-resolved".into()
        }
        "systemd" => {
            "a socket unit holds it: `systemctl list-sockets` names it; disable that unit".into()
        }
        "docker-proxy" => {
            "a container publishes this port: publish another (`docker ps` names it)".into()
        }
        "nginx" | "apache2" | "httpd" | "caddy" | "lighttpd" | "java" | "haproxy" => {
            format!("have {program} listen elsewhere")
        }
        _ => format!("stop {program}, or have it listen elsewhere"),
    }
}

/// The ports that these options want, each tried as `serve` would take it. They are free again at
/// once.
pub(super) fn look(
    host: &Host,
    options: &Options,
    interface: &str,
    address: Option<Ipv4Addr>,
) -> Seen {
    let any = Ipv4Addr::UNSPECIFIED;
    let device = Some(interface);
    let mut ports = Vec::new();
    let mut udp = |number, on, device, purpose, flag| {
        let tried = tried(net::udp(SocketAddrV4::new(on, number), device, purpose).map(drop));
        ports.push(Port { protocol: Protocol::Udp, number, purpose, flag, tried, holders: vec![] });
    };
    if options.dhcp != Some(Part::Off) {
        udp(67, any, device, "DHCP", None);
        udp(4011, any, device, "the boot server (BINL)", None);
    }
    let here = address.unwrap_or(any);
    let number = options.tftp_port.unwrap_or(69);
    udp(number, here, None, "TFTP", Some("--tftp-port, which firmware has to be told of"));
    let number = options.http_port.unwrap_or(8080);
    let purpose = "HTTP (boot scripts, images, page and API)";
    let tried = tried(net::tcp(SocketAddrV4::new(here, number), purpose).map(drop));
    let flag = Some("--http-port");
    ports.push(Port { protocol: Protocol::Tcp, number, purpose, flag, tried, holders: vec![] });

    let busy = ports.iter_mut().filter(|port| port.tried == Tried::Busy);
    let mut busy: Vec<&mut Port> = busy.collect();
    if !busy.is_empty() {
        let programs = programs(host);
        for port in &mut busy {
            port.holders = holders(host, port.protocol, port.number, &programs);
        }
    }
    Seen { ports }
}

fn tried(result: Result<(), NetError>) -> Tried {
    match result {
        Ok(()) => Tried::Free,
        Err(NetError::Busy { .. }) => Tried::Busy,
        Err(NetError::Denied { .. }) => Tried::Denied,
        Err(error) => Tried::Failed(error.to_string()),
    }
}

/// The sockets on a port and the programs that have them.
fn holders(
    host: &Host,
    protocol: Protocol,
    number: u16,
    programs: &BTreeMap<u64, (u32, String, String)>,
) -> Vec<Holder> {
    let tables = protocol.tables().map(|table| host.text(table).unwrap_or_default());
    let sockets = tables.iter().flat_map(|table| sockets(table, protocol, number));
    let mut holders: Vec<Holder> = Vec::new();
    for (user, inode) in sockets {
        let holder = match programs.get(&inode) {
            Some((process, name, command)) => {
                Holder { program: Some((name.clone(), *process)), command: command.clone(), user }
            }
            None => Holder { user, ..Holder::default() },
        };
        if !holders.contains(&holder) && holders.len() < MAX_HOLDERS {
            holders.push(holder);
        }
    }
    holders
}

/// User and inode of each socket on a port, of a table as proc(5) has it.
fn sockets(table: &str, protocol: Protocol, number: u16) -> Vec<(u32, u64)> {
    let port = format!(":{number:04X}");
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, user, _, inode, ..] = words.as_slice() else {
            return None;
        };
        let listens = protocol == Protocol::Udp || *state == LISTENS;
        if !local.ends_with(&port) || !listens {
            return None;
        }
        Some((user.parse().ok()?, inode.parse().ok()?))
    };
    table.lines().filter_map(read).collect()
}

/// Every socket of every process whose files may be looked at: process, name, command line.
fn programs(host: &Host) -> BTreeMap<u64, (u32, String, String)> {
    let mut found = BTreeMap::new();
    let ids = host.names("proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    for id in ids.take(MAX_PROCESSES) {
        let mut about: Option<(String, String)> = None;
        for file in
            fs::read_dir(host.path(&format!("proc/{id}/fd"))).into_iter().flatten().flatten()
        {
            let Ok(link) = fs::read_link(file.path()) else { continue };
            let inode = link
                .to_str()
                .and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode else { continue };
            let (name, command) = about.get_or_insert_with(|| {
                let text = |file: &str| host.text(&format!("proc/{id}/{file}")).unwrap_or_default();
                let command = text("cmdline").replace('\0', " ");
                (shown(text("comm").as_bytes()), command.chars().take(400).collect())
            });
            found.entry(inode).or_insert((id, name.clone(), command.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn port(tried: Tried, holders: Vec<Holder>) -> Seen {
        Seen {
            ports: vec![Port {
                protocol: Protocol::Udp,
                number: 69,
                purpose: "TFTP",
                flag: Some("--tftp-port"),
                tried,
                holders,
            }],
        }
    }

    fn held(name: &str, command: &str) -> Vec<Holder> {
        let program = Some((name.to_string(), 41));
        vec![Holder { program, command: command.into(), user: 0 }]
    }

    #[test]
    fn who_holds_a_port_is_named_with_what_to_do() {
        let said = &judge(&port(Tried::Busy, held("in.tftpd", "in.tftpd -l")))[0];
        assert_eq!(said.verdict, Verdict::Problem);
        assert!(said.what.contains("UDP port 69 is held by in.tftpd (process 41)"), "{said:?}");
        assert!(said.change.contains("tftpd-hpa") && said.change.contains("--tftp-port"));
        let libvirt = "/usr/sbin/dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/default.conf";
        let said = &judge(&port(Tried::Busy, held("dnsmasq", libvirt)))[0];
        assert!(said.change.contains("virsh"), "{said:?}");
        let nobody = vec![Holder { user: 107, ..Holder::default() }];
        let said = &judge(&port(Tried::Busy, nobody))[0];
        assert!(said.what.contains("user 107") && said.change.contains("ss -ulpn"), "{said:?}");
    }

    #[test]
    fn our_own_and_free_ports_are_good_and_missing_rights_are_not() {
        assert_eq!(judge(&port(Tried::Busy, held("provisioner", "")))[0].verdict, Verdict::Ok);
        assert_eq!(judge(&port(Tried::Free, vec![]))[0].what, "free for us: 69 UDP");
        let said = &judge(&port(Tried::Denied, vec![]))[0];
        assert!(said.verdict == Verdict::Problem && said.change.contains("CAP_NET_BIND"));
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let host = Host::this();
        let found = holders(&host, Protocol::Udp, port, &programs(&host));
        let (name, process) = found[0].program.clone().unwrap();
        assert_eq!(process, std::process::id());
        assert!(!name.is_empty() && !found[0].command.is_empty());
    }

    #[test]
    fn only_what_listens_holds_a_tcp_port() {
        let line = |state| {
            format!(
                "   0: 0100007F:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  33        0 4711 1 x"
            )
        };
        assert_eq!(sockets(&line("0A"), Protocol::Tcp, 8080), [(33, 4711)]);
        assert_eq!(sockets(&line("06"), Protocol::Tcp, 8080), []);
        assert_eq!(sockets(&line("0A"), Protocol::Tcp, 80), []);
        assert_eq!(sockets("nonsense\n\n a b c", Protocol::Udp, 80), []);
    }
}
