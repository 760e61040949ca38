//! Real firmware boots by IPv6 alone, by PXE and by HTTP, through iPXE into the image, and is taken
//! in: the real provisioner gives the addresses and sends the router advertisements, and nothing on
//! the network answers by DHCPv4.
//!
//! Given by the environment, as for `boot`: ALIA_CACHE, ALIA_IMAGE, ALIA_PROVISIONER. They run with
//! ALIA_LONG alone (`cargo xtask test --long ipv6`).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use lab::{
    Accelerator, Machine, MachineSpec, Service, accel,
    machine::BootsFrom,
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::SecretKey;
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// From power-on to enrolment; 90 s under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
const MAC: &str = "52:54:00:a1:1a:01";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                ("OVMF boots by IPv6 PXE", &|| bed.boots("pxe", BootsFrom::Network6)),
                ("OVMF boots by IPv6 HTTP", &|| bed.boots("http", BootsFrom::Http6)),
            ],
        );
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
    accelerator: Accelerator,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let files = tools::boot_files(&bed::packages()).unwrap();
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: vec!["tap-uefi".into()], foreign: false }).unwrap();
        net::address6().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            files,
            accelerator: choice.accelerator,
        }
    }

    fn boots(&self, mode: &str, boots: BootsFrom) {
        let folder = self.folder.path().join(mode);
        std::fs::create_dir_all(&folder).unwrap();
        let provisioner = Provisioner {
            program: self.provisioner.clone(),
            folder: folder.clone(),
            dhcp: Dhcp::Off,
            image: self.image.clone(),
            ipxe: self.files.ipxe.clone(),
            bios_file: None,
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::generate().unwrap(),
            ledgers: vec![],
            parameter_servers: vec![],
        };
        let service = provisioner.service().unwrap().args(["--dhcp6", "full"]);
        let _provisioner = Service::start_ready(service, SERVICE_LIMIT).unwrap();
        let mut machine = Machine::start(MachineSpec {
            name: "uefi".into(),
            firmware: self.files.ovmf.clone(),
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: MAC.into(),
            tap: "tap-uefi".into(),
            boots,
            uuid: "11223344-5566-7788-99aa-bbccddeeff01".into(),
            serial: "LAB6".into(),
            nice: 0,
            tpm: None,
            devices: Vec::new(),
            oem_string: None,
            folder,
        })
        .unwrap();
        let mut wait = |text: &str| {
            machine.wait_line(text, BOOT_LIMIT).unwrap_or_else(|error| panic!("{error}"))
        };
        let kernel = wait("Linux version");
        let network = wait(" network done ");
        assert!(network.text.contains("fd00:77:"), "{network:?}");
        let enrolled = wait(" enrolment done ");
        println!(
            "IPv6 {mode}: kernel after {:.1} s, enrolled after {:.1} s",
            kernel.at.as_secs_f32(),
            enrolled.at.as_secs_f32()
        );
        let detail = Provisioner::machine(MAC).unwrap();
        assert_eq!(detail.machine.boot_mode.as_deref(), Some(mode));
        let events: Vec<&str> = detail.timeline.iter().map(|event| event.text.as_str()).collect();
        println!("{}", events.iter().rev().copied().collect::<Vec<_>>().join("\n"));
        for wanted in [
            "SOLICIT from UEFI x64 firmware",
            "SOLICIT from iPXE on UEFI x64",
            "http://[fd00:77::1]:8080/boot.ipxe",
        ] {
            assert!(events.iter().any(|event| event.contains(wanted)), "{wanted}: {events:#?}");
        }
        machine.press_power().unwrap_or_else(|error| panic!("{error}"));
        assert!(machine.qemu().wait_ended(BOOT_LIMIT).is_some(), "it is still on");
    }
}
