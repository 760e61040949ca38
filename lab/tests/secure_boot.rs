//! Secure Boot in real firmware (OVMF with SMM): what is signed boots, what is not never starts.
//!
//! Given by the environment, as for `boot`: ALIA_CACHE, ALIA_IMAGE, ALIA_PROVISIONER. With
//! ALIA_LONG all of it runs (`cargo xtask test --long secure-boot`), else the first two tests alone.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod owner;

use bed::given;
use image::{secure_boot::Keys, stick, uki};
use lab::{
    Machine, MachineSpec, Service, accel,
    efi_variables::Variables,
    machine::{BootsFrom, Firmware},
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use node_init::stages::verified_by::VerifiedBy;
use owner::Owner;
use protocol::SecretKey;
use std::{
    cell::Cell,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// From power-on to enrolment; 40 s under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
/// Between two keys at MokManager's menus; it waits ten seconds for the first.
const KEY_PAUSE: Duration = Duration::from_secs(4);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        let all: &[(&str, &dyn Fn())] = &[
            ("keys are made once and are nobody else's to read", &|| bed.keeps_keys()),
            ("a UKI signed by the owner boots to enrolment under Secure Boot", &|| bed.boots()),
            ("firmware starts no UKI whose kernel was changed", &|| bed.refuses_changed(".linux")),
            ("firmware starts no UKI whose initramfs was changed", &|| {
                bed.refuses_changed(".initrd");
            }),
            ("firmware starts no UKI whose command line was changed", &|| {
                bed.refuses_changed(".cmdline");
            }),
            ("nothing is believed of a machine that adds to the signed command line", &|| {
                bed.refuses_appended();
            }),
            ("firmware starts no UKI without a signature", &|| bed.refuses(&bed.uki())),
            ("firmware starts no UKI signed by a key that it does not have", &|| {
                bed.refuses(&bed.owner.signed(&bed.uki(), "MOK"));
            }),
            ("a signed UKI boots by HTTP too", &|| bed.boots_by_http()),
            ("shim starts no UKI whose key its user did not enrol", &|| bed.shim_refuses()),
            ("shim starts a UKI whose key its user enrolled", &|| bed.shim_starts()),
            ("somebody at the screen enrols the stick's key with MokManager, once", &|| {
                bed.user_enrols();
            }),
        ];
        let count = if std::env::var_os("ALIA_LONG").is_some() { all.len() } else { 2 };
        return common::run(&std::env::args().nth(2).unwrap_or_default(), &all[..count]);
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    let packages = bed::packages();
    owner::fetched(&packages);
    tools::boot_files(&packages).unwrap_or_else(|error| panic!("{error}"));
    bed::enter("")
}

struct Bed {
    folder: tempfile::TempDir,
    image: PathBuf,
    provisioner: PathBuf,
    ipxe: PathBuf,
    owner: Owner,
    accelerator: lab::Accelerator,
    runs: Cell<u8>,
}

/// A network with a provisioner, and one machine on it.
struct Run {
    machine: Machine,
    provisioner: Service,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let packages = bed::packages();
        let boot = tools::boot_files(&packages).unwrap_or_else(|error| panic!("{error}"));
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: vec!["tap".into()], foreign: false }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::new(folder.path(), &packages);
        Self {
            folder,
            image,
            provisioner: given("ALIA_PROVISIONER"),
            ipxe: boot.ipxe,
            owner,
            accelerator: choice.accelerator,
            runs: Cell::new(0),
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn served(&self) -> Provisioner {
        Provisioner {
            program: self.provisioner.clone(),
            folder: self.place("provisioner"),
            dhcp: Dhcp::Full,
            image: self.image.clone(),
            ipxe: self.ipxe.clone(),
            bios_file: None,
            uki: Some(self.place("served.efi")),
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::from_hex(&"11".repeat(32)).unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        }
    }

    /// A UKI of the image for this network, unsigned.
    fn uki(&self) -> Vec<u8> {
        self.owner.uki(&self.served(), false, &[])
    }

    /// Serves `uki` and switches a machine on.
    fn start(&self, uki: &[u8], boots: BootsFrom, variables: &Path) -> Run {
        self.start_with(None, uki, boots, variables)
    }

    fn start_with(
        &self,
        oem_string: Option<String>,
        uki: &[u8],
        boots: BootsFrom,
        variables: &Path,
    ) -> Run {
        fs::write(self.place("served.efi"), uki).unwrap();
        let number = self.runs.get() + 1;
        self.runs.set(number);
        let provisioner =
            Service::start_ready(self.served().service().unwrap(), SERVICE_LIMIT).unwrap();
        let machine = Machine::start(MachineSpec {
            name: format!("m{number}"),
            firmware: Firmware::OvmfSecure {
                code: self.owner.files.code.clone(),
                variables: variables.into(),
            },
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: "tap".into(),
            boots,
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 0,
            tpm: None,
            devices: Vec::new(),
            oem_string,
            folder: self.place("machines"),
        });
        Run { machine: machine.unwrap(), provisioner }
    }

    fn keeps_keys(&self) {
        let Owner { files, tools, keys, .. } = &self.owner;
        let (key, other) = (keys.key("db"), keys.key("MOK"));
        let before = fs::read(key.secret()).unwrap();
        let (_, made) = Keys::ensure(&self.place("keys"), tools).unwrap();
        assert_eq!((made.len(), fs::read(key.secret()).unwrap()), (0, before));
        assert_eq!(fs::metadata(key.secret()).unwrap().permissions().mode() & 0o777, 0o600);
        for name in ["PK.auth", "KEK.auth", "db.auth", "db.esl", "db.cer"] {
            assert!(fs::metadata(self.place("keys").join(name)).unwrap().len() > 500, "{name}");
        }
        let signed = self.place("stub.efi");
        tools.sign(&key, &files.stub, &signed).unwrap();
        tools.verify(&key.certificate(), &signed).unwrap();
        assert!(tools.verify(&other.certificate(), &signed).is_err());
    }

    /// Boots `uki`, and holds kernel and node-init to what they say of Secure Boot.
    fn enrols(&self, uki: &[u8], boots: BootsFrom, variables: &Path) {
        let mut run = self.start(uki, boots, variables);
        run.says("EFI stub: UEFI Secure Boot is enabled.", BOOT_LIMIT);
        run.says("Linux version", BOOT_LIMIT);
        // By Secure Boot, or by its own configuration.
        run.says("Kernel is locked down from ", SERVICE_LIMIT);
        let verified = VerifiedBy::Firmware.to_string();
        assert!(verified.starts_with("Secure Boot is on: firmware verified "), "{verified}");
        run.says(&verified, BOOT_LIMIT);
        run.says(" enrolment done ", BOOT_LIMIT);
        run.provisioner_says(&verified);
        for line in run.transfers() {
            println!("  {line}");
        }
    }

    fn boots(&self) {
        let uki = self.owner.signed(&self.uki(), "db");
        self.enrols(&uki, BootsFrom::Network, &self.owner.variables());
    }

    fn boots_by_http(&self) {
        let uki = self.owner.uki(&self.served(), true, &[]);
        let uki = self.owner.signed(&uki, "db");
        self.enrols(&uki, BootsFrom::Http, &self.owner.variables());
    }

    /// One bit of a section is turned over after signing.
    fn refuses_changed(&self, section: &str) {
        let mut uki = self.owner.signed(&self.uki(), "db");
        let sections = uki::sections(&uki).unwrap();
        let found = sections.into_iter().find(|each| each.name == section).unwrap();
        uki[found.content.start + found.content.len() / 2] ^= 1;
        self.refuses(&uki);
    }

    /// Firmware fetches `uki`, says that it may not start it, and no kernel starts; and the
    /// provisioner says in the machine's timeline that nothing came of it, once its firmware asks
    /// again.
    fn refuses(&self, uki: &[u8]) {
        let mut run = self.start(uki, BootsFrom::Network, &self.owner.variables());
        run.says("Access Denied", BOOT_LIMIT);
        run.provisioner_says("fetched the whole UKI and has not reported since");
        run.started_nothing();
    }

    /// Firmware's own settings have words for systemd's stub, which no signature covers.
    fn refuses_appended(&self) {
        let stranger = SecretKey::from_hex(&"22".repeat(32)).unwrap().public();
        let words = format!("io.systemd.stub.kernel-cmdline-extra=alia.key={stranger}");
        let uki = self.owner.signed(&self.uki(), "db");
        let variables = self.owner.variables();
        let mut run = self.start_with(Some(words), &uki, BootsFrom::Network, &variables);
        run.says("adds words to the signed command line", BOOT_LIMIT);
        let lines = run.machine.console().lines_from(0);
        assert!(!lines.iter().any(|line| line.text.contains(" enrolment done ")), "it came in");
    }

    fn stick(&self, name: &str) -> PathBuf {
        let Owner { files, keys, .. } = &self.owner;
        let uki = self.owner.signed(&self.uki(), "MOK");
        let read = |path: &Path| fs::read(path).unwrap();
        let (shim, manager) = (read(&files.shim), read(&files.mok_manager));
        let mok = keys.key("MOK").der().unwrap();
        let stick = stick::through_shim(&shim, &manager, &uki, &mok).unwrap();
        let path = self.place(name);
        fs::write(&path, stick).unwrap();
        path
    }

    fn shim_refuses(&self) {
        let boots = BootsFrom::Stick(self.stick("unknown.img"));
        let mut run = self.start(&[], boots, &self.owner.files.microsoft);
        run.says("Security Violation", BOOT_LIMIT);
        run.started_nothing();
    }

    /// The dialogue of docs/secure-boot.md, key by key, on a PC as it is sold.
    fn user_enrols(&self) {
        let boots = BootsFrom::Stick(self.stick("enrolling.img"));
        let mut run = self.start(&[], boots, &self.owner.files.microsoft);
        run.says("Security Violation", BOOT_LIMIT);
        // OK; any key, before MokManager goes on by itself; "Enroll key from disk"; the stick; its
        // certificate, the second name; "Continue"; "Yes"; and "Reboot".
        let keys = "ret ret down ret ret down ret down ret down ret ret";
        for key in keys.split(' ') {
            // Its screens are drawn letter by letter; nothing tells when one is complete.
            std::thread::sleep(KEY_PAUSE);
            run.machine.press_key(key).unwrap_or_else(|error| panic!("{error}"));
        }
        run.says("EFI stub: UEFI Secure Boot is enabled.", BOOT_LIMIT);
        run.says(" enrolment done ", BOOT_LIMIT);
    }

    fn shim_starts(&self) {
        let Owner { files, keys, .. } = &self.owner;
        let mut variables = Variables::read(fs::read(&files.microsoft).unwrap()).unwrap();
        variables.enrol_mok(&keys.key("MOK").der().unwrap()).unwrap();
        let path = self.place("microsoft-mok.vars");
        fs::write(&path, variables.bytes()).unwrap();
        self.enrols(&[], BootsFrom::Stick(self.stick("known.img")), &path);
    }
}

impl Run {
    /// Waits for a line of the machine's console; gives when it came, since power-on.
    fn says(&mut self, text: &str, limit: Duration) -> f32 {
        let line = self.machine.wait_line(text, limit).unwrap_or_else(|error| panic!("{error}"));
        let seconds = line.at.as_secs_f32();
        println!("  {seconds:>6.1} s  {}", line.text.trim());
        seconds
    }

    /// Waits for a line of the provisioner's timeline.
    fn provisioner_says(&mut self, text: &str) {
        let line = self.provisioner.wait_line(0, text, BOOT_LIMIT);
        println!("  timeline: {}", line.unwrap_or_else(|error| panic!("{error}")).text.trim());
    }

    /// What the provisioner wrote of finished transfers.
    fn transfers(&self) -> Vec<String> {
        let lines = self.provisioner.console().lines_from(0);
        lines.into_iter().map(|line| line.text).filter(|line| line.contains(" bytes in ")).collect()
    }

    /// Holds the machine to having started neither stub nor kernel.
    fn started_nothing(&self) {
        let lines = self.machine.console().lines_from(0);
        let started = lines
            .iter()
            .find(|line| line.text.contains("Linux version") || line.text.contains("EFI stub"));
        assert_eq!(started, None);
    }
}
