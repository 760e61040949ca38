//! `provisioner doctor` on a real network: a foreign dnsmasq, a bridge that speaks spanning tree, a
//! port that is taken, an address of the pool that somebody has, and no rights.
//!
//! Two things are given by the environment, and `cargo xtask test` gives them: ALIA_PROVISIONER (the
//! program) and, for it to run at all, ALIA_BOOTS.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

#[allow(dead_code, reason = "other tests fetch packages")]
mod bed;
mod common;

use bed::given;
use lab::{
    Service,
    net::{self, BRIDGE, FOREIGN_INTERFACE, FOREIGN_NAMESPACE},
    sandbox,
    service::{Ready, ServiceSpec},
    services,
};
use nix::mount::{MsFlags, mount};
use serde_json::Value;
use std::{
    ffi::OsString,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Enough for a server's answer, and for two messages of a bridge.
const SECONDS: &str = "5";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        // This namespace's interfaces, not the host's.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>).unwrap();
        net::make(&net::Plan { taps: vec![], foreign: true }).unwrap();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                ("a network alone wants us in full", &alone),
                ("a foreign DHCP server is found and proxy advised", &foreign_server),
                ("a foreign boot server is found with its file", &foreign_boot_server),
                ("a boot server on port 4011 is asked for its choice", &foreign_proxy),
                ("a switch that speaks spanning tree is heard", &spanning_tree),
                ("who holds the TFTP port is named", &port_taken),
                ("an address of the pool that answers is named", &pool_taken),
                ("without rights it says what it could not look at", &no_rights),
                // The last: the bridge's ports may wait for a while after it.
                ("our own bridge with spanning tree is a problem", &own_spanning_tree),
            ],
        );
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    given("ALIA_PROVISIONER");
    bed::enter("")
}

/// What a doctor said.
struct Said {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Said {
    /// The finding of a check whose words contain these.
    fn finds(&self, check: &str, verdict: &str, words: &[&str]) {
        let text = |finding: &Value| {
            ["what", "why", "change"]
                .map(|field| finding[field].as_str().unwrap().to_owned())
                .join(" | ")
        };
        let found = self.findings.iter().any(|finding| {
            finding["check"] == check
                && finding["verdict"] == verdict
                && words.iter().all(|word| text(finding).contains(word))
        });
        assert!(found, "no {verdict} of {check} with {words:?} in {:#?}", self.findings);
    }
}

/// Runs it by this command, with this configuration.
fn run(mut command: Command, interface: &str, config: &str) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("provisioner.toml");
    let database = folder.path().join("provisioner.sqlite");
    std::fs::write(&file, format!("{config}\ndatabase = {:?}\n", database.to_str().unwrap()))
        .unwrap();
    let output = command
        .args(["doctor", "--json", "--seconds", SECONDS, "--interface", interface, "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
    });
    assert_eq!(report["version"], 1);
    let findings = report["findings"].as_array().unwrap().clone();
    let bad = findings.iter().any(|finding| finding["verdict"] == "problem");
    assert_eq!(output.status.code(), Some(i32::from(bad)), "{findings:#?}");
    Said { code: output.status.code(), findings }
}

fn doctor(interface: &str, config: &str) -> Said {
    run(Command::new(given("ALIA_PROVISIONER")), interface, config)
}

/// A dnsmasq in the foreign namespace with these options.
fn dnsmasq(folder: &Path, options: &[&str]) -> Service {
    let leases = folder.join("leases");
    let spec = ServiceSpec {
        namespace: Some(FOREIGN_NAMESPACE.into()),
        ..ServiceSpec::new("foreign-dhcp", "dnsmasq", folder)
    }
    .args(["--no-daemon", "--conf-file=/dev/null", "--log-dhcp", "--bind-interfaces", "--port=0"])
    .args(["--no-ping".to_string(), format!("--interface={FOREIGN_INTERFACE}")])
    .arg(format!("--dhcp-leasefile={}", leases.display()))
    .args(options.iter().map(OsString::from))
    .ready(Ready::Line("DHCP,".into()));
    Service::start_ready(spec, LIMIT).unwrap()
}

/// `ip` in the foreign namespace.
fn foreign(arguments: &str) {
    let status = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{FOREIGN_NAMESPACE}"))
        .arg("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn alone() {
    let said = doctor(BRIDGE, "dhcp = \"full\"");
    said.finds("dhcp", "ok", &["no DHCP server", "the only one"]);
    said.finds("ports", "ok", &["67 UDP", "4011 UDP", "69 UDP", "8080 TCP"]);
    said.finds("mtu", "ok", &["1500", "1468"]);
    said.finds("link", "ok", &["all 127 addresses", "nobody answers"]);
    said.finds("spanning-tree", "ok", &["has no spanning tree"]);
    assert_eq!(said.code, Some(0), "{:#?}", said.findings);
}

fn foreign_server() {
    let folder = tempfile::tempdir().unwrap();
    let _server = Service::start_ready(services::foreign_dhcp(folder.path()), LIMIT).unwrap();
    doctor(BRIDGE, "").finds("dhcp", "advice", &["10.77.0.2", "gives addresses", "--dhcp proxy"]);
    doctor(BRIDGE, "dhcp = \"proxy\"").finds("dhcp", "ok", &["10.77.0.2", "as --dhcp proxy wants"]);
    let full = doctor(BRIDGE, "dhcp = \"full\"");
    full.finds("dhcp", "problem", &["10.77.0.2", "gives addresses too"]);
    assert_eq!(full.code, Some(1));
}

fn foreign_boot_server() {
    let folder = tempfile::tempdir().unwrap();
    let _server = dnsmasq(
        folder.path(),
        &[
            "--dhcp-range=10.77.0.100,10.77.0.199",
            "--dhcp-boot=pxelinux.0",
            "--dhcp-option=26,1400",
        ],
    );
    let said = doctor(BRIDGE, "dhcp = \"proxy\"");
    said.finds("dhcp", "problem", &["10.77.0.2", "pxelinux.0", "dhcp-boot"]);
    said.finds("mtu", "advice", &["10.77.0.2 tells machines an MTU of 1400"]);
}

fn foreign_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let _server = dnsmasq(
        folder.path(),
        &[
            "--dhcp-range=10.77.0.0,proxy",
            "--pxe-service=x86-64_EFI,other,other.efi",
            "--pxe-service=x86PC,other,other",
        ],
    );
    let said = doctor(BRIDGE, "dhcp = \"full\"");
    said.finds("dhcp", "problem", &["10.77.0.2", "ProxyDHCP", "other"]);
}

fn spanning_tree() {
    net::ip(&[format!("link add eth9 type veth peer name port9 netns {FOREIGN_NAMESPACE}")])
        .unwrap();
    for line in [
        "link add sw0 type bridge stp_state 1 forward_delay 1500",
        "link set sw0 up",
        "link set port9 master sw0",
        "link set port9 up",
    ] {
        foreign(line);
    }
    net::ip(&["address add 10.78.0.1/24 dev eth9".into(), "link set eth9 up".into()]).unwrap();
    let said = doctor("eth9", "");
    said.finds(
        "spanning-tree",
        "advice",
        &["speaks STP", "forward delay 15 s, hello 2 s", "drops all four", "portfast"],
    );
    net::ip(&["link delete eth9".into()]).unwrap();
    foreign("link delete sw0");
}

fn own_spanning_tree() {
    net::ip(&[format!("link set {BRIDGE} type bridge stp_state 1 forward_delay 1500")]).unwrap();
    let said = doctor(BRIDGE, "");
    net::ip(&[format!("link set {BRIDGE} type bridge stp_state 0")]).unwrap();
    said.finds("spanning-tree", "problem", &["our bridge lab0", "waits 30 s", "stp_state 0"]);
    // What it says itself at its ports is no switch's.
    said.finds("spanning-tree", "ok", &["no switch spoke"]);
}

fn port_taken() {
    let folder = tempfile::tempdir().unwrap();
    let spec = ServiceSpec::new("tftp", "dnsmasq", folder.path())
        .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--enable-tftp"])
        .args([format!("--tftp-root={}", folder.path().display()), format!("--interface={BRIDGE}")])
        .arg("--bind-interfaces")
        .ready(Ready::Line("TFTP root".into()));
    let server = Service::start_ready(spec, LIMIT).unwrap();
    let process = format!("dnsmasq (process {})", server.id());
    let said = doctor(BRIDGE, "");
    said.finds("ports", "problem", &["UDP port 69", &process, "enable-tftp", "--tftp-port"]);
    said.finds("ports", "ok", &["67 UDP"]);
}

fn pool_taken() {
    let said = doctor(BRIDGE, "dhcp = \"full\"\npool = \"10.77.0.2-10.77.0.9\"");
    said.finds("link", "problem", &["all 8 addresses", "answer 10.77.0.2 ("]);
    let said = doctor(BRIDGE, "dhcp = \"full\"\npool = \"10.99.0.2-10.99.0.9\"");
    said.finds("link", "problem", &["not within our network"]);
}

fn no_rights() {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_raw,-net_bind_service", "--"]);
    command.arg(given("ALIA_PROVISIONER"));
    let said = run(command, BRIDGE, "");
    said.finds("dhcp", "unknown", &["which other DHCP servers", "may not send and see"]);
    said.finds("spanning-tree", "unknown", &["what switches here say"]);
    said.finds("link", "unknown", &["whether somebody has an address"]);
    said.finds("ports", "problem", &["UDP port 69 may not be taken", "CAP_NET_BIND_SERVICE"]);
}
