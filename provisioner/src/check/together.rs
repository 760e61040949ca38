//! What cannot go together, and what is hardly meant. Pure.

use super::report::Finding;
use crate::{
    config::{Options, Part, Part6},
    store::Place,
};
use std::collections::BTreeMap;

/// All of it.
pub(super) fn look(options: &Options) -> Vec<Finding> {
    let mut found = Vec::new();
    addresses(options, &mut found);
    ports(options, &mut found);
    booted(options, &mut found);
    taken_in(options, &mut found);
    let mut names = BTreeMap::new();
    for (mac, machine) in &options.machine {
        if let Some(name) = &machine.name
            && let Some(other) = names.insert(name, mac)
        {
            let text = format!("two machines are called {name:?}: {other} and {mac}");
            found.push(Finding::warning(format!("machine.{mac}.name"), text));
        }
    }
    found
}

fn addresses(options: &Options, found: &mut Vec<Finding>) {
    let part = options.dhcp.unwrap_or(Part::Off);
    let six = options.dhcp6 == Some(Part6::Full);
    if part == Part::Full {
        if let (Some(pool), Some(address)) = (options.pool, options.address)
            && pool.size() == 1
            && pool.contains(address)
        {
            let text = format!("the pool {pool} is our own address alone: nobody gets one");
            found.push(Finding::mistake("pool", text));
        }
        return;
    }
    let given = [
        ("pool", options.pool.is_some()),
        ("router", !options.router.is_empty()),
        ("dns", !options.dns.is_empty()),
        ("lease-seconds", options.lease_seconds.is_some() && !six),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        let text = format!(
            "{key} is given, and with dhcp {} this server gives no addresses: say dhcp full, or \
             leave {key} out",
            part.as_str()
        );
        found.push(Finding::mistake(key, text));
    }
}

fn ports(options: &Options, found: &mut Vec<Finding>) {
    let http = options.http_port.unwrap_or(8080);
    let https = options.https_port.unwrap_or(8443);
    // 0 is any free one.
    if http == https && http != 0 {
        let text = format!("http-port and https-port are both {http}: give each its own");
        found.push(Finding::mistake("https-port", text));
    }
    let dhcp = options.dhcp.and_then(Part::mode).is_some();
    let tftp = options.tftp_port.unwrap_or(69);
    if dhcp && [67, 4011].contains(&tftp) {
        let text = format!("tftp-port {tftp} is DHCP's: leave it at 69, firmware knows no other");
        found.push(Finding::mistake("tftp-port", text));
    } else if dhcp && tftp != 69 && options.ipxe.is_some() {
        let text = format!("firmware asks TFTP at port 69 alone, not at {tftp}");
        found.push(Finding::warning("tftp-port", text));
    }
}

fn booted(options: &Options, found: &mut Vec<Finding>) {
    if options.tls_certificate.is_some() != options.tls_key.is_some() {
        let key = if options.tls_key.is_some() { "tls-key" } else { "tls-certificate" };
        found.push(Finding::mistake(key, crate::tls::TlsError::Half.to_string()));
    }
    if options.image.is_none() {
        found.push(Finding::warning("image", "no image is named: machines find nothing to boot"));
    }
    if options.ipxe.is_none() {
        let named = [("bios-file", &options.bios_file), ("uefi-file", &options.uefi_file)];
        for (key, _) in named.into_iter().filter(|(_, file)| file.is_some()) {
            let text = format!("{key} is a file of iPXE's folder, and ipxe names none");
            found.push(Finding::mistake(key, text));
        }
        if options.dhcp.and_then(Part::mode).is_some() {
            let text = "firmware is told to load iPXE from here, and ipxe names no folder of it: \
                        only machines with an iPXE of their own boot";
            found.push(Finding::warning("ipxe", text));
        }
    }
}

fn taken_in(options: &Options, found: &mut Vec<Finding>) {
    let given = [options.key.is_some(), options.delegation.is_some(), options.chain.is_some()];
    let enrols = given.iter().all(|given| *given);
    if (given[0] || given[1]) && !enrols {
        let key = if given[0] { "key" } else { "delegation" };
        found.push(Finding::mistake(key, crate::start_error::StartError::Partly.to_string()));
    }
    if !enrols {
        let useless = [
            ("approval", options.approval.is_some()),
            ("operator", !options.operator.is_empty()),
            ("time-server", !options.time_server.is_empty()),
        ];
        for (key, _) in useless.into_iter().filter(|(_, given)| *given) {
            let text = format!(
                "{key} is for machines that are taken in: give key, delegation and \
                                chain too"
            );
            found.push(Finding::warning(key, text));
        }
    }
    let file = matches!(options.database.clone().unwrap_or_default(), Place::File(_));
    if options.database_ca.is_some() && file {
        let text = "database-ca is for a PostgreSQL on another host, and the database is a file";
        found.push(Finding::mistake("database-ca", text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Weight;

    fn found(options: Options) -> Vec<(Weight, String)> {
        let found = look(&options).into_iter();
        found.map(|finding| (finding.weight, finding.key.unwrap_or_default())).collect()
    }

    fn has(options: Options, weight: Weight, key: &str) {
        let found = found(options);
        assert!(found.contains(&(weight, key.into())), "{key} in {found:?}");
    }

    #[test]
    fn what_cannot_work_together_is_a_mistake() {
        use Weight::Mistake;
        let pool = "10.0.0.1-10.0.0.9".parse().ok();
        let base = Options::default;
        has(Options { pool, dhcp: Some(Part::Proxy), ..base() }, Mistake, "pool");
        has(Options { router: vec![[10, 0, 0, 1].into()], ..base() }, Mistake, "router");
        has(Options { lease_seconds: Some(600), ..base() }, Mistake, "lease-seconds");
        has(Options { http_port: Some(8443), ..base() }, Mistake, "https-port");
        has(Options { tls_key: Some("k".into()), ..base() }, Mistake, "tls-key");
        has(Options { key: Some("k".into()), ..base() }, Mistake, "key");
        has(Options { bios_file: Some("k".into()), ..base() }, Mistake, "bios-file");
        has(Options { database_ca: Some("k".into()), ..base() }, Mistake, "database-ca");
        let tftp = Options { dhcp: Some(Part::Proxy), tftp_port: Some(67), ..base() };
        has(tftp, Mistake, "tftp-port");
    }

    #[test]
    fn what_is_usual_is_no_mistake() {
        let pool = "10.0.0.1-10.0.0.9".parse().ok();
        let full = Options { pool, dhcp: Some(Part::Full), ..Options::default() };
        let six = Options {
            dhcp6: Some(Part6::Full),
            lease_seconds: Some(600),
            http_port: Some(0),
            https_port: Some(0),
            ..Options::default()
        };
        for options in [full, six, Options::default()] {
            let found = found(options);
            assert!(found.iter().all(|(weight, _)| *weight == Weight::Warning), "{found:?}");
        }
    }
}
