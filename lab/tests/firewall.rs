//! The node's packet filter in a real kernel: the real `nft` lists what PID 1 means, and packets
//! pass and are refused as it says.
//!
//! Given by the environment: ALIA_CACHE (the packages' cache) and, for it to run at all,
//! ALIA_BOOTS. This program plays four parts: the test, its inside, and outside and inside of a
//! connection.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use lab::{net, sandbox};
use node_init::firewall::{Firewall, Service, linux::replace};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

const API: u16 = 7443;
/// A user that is not root: the service's.
const USER: u32 = 900;
const PATIENCE: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let word = |at: usize| arguments.get(at).map(String::as_str);
    match word(1) {
        Some("connect") => {
            println!("{}", connect(word(2).unwrap().parse().unwrap()));
            return ExitCode::SUCCESS;
        }
        Some("listen") => {
            let listener = TcpListener::bind(word(2).unwrap()).unwrap();
            println!("listening");
            listener.incoming().for_each(drop);
            return ExitCode::SUCCESS;
        }
        Some("inside") => {
            sandbox::inside().unwrap();
            return common::run(
                word(2).unwrap_or_default(),
                &[("nft lists what we mean, and packets pass and are refused so", &packets)],
            );
        }
        _ => {}
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch it by.
    nft();
    bed::enter("")
}

/// The suite's `nft` and all its libraries, unpacked.
fn nft() -> PathBuf {
    bed::packages().with_libraries(&["nftables"]).unwrap_or_else(|error| panic!("{error}"))
}

fn ruleset() -> String {
    let tree = nft();
    let output = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"))
        .arg("--inhibit-cache")
        .arg("--library-path")
        .arg(tree.join("usr/lib/x86_64-linux-gnu"))
        .arg(tree.join("usr/sbin/nft"))
        .args(["list", "ruleset"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn connect(address: SocketAddr) -> String {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => "open".into(),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => "silence".into(),
        Err(error) => error.to_string(),
    }
}

/// What comes of a connection from elsewhere.
fn from(mut command: Command, address: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = command.arg(program).args(["connect", address]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A command in the other machine's network.
fn outside() -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", net::FOREIGN_NAMESPACE)).arg("--");
    command
}

/// A command as the service's user.
fn service() -> Command {
    let mut command = Command::new("env");
    command.uid(USER).gid(USER);
    command
}

fn packets() {
    net::make(&net::Plan { taps: Vec::new(), foreign: true }).unwrap();
    for port in [API, 8080] {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    let server = SocketAddr::from((net::FOREIGN, 7000));
    let other = SocketAddr::from((net::FOREIGN, 7001));
    for address in [server, other] {
        let mut command = outside();
        command.arg(std::env::current_exe().unwrap()).args(["listen", &address.to_string()]);
        let mut listener = command.stdout(Stdio::null()).spawn().unwrap();
        // It ends with the sandbox.
        thread::spawn(move || listener.wait());
    }
    let here = |port: u16| SocketAddr::from((net::SERVER, port)).to_string();
    let waited = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(100));
        connect(server) == "open" && connect(other) == "open"
    });
    assert!(waited, "the other machine's ports do not open");
    // Without the filter everything passes, or the refusals below would show nothing.
    assert_eq!(ruleset(), "");
    assert_eq!(from(outside(), &here(8080)), "open");

    let six = "[fd00::7]:8070".parse().unwrap();
    let both =
        Firewall { api: API, service: Some(Service { user: USER, servers: vec![server, six] }) };
    // Twice: rules are replaced, not added to.
    for firewall in [Firewall { api: API, service: None }, both.clone(), both] {
        replace(&firewall).unwrap();
        assert_eq!(ruleset(), firewall.to_string());
    }

    assert_eq!(from(outside(), &here(API)), "open");
    assert_eq!(from(outside(), &here(8080)), "silence");
    assert_eq!(connect(server), "open");
    assert_eq!(connect(other), "open");
    assert_eq!(connect("127.0.0.1:8080".parse().unwrap()), "open");
    if sandbox::privilege().unwrap() != sandbox::Privilege::Root || !has_users() {
        println!("skipped: another user's packets; this user name space has none but root");
        return;
    }
    assert_eq!(from(service(), &server.to_string()), "open");
    let refused = "No route to host (os error 113)";
    assert_eq!(from(service(), &other.to_string()), refused);
    assert_eq!(from(service(), "127.0.0.1:8080"), refused);
}

/// Whether there are other users than root here.
fn has_users() -> bool {
    Command::new("true").uid(USER).gid(USER).status().is_ok_and(|status| status.success())
}
