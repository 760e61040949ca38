//! Our own interface: carrier, speed, addresses, and the pool on it.

use super::{
    finding::{Check, Finding},
    host::Host,
    text::list,
};
use crate::{
    config::{Options, Part},
    dhcp::pool::{Network, Pool},
    machine::Mac,
};
use nix::{errno::Errno, ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::SockaddrIn};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

/// At most so many addresses of the pool are probed.
pub(super) const MAX_PROBES: u32 = 256;
/// Below this, in Mbit/s, an image takes long.
const GOOD_SPEED: i64 = 1_000;
/// Taken addresses that are shown.
const MAX_SHOWN: usize = 4;

/// Makers of machines that are none, by the first three bytes of their addresses.
const VIRTUAL: [([u8; 3], &str); 6] = [
    ([0x52, 0x54, 0x00], "QEMU or KVM"),
    ([0x00, 0x50, 0x56], "VMware"),
    ([0x00, 0x0c, 0x29], "VMware"),
    ([0x08, 0x00, 0x27], "VirtualBox"),
    ([0x00, 0x15, 0x5d], "Hyper-V"),
    ([0x00, 0x16, 0x3e], "Xen"),
];

/// What an address tells of its machine.
pub(super) fn maker(mac: Mac) -> Option<&'static str> {
    let known = VIRTUAL.iter().find(|(prefix, _)| mac.0.starts_with(prefix));
    known.map(|(_, maker)| *maker)
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    /// Whether it has a link; none where it is down.
    pub(super) carrier: Option<bool>,
    /// Mbit/s; -1 or none where there is no cable.
    pub(super) speed: Option<i64>,
    pub(super) duplex: Option<String>,
    pub(super) wireless: bool,
    /// The bridge that it is a port of.
    pub(super) bridge: Option<String>,
    pub(super) addresses: Vec<Network>,
    /// The one that `serve` would take.
    pub(super) chosen: Option<Network>,
    /// The one asked for.
    pub(super) asked: Option<Ipv4Addr>,
    pub(super) link_local: Option<Ipv6Addr>,
    pub(super) part: Option<Part>,
    pub(super) pool: Option<Pool>,
    /// How many addresses were probed; none where that could not be, and why.
    pub(super) probed: Option<Result<u32, String>>,
    pub(super) taken: BTreeMap<Ipv4Addr, Mac>,
    /// A provisioner has had its database here: some may be its own machines'.
    pub(super) served: bool,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = vec![cable(seen)];
    if seen.wireless {
        findings.push(Finding::advice(
            Check::Link,
            format!("{} is wireless", seen.name),
            "firmware boots by cable, and access points may keep broadcasts of their clients back",
            "serve by a cable to the machines' switch",
        ));
    }
    if let Some(bridge) = &seen.bridge {
        findings.push(Finding::problem(
            Check::Link,
            format!("{} is a port of the bridge {bridge}", seen.name),
            "what comes in by a port is the bridge's: `serve` on the port hears nothing",
            format!("--interface {bridge}, and our address on it"),
        ));
    }
    if let Some(maker) = seen.mac.and_then(maker) {
        findings.push(Finding::ok_for(
            Check::Link,
            format!("{} is the card of a virtual machine ({maker})", seen.name),
            "its host's switch must be bridged to the machines' network, and let DHCP pass",
        ));
    }
    findings.push(addresses(seen));
    findings.extend(pool(seen));
    findings
}

fn cable(seen: &Seen) -> Finding {
    let name = &seen.name;
    match (seen.carrier, seen.speed.filter(|speed| *speed > 0)) {
        (Some(false), _) => Finding::problem(
            Check::Link,
            format!("{name} has no link"),
            "nothing can be heard or answered",
            "look at the cable and the switch's port, or name another interface by --interface",
        ),
        (None, _) => Finding::problem(
            Check::Link,
            format!("{name} is down"),
            "nothing can be heard or answered",
            format!("`ip link set {name} up`"),
        ),
        (Some(true), None) => {
            Finding::ok(Check::Link, format!("{name} has a link; its speed is not told"))
        }
        (Some(true), Some(speed)) => {
            let duplex = seen.duplex.as_deref().unwrap_or("unknown");
            let what = format!("{name} has a link of {speed} Mbit/s, {duplex} duplex");
            if duplex == "half" {
                Finding::problem(
                    Check::Link,
                    what,
                    "one end negotiates and the other does not: TFTP and HTTP lose packets and crawl",
                    format!(
                        "let both ends negotiate: `ethtool -s {name} autoneg on`, and at the switch"
                    ),
                )
            } else if speed < GOOD_SPEED {
                Finding::advice(
                    Check::Link,
                    what,
                    format!(
                        "an image of 300 MiB takes {} s for each machine",
                        300 * 8 * 1_048_576 / (speed * 940_000)
                    ),
                    "a switch, port or cable for 1 Gbit/s (Cat 5e, all eight wires)",
                )
            } else {
                Finding::ok(Check::Link, what)
            }
        }
    }
}

fn addresses(seen: &Seen) -> Finding {
    let name = &seen.name;
    let shown = list(seen.addresses.iter().map(|network| shown(*network)));
    match (seen.addresses.as_slice(), seen.chosen, seen.asked) {
        ([], _, _) => Finding::problem(
            Check::Link,
            format!("{name} has no IPv4 address"),
            "`serve` answers at one, and machines fetch their image from it",
            format!("`ip address add 10.0.0.1/24 dev {name}`, of the machines' network"),
        ),
        (_, None, Some(asked)) => Finding::problem(
            Check::Link,
            format!("{name} has not the address {asked}; it has {shown}"),
            "`serve` would not start",
            "name one of those by --address",
        ),
        ([one], _, _) if one.address.is_link_local() => Finding::problem(
            Check::Link,
            format!("{name} has only the address {shown}, which it gave itself"),
            "it asked for one by DHCP and got none; it may change at any time",
            format!("give it a fixed one of the machines' network: `ip address add … dev {name}`"),
        ),
        ([_], _, _) => Finding::ok(Check::Link, format!("{name} has the address {shown}")),
        (_, Some(chosen), None) => Finding::advice(
            Check::Link,
            format!("{name} has several addresses: {shown}"),
            format!(
                "`serve` takes the first, {}; machines are told to fetch from it",
                chosen.address
            ),
            "name the one of the machines' network by --address",
        ),
        (_, _, _) => Finding::ok(Check::Link, format!("{name} has the addresses {shown}")),
    }
}

fn shown(network: Network) -> String {
    format!("{}/{}", network.address, network.mask.to_bits().count_ones())
}

fn pool(seen: &Seen) -> Vec<Finding> {
    if matches!(seen.part, Some(Part::Proxy | Part::Off)) {
        return Vec::new();
    }
    let sure = seen.part == Some(Part::Full);
    let Some(network) = seen.chosen else { return Vec::new() };
    let Some(pool) = seen.pool else {
        return vec![match sure {
            true => Finding::problem(
                Check::Link,
                format!("the network {} has no room for a pool", shown(network)),
                "`serve --dhcp full` would not start",
                "give the interface a wider mask (a /24), or name a pool by --pool",
            ),
            false => Finding::ok(Check::Link, "the network is too small to give addresses of"),
        }];
    };
    let (first, last) = pool.ends();
    let name = format!("the pool {first}-{last}");
    if !network.contains(first) || !network.contains(last) {
        return vec![Finding::problem(
            Check::Link,
            format!("{name} is not within our network {}", shown(network)),
            "machines would get addresses that cannot reach us; `serve` would not start",
            format!("name one within {} by --pool", shown(network)),
        )];
    }
    let mut findings = Vec::new();
    if pool.contains(network.broadcast()) {
        findings.push(Finding::advice(
            Check::Link,
            format!("{name} holds the network's broadcast address"),
            "a machine with it hears nobody",
            format!("end it before {} by --pool", network.broadcast()),
        ));
    }
    findings.extend(seen.probed.as_ref().map(|probed| taken(seen, &name, pool, probed)));
    findings
}

fn taken(seen: &Seen, name: &str, pool: Pool, probed: &Result<u32, String>) -> Finding {
    let probed = match probed {
        Ok(probed) => probed,
        Err(error) => {
            return Finding::unknown(
                Check::Link,
                format!("whether somebody has an address of {name}"),
                error.clone(),
                "run it as root, or with CAP_NET_RAW",
            );
        }
    };
    let of = pool.size();
    let looked = match of > *probed {
        true => format!("of {name} {probed} of {of} addresses were probed"),
        false => format!("all {of} addresses of {name} were probed"),
    };
    if seen.taken.is_empty() {
        return Finding::ok(Check::Link, format!("{looked}: nobody answers"));
    }
    let who = seen.taken.iter().take(MAX_SHOWN).map(|(address, mac)| match maker(*mac) {
        Some(maker) => format!("{address} ({mac}, {maker})"),
        None => format!("{address} ({mac})"),
    });
    let more = seen.taken.len().saturating_sub(MAX_SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let what = format!("{looked}, and there answer {}{more}", list(who));
    let why = "two machines with one address lose their connections by turns";
    let change = "name a free range by --pool, or give those machines other addresses";
    match (seen.part, seen.served) {
        (Some(Part::Full), false) => Finding::problem(Check::Link, what, why, change),
        (Some(Part::Full), true) => Finding::advice(
            Check::Link,
            what,
            format!("{why}; those that got theirs from us (the page lists them) are in order"),
            change,
        ),
        _ => {
            Finding::advice(Check::Link, what, format!("{why}, were we to give addresses"), change)
        }
    }
}

/// The addresses to probe: all of the pool, or as many, evenly spread over it.
pub(super) fn probes(pool: Pool) -> Vec<Ipv4Addr> {
    let (first, size) = (u64::from(pool.ends().0.to_bits()), u64::from(pool.size()));
    let count = size.min(u64::from(MAX_PROBES));
    let at = |n: u64| Ipv4Addr::from_bits((first + n * size / count) as u32);
    (0..count).map(at).collect()
}

/// Looks at /sys and at the interface's addresses. What is heard comes later.
pub(super) fn look(host: &Host, name: &str, options: &Options) -> Result<Seen, Errno> {
    let mut seen = Seen { name: name.into(), part: options.dhcp, ..Seen::default() };
    for entry in getifaddrs()?.filter(|entry| entry.interface_name == name) {
        let ipv4 = |storage: Option<nix::sys::socket::SockaddrStorage>| {
            storage.and_then(|storage| storage.as_sockaddr_in().map(SockaddrIn::ip))
        };
        // Not of /sys, which in a network namespace may show another's.
        let has = |flag| entry.flags.contains(flag);
        let up = has(InterfaceFlags::IFF_UP);
        seen.carrier = up.then(|| has(InterfaceFlags::IFF_RUNNING));
        let link = entry.address.and_then(|storage| storage.as_link_addr()?.addr());
        seen.mac = link.map(Mac).or(seen.mac);
        if let (Some(address), Some(mask)) = (ipv4(entry.address), ipv4(entry.netmask)) {
            seen.addresses.push(Network { address, mask });
        }
        let six = entry.address.and_then(|storage| storage.as_sockaddr_in6().map(|six| six.ip()));
        if let Some(six) = six.filter(Ipv6Addr::is_unicast_link_local) {
            seen.link_local = Some(six);
        }
    }
    let text = |file: &str| host.text(&format!("sys/class/net/{name}/{file}"));
    seen.speed = text("speed").and_then(|speed| speed.parse().ok());
    seen.duplex = text("duplex").filter(|duplex| duplex != "unknown");
    seen.wireless = host.has(&format!("sys/class/net/{name}/wireless"));
    seen.bridge = host.bridge_of(name);
    seen.asked = options.address;
    let ours = |network: &&Network| options.address.is_none_or(|asked| asked == network.address);
    seen.chosen = seen.addresses.iter().find(ours).copied();
    seen.pool = options.pool.or_else(|| seen.chosen.and_then(|network| network.upper_half()));
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn network(text: &str, mask: &str) -> Network {
        Network { address: text.parse().unwrap(), mask: mask.parse().unwrap() }
    }

    fn good() -> Seen {
        let one = network("10.0.0.1", "255.255.255.0");
        Seen {
            name: "eth0".into(),
            carrier: Some(true),
            speed: Some(1_000),
            duplex: Some("full".into()),
            addresses: vec![one],
            chosen: Some(one),
            part: Some(Part::Full),
            pool: one.upper_half(),
            probed: Some(Ok(127)),
            ..Seen::default()
        }
    }

    fn worst(seen: &Seen) -> Finding {
        judge(seen).into_iter().min_by_key(|finding| finding.verdict).unwrap()
    }

    #[test]
    fn a_good_link_is_good() {
        assert_eq!(worst(&good()).verdict, Verdict::Ok, "{:?}", judge(&good()));
    }

    #[test]
    fn cable_speed_and_duplex_are_judged() {
        for (seen, verdict, word) in [
            (Seen { carrier: Some(false), ..good() }, Verdict::Problem, "no link"),
            (Seen { carrier: None, ..good() }, Verdict::Problem, "is down"),
            (Seen { speed: Some(100), ..good() }, Verdict::Advice, "100 Mbit/s"),
            (Seen { duplex: Some("half".into()), ..good() }, Verdict::Problem, "half duplex"),
            (Seen { speed: Some(-1), ..good() }, Verdict::Ok, "speed is not told"),
            (Seen { wireless: true, ..good() }, Verdict::Advice, "wireless"),
            (Seen { bridge: Some("br0".into()), ..good() }, Verdict::Problem, "the bridge br0"),
        ] {
            let said = worst(&seen);
            assert!(said.verdict == verdict && said.what.contains(word), "{said:?}");
        }
        assert!(worst(&Seen { speed: Some(100), ..good() }).why.contains("takes 26 s"));
    }

    #[test]
    fn none_several_and_self_given_addresses_are_told() {
        let two = network("192.168.1.1", "255.255.0.0");
        let own = network("169.254.3.4", "255.255.0.0");
        let asked = Some(Ipv4Addr::new(10, 9, 9, 9));
        for (seen, verdict, word) in [
            (Seen { addresses: vec![], chosen: None, ..good() }, Verdict::Problem, "no IPv4"),
            (Seen { addresses: vec![good().addresses[0], two], ..good() }, Verdict::Advice, "/16"),
            (Seen { addresses: vec![own], ..good() }, Verdict::Problem, "gave itself"),
            (Seen { asked, chosen: None, ..good() }, Verdict::Problem, "10.9.9.9"),
        ] {
            let said = worst(&seen);
            assert!(said.verdict == verdict && said.what.contains(word), "{said:?}");
        }
    }

    #[test]
    fn a_pool_elsewhere_or_in_use_is_a_problem() {
        let pool = Some("10.1.0.1-10.1.0.9".parse().unwrap());
        let said = worst(&Seen { pool, ..good() });
        assert!(said.verdict == Verdict::Problem && said.what.contains("not within"), "{said:?}");
        let mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
        let taken: BTreeMap<_, _> = [(Ipv4Addr::new(10, 0, 0, 200), mac)].into();
        let said = worst(&Seen { taken: taken.clone(), ..good() });
        assert_eq!(said.verdict, Verdict::Problem);
        assert!(said.what.contains("10.0.0.200 (52:54:00:01:02:03, QEMU or KVM)"), "{said:?}");
        let said = worst(&Seen { taken: taken.clone(), served: true, ..good() });
        assert_eq!(said.verdict, Verdict::Advice);
        let said = worst(&Seen { taken, part: Some(Part::Proxy), ..good() });
        assert_eq!(said.verdict, Verdict::Ok);
        let said = worst(&Seen { probed: Some(Err("no right".into())), ..good() });
        assert_eq!(said.verdict, Verdict::Unknown);
    }

    #[test]
    fn probes_are_bounded_and_within_the_pool() {
        for text in ["10.0.0.7-10.0.0.7", "10.0.0.1-10.0.1.200", "10.0.0.0-10.0.255.255"] {
            let pool: Pool = text.parse().unwrap();
            let probes = probes(pool);
            assert_eq!(probes.len() as u32, pool.size().min(MAX_PROBES));
            assert!(probes.iter().all(|&address| pool.contains(address)));
            assert!(probes.is_sorted() && probes.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn the_loopback_is_looked_at() {
        let seen = look(&Host::this(), "lo", &Options::default()).unwrap();
        assert!(seen.addresses.iter().any(|network| network.address == Ipv4Addr::LOCALHOST));
    }
}
