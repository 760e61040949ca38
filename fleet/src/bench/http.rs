//! An image's file by HTTP and by HTTPS to many at once: bytes a second, and the server's CPU a byte.
//!
//! Clients count and throw away: the kernel does not even copy what came (MSG_TRUNC), so that on one
//! host with the server they leave it the processors. One fetch before is read whole and compared.
//! By TLS 1.3 each client has to decrypt, which on one host takes as much as the server's part: there
//! the CPU a byte says more than the bytes a second.

use super::{
    Bed,
    peers::Peer,
    row::{Better, Row},
    runtime, tls,
};
use crate::{http::Connection, process, sample::Sizes, site};
use anyhow::{Context, bail};
use lab::{Ready, Service, net};
use nix::sys::socket::{MsgFlags, recv};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

const NGINX_PORT: u16 = 8_081;
/// The file: so long that heads do not count.
const BYTES: u64 = 16 << 20;
/// How many clients, how often each fetches, how many turns.
const CASES: [(u32, u32, u32); 3] = [(1, 64, 3), (100, 2, 3), (1_000, 1, 1)];
/// The same by HTTPS, where clients take longer.
const SECURE_CASES: [(u32, u32, u32); 3] = [(1, 32, 3), (100, 1, 3), (1_000, 1, 1)];
const SECURE_PORT: u16 = 8_443;
const NGINX_SECURE_PORT: u16 = 8_444;
const READY: Duration = Duration::from_secs(20);
/// What is thrown away at a time.
const CHUNK: usize = 1 << 20;
/// What is read at a time where it has to be seen.
const SEEN: usize = 128 << 10;
const MAX_HEAD: usize = 4 << 10;

/// One side's figures.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Megabytes a second.
    rate: f64,
    /// CPU seconds a gigabyte.
    cpu: f64,
}

pub(super) fn run(bed: &Bed, keep: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let sizes = Sizes { kernel: BYTES, ..Sizes::SMALL };
    let ours = bed.provisioner(&sizes)?;
    let runtime = runtime()?;
    let manifest = fs::read(ours.folder.join("image/manifest.json"))?;
    let manifest: protocol::boot::ImageManifest = serde_json::from_slice(&manifest)?;
    let our_path = format!("/image/{}/vmlinuz", manifest.digest());
    let our_place = site::base();
    let nginx = match &bed.peers().nginx {
        Ok(peer) => match start(bed, peer, &ours.folder.join("image")) {
            Ok(service) => Ok((service, peer.name.clone())),
            Err(error) => Err(error.to_string()),
        },
        Err(why) => Err(why.clone()),
    };
    let their_place = SocketAddrV4::new(net::SERVER, NGINX_PORT);
    let whole = |place: SocketAddrV4, path: &str| {
        runtime.block_on(async {
            let mut connection = Connection::open(Ipv4Addr::UNSPECIFIED, place).await?;
            connection.file(path, true).await
        })
    };
    let wanted = manifest.kernel.digest;
    let sane = |place, path: &str| -> anyhow::Result<()> {
        let body = whole(place, path).map_err(anyhow::Error::msg)?;
        if body.digest != wanted {
            bail!("{place} sends something else");
        }
        Ok(())
    };
    sane(our_place, &our_path)?;
    if nginx.is_ok() {
        sane(their_place, "/vmlinuz")?;
    }
    let nginx = nginx.as_ref().map_err(String::as_str);
    let plain = Load { place: our_place, path: our_path.clone(), tls: None };
    let theirs = nginx.map(|(service, name)| {
        (
            service.id(),
            name.as_str(),
            Load { place: their_place, path: "/vmlinuz".into(), tls: None },
        )
    });
    compare(&runtime, "HTTP", CASES, (ours.id(), plain), theirs, keep)?;
    let ours_by_tls = Load {
        place: SocketAddrV4::new(*our_place.ip(), SECURE_PORT),
        path: our_path,
        tls: Some(tls::connector()?),
    };
    let theirs = nginx.and_then(|(service, name)| {
        let place = SocketAddrV4::new(net::SERVER, NGINX_SECURE_PORT);
        let tls = tls::connector().map_err(|_| "no TLS")?;
        let load = Load { place, path: "/vmlinuz".into(), tls: Some(tls) };
        Ok((service.id(), name.as_str(), load))
    });
    compare(&runtime, "HTTPS", SECURE_CASES, (ours.id(), ours_by_tls), theirs, keep)
}

/// Rows of one way, each case for both in turns.
fn compare(
    runtime: &tokio::runtime::Runtime,
    way: &str,
    cases: [(u32, u32, u32); 3],
    (id, ours): (u32, Load),
    theirs: Result<(u32, &str, Load), &str>,
    keep: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    for (clients, rounds, turns) in cases {
        let (mut mine, mut other) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            mine.push(measure(runtime, &ours, (clients, rounds), id)?);
            if let Ok((id, _, load)) = &theirs {
                other.push(measure(runtime, load, (clients, rounds), *id)?);
            }
        }
        let mine = best(&mine).context("no turn was measured")?;
        let other = best(&other);
        let (peer, note) = match &theirs {
            Ok((_, name, _)) => ((*name).to_owned(), String::new()),
            Err(why) => ("nginx".into(), format!("nginx cannot be had: {why}")),
        };
        let case = format!("16 MiB by {way}, {clients} clients");
        keep(
            Row::new("http", case.clone(), "MB/s")
                .against(mine.rate, peer.clone(), other.map(|t| t.rate), Better::More, 1.0)
                .note(note.clone()),
        );
        keep(
            Row::new("http", format!("{case}, CPU"), "s/GB")
                .against(mine.cpu, peer, other.map(|t| t.cpu), Better::Less, 1.0)
                .note(note),
        );
    }
    Ok(())
}

/// The most bytes a second, the least CPU a byte: what else the machine does only ever makes either
/// worse.
fn best(turns: &[Measured]) -> Option<Measured> {
    let better =
        |a: Measured, b: &Measured| Measured { rate: a.rate.max(b.rate), cpu: a.cpu.min(b.cpu) };
    let first = *turns.first()?;
    Some(turns.iter().fold(first, better))
}

fn start(bed: &Bed, peer: &Peer, image: &Path) -> anyhow::Result<Service> {
    let folder = bed.folder("nginx")?;
    let place = folder.display();
    let mut temporary = String::new();
    for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary += &format!("  {name}_temp_path {place}/{name};\n");
    }
    let config = format!(
        "daemon off;\nuser root;\nworker_processes auto;\npid {place}/nginx.pid;\n\
         worker_rlimit_nofile 16384;\nevents {{ worker_connections 4096; }}\nhttp {{\n\
         {temporary}  access_log off;\n  sendfile on;\n  tcp_nopush on;\n\
         keepalive_requests 100000;\n  default_type application/octet-stream;\n\
         server {{ listen {server}:{NGINX_PORT} backlog=4096; root {root}; }}\n\
         server {{ listen {server}:{NGINX_SECURE_PORT} ssl backlog=4096; root {root};\n\
         ssl_certificate {place}/tls.pem; ssl_certificate_key {place}/tls.key;\n\
         ssl_protocols TLSv1.2 TLSv1.3; }}\n}}\n",
        server = net::SERVER,
        root = image.display()
    );
    tls::own_certificate(&folder.join("tls.pem"), &folder.join("tls.key"))?;
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    let at = (net::SERVER, NGINX_PORT).into();
    let spec = peer
        .service("nginx", &folder)
        .args(["-e", "stderr", "-p"])
        .arg(&folder)
        .arg("-c")
        .arg(path)
        .ready(Ready::Http(at, "/manifest.json".into()));
    Ok(Service::start_ready(spec, READY)?)
}

/// What is asked of a server.
struct Load {
    place: SocketAddrV4,
    path: String,
    tls: Option<TlsConnector>,
}

fn measure(
    runtime: &tokio::runtime::Runtime,
    load: &Load,
    (clients, rounds): (u32, u32),
    id: u32,
) -> anyhow::Result<Measured> {
    let cpu = || process::usage_of_all(id).map(|usage| usage.cpu_seconds);
    let before = cpu().context("the server is gone")?;
    let began = Instant::now();
    let bytes = runtime.block_on(fetch_all(load, clients, rounds))?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = cpu().context("the server is gone")? - before;
    let wanted = u64::from(clients) * u64::from(rounds) * BYTES;
    if bytes != wanted {
        bail!("{bytes} bytes came of {wanted}");
    }
    Ok(Measured { rate: bytes as f64 / 1e6 / seconds, cpu: cpu / (bytes as f64 / 1e9) })
}

async fn fetch_all(load: &Load, among: u32, rounds: u32) -> anyhow::Result<u64> {
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", load.path, load.place);
    let mut clients = JoinSet::new();
    for number in 0..among {
        // Each from an address of its own, as machines are.
        let from = Ipv4Addr::from_bits(site::POOL_START.to_bits() + number);
        let (request, place, tls) = (request.clone(), load.place, load.tls.clone());
        clients.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            let mut stream = socket.connect(place.into()).await?;
            let mut bytes = 0;
            match tls {
                None => {
                    for _ in 0..rounds {
                        bytes += fetch(&mut stream, request.as_bytes()).await?;
                    }
                }
                Some(tls) => {
                    let name = std::net::IpAddr::from(*place.ip()).into();
                    let mut stream = tls.connect(name, stream).await?;
                    for _ in 0..rounds {
                        bytes += read(&mut stream, request.as_bytes()).await?;
                    }
                }
            }
            Ok::<u64, io::Error>(bytes)
        });
    }
    let mut bytes = 0;
    while let Some(client) = clients.join_next().await {
        bytes += client??;
    }
    Ok(bytes)
}

/// One request; the length of the body that was thrown away.
async fn fetch(stream: &mut TcpStream, request: &[u8]) -> io::Result<u64> {
    let (length, mut left) = ask(stream, request).await?;
    // Never touched, so never there.
    let mut nothing = vec![0; CHUNK];
    while left > 0 {
        stream.readable().await?;
        let most = (left as usize).min(CHUNK);
        let got = stream.try_io(Interest::READABLE, || {
            recv(stream.as_raw_fd(), &mut nothing[..most], MsgFlags::MSG_TRUNC)
                .map_err(io::Error::from)
        });
        match got {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => left -= got as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The same where the bytes have to be seen.
async fn read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> io::Result<u64> {
    let (length, mut left) = ask(stream, request).await?;
    let mut chunk = vec![0; SEEN];
    while left > 0 {
        let most = (left as usize).min(SEEN);
        match stream.read(&mut chunk[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => left -= got as u64,
        }
    }
    Ok(length)
}

/// Asks, and reads the head: the body's length, and what of it is still to come.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> io::Result<(u64, u64)> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut head = Vec::with_capacity(MAX_HEAD);
    // A byte more than the head is the body's; the head is read whole with the first packet mostly.
    let end = loop {
        if head.len() >= MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::other("no head of an answer"));
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).to_ascii_lowercase();
    if !text.contains(" 200 ") {
        return Err(io::Error::other(text));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: u64 = length
        .and_then(|length| length.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no content-length"))?;
    Ok((length, length.saturating_sub((head.len() - end) as u64)))
}
