//! An operator at machines that booted: `alia node …` over the node API, and `alia fleet …`, which has
//! the provisioner tell them; and nothing else.

use lab::Machine;
use protocol::{
    SecretKey,
    node_api::{AuditRecord, Bundle, NODE_API_PORT, NodeProcesses, NodeStage},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// From a call to what it does, on a machine of a slow emulated processor.
const LIMIT: Duration = Duration::from_secs(60);
/// Until a restarted machine's kernel starts again.
const RESTART_LIMIT: Duration = Duration::from_secs(300);
/// How long a port may take to say that it is open or closed, and how many are asked at a time.
const PORT_LIMIT: Duration = Duration::from_millis(300);
const SCANNERS: u32 = 512;
/// How late an answer may come.
const LATE: Duration = Duration::from_secs(2);
/// The user processes of a working node (PID 1 among them).
const MOST_PROCESSES: usize = 4;

/// `alia`, with the owner's key and a stranger's.
pub(crate) struct Operator {
    program: PathBuf,
    provisioner: String,
    key: PathBuf,
    stranger: PathBuf,
}

impl Operator {
    pub(crate) fn new(program: &Path, folder: &Path, provisioner: &str, key: &SecretKey) -> Self {
        let write = |name: &str, key: &SecretKey| {
            let path = folder.join(name);
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
            writeln!(file, "{}", key.to_hex()).unwrap();
            path
        };
        Self {
            program: program.into(),
            provisioner: provisioner.into(),
            key: write("owner.key", key),
            stranger: write("stranger.key", &SecretKey::generate().unwrap()),
        }
    }

    fn command(&self, key: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--json", "node"]).args(words).arg("--provisioner").arg(&self.provisioner);
        command.arg("--key").arg(key).stdin(Stdio::null());
        command
    }

    fn run(&self, key: &Path, words: &[&str]) -> Output {
        self.command(key, words).output().unwrap()
    }

    /// What a command answers that must succeed.
    fn ask<T: serde::de::DeserializeOwned>(&self, words: &[&str]) -> T {
        let output = self.run(&self.key, words);
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "alia node {}: {error}", words.join(" "));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}"))
    }

    /// Why a command fails that must fail.
    fn refused(&self, key: &Path, words: &[&str]) -> String {
        let output = self.run(key, words);
        assert!(!output.status.success(), "{words:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Looks at a machine in every way, drains it and has it work again.
    pub(crate) fn works_with(&self, machine: &mut Machine) {
        let line = |machine: &mut Machine, text: &str| {
            machine.wait_line(text, LIMIT).unwrap_or_else(|error| panic!("{error}"))
        };
        line(machine, " api done ");
        line(machine, " compute done ");
        let mac = machine.spec().mac.clone();
        let node = mac.as_str();

        let listed: Value = self.ask(&["list"]);
        let listed = listed.as_array().unwrap().iter().find(|one| one["mac"] == node).unwrap();
        let status: Value = self.ask(&["status", node]);
        assert_eq!(status["status"]["node"], listed["node"]);
        assert_eq!(status["status"]["name"], listed["name"]);
        assert!(status["owner"].as_str().is_some_and(|owner| owner.starts_with("alia1")));
        assert!(status["status"]["compute"]["pid"].is_number(), "{status}");
        let stages: Vec<NodeStage> = self.ask(&["stages", node]);
        assert!(stages.iter().any(|stage| stage.name == "enrolment"), "{stages:?}");
        let found: NodeProcesses = self.ask(&["processes", node]);
        let names: Vec<_> = found.processes.iter().map(|one| one.name.as_str()).collect();
        assert!(names.contains(&"compute"), "{names:?}");
        assert!(names.len() <= MOST_PROCESSES, "{names:?}");
        let listening: Vec<String> = found.listening.iter().map(ToString::to_string).collect();
        assert_eq!(listening, [format!("tcp6 {NODE_API_PORT}")]);
        let kernel: Vec<Value> = self.ask(&["dmesg", node, "-n", "5"]);
        assert_eq!(kernel.len(), 5);
        let metrics: Value = self.ask(&["metrics", node]);
        assert!(metrics["memory"]["available"].as_u64() > Some(0), "{metrics}");
        let inventory: Value = self.ask(&["inventory", node]);
        assert_eq!(inventory["system"]["vendor"], "aliaOS lab");
        self.follows(node);

        // Somebody else's key, and somebody else's node.
        let error = self.refused(&self.stranger, &["status", node]);
        assert!(error.contains("does not know your key"), "{error}");
        let address: IpAddr = status["status"]["address"].as_str().unwrap().parse().unwrap();
        let other = format!("{}@{address}", SecretKey::generate().unwrap().public());
        let error = self.refused(&self.key, &["status", &other]);
        assert!(error.contains("is not node"), "{error}");
        let error = self.refused(&self.key, &["reboot", node]);
        assert!(error.contains("--yes"), "{error}");
        line(machine, " was refused: ");

        let at = Instant::now();
        let open = open_ports(address);
        println!("{address}: ports {open:?} are open ({:.1} s)", at.elapsed().as_secs_f32());
        assert_eq!(open, [u32::from(NODE_API_PORT)]);
        assert_eq!(answering_ports(address), [0; 0], "by UDP");

        let _: Value = self.ask(&["drain", node]);
        line(machine, "service done drained: process");
        let drained = || {
            // It has no ledger here, so that its health is another matter.
            let status: Value = self.ask(&["status", node]);
            let compute = &status["status"]["compute"];
            compute["pid"].is_null() && compute["drained"] == true
        };
        let end = Instant::now() + LIMIT;
        while !drained() {
            assert!(Instant::now() < end, "the service goes on though it was drained");
            thread::sleep(Duration::from_millis(200));
        }
        let _: Value = self.ask(&["undrain", node]);
        line(machine, " service done process ");
        let _: Value = self.ask(&["identify", node, "--seconds", "1"]);
        line(machine, ", which you look for");
        let file = self.key.with_file_name("bundle.json");
        let _: Value = self.ask(&["bundle", node, "--out", file.to_str().unwrap()]);
        let bundle: Bundle = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        assert!(bundle.processes.processes.len() == names.len() && bundle.kernel_log.is_ok());
        let audit: Vec<AuditRecord> = self.ask(&["audit", node]);
        assert!(audit.iter().any(|one| one.call == "POST /v1/drain" && one.status == 202));
    }

    /// Follows the logs until a line comes that was said meanwhile.
    fn follows(&self, node: &str) {
        let mut command = self.command(&self.key, &["logs", "-f", "-n", "1", node]);
        let mut following = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(first.contains("\"sequence\""), "{first}");
        let _: Value = self.ask(&["identify", node, "--seconds", "1"]);
        let said = lines.map_while(Result::ok).any(|line| line.contains("which you look for"));
        following.kill().unwrap();
        following.wait().unwrap();
        assert!(said, "the line did not come");
    }

    /// `alia fleet …`, at the provisioner.
    fn fleet(&self, words: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        command.args(["--json", "fleet"]).args(words).env("ALIA_HOME", self.folder());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "alia fleet {}: {error}", words.join(" "));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn folder(&self) -> &Path {
        self.key.parent().unwrap()
    }

    /// With the token that the provisioner showed once.
    pub(crate) fn signs_in(&self) {
        let log = fs::read_to_string(self.folder().join("provisioner.log")).unwrap();
        let (_, shown) = log.split_once("shown this once: ").unwrap();
        let token = self.folder().join("operator.token");
        fs::write(&token, shown.split_whitespace().next().unwrap()).unwrap();
        let (token, ca) = (token.to_str().unwrap(), self.folder().join("provisioner.tls/ca.pem"));
        let ca = ca.to_str().unwrap();
        self.fleet(&["login", &self.provisioner, "--token", token, "--ca", ca]);
    }

    /// Has the provisioner drain a machine, does something else meanwhile, and sees that its node
    /// finished its work and that the provisioner knows.
    pub(crate) fn has_drained(&self, machine: &Machine, meanwhile: impl FnOnce()) {
        let (mac, mark) = (machine.spec().mac.as_str(), machine.console().mark());
        self.fleet(&["drain", mac]);
        meanwhile();
        for text in ["wish done the compute service finishes", "service done drained: process"] {
            let said = machine.console().wait_from(mark, |line| line.contains(text), LIMIT);
            said.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        }
        let end = Instant::now() + LIMIT;
        loop {
            let life = &self.fleet(&["show", mac])["life"];
            assert_eq!(life["state"], "draining");
            if life["deadline"].is_null() {
                return;
            }
            assert!(Instant::now() < end, "the provisioner does not hear that it is drained");
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Has the provisioner boot a machine anew, and sees its kernel start again.
    pub(crate) fn reimages(&self, machine: &Machine) {
        let (mac, mark) = (machine.spec().mac.as_str(), machine.console().mark());
        self.fleet(&["reimage", mac, "--yes"]);
        let asked = |line: &str| line.contains("power started asked by an operator");
        let told = machine.console().wait_from(mark, asked, 2 * LIMIT);
        told.unwrap_or_else(|error| panic!("{error:?}"));
        let again = |line: &str| line.contains("Linux version");
        let again = machine.console().wait_from(mark, again, RESTART_LIMIT);
        again.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Turns a machine off that was restarted.
    pub(crate) fn turns_off(&self, machine: &mut Machine) {
        let mark = machine.console().mark();
        let there = |line: &str| line.contains(" api done ");
        machine
            .console()
            .wait_from(mark, there, RESTART_LIMIT)
            .unwrap_or_else(|error| panic!("{error:?}"));
        let mac = machine.spec().mac.clone();
        let _: Value = self.ask(&["power-off", &mac, "--yes"]);
        let ended = machine.qemu().wait_ended(LIMIT);
        assert!(ended.is_some(), "the machine is still on");
    }
}

/// Every UDP port that answers a datagram of zeros, be it by one alone.
fn answering_ports(address: IpAddr) -> Vec<u16> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut answering = Vec::new();
    let mut hear = || {
        let mut datagram = [0; 2_048];
        while let Ok((_, from)) = socket.recv_from(&mut datagram) {
            answering.push(from.port());
        }
    };
    for port in 1..=u16::MAX {
        while let Err(error) = socket.send_to(&[0; 64], (address, port)) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
            thread::sleep(Duration::from_millis(1));
        }
        // An emulated machine's queue holds some hundred.
        if port % 64 == 0 {
            thread::sleep(Duration::from_millis(2));
            hear();
        }
    }
    thread::sleep(LATE);
    hear();
    answering
}

/// Every TCP port that takes a connection.
fn open_ports(address: IpAddr) -> Vec<u32> {
    let next = AtomicU32::new(1);
    let scan = || {
        let mut open = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Ok(port) = u16::try_from(number) else { return open };
            if TcpStream::connect_timeout(&SocketAddr::new(address, port), PORT_LIMIT).is_ok() {
                open.push(number);
            }
        }
    };
    thread::scope(|scope| {
        let scanners = (0..SCANNERS).map(|_| {
            thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, scan).unwrap()
        });
        let scanners: Vec<_> = scanners.collect();
        let mut open: Vec<u32> = scanners.into_iter().flat_map(|one| one.join().unwrap()).collect();
        open.sort_unstable();
        open
    })
}
