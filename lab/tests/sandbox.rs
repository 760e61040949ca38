//! The sandbox for real: ports that are reached, and nothing left behind whoever is killed.
//!
//! This program plays three parts: the test, the program outside (`outside MARK`), and the
//! program inside (`inside MARK`). Every process that the latter two start carries the mark in its
//! environment, so that the test can look for survivors.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod common;

use lab::{
    Ready, Service, ServiceSpec, net,
    sandbox::{self, Privilege, Relay},
    services,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);
const MARK: &str = "ALIA_TEST_MARK";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("outside") => outside(),
        Some("inside") => inside(),
        _ if !common::boots() => ExitCode::SUCCESS,
        _ => common::run(
            &common::filter(),
            &[
                ("a port inside is reached at 127.0.0.1 outside", &a_port_inside_is_reached),
                ("nothing is left when the program outside is killed", &|| nothing_left("outside")),
                ("nothing is left when unshare is killed", &|| nothing_left("unshare")),
                ("nothing is left when the program inside is killed", &|| nothing_left("inside")),
                ("nothing is left when the sandbox is ended", &|| nothing_left("nobody")),
                ("a user who is not root needs no root", &a_user_needs_no_root),
            ],
        ),
    }
}

/// Enters a sandbox, says where its relay is, and waits to be killed, or to be told to end.
fn outside() -> ExitCode {
    let privilege = sandbox::privilege().unwrap();
    let page =
        Relay { name: "page".into(), port: 0, inside: SocketAddr::from((net::SERVER, 8080)) };
    let mut sandbox = sandbox::enter(privilege, &["inside".into()], vec![page]).unwrap();
    println!("privilege {privilege:?}");
    println!("relay {}", sandbox.relays()[0].1);
    println!("unshare {}", sandbox.id());
    let told = thread::spawn(|| std::io::stdin().read_line(&mut String::new()));
    while !told.is_finished() && sandbox.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    sandbox.end();
    ExitCode::SUCCESS
}

/// Makes a network, starts a DHCP server in its far namespace, a daemon whose parent goes away,
/// and a server on a port; then sleeps.
fn inside() -> ExitCode {
    sandbox::inside().unwrap();
    net::make(&net::Plan { taps: vec!["tap-one".into()], foreign: true }).unwrap();
    // It goes with the sandbox: nobody here lives to take a folder away.
    let folder = std::path::Path::new("/run/lab-test");
    fs::create_dir(folder).unwrap();
    let _dhcp = Service::start_ready(services::foreign_dhcp(folder), LIMIT).unwrap();
    let daemon = ServiceSpec::new("daemon", "sh", folder)
        .args(["-c", "setsid sleep 600 & echo gone; sleep 3"])
        .ready(Ready::Line("gone".into()));
    let _daemon = Service::start_ready(daemon, LIMIT).unwrap();
    let listener = TcpListener::bind((net::SERVER, 8080)).unwrap();
    println!("inside");
    for mut client in listener.incoming().flatten() {
        client.write_all(b"from inside").unwrap();
    }
    ExitCode::SUCCESS
}

/// The program outside, with what it said.
struct Outside {
    child: Child,
    mark: String,
    privilege: String,
    relay: SocketAddr,
    unshare: u32,
}

impl Outside {
    fn start(mut command: Command) -> Self {
        // Unique to this run and test: the time does not repeat within a process.
        let mark = format!("{}-{:?}", std::process::id(), Instant::now()).replace(' ', "");
        let mut child =
            command.env(MARK, &mark).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = |word: &str| loop {
            let line = lines.next().unwrap_or_else(|| panic!("{word} was not said")).unwrap();
            // The two programs write to the same pipe: their lines come in any order.
            if let Some(rest) = line.strip_prefix(word) {
                break rest.trim().to_string();
            }
        };
        let privilege = said("privilege");
        let relay = said("relay").parse().unwrap();
        let unshare = said("unshare").parse().unwrap();
        said("inside");
        // Kept open: a closed pipe would fail the next print.
        thread::spawn(move || lines.for_each(drop));
        Self { child, mark, privilege, relay, unshare }
    }

    fn ask(&self) -> String {
        let mut answer = String::new();
        TcpStream::connect(self.relay).unwrap().read_to_string(&mut answer).unwrap();
        answer
    }

    fn survivors(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let carries = environment.split(|byte| *byte == 0).any(|v| v == wanted.as_bytes());
            if carries {
                found.push(id);
            }
        }
        found
    }

    fn wait_until_none_survives(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let _ = self.child.try_wait();
            let survivors = self.survivors();
            if survivors.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "still alive: {survivors:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("outside");
    command
}

/// What of the host must stay as it was.
fn host() -> (String, Vec<String>, Vec<String>) {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>());
        let mut names: Vec<String> = entries
            .unwrap_or_default()
            .iter()
            .map(|entry| entry.file_name().to_string_lossy().into())
            .collect();
        names.sort();
        names
    };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    (mounts, names("/sys/class/net"), names("/run/netns"))
}

fn a_port_inside_is_reached() {
    let outside = Outside::start(this_program());
    assert_eq!(outside.ask(), "from inside");
    assert_eq!(outside.ask(), "from inside");
}

fn nothing_left(victim: &str) {
    let before = host();
    let mut outside = Outside::start(this_program());
    // Outside, unshare, inside, dnsmasq, and the daemon that nobody waits for.
    let alive = outside.survivors();
    assert!(alive.len() >= 5, "{alive:?}");
    let kill = |id: u32| {
        let killed = Command::new("kill").args(["-KILL", &id.to_string()]).status().unwrap();
        assert!(killed.success());
    };
    match victim {
        "outside" => kill(outside.child.id()),
        "unshare" => kill(outside.unshare),
        "inside" => {
            let children = format!("/proc/{0}/task/{0}/children", outside.unshare);
            let inside = fs::read_to_string(children).unwrap();
            kill(inside.trim().parse().unwrap());
        }
        _ => {}
    }
    if victim != "outside" {
        // It lives on and is told to end, unless it has noticed by then.
        let _ = writeln!(outside.child.stdin.take().unwrap(), "end");
    }
    outside.wait_until_none_survives();
    assert!(TcpStream::connect(outside.relay).is_err());
    assert_eq!(host(), before);
}

fn a_user_needs_no_root() {
    if !nix::unistd::geteuid().is_root() {
        let outside = Outside::start(this_program());
        assert_eq!(outside.privilege, format!("{:?}", Privilege::UserNamespace));
        assert_eq!(outside.ask(), "from inside");
        return;
    }
    // Become nobody, with a /dev/net/tun that is open to all as udev makes it, in a mount
    // namespace whose other mounts are the host's.
    let script = "set -e
        mount -t tmpfs tmpfs /mnt
        mknod -m 666 /mnt/tun c 10 200
        mount --bind /mnt/tun /dev/net/tun
        cp \"$0\" /mnt/program
        exec setpriv --reuid=65534 --regid=65534 --clear-groups /mnt/program outside";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
    let mut outside = Outside::start(command);
    assert_eq!(outside.privilege, format!("{:?}", Privilege::UserNamespace));
    assert_eq!(outside.ask(), "from inside");
    writeln!(outside.child.stdin.take().unwrap(), "end").unwrap();
    outside.wait_until_none_survives();
}
