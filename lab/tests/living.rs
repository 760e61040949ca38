//! Machines that live through what goes wrong, on real firmware: PID 1 hangs, the kernel dies,
//! every boot fails, the compute service does wrong; and what their displays show.
//!
//! A campaign's, not CI's: `cargo xtask test --long living` and `--long console` give by the
//! environment ALIA_LIVING (what to run), ALIA_CACHE, ALIA_PROVISIONER, ALIA_IMAGE (an image whose
//! node-init has the feature `faults`) and ALIA_BAD_IMAGE (that with a bad compute service).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use lab::{
    Machine, MachineSpec, Service, accel,
    machine::{BootsFrom, Firmware},
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::{
    SecretKey,
    boot::{NODE_API_PORT, StageState},
};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

/// From power-on to a line of node-init's, beside others on a busy machine.
const BOOT: Duration = Duration::from_secs(400);
const SERVICE: Duration = Duration::from_secs(30);
const TAPS: [&str; 4] = ["tap-1", "tap-2", "tap-3", "tap-4"];
/// What the bad services do, by their machines' numbers.
const WRONGS: [&str; 4] = ["hang", "memory", "fork", "crash"];
/// The last one's machine.
const CRASH: usize = 3;
/// The most tasks of the compute service: `tasks` of image.toml.
const TASKS: u32 = 1024;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                ("living: a PID 1 that hangs is reset and the next boot says so", &|| bed.hangs()),
                ("living: the log of a kernel that died is delivered", &|| bed.dies()),
                ("living: boots that all fail end in a rescue", &|| bed.loops()),
                ("living: a service that does wrong is held", &|| bed.bad_services()),
                ("console: a display shows the machine and a code", &|| bed.displays()),
            ],
        );
    }
    let Some(what) = std::env::var_os("ALIA_LIVING") else {
        println!("skipped: ALIA_LIVING is not set");
        return ExitCode::SUCCESS;
    };
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    tools::boot_files(&bed::packages()).unwrap();
    bed::enter(what)
}

struct Bed {
    folder: PathBuf,
    files: tools::BootFiles,
    accelerator: lab::Accelerator,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        // Kept after the run: logs and screenshots are looked at.
        let folder = image.parent().unwrap().join("living");
        let _ = fs::remove_dir_all(&folder);
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        let taps = TAPS.map(str::to_owned).to_vec();
        net::make(&net::Plan { taps, foreign: false }).unwrap();
        Self {
            folder,
            files: tools::boot_files(&bed::packages()).unwrap(),
            accelerator: choice.accelerator,
        }
    }

    fn provisioner(&self, name: &str, image: &str, fault: &str) -> Service {
        let folder = self.folder.join(name);
        let provisioner = Provisioner {
            program: given("ALIA_PROVISIONER"),
            folder: folder.clone(),
            dhcp: Dhcp::Full,
            image: given(image),
            ipxe: self.files.ipxe.clone(),
            // Under software emulation its own drivers fetch several times faster.
            bios_file: Some("ipxe.pxe".into()),
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::generate().unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        let mut spec = provisioner.service().unwrap();
        // The bad services do what their machine's name says.
        let table =
            |(at, name): (usize, &str)| format!("[machine.{:?}]\nname = {name:?}\n", mac(at));
        let config = folder.join("machines.toml");
        if image == "ALIA_BAD_IMAGE" {
            fs::write(&config, WRONGS.into_iter().enumerate().map(table).collect::<String>())
                .unwrap();
            spec = spec.arg("--config").arg(config);
        }
        if !fault.is_empty() {
            spec = spec.args(["--kernel-argument", &format!("alia.fault={fault}")]);
        }
        Service::start_ready(spec, SERVICE).unwrap()
    }

    fn machine(&self, name: &str, at: usize, firmware: Firmware, devices: &[&str]) -> Machine {
        Machine::start(self.spec(name, at, firmware, devices)).unwrap()
    }

    fn spec(&self, name: &str, at: usize, firmware: Firmware, devices: &[&str]) -> MachineSpec {
        MachineSpec {
            name: format!("m{at}"),
            firmware,
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: mac(at),
            tap: TAPS[at].into(),
            boots: BootsFrom::Network,
            uuid: format!("00000000-0000-4000-8000-00000000000{at}"),
            serial: format!("LAB{at}"),
            nice: 0,
            tpm: None,
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
            oem_string: None,
            folder: self.folder.join(name),
        }
    }

    fn hangs(&self) {
        let provisioner = self.provisioner("hangs", "ALIA_IMAGE", "hang");
        let mut machine = self.machine("hangs", 0, self.files.ovmf.clone(), &["i6300esb"]);
        wait(&mut machine, 0, "watchdog done i6300ESB timer resets the machine after 60 s", BOOT);
        wait(&mut machine, 0, "stands done", BOOT);
        // Its next boot is a good one.
        drop(provisioner);
        let _provisioner = self.provisioner("hangs", "ALIA_IMAGE", "");
        let mark = machine.console().mark();
        let began = Instant::now();
        // Nobody touches it: the device resets it, firmware starts anew.
        wait(&mut machine, mark, "Linux version", BOOT);
        println!("anew {:.0} s after its service was started", began.elapsed().as_secs_f32());
        wait(&mut machine, mark, "it reset the machine before this boot", BOOT);
        wait(&mut machine, mark, "stands done the compute service was started", BOOT);
        until("the timeline tells of it", || {
            timeline(0)
                .contains("i6300ESB timer resets the machine after 60 s; it reset the machine")
        });
    }

    fn dies(&self) {
        let provisioner = self.provisioner("dies", "ALIA_IMAGE", "exit");
        let mut machine = self.machine("dies", 0, self.files.ovmf.clone(), &[]);
        wait(&mut machine, 0, "stands done", BOOT);
        drop(provisioner);
        let _provisioner = self.provisioner("dies", "ALIA_IMAGE", "");
        let after = machine.console().mark();
        wait(&mut machine, 0, "Kernel panic - not syncing: Attempted to kill init!", BOOT);
        wait(&mut machine, 0, "crash started the kernel died before this boot: Kernel panic", BOOT);
        wait(&mut machine, 0, "crash done", BOOT);
        let detail: serde_json::Value = serde_json::from_str(&timeline(0)).unwrap();
        let crash = &detail["crashes"][0];
        assert!(crash["reason"].as_str().unwrap().contains("Attempted to kill init!"), "{crash}");
        let log = get(&format!("/v1/machines/{}/crashes/{}", mac(0), crash["id"]));
        assert!(log.contains("Kernel panic - not syncing: Attempted to kill init!"), "{log}");
        println!("{} bytes of the kernel's log were delivered", crash["bytes"]);
        assert!(timeline(0).contains("the kernel died before this boot"));
        // Erased: the boot after this one has nothing to tell.
        wait(&mut machine, after, "stands done", BOOT);
        machine.reset().unwrap();
        let mark = machine.console().mark();
        wait(&mut machine, mark, "stands done", BOOT);
        let again = machine.console().lines_from(mark);
        assert!(!again.iter().any(|line| line.text.contains("crash started")), "delivered twice");
    }

    fn loops(&self) {
        let _provisioner = self.provisioner("loops", "ALIA_IMAGE", "identity");
        let mut machine = self.machine("loops", 0, Firmware::SeaBios, &["i6300esb"]);
        let mut mark = 0;
        for boot in 1..=3 {
            wait(&mut machine, mark, "identity failed", BOOT);
            let told = "before did not come to stand; after 2 more";
            if boot == 2 {
                wait(&mut machine, mark, told, SERVICE);
            }
            wait(&mut machine, mark, "the machine restarts in 60 s", SERVICE);
            mark = machine.console().mark();
            println!("boot {boot} failed");
        }
        wait(&mut machine, mark, "rescue failed 3 boots in a row did not come to stand", BOOT);
        // It stays, fed, well past the watchdog's time and the minute after which it restarted.
        let mark = machine.console().mark();
        std::thread::sleep(Duration::from_secs(100));
        let since = machine.console().lines_from(mark);
        assert!(!since.iter().any(|line| line.text.contains("Linux version")), "it restarted");
        assert!(timeline(0).contains("3 boots in a row did not come to stand"));
        // People get it out: an end that was asked for begins a new row.
        machine.press_power().unwrap();
        assert!(machine.qemu().wait_ended(BOOT).is_some(), "still on");
        machine.restart().unwrap();
        wait(&mut machine, mark, "the machine restarts in 60 s", BOOT);
        let since = machine.console().lines_from(mark);
        assert!(!since.iter().any(|line| line.text.contains(" rescue ")), "it tries again");
    }

    fn bad_services(&self) {
        let start = |at| self.machine("bad", at, Firmware::SeaBios, &["i6300esb"]);
        // It boots alone, by a clock that runs true: the others' would make long runs of its short
        // ones, after which a service is started again at once.
        let provisioner = self.provisioner("bad", "ALIA_BAD_IMAGE", "");
        let mut crashing = start(CRASH);
        wait(&mut crashing, 0, "a bad service: crash", BOOT);
        drop(provisioner);
        let _provisioner = self.provisioner("bad", "ALIA_BAD_IMAGE", "fast");
        let mut machines: Vec<Machine> = (0..CRASH).map(start).collect();
        for (machine, name) in machines.iter_mut().zip(WRONGS) {
            wait(machine, 0, &format!("a bad service: {name}"), BOOT);
        }
        wait(&mut machines[0], 0, "service retrying process", BOOT);
        wait(&mut machines[0], 0, "made no sign of progress for 600 s: killed", SERVICE);
        wait(&mut machines[0], 0, "was killed by signal 9", SERVICE);
        wait(&mut machines[1], 0, "was killed because it used more than", BOOT);
        self.forks(&mut machines[2]);
        crashes(&mut crashing);
        machines.push(crashing);
        // Each goes on: its service is started again, and it answers its power button.
        for (at, machine) in machines.iter_mut().enumerate() {
            wait(machine, 0, "service done process", BOOT);
            until("the timeline tells of it", || {
                timeline(at).contains("service failed, trying again")
            });
        }
        for machine in &mut machines {
            machine.press_power().unwrap();
            wait(machine, 0, "power started asked by the power button", BOOT);
            assert!(machine.qemu().wait_ended(BOOT).is_some(), "still on");
            let lines = machine.console().lines_from(0);
            let boots = lines.iter().filter(|line| line.text.contains("Linux version")).count();
            assert_eq!(boots, 1, "no machine restarted");
        }
    }

    /// A service that would be more and more: it has no processes, and threads up to the limit of
    /// tasks in image.toml. The node has its own time all the while.
    fn forks(&self, machine: &mut Machine) {
        println!("{}", wait(machine, 0, "compute: no process: ", BOOT));
        let told = wait(machine, 0, " threads and no more: ", BOOT);
        println!("{told}");
        let mark = machine.console().mark();
        let taken = told.split_once("compute: ").and_then(|(_, text)| text.split(' ').next());
        let taken: u32 = taken.unwrap_or_default().parse().unwrap();
        // Its first one is a task too.
        assert!(taken > 0 && taken < TASKS, "{told}");
        assert!(told.contains("Resource temporarily unavailable"), "{told}");
        stands_and_answers(machine);
        // It makes no more signs, so PID 1 ends it, with all of its threads.
        wait(machine, mark, "made no sign of progress for 600 s: killed", BOOT);
        wait(machine, mark, "was killed by signal 9", SERVICE);
        wait(machine, mark, "service done process", SERVICE);
        assert!(!said(machine, "forked process"), "a service has forked");
    }

    fn displays(&self) {
        let _provisioner = self.provisioner("console", "ALIA_IMAGE", "");
        // The iPXE of QEMU's cards has no command `console`, so that the BIOS boots the suite's.
        let stick = BootsFrom::Stick(self.files.ipxe.join("ipxe.iso"));
        let all = [
            ("uefi", self.files.ovmf.clone(), BootsFrom::Network),
            ("bios", Firmware::SeaBios, stick),
        ];
        for (at, (name, firmware, boots)) in all.into_iter().enumerate() {
            let spec = MachineSpec { boots, ..self.spec(name, at, firmware, &["VGA"]) };
            let mut machine = Machine::start(spec).unwrap();
            wait(&mut machine, 0, "stands done", BOOT);
            let page = format!("http://10.77.0.1:8080/machines/{}", mac(at));
            until("the display shows a code that leads to the machine's page", || {
                let shot = machine.screenshot(&format!("{name}.ppm")).unwrap();
                machine.screenshot(&format!("{name}.png")).unwrap();
                codes(&shot).contains(&page)
            });
            println!("{name}: its code leads to {page}");
            machine.press_power().unwrap();
            assert!(machine.qemu().wait_ended(BOOT).is_some(), "still on");
        }
    }
}

/// A service that ends at once: the node says so, starts it again less and less often, and is there
/// for whoever asks.
fn crashes(machine: &mut Machine) {
    let told = wait(machine, 0, "; started again in 32 s", BOOT);
    println!("{told}");
    assert!(told.contains("service retrying process "), "{told}");
    assert!(told.contains(" ended with status 101 after "), "{told}");
    let lines = machine.console().lines_from(0);
    // Those before them are as long as the least time between two starts leaves them.
    let grown = lines.iter().filter_map(|line| pause(&line.text)).filter(|pause| *pause > 5);
    let grown: Vec<u32> = grown.collect();
    assert!(grown.starts_with(&[8, 16, 32]), "{grown:?}");
    stands_and_answers(machine);
    until("the provisioner shows it as tried again", || {
        let machine = Provisioner::machine(&mac(CRASH)).unwrap_or_else(|error| panic!("{error}"));
        let stages = machine.machine.boot.map(|boot| boot.stages).unwrap_or_default();
        stages.iter().any(|stage| stage.name == "service" && stage.state == StageState::Retrying)
    });
}

/// The seconds in `…; started again in 8 s`.
fn pause(line: &str) -> Option<u32> {
    let (_, pause) = line.split_once("; started again in ")?;
    pause.strip_suffix(" s")?.parse().ok()
}

/// Whatever its service does, the boot stands, and its node API answers.
fn stands_and_answers(machine: &mut Machine) {
    wait(machine, 0, " api done ", BOOT);
    wait(machine, 0, "stands done the compute service was started", BOOT);
    let leased = wait(machine, 0, " by DHCP from ", BOOT);
    api_hangs_up(address(&leased).unwrap_or_else(|| panic!("no address in {leased:?}")));
}

fn mac(at: usize) -> String {
    format!("52:54:00:a1:1a:0{at}")
}

/// Waits for a line; gives it.
fn wait(machine: &mut Machine, mark: usize, text: &str, limit: Duration) -> String {
    match machine.qemu().wait_line(mark, text, limit) {
        Ok(line) => line.text,
        Err(error) => panic!("{error}"),
    }
}

/// Whether a machine has said this since it was switched on.
fn said(machine: &Machine, text: &str) -> bool {
    machine.console().lines_from(0).iter().any(|line| line.text.contains(text))
}

/// The address in `… eth0 10.77.0.100/24 by DHCP from …`.
fn address(line: &str) -> Option<Ipv4Addr> {
    let (network, _) = line.split_once(" by DHCP from ")?;
    let (address, _) = network.rsplit(' ').next()?.split_once('/')?;
    address.parse().ok()
}

/// PID 1 itself, and not its kernel alone, hears who comes to the node API: it hangs up on one who
/// speaks no TLS.
fn api_hangs_up(address: Ipv4Addr) {
    let place = SocketAddr::from((address, NODE_API_PORT));
    let mut stream = TcpStream::connect_timeout(&place, SERVICE).unwrap();
    stream.set_read_timeout(Some(SERVICE)).unwrap();
    stream.write_all(b"this is no TLS\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the node API is silent: {error}");
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SERVICE;
    while !holds() {
        assert!(Instant::now() < end, "not within {SERVICE:?}: {what}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// All that the provisioner knows of a machine.
fn timeline(at: usize) -> String {
    get(&format!("/v1/machines/{}", mac(at)))
}

fn get(path: &str) -> String {
    Provisioner::page(path).unwrap_or_else(|error| panic!("{error}"))
}

/// What the QR codes in a screenshot (binary PPM) say.
fn codes(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    // "P6\nWIDTH HEIGHT\n255\n", then three bytes a pixel.
    let mut head = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || String::from_utf8(head.next().unwrap().to_vec()).unwrap();
    assert_eq!(line(), "P6");
    let size = line();
    let (width, height) = size.split_once(' ').unwrap();
    let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
    line();
    let pixels = &bytes[bytes.len() - 3 * width * height..];
    let grey = |x: usize, y: usize| pixels[3 * (y * width + x) + 1];
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
    let grids = image.detect_grids();
    grids.into_iter().filter_map(|grid| Some(grid.decode().ok()?.1)).collect()
}
