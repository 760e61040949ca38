//! What this host has room and rights for: tables, open files, filters, disk.

use super::{
    finding::{Check, Finding},
    host::Host,
    text::list,
};
use crate::store::Place;
use listener::Limits;
use nix::sys::statvfs::statvfs;
use std::path::Path;

/// Files that the provisioner has open beside its connections: database, sockets, images.
const OTHER_FILES: u64 = 256;
/// Connections that a machine makes while it boots, as the tracking of connections counts them.
const CONNECTIONS_A_MACHINE: u64 = 16;
/// Room for the database: below the first a boot storm fills it, below the second a year may.
const LEAST_ROOM: u64 = 64 << 20;
const GOOD_ROOM: u64 = 1 << 30;
/// Capabilities by their numbers (capabilities(7)).
const BIND: u32 = 10;
const RAW: u32 = 13;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) interface: String,
    /// How many machines there may be: the pool's addresses, or the network's.
    pub(super) machines: Option<u64>,
    /// ARP's `gc_thresh1`, `2`, `3`.
    pub(super) neighbours: Option<[u64; 3]>,
    /// Open files: soft and hard limit.
    pub(super) files: Option<(u64, u64)>,
    /// Reverse path filter, the stricter of all's and the interface's; how many interfaces have it.
    pub(super) reverse_path: Option<u8>,
    /// Connections tracked, and at most.
    pub(super) tracked: Option<(u64, u64)>,
    /// What shows that packets are filtered.
    pub(super) filters: Vec<&'static str>,
    /// Where the database lies, and the bytes free there.
    pub(super) database: Place,
    pub(super) room: Option<u64>,
    /// The capabilities of this process.
    pub(super) rights: Option<u64>,
}

/// What is to be said of it. Pure.
pub(super) fn judge(seen: &Seen) -> Vec<Finding> {
    let ok = |what: String| Finding::ok(Check::Limits, what);
    let blind = |what: &str, why: &str| Finding::unknown(Check::Limits, what, why, "");
    vec![
        arp(seen),
        match seen.files {
            None => blind("how many files may be open", "/proc tells none"),
            Some((soft, hard)) => {
                let wanted = Limits::USUAL.connections as u64 + OTHER_FILES;
                let what = format!("{soft} files may be open (at most {hard})");
                if soft >= wanted {
                    ok(what)
                } else {
                    Finding::advice(
                        Check::Limits,
                        what,
                        format!(
                            "a thousand machines at once want up to {wanted}: a connection is one"
                        ),
                        format!(
                            "`ulimit -n {wanted}`, or LimitNOFILE={wanted} in the systemd unit"
                        ),
                    )
                }
            }
        },
        match seen.reverse_path {
            None => blind("whether sources are checked (rp_filter)", "/proc tells none"),
            Some(1) => Finding::advice(
                Check::Limits,
                format!("{} checks sources strictly (rp_filter = 1)", seen.interface),
                "packets of machines behind a relay are dropped where our way back to them is by \
                 another interface; on one network alone it does no harm",
                format!(
                    "with relays: `sysctl net.ipv4.conf.{}.rp_filter=2`, and `all` too",
                    seen.interface
                ),
            ),
            Some(_) => ok("sources are not checked so that relays would suffer (rp_filter)".into()),
        },
        match seen.tracked {
            None => ok("connections are not tracked here (no conntrack)".into()),
            Some((now, most)) => {
                let machines = seen.machines.unwrap_or(1_000);
                let wanted = machines * CONNECTIONS_A_MACHINE + now;
                let what = format!("connections tracked: {now} of at most {most}");
                if most >= wanted {
                    ok(what)
                } else {
                    Finding::advice(
                        Check::Limits,
                        what,
                        format!(
                            "{machines} machines that boot at once make some {wanted}; one more \
                             than the table takes is dropped, and TFTP stops"
                        ),
                        format!(
                            "`sysctl net.netfilter.nf_conntrack_max={wanted}`, or do not track \
                             ports 67, 69, 4011 and ours"
                        ),
                    )
                }
            }
        },
        {
            let found = if seen.filters.is_empty() {
                "no packet filter shows; one may still be there".to_string()
            } else {
                format!("this host filters packets ({})", list(seen.filters.iter()))
            };
            Finding::unknown(
                Check::Limits,
                format!("what a packet filter lets pass: {found}"),
                "the rules are not read here, and those of switches and routers cannot be seen",
                "let pass, on this interface: UDP 67, 68, 69, 4011 and the high UDP ports that \
                 TFTP answers from; TCP 8080 (or --http-port)",
            )
        },
        room(seen),
        match seen.rights {
            None => blind("which rights this process has", "/proc tells none"),
            Some(rights) => {
                let has = |bit: u32| rights & (1 << bit) != 0;
                match (has(BIND), has(RAW)) {
                    (true, true) => {
                        ok("this process may bind low ports and see whole frames".into())
                    }
                    (true, false) => ok("this process may bind low ports".into()),
                    (false, _) => Finding::advice(
                        Check::Limits,
                        "this process has no right to ports below 1024",
                        "`serve` wants 67 and 69; run by this user it would not start",
                        "run it as root, or with CAP_NET_BIND_SERVICE",
                    ),
                }
            }
        },
    ]
}

/// The kernel's table of neighbours: over its third threshold it takes no more, and packets to new
/// machines are dropped ("neighbour: arp_cache: neighbor table overflow!").
fn arp(seen: &Seen) -> Finding {
    let Some([_, second, third]) = seen.neighbours else {
        return Finding::unknown(
            Check::Limits,
            "how many machines the ARP table takes",
            "/proc tells no thresholds here (a container's network has none of its own)",
            "on the host: `sysctl net.ipv4.neigh.default.gc_thresh3`, more than there are machines",
        );
    };
    let what = format!("the ARP table takes {third} machines");
    let Some(machines) = seen.machines else { return Finding::ok(Check::Limits, what) };
    let (good, better) = (machines * 2, machines * 4);
    let change = format!(
        "`sysctl net.ipv4.neigh.default.gc_thresh2={good} net.ipv4.neigh.default.gc_thresh3={better}`"
    );
    let why = format!("there may be {machines} machines here; over it new ones are not answered");
    if third < machines {
        Finding::problem(Check::Limits, what, why, change)
    } else if second < machines {
        let why = format!(
            "there may be {machines} machines; from {second} on entries are thrown out after 5 s"
        );
        Finding::advice(Check::Limits, what, why, change)
    } else {
        Finding::ok(Check::Limits, what)
    }
}

fn room(seen: &Seen) -> Finding {
    let place = &seen.database;
    if let Place::Server { .. } = place {
        return Finding::unknown(
            Check::Limits,
            format!("the room for the database, {place}"),
            "it lies where that server keeps it",
            "look at the disk of its host",
        );
    }
    let Some(room) = seen.room else {
        return Finding::unknown(
            Check::Limits,
            format!("the room for the database {place}"),
            "its folder cannot be looked at",
            "make the folder, or name another by --database",
        );
    };
    let what = format!("{} MiB are free for the database {place}", room >> 20);
    let why = "leases and machines' histories are kept there; when it is full nothing new is";
    match room {
        ..LEAST_ROOM => Finding::problem(
            Check::Limits,
            what,
            why,
            "make room, or name another place by --database",
        ),
        LEAST_ROOM..GOOD_ROOM => Finding::advice(Check::Limits, what, why, "1 GiB lasts for years"),
        _ => Finding::ok(Check::Limits, what),
    }
}

/// Looks at /proc and at the disk.
pub(super) fn look(host: &Host, interface: &str, machines: Option<u64>, database: &Place) -> Seen {
    let threshold = |n: u8| host.number(&format!("proc/sys/net/ipv4/neigh/default/gc_thresh{n}"));
    let neighbours = match (threshold(1), threshold(2), threshold(3)) {
        (Some(a), Some(b), Some(c)) => Some([a, b, c]),
        _ => None,
    };
    let filter = |name: &str| host.number(&format!("proc/sys/net/ipv4/conf/{name}/rp_filter"));
    // 2 is looser than 1, but outweighs it (ip-sysctl: the larger of both counts).
    let reverse_path = match (filter("all"), filter(interface)) {
        (None, None) => None,
        (a, b) => a.max(b),
    };
    let tracked = |name: &str| host.number(&format!("proc/sys/net/netfilter/nf_conntrack_{name}"));
    let file = match database {
        Place::File(file) => file.as_path(),
        Place::Server { .. } => Path::new("."),
    };
    let folder = match file.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => file,
    };
    Seen {
        interface: interface.into(),
        machines,
        neighbours,
        files: host.text("proc/self/limits").as_deref().and_then(files),
        reverse_path,
        tracked: tracked("count").zip(tracked("max")),
        filters: filters(host),
        database: database.clone(),
        room: statvfs(folder)
            .ok()
            .map(|about| about.blocks_available().saturating_mul(about.fragment_size())),
        rights: host.text("proc/self/status").as_deref().and_then(rights),
    }
}

/// "Max open files  1024  524288  files" of /proc/self/limits.
fn files(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((words.next()??, words.next()??))
}

/// "CapEff: 000001ffffffffff" of /proc/self/status.
fn rights(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn filters(host: &Host) -> Vec<&'static str> {
    let modules = host.text("proc/modules").unwrap_or_default();
    let loaded =
        |name: &str| modules.lines().any(|line| line.split_whitespace().next() == Some(name));
    let mut found = Vec::new();
    if loaded("nf_tables") {
        found.push("nftables");
    }
    if !host.text("proc/self/net/ip_tables_names").unwrap_or_default().is_empty() {
        found.push("iptables");
    }
    if host.has("run/firewalld") {
        found.push("firewalld");
    }
    if host.has("etc/ufw/ufw.conf")
        && host.text("etc/ufw/ufw.conf").unwrap_or_default().contains("ENABLED=yes")
    {
        found.push("ufw");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn good() -> Seen {
        Seen {
            interface: "eth0".into(),
            machines: Some(100),
            neighbours: Some([128, 512, 1024]),
            files: Some((65_536, 65_536)),
            reverse_path: Some(2),
            tracked: None,
            filters: vec![],
            database: Place::File("p.sqlite".into()),
            room: Some(4 << 30),
            rights: Some(u64::MAX),
        }
    }

    fn worst(seen: &Seen) -> Finding {
        judge(seen)
            .into_iter()
            .filter(|finding| !finding.what.contains("packet filter"))
            .min_by_key(|finding| finding.verdict)
            .unwrap()
    }

    #[test]
    fn a_good_host_is_good_but_for_what_cannot_be_seen() {
        assert_eq!(worst(&good()).verdict, Verdict::Ok);
        let unseen = judge(&good()).into_iter().find(|f| f.what.contains("packet filter"));
        assert_eq!(unseen.unwrap().verdict, Verdict::Unknown);
    }

    #[test]
    fn a_network_larger_than_the_arp_table_is_a_problem() {
        let said = worst(&Seen { machines: Some(4_000), ..good() });
        assert_eq!(said.verdict, Verdict::Problem);
        assert!(said.change.contains("gc_thresh3=16000"), "{said:?}");
        assert_eq!(worst(&Seen { machines: Some(600), ..good() }).verdict, Verdict::Advice);
        assert_eq!(worst(&Seen { neighbours: None, ..good() }).verdict, Verdict::Unknown);
    }

    #[test]
    fn few_files_little_room_and_no_rights_are_told() {
        for (seen, verdict, word) in [
            (Seen { files: Some((1_024, 4_096)), ..good() }, Verdict::Advice, "LimitNOFILE=4352"),
            (Seen { room: Some(1 << 20), ..good() }, Verdict::Problem, "--database"),
            (Seen { room: Some(1 << 28), ..good() }, Verdict::Advice, "1 GiB"),
            (Seen { rights: Some(0), ..good() }, Verdict::Advice, "CAP_NET_BIND_SERVICE"),
            (Seen { reverse_path: Some(1), ..good() }, Verdict::Advice, "rp_filter=2"),
            (Seen { tracked: Some((10, 1_000)), ..good() }, Verdict::Advice, "conntrack_max=1610"),
        ] {
            let said = worst(&seen);
            assert!(said.verdict == verdict && said.change.contains(word), "{said:?}");
        }
    }

    #[test]
    fn this_hosts_own_limits_are_read() {
        let seen = look(&Host::this(), "lo", None, &Place::default());
        assert!(seen.files.is_some() && seen.room.is_some() && seen.rights.is_some(), "{seen:?}");
        assert_eq!(files("Max open files   unlimited   524288   files"), Some((u64::MAX, 524_288)));
    }
}
