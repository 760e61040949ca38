//! A node whose compute service turned: what it tries is refused, the node lives on, and from
//! outside there is nothing to speak to but the node API's port.
//!
//! `cargo xtask test --long hostile` gives the environment: an image with
//! `node-init/examples/hostile.rs` in place of `compute` (ALIA_HOSTILE_IMAGE), beside what
//! `boot.rs` is given.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use lab::{
    Machine, MachineSpec, Service, accel, net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket,
            sockopt,
        },
    },
};
use protocol::{SecretKey, boot::NODE_API_PORT};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    process::ExitCode,
    thread,
    time::Duration,
};

const BOOT_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(120);
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xa1, 0x1a, 0x01];
/// The port that the service's only server listens on.
const SERVER_PORT: u16 = 7000;
/// Another machine's address, at which the same port answers.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// What comes of a call that the seccomp filter does not let through.
const NO_CALL: &[i32] = &[38];
/// What is not in the service's root.
const NO_FILE: &[i32] = &[2];
/// What Landlock, or a file's own rights, refuse.
const NO_RIGHT: &[i32] = &[13];
/// What cannot be written to, by whichever of mount and Landlock comes first.
const NO_WRITE: &[i32] = &[13, 30];
/// What the packet filter refuses: unreachable, as an administrator has it.
const NO_WAY: &[i32] = &[113];

/// Every attempt of `node-init/examples/hostile.rs`, and by which error it is refused.
const REFUSED: &[(&str, &[i32])] = &[
    ("load a module", NO_CALL),
    ("load a module from memory", NO_CALL),
    ("unload a module", NO_CALL),
    ("kexec", NO_CALL),
    ("kexec of a file", NO_CALL),
    ("bpf", NO_CALL),
    ("perf", NO_CALL),
    ("io_uring", NO_CALL),
    ("userfaultfd", NO_CALL),
    ("a key of the kernel's", NO_CALL),
    ("read the kernel's memory", NO_FILE),
    ("read physical memory", NO_FILE),
    ("read the kernel's log", NO_FILE),
    ("read the kernel's log by call", NO_CALL),
    ("read the kernel's symbols", NO_FILE),
    ("magic keys", NO_FILE),
    ("a setting of the kernel's", NO_FILE),
    ("ports of the machine", NO_CALL),
    ("segments", NO_CALL),
    ("trace PID 1", NO_CALL),
    ("read PID 1's memory", NO_FILE),
    ("read PID 1's memory by call", NO_CALL),
    ("read PID 1's environment", NO_FILE),
    ("take PID 1's open files", NO_CALL),
    ("signal PID 1", NO_CALL),
    ("signal everybody", NO_CALL),
    ("see other processes", NO_FILE),
    ("find the node's key", NO_FILE),
    ("see what else PID 1 keeps", NO_RIGHT),
    ("a user name space", NO_CALL),
    ("a mount name space", NO_CALL),
    ("another's name space", NO_CALL),
    ("a user name space by clone", NO_CALL),
    ("mount", NO_CALL),
    ("mount by the newer calls", NO_CALL),
    ("unmount", NO_CALL),
    ("change the root", NO_CALL),
    ("turn the root", NO_CALL),
    ("a device file", NO_CALL),
    ("become root", NO_CALL),
    ("become root's group", NO_CALL),
    ("capabilities", NO_CALL),
    ("lift a limit", NO_CALL),
    ("another personality", NO_CALL),
    ("a dump of itself", NO_CALL),
    ("more urgency", NO_CALL),
    ("the clock", NO_CALL),
    ("the clock's pace", NO_CALL),
    ("restart the machine", NO_CALL),
    ("the machine's name", NO_CALL),
    ("swap", NO_CALL),
    ("type on the console", NO_CALL),
    ("write the root", NO_WRITE),
    ("write its own program", NO_WRITE),
    ("write its settings", NO_WRITE),
    ("read PID 1's program", NO_FILE),
    ("read the image's description", NO_FILE),
    ("see devices", NO_FILE),
    ("see the machine's firmware", NO_FILE),
    ("memory to write and execute", NO_CALL),
    ("memory to execute", NO_CALL),
    ("written memory made executable", NO_CALL),
    // EPERM: what lies on a mount without programs is not mapped as one.
    ("code from scratch", &[1]),
    ("a file in memory", NO_CALL),
    ("a raw socket", NO_CALL),
    ("a packet socket", NO_CALL),
    ("a netlink socket", NO_CALL),
    ("a UDP socket", NO_CALL),
    ("a local socket", NO_CALL),
    ("a socket to the host", NO_CALL),
    ("a stream that is not TCP", NO_CALL),
    ("a connection by its first data", NO_CALL),
    ("listen on a port", NO_CALL),
    ("another port of its server", NO_RIGHT),
    ("its server's port elsewhere", NO_WAY),
    ("its server's port on this machine", NO_WAY),
    ("a new process", NO_CALL),
    ("a new process the old way", NO_CALL),
    ("a new process by clone3", NO_CALL),
    ("run a program from scratch", NO_RIGHT),
    ("run PID 1's program", NO_FILE),
    ("run a library", NO_RIGHT),
];

/// What the service is there for, and must be able to do.
const DONE: [&str; 3] = ["its server", "its settings", "scratch"];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[("a hostile service is refused all it tries and the node lives on", &hostile)],
        );
    }
    if !common::boots() || std::env::var_os("ALIA_HOSTILE_IMAGE").is_none() {
        println!("skipped: ALIA_HOSTILE_IMAGE is not set");
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    tools::boot_files(&bed::packages()).unwrap();
    bed::enter("")
}

fn hostile() {
    let image = given("ALIA_HOSTILE_IMAGE");
    let folder = tempfile::tempdir().unwrap();
    net::make(&net::Plan { taps: vec!["tap-one".into()], foreign: false }).unwrap();
    net::ip(&[format!("addr add {ELSEWHERE}/24 dev {}", net::BRIDGE)]).unwrap();
    // Whoever is let through finds somebody who answers.
    let listeners =
        [net::SERVER, ELSEWHERE].map(|ip| TcpListener::bind((ip, SERVER_PORT)).unwrap());
    for listener in listeners {
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let provisioner = Provisioner {
        program: given("ALIA_PROVISIONER"),
        folder: folder.path().join("provisioner"),
        dhcp: Dhcp::Full,
        image: image.clone(),
        ipxe: tools::boot_files(&bed::packages()).unwrap().ipxe,
        uki: None,
        bios_file: None,
        chain: "alia-lab".parse().unwrap(),
        owner: SecretKey::generate().unwrap(),
        ledgers: vec![format!("http://{}:{SERVER_PORT}", net::SERVER)],
        parameter_servers: vec![format!("http://{}:{SERVER_PORT}", net::SERVER)],
    };
    std::fs::create_dir_all(&provisioner.folder).unwrap();
    let _provisioner = Service::start_ready(provisioner.service().unwrap(), LIMIT).unwrap();
    let spec = MachineSpec {
        name: "one".into(),
        // Its variables keep the node's key, which the service looks for.
        firmware: tools::boot_files(&bed::packages()).unwrap().ovmf,
        accelerator: accel::probe(Some(&image)).accelerator,
        memory: 1024,
        processors: 1,
        clock: None,
        processor: Default::default(),
        mac: MAC.map(|byte| format!("{byte:02x}")).join(":"),
        tap: "tap-one".into(),
        boots: lab::machine::BootsFrom::Network,
        uuid: "00000000-0000-4000-8000-000000000001".into(),
        serial: "LAB1".into(),
        tpm: None,
        devices: Vec::new(),
        oem_string: None,
        nice: 0,
        folder: folder.path().join("machine"),
    };
    let mut machine = Machine::start(spec).unwrap();
    let shown = |result: Result<lab::console::Line, lab::Error>| -> lab::console::Line {
        result.unwrap_or_else(|error| panic!("{error}"))
    };

    // What the node says of itself.
    let hardening = shown(machine.wait_line(" hardening done ", BOOT_LIMIT)).text;
    println!("{hardening}");
    assert!(hardening.contains("lockdown confidentiality") && !hardening.contains("REFUSED"));
    println!("{}", shown(machine.wait_line(" firewall done ", LIMIT)).text);
    let compute = shown(machine.wait_line(" compute done ", LIMIT)).text;
    println!("{compute}");
    let count: usize = between(&compute, "; ", " processes").parse().unwrap();
    assert!(count <= 4, "{compute}");
    // PID 1's are those of `node-init/src/capabilities.rs`.
    let might = [" with 16 capabilities, ", " with no capability)"];
    assert!(might.iter().all(|might| compute.contains(might)), "{compute}");

    // What the service could do.
    shown(machine.wait_line("compute: hostile: tried all", LIMIT));
    let said = said(&machine);
    for name in DONE {
        assert_eq!(said.get(name).map(String::as_str), Some("DONE"), "{name}");
    }
    let mut wrong = Vec::new();
    for (name, errors) in REFUSED {
        let how = said.get(*name).map_or("nothing of it", String::as_str);
        println!("{name}: {how}");
        let is = |error: &i32| how.starts_with(&format!("errno {error} "));
        // What a reader of a file that is not there says carries no number.
        let absent = *errors == NO_FILE && how.contains("not found");
        if !errors.iter().any(is) && !absent {
            wrong.push(format!("{name}: {how}"));
        }
    }
    assert!(wrong.is_empty(), "not refused as it should be: {wrong:#?}");
    assert_eq!(said.len(), REFUSED.len() + DONE.len(), "an attempt that nobody expects: {said:?}");

    // What it could take.
    shown(machine.wait_line("compute: takes memory", LIMIT));
    let lines = machine.console().lines_from(0);
    for (what, most) in [("threads", 1024), ("open files", 1024), ("MiB of scratch", 64)] {
        let is_it = |line: &&str| line.contains("compute: took ") && line.ends_with(what);
        let line = lines.iter().map(|line| line.text.trim_end()).find(is_it);
        let line = line.unwrap_or_else(|| panic!("it does not say how many {what} it took"));
        println!("{line}");
        let taken: usize = between(line, "took ", " ").parse().unwrap();
        assert!(taken > 0 && taken <= most, "{line}");
    }
    let killed = shown(machine.wait_line(" was killed because it used more than ", LIMIT)).text;
    println!("{killed}");
    assert!(killed.contains(" service retrying process "), "{killed}");

    // The node lives: its service is started again, and what nobody is to reach nobody reaches.
    println!("{}", shown(machine.wait_line(" service done process ", LIMIT)).text);
    let address = between(&shown(machine.wait_line("by DHCP from", LIMIT)).text, "eth0 ", "/")
        .parse::<Ipv4Addr>()
        .unwrap();
    let scope = if_nametoindex(net::BRIDGE).unwrap();
    let link_local = SocketAddrV6::new(link_local(MAC), 0, 0, scope);
    for place in [SocketAddr::from((address, 0)), link_local.into()] {
        let reached = scan(place);
        println!("of TCP ports 1 to 65535 of {} these answer: {reached:?}", place.ip());
        assert_eq!(reached, [NODE_API_PORT], "the node API's alone, listening or not");
    }
    machine.press_power().unwrap();
    assert!(machine.qemu().wait_ended(LIMIT).is_some(), "it is still on");
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let inner = || text.split_once(before)?.1.split_once(after).map(|(inner, _)| inner);
    inner().unwrap_or_else(|| panic!("nothing between {before:?} and {after:?} in {text:?}"))
}

/// What came of each attempt, by its name.
fn said(machine: &Machine) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for line in machine.console().lines_from(0) {
        let Some((_, text)) = line.text.split_once("compute: ") else { continue };
        if let Some(name) = text.strip_prefix("DONE ") {
            said.insert(name.trim().into(), "DONE".into());
        } else if let Some((name, how)) =
            text.strip_prefix("refused ").and_then(|text| text.split_once(": "))
        {
            said.insert(name.into(), how.trim().into());
        }
    }
    said
}

/// The address that a card gives itself (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// The TCP ports of a machine that answer, be it by a refusal.
fn scan(place: SocketAddr) -> Vec<u16> {
    const AT_ONCE: usize = 2000;
    // Twice as long as an answer takes on a busy machine; a packet is sent again after 1 s.
    const PATIENCE: Duration = Duration::from_millis(1500);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(8192), most).unwrap();
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let mut reached = Vec::new();
    for some in ports.chunks(AT_ONCE) {
        let tried: Vec<(u16, Option<OwnedFd>)> =
            some.iter().map(|port| (*port, attempt(place, *port))).collect();
        thread::sleep(PATIENCE);
        for (port, socket) in tried {
            let Some(socket) = socket else {
                reached.push(port);
                continue;
            };
            let error = getsockopt(&socket, sockopt::SocketError).unwrap();
            let connected =
                nix::sys::socket::getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_ok();
            if connected || error == Errno::ECONNREFUSED as i32 {
                reached.push(port);
            }
        }
    }
    reached
}

/// A connection that is being made; none where it was answered at once.
fn attempt(mut place: SocketAddr, port: u16) -> Option<OwnedFd> {
    let family = if place.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    place.set_port(port);
    let address = SockaddrStorage::from(place);
    match connect(socket.as_raw_fd(), &address) {
        Err(Errno::EINPROGRESS) => Some(socket),
        Ok(()) | Err(Errno::ECONNREFUSED) => None,
        Err(error) => panic!("connecting to port {port}: {error}"),
    }
}
