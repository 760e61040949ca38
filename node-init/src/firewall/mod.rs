//! The packet filter: one table of rules, replaced whole, that refuses what it does not name.
//!
//! From outside, the node API's port is reached and nothing else. From inside, PID 1 goes where it
//! likes (its servers are not known before DHCP has answered), the service to its servers alone.
//! There is no `nft` on a node: [`rules`] is the ruleset as values, printed as `nft` would list it,
//! [`encode`] makes netlink messages of it, [`linux`] has the kernel take them in one transaction.

pub mod encode;
pub mod linux;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The table's name.
pub const TABLE: &str = "alia";
/// Modules that it needs where the kernel does not have them built in.
pub const MODULES: [&str; 3] = ["nf_tables", "nft_ct", "nft_reject_inet"];

/// What is let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// The node API's TCP port.
    pub api: u16,
    /// The service, once it is known what its servers are.
    pub service: Option<Service>,
}

/// A service that goes to its servers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its user.
    pub user: u32,
    /// Its servers.
    pub servers: Vec<SocketAddr>,
}

/// A chain: packets of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Which.
    pub direction: Direction,
    /// What matches first counts; a packet that nothing matches is dropped.
    pub rules: Vec<Rule>,
}

/// A packet's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this machine.
    Input,
    /// Through it.
    Forward,
    /// From it.
    Output,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Then.
    pub verdict: Verdict,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// An answer to what was let through before, or an error about it.
    Known,
    /// Came by the loopback.
    FromLoopback,
    /// Goes by the loopback.
    ToLoopback,
    /// The protocol above IP.
    Protocol(Protocol),
    /// TCP's.
    DestinationPort(u16),
    /// Of ICMPv6.
    Icmp6Type(u8),
    /// To this address.
    To(IpAddr),
    /// Sent by a socket of this user.
    User(u32),
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// ICMPv6.
    Icmp6,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is dropped, and its sender told at once.
    Reject,
}

/// ICMPv6 that IPv6 does not work without: multicast listener queries, router and neighbour
/// advertisements, neighbour solicitations (RFC 4890, 4.4.1).
const NEIGHBOURS: [u8; 4] = [130, 134, 135, 136];

/// The rules.
pub fn rules(firewall: &Firewall) -> Vec<Chain> {
    use Match::*;
    let accept = |matches: &[Match]| Rule { matches: matches.to_vec(), verdict: Verdict::Accept };
    let mut input = vec![accept(&[Known]), accept(&[FromLoopback])];
    input
        .extend(NEIGHBOURS.map(|kind| accept(&[Protocol(self::Protocol::Icmp6), Icmp6Type(kind)])));
    // DHCPv4's answers come by a packet socket, before this filter.
    input.push(accept(&[Protocol(self::Protocol::Tcp), DestinationPort(firewall.api)]));

    let mut output = vec![accept(&[Known])];
    if let Some(Service { user, servers }) = &firewall.service {
        output.extend(servers.iter().map(|server| {
            let port = DestinationPort(server.port());
            accept(&[User(*user), To(server.ip()), Protocol(self::Protocol::Tcp), port])
        }));
        output.push(Rule { matches: vec![User(*user)], verdict: Verdict::Reject });
    }
    output.push(accept(&[ToLoopback]));
    output.push(accept(&[User(0)]));
    // The kernel's own: neighbour discovery and errors, which belong to no user.
    output.push(accept(&[Protocol(self::Protocol::Icmp6)]));
    vec![
        Chain { direction: Direction::Input, rules: input },
        Chain { direction: Direction::Forward, rules: Vec::new() },
        Chain { direction: Direction::Output, rules: output },
    ]
}

impl Direction {
    /// The chain's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// As `nft list ruleset` prints it.
impl fmt::Display for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        let mut between = "";
        for chain in rules(self) {
            let name = chain.direction.name();
            writeln!(f, "{between}\tchain {name} {{")?;
            between = "\n";
            writeln!(f, "\t\ttype filter hook {name} priority filter; policy drop;")?;
            for rule in chain.rules {
                writeln!(f, "\t\t{rule}")?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut protocol = "";
        for each in &self.matches {
            match each {
                Match::Known => f.write_str("ct state established,related ")?,
                Match::FromLoopback => f.write_str("iifname \"lo\" ")?,
                Match::ToLoopback => f.write_str("oifname \"lo\" ")?,
                Match::Protocol(Protocol::Tcp) => protocol = "tcp",
                // Said by itself where nothing says it more narrowly.
                Match::Protocol(Protocol::Icmp6) if self.matches.len() > 1 => protocol = "icmpv6",
                Match::Protocol(Protocol::Icmp6) => f.write_str("meta l4proto ipv6-icmp ")?,
                Match::DestinationPort(port) => write!(f, "{protocol} dport {port} ")?,
                Match::Icmp6Type(kind) => write!(f, "icmpv6 type {} ", icmp6(*kind))?,
                Match::To(IpAddr::V4(address)) => write!(f, "ip daddr {address} ")?,
                Match::To(IpAddr::V6(address)) => write!(f, "ip6 daddr {address} ")?,
                Match::User(user) => write!(f, "meta skuid {user} ")?,
            }
        }
        f.write_str(match self.verdict {
            Verdict::Accept => "accept",
            Verdict::Reject => "reject with icmpx admin-prohibited",
        })
    }
}

fn icmp6(kind: u8) -> String {
    match kind {
        130 => "mld-listener-query".into(),
        134 => "nd-router-advert".into(),
        135 => "nd-neighbor-solicit".into(),
        136 => "nd-neighbor-advert".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn firewall() -> Firewall {
        let servers = ["10.77.0.1:26657", "[fd00::7]:8070"].map(|text| text.parse().unwrap());
        let service = Some(Service { user: 900, servers: servers.into() });
        Firewall { api: 7443, service }
    }

    #[test]
    fn the_rules_are_these() {
        let wanted = "table inet alia {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname \"lo\" accept
		icmpv6 type mld-listener-query accept
		icmpv6 type nd-router-advert accept
		icmpv6 type nd-neighbor-solicit accept
		icmpv6 type nd-neighbor-advert accept
		tcp dport 7443 accept
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
	}

	chain output {
		type filter hook output priority filter; policy drop;
		ct state established,related accept
		meta skuid 900 ip daddr 10.77.0.1 tcp dport 26657 accept
		meta skuid 900 ip6 daddr fd00::7 tcp dport 8070 accept
		meta skuid 900 reject with icmpx admin-prohibited
		oifname \"lo\" accept
		meta skuid 0 accept
		meta l4proto ipv6-icmp accept
	}
}
";
        assert_eq!(firewall().to_string(), wanted);
    }

    #[test]
    fn before_the_servers_are_known_no_user_but_root_sends() {
        let text = Firewall { api: 7443, service: None }.to_string();
        assert!(!text.contains("900") && text.contains("meta skuid 0 accept"), "{text}");
    }
}
