//! Stage `firewall`: the packet filter stands before the network does.

use crate::{
    firewall::{Firewall, MODULES},
    http::Base,
    kernel::Kernel,
    stages::modules,
};
use protocol::boot::NODE_API_PORT;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// The machine goes on without it, and says so loudly: its operator still reaches it. It does no work:
/// the service, whose way out nothing would limit, is not started.
#[derive(Debug, thiserror::Error)]
#[error("NO FIREWALL: {reason}; {missing}this kernel needs nf_tables, nft_ct and nft_reject_inet")]
pub struct FirewallError {
    reason: io::Error,
    missing: String,
}

/// Loads what the filter needs and lets the node API's port alone be reached.
pub fn run(kernel: &dyn Kernel) -> Result<String, FirewallError> {
    let loaded = modules::load(kernel, &MODULES);
    let firewall = Firewall { api: NODE_API_PORT, service: None };
    match kernel.firewall(&firewall) {
        Ok(()) => Ok(format!("from outside port {NODE_API_PORT} alone")),
        Err(reason) => {
            let missing = match loaded.map(|loaded| loaded.failed) {
                Ok(failed) if failed.is_empty() => String::new(),
                Ok(failed) => format!("not loaded: {}; ", failed.join(", ")),
                Err(error) => format!("{error}; "),
            };
            Err(FirewallError { reason, missing })
        }
    }
}

/// The addresses of the service's servers that are named by address. The service asks no name
/// server (PID 1 may, for its own), so it cannot reach one that is named otherwise: those are given
/// too, to be told of.
pub fn servers<'a>(urls: impl IntoIterator<Item = &'a String>) -> (Vec<SocketAddr>, Vec<&'a str>) {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for url in urls {
        let base = url.parse::<Base>().ok();
        let address = base.and_then(|base| {
            let ip: IpAddr = base.host().parse().ok()?;
            Some(SocketAddr::new(ip, base.port()))
        });
        match address {
            Some(address) if found.contains(&address) => {}
            Some(address) => found.push(address),
            None => others.push(url.as_str()),
        }
    }
    (found, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    const TABLES: [(&str, &str); 3] = [
        ("/proc/sys/kernel/osrelease", "6.12\n"),
        ("/lib/modules/6.12/modules.alias", ""),
        (
            "/lib/modules/6.12/modules.dep",
            "kernel/nf_tables.ko:\nkernel/nft_ct.ko: kernel/nf_tables.ko\n",
        ),
    ];

    #[test]
    fn what_it_needs_is_loaded_where_it_is_a_module() {
        let kernel = Fake::new(&TABLES);
        assert_eq!(run(&kernel).unwrap(), "from outside port 7443 alone");
        assert_eq!(kernel.world().modules, ["nf_tables.ko", "nft_ct.ko"]);
        assert_eq!(kernel.world().firewalls, [Firewall { api: 7443, service: None }]);
    }

    #[test]
    fn a_kernel_without_one_is_said_so_loudly() {
        let error = run(&Fake::new(&TABLES).failing("firewall", 93)).unwrap_err().to_string();
        assert!(error.starts_with("NO FIREWALL: Protocol not supported"), "{error}");
    }

    #[test]
    fn servers_are_those_that_are_named_by_address() {
        let urls =
            ["http://10.0.0.1:26657", "http://10.0.0.1:26657", "http://[fd00::1]", "http://a:1"];
        let urls = urls.map(str::to_owned);
        let (found, others) = servers(&urls);
        assert_eq!(found, ["10.0.0.1:26657", "[fd00::1]:80"].map(|text| text.parse().unwrap()));
        assert_eq!(others, ["http://a:1"]);
    }
}
