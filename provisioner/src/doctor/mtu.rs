//! The largest packet: of our interface, of what it stands on, of the way out, and as servers tell it.

use super::{
    finding::{Check, Finding},
    heard::Heard,
    host::Host,
};
use std::net::{IpAddr, Ipv4Addr};

/// Ethernet's, which firmware counts on.
const USUAL: u32 = 1500;
/// IP, UDP and TFTP headers: what a block must stay below the MTU by.
const HEADERS: u32 = 32;
/// The least that every IPv6 link has (RFC 8200 section 5), and a sensible floor for IPv4.
const LEAST: u32 = 1280;

/// The way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) address: Ipv4Addr,
    pub(super) interface: String,
    /// The route's own MTU, or its interface's.
    pub(super) mtu: Option<u32>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) interface: String,
    pub(super) mtu: Option<u32>,
    /// What it stands on: a VLAN's parent, a bond's members.
    pub(super) below: Vec<(String, u32)>,
    /// A bridge's ports.
    pub(super) ports: Vec<(String, u32)>,
    pub(super) gateway: Option<Gateway>,
    /// What DHCP servers (option 26) and IPv6 routers tell machines.
    pub(super) told: Vec<(IpAddr, u32)>,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let name = &seen.interface;
    let Some(mtu) = seen.mtu else {
        return vec![Finding::unknown(
            Check::Mtu,
            format!("the MTU of {name}"),
            "/sys tells none, so that TFTP counts on 1500",
            "",
        )];
    };
    let mut findings = Vec::new();
    let block = mtu.saturating_sub(HEADERS).min(65_464);
    let follows = format!(
        "TFTP blocks are at most {block} bytes (the MTU less {HEADERS} for headers), however large \
         ones firmware asks for"
    );
    findings.push(match mtu {
        USUAL => Finding::ok_for(Check::Mtu, format!("{name} has 1500"), follows),
        LEAST..USUAL => Finding::advice(
            Check::Mtu,
            format!("{name} has {mtu}, less than Ethernet's 1500"),
            format!("{follows}; a machine that sends 1500 gets nothing through"),
            format!(
                "where nothing narrower (a tunnel, a VLAN in a VLAN) is in the way: `ip link set \
                 {name} mtu 1500`; else have DHCP tell machines {mtu} (option 26)"
            ),
        ),
        ..LEAST => Finding::problem(
            Check::Mtu,
            format!("{name} has {mtu}, less than any IPv6 link may have"),
            format!("{follows}; firmware's packets of 1500 bytes do not pass"),
            format!("`ip link set {name} mtu 1500`, or serve by another interface"),
        ),
        _ => Finding::advice(
            Check::Mtu,
            format!("{name} has {mtu}: jumbo frames"),
            format!("{follows}; firmware's drivers take 1500 and drop more without a word"),
            format!(
                "`ip link set {name} mtu 1500` for the boot network, or be sure that every switch \
                 port takes {mtu} and that machines ask for blocks of 1468"
            ),
        ),
    });
    for (parent, its) in seen.below.iter().filter(|(_, its)| *its < mtu) {
        findings.push(Finding::problem(
            Check::Mtu,
            format!("{name} has {mtu}, but stands on {parent}, which has {its}"),
            format!("our packets above {its} bytes are lost on {parent}"),
            format!("`ip link set {parent} mtu {mtu}`, or `ip link set {name} mtu {its}`"),
        ));
    }
    for (port, its) in seen.ports.iter().filter(|(_, its)| *its != mtu) {
        findings.push(Finding::problem(
            Check::Mtu,
            format!("the bridge {name} has {mtu}, its port {port} {its}"),
            format!("packets above {} bytes are dropped there, silently", mtu.min(*its)),
            format!("give both the same: `ip link set {port} mtu {mtu}`"),
        ));
    }
    for (server, its) in seen.told.iter().filter(|(_, its)| *its != mtu) {
        findings.push(Finding::advice(
            Check::Mtu,
            format!("{server} tells machines an MTU of {its}; {name} has {mtu}"),
            "machines and we would count on different packets",
            format!(
                "give {name} the same (`ip link set {name} mtu {its}`), or change it at {server}"
            ),
        ));
    }
    if let Some(gateway) = &seen.gateway
        && let Some(its) = gateway.mtu
    {
        let way = format!("the way out, {} by {}, takes {its}", gateway.address, gateway.interface);
        findings.push(if its < mtu {
            Finding::advice(
                Check::Mtu,
                way,
                "machines behind it (a relay's, a tunnel's) get our larger packets in pieces or \
                 not at all; TFTP would stop at its first block",
                format!(
                    "serve those with blocks below {its}: give {name} that MTU, or the way {mtu}"
                ),
            )
        } else {
            Finding::ok(Check::Mtu, way)
        });
    }
    findings
}

/// Looks at /sys and /proc, and at what was heard.
pub(super) fn look(host: &Host, interface: &str, heard: &Heard) -> Seen {
    let all = |names: Vec<String>| -> Vec<(String, u32)> {
        names.into_iter().filter_map(|name| host.mtu(&name).map(|mtu| (name, mtu))).collect()
    };
    let mut told: Vec<(IpAddr, u32)> = Vec::new();
    let offers = heard.offers.iter().filter_map(|o| Some((o.server.into(), u32::from(o.mtu?))));
    let routers = heard.routers.iter().filter_map(|r| Some((r.from.into(), r.mtu?)));
    for each in offers.chain(routers) {
        if !told.contains(&each) {
            told.push(each);
        }
    }
    // A bridge stands on its ports, which are judged as such.
    let ports = host.ports(interface);
    let below = if ports.is_empty() { host.below(interface) } else { Vec::new() };
    Seen {
        interface: interface.into(),
        mtu: host.mtu(interface),
        below: all(below),
        ports: all(ports),
        gateway: gateway(host),
        told,
    }
}

/// The default route of proc(5)'s `net/route`, whose addresses are in hexadecimal of this host's
/// byte order.
fn gateway(host: &Host) -> Option<Gateway> {
    let table = host.text("proc/self/net/route")?;
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [interface, "00000000", address, _, _, _, _, "00000000", mtu, ..] = words.as_slice()
        else {
            return None;
        };
        let address = u32::from_str_radix(address, 16).ok().filter(|address| *address != 0)?;
        let own = mtu.parse().ok().filter(|mtu| *mtu != 0);
        Some(Gateway {
            address: Ipv4Addr::from(address.to_ne_bytes()),
            interface: interface.to_string(),
            mtu: own.or_else(|| host.mtu(interface)),
        })
    };
    table.lines().find_map(read)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn seen(mtu: u32) -> Seen {
        Seen { interface: "br0".into(), mtu: Some(mtu), ..Seen::default() }
    }

    fn worst(seen: &Seen) -> Finding {
        judge(seen).into_iter().min_by_key(|finding| finding.verdict).unwrap()
    }

    #[test]
    fn tftps_block_follows_the_mtu() {
        let said = worst(&seen(1500));
        assert_eq!(said.verdict, Verdict::Ok);
        assert!(said.why.contains("1468"), "{said:?}");
        assert_eq!(worst(&seen(9000)).verdict, Verdict::Advice);
        assert_eq!(worst(&seen(1400)).verdict, Verdict::Advice);
        assert_eq!(worst(&seen(576)).verdict, Verdict::Problem);
        let none = Seen::default();
        assert_eq!(worst(&none).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_narrower_parent_port_or_way_is_named() {
        let parent = Seen { below: vec![("eth0".into(), 1496)], ..seen(1500) };
        let said = worst(&parent);
        assert!(said.verdict == Verdict::Problem && said.what.contains("eth0"), "{said:?}");
        let port = Seen { ports: vec![("tap3".into(), 1400)], ..seen(1500) };
        assert!(worst(&port).change.contains("tap3"));
        let told = Seen { told: vec![("10.0.0.2".parse().unwrap(), 1400)], ..seen(1500) };
        assert!(worst(&told).what.contains("10.0.0.2 tells machines an MTU of 1400"));
    }

    #[test]
    fn the_default_route_is_read_of_proc() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let address = u32::from_ne_bytes([10, 0, 0, 254]);
        write(
            "proc/self/net/route",
            &format!(
                "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                 eth1\t00000000\t{address:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
            ),
        );
        write("sys/class/net/eth1/mtu", "1492\n");
        let found = gateway(&Host::at(root.path())).unwrap();
        let expected = Gateway {
            address: Ipv4Addr::new(10, 0, 0, 254),
            interface: "eth1".into(),
            mtu: Some(1492),
        };
        assert_eq!(found, expected);
        let way = Seen { gateway: Some(found), ..seen(1500) };
        assert_eq!(worst(&way).verdict, Verdict::Advice);
    }
}
