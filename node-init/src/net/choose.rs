//! Which link to take: the NIC that booted us, then the others.

use super::{Link, MAX_TRIED};
use crate::mac::Mac;

/// Whether waiting for more links would change nothing: the NIC that booted us has a carrier, or,
/// where it is not known, any has.
pub fn settled(links: &[Link], boot_nic: Option<Mac>) -> bool {
    let wanted = |link: &Link| boot_nic.is_none_or(|mac| link.mac == mac);
    links.iter().any(|link| link.carrier && wanted(link))
}

/// The links to ask on, in order: those with a carrier, the NIC that booted us first.
pub fn candidates(links: &[Link], boot_nic: Option<Mac>) -> Vec<&Link> {
    let mut order: Vec<&Link> = links.iter().filter(|link| link.carrier).collect();
    order.sort_by_key(|link| (Some(link.mac) != boot_nic, link.index));
    order.truncate(MAX_TRIED);
    order
}

/// Why no link gave an address, link by link, for people.
pub fn explain(links: &[Link], undriven: &[String], boot_nic: Option<Mac>) -> String {
    let mut reasons: Vec<String> = links.iter().map(|link| why_not(link, boot_nic)).collect();
    if let Some(mac) = boot_nic.filter(|mac| !links.iter().any(|link| link.mac == *mac)) {
        reasons.push(format!("the NIC that booted us ({mac}) has no driver here"));
    }
    if !undriven.is_empty() {
        let list = undriven.join(", ");
        reasons.push(format!(
            "no interface came of network controller {list}: the image lacks its driver or firmware"
        ));
    }
    if reasons.is_empty() {
        reasons.push("the machine has no network controller".to_owned());
    }
    reasons.join("; ")
}

fn why_not(link: &Link, boot_nic: Option<Mac>) -> String {
    let booted = if Some(link.mac) == boot_nic { ", which booted us," } else { "" };
    let what = if link.carrier {
        "has a link, but no DHCP server answered: look at the DHCP server"
    } else {
        "has no link: look at its cable and switch port"
    };
    format!("{} ({}){booted} {what}", link.name, link.mac)
}

/// Why another link than the one that booted us was taken; empty where that one was.
pub fn explain_other(links: &[Link], taken: &Link, boot_nic: Option<Mac>) -> String {
    let Some(mac) = boot_nic.filter(|mac| *mac != taken.mac) else { return String::new() };
    match links.iter().find(|link| link.mac == mac) {
        Some(link) => format!("; {}", why_not(link, boot_nic)),
        None => format!("; the NIC that booted us ({mac}) has no driver here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOOT: Mac = Mac([2; 6]);

    fn link(index: u32, carrier: bool) -> Link {
        let (name, mac) = (format!("eth{index}"), Mac([index as u8; 6]));
        Link { index, name, mac, up: true, carrier }
    }

    #[test]
    fn the_nic_that_booted_us_comes_first_and_those_without_a_link_not_at_all() {
        let links = [link(1, true), link(2, true), link(3, false), link(4, true)];
        let order: Vec<_> = candidates(&links, Some(BOOT)).iter().map(|l| l.index).collect();
        assert_eq!(order, [2, 1, 4]);
        let order: Vec<_> = candidates(&links, None).iter().map(|l| l.index).collect();
        assert_eq!(order, [1, 2, 4]);
    }

    #[test]
    fn other_links_wait_for_the_one_that_booted_us() {
        assert!(!settled(&[link(1, true), link(2, false)], Some(BOOT)));
        assert!(settled(&[link(1, false), link(2, true)], Some(BOOT)));
        assert!(settled(&[link(1, true)], None));
        assert!(!settled(&[], None));
    }

    #[test]
    fn the_reason_names_each_nic_and_what_to_look_at() {
        let told = explain(&[link(1, true), link(2, false)], &[], Some(BOOT));
        assert!(told.contains("eth1 (01:01:01:01:01:01) has a link, but no DHCP"), "{told}");
        assert!(told.contains("eth2 (02:02:02:02:02:02), which booted us, has no link"), "{told}");
    }

    #[test]
    fn a_nic_without_a_driver_is_named_by_its_pci_id() {
        let told = explain(&[], &["8086:1533 at 0000:00:03.0".into()], Some(BOOT));
        assert!(told.contains("(02:02:02:02:02:02) has no driver here"), "{told}");
        assert!(told.contains("no interface came of network controller 8086:1533"), "{told}");
        assert_eq!(explain(&[], &[], None), "the machine has no network controller");
    }

    #[test]
    fn taking_another_link_than_the_one_that_booted_us_says_why() {
        let links = [link(1, true), link(2, false)];
        assert_eq!(explain_other(&links, &links[1], Some(BOOT)), "");
        assert_eq!(explain_other(&links, &links[0], None), "");
        let told = explain_other(&links, &links[0], Some(BOOT));
        assert!(told.starts_with("; eth2 (02:02:02:02:02:02), which booted us, has no"), "{told}");
        let told = explain_other(&links[..1], &links[0], Some(BOOT));
        assert!(told.contains("has no driver here"), "{told}");
    }

    proptest! {
        #[test]
        fn every_link_with_a_carrier_is_asked_on_up_to_the_bound(
            carriers in proptest::collection::vec(any::<bool>(), 0..20), boot in 0u8..20,
        ) {
            let links: Vec<Link> =
                carriers.iter().enumerate().map(|(i, c)| link(i as u32, *c)).collect();
            let boot = Mac([boot; 6]);
            let order = candidates(&links, Some(boot));
            let live = carriers.iter().filter(|carrier| **carrier).count();
            prop_assert_eq!(order.len(), live.min(MAX_TRIED));
            if links.iter().any(|link| link.carrier && link.mac == boot) {
                prop_assert_eq!(order[0].mac, boot);
            }
        }
    }
}
