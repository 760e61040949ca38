//! Which links to make of the NICs that are there, and where their addresses come from: what
//! [`NetworkConfig`] asks for, over the machine as it is. Pure.

use super::{Link, choose};
use crate::mac::Mac;
use protocol::network::{BondMode, IpSource, NetworkConfig};
use std::net::IpAddr;

/// Our bond's name. Not `bond0`: that one the kernel's module makes by itself, without ports, and
/// a search for DHCP on it would wait for nothing.
pub const BOND: &str = "uplink";

/// One way onto the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The NIC, or the bond's NICs.
    pub ports: Vec<Link>,
    /// How several NICs are one link.
    pub bond: Option<BondMode>,
    /// A VLAN on it.
    pub vlan: Option<u16>,
    /// The MTU of all of it.
    pub mtu: Option<u16>,
}

/// Where addresses come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressing {
    /// DHCPv4.
    pub dhcp: bool,
    /// IPv6 router advertisements.
    pub auto: bool,
    /// Addresses of our own, with their prefixes' lengths.
    pub fixed: Vec<(IpAddr, u8)>,
    /// Default routers of those.
    pub gateways: Vec<IpAddr>,
    /// Name servers, before those that DHCP gives.
    pub name_servers: Vec<IpAddr>,
}

impl Way {
    /// The name of the link that addresses are set on; at most 15 bytes, as the kernel wants it.
    pub fn name(&self) -> String {
        match self.vlan {
            None => self.base(),
            // A NIC's own name may have 15 bytes already.
            Some(vlan) => {
                let base: String = self.base().chars().take(10).collect();
                format!("{base}.{vlan}")
            }
        }
    }

    /// The link below a VLAN.
    pub fn base(&self) -> String {
        match (self.bond, self.ports.first()) {
            (None, Some(port)) => port.name.clone(),
            _ => BOND.to_owned(),
        }
    }

    /// Modules that it takes, where the kernel has them as such.
    pub fn modules(&self) -> Vec<&'static str> {
        let bond = self.bond.map(|_| "bonding");
        bond.into_iter().chain(self.vlan.map(|_| "8021q")).collect()
    }

    /// For people: empty for a plain NIC, else ` (802.3ad of eth0 and eth1)`.
    pub fn detail(&self) -> String {
        let names: Vec<&str> = self.ports.iter().map(|port| port.name.as_str()).collect();
        match (self.bond, self.vlan) {
            (Some(bond), _) => format!(" ({} of {})", bond.name(), names.join(" and ")),
            (None, Some(vlan)) => format!(" (VLAN {vlan} on {})", names.join("")),
            (None, None) => String::new(),
        }
    }
}

/// The NICs that the configuration speaks of; all where it names none.
pub fn wanted(config: &NetworkConfig, links: &[Link]) -> Vec<Link> {
    let named = |link: &&Link| config.nics.is_empty() || config.nics.contains(&link.mac.0);
    let mut wanted: Vec<Link> = links.iter().filter(named).cloned().collect();
    wanted.sort_by_key(|link| config.nics.iter().position(|mac| *mac == link.mac.0));
    wanted
}

/// Those NICs that it names and that are not there.
pub fn absent(config: &NetworkConfig, links: &[Link]) -> Vec<Mac> {
    let there = |mac: &Mac| links.iter().any(|link| link.mac == *mac);
    config.nics.iter().map(|mac| Mac(*mac)).filter(|mac| !there(mac)).collect()
}

/// Whether waiting for more links would change nothing.
pub fn settled(config: &NetworkConfig, links: &[Link], boot_nic: Option<Mac>) -> bool {
    let first = config.nics.first().map(|mac| Mac(*mac));
    match config.bond {
        None => choose::settled(links, first.or(boot_nic)),
        Some(_) => {
            let up = |mac: &[u8; 6]| links.iter().any(|link| link.mac.0 == *mac && link.carrier);
            config.nics.iter().all(up)
        }
    }
}

/// The ways to try, in order: one bond, or each NIC that has a link.
pub fn ways(config: &NetworkConfig, links: &[Link], boot_nic: Option<Mac>) -> Vec<Way> {
    let (vlan, mtu) = (config.vlan, config.mtu);
    let wanted = wanted(config, links);
    if let Some(mode) = config.bond {
        // A port without a link joins too: it may get one later.
        let whole = Way { ports: wanted, bond: Some(mode), vlan, mtu };
        let alive = whole.ports.iter().any(|port| port.carrier);
        return if alive { vec![whole] } else { Vec::new() };
    }
    let first = config.nics.first().map(|mac| Mac(*mac)).or(boot_nic);
    let way = |link: &Link| Way { ports: vec![link.clone()], bond: None, vlan, mtu };
    choose::candidates(&wanted, first).into_iter().map(way).collect()
}

/// Where addresses come from. Where the configuration does not say, the provisioner's address
/// does: a machine that is to reach it by IPv6 need not wait for DHCPv4, nor the other way round.
pub fn addressing(config: &NetworkConfig, provisioner: Option<IpAddr>) -> Addressing {
    let mut addressing = Addressing {
        gateways: config.gateways.clone(),
        name_servers: config.name_servers.clone(),
        ..Addressing::default()
    };
    if config.ip.is_empty() {
        addressing.dhcp = !provisioner.is_some_and(|address| address.is_ipv6());
        addressing.auto = !provisioner.is_some_and(|address| address.is_ipv4());
    }
    for ip in &config.ip {
        match *ip {
            IpSource::Dhcp => addressing.dhcp = true,
            IpSource::Auto => addressing.auto = true,
            IpSource::Static { address, prefix } => addressing.fixed.push((address, prefix)),
        }
    }
    addressing
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(index: u8, carrier: bool) -> Link {
        let (name, mac) = (format!("eth{index}"), Mac([index; 6]));
        Link { index: index.into(), name, mac, up: true, carrier }
    }

    fn config(text: &str) -> NetworkConfig {
        text.parse().unwrap()
    }

    const BOTH: &str = "nic=02:02:02:02:02:02+01:01:01:01:01:01";

    #[test]
    fn without_a_word_each_nic_with_a_link_is_tried_the_one_that_booted_first() {
        let links = [link(1, true), link(2, true), link(3, false)];
        let ways = ways(&NetworkConfig::default(), &links, Some(Mac([2; 6])));
        let names: Vec<_> = ways.iter().map(Way::name).collect();
        assert_eq!(names, ["eth2", "eth1"]);
        assert_eq!((ways[0].detail(), ways[0].modules()), (String::new(), vec![]));
    }

    #[test]
    fn nics_that_are_named_are_the_only_ones_and_the_first_named_comes_first() {
        let links = [link(1, true), link(2, true), link(3, true)];
        let config = config(BOTH);
        let names: Vec<_> =
            ways(&config, &links, Some(Mac([1; 6]))).iter().map(Way::name).collect();
        assert_eq!(names, ["eth2", "eth1"]);
        assert!(!settled(&config, &[link(1, true), link(2, false)], Some(Mac([1; 6]))));
        assert_eq!(absent(&config, &links[..1]), [Mac([2; 6])]);
    }

    #[test]
    fn a_bond_takes_all_its_ports_and_waits_for_each_of_their_links() {
        let config = config(&format!("{BOTH},bond=802.3ad,vlan=4094,mtu=9000"));
        let links = [link(1, false), link(2, true)];
        assert!(!settled(&config, &links, None));
        assert!(settled(&config, &[link(1, true), link(2, true)], None));
        let ways = ways(&config, &links, None);
        assert_eq!(ways.len(), 1);
        assert_eq!((ways[0].name().as_str(), ways[0].base().as_str()), ("uplink.4094", "uplink"));
        assert_eq!(ways[0].detail(), " (802.3ad of eth2 and eth1)");
        assert_eq!(ways[0].modules(), ["bonding", "8021q"]);
        assert!(super::ways(&config, &[link(1, false)], None).is_empty());
    }

    #[test]
    fn the_kernels_own_bond_is_none_of_ours() {
        assert_ne!(BOND, "bond0");
    }

    #[test]
    fn the_provisioners_address_says_which_kind_of_address_is_waited_for() {
        let given = |provisioner: &str| {
            let way = addressing(&NetworkConfig::default(), provisioner.parse().ok());
            (way.dhcp, way.auto)
        };
        assert_eq!(given("10.1.2.1"), (true, false));
        assert_eq!(given("2001:db8::1"), (false, true));
        assert_eq!(given("boot.lan"), (true, true));
        let fixed = addressing(&config("ip=10.1.2.3/24,gateway=10.1.2.1"), None);
        assert_eq!((fixed.dhcp, fixed.auto, fixed.fixed.len()), (false, false, 1));
        let both = addressing(&config("ip=dhcp,ip=auto"), "10.1.2.1".parse().ok());
        assert_eq!((both.dhcp, both.auto), (true, true));
    }

    proptest! {
        #[test]
        fn every_name_fits_the_kernel_and_no_way_is_without_a_link(
            names in proptest::collection::vec("[a-z0-9]{1,15}", 1..6), carriers: u8,
            vlan in proptest::option::of(1u16..4095), bond: bool,
        ) {
            let links: Vec<Link> = (0u8..).zip(&names).map(|(n, name)| Link {
                name: name.clone(), ..link(n, carriers >> n & 1 == 1)
            }).collect();
            let nics = if bond { links.iter().map(|link| link.mac.0).collect() } else { vec![] };
            let bond = bond.then_some(BondMode::Lacp);
            let config = NetworkConfig { nics, bond, vlan, ..NetworkConfig::default() };
            for way in ways(&config, &links, None) {
                prop_assert!(way.name().len() <= 15, "{}", way.name());
                prop_assert!(way.ports.iter().any(|port| port.carrier));
            }
        }
    }
}
