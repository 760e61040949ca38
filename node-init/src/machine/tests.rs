//! A whole boot over a kernel and a network in memory, with a provisioner and a ledger on
//! loopback sockets.

use super::*;
use crate::{
    console::{Console, tests::Screen},
    kernel::{Exit, Pid, Stop, fake::Fake},
    outbox::Outbox,
    sandbox::tests::declaration,
    stages::{
        enrolment::tests::{BOOT, config, key},
        network::tests::{FakeNetwork, given, link},
    },
};
use ::release::sign::testing;
use protocol::{
    Signed,
    boot::{BootEvent, CrashReport, Enrol, ImageFile, ImageManifest, RootImage, Verity},
    medium::{Claim, Grant, Granted, RECORD_FILE, Record, check_claim},
    node::Ownership,
    release::{Manifest, ROOT_FILE, TimeAnswer, TimeRequest},
    sandbox::SANDBOXES,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Mutex};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::LocalSet,
};

/// A provisioner and a ledger in one, on a loopback socket.
struct Servers {
    listener: TcpListener,
    seen: Arc<Mutex<Seen>>,
    /// Answers enrolments with this key.
    provisioner: u8,
    /// Refuses so many enrolments before it takes one.
    refusals: u32,
    /// Which boot in a row it says that this is.
    attempt: u32,
    /// Gives nodes that came by a medium to its own owner.
    steals: bool,
    /// Is gone from the midst of its first answer at a path with this end, until it is called back.
    leaves: Option<(&'static str, Arc<Notify>)>,
}

#[derive(Default)]
struct Seen {
    events: Vec<BootEvent>,
    enrolments: Vec<Signed<Enrol>>,
    claims: Vec<Signed<Claim>>,
    crashes: Vec<CrashReport>,
    submitted: usize,
}

impl Servers {
    async fn start(provisioner: u8, refusals: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seen = Arc::default();
        let (attempt, steals, leaves) = (1, false, None);
        Self { listener, seen, provisioner, refusals, attempt, steals, leaves }
    }

    fn address(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    async fn serve(mut self) {
        let address = self.address();
        loop {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let Some((path, body)) = request(&mut stream).await else { continue };
            let (status, content) = self.answer(&address, &path, &body);
            let whole = response(status, &content);
            let leaves = self.leaves.take_if(|(end, _)| path.ends_with(*end));
            let Some((_, back)) = leaves else {
                stream.write_all(&whole).await.unwrap();
                continue;
            };
            stream.write_all(&whole[..whole.len() / 2]).await.unwrap();
            let port = self.listener.local_addr().unwrap();
            drop((stream, self.listener));
            // Nobody else gets the port meanwhile, and whoever connects to it is refused.
            let held = TcpSocket::new_v4().unwrap();
            held.set_reuseaddr(true).unwrap();
            held.bind(port).unwrap();
            back.notified().await;
            self.listener = held.listen(64).unwrap();
        }
    }

    fn answer(&self, address: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut seen = self.seen.lock().unwrap();
        if path.ends_with("/events") {
            let events: Vec<BootEvent> = serde_json::from_slice(body).unwrap();
            seen.events.extend(events);
            return (204, Vec::new());
        }
        if path.ends_with("/crashes") {
            seen.crashes.push(serde_json::from_slice(body).unwrap());
            return (200, Vec::new());
        }
        if path.ends_with("/claim") {
            seen.claims.push(serde_json::from_slice(body).unwrap());
            return (200, b"{}".to_vec());
        }
        if path.ends_with("/certificate") {
            return (404, b"a provisioner of before there were any".to_vec());
        }
        if path.ends_with("/enrol") {
            let enrol: Signed<Enrol> = serde_json::from_slice(body).unwrap();
            let node = enrol.signer;
            seen.enrolments.push(enrol);
            if seen.enrolments.len() <= self.refusals as usize {
                return (409, b"two machines have this identity".to_vec());
            }
            let mut config = config(node);
            config.ledgers = vec![address.to_owned()];
            if let Some(claim) = seen.claims.last().filter(|_| !self.steals) {
                let granted = claim.body.granted.clone();
                let endorsement = Some(claim.body.endorsement.clone());
                config.ownership = Ownership { delegation: granted.delegation, endorsement };
            }
            let chain = config.chain.clone();
            let answer = Signed::sign(&chain, config, &key(self.provisioner));
            return (200, serde_json::to_vec(&answer).unwrap());
        }
        if let Some((_, file)) = path.rsplit_once('/').filter(|_| path.starts_with("/image/")) {
            return match file {
                "release.bundle" => (200, bundle()),
                "root.erofs" => (200, ROOT.to_vec()),
                other => panic!("{other}"),
            };
        }
        if path.ends_with("/pieces") || path.starts_with("/v1/pieces/") {
            return (404, b"a provisioner of before there were any".to_vec());
        }
        if path == "/v1/time" {
            let TimeRequest { nonce, .. } = serde_json::from_slice(body).unwrap();
            let attempt = self.attempt;
            let answer = TimeAnswer { nonce, unix_time: 1_999_999_000, attempt };
            let chain = "alia-test".parse().unwrap();
            let answer = Signed::sign(&chain, answer, &key(self.provisioner));
            return (200, serde_json::to_vec(&answer).unwrap());
        }
        let request: Value = serde_json::from_slice(body).unwrap();
        let result = match request["method"].as_str().unwrap() {
            "broadcast_tx_sync" => {
                seen.submitted += 1;
                json!({"code": 0, "data": "", "log": "", "hash": "00"})
            }
            "tx" => json!({"hash": "00", "height": "7", "index": 0, "tx": "",
                "tx_result": {"code": 0, "data": null, "log": ""}}),
            other => panic!("{other}"),
        };
        let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
        (200, serde_json::to_vec(&answer).unwrap())
    }
}

/// Takes one request and answers it, by its path and body.
pub(crate) async fn exchange(
    mut stream: TcpStream,
    answer: impl Fn(&str, &[u8]) -> (u16, Vec<u8>),
) {
    let Some((path, body)) = request(&mut stream).await else { return };
    let (status, content) = answer(&path, &body);
    stream.write_all(&response(status, &content)).await.unwrap();
}

/// Takes one request: its path and its body.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let Ok(read @ 1..) = stream.read(&mut part).await else { return None };
        request.extend_from_slice(&part[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(request[..end].to_vec()).unwrap();
        let body = &request[end + 4..];
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse::<usize>().unwrap()) {
            return Some((head.split(' ').nth(1).unwrap().to_owned(), body.to_vec()));
        }
    }
}

fn response(status: u16, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), content].concat()
}

const ROOT: [u8; 8192] = [9; 8192];

/// An image for kernel 6.12.
pub(crate) fn manifest() -> ImageManifest {
    let file = |name: &str, content: &[u8]| ImageFile {
        file: name.into(),
        digest: Digest::of_bytes(content),
        bytes: content.len() as u64,
    };
    let verity = Verity { root_hash: Digest([1; 32]), salt: Digest([2; 32]), data_blocks: 1 };
    ImageManifest {
        version: "0.1.0".into(),
        kernel_release: "6.12".into(),
        kernel: file("vmlinuz", b"kernel"),
        initramfs: file("initramfs.zst", b"initramfs"),
        root: RootImage { file: file("root.erofs", &ROOT), verity },
        microcode: Default::default(),
        unix_time: 5,
    }
}

/// The release of it, by keys that everybody knows.
fn bundle() -> Vec<u8> {
    let manifest = Manifest { version: 3, image: manifest(), floor: 2, chain: None };
    let released = testing::released(manifest, 4_000_000_000).unwrap();
    released.bundle().unwrap().to_bytes()
}

struct Bench {
    kernel: Arc<Fake>,
    screen: Screen,
    seen: Arc<Mutex<Seen>>,
    requests: mpsc::Sender<power::Request>,
    machine: Rc<Machine<FakeNetwork>>,
}

impl Bench {
    /// Waits for a line on the console that holds this text.
    async fn line(&self, text: &str) {
        self.line_of(&[text]).await;
    }

    /// Waits for a line on the console that holds all of these texts.
    async fn line_of(&self, texts: &[&str]) {
        let wanted = |line: &str| texts.iter().all(|text| line.contains(text));
        let shown = async {
            while !self.screen.text().lines().any(wanted) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(Duration::from_secs(30), shown).await.is_err() {
            panic!("no {texts:?} on the console:\n{}", self.screen.text());
        }
    }

    fn told(&self) -> Vec<(String, StageState)> {
        let events = &self.seen.lock().unwrap().events;
        events.iter().map(|event| (event.stage.clone(), event.state)).collect()
    }
}

/// Boots a machine and hands it to a test, which must end it; gives how it ended.
async fn boot(
    servers: Servers,
    change: impl FnOnce(&Fake),
    test: impl AsyncFnOnce(&Bench),
) -> (End, Bench) {
    let (pinned, release) = (key(1).public(), manifest().digest());
    let line = format!(
        "alia.provisioner={} alia.key={pinned} alia.chain=alia-test alia.release={release} \
         BOOTIF=01-52-54-00-00-00-01",
        servers.address(),
    );
    let fake = Fake::new(&[
        ("/proc/cmdline", &line),
        ("/proc/sys/kernel/osrelease", "6.12"),
        ("/lib/modules/6.12/modules.alias", "alias pci:v1* virtio_net"),
        ("/lib/modules/6.12/modules.dep", "kernel/virtio_net.ko:"),
        ("/sys/class/watchdog/watchdog0/identity", "iTCO_wdt"),
        ("/sys/bus/pci/devices/0/modalias", "pci:v1d2"),
        ("/sys/bus/pci/devices/1/modalias", "pci:v2d2"),
        (SANDBOXES, &declaration()),
        ("/sys/kernel/security/lockdown", "none integrity [confidentiality]"),
        ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids"),
        ("/etc/alia/build.json", r#"{"version":"0.1.0","kernel_release":"6.12","unix_time":5}"#),
    ]);
    // A driver that the root alone has.
    let in_root: [(&str, &str); 2] = [
        ("/lib/modules/6.12/modules.alias", "alias pci:v1* virtio_net\nalias pci:v2* nvme"),
        ("/lib/modules/6.12/modules.dep", "kernel/virtio_net.ko:\nkernel/nvme.ko:"),
    ];
    fake.world().files.insert(ROOT_FILE.into(), testing::root_json());
    fake.world().in_root = in_root.map(|(path, text)| (path.into(), text.into())).to_vec();
    change(&fake);
    let kernel = Arc::new(fake);
    let screen = Screen::default();
    let boot_id = BOOT;
    let console = Console::start(screen.clone());
    let reporter = Rc::new(Reporter::new(kernel.clone(), console, Outbox::new(boot_id)));
    let network = FakeNetwork {
        advertised: None,
        links: RefCell::new(vec![link(1)]),
        answers: RefCell::new([(1, [given(3)].into())].into()),
        plugged: vec![1],
        ..FakeNetwork::default()
    };
    let (requests, requested) = mpsc::channel(1);
    let machine = Rc::new(Machine::with_api_port(kernel.clone(), network, reporter, boot_id, 0));
    let bench = Bench { kernel, screen, seen: servers.seen.clone(), requests, machine };
    let local = LocalSet::new();
    let end = local
        .run_until(async {
            spawn_local(servers.serve());
            let machine = bench.machine.clone();
            let running = spawn_local(machine.run(bench.requests.clone(), requested));
            test(&bench).await;
            running.await.unwrap().unwrap()
        })
        .await;
    (end, bench)
}

/// Ends a machine whose service runs.
async fn power_off(bench: &Bench) {
    bench.requests.send((End::PowerOff, "a test")).await.unwrap();
    service_ends(bench).await;
}

/// Has the service end as the machine asks it to.
async fn service_ends(bench: &Bench) {
    let pid = 100 + bench.kernel.world().spawned.len() as Pid;
    // Other tests' signals make this machine look for ended children as well: an end that came
    // before it was asked for would be a crash.
    let asked = async {
        while !bench.kernel.world().stopped.contains(&(pid, Stop::Ask)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), asked).await.expect("the service is asked to end");
    bench.kernel.world().exits.push_back((pid, Exit::Status(0)));
    child_ended();
}

fn child_ended() {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGCHLD).unwrap();
}

#[tokio::test]
async fn a_machine_boots_from_mounts_to_its_service_and_tells_the_provisioner_all() {
    let (end, bench) = boot(
        Servers::start(1, 0).await,
        |_| {},
        async |bench| {
            bench.line("registration done").await;
            bench.line("api done").await;
            bench.line("compute done").await;
            power_off(bench).await;
        },
    )
    .await;
    assert_eq!(end, End::PowerOff);
    let world = bench.kernel.world();
    assert_eq!(world.modules, ["virtio_net.ko", "nvme.ko"]);
    assert_eq!(world.root.as_ref().unwrap().0, Path::new("/newroot"));
    assert_eq!(world.looped, ROOT);
    assert_eq!(world.clock, 2_000_000_000);
    assert_eq!(world.spawned.len(), 1);
    assert_eq!(world.spawned[0].cage.user, 900);
    // Without the servers first, then with them.
    assert_eq!(world.firewalls.len(), 2);
    assert_eq!(world.stopped[0], (101, Stop::Ask));
    drop(world);
    let text = bench.screen.text();
    assert!(text.contains(" network done ") && text.contains("eth1 10.1.2.3/24 by DHCP"), "{text}");
    assert!(text.contains(" compute done ") && text.contains("process 101 as user 900"), "{text}");
    let told = bench.told();
    for row in &PLAN {
        let name = row.stage.name().to_owned();
        assert!(told.contains(&(name.clone(), StageState::Started)), "{name} in {told:?}");
        assert!(told.contains(&(name.clone(), StageState::Done)), "{name} in {told:?}");
    }
    assert_eq!(told.last().unwrap(), &("power".to_owned(), StageState::Done));
    let seen = bench.seen.lock().unwrap();
    assert_eq!(seen.enrolments[0].body.mac, "52:54:00:00:00:01");
    assert_eq!(seen.enrolments[0].body.boot_id, BOOT);
    assert_eq!(seen.submitted, 1);
}

#[tokio::test]
async fn a_provisioner_that_refuses_is_asked_again_and_its_reason_is_shown() {
    boot(
        Servers::start(1, 1).await,
        |_| {},
        async |bench| {
            bench.line("enrolment retrying").await;
            bench
                .line("refused with 409: two machines have this identity; tried again in 1 s")
                .await;
            bench.line("compute done").await;
            power_off(bench).await;
        },
    )
    .await;
}

/// A medium's record of owner 7, as the machine finds it beside what it booted.
fn put_record(fake: &Fake) {
    let grant =
        Grant { token: key(8).public(), provisioner: key(1).public(), issued: 1, expires: 2 };
    let granted = Granted::sign(&"alia-test".parse().unwrap(), grant, &key(7));
    let record = Record { token: key(8), granted };
    fake.world().files.insert(RECORD_FILE.into(), record.to_bytes().unwrap());
}

#[tokio::test]
async fn a_machine_that_booted_from_its_owners_medium_says_so_and_is_the_owners() {
    let (_, bench) = boot(Servers::start(1, 0).await, put_record, async |bench| {
        let owner = key(7).public().address();
        bench.line_of(&["command-line done", &format!("it is {owner}'s")]).await;
        bench.line_of(&["enrolment done", &format!("owned by {owner}")]).await;
        bench.line("registration done").await;
        power_off(bench).await;
    })
    .await;
    let seen = bench.seen.lock().unwrap();
    let chain = "alia-test".parse().unwrap();
    let claimed = check_claim(&seen.claims[0], &chain, &key(1).public()).unwrap();
    assert_eq!((claimed.owner(), claimed.token), (key(7).public(), key(8).public()));
    assert_eq!(claimed.node, seen.enrolments[0].signer);
}

#[tokio::test]
async fn a_provisioner_that_gives_a_miners_node_to_another_is_refused() {
    let servers = Servers { steals: true, ..Servers::start(1, 0).await };
    let (_, bench) = boot(servers, put_record, async |bench| {
        bench.line("nothing is done for anybody else").await;
        bench.requests.send((End::Restart, "a test")).await.unwrap();
    })
    .await;
    assert!(!bench.screen.text().contains("enrolment done"));
    assert_eq!(bench.seen.lock().unwrap().submitted, 0, "nothing was registered");
}

#[tokio::test]
async fn a_provisioner_with_another_key_is_not_believed_and_nothing_is_started() {
    let (end, bench) = boot(
        Servers::start(6, 0).await,
        |_| {},
        async |bench| {
            bench.line("another provisioner answers at this address").await;
            bench.requests.send((End::Restart, "a test")).await.unwrap();
        },
    )
    .await;
    assert_eq!(end, End::Restart);
    let world = bench.kernel.world();
    assert!(world.spawned.is_empty());
    assert_eq!(world.clock, 1_000, "an unproven answer sets no clock");
}

#[tokio::test]
async fn a_service_that_crashes_is_reported_and_what_it_forked_is_killed() {
    let (_, bench) = boot(
        Servers::start(1, 0).await,
        |_| {},
        async |bench| {
            bench.line("compute done").await;
            // An orphan's end, and the service's.
            let ends = [(555, Exit::Status(3)), (101, Exit::Signal(11))];
            bench.kernel.world().exits.extend(ends);
            child_ended();
            bench.line("service retrying process 101 was killed by signal 11").await;
            bench.requests.send((End::PowerOff, "a test")).await.unwrap();
        },
    )
    .await;
    assert_eq!(bench.kernel.world().stopped, [(101, Stop::Kill)]);
    // (A port of the test's servers may well have these digits.)
    assert!(!bench.screen.text().contains("process 555"));
}

#[tokio::test]
async fn a_service_that_is_not_in_the_image_is_said_so_and_tried_again() {
    let no_file = |fake: &Fake| {
        fake.world().failing.insert("/usr/bin/compute".into(), 2);
    };
    boot(Servers::start(1, 0).await, no_file, async |bench| {
        bench.line("/usr/bin/compute cannot be started: No such file or directory").await;
        bench.line("for its user to execute?; tried again in 1 s").await;
        bench.requests.send((End::PowerOff, "a test")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_a_stage_is_reported_as_ours_and_the_machine_goes_on() {
    let panicking = |fake: &Fake| fake.world().panicking = Some("/sys/bus".into());
    boot(Servers::start(1, 0).await, panicking, async |bench| {
        bench.line("modules failed").await;
        bench.line("drivers failed").await;
        bench.line("a mistake of ours ended it").await;
        bench.line("compute done").await;
        power_off(bench).await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_in_what_runs_aside_is_told_and_the_machine_restarts() {
    let (end, bench) = boot(
        Servers::start(1, 0).await,
        |_| {},
        async |bench| {
            bench.line("compute done").await;
            bench.machine.aside("lease", async { panic!("told to panic") });
            bench.line("lease failed a mistake of ours ended it").await;
            bench.line("stands failed a part of PID 1 ended by a mistake: the machine r").await;
            service_ends(bench).await;
        },
    )
    .await;
    assert_eq!(end, End::Restart);
    let told = bench.told();
    assert!(told.contains(&("lease".to_owned(), StageState::Failed)));
    // By this the provisioner would begin a new row: nobody asked for this end.
    let asked = (STAGE_POWER.to_owned(), StageState::Started);
    assert!(!told.contains(&asked), "{told:?}");
}

#[tokio::test]
async fn a_panic_in_what_runs_aside_leaves_a_rescue_as_it_is() {
    let servers = Servers { attempt: 4, ..Servers::start(1, 0).await };
    let (end, _) = boot(
        servers,
        |_| {},
        async |bench| {
            bench.line("rescue failed").await;
            bench.machine.aside("hotplug", async { panic!("told to panic") });
            bench.line("stands failed a part of PID 1 ended by a mistake: the machine stays").await;
            bench.requests.send((End::PowerOff, "a test")).await.unwrap();
        },
    )
    .await;
    assert_eq!(end, End::PowerOff);
}

#[tokio::test]
async fn on_a_kernel_that_is_not_locked_down_no_service_is_started() {
    let (_, bench) = boot(
        Servers::start(1, 0).await,
        |fake| {
            fake.world().failing.insert("/sys/kernel/security/lockdown".into(), 1);
        },
        async |bench| {
            bench.line("hardening failed").await;
            bench.line("s the service is not started: the kernel is not locked down").await;
            bench.line("api done").await;
            bench.requests.send((End::Restart, "a test")).await.unwrap();
        },
    )
    .await;
    assert!(bench.kernel.world().spawned.is_empty());
}

#[tokio::test]
async fn after_three_failed_boots_the_machine_stays_in_a_rescue_that_does_no_work() {
    let servers = Servers { attempt: 4, ..Servers::start(1, 0).await };
    let (_, bench) = boot(
        servers,
        |_| {},
        async |bench| {
            bench.line("rescue failed 3 boots in a row did not come to stand").await;
            bench.line("enrolment done").await;
            bench.line("api done").await;
            bench.requests.send((End::Restart, "a test")).await.unwrap();
        },
    )
    .await;
    assert!(bench.kernel.world().spawned.is_empty());
    assert!(!bench.screen.text().contains("restarts in"), "{}", bench.screen.text());
    assert!(bench.told().contains(&("rescue".to_owned(), StageState::Failed)));
}

#[tokio::test]
async fn a_boot_whose_service_was_started_stands_and_says_so() {
    let (_, bench) = boot(
        Servers::start(1, 0).await,
        |_| {},
        async |bench| {
            bench.line("stands done the compute service was started").await;
            power_off(bench).await;
        },
    )
    .await;
    assert!(bench.told().contains(&("stands".to_owned(), StageState::Done)));
}

#[tokio::test]
async fn a_service_that_hangs_is_killed_and_the_watchdog_is_fed_meanwhile() {
    let (_, bench) = boot(
        Servers::start(1, 0).await,
        |_| {},
        async |bench| {
            bench.line("watchdog done a fake resets the machine after 60 s").await;
            bench.line("compute done").await;
            bench.kernel.world().skipped = supervise::SILENCE;
            child_ended();
            bench
                .line("service retrying process 101 made no sign of progress for 600 s: killed")
                .await;
            bench.kernel.world().exits.push_back((101, Exit::Signal(9)));
            child_ended();
            bench.line("process 101 was killed by signal 9 after").await;
            bench.requests.send((End::PowerOff, "a test")).await.unwrap();
        },
    )
    .await;
    let mut world = bench.kernel.world();
    assert!(world.stopped.contains(&(101, Stop::Kill)));
    let (_, food) = world.watchdogs.pop_first().unwrap();
    let mut food = std::fs::File::from(food);
    let mut meals = [0; 64];
    // How many there were in so short a boot depends on how its events fell together.
    assert!(std::io::Read::read(&mut food, &mut meals).unwrap() >= 1);
}

#[tokio::test]
async fn a_service_that_the_kernel_killed_for_memory_is_said_so() {
    const EVENTS: &str = "/sys/fs/cgroup/compute/memory.events";
    let limited = |fake: &Fake| {
        let mut world = fake.world();
        world.files.insert("/sys/fs/cgroup/compute/memory.max".into(), b"536870912\n".to_vec());
        world.files.insert(EVENTS.into(), b"oom 0\noom_kill 0\n".to_vec());
    };
    boot(Servers::start(1, 0).await, limited, async |bench| {
        bench.line("compute done").await;
        bench.kernel.world().files.insert(EVENTS.into(), b"oom 1\noom_kill 1\n".to_vec());
        bench.kernel.world().exits.push_back((101, Exit::Signal(9)));
        child_ended();
        bench.line("process 101 was killed because it used more than 536 MB of memory").await;
        bench.requests.send((End::PowerOff, "a test")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_log_of_a_kernel_that_died_is_delivered_and_then_erased() {
    const PART: &str = "/sys/fs/pstore/dmesg-efi_pstore-176373000101001";
    let died = |fake: &Fake| {
        let text = b"Panic#1 Part1\n<0>[ 9.1] Kernel panic - not syncing: a test\n".to_vec();
        fake.world().files.insert(PART.into(), text);
    };
    let (_, bench) = boot(Servers::start(1, 0).await, died, async |bench| {
        bench.line("crash started the kernel died before this boot: Kernel panic - not").await;
        bench.line("crash done").await;
        bench.line("compute done").await;
        power_off(bench).await;
    })
    .await;
    let seen = bench.seen.lock().unwrap();
    assert_eq!(seen.crashes.len(), 1);
    assert!(seen.crashes[0].text.ends_with("not syncing: a test\n"));
    assert!(!bench.kernel.world().files.contains_key(Path::new(PART)));
}

#[tokio::test]
async fn a_clock_at_1970_or_2099_ends_in_a_working_machine_on_the_provisioners_time() {
    for clock in [0, 4_070_908_800] {
        let set = move |fake: &Fake| fake.world().clock = clock;
        let (_, bench) = boot(Servers::start(1, 0).await, set, async |bench| {
            bench.line("compute done").await;
            power_off(bench).await;
        })
        .await;
        assert_eq!(bench.kernel.world().clock, 2_000_000_000, "from {clock}");
    }
}

/// Who is away when a machine comes to a stage.
#[derive(Clone, Copy)]
enum Away {
    /// What is at the other end of the NIC's cable.
    Link,
    /// The DHCP server.
    Dhcp,
    /// Provisioner and ledger, from the midst of their first answer at a path with this end.
    Servers(&'static str),
}

/// Boots a machine that finds somebody away at a stage, until it has said who and what to do; it
/// works in the end, and the provisioner hears of it. Gives the stage.
async fn waits_at(stage: Stage, away: Away, mend: &str) -> Stage {
    let mut servers = Servers::start(1, 0).await;
    let (address, back) = (servers.address(), Arc::new(Notify::new()));
    if let Away::Servers(end) = away {
        servers.leaves = Some((end, back.clone()));
    }
    let retrying = format!(" {stage} retrying ");
    let test = async |bench: &Bench| {
        let network = &bench.machine.network;
        let mut who = "eth1 (52:54:00:00:00:01), which booted us, has ";
        match away {
            // Up already: the fake gives a carrier to what it sets up.
            Away::Link => network.links.borrow_mut()[0].up = true,
            Away::Dhcp => network.answers.borrow_mut().clear(),
            Away::Servers(_) => {
                who = &address;
                bench.line_of(&[&retrying, who, "HTTP answer"]).await;
            }
        }
        bench.line_of(&[&retrying, who, mend, "; tried again in "]).await;
        match away {
            Away::Link => network.links.borrow_mut()[0].carrier = true,
            Away::Dhcp => {
                network.answers.borrow_mut().insert(1, [given(3)].into());
            }
            Away::Servers(_) => back.notify_one(),
        }
        for stage in [stage, Stage::Registration, Stage::Compute] {
            bench.line(&format!(" {stage} done ")).await;
        }
        power_off(bench).await;
    };
    let (end, bench) = boot(servers, |_| {}, test).await;
    assert_eq!(end, End::PowerOff, "{stage}");
    let told = bench.told();
    for state in [StageState::Retrying, StageState::Done] {
        assert!(told.contains(&(stage.name().to_owned(), state)), "{stage} {state:?} in {told:?}");
    }
    stage
}

#[tokio::test]
async fn a_stage_that_finds_somebody_gone_says_who_and_the_machine_works_once_they_are_back() {
    const PROVISIONER: &str =
        "Connection refused (os error 111)); is it running, and on this network?";
    const LEDGER: &str =
        "Connection refused (os error 111)): check the network, or name other servers";
    // All at once: each takes seconds.
    let held = tokio::join!(
        waits_at(Stage::Network, Away::Link, "no link: look at its cable and switch port"),
        waits_at(Stage::Network, Away::Dhcp, "no DHCP server answered: look at the DHCP server"),
        waits_at(Stage::Release, Away::Servers("/v1/time"), PROVISIONER),
        waits_at(Stage::Root, Away::Servers("/root.erofs"), PROVISIONER),
        waits_at(Stage::Enrolment, Away::Servers("/enrol"), PROVISIONER),
        waits_at(Stage::Registration, Away::Servers("/"), LEDGER),
    );
    let held = <[Stage; 6]>::from(held);
    for row in PLAN.iter().filter(|row| row.waits) {
        assert!(held.contains(&row.stage), "{} waits for somebody", row.stage);
    }
}
