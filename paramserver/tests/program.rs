//! The program itself: what it says when it cannot serve, and that it serves without a chain.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use protocol::{SecretKey, Signed, node::Delegation};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a delegated key.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let node = identity::keyfile::read_or_create(&folder.path().join("key")).unwrap().public();
    let owner = SecretKey::from_seed([1; 32]);
    let chain = "alia-test".parse().unwrap();
    let delegation = Signed::sign(&chain, Delegation { delegate: node }, &owner);
    let text = serde_json::to_string(&delegation).unwrap();
    fs::write(folder.path().join("delegation"), text).unwrap();
    folder
}

/// The program, on a chain that nobody answers for.
fn program(folder: &TempDir, listen: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paramserver"));
    command
        .args(["--chain", "alia-test", "--ledger", "http://127.0.0.1:9", "--listen"])
        .arg(listen.to_string())
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--key")
        .arg(folder.path().join("key"))
        .arg("--delegation")
        .arg(folder.path().join("delegation"))
        .stdin(Stdio::null());
    command
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn serving(folder: &TempDir, address: SocketAddr) -> Running {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let running = Running(program(folder, address).stderr(log).spawn().unwrap());
    let end = Instant::now() + PATIENCE;
    while get(address, "/healthz").is_none() {
        assert!(Instant::now() < end, "it does not serve");
        sleep(Duration::from_millis(20));
    }
    running
}

/// What it says when it cannot begin: one line, and exit code 1.
fn says(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap();
    assert!(!said.contains('\u{1b}'), "colours in a file: {said:?}");
    line.into()
}

#[test]
fn a_busy_port_is_said_once_with_what_to_do() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = says(&mut program(&folder(), busy.local_addr().unwrap()));
    assert_eq!(line.matches("in use").count(), 1, "{line}");
    assert!(line.contains("--listen") && line.contains("ss -ltnp"), "{line}");
}

#[test]
fn it_serves_while_the_chain_is_away_and_a_second_one_on_its_folder_does_not_begin() {
    let (folder, address) = (folder(), free_port());
    let _running = serving(&folder, address);
    assert!(get(address, "/healthz").unwrap().ends_with("ok"));
    assert!(get(address, "/v1/jobs").unwrap().ends_with("[]"));
    let line = says(&mut program(&folder, free_port()));
    assert!(line.contains("another parameter server"), "{line}");
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("serving") && !log.contains('\u{1b}'), "{log}");
}
