//! Machines with and without a TPM, from real firmware, through the real provisioner: what keeps a
//! node's key, what a TPM vouches for, and what a copy comes to.
//!
//! A campaign (`cargo xtask test --long tpm`), which gives ALIA_CACHE, ALIA_IMAGE,
//! ALIA_PROVISIONER and ALIA_COMMAND as for `boot.rs`, ALIA_NEXT_IMAGE (another release of the
//! image, with another initramfs), and ALIA_TPM_BOOTS.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod owner;

use bed::given;
use image::Packages;
use lab::{
    Machine, MachineSpec, Service, Swtpm, accel,
    machine::{BootsFrom, Firmware},
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use node_init::stages::verified_by::VerifiedBy;
use owner::Owner;
use protocol::{PublicKey, SecretKey, fleet::MachineDetail};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread::sleep,
    time::{Duration, Instant},
};

/// From power-on to enrolment, on a busy machine under software emulation.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
const CHAIN: &str = "alia-lab";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                (
                    "a TPM keeps the key, vouches for the boot, and gives nothing to another boot",
                    &|| bed.uefi_with_tpm(),
                ),
                ("a copied TPM is found out", &|| bed.copied_chip()),
                ("a BIOS machine has its key from its TPM too", &|| bed.bios_with_tpm()),
                (
                    "without a TPM a UEFI variable keeps the key, and a copy of it is found out",
                    &|| bed.uefi_without_tpm(),
                ),
                ("with neither, each boot has a fresh key that waits for approval", &|| {
                    bed.bios_without_tpm()
                }),
                ("with neither and a stick, the stick keeps the key", &|| bed.bios_with_medium()),
                (
                    "under Secure Boot a new release has the TPM's key, another command line not",
                    &|| bed.secure_boot_with_tpm(),
                ),
            ],
        );
    }
    if std::env::var_os("ALIA_TPM_BOOTS").is_none() {
        println!("skipped: a campaign, cargo xtask test --long tpm");
        return ExitCode::SUCCESS;
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    let packages = bed::packages();
    files(&packages);
    owner::fetched(&packages);
    bed::enter("")
}

fn files(packages: &Packages) -> (tools::BootFiles, Swtpm) {
    let boot = tools::boot_files(packages).unwrap_or_else(|error| panic!("{error}"));
    (boot, Swtpm::fetch(packages).unwrap_or_else(|error| panic!("{error}")))
}

struct Bed {
    folder: tempfile::TempDir,
    provisioner: Provisioner,
    files: tools::BootFiles,
    swtpm: Swtpm,
    owner: Owner,
    accelerator: lab::Accelerator,
}

/// A machine of the bed by its number, which its addresses and names are made of.
struct Kind<'a> {
    number: u8,
    firmware: &'a Firmware,
    tpm: bool,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let packages = bed::packages();
        let (files, swtpm) = files(&packages);
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        let taps = (1..=9).map(tap).collect();
        net::make(&net::Plan { taps, foreign: false }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let provisioner = Provisioner {
            program: given("ALIA_PROVISIONER"),
            folder: folder.path().join("provisioner"),
            dhcp: Dhcp::Full,
            image,
            ipxe: files.ipxe.clone(),
            bios_file: Some("ipxe.pxe".into()),
            uki: None,
            chain: CHAIN.parse().unwrap(),
            owner: SecretKey::generate().unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        let owner = Owner::new(folder.path(), &packages);
        Self { folder, provisioner, files, swtpm, owner, accelerator: choice.accelerator }
    }

    /// The provisioner, by whose boot script machines get `more` on their command line; each new
    /// key waits for the owner.
    fn serve(&self, more: &[&str]) -> Service {
        self.serve_image(&self.provisioner.image, more)
    }

    /// As [`Bed::serve`], with another image.
    fn serve_image(&self, image: &Path, more: &[&str]) -> Service {
        let provisioner = Provisioner { image: image.into(), ..self.provisioner.clone() };
        let mut spec = provisioner.service_approving("by-hand").unwrap();
        for argument in more {
            spec = spec.args(["--kernel-argument", argument]);
        }
        Service::start_ready(spec, SERVICE_LIMIT).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The provisioner with `image`, and with a UKI of it that the owner signed, with `more` on its
    /// command line.
    fn serve_signed(&self, image: PathBuf, more: &[&str]) -> Service {
        let path = self.folder.path().join("served.efi");
        let uki = Some(path.clone());
        let provisioner = Provisioner { image, uki, ..self.provisioner.clone() };
        let uki = self.owner.uki(&provisioner, false, more);
        fs::write(&path, self.owner.signed(&uki, "db")).unwrap();
        let spec = provisioner.service_approving("by-hand").unwrap();
        Service::start_ready(spec, SERVICE_LIMIT).unwrap_or_else(|error| panic!("{error}"))
    }

    fn spec(&self, kind: &Kind<'_>) -> MachineSpec {
        let number = kind.number;
        MachineSpec {
            name: format!("m{number}"),
            firmware: kind.firmware.clone(),
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: tap(number),
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 0,
            boots: BootsFrom::Network,
            tpm: kind.tpm.then(|| self.swtpm.clone()),
            devices: Vec::new(),
            oem_string: None,
            folder: self.folder.path().join("machines"),
        }
    }

    fn start(&self, kind: &Kind<'_>) -> Machine {
        Machine::start(self.spec(kind)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As the owner does it, by a command and a signature.
    fn approve(&self, node: PublicKey) {
        let key = self.folder.path().join("owner.key");
        if !key.exists() {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&key).unwrap();
            writeln!(file, "{}", self.provisioner.owner.to_hex()).unwrap();
        }
        let output = Command::new(given("ALIA_COMMAND"))
            .args(["--json", "node", "approve", &node.to_string(), "--yes", "--key"])
            .arg(&key)
            .args(["--provisioner", &format!("http://{}", self.provisioner.http())])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&node.to_string()), "{said}");
    }

    /// Waits until a machine's key waits, approves it, and waits until it is in; gives the key.
    fn approve_when_it_waits(&self, machine: &mut Machine) -> PublicKey {
        let mac = machine.spec().mac.clone();
        line(machine, "waits for approval");
        let pending = until("a pending key", || detail(&mac).machine.pending);
        self.approve(pending);
        line(machine, " enrolment done ");
        let status = detail(&mac).machine;
        assert_eq!((status.node, status.pending), (Some(pending), None));
        pending
    }

    /// A first boot, approved; gives the key, which is in the TPM that vouches for the boot.
    fn first_by_chip(&self, machine: &mut Machine) -> PublicKey {
        let first = self.approve_when_it_waits(machine);
        let status = detail(&machine.spec().mac);
        assert_eq!(status.machine.held.as_deref(), Some("tpm"));
        let chip = status.machine.chip.unwrap();
        told(&status, &format!("TPM {} vouches for its boot", chip.short()));
        first
    }

    /// A boot that the TPM does not give `key` to: the machine has another one, which waits. Gives it.
    fn refused_by_chip(&self, machine: &mut Machine, key: PublicKey) -> PublicKey {
        let identity = line(machine, " identity done ");
        assert!(identity.contains("does not give the node's key out"), "{identity}");
        let other = self.approve_when_it_waits(machine);
        assert_ne!(other, key);
        told(&detail(&machine.spec().mac), "does not give the node's key out");
        other
    }

    fn uefi_with_tpm(&self) {
        let provisioner = self.serve(&[]);
        let mut machine = self.start(&Kind { number: 1, firmware: &self.files.ovmf, tpm: true });
        let first = self.first_by_chip(&mut machine);

        println!("  again, with the same release and command line");
        again(&mut machine);
        given_by_chip(&mut machine, first);
        machine.kill();

        println!("  again, with another release");
        drop(provisioner);
        let next = given("ALIA_NEXT_IMAGE");
        let provisioner = self.serve_image(&next, &[]);
        again(&mut machine);
        let second = self.refused_by_chip(&mut machine, first);
        machine.kill();

        println!("  again, with that release and another command line");
        drop(provisioner);
        let _provisioner = self.serve_image(&next, &["alia.lab=tampered"]);
        again(&mut machine);
        self.refused_by_chip(&mut machine, second);
    }

    /// What is signed by the same keys has the key, whatever its kernel and initramfs are.
    fn secure_boot_with_tpm(&self) {
        let code = self.owner.files.code.clone();
        let firmware = Firmware::OvmfSecure { code, variables: self.owner.variables() };
        let provisioner = self.serve_signed(given("ALIA_IMAGE"), &[]);
        let mut machine = self.start(&Kind { number: 9, firmware: &firmware, tpm: true });
        line(&mut machine, &VerifiedBy::Firmware.to_string());
        let first = self.first_by_chip(&mut machine);
        let release = detail(&machine.spec().mac).machine.release;
        machine.kill();

        println!("  again, with another release and the same command line");
        drop(provisioner);
        let next = given("ALIA_NEXT_IMAGE");
        let provisioner = self.serve_signed(next.clone(), &[]);
        again(&mut machine);
        line(&mut machine, &VerifiedBy::Firmware.to_string());
        given_by_chip(&mut machine, first);
        assert_ne!(detail(&machine.spec().mac).machine.release, release);
        machine.kill();

        println!("  again, with that release and another command line");
        drop(provisioner);
        let _provisioner = self.serve_signed(next, &["alia.lab=tampered"]);
        again(&mut machine);
        line(&mut machine, &VerifiedBy::Firmware.to_string());
        self.refused_by_chip(&mut machine, first);
    }

    fn copied_chip(&self) {
        let _provisioner = self.serve(&[]);
        let kind = Kind { number: 2, firmware: &self.files.ovmf, tpm: true };
        let mut machine = self.start(&kind);
        self.approve_when_it_waits(&mut machine);
        let spec = machine.spec().clone();
        machine.kill();
        drop(machine);
        let copy = self.spec(&Kind { number: 3, ..kind });
        copy_folder(
            &Swtpm::state(&spec.name, &spec.folder),
            &Swtpm::state(&copy.name, &copy.folder),
        );
        let mut machine = Machine::start(copy).unwrap();
        let identity = line(&mut machine, " identity done ");
        assert!(identity.contains("does not give the node's key out"), "{identity}");
        line(&mut machine, "its state was copied");
        for mac in [&spec.mac, &machine.spec().mac] {
            until("a conflict", || {
                let timeline = detail(mac).timeline;
                timeline.iter().any(|event| event.kind == "conflict").then_some(())
            });
        }
    }

    fn bios_with_tpm(&self) {
        let provisioner = self.serve(&[]);
        let mut machine = self.start(&Kind { number: 4, firmware: &Firmware::SeaBios, tpm: true });
        let mac = machine.spec().mac.clone();
        let first = self.approve_when_it_waits(&mut machine);
        again(&mut machine);
        line(&mut machine, " enrolment done ");
        let status = detail(&mac).machine;
        assert_eq!((status.node, status.held.as_deref()), (Some(first), Some("tpm")));
        machine.kill();

        println!("  again, with another command line");
        drop(provisioner);
        let _provisioner = self.serve(&["alia.lab=tampered"]);
        again(&mut machine);
        self.refused_by_chip(&mut machine, first);
    }

    fn uefi_without_tpm(&self) {
        let _provisioner = self.serve(&[]);
        let kind = Kind { number: 5, firmware: &self.files.ovmf, tpm: false };
        let mut machine = self.start(&kind);
        let mac = machine.spec().mac.clone();
        let first = self.approve_when_it_waits(&mut machine);
        again(&mut machine);
        line(&mut machine, " enrolment done ");
        let status = detail(&mac).machine;
        assert_eq!((status.node, status.held.as_deref()), (Some(first), Some("uefi-variable")));
        machine.kill();

        println!("  its variables, copied to another machine");
        let Firmware::Ovmf { code, .. } = &self.files.ovmf else { panic!("OVMF is UEFI") };
        let variables = machine.spec().folder.join("copied.vars");
        fs::copy(machine.spec().folder.join("m5.vars"), &variables).unwrap();
        let firmware = Firmware::Ovmf { code: code.clone(), variables };
        let mut copy = self.start(&Kind { number: 6, firmware: &firmware, tpm: false });
        line(&mut copy, "one of the two carries a copy");
        let other = detail(&copy.spec().mac);
        assert_eq!(other.machine.node, None);
        told(&other, "two machines, one identity");
        told(&detail(&mac), "two machines, one identity");
    }

    fn bios_without_tpm(&self) {
        let _provisioner = self.serve(&[]);
        let mut machine = self.start(&Kind { number: 7, firmware: &Firmware::SeaBios, tpm: false });
        let identity = line(&mut machine, " identity done ");
        assert!(identity.contains("in memory for this boot alone: no TPM"), "{identity}");
        let first = self.approve_when_it_waits(&mut machine);
        again(&mut machine);
        let second = self.approve_when_it_waits(&mut machine);
        assert_ne!(first, second);
    }

    fn bios_with_medium(&self) {
        let _provisioner = self.serve(&[]);
        let stick = self.folder.path().join("stick.img");
        fs::write(&stick, image::stick::owned(b"boots by itself on UEFI alone").unwrap()).unwrap();
        let drive = format!("-drive if=none,id=key,format=raw,file={}", stick.display());
        let mut spec = self.spec(&Kind { number: 8, firmware: &Firmware::SeaBios, tpm: false });
        spec.devices = vec!["qemu-xhci".into(), format!("usb-storage,drive=key {drive}")];
        let mut machine = Machine::start(spec).unwrap();
        let mac = machine.spec().mac.clone();
        line(&mut machine, "fresh, from now on kept in a medium");
        let first = self.approve_when_it_waits(&mut machine);
        again(&mut machine);
        line(&mut machine, " kept in a medium");
        line(&mut machine, " enrolment done ");
        let status = detail(&mac).machine;
        assert_eq!((status.node, status.held.as_deref()), (Some(first), Some("medium")));
    }
}

fn tap(number: u8) -> String {
    format!("tap-m{number}")
}

/// Pulls the plug and switches it on again.
fn again(machine: &mut Machine) {
    machine.kill();
    machine.restart().unwrap_or_else(|error| panic!("{error}"));
}

/// A boot that the TPM gives `key` to, and that is taken in without a question.
fn given_by_chip(machine: &mut Machine, key: PublicKey) {
    let identity = line(machine, " identity done ");
    assert!(identity.contains("kept in a TPM"), "{identity}");
    line(machine, " enrolment done ");
    assert_eq!(detail(&machine.spec().mac).machine.node, Some(key));
}

/// Waits for a line of this start.
fn line(machine: &mut Machine, text: &str) -> String {
    let started = Instant::now();
    let found = machine.wait_line(text, BOOT_LIMIT);
    let found = found.unwrap_or_else(|error| panic!("{error}"));
    println!("  {}: {text:?} after {:.1} s", machine.spec().name, started.elapsed().as_secs_f32());
    found.text
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SERVICE_LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come");
        sleep(Duration::from_millis(200));
    }
}

/// Waits until a machine's timeline tells of something.
fn told(detail: &MachineDetail, text: &str) {
    let mac = detail.machine.mac.clone();
    until(text, || {
        let timeline = self::detail(&mac).timeline;
        timeline.iter().any(|event| event.text.contains(text)).then_some(())
    });
}

fn detail(mac: &str) -> MachineDetail {
    Provisioner::machine(mac).unwrap_or_else(|error| panic!("{error}"))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
