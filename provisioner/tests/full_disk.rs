//! The program with its database on a disk that is full: a small tmpfs, in namespaces of its own. Once
//! with a file of SQLite, once with a real PostgreSQL, where ALIA_POSTGRES names the folder of its
//! programs (`cargo xtask test` does).

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "common/image.rs"]
mod image;

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const INSIDE: &str = "ALIA_TEST_INSIDE";
const SERVER: &str = "10.99.0.1:67";
const KNOWN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const UNKNOWN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 101);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 1];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 2];

#[test]
fn with_a_full_disk_machines_are_answered_and_what_is_not_done_is_said() {
    let name = "with_a_full_disk_machines_are_answered_and_what_is_not_done_is_said";
    apart(name, inside);
}

#[test]
fn with_a_full_disk_under_postgresql_machines_boot_and_nothing_is_lost() {
    let Some(programs) = std::env::var_os("ALIA_POSTGRES") else {
        println!("skipped: ALIA_POSTGRES names no folder of PostgreSQL's programs");
        return;
    };
    let name = "with_a_full_disk_under_postgresql_machines_boot_and_nothing_is_lost";
    apart(name, |folder| under_postgresql(folder, Path::new(&programs)));
}

/// Runs this test once more by its name, in namespaces of its own.
fn apart(name: &str, inside: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return inside(Path::new(&folder));
    }
    let unshare = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "--kill-child", "--fork"]);
        command.args(words);
        command
    };
    if !unshare(&["true"]).output().is_ok_and(|made| made.status.success()) {
        println!("skipped: this test needs root, for a disk of its own");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let done = unshare(&[this.to_str().unwrap(), "--exact", name, "--nocapture"])
        .env(INSIDE, folder.path())
        .status();
    assert!(done.unwrap().success());
}

fn system(words: &str) {
    let mut words = words.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(done.success());
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect("10.99.0.1:8080").ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.into()))
}

/// A machine that has an address asks to keep it (RFC 2131 4.3.2, RENEWING); gives how long it may,
/// in seconds, where it is answered.
fn renews(mac: [u8; 6], address: Ipv4Addr) -> Option<u32> {
    let socket = UdpSocket::bind((address, 68)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut request = vec![0; 240];
    request[..3].copy_from_slice(&[1, 1, 6]);
    request[12..16].copy_from_slice(&address.octets());
    request[28..34].copy_from_slice(&mac);
    request[236..240].copy_from_slice(&[99, 130, 83, 99]);
    request.extend([53, 1, 3, 255]);
    socket.send_to(&request, SERVER).unwrap();
    let mut reply = [0; 1_500];
    let length = socket.recv(&mut reply).ok()?;
    assert_eq!(&reply[16..20], &address.octets());
    let mut options = &reply[240..length];
    while let [code, count, rest @ ..] = options {
        let (value, after) = rest.split_at((*count).into());
        if *code == 51 {
            return Some(u32::from_be_bytes(value.try_into().unwrap()));
        }
        options = after;
    }
    None
}

/// A network, and a disk of that size.
fn prepare(folder: &Path, size: &str) -> PathBuf {
    system("ip link set lo up");
    system("ip address add 10.99.0.1/24 dev lo");
    for address in [KNOWN, UNKNOWN] {
        system(&format!("ip address add {address}/32 dev lo"));
    }
    let disk = folder.join("disk");
    fs::create_dir(&disk).unwrap();
    system(&format!("mount -t tmpfs -o size={size} none {}", disk.display()));
    image::write(&folder.join("image"));
    disk
}

/// The program, once it answers.
fn start(folder: &Path, database: &str) -> Killed {
    let log = folder.join("log");
    let program = Command::new(env!("CARGO_BIN_EXE_provisioner"))
        .args(["serve", "--interface", "lo", "--address", "10.99.0.1", "--dhcp", "full"])
        .args(["--pool", "10.99.0.100-10.99.0.110", "--lease-seconds", "600"])
        .arg("--image")
        .arg(folder.join("image"))
        .args(["--database", database, "--tls"])
        .arg(folder.join("tls"))
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn();
    let program = Killed(program.unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    while get("/healthz").is_none() {
        assert!(Instant::now() < until, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    program
}

/// Fills a disk to the last byte. The file's end makes room again.
fn fill(disk: &Path) -> PathBuf {
    let filler = disk.join("filler");
    let mut file = File::create(&filler).unwrap();
    for size in [4_096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    filler
}

fn inside(folder: &Path) {
    let disk = prepare(folder, "4m");
    let _program = start(folder, disk.join("p.sqlite").to_str().unwrap());
    let told = || fs::read_to_string(folder.join("log")).unwrap();
    let script = "/boot/52-54-00-aa-00-01.ipxe?arch=x86_64&platform=efi";
    assert_eq!(renews(MAC, KNOWN), Some(600), "{}", told());
    assert_eq!(get(script).unwrap().0, 200);

    let filler = fill(&disk);
    // The database may have some room left in files that it has: records fill that.
    let machine =
        |n: u32| format!("/boot/52-54-00-bb-{:02x}-{:02x}.ipxe?arch=x86_64", n >> 8, n & 255);
    let until = Instant::now() + Duration::from_secs(60);
    for n in 0.. {
        assert_eq!(get(&machine(n)).unwrap().0, 200, "its script");
        if told().contains("free some space") {
            break;
        }
        assert!(Instant::now() < until, "the disk is never full: {}", told());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    let left = renews(MAC, KNOWN);
    assert!(left.is_some_and(|left| left < 600), "{left:?}: {}", told());
    assert!(told().contains("is not extended"), "{}", told());
    assert_eq!(renews(OTHER, UNKNOWN), None, "what cannot be written is promised to nobody");
    let (status, body) = get(script).unwrap();
    assert_eq!((status, body.contains("kernel")), (200, true), "{body}");
    let metrics = get("/metrics").unwrap().1;
    let failures = "provisioner_store_failures_total{operation=\"write-leases\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(failures)).unwrap();
    assert!(count.parse::<u64>().unwrap() >= 2, "{count}");

    // Room again: all goes on, and what waited is written.
    fs::remove_file(&filler).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let events =
        || get("/v1/machines/52:54:00:aa:00:01").unwrap().1.matches("boot script for").count();
    while events() < 2 {
        assert!(Instant::now() < until, "{} of 2 scripts: {}", events(), told());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(renews(MAC, KNOWN), Some(600));
    assert_eq!(renews(OTHER, UNKNOWN), Some(600));
}

/// PostgreSQL refuses what would make a table longer, and goes on with what has room: leases are
/// mostly told and changed in place. What it refuses waits, as with a file.
fn under_postgresql(folder: &Path, programs: &Path) {
    let disk = prepare(folder, "160m");
    let server = lab::Postgres::start(programs, &disk.join("pg")).unwrap();
    server.create(programs, "fleet").unwrap();
    let _program = start(folder, &server.url("fleet"));
    let told = || fs::read_to_string(folder.join("log")).unwrap();
    let script = "/boot/52-54-00-aa-00-01.ipxe?arch=x86_64&platform=efi";
    assert_eq!(renews(MAC, KNOWN), Some(600), "{}", told());
    assert_eq!(get(script).unwrap().0, 200);

    let filler = fill(&disk);
    let machine =
        |n: u32| format!("/boot/52-54-00-bb-{:02x}-{:02x}.ipxe?arch=x86_64", n >> 8, n & 255);
    let until = Instant::now() + Duration::from_secs(60);
    let mut machines = 0;
    while !told().contains("free some space on its host's disk") {
        let (status, body) = get(&machine(machines)).unwrap();
        assert_eq!((status, body.contains("kernel")), (200, true), "its script: {body}");
        machines += 1;
        assert!(Instant::now() < until, "the disk is never full: {}", told());
        std::thread::sleep(Duration::from_millis(2));
    }
    let left = renews(MAC, KNOWN);
    assert!(left.is_some_and(|left| left <= 600), "{left:?}: {}", told());
    let (status, body) = get(script).unwrap();
    assert_eq!((status, body.contains("kernel")), (200, true), "{body}");
    assert_eq!(get("/v1/machines?limit=1").unwrap().0, 200, "what is there is read");
    let metrics = get("/metrics").unwrap().1;
    let failed = metrics.lines().any(|line| {
        let count = line.strip_prefix("provisioner_store_failures_total{operation=\"write");
        count.is_some_and(|count| !count.ends_with(" 0"))
    });
    assert!(failed, "{metrics}");

    // Room again: what waited is written, of every machine.
    fs::remove_file(&filler).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let all = usize::try_from(machines).unwrap() + 1;
    let known = || get("/v1/machines?limit=10000").unwrap().1.matches("\"first_seen\"").count();
    while known() < all {
        assert!(Instant::now() < until, "{} of {all} machines: {}", known(), told());
        std::thread::sleep(Duration::from_millis(100));
    }
    let timeline = get("/v1/machines/52:54:00:aa:00:01").unwrap().1;
    assert_eq!(timeline.matches("boot script for").count(), 2, "{timeline}");
    assert_eq!(renews(OTHER, UNKNOWN), Some(600));
}
