//! Who else gives addresses and boot files here, and what that makes of our own part.

use super::{
    finding::{Check, Finding},
    heard::Heard,
    link::maker,
    offer::Offer,
    text::list,
};
use crate::{config::Part, dhcp::pool::Network};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) heard: Heard,
    /// Our part, where it is decided.
    pub(super) part: Option<Part>,
    pub(super) network: Option<Network>,
    /// Our own addresses.
    pub(super) own: Vec<Ipv4Addr>,
    /// Why nothing was asked or heard.
    pub(super) deaf: Option<String>,
    /// Why IPv6 was not.
    pub(super) deaf_of_six: Option<String>,
    pub(super) seconds: u64,
}

/// What one server offered, all its answers together.
#[derive(Debug, Default)]
struct Server<'a> {
    offers: Vec<&'a Offer>,
}

impl Server<'_> {
    fn gives(&self) -> bool {
        self.offers.iter().any(|offer| offer.address.is_some())
    }

    fn boots(&self) -> bool {
        self.offers.iter().any(|offer| offer.boots())
    }

    /// What it has machines boot: "undionly.kpxe from 10.0.0.2".
    fn files(&self) -> String {
        let mut files: Vec<String> = Vec::new();
        for offer in &self.offers {
            let file = match (&offer.boot_file, &offer.boot_server) {
                (Some(file), Some(server)) => format!("{file} from {server}"),
                (Some(file), None) => file.clone(),
                (None, _) if offer.port == 4011 => "a choice on port 4011".into(),
                (None, _) if offer.is_pxe() => "what its boot server says".into(),
                (None, _) => continue,
            };
            if !files.contains(&file) {
                files.push(file);
            }
        }
        list(files)
    }
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &seen.deaf {
        Some(why) => findings.push(Finding::unknown(
            Check::Dhcp,
            "which other DHCP servers are here",
            why.clone(),
            "run it as root, or with CAP_NET_RAW, on an interface that is up",
        )),
        None => findings.extend(four(seen)),
    }
    match (&seen.deaf, &seen.deaf_of_six) {
        (None, None) => findings.extend(six(seen)),
        (Some(why), _) | (None, Some(why)) => findings.push(Finding::unknown(
            Check::Dhcp,
            "which DHCPv6 servers and IPv6 routers are here",
            why.clone(),
            "where machines boot by IPv6, run it where this interface has a link-local address",
        )),
    }
    if seen.heard.dropped > 0 {
        findings.push(Finding::problem(
            Check::Dhcp,
            format!("{} answers were too many to keep", seen.heard.dropped),
            "no network has so many servers, switches or answers: somebody floods this one",
            "find who sends them (`tcpdump -e`), and shut that port",
        ));
    }
    findings
}

fn four(seen: &Seen) -> Vec<Finding> {
    let mut servers: BTreeMap<Ipv4Addr, Server> = BTreeMap::new();
    for offer in &seen.heard.offers {
        servers.entry(offer.server).or_default().offers.push(offer);
    }
    let mut findings: Vec<Finding> = servers
        .iter()
        .filter(|(address, _)| !seen.own.contains(address))
        .map(|(address, server)| judge_server(seen, *address, server))
        .collect();
    let givers: Vec<Ipv4Addr> =
        servers.iter().filter(|(_, server)| server.gives()).map(|(address, _)| *address).collect();
    if givers.len() > 1 {
        findings.push(several(&givers, &servers));
    }
    if givers.is_empty() {
        findings.push(nobody(seen));
    }
    findings
}

/// Nobody gives addresses.
fn nobody(seen: &Seen) -> Finding {
    let what = format!("no DHCP server gave an address in {} s", seen.seconds);
    match seen.part {
        Some(Part::Full) => Finding::ok_for(
            Check::Dhcp,
            what,
            "that is as --dhcp full wants it: we are the only one",
        ),
        Some(Part::Proxy) => Finding::problem(
            Check::Dhcp,
            what,
            "--dhcp proxy only says what to boot: without an address no machine gets that far",
            "run us with --dhcp full, where no other is meant to be; else look at the cable, the \
             VLAN, and the other server's pool. One that runs on this host itself is not seen here",
        ),
        Some(Part::Off) => Finding::advice(
            Check::Dhcp,
            what,
            "with --dhcp off machines need another one, or addresses of their own (alia.net=)",
            "--dhcp full, where no other is meant to be",
        ),
        None => Finding::advice(
            Check::Dhcp,
            what,
            "somebody has to give machines addresses",
            "run us with --dhcp full; where a server is meant to be here, look at the cable, the \
             VLAN and its pool first. One that runs on this host itself is not seen here",
        ),
    }
}

fn judge_server(seen: &Seen, address: Ipv4Addr, server: &Server) -> Finding {
    let first = server.offers[0];
    let made = maker(first.sender).map_or(String::new(), |maker| format!(", {maker}"));
    let relay = first.relay.map_or(String::new(), |relay| format!(", by the relay {relay}"));
    let who = format!("{address} ({}{made}{relay})", first.sender);
    let given = server.offers.iter().find_map(|offer| offer.address);
    let outside = given.filter(|given| seen.network.is_some_and(|own| !own.contains(*given)));
    match (server.gives(), server.boots()) {
        (true, _) if let Some(outside) = outside => Finding::problem(
            Check::Dhcp,
            format!("{who} gives {outside}, which is not of our network"),
            "a machine with it reaches us only through a router, if at all, and hears our \
             broadcasts as another network's",
            "give our interface an address of that network, or serve on the interface or VLAN that \
             the machines are on",
        ),
        (true, true) => Finding::problem(
            Check::Dhcp,
            format!("{who} gives addresses and has machines boot {}", server.files()),
            "beside our answer there is its own: which of both a machine takes is up to its \
             firmware",
            "take the boot options out of that server (options 66, 67, 43 and 60; \"next-server\" \
             and \"filename\"; dnsmasq: dhcp-boot and pxe-service; a router: \"network boot\", \
             \"PXE\"), and run us with --dhcp proxy",
        ),
        (true, false) => match seen.part {
            Some(Part::Proxy) => Finding::ok_for(
                Check::Dhcp,
                format!("{who} gives addresses, and says nothing of booting"),
                "that is as --dhcp proxy wants it",
            ),
            Some(Part::Full) => Finding::problem(
                Check::Dhcp,
                format!("{who} gives addresses too"),
                "with --dhcp full we are to be the only one: machines would take either's address, \
                 and the other's tell nothing of booting",
                "run us with --dhcp proxy, which leaves addresses to it; or end its DHCP here",
            ),
            Some(Part::Off) => Finding::ok_for(
                Check::Dhcp,
                format!("{who} gives addresses, and says nothing of booting"),
                "with --dhcp off nobody tells firmware what to boot: it has to come from a medium; \
                 --dhcp proxy would tell it",
            ),
            None => Finding::advice(
                Check::Dhcp,
                format!("{who} gives addresses, and says nothing of booting"),
                "two servers that give addresses get into each other's way",
                "run us with --dhcp proxy: we only say what to boot, and nothing there has to be \
                 changed",
            ),
        },
        (false, _) => Finding::problem(
            Check::Dhcp,
            format!(
                "{who} is a boot server (ProxyDHCP) beside us: it has machines boot {}",
                server.files()
            ),
            "firmware takes the first that answers, or shows a menu of both",
            "end it (dnsmasq: dhcp-range=…,proxy and pxe-service; FOG, WDS, MDT, MAAS, another \
             provisioner), or keep the machines on a VLAN of their own",
        ),
    }
}

/// More than one gives addresses.
fn several(givers: &[Ipv4Addr], servers: &BTreeMap<Ipv4Addr, Server>) -> Finding {
    let networks: Vec<Ipv4Addr> = givers
        .iter()
        .filter_map(|giver| servers.get(giver))
        .flat_map(|server| &server.offers)
        .filter_map(|offer| {
            Some(Ipv4Addr::from_bits(offer.address?.to_bits() & offer.mask?.to_bits()))
        })
        .collect();
    let one = networks.windows(2).all(|pair| pair[0] == pair[1]);
    let what = format!("{} DHCP servers give addresses: {}", givers.len(), list(givers));
    if one {
        Finding::advice(
            Check::Dhcp,
            what,
            "in order where they are a pair that shares its leases; else they give one address twice",
            "be sure that they are such a pair, or that their pools do not overlap",
        )
    } else {
        Finding::problem(
            Check::Dhcp,
            what,
            "they give addresses of different networks: machines land in one or the other by chance",
            "end those that do not belong here: a second router with its \"LAN\" plugged in is the \
             usual one",
        )
    }
}

/// DHCPv6 and router advertisements.
fn six(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for advert in &seen.heard.adverts {
        let who = format!("the DHCPv6 server {} ({})", advert.from, advert.sender);
        let gives = match advert.address {
            Some(address) => format!("gives addresses ({address})"),
            None => "gives no address".into(),
        };
        findings.push(match &advert.boot_url {
            Some(url) => Finding::problem(
                Check::Dhcp,
                format!("{who} {gives} and has machines boot {url}"),
                "UEFI that tries IPv6 first boots from there and never asks us",
                "take option 59 (bootfile-url) out of it, or have firmware try IPv4 first",
            ),
            None => Finding::ok(Check::Dhcp, format!("{who} {gives}, and says nothing of booting")),
        });
    }
    for router in &seen.heard.routers {
        let who = format!("the IPv6 router {}", router.from);
        let answered = seen.heard.adverts.iter().any(|advert| advert.address.is_some());
        findings.push(if router.managed && !answered {
            Finding::advice(
                Check::Dhcp,
                format!("{who} says that addresses come by DHCPv6, and no server gives any"),
                "firmware that tries IPv6 first waits for one in vain, a minute or so, before IPv4",
                "take the managed flag (M) from that router, run a DHCPv6 server, or have firmware \
                 try IPv4 first",
            )
        } else {
            let how = match (router.managed, router.autonomous) {
                (true, _) => "by DHCPv6",
                (false, true) => "by machines themselves (SLAAC)",
                (false, false) => "not from it",
            };
            let out = if router.default { "a way out" } else { "no way out" };
            Finding::ok(Check::Dhcp, format!("{who} is {out}; addresses come {how}"))
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            Check::Dhcp,
            format!("no DHCPv6 server and no IPv6 router answered in {} s", seen.seconds),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            finding::Verdict,
            offer::{Advert, Router, tests::SENDER},
            question::Firmware,
        },
        *,
    };

    fn offer(server: u8, address: Option<u8>, file: Option<&str>, class: Option<&str>) -> Offer {
        Offer {
            firmware: Firmware::Uefi,
            server: Ipv4Addr::new(10, 0, 0, server),
            port: 67,
            sender: SENDER,
            relay: None,
            address: address.map(|last| Ipv4Addr::new(10, 0, 0, last)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routers: vec![],
            boot_file: file.map(String::from),
            boot_server: None,
            class: class.map(String::from),
            boot_item: None,
            mtu: None,
            time_servers: vec![],
        }
    }

    fn seen(part: Option<Part>, offers: Vec<Offer>) -> Seen {
        let network =
            Network { address: Ipv4Addr::new(10, 0, 0, 1), mask: Ipv4Addr::new(255, 255, 255, 0) };
        Seen {
            heard: Heard { offers, ..Heard::default() },
            part,
            network: Some(network),
            deaf_of_six: Some("no IPv6".into()),
            seconds: 10,
            ..Seen::default()
        }
    }

    /// The worst of what is said of IPv4.
    fn worst(seen: &Seen) -> Finding {
        four(seen).into_iter().min_by_key(|finding| finding.verdict).unwrap()
    }

    #[test]
    fn beside_a_home_router_proxy_is_advised() {
        let router = || vec![offer(2, Some(50), None, None)];
        let said = worst(&seen(None, router()));
        assert_eq!(said.verdict, Verdict::Advice);
        assert!(said.what.contains("10.0.0.2") && said.change.contains("--dhcp proxy"), "{said:?}");
        assert_eq!(worst(&seen(Some(Part::Proxy), router())).verdict, Verdict::Ok);
        let said = worst(&seen(Some(Part::Full), router()));
        assert!(said.verdict == Verdict::Problem && said.change.contains("--dhcp proxy"));
    }

    #[test]
    fn alone_full_is_advised_and_proxy_cannot_be() {
        let said = worst(&seen(None, vec![]));
        assert!(said.verdict == Verdict::Advice && said.change.contains("--dhcp full"));
        assert_eq!(worst(&seen(Some(Part::Full), vec![])).verdict, Verdict::Ok);
        assert_eq!(worst(&seen(Some(Part::Proxy), vec![])).verdict, Verdict::Problem);
    }

    #[test]
    fn another_boot_server_is_a_problem_in_every_part() {
        for part in [None, Some(Part::Full), Some(Part::Proxy)] {
            let both = vec![offer(2, Some(50), Some("pxelinux.0"), None)];
            let said = worst(&seen(part, both));
            assert!(
                said.verdict == Verdict::Problem && said.what.contains("pxelinux.0"),
                "{said:?}"
            );
            let proxy =
                vec![offer(2, Some(50), None, None), offer(3, None, None, Some("PXEClient"))];
            let said = worst(&seen(part, proxy));
            assert_eq!(said.verdict, Verdict::Problem);
        }
        let proxy = vec![offer(2, Some(50), None, None), offer(3, None, None, Some("PXEClient"))];
        let said = worst(&seen(Some(Part::Proxy), proxy));
        assert!(said.what.contains("10.0.0.3") && said.what.contains("ProxyDHCP"), "{said:?}");
    }

    #[test]
    fn several_servers_are_told_by_their_networks() {
        let pair = vec![offer(2, Some(50), None, None), offer(3, Some(51), None, None)];
        let said = worst(&seen(Some(Part::Proxy), pair.clone()));
        assert!(
            said.verdict == Verdict::Advice && said.what.contains("2 DHCP servers"),
            "{said:?}"
        );
        let mut strange = pair;
        strange[1].address = Some(Ipv4Addr::new(192, 168, 1, 9));
        let found = four(&seen(Some(Part::Proxy), strange));
        assert!(found.iter().any(|f| f.what.contains("192.168.1.9, which is not of our network")));
        assert!(found.iter().any(|f| f.why.contains("different networks")));
    }

    #[test]
    fn our_own_answers_are_nobody_elses() {
        let mut seen = seen(None, vec![offer(1, None, Some("x.efi"), Some("PXEClient"))]);
        seen.own.push(Ipv4Addr::new(10, 0, 0, 1));
        assert!(worst(&seen).what.contains("no DHCP server"));
    }

    #[test]
    fn who_may_not_ask_says_so() {
        let mut seen = seen(Some(Part::Full), vec![]);
        seen.deaf = Some("no right".into());
        let found = judge(&seen);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Unknown));
    }

    #[test]
    fn ipv6_servers_and_routers_are_told() {
        let mut seen = seen(Some(Part::Full), vec![]);
        seen.deaf_of_six = None;
        let from = "fe80::1".parse().unwrap();
        let router = Router { from, managed: true, default: true, autonomous: false, mtu: None };
        seen.heard.routers.push(router);
        assert_eq!(six(&seen)[0].verdict, Verdict::Advice);
        let boot_url = Some("tftp://[fd00::1]/x.efi".to_string());
        let address = Some("fd00::9".parse().unwrap());
        seen.heard.adverts.push(Advert { from, sender: SENDER, address, boot_url });
        assert_eq!(six(&seen)[0].verdict, Verdict::Problem);
        assert_eq!(six(&seen)[1].verdict, Verdict::Ok);
    }

    #[test]
    fn a_flood_is_a_problem() {
        let mut seen = seen(Some(Part::Full), vec![]);
        seen.heard.dropped = 9;
        assert!(judge(&seen).iter().any(|f| f.verdict == Verdict::Problem));
    }
}
