//! One file by TFTP against dnsmasq, with one client: a block at a time as SeaBIOS's iPXE asks,
//! and with a window as newer UEFI firmware asks (which dnsmasq of today does not know).

use super::{Line, Pair, Show};
use crate::workspace::program;
use anyhow::{Context, bail};
use lab::{
    Ready, Service, ServiceSpec,
    net::{self, SERVER},
    sandbox,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// About the size of a small initramfs.
const BYTES: usize = 8 << 20;
const TURNS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(20);
const OUR_PORT: u16 = 1_069;

/// In namespaces of its own: dnsmasq listens on port 69 alone.
pub(super) fn run(is_json: bool) -> anyhow::Result<()> {
    let mut arguments = vec!["bench".into(), "--inside".into()];
    arguments.extend(is_json.then(|| "--json".into()));
    let mut sandbox = sandbox::enter(sandbox::privilege()?, &arguments, Vec::new())?;
    let status = sandbox.wait()?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

pub(super) fn inside(show: Show<'_>) -> anyhow::Result<()> {
    sandbox::inside()?;
    net::make(&net::Plan { taps: Vec::new(), foreign: false })?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    let content: Vec<u8> =
        (0..BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(root.join("file"), &content)?;
    // dnsmasq serves what is readable to all.
    let _ours = Service::start_ready(
        ServiceSpec::new("provisioner", program("provisioner"), folder.path())
            .args(["tftp", "--listen", &format!("{SERVER}:{OUR_PORT}"), "--root"])
            .arg(&root)
            .ready(Ready::Line("ready".into())),
        PATIENCE,
    )?;
    let _theirs = Service::start_ready(
        ServiceSpec::new("dnsmasq", "/usr/sbin/dnsmasq", folder.path())
            .args(["--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"])
            .args(["--enable-tftp", "--tftp-root"])
            .arg(&root)
            .args(["--listen-address", &SERVER.to_string()])
            .ready(Ready::Line("TFTP root is".into())),
        PATIENCE,
    )?;
    let peer = version().unwrap_or_else(|| "dnsmasq".into());
    for (case, options) in [
        ("blocks of 1,468 bytes, one by one", "blksize\x001468\0"),
        ("blocks of 1,468 bytes, windows of 16", "blksize\x001468\0windowsize\x0016\0"),
    ] {
        let fetch = |port: u16| -> anyhow::Result<f64> {
            let began = Instant::now();
            let got = get(SocketAddr::from((SERVER, port)), "file", options)?;
            let seconds = began.elapsed().as_secs_f64();
            if got != content {
                bail!("port {port} sent something else");
            }
            Ok(seconds)
        };
        let seconds = Pair::fastest(TURNS, || fetch(OUR_PORT), || fetch(69))?;
        let rate = |seconds: f64| BYTES as f64 / seconds / 1e6;
        let of = Pair { ours: rate(seconds.ours), theirs: rate(seconds.theirs) };
        show(Line::rate("tftp", format!("8 MiB, {case}"), peer.clone(), "MB/s", of));
    }
    Ok(())
}

fn version() -> Option<String> {
    let output = std::process::Command::new("/usr/sbin/dnsmasq").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(format!("dnsmasq {}", text.split_whitespace().nth(2)?))
}

/// A plain client (RFC 1350, 2347, 2348, 7440): acknowledges each window, and takes nothing out
/// of order, which does not happen here.
fn get(server: SocketAddr, name: &str, options: &str) -> anyhow::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(format!("\0\x01{name}\0octet\0{options}").as_bytes(), server)?;
    let (mut got, mut next, mut since) = (Vec::with_capacity(BYTES), 1_u16, 0);
    let (mut window, mut blksize) = (1, 512);
    let mut buffer = [0; 2_048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).context("waiting for a block")?;
        match &buffer[..length] {
            [0, 6, texts @ ..] => {
                let texts: Vec<&str> = std::str::from_utf8(texts)?.split_terminator('\0').collect();
                for pair in texts.chunks_exact(2) {
                    match pair[0].to_ascii_lowercase().as_str() {
                        "blksize" => blksize = pair[1].parse()?,
                        "windowsize" => window = pair[1].parse()?,
                        _ => {}
                    }
                }
                socket.send_to(&[0, 4, 0, 0], from)?;
            }
            [0, 3, high, low, data @ ..] => {
                if u16::from_be_bytes([*high, *low]) != next {
                    bail!("a block out of order");
                }
                got.extend_from_slice(data);
                since += 1;
                let is_last = data.len() < blksize;
                if since == window || is_last {
                    socket.send_to(&[0, 4, *high, *low], from)?;
                    since = 0;
                }
                next = next.wrapping_add(1);
                if is_last {
                    return Ok(got);
                }
            }
            [0, 5, _, code, text @ ..] => {
                bail!("error {code}: {}", String::from_utf8_lossy(text));
            }
            other => bail!("an unknown packet of {} bytes", other.len()),
        }
    }
}
