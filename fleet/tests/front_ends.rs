//! Two provisioners, one PostgreSQL: a storm through both, one of them killed in the midst of
//! another, and the database gone while machines boot.
//!
//! Three things are given by the environment, and `cargo xtask test` gives them: ALIA_PROVISIONER
//! (the program), ALIA_POSTGRES (the folder of PostgreSQL's programs) and, for it to run at all,
//! ALIA_BOOTS.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

use fleet::{
    Plan, Summary,
    boot::{Site, Way},
    dhcp::Wire,
    sample::{self, Sizes},
    site::{self, Parts},
    target::Target,
};
use lab::{
    Postgres, Ready, Service, ServiceSpec, net, sandbox,
    services::{Dhcp, Provisioner},
};
use protocol::{SecretKey, fleet::MachineStatus};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, time::sleep};

/// Through each of the two.
const MACHINES: u32 = 30;
const READY: Duration = Duration::from_secs(60);
/// How long the database is away: firmware asks again after 4, 8, 16 and 32 s.
const AWAY: Duration = Duration::from_secs(30);

/// A front-end, and the relay by which machines reach it.
#[derive(Clone, Copy)]
struct End {
    name: &'static str,
    server: Ipv4Addr,
    relay: Ipv4Addr,
    interface: &'static str,
}

const ENDS: [End; 2] = [
    End { name: "a", server: net::SERVER, relay: site::OURS, interface: site::INTERFACE },
    End {
        name: "b",
        server: Ipv4Addr::new(10, 77, 0, 3),
        relay: Ipv4Addr::new(10, 77, 0, 4),
        interface: "fleet1",
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("inside") {
        inside(Path::new(&arguments[2]));
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("ALIA_BOOTS").is_none() {
        println!("skipped: ALIA_BOOTS is not set");
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let words = ["inside".into(), folder.path().into()];
    let mut sandbox = sandbox::enter(sandbox::privilege().unwrap(), &words, Vec::new()).unwrap();
    let good = sandbox.wait().unwrap().success();
    let word = if good { "ok" } else { "FAILED" };
    println!("test front-ends share a fleet ... {word} ({:.1} s)", began.elapsed().as_secs_f32());
    let (passed, failed) = if good { (1, 0) } else { (0, 1) };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn given(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")).into()
}

/// Our side has a way to each; their sides never meet.
fn network() {
    site::network().unwrap();
    let [_, b] = ENDS;
    let bridge = net::BRIDGE;
    net::ip(&[
        format!("netns add {}", b.name),
        format!("link add {} type veth peer name {bridge} netns {}", b.interface, b.name),
        format!("address add {}/32 dev {}", b.relay, b.interface),
        format!("link set {} up", b.interface),
        format!("route add {}/32 dev {} src {}", b.server, b.interface, b.relay),
    ])
    .unwrap();
    net::ip_in(
        b.name,
        &[
            "link set lo up".into(),
            format!("address add {}/16 broadcast + dev {bridge}", b.server),
            format!("link set {bridge} up"),
            format!("route add {} via {} dev {bridge}", site::POOL, b.relay),
        ],
    )
    .unwrap();
}

/// One of the two. They have key, CA and database in common, and nothing else.
fn front_end(end: End, folder: &Path, database: &str) -> ServiceSpec {
    let provisioner = Provisioner {
        program: given("ALIA_PROVISIONER"),
        folder: folder.join("shared"),
        dhcp: Dhcp::Full,
        image: folder.join("image"),
        ipxe: folder.join("ipxe"),
        bios_file: None,
        uki: None,
        chain: "alia-fleet".parse().unwrap(),
        owner: SecretKey::from_seed([7; 32]),
        ledgers: Vec::new(),
        parameter_servers: Vec::new(),
    };
    let mut spec = provisioner.service().unwrap();
    let at = spec.arguments.iter().position(|word| word == "--database").unwrap();
    spec.arguments[at + 1] = database.into();
    spec = spec
        .arg("--tls")
        .arg(folder.join("shared/tls"))
        .arg("--pool")
        .arg("10.77.128.1-10.77.255.254");
    spec.name = format!("front-{}", end.name);
    spec.namespace = Some(match end.name {
        "a" => site::SERVER_NAMESPACE.into(),
        other => other.into(),
    });
    spec.environment.push(("RUST_LOG".into(), "warn".into()));
    let http = SocketAddrV4::new(end.server, site::HTTP_PORT);
    spec.ready(Ready::Http(http.into(), "/".into()))
}

/// Machines that reach one front-end.
fn machines(end: End, salt: u64) -> Arc<Site> {
    let mut site = Site::new(Target::named(end.server), Way::WHOLE, salt);
    site.base = Some(SocketAddrV4::new(end.server, site::HTTP_PORT));
    site.own_addresses = Some(site::POOL_START);
    site.wire = Some(Wire::relay(end.relay, end.server).unwrap());
    Arc::new(site)
}

/// What a front-end knows of all machines, by MAC address.
fn known(end: End) -> BTreeMap<String, MachineStatus> {
    let mut stream = TcpStream::connect((end.server, site::HTTP_PORT)).unwrap();
    write!(stream, "GET /v1/machines HTTP/1.0\r\nhost: lab\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let machines: Vec<MachineStatus> = serde_json::from_str(body).unwrap();
    machines.into_iter().map(|machine| (machine.mac.clone(), machine)).collect()
}

fn all_came_through(summary: &Summary) {
    assert_eq!(summary.failed, 0, "{:?}", summary.failures);
    assert!(summary.finished > 0);
}

fn inside(folder: &Path) {
    network();
    let parts = Parts {
        program: given("ALIA_PROVISIONER"),
        image: folder.join("image"),
        ipxe: folder.join("ipxe"),
    };
    sample::image(&parts.image, &Sizes::SMALL).unwrap();
    sample::boot_files(&parts.ipxe).unwrap();
    let programs = given("ALIA_POSTGRES");
    let mut postgres = Postgres::start(&programs, &folder.join("pg")).unwrap();
    postgres.create(&programs, "fleet").unwrap();
    let url = postgres.url("fleet");

    // Both at once, on an empty database: one makes the tables, one shows the first token.
    let mut ends: Vec<Service> =
        ENDS.map(|end| Service::start(front_end(end, folder, &url)).unwrap()).into();
    for end in &mut ends {
        end.wait_ready(READY).unwrap();
    }
    let token = |service: &Service| {
        service
            .console()
            .lines_from(0)
            .iter()
            .filter(|line| line.text.contains("by this token"))
            .count()
    };
    assert_eq!(ends.iter().map(token).sum::<usize>(), 1, "one first operator");

    let runtime = Runtime::new().unwrap();
    let salt = site::salt();
    let plan = Plan { machines: MACHINES, first: 0, over: 0.0, beats: None, server: None };
    let sites = runtime.block_on(async { ENDS.map(|end| machines(end, salt)) });
    let run = |site: &Arc<Site>, plan: Plan| fleet::run(site.clone(), plan);

    // A storm through both.
    let (one, other) = runtime.block_on(async {
        tokio::join!(run(&sites[0], plan), run(&sites[1], Plan { first: MACHINES, ..plan }))
    });
    all_came_through(&one.unwrap());
    all_came_through(&other.unwrap());
    let before = known(ENDS[1]);
    assert_eq!(before.len(), 2 * MACHINES as usize);
    let identity = |(mac, each): (String, MachineStatus)| (mac, each.address, each.node);
    let told = |machines: BTreeMap<_, _>| machines.into_iter().map(identity).collect::<Vec<_>>();
    assert_eq!(told(before.clone()), told(known(ENDS[0])), "both know the same");
    let addresses: BTreeSet<_> = before.values().filter_map(|each| each.address.clone()).collect();
    assert_eq!(addresses.len(), before.len(), "no address twice");

    // One is killed while its machines boot. They start over, and the other takes them on.
    let cut = runtime.block_on(async {
        let storm = tokio::spawn(run(&sites[0], Plan { over: 2.0, ..plan }));
        sleep(Duration::from_millis(1_200)).await;
        ends[0].kill();
        storm.await.unwrap().unwrap()
    });
    println!("killed in the midst: {} came through, {} did not", cut.finished, cut.failed);
    assert!(cut.failed > 0, "it was killed too late to be missed");
    all_came_through(&runtime.block_on(run(&sites[1], plan)).unwrap());
    let after = known(ENDS[1]);
    for (mac, machine) in &after {
        let was = &before[mac];
        assert_eq!((&machine.address, &machine.name), (&was.address, &was.name), "{mac}");
        assert_eq!(machine.node, was.node, "{mac}");
    }
    ends[0].restart().unwrap();
    ends[0].wait_ready(READY).unwrap();

    // The database goes while machines boot, and comes back.
    let told = ends[1].console().mark();
    let waited = runtime.block_on(async {
        let storm = tokio::spawn(run(&sites[1], Plan { over: 2.0, ..plan }));
        sleep(Duration::from_millis(500)).await;
        postgres.kill();
        sleep(AWAY).await;
        postgres.restart().unwrap();
        storm.await.unwrap().unwrap()
    });
    println!("without a database for {AWAY:?}: {} of {MACHINES} came through", waited.finished);
    let says = |line: &str| line.contains("the database");
    assert!(ends[1].console().lines_from(told).iter().any(|line| says(&line.text)), "it said so");
    // Whom it caught while being taken in starts over, as a node's own retries do.
    all_came_through(&runtime.block_on(run(&sites[1], plan)).unwrap());
    let last = known(ENDS[0]);
    assert_eq!(last.len(), 2 * MACHINES as usize, "nothing is lost");
    for (mac, machine) in &last {
        assert_eq!(machine.address, before[mac].address, "{mac}");
    }
    fs::remove_dir_all(folder.join("pg")).unwrap_or_default();
}
