//! DHCP exchanges, DISCOVER to ACK, as many as a server manages with so many clients waiting at a
//! time, each exchange by a client that the server has never seen. The clients come through a relay,
//! so that answers are by unicast.
//!
//! What a lease is worth once it is acknowledged differs, and each row says so: ours is in SQLite's
//! WAL and Kea's in its memfile, neither synced to the disk before the answer, so that a crash of the
//! server does not reach it and a power cut may; dnsmasq writes its lease file anew and syncs it with
//! each lease (strace shows one fsync a lease).

use super::{
    Bed,
    row::{Better, Row},
    runtime,
};
use crate::{
    dhcp::{Client, Wire},
    histogram::Histogram,
    machine::Machine,
    process,
    sample::Sizes,
    site::OURS,
};
use anyhow::bail;
use lab::{Ready, Service, net};
use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Clients that wait for an answer at a time.
const AT_A_TIME: u32 = 64;
/// How long a server is asked, and how often at most: the pool has 32,767 addresses.
const LASTING: Duration = Duration::from_secs(6);
const MOST: u32 = 24_000;
const READY: Duration = Duration::from_secs(20);
const GOAL: f64 = 2.0;

/// One server's figures.
struct Measured {
    per_second: f64,
    p99: f64,
    failed: u32,
    cpu_micros: f64,
}

pub(super) fn run(bed: &Bed, keep: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let ours = {
        let provisioner = bed.provisioner(&Sizes::SMALL)?;
        measure(&runtime, provisioner.id())?
    };
    let folder = bed.folder("dhcp")?;
    type Start = fn(&Bed, &Path) -> Result<(Service, String), String>;
    let peers: [(&str, Start, &str); 2] = [
        (
            "dnsmasq",
            dnsmasq,
            "its lease file written anew and synced with each lease: more durable than ours",
        ),
        (
            "kea-dhcp4",
            kea,
            "memfile with persist, appended to with each lease, not synced: as durable as ours",
        ),
    ];
    let our_leases = "leases: ours in SQLite, WAL, synchronous=NORMAL (not synced)";
    for (name, start, leases) in peers {
        let (peer, theirs, note) = match start(bed, &folder) {
            Err(why) => (name.to_owned(), None, format!("{name} cannot be had: {why}")),
            Ok((service, peer)) => match measure(&runtime, service.id()) {
                Err(error) => (peer, None, format!("{error:#}")),
                Ok(theirs) => {
                    let note = format!(
                        "{our_leases}; theirs: {leases}; CPU an exchange {:.0} and {:.0} us; failed {} and {}",
                        ours.cpu_micros, theirs.cpu_micros, ours.failed, theirs.failed
                    );
                    (peer, Some(theirs), note)
                }
            },
        };
        let case = format!("exchanges, {AT_A_TIME} at a time");
        let their_rate = theirs.as_ref().map(|theirs| theirs.per_second);
        keep(
            Row::new("dhcp", case.clone(), "1/s")
                .against(ours.per_second, peer.clone(), their_rate, Better::More, GOAL)
                .note(note.clone()),
        );
        let their_p99 = theirs.as_ref().map(|theirs| theirs.p99 * 1e3);
        keep(
            Row::new("dhcp", format!("{case}, p99"), "ms")
                .against(ours.p99 * 1e3, peer, their_p99, Better::Less, GOAL)
                .note(note),
        );
    }
    Ok(())
}

fn measure(runtime: &tokio::runtime::Runtime, id: u32) -> anyhow::Result<Measured> {
    let cpu = || process::usage(id).map_or(0.0, |usage| usage.cpu_seconds);
    let before = cpu();
    let began = Instant::now();
    let (times, failed) = runtime.block_on(exchanges())?;
    let seconds = began.elapsed().as_secs_f64();
    if times.count() == 0 {
        bail!("no exchange came to an end");
    }
    Ok(Measured {
        per_second: times.count() as f64 / seconds,
        p99: times.percentile(0.99),
        failed,
        cpu_micros: (cpu() - before) * 1e6 / times.count() as f64,
    })
}

async fn exchanges() -> anyhow::Result<(Histogram, u32)> {
    let wire = Wire::relay(OURS, net::SERVER)?;
    let times = Arc::new(Mutex::new(Histogram::default()));
    let (next, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (wire, times, over) = (wire.clone(), times.clone(), over.clone());
        let (next, failed) = (next.clone(), failed.clone());
        clients.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MOST {
                    break;
                }
                let machine = Machine::new(number, 0);
                let began = Instant::now();
                let xid = 0x5000_0000 + number;
                match wire.exchange(Client::Linux, &machine, xid, Duration::ZERO).await {
                    Ok(_) => {
                        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                        times.add(began.elapsed().as_secs_f64());
                    }
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    let ends = tokio::time::sleep(LASTING);
    tokio::pin!(ends);
    loop {
        tokio::select! {
            () = &mut ends => {
                over.store(true, Ordering::Relaxed);
                break;
            }
            client = clients.join_next() => {
                if client.is_none() { break; }
            }
        }
    }
    // One whose answer was lost asks again after 4 s: not waited for, but counted as failed.
    let grace = tokio::time::sleep(Duration::from_millis(500));
    tokio::pin!(grace);
    loop {
        tokio::select! {
            () = &mut grace => break,
            client = clients.join_next() => if client.is_none() { break },
        }
    }
    let lost = clients.len() as u32;
    clients.shutdown().await;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((times, failed.load(Ordering::Relaxed) + lost))
}

fn dnsmasq(bed: &Bed, folder: &Path) -> Result<(Service, String), String> {
    let peer = bed.peers().dnsmasq.as_ref().map_err(Clone::clone)?;
    let spec = peer
        .service("dnsmasq-dhcp", folder)
        .args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"])
        .args(["--bind-interfaces", "--quiet-dhcp", "--dhcp-authoritative", "--no-ping"])
        .arg(format!("--interface={}", net::BRIDGE))
        .arg("--dhcp-range=10.77.128.0,10.77.255.254,255.255.0.0,1h")
        .arg("--dhcp-lease-max=40000")
        .arg(format!("--dhcp-leasefile={}", folder.join("dnsmasq.leases").display()))
        .ready(Ready::Line("DHCP, IP range".into()));
    let service = Service::start_ready(spec, READY).map_err(|error| error.to_string())?;
    Ok((service, peer.name.clone()))
}

fn kea(bed: &Bed, folder: &Path) -> Result<(Service, String), String> {
    let peer = bed.peers().kea.as_ref().map_err(Clone::clone)?;
    let config = serde_json::json!({ "Dhcp4": {
        // Through a relay: no raw sockets needed.
        "interfaces-config": { "interfaces": [net::BRIDGE], "dhcp-socket-type": "udp" },
        "lease-database": {
            "type": "memfile", "persist": true, "lfc-interval": 0,
            "name": folder.join("kea-leases4.csv"),
        },
        "valid-lifetime": 3600,
        "subnet4": [{
            "id": 1, "subnet": "10.77.0.0/16",
            "pools": [{ "pool": "10.77.128.0 - 10.77.255.254" }],
        }],
        "loggers": [
            { "name": "kea-dhcp4", "severity": "WARN", "output-options": [{ "output": "stdout" }] },
            { "name": "kea-dhcp4.dhcp4", "severity": "INFO", "output-options": [{ "output": "stdout" }] },
        ],
    }});
    let path = folder.join("kea.json");
    fs::write(&path, config.to_string()).map_err(|error| error.to_string())?;
    let mut spec =
        peer.service("kea", folder).arg("-c").arg(path).ready(Ready::Line("DHCP4_STARTED".into()));
    let place = folder.display().to_string();
    for name in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR", "KEA_LOG_FILE_DIR"] {
        spec.environment.push((name.into(), place.clone()));
    }
    let service = Service::start_ready(spec, READY).map_err(|error| error.to_string())?;
    Ok((service, peer.name.clone()))
}
