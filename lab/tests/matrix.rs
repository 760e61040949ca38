//! Every way to boot on every kind of network (`lab::matrix`), in real firmware, from power-on until
//! the real provisioner took the node in; and firmware that fetches nothing by HTTPS from whom it does
//! not know.
//!
//! Given by the environment, as for `boot`: ALIA_CACHE, ALIA_IMAGE, ALIA_PROVISIONER; ALIA_MATRIX is
//! the file for what became of each cell (JSON; what is there is kept for cells that are not booted),
//! ALIA_CELLS, where it is set, which to boot, by a part of their names. It runs with ALIA_LONG alone
//! (`cargo xtask test --long matrix`).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod stick;

use bed::given;
use cli::medium;
use image::{
    bios::Loader, medium as image_medium, secure_boot::signature_list, stick as image_stick,
};
use lab::{
    Accelerator, Machine, MachineSpec, Service, accel,
    machine::{BootsFrom, Firmware},
    matrix::{Cell, Family, Network, Outcome, Report, Times, Way},
    net, sandbox,
    services::{self, Dhcp, Provisioner},
    tools,
};
use protocol::{SecretKey, boot::ImageManifest, fleet::TimelineEvent};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// From power-on to the kernel, and from there to enrolment; half a minute each, and some 90 s by
/// IPv6, under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
const SERVICE_LIMIT: Duration = Duration::from_secs(60);
/// Addresses for the network behind the router.
const FAR_POOL: [&str; 4] = ["--pool", "10.78.0.100-10.78.0.199/24", "--router", "10.78.0.1"];
const FAR_POOL6: [&str; 2] = ["--pool6", "fd00:78::1000-fd00:78::1fff"];

fn main() -> ExitCode {
    let wanted = std::env::var("ALIA_CELLS").unwrap_or_default();
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = &Bed::new();
        let cells = Cell::all().filter(|cell| cell.nothing().is_none());
        let cells: Vec<(String, _)> =
            cells.map(|cell| (cell.to_string(), move || bed.boots(cell))).collect();
        let mut tests: Vec<(&str, &dyn Fn())> =
            cells.iter().map(|(name, boots)| (name.as_str(), boots as &dyn Fn())).collect();
        let refuses = || bed.refuses();
        tests.push(("OVMF, HTTPS, of whom it does not know fetches nothing", &refuses));
        return common::run(&std::env::args().nth(2).unwrap_or_default(), &tests);
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("ALIA_LONG").is_none() {
        println!("skipped: ALIA_LONG is not set");
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    tools::boot_files(&bed::packages()).unwrap();
    tools::secure_boot_files(&bed::packages()).unwrap();
    tools::bios_loader(&bed::packages()).unwrap();
    bed::enter(wanted)
}

struct Bed {
    folder: tempfile::TempDir,
    image: PathBuf,
    provisioner: PathBuf,
    files: tools::BootFiles,
    stub: PathBuf,
    loader: Loader,
    accelerator: Accelerator,
    report: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let packages = bed::packages();
        let files = tools::boot_files(&packages).unwrap();
        let stub = tools::secure_boot_files(&packages).unwrap().stub;
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: vec!["tap".into()], foreign: true }).unwrap();
        net::address6().unwrap();
        net::make_far(&["tap-far".into()]).unwrap();
        let address = format!("address add fd00:77::2/64 dev {} nodad", net::FOREIGN_INTERFACE);
        net::ip_in(net::FOREIGN_NAMESPACE, &[address]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            files,
            stub,
            loader: tools::bios_loader(&packages).unwrap().0,
            accelerator: choice.accelerator,
            report: std::env::var_os("ALIA_MATRIX").unwrap().into(),
            runtime: runtime.unwrap(),
        }
    }

    /// Boots a cell, and notes what became of it.
    fn boots(&self, cell: Cell) {
        let booted = catch_unwind(AssertUnwindSafe(|| self.booted(cell)));
        let outcome = match &booted {
            Ok(times) => Outcome::Booted(*times),
            Err(said) => {
                let text = said.downcast_ref::<String>().map_or("it panicked", String::as_str);
                Outcome::Failed(text.lines().next().unwrap_or_default().into())
            }
        };
        let read = fs::read(&self.report).ok();
        let mut report: Report =
            read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let manifest = fs::read(self.image.join("manifest.json")).unwrap();
        let manifest: ImageManifest = serde_json::from_slice(&manifest).unwrap();
        report.image = manifest.version;
        report.accelerator = match self.accelerator {
            Accelerator::Kvm => "Processors are the host's (KVM)".into(),
            Accelerator::Tcg => "Processors are emulated (QEMU's TCG), one a machine".into(),
        };
        report.note(cell, outcome);
        fs::write(&self.report, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
        match booted {
            Ok(times) => println!("  {times}"),
            Err(said) => resume_unwind(said),
        }
    }

    fn booted(&self, cell: Cell) -> Times {
        let folder = self.folder.path().join(cell.to_string().replace([',', ' '], "-"));
        fs::create_dir_all(&folder).unwrap();
        let _others = others(cell, &folder);
        let served = self.served(cell, &folder);
        let (provisioner, source) = self.serve(cell, &served);
        let on = SystemTime::now();
        let mut machine = self.machine(cell, source, folder);
        let mut wait = |text: &str| {
            machine.wait_line(text, BOOT_LIMIT).unwrap_or_else(|error| panic!("{error}"))
        };
        let kernel = wait("Linux version").at.as_secs_f64();
        let network = wait(" network done ").text;
        let link = match (cell.network, cell.family) {
            (Network::Relay, Family::V4) => " 10.78.0.",
            (Network::Relay, Family::V6) => "fd00:78:",
            (_, Family::V4) => " 10.77.0.",
            (_, Family::V6) => "fd00:77:",
        };
        assert!(network.contains(link), "its address is not of {link}…: {network}");
        let enrolled = wait(" enrolment done ").at.as_secs_f64();
        let mut events = Provisioner::machine(&machine.spec().mac).unwrap().timeline;
        events.reverse();
        for event in &events {
            println!("    {:>6.1} s  {}", since(on, event), event.text);
        }
        let first = |wanted: &dyn Fn(&TimelineEvent) -> bool| {
            events.iter().find(|event| wanted(event)).map(|event| since(on, event))
        };
        let is_loader = |text: &str| text.contains(".efi: ") || text.contains(".kpxe: ");
        let loader = first(&|event| is_loader(&event.text) && event.text.contains(" bytes in "));
        let fetching =
            first(&|event| event.text.contains(": fetching ") && !is_loader(&event.text));
        let (loader, fetching) = match cell.fetches() {
            true => (loader, Some(fetching.unwrap_or_else(|| panic!("it fetched no kernel")))),
            false => (None, None),
        };
        assert_eq!(loader.is_some(), cell.fetches() && cell.way != Way::BiosRom);
        if cell.way == Way::Https {
            let lines = provisioner.console().lines_from(0);
            let told = lines.iter().any(|line| line.text.contains(":8443/ipxe/snponly.efi"));
            assert!(told, "it was sent nowhere by HTTPS");
        }
        let heard = first(&|_| true).unwrap();
        Times { heard, loader, fetching, kernel, enrolled }
    }

    fn served(&self, cell: Cell, folder: &Path) -> Provisioner {
        Provisioner {
            program: self.provisioner.clone(),
            folder: folder.join("provisioner"),
            dhcp: match (cell.network, cell.family) {
                (Network::Ours | Network::Relay, Family::V4) => Dhcp::Full,
                (Network::Proxy, _) => Dhcp::Proxy,
                _ => Dhcp::Off,
            },
            image: self.image.clone(),
            ipxe: self.files.ipxe.clone(),
            bios_file: None,
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::from_hex(&"11".repeat(32)).unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        }
    }

    /// The provisioner, and what its machine boots from.
    fn serve(&self, cell: Cell, served: &Provisioner) -> (Service, BootsFrom) {
        let mut more = match (cell.network, cell.family) {
            (Network::Relay, Family::V4) => FAR_POOL.to_vec(),
            (_, Family::V4) => Vec::new(),
            (Network::Relay, Family::V6) => [&["--dhcp6", "full"][..], &FAR_POOL6].concat(),
            (Network::Silent, Family::V6) => vec!["--address6", "fd00:77::1"],
            (_, Family::V6) => vec!["--dhcp6", "full"],
        };
        if cell.way == Way::Https {
            more.extend(["--http-boot", "https"]);
        }
        let start = |approval: &str, medium: Option<&Path>| {
            let mut service = served.service_approving(approval).unwrap().args(&more);
            if let Some(medium) = medium {
                service = service.arg("--medium").arg(medium);
            }
            Service::start_ready(service, SERVICE_LIMIT).unwrap()
        };
        let url = match cell.family {
            Family::V4 => format!("https://{}:8443", net::SERVER),
            Family::V6 => format!("https://[{}]:8443", net::SERVER6),
        };
        let uki = || stick::uki(&self.image, &self.stub, served, &url);
        match cell.way {
            Way::Stick | Way::BiosStick | Way::Cd | Way::BiosCd | Way::EfiFile => {
                let nobodys = served.folder.join("nobodys.img");
                fs::create_dir_all(&served.folder).unwrap();
                let content = image_medium::owned(&uki(), &self.loader).unwrap();
                fs::write(&nobodys, content).unwrap();
                let service = start("by-hand", Some(&nobodys));
                let server = medium::Provisioner::new(&url, served.key().unwrap()).unwrap();
                let miner = SecretKey::generate().unwrap();
                let mine = stick::get(&self.runtime, served, &server, &miner, &served.folder);
                let source = match cell.way {
                    Way::Cd | Way::BiosCd => BootsFrom::Cd(mine),
                    Way::EfiFile => BootsFrom::Disk(with_files(&mine)),
                    _ => BootsFrom::Stick(mine),
                };
                (service, source)
            }
            Way::Https => {
                let service = start("automatic", None);
                let cas = self.cas();
                match cell.family {
                    Family::V4 => (service, BootsFrom::Https(cas)),
                    Family::V6 => (service, BootsFrom::Https6(cas)),
                }
            }
            way => {
                let source = match (way, cell.family) {
                    (Way::Http, Family::V4) => BootsFrom::Http,
                    (Way::Http, Family::V6) => BootsFrom::Http6,
                    (_, Family::V4) => BootsFrom::Network,
                    (_, Family::V6) => BootsFrom::Network6,
                };
                (start("automatic", None), source)
            }
        }
    }

    /// The running provisioner's CA for firmware without elliptic curves, as OVMF takes it.
    fn cas(&self) -> PathBuf {
        let mut stream = TcpStream::connect((net::SERVER, 8080)).unwrap();
        write!(stream, "GET /ca-rsa.der HTTP/1.0\r\nhost: lab\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let path = self.folder.path().join("cas.esl");
        fs::write(&path, signature_list(&answer[head + 4..])).unwrap();
        path
    }

    fn machine(&self, cell: Cell, boots: BootsFrom, folder: PathBuf) -> Machine {
        let number = 1 + Cell::all().position(|each| each == cell).unwrap();
        Machine::start(MachineSpec {
            name: "machine".into(),
            firmware: match cell.way {
                Way::BiosRom | Way::BiosStick | Way::BiosCd => Firmware::SeaBios,
                _ => self.files.ovmf.clone(),
            },
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: if cell.network == Network::Relay { "tap-far" } else { "tap" }.into(),
            boots,
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 0,
            tpm: None,
            devices: Vec::new(),
            oem_string: None,
            folder,
        })
        .unwrap()
    }

    /// Its owner had the provisioner's CA enrolled, and another one answers in its place.
    fn refuses(&self) {
        let cell = Cell { family: Family::V4, way: Way::Https, network: Network::Ours };
        let folder = self.folder.path().join("refuses");
        let served = self.served(cell, &folder);
        let (before, source) = self.serve(cell, &served);
        drop(before);
        fs::remove_dir_all(served.folder.join("provisioner.tls")).unwrap();
        let BootsFrom::Https(theirs) = source else { panic!("not by HTTPS") };
        let kept = folder.join("before.esl");
        fs::rename(theirs, &kept).unwrap();
        let (provisioner, _) = self.serve(cell, &served);
        let mut machine = self.machine(cell, BootsFrom::Https(kept), folder);
        let line = machine.wait_line("Error: ", BOOT_LIMIT);
        println!("  {}", line.unwrap_or_else(|error| panic!("{error}")).text.trim());
        let lines = provisioner.console().lines_from(0);
        assert!(lines.iter().any(|line| line.text.contains("https://10.77.0.1:8443/ipxe/")));
        assert!(!lines.iter().any(|line| line.text.contains("snponly.efi: fetching")));
    }
}

/// A disk with a medium's files in its EFI System Partition, as `alia medium get --esp` writes them.
fn with_files(medium: &Path) -> PathBuf {
    let files = medium::esp::files(&mut fs::read(medium).unwrap()).unwrap();
    let files: Vec<(String, Vec<u8>)> =
        files.into_iter().map(|(name, content)| (format!("EFI/BOOT/{name}"), content)).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let disk = medium.with_file_name("disk.img");
    fs::write(&disk, image_stick::build(&files).unwrap()).unwrap();
    disk
}

/// Who else is on the cell's network.
fn others(cell: Cell, folder: &Path) -> Option<Service> {
    let spec = match (cell.network, cell.family) {
        (Network::Ours, _) | (Network::Proxy, Family::V6) => return None,
        (Network::Proxy | Network::Silent, Family::V4) => services::foreign_dhcp(folder),
        (Network::Silent, Family::V6) => services::foreign_router6(folder),
        (Network::Relay, Family::V4) => services::relay(folder),
        (Network::Relay, Family::V6) => services::relay6(folder),
    };
    Some(Service::start_ready(spec, SERVICE_LIMIT).unwrap_or_else(|error| panic!("{error}")))
}

/// Seconds from power-on to an event.
fn since(on: SystemTime, event: &TimelineEvent) -> f64 {
    let at = UNIX_EPOCH + Duration::from_millis(event.at);
    at.duration_since(on).unwrap_or_default().as_secs_f64()
}
