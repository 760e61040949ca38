//! How a machine joins its network, where DHCP on the NIC that booted it is not the way.
//!
//! One text says it, on the kernel command line (`alia.net=…`) for the first contact and in a
//! node's settings afterwards: words `KEY=VALUE` with commas between.
//!
//! | key | value | often |
//! |---|---|---|
//! | `nic` | MAC addresses with `+` between: these NICs and no others, in this order | once |
//! | `bond` | `802.3ad` (LACP) or `active-backup`: the NICs together are one link | once |
//! | `vlan` | 1 to 4094: a VLAN on that link (802.1Q) | once |
//! | `ip` | `dhcp`, `auto` (IPv6 by router advertisements) or `ADDRESS/PREFIX` | up to 8 |
//! | `gateway` | the default router's address | once for each of IPv4, IPv6 |
//! | `dns` | a name server's address | up to 3 |
//! | `mtu` | 576 to 9216 | once |
//!
//! Without `ip`, DHCP and router advertisements are both taken.
//! `nic=52:54:00:12:34:56+52:54:00:12:34:57,bond=802.3ad,vlan=42,ip=10.1.2.3/24,gateway=10.1.2.1`

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// The longest text that is read, in bytes: a kernel command line has 2,048 in all.
pub const MAX_NETWORK_LEN: usize = 1_024;
/// The most NICs, and the most addresses.
pub const MAX_NICS: usize = 8;
/// The most name servers: what a resolver takes (resolv.conf(5)).
pub const MAX_NAME_SERVERS: usize = 3;
/// The least and the largest MTU: every IPv4 host's (RFC 791), and what switches of jumbo frames
/// agree on.
pub const MTU: std::ops::RangeInclusive<u16> = 576..=9_216;
/// The least MTU of a link with IPv6 (RFC 8200).
pub const MIN_MTU_IPV6: u16 = 1_280;

/// How a machine joins its network. In JSON it is its text.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkConfig {
    /// The NICs' MAC addresses; empty for any, the one that booted first.
    pub nics: Vec<[u8; 6]>,
    /// The NICs together are one link.
    pub bond: Option<BondMode>,
    /// A VLAN on it.
    pub vlan: Option<u16>,
    /// Where addresses come from; empty for DHCP and router advertisements alike.
    pub ip: Vec<IpSource>,
    /// Default routers of static addresses.
    pub gateways: Vec<IpAddr>,
    /// Name servers.
    pub name_servers: Vec<IpAddr>,
    /// The link's MTU.
    pub mtu: Option<u16>,
}

/// How several NICs are one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BondMode {
    /// One works, the others stand by.
    ActiveBackup,
    /// LACP (IEEE 802.3ad, now 802.1AX): the switch takes part.
    Lacp,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum IpSource {
    /// DHCPv4.
    Dhcp,
    /// IPv6 router advertisements (SLAAC).
    Auto,
    /// It is this one.
    Static {
        /// The address.
        address: IpAddr,
        /// Length of the network's prefix.
        prefix: u8,
    },
}

/// A text does not say how a machine joins its network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; one like nic=52:54:00:12:34:56,vlan=42,ip=10.1.2.3/24,gateway=10.1.2.1 is wanted")]
pub struct NetworkConfigError(String);

fn wrong(what: impl fmt::Display) -> NetworkConfigError {
    NetworkConfigError(what.to_string())
}

impl FromStr for NetworkConfig {
    type Err = NetworkConfigError;
    fn from_str(text: &str) -> Result<Self, NetworkConfigError> {
        if text.len() > MAX_NETWORK_LEN {
            return Err(wrong(format!("it is longer than {MAX_NETWORK_LEN} bytes")));
        }
        let mut config = Self::default();
        for word in text.split(',') {
            let (key, value) =
                word.split_once('=').ok_or_else(|| wrong(format!("{word:?} is no KEY=VALUE")))?;
            let bad = || wrong(format!("{value:?} is no {key}"));
            let twice = || wrong(format!("{key} stands twice"));
            match key {
                "nic" if config.nics.is_empty() => {
                    for part in value.split('+') {
                        config.nics.push(mac(part).ok_or_else(bad)?);
                    }
                }
                "bond" if config.bond.is_none() => {
                    config.bond = Some(BondMode::from_name(value).ok_or_else(bad)?);
                }
                "vlan" if config.vlan.is_none() => {
                    config.vlan = Some(value.parse().map_err(|_| bad())?);
                }
                "mtu" if config.mtu.is_none() => {
                    config.mtu = Some(value.parse().map_err(|_| bad())?);
                }
                "nic" | "bond" | "vlan" | "mtu" => return Err(twice()),
                "ip" => config.ip.push(value.parse().map_err(|()| bad())?),
                "gateway" => config.gateways.push(value.parse().map_err(|_| bad())?),
                "dns" => config.name_servers.push(value.parse().map_err(|_| bad())?),
                _ => return Err(wrong(format!("{key:?} is none of its keys"))),
            }
        }
        config.check()?;
        Ok(config)
    }
}

impl NetworkConfig {
    /// Whether it makes sense as a whole.
    pub fn check(&self) -> Result<(), NetworkConfigError> {
        let bounded = [
            ("NICs", self.nics.len(), MAX_NICS),
            ("addresses", self.ip.len(), MAX_NICS),
            ("gateways", self.gateways.len(), 2),
            ("name servers", self.name_servers.len(), MAX_NAME_SERVERS),
        ];
        for (what, count, most) in bounded {
            if count > most {
                return Err(wrong(format!("it has more than {most} {what}")));
            }
        }
        if self.bond.is_some() && self.nics.is_empty() {
            return Err(wrong("bond wants its NICs by nic="));
        }
        if let Some(vlan) = self.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
            return Err(wrong(format!("vlan {vlan} is not from 1 to 4094")));
        }
        let ipv6 = |ip: &IpSource| match ip {
            IpSource::Dhcp => false,
            IpSource::Auto => true,
            IpSource::Static { address, .. } => address.is_ipv6(),
        };
        let least = if self.ip.iter().any(ipv6) { MIN_MTU_IPV6 } else { *MTU.start() };
        if let Some(mtu) = self.mtu.filter(|mtu| !(least..=*MTU.end()).contains(mtu)) {
            return Err(wrong(format!("mtu {mtu} is not from {least} to {}", MTU.end())));
        }
        for ip in &self.ip {
            if let IpSource::Static { address, prefix } = *ip {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                if !is_host(address) || prefix == 0 || prefix > bits {
                    return Err(wrong(format!("{address}/{prefix} is no host's address")));
                }
            }
        }
        for gateway in &self.gateways {
            let same = |ip: &IpSource| {
                matches!(ip, IpSource::Static { address, .. }
                if address.is_ipv4() == gateway.is_ipv4())
            };
            if !is_host(*gateway) || !self.ip.iter().any(same) {
                return Err(wrong(format!("gateway {gateway} goes with no static address")));
            }
        }
        if self.gateways.len() == 2 && self.gateways[0].is_ipv4() == self.gateways[1].is_ipv4() {
            return Err(wrong("it has two gateways of one kind"));
        }
        if let Some(server) = self.name_servers.iter().find(|server| !is_host(**server)) {
            return Err(wrong(format!("dns {server} is no host's address")));
        }
        Ok(())
    }
}

/// Whether a host can have an address.
fn is_host(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0,
        // An address of IPv4 in IPv6's clothes is never on a wire.
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    !(special || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next()?;
        let two = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| two)?;
    }
    parts.next().is_none().then_some(bytes)
}

impl BondMode {
    /// As the kernel names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "802.3ad",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::ActiveBackup, Self::Lacp].into_iter().find(|mode| mode.name() == name)
    }
}

impl FromStr for IpSource {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "dhcp" => Ok(Self::Dhcp),
            "auto" => Ok(Self::Auto),
            _ => {
                let (address, prefix) = text.split_once('/').ok_or(())?;
                let address = address.parse().map_err(|_| ())?;
                // `u8::from_str` would take a plus sign.
                let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
                let prefix = prefix.parse().ok().filter(|_| digits).ok_or(())?;
                Ok(Self::Static { address, prefix })
            }
        }
    }
}

impl fmt::Display for IpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp => f.write_str("dhcp"),
            Self::Auto => f.write_str("auto"),
            Self::Static { address, prefix } => write!(f, "{address}/{prefix}"),
        }
    }
}

/// The text, its keys in the order of the table above.
impl fmt::Display for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |bytes: &[u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
        let nics: Vec<String> = self.nics.iter().map(mac).collect();
        let mut words = Vec::new();
        if !nics.is_empty() {
            words.push(format!("nic={}", nics.join("+")));
        }
        words.extend(self.bond.map(|bond| format!("bond={}", bond.name())));
        words.extend(self.vlan.map(|vlan| format!("vlan={vlan}")));
        words.extend(self.ip.iter().map(|ip| format!("ip={ip}")));
        words.extend(self.gateways.iter().map(|gateway| format!("gateway={gateway}")));
        words.extend(self.name_servers.iter().map(|server| format!("dns={server}")));
        words.extend(self.mtu.map(|mtu| format!("mtu={mtu}")));
        f.write_str(&words.join(","))
    }
}

impl From<NetworkConfig> for String {
    fn from(config: NetworkConfig) -> Self {
        config.to_string()
    }
}

impl TryFrom<String> for NetworkConfig {
    type Error = NetworkConfigError;
    fn try_from(text: String) -> Result<Self, NetworkConfigError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = "nic=52:54:00:12:34:56+52:54:00:12:34:57,bond=802.3ad,vlan=42,\
        ip=10.1.2.3/24,ip=2001:db8::3/64,gateway=10.1.2.1,gateway=fe80::1,dns=10.1.2.1,mtu=9000";

    #[test]
    fn a_text_with_all_of_it_is_read_and_written_back() {
        let config: NetworkConfig = WHOLE.parse().unwrap();
        assert_eq!(config.nics.len(), 2);
        assert_eq!((config.bond, config.vlan), (Some(BondMode::Lacp), Some(42)));
        let address = "2001:db8::3".parse().unwrap();
        assert_eq!(config.ip[1], IpSource::Static { address, prefix: 64 });
        assert_eq!(config.to_string(), WHOLE);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(json, format!("{WHOLE:?}"));
        assert_eq!(serde_json::from_str::<NetworkConfig>(&json).unwrap(), config);
    }

    #[test]
    fn its_bytes_are_fixed() {
        let config: NetworkConfig =
            "nic=52:54:00:12:34:56,bond=active-backup,vlan=42,ip=10.1.2.3/24,ip=auto,\
             gateway=10.1.2.1,mtu=1500"
                .parse()
                .unwrap();
        let bytes = borsh::to_vec(&config).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let wanted = "01000000525400123456\
            0100\
            012a00\
            0200000002000a01020318\
            01\
            01000000000a010201\
            00000000\
            01dc05";
        assert_eq!(hex, wanted);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_word_that_does_not() {
        for (text, word) in [
            ("", "\"\""),
            ("vlan=0", "vlan 0"),
            ("vlan=4095", "vlan 4095"),
            ("vlan=1,vlan=2", "vlan stands twice"),
            ("bond=802.3ad", "wants its NICs"),
            ("nic=eth0", "\"eth0\" is no nic"),
            ("nic=52:54:00:12:34:56:57", "is no nic"),
            ("ip=10.1.2.3", "\"10.1.2.3\" is no ip"),
            ("ip=10.1.2.3/33", "10.1.2.3/33"),
            ("ip=127.0.0.1/8", "no host's address"),
            ("ip=10.1.2.3/+8", "is no ip"),
            ("ip=dhcp,gateway=10.1.2.1", "goes with no static address"),
            ("ip=auto,mtu=1000", "mtu 1000 is not from 1280"),
            ("dns=0.0.0.0", "dns 0.0.0.0"),
            ("ssid=home", "\"ssid\" is none of its keys"),
        ] {
            let error = text.parse::<NetworkConfig>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert!("x".repeat(MAX_NETWORK_LEN + 1).parse::<NetworkConfig>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back_the_same(
            text in "((nic|bond|vlan|ip|gateway|dns|mtu)=([0-9a-f:.+/]{0,20}|802.3ad|auto|dhcp|10.1.2.3/24),?){0,4}",
        ) {
            if let Ok(config) = text.parse::<NetworkConfig>() {
                prop_assert_eq!(config.to_string().parse::<NetworkConfig>().unwrap(), config);
            }
        }
    }
}
