//! UEFI HTTPS boot in real firmware (OVMF): with our CA in it a machine boots to enrolment, and with
//! another one it fetches nothing.
//!
//! Given by the environment, as for `boot`: ALIA_CACHE, ALIA_IMAGE, ALIA_PROVISIONER. They run with
//! ALIA_LONG alone: an OVMF without elliptic curves (Debian's) fails (docs/https.md).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use image::secure_boot::signature_list;
use lab::{
    Machine, MachineSpec, Service, accel,
    machine::BootsFrom,
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::SecretKey;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

/// From power-on to enrolment; 40 s under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        let all: &[(&str, &dyn Fn())] = &[
            ("OVMF boots by HTTPS with our CA in it", &|| bed.boots()),
            ("OVMF fetches nothing by HTTPS from whom it does not know", &|| bed.refuses()),
        ];
        return common::run(&std::env::args().nth(2).unwrap_or_default(), all);
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
    bed::enter("")
}

struct Bed {
    folder: tempfile::TempDir,
    image: PathBuf,
    provisioner: PathBuf,
    files: tools::BootFiles,
    accelerator: lab::Accelerator,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let files = tools::boot_files(&bed::packages()).unwrap();
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: vec!["tap".into()], foreign: false }).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            files,
            accelerator: choice.accelerator,
        }
    }

    /// Where the provisioner has what it makes.
    fn place(&self) -> PathBuf {
        self.folder.path().join("provisioner")
    }

    fn provisioner(&self) -> Service {
        let provisioner = Provisioner {
            program: self.provisioner.clone(),
            folder: self.place(),
            dhcp: Dhcp::Full,
            image: self.image.clone(),
            ipxe: self.files.ipxe.clone(),
            bios_file: None,
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::from_hex(&"11".repeat(32)).unwrap(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        let service = provisioner.service().unwrap().args(["--http-boot", "https"]);
        Service::start_ready(service, SERVICE_LIMIT).unwrap()
    }

    /// The running provisioner's CA, as OVMF takes it.
    fn cas(&self) -> PathBuf {
        let mut stream = TcpStream::connect((net::SERVER, 8080)).unwrap();
        write!(stream, "GET /ca.der HTTP/1.0\r\nhost: lab\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let path = self.folder.path().join("cas.esl");
        fs::write(&path, signature_list(&answer[head + 4..])).unwrap();
        path
    }

    fn machine(&self, number: u8, cas: PathBuf) -> Machine {
        Machine::start(MachineSpec {
            name: format!("m{number}"),
            firmware: self.files.ovmf.clone(),
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: "tap".into(),
            boots: BootsFrom::Https(cas),
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 0,
            tpm: None,
            devices: Vec::new(),
            oem_string: None,
            folder: self.folder.path().join("machines"),
        })
        .unwrap()
    }

    fn boots(&self) {
        let mut provisioner = self.provisioner();
        let mut machine = self.machine(1, self.cas());
        let wait = |service: &mut Service, text: &str| {
            let line = service.wait_line(0, text, BOOT_LIMIT);
            println!("  {}", line.unwrap_or_else(|error| panic!("{error}")).text.trim());
        };
        wait(&mut provisioner, "https://10.77.0.1:8443/ipxe/snponly.efi");
        wait(&mut provisioner, "snponly.efi: fetching");
        for text in ["Linux version", " enrolment done "] {
            let line =
                machine.wait_line(text, BOOT_LIMIT).unwrap_or_else(|error| panic!("{error}"));
            println!("  {:>6.1} s  {}", line.at.as_secs_f32(), line.text.trim());
        }
    }

    /// Its owner had the provisioner's CA enrolled, and another one answers in its place.
    fn refuses(&self) {
        let before = self.provisioner();
        let cas = self.cas();
        drop(before);
        fs::remove_dir_all(self.place().join("provisioner.tls")).unwrap();
        let provisioner = self.provisioner();
        let mut machine = self.machine(2, cas);
        let line = machine.wait_line("Error: ", BOOT_LIMIT);
        println!("  {}", line.unwrap_or_else(|error| panic!("{error}")).text.trim());
        let lines = provisioner.console().lines_from(0);
        assert!(lines.iter().any(|line| line.text.contains("https://10.77.0.1:8443/ipxe/")));
        assert!(!lines.iter().any(|line| line.text.contains("snponly.efi: fetching")));
    }
}
