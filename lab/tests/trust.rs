//! Releases that no machine may boot, from real firmware: each is refused with a line that says why,
//! on the console and in the machine's timeline; and the machine goes on as soon as there is a right
//! one.
//!
//! A campaign (`cargo xtask test --long trust`), which gives ALIA_CACHE and ALIA_PROVISIONER as for
//! `boot.rs`, and ALIA_TRUST: a folder of images that differ in what their names say.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use lab::{
    Machine, MachineSpec, Service, Swtpm, accel,
    machine::{BootsFrom, Firmware},
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::{SecretKey, fleet::MachineDetail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

/// From power-on to a line of PID 1's, on a busy machine under software emulation.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                ("a release that was altered is refused, and a right one taken after it", &|| {
                    bed.altered();
                }),
                ("a release of another network's keys is refused", &|| {
                    bed.refused("stranger", 2, "root of trust is not ours");
                }),
                ("a release that expired is refused by the signed time", &|| {
                    bed.refused("expired", 3, "metadata expired at");
                }),
                ("a root that is not the release's is refused", &|| bed.altered_root()),
                ("a root whose blocks are not what its root hash says is not read", &|| {
                    // EROFS finds such a block by its own sum too, and names another error then.
                    let why =
                        "Input/output error (os error 5); its blocks are not what its root hash";
                    bed.refused("block", 5, why);
                }),
                ("UEFI: nothing below the floor is booted again", &|| {
                    bed.rolled_back(bed.spec(6, bed.files.ovmf.clone()), "kept in a UEFI variable");
                }),
                ("BIOS with a TPM: nothing below the floor is booted again", &|| {
                    let tpm = Some(bed.swtpm.clone());
                    let spec = MachineSpec { tpm, ..bed.spec(10, Firmware::SeaBios) };
                    bed.rolled_back(spec, "kept in the TPM");
                }),
                ("BIOS without a TPM: the floor is said not to be enforced", &|| bed.no_floor()),
                ("clocks at 1970 and 2099 neither brick nor fool a machine", &|| bed.clocks()),
            ],
        );
    }
    if std::env::var_os("ALIA_TRUST").is_none() {
        println!("skipped: a campaign, cargo xtask test --long trust");
        return ExitCode::SUCCESS;
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    fetched();
    bed::enter("")
}

fn fetched() -> (tools::BootFiles, Swtpm) {
    let packages = bed::packages();
    (tools::boot_files(&packages).unwrap(), Swtpm::fetch(&packages).unwrap())
}

struct Bed {
    folder: tempfile::TempDir,
    images: PathBuf,
    files: tools::BootFiles,
    swtpm: Swtpm,
    owner: SecretKey,
    accelerator: lab::Accelerator,
}

impl Bed {
    fn new() -> Self {
        let images = given("ALIA_TRUST");
        let choice = accel::probe(Some(&images.join("good")));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: (1..=10).map(tap).collect(), foreign: false }).unwrap();
        let (files, swtpm) = fetched();
        Self {
            folder: tempfile::tempdir().unwrap(),
            images,
            files,
            swtpm,
            owner: SecretKey::generate().unwrap(),
            accelerator: choice.accelerator,
        }
    }

    /// The provisioner, which keeps its key and what it knows from one image to the next.
    fn serve(&self, image: &Path) -> Service {
        let provisioner = Provisioner {
            program: given("ALIA_PROVISIONER"),
            folder: self.folder.path().join("provisioner"),
            dhcp: Dhcp::Full,
            image: image.into(),
            ipxe: self.files.ipxe.clone(),
            bios_file: Some("ipxe.pxe".into()),
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: self.owner.clone(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        Service::start_ready(provisioner.service().unwrap(), SERVICE_LIMIT).unwrap()
    }

    fn image(&self, name: &str) -> PathBuf {
        self.images.join(name)
    }

    fn machine(&self, number: u8, firmware: Firmware) -> Machine {
        Machine::start(self.spec(number, firmware)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn spec(&self, number: u8, firmware: Firmware) -> MachineSpec {
        MachineSpec {
            name: format!("m{number}"),
            firmware,
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            processor: Default::default(),
            clock: None,
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: tap(number),
            boots: BootsFrom::Network,
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 0,
            tpm: None,
            devices: Vec::new(),
            oem_string: None,
            folder: self.folder.path().join("machines"),
        }
    }

    /// A machine does not get past this image, and says so.
    fn refused(&self, image: &str, number: u8, why: &str) {
        let _provisioner = self.serve(&self.image(image));
        let mut machine = self.machine(number, self.files.ovmf.clone());
        self.says(&mut machine, why);
    }

    /// On the console, in the timeline; and it is not taken in.
    fn says(&self, machine: &mut Machine, why: &str) {
        println!("  {}", line(machine, why));
        told(machine, why);
        let detail = detail(machine);
        assert_eq!(detail.machine.node, None, "it was taken in");
    }

    /// One character of what was signed is another one: the version.
    fn altered(&self) {
        let folder = self.folder.path().join("altered");
        copy(&self.image("good"), &folder);
        let path = folder.join("release.bundle");
        let bundle = fs::read_to_string(&path).unwrap();
        let altered = bundle.replace("\"floor\":10", "\"floor\":11");
        assert_ne!(bundle, altered, "the floor of the good release is 10");
        replace(&path, altered.as_bytes());
        let _provisioner = self.serve(&folder);
        let mut machine = self.machine(1, self.files.ovmf.clone());
        self.says(&mut machine, "is not what was signed");
        let mut parts: serde_json::Value = serde_json::from_str(&bundle).unwrap();
        let signature = &mut parts["timestamp"]["signatures"][0]["sig"];
        let text = signature.as_str().unwrap().to_owned();
        let digit = if text.starts_with('0') { "1" } else { "0" };
        *signature = format!("{digit}{}", &text[1..]).into();
        replace(&path, parts.to_string().as_bytes());
        self.says(&mut machine, "too few signatures");
        // Mended while it waits.
        replace(&path, bundle.as_bytes());
        line(&mut machine, " enrolment done ");
    }

    /// The root is changed after the provisioner has looked at it.
    fn altered_root(&self) {
        let folder = self.folder.path().join("root");
        copy(&self.image("good"), &folder);
        let _provisioner = self.serve(&folder);
        let path = folder.join("root.erofs");
        let mut root = fs::read(&path).unwrap();
        let middle = root.len() / 2;
        root[middle] ^= 1;
        replace(&path, &root);
        let mut machine = self.machine(4, self.files.ovmf.clone());
        self.says(&mut machine, "is not the release's: digest");
    }

    /// After release 10, whose floor is 10, comes release 5.
    fn rolled_back(&self, spec: MachineSpec, kept: &str) {
        let provisioner = self.serve(&self.image("good"));
        let mut machine = Machine::start(spec).unwrap_or_else(|error| panic!("{error}"));
        let release = line(&mut machine, " release done ");
        assert!(release.contains(&format!("floor 10, {kept}")), "{release}");
        line(&mut machine, " enrolment done ");
        drop(provisioner);
        machine.kill();
        let _provisioner = self.serve(&self.image("older"));
        machine.restart().unwrap();
        let why = "release 5 is below the floor 10";
        println!("  {}", line(&mut machine, why));
        told(&machine, why);
    }

    fn no_floor(&self) {
        let provisioner = self.serve(&self.image("good"));
        let mut machine = self.machine(7, Firmware::SeaBios);
        let release = line(&mut machine, " release done ");
        assert!(release.contains("floor not enforced: no TPM"), "{release}");
        told(&machine, "floor not enforced: no TPM");
        machine.kill();
        drop(provisioner);
        let _provisioner = self.serve(&self.image("older"));
        machine.restart().unwrap();
        let release = line(&mut machine, " release done ");
        assert!(release.contains("release 5"), "{release}");
    }

    /// Long before its release was made and long after it expired, by the machine's own clock.
    fn clocks(&self) {
        {
            let _provisioner = self.serve(&self.image("good"));
            for (number, clock) in [(8, "1970-01-02T00:00:00"), (9, "2099-01-01T00:00:00")] {
                let mut spec = self.spec(number, Firmware::SeaBios);
                spec.clock = Some(clock.into());
                let mut machine = Machine::start(spec).unwrap();
                line(&mut machine, " release done ");
                line(&mut machine, " enrolment done ");
            }
        }
        // By its own clock it would be good still.
        let _provisioner = self.serve(&self.image("expired"));
        let mut spec = self.spec(8, Firmware::SeaBios);
        spec.clock = Some("1970-01-02T00:00:00".into());
        spec.name = "m8-again".into();
        let mut machine = Machine::start(spec).unwrap();
        println!("  {}", line(&mut machine, "metadata expired at"));
    }
}

fn tap(number: u8) -> String {
    format!("tap-m{number}")
}

/// Waits for a line of this start.
fn line(machine: &mut Machine, text: &str) -> String {
    let found = machine.wait_line(text, BOOT_LIMIT);
    found.unwrap_or_else(|error| panic!("{error}")).text
}

fn detail(machine: &Machine) -> MachineDetail {
    Provisioner::machine(&machine.spec().mac).unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until the machine's timeline tells of something.
fn told(machine: &Machine, text: &str) {
    let end = Instant::now() + SERVICE_LIMIT;
    while !detail(machine).timeline.iter().any(|event| event.text.contains(text)) {
        assert!(Instant::now() < end, "the timeline does not tell of {text:?}");
        sleep(Duration::from_millis(200));
    }
}

/// The files of an image.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes).unwrap();
    fs::rename(&fresh, path).unwrap();
}
