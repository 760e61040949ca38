//! What strangers do. Each attack goes on until it is ended.

use super::is_secret;
use crate::{
    dhcp::{
        Client,
        request::{self, Terms},
    },
    machine::Machine,
    site::{HTTP_PORT, POOL_START},
    tftp::{Wanted, receiver::Receiver},
};
use lab::net;
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::{Interval, interval, sleep, timeout},
};

/// Addresses that attackers have, far from where machines' are looked for first.
const ATTACKERS: u32 = 200;
const FIRST: u32 = 30_000;
/// Machines that nobody has.
const NOBODYS: u32 = 40_000;
pub(super) const HTTPS_PORT: u16 = 8_443;
/// What an attack has reached after so long it has reached; but see the last.
const USUAL: Duration = Duration::from_secs(8);
/// The longest answer that is looked at.
const MAX_ANSWER: usize = 64 << 10;

/// What an attack works with.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) secret: &'static str,
    pub(super) folder: PathBuf,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) breach: Arc<Mutex<Vec<String>>>,
}

impl Field {
    fn count(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks whether an answer has what nobody may have.
    fn look(&self, asked: &str, answer: &[u8]) {
        if is_secret(answer, self.secret, &self.folder)
            && let Ok(mut breach) = self.breach.lock()
            && breach.len() < 8
        {
            breach.push(format!("given out for {asked:?}"));
        }
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An attack.
pub struct Attack {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// How long it is on before machines begin.
    pub(super) before: Duration,
    /// Whether there is no room for new machines then.
    pub(super) new_are_refused: bool,
    pub(super) run: fn(Field) -> Running,
}

/// All of them. The one that fills the pool for an hour is the last.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "peace",
        what: "nobody attacks: to compare with",
        before: USUAL,
        new_are_refused: false,
        run: |_| Box::pin(std::future::pending()),
    },
    Attack {
        name: "noise",
        what: "2,000 packets a second of random bytes to DHCP, its boot server and TFTP, and 50 \
               connections at a time that send random bytes to HTTP and HTTPS",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(noise(field)),
    },
    Attack {
        name: "dhcp-discover",
        what: "2,000 DISCOVERs a second, each of a machine never seen, whose offer nobody takes",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(discover(field)),
    },
    Attack {
        name: "tftp-requests",
        what: "1,500 requests a second for iPXE from 200 addresses that never answer",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(tftp_requests(field)),
    },
    Attack {
        name: "slow-heads",
        what: "6,000 connections of 200 addresses, each sending its head a byte a second",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(connections(field, HTTP_PORT, 30, Holds::Head)),
    },
    Attack {
        name: "slow-readers",
        what: "2,000 connections of 200 addresses that ask for the kernel and never read it",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(connections(field, HTTP_PORT, 10, Holds::Answer)),
    },
    Attack {
        name: "slow-handshakes",
        what: "2,000 connections of 200 addresses to HTTPS, half of which say nothing, the others hello and \
               nothing more",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(connections(field, HTTPS_PORT, 10, Holds::Hello)),
    },
    Attack {
        name: "huge-heads",
        what: "200 connections at a time that send heads without an end, as fast as they are taken",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(huge_heads(field)),
    },
    Attack {
        name: "paths",
        what: "paths out of the folders by HTTP and TFTP, in all the spellings that are known",
        before: USUAL,
        new_are_refused: false,
        run: |field| Box::pin(paths(field)),
    },
    Attack {
        name: "dhcp-starvation",
        what: "whole exchanges, 32 at a time, each of a machine never seen, until no address is left",
        before: Duration::from_secs(200),
        new_are_refused: true,
        run: |field| Box::pin(starve(field)),
    },
];

fn attacker(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(POOL_START.to_bits() + FIRST + number % ATTACKERS)
}

/// Bytes that look like nothing; the same in each run.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// So many a second, for ever.
struct Pace {
    tick: Interval,
    each: u32,
    left: u32,
    number: u32,
}

impl Pace {
    const TICKS: u32 = 50;

    fn new(a_second: u32) -> Self {
        let tick = interval(Duration::from_secs(1) / Self::TICKS);
        Self { tick, each: a_second / Self::TICKS, left: 0, number: 0 }
    }

    /// The number of the next one, when it is due.
    async fn next(&mut self) -> u32 {
        if self.left == 0 {
            self.tick.tick().await;
            self.left = self.each;
        }
        self.left -= 1;
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

async fn noise(field: Field) {
    let Ok(socket) = UdpSocket::bind((attacker(0), 0)).await else { return };
    let packets = async {
        let mut pace = Pace::new(2_000);
        loop {
            let number = pace.next().await;
            let port = [67, 4_011, 69][number as usize % 3];
            let bytes = random(u64::from(number), 8 + number as usize * 31 % 1_400);
            if socket.send_to(&bytes, (net::SERVER, port)).await.is_ok() {
                field.count();
            }
        }
    };
    let streams = keep(50, |number| {
        let field = field.clone();
        async move {
            let port = if number % 2 == 0 { HTTP_PORT } else { HTTPS_PORT };
            let Ok(mut stream) = connect(attacker(number), port).await else { return };
            field.count();
            let _ = stream.write_all(&random(u64::from(number), 4_000)).await;
            let mut answer = [0; 1_024];
            let _ = timeout(Duration::from_secs(2), stream.read(&mut answer)).await;
        }
    });
    tokio::join!(packets, streams);
}

async fn discover(field: Field) {
    // As a relay of its own: the answers come to nobody.
    let relay = attacker(1);
    let Ok(socket) = UdpSocket::bind((relay, 67)).await else { return };
    let mut pace = Pace::new(2_000);
    loop {
        let number = pace.next().await;
        let machine = Machine::new(NOBODYS + number % 2_000_000, 1);
        let terms = Terms { xid: number, seconds: 0, giaddr: Some(relay), taken: None };
        let bytes = request::bytes(Client::Edk2, &machine, &terms);
        if socket.send_to(&bytes, (net::SERVER, 67)).await.is_ok() {
            field.count();
        }
    }
}

async fn starve(field: Field) {
    let Ok(wire) = crate::dhcp::Wire::relay(attacker(2), net::SERVER) else { return };
    keep(32, |number| {
        let (wire, field) = (wire.clone(), field.clone());
        async move {
            let machine = Machine::new(NOBODYS + 3_000_000 + number, 2);
            let xid = 0x6000_0000 + number;
            if wire.exchange(Client::Edk2, &machine, xid, Duration::ZERO).await.is_ok() {
                field.count();
            }
        }
    })
    .await;
}

async fn tftp_requests(field: Field) {
    let name = format!("02-f1-ee-00-00-00/{}", "snponly.efi");
    let (_, request) = Receiver::ask(&name, Wanted::EDK2);
    // The ports are held, so that a packet to them is no error that ends the transfer.
    let mut held = std::collections::VecDeque::new();
    let mut pace = Pace::new(1_500);
    loop {
        let number = pace.next().await;
        let Ok(socket) = UdpSocket::bind((attacker(number), 0)).await else { return };
        if socket.send_to(&request, (net::SERVER, 69)).await.is_ok() {
            field.count();
        }
        held.push_back(socket);
        if held.len() > 8_000 {
            held.pop_front();
        }
    }
}

#[derive(Clone, Copy)]
enum Holds {
    Head,
    Answer,
    Hello,
}

/// So many connections of each attacker, opened again as they are closed.
async fn connections(field: Field, port: u16, of_each: u32, holds: Holds) {
    let kernel = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", kernel().await);
    let hello = crate::bench::tls::hello();
    keep(ATTACKERS * of_each, move |number| {
        let (field, kernel, hello) = (field.clone(), kernel.clone(), hello.clone());
        async move {
            let Ok(mut stream) = connect(attacker(number), port).await else {
                return sleep(Duration::from_millis(200)).await;
            };
            field.count();
            match holds {
                Holds::Head => {
                    let _ = stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await;
                    while stream.write_all(b"a").await.is_ok() {
                        sleep(Duration::from_secs(1)).await;
                    }
                }
                Holds::Answer => {
                    let _ = stream.write_all(kernel.as_bytes()).await;
                    // Until it is closed from the other side.
                    while stream.write_all(b"").await.is_ok() && !is_closed(&stream) {
                        sleep(Duration::from_secs(1)).await;
                    }
                }
                Holds::Hello => {
                    if number % 2 == 0 {
                        let _ = stream.write_all(&hello).await;
                    }
                    // What is answered is taken, and nothing comes of it.
                    let mut answer = [0; 4_096];
                    while matches!(stream.read(&mut answer).await, Ok(1..)) {}
                }
            }
        }
    })
    .await;
}

fn is_closed(stream: &TcpStream) -> bool {
    matches!(stream.take_error(), Ok(Some(_)) | Err(_))
}

/// The path of the kernel that is served.
async fn kernel() -> String {
    let asked = async {
        let place = SocketAddrV4::new(net::SERVER, HTTP_PORT);
        let mut connection =
            crate::http::Connection::open(Ipv4Addr::UNSPECIFIED, place).await.ok()?;
        let status = connection.text("/v1/status").await.ok()?;
        let status: protocol::fleet::ProvisionerStatus = serde_json::from_str(&status).ok()?;
        Some(format!("/image/{}/vmlinuz", status.image?.digest))
    };
    asked.await.unwrap_or_else(|| "/boot.ipxe".into())
}

async fn huge_heads(field: Field) {
    keep(200, |number| {
        let field = field.clone();
        async move {
            let Ok(mut stream) = connect(attacker(number), HTTP_PORT).await else {
                return sleep(Duration::from_millis(200)).await;
            };
            field.count();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n").await;
            let line = format!("x-huge: {}\r\n", "a".repeat(8_000));
            while stream.write_all(line.as_bytes()).await.is_ok() {}
        }
    })
    .await;
}

async fn paths(field: Field) {
    let files = ["secret.txt", "provisioner.key", "provisioner.sqlite", "etc/passwd"];
    let ups = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....//",
        "..;/",
        "%252e%252e%252f",
        "..%c0%af",
        "..%00/",
        "./../",
        "//",
        "/%2f",
    ];
    let image = kernel().await;
    let base = image.trim_end_matches("vmlinuz");
    let mut tricks = Vec::new();
    for file in files {
        for up in ups {
            for depth in 1..=4 {
                let path = format!("{}{file}", up.repeat(depth));
                for before in ["/", "/ipxe/", "/uki/", base, "/static/", "/boot/"] {
                    tricks.push(format!("{before}{path}"));
                }
                tricks.push(path);
            }
        }
    }
    let tricks = Arc::new(tricks);
    keep(8, move |number| {
        let (field, tricks) = (field.clone(), tricks.clone());
        async move {
            let trick = &tricks[number as usize % tricks.len()];
            let _ = timeout(Duration::from_secs(5), by_http(&field, trick, number)).await;
            let _ = timeout(Duration::from_secs(5), by_tftp(&field, trick, number)).await;
        }
    })
    .await;
}

async fn by_http(field: &Field, path: &str, number: u32) -> io::Result<()> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut stream = connect(attacker(number), HTTP_PORT).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(MAX_ANSWER as u64).read_to_end(&mut answer).await?;
    field.count();
    field.look(&path, &answer);
    Ok(())
}

async fn by_tftp(field: &Field, path: &str, number: u32) -> io::Result<()> {
    let socket = UdpSocket::bind((attacker(number), 0)).await?;
    let request = [&[0, 1][..], path.as_bytes(), b"\0octet\0"].concat();
    socket.send_to(&request, (net::SERVER, 69)).await?;
    let mut answer = [0; 600];
    let (length, _) = socket.recv_from(&mut answer).await?;
    field.count();
    field.look(path, &answer[..length]);
    Ok(())
}

async fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(SocketAddrV4::new(net::SERVER, port).into()).await
}

/// So many at a time of what `one` does, for ever; each has a number of its own.
async fn keep<F>(at_a_time: u32, one: impl Fn(u32) -> F + Send)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut number = 0u32;
    loop {
        while tasks.len() < at_a_time as usize {
            tasks.spawn(one(number));
            number = number.wrapping_add(1);
        }
        tasks.join_next().await;
    }
}
