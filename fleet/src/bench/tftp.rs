//! A file by TFTP over a way of a millisecond, as firmware asks for it, in windows of 1, 4 and 16
//! blocks. dnsmasq and tftpd-hpa know no windows and send a block at a time whatever is asked.

use super::{
    Bed,
    delay::Delay,
    row::{Better, Row},
    runtime,
};
use crate::{
    sample,
    site::{OURS, SERVER_NAMESPACE},
    tftp::{self, Wanted},
};
use anyhow::{Context, bail};
use lab::{Ready, Service, ServiceSpec, net};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

const BYTES: u64 = 2 << 20;
const ROUND_TRIP: Duration = Duration::from_millis(1);
const TURNS: u32 = 3;
const OUR_PORT: u16 = 1_069;
const HPA_PORT: u16 = 1_070;
/// Windows, and how many times dnsmasq's speed is to be reached with each.
const WINDOWS: [(u16, f64); 3] = [(1, 1.0), (4, 3.5), (16, 12.0)];
const READY: Duration = Duration::from_secs(20);

pub(super) fn run(bed: &Bed, keep: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let folder = bed.folder("tftp")?;
    let root = folder.join("root");
    fs::create_dir_all(&root)?;
    let file = sample::file(&root, "file", BYTES)?;
    readable_by_all(&folder)?;
    let mut ours = ServiceSpec::new("tftp", bed.program(), &folder)
        .args(["tftp", "--listen", &format!("{}:{OUR_PORT}", net::SERVER), "--root"])
        .arg(&root)
        .ready(Ready::Line("ready".into()));
    ours.namespace = Some(SERVER_NAMESPACE.into());
    let _ours = Service::start_ready(ours, READY)?;
    let peers = [
        ("dnsmasq", 69, dnsmasq(bed, &folder, &root)),
        ("tftpd-hpa", HPA_PORT, hpa(bed, &folder, &root)),
    ];

    let (mean, p99) = Delay::round_trip(ROUND_TRIP, 1_000)?;
    let way = format!(
        "the way by itself: {:.3} ms in the mean, p99 {:.3} ms",
        mean.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3
    );
    keep(
        Row::new("tftp", "round trip of the relay", "ms").shown(mean.as_secs_f64() * 1e3).note(way),
    );
    let runtime = runtime()?;
    let rate = |port: u16, window: u16| -> anyhow::Result<f64> {
        let server = SocketAddr::from((net::SERVER, port));
        let relay = Delay::start(OURS, server, ROUND_TRIP)?;
        let SocketAddr::V4(place) = relay.address else { bail!("no IPv4") };
        let (seconds, resent) = runtime.block_on(fetch(place, window, file.digest))?;
        if resent > 0 {
            bail!("{resent} packets were lost on the way");
        }
        Ok(BYTES as f64 / 1e6 / seconds)
    };
    let fastest = |port: u16, window: u16| -> anyhow::Result<f64> {
        let (mut best, mut last) = (None, None);
        for _ in 0..TURNS {
            match rate(port, window) {
                Ok(rate) => best = Some(rate.max(best.unwrap_or(0.0))),
                Err(error) => last = Some(error),
            }
        }
        match (best, last) {
            (Some(best), _) => Ok(best),
            (None, error) => Err(error.context("no transfer came whole")?),
        }
    };
    for (window, times) in WINDOWS {
        let mine = fastest(OUR_PORT, window)?;
        for (name, port, peer) in &peers {
            let (peer, theirs, note) = match peer {
                Err(why) => (*name, None, format!("{name} cannot be had: {why}")),
                Ok((_, name)) => match fastest(*port, window) {
                    Ok(theirs) => (name.as_str(), Some(theirs), String::new()),
                    Err(error) => (name.as_str(), None, format!("{error:#}")),
                },
            };
            let case = format!("2 MiB at 1 ms, windows of {window}");
            keep(
                Row::new("tftp", case, "MB/s")
                    .against(mine, peer, theirs, Better::More, times)
                    .note(note),
            );
        }
    }
    Ok(())
}

async fn fetch(
    place: SocketAddrV4,
    window: u16,
    digest: protocol::Digest,
) -> anyhow::Result<(f64, u32)> {
    let wanted = Wanted { windowsize: window, ..Wanted::EDK2 };
    let mut hasher = blake3::Hasher::new();
    let began = Instant::now();
    let keep = |part: &[u8]| {
        hasher.update(part);
    };
    let fetched = tftp::fetch(Ipv4Addr::LOCALHOST, place, "file", wanted, keep).await;
    let fetched = fetched.map_err(anyhow::Error::msg)?;
    let seconds = began.elapsed().as_secs_f64();
    if hasher.finalize().as_bytes() != &digest.0 {
        bail!("something else came");
    }
    Ok((seconds, fetched.resent))
}

type Started = Result<(Service, String), String>;

fn dnsmasq(bed: &Bed, folder: &Path, root: &Path) -> Started {
    let peer = bed.peers().dnsmasq.as_ref().map_err(Clone::clone)?;
    let spec = peer
        .service("dnsmasq-tftp", folder)
        .args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"])
        .args(["--enable-tftp", "--tftp-root"])
        .arg(root)
        .args(["--listen-address", &net::SERVER.to_string(), "--bind-interfaces"])
        .ready(Ready::Line("TFTP root is".into()));
    let service = Service::start_ready(spec, READY).map_err(|error| error.to_string())?;
    Ok((service, peer.name.clone()))
}

fn hpa(bed: &Bed, folder: &Path, root: &Path) -> Started {
    let peer = bed.peers().tftpd.as_ref().map_err(Clone::clone)?;
    let spec = peer
        .service("tftpd-hpa", folder)
        .args(["--foreground", "--user", "root", "--address"])
        .arg(format!("{}:{HPA_PORT}", net::SERVER))
        .arg("--secure")
        .arg(root);
    let service = Service::start_ready(spec, READY).map_err(|error| error.to_string())?;
    // It says nothing when it is ready.
    std::thread::sleep(Duration::from_millis(300));
    Ok((service, peer.name.clone()))
}

/// Peers serve what is readable to all.
fn readable_by_all(folder: &Path) -> anyhow::Result<()> {
    for path in [folder, folder.parent().context("a folder in no folder")?] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
