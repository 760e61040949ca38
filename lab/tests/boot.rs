//! Real firmware boots over the network into the image, and is taken in by the real provisioner:
//! {SeaBIOS, OVMF} x {we are the DHCP server, ProxyDHCP beside a foreign one}.
//!
//! Four things are given by the environment, and `cargo xtask test` gives them: ALIA_CACHE (the
//! packages' cache), ALIA_IMAGE (an image's folder), ALIA_PROVISIONER and ALIA_COMMAND (the
//! programs `provisioner` and `alia`).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod operator;

use bed::given;
use lab::{
    Accelerator, Machine, MachineSpec, Service, accel,
    machine::{BootsFrom, Firmware, Processor},
    net, sandbox,
    services::{self, Dhcp, Provisioner},
    tools,
};
use protocol::SecretKey;
use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

/// From power-on to enrolment; 30 s under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        return common::run(
            &std::env::args().nth(2).unwrap_or_default(),
            &[
                ("SeaBIOS and OVMF boot when we are the DHCP server", &|| bed.boots(Dhcp::Full)),
                ("SeaBIOS and OVMF boot beside a foreign DHCP server", &|| bed.boots(Dhcp::Proxy)),
            ],
        );
    }
    if !common::boots() {
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
    command: PathBuf,
    files: tools::BootFiles,
    accelerator: Accelerator,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let files = tools::boot_files(&bed::packages()).unwrap();
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: vec!["tap-bios".into(), "tap-uefi".into()], foreign: true })
            .unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            command: given("ALIA_COMMAND"),
            files,
            accelerator: choice.accelerator,
        }
    }

    fn boots(&self, dhcp: Dhcp) {
        let folder = self.folder.path().join(dhcp.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        let _foreign = (dhcp == Dhcp::Proxy)
            .then(|| Service::start_ready(services::foreign_dhcp(&folder), SERVICE_LIMIT).unwrap());
        let owner = SecretKey::generate().unwrap();
        let provisioner = Provisioner {
            program: self.provisioner.clone(),
            folder: folder.clone(),
            dhcp,
            image: self.image.clone(),
            ipxe: self.files.ipxe.clone(),
            // The firmware's own driver is under test too.
            bios_file: None,
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: owner.clone(),
            ledgers: vec!["http://10.77.0.1:26657".into()],
            parameter_servers: vec!["http://10.77.0.1:7000".into()],
        };
        let url = format!("http://{}", provisioner.http());
        let _provisioner =
            Service::start_ready(provisioner.service().unwrap(), SERVICE_LIMIT).unwrap();

        let machines = [("bios", Firmware::SeaBios), ("uefi", self.files.ovmf.clone())];
        let mut machines: Vec<Machine> = (1u8..)
            .zip(machines)
            .map(|(number, (name, firmware))| {
                let spec = MachineSpec {
                    name: name.into(),
                    firmware,
                    accelerator: self.accelerator,
                    memory: 1024,
                    processors: 1,
                    clock: None,
                    processor: match dhcp {
                        Dhcp::Full => Processor::Real,
                        _ => Processor::NotAmd,
                    },
                    mac: format!("52:54:00:a1:1a:0{number}"),
                    tap: format!("tap-{name}"),
                    boots: BootsFrom::Network,
                    uuid: format!("00000000-0000-4000-8000-00000000000{number}"),
                    serial: format!("LAB{number}"),
                    nice: 0,
                    tpm: None,
                    devices: Vec::new(),
                    oem_string: None,
                    folder: folder.clone(),
                };
                Machine::start(spec).unwrap()
            })
            .collect();
        for machine in &mut machines {
            let started = Instant::now();
            let kernel = machine.wait_line("Linux version", BOOT_LIMIT);
            let kernel = kernel.unwrap_or_else(|error| panic!("{error}"));
            let vouched = match machine.spec().firmware {
                Firmware::SeaBios => "BIOS: nothing vouches for kernel, initramfs and command line",
                _ => "Secure Boot is off: nothing vouches for kernel, initramfs and command line",
            };
            let said = machine.wait_line(vouched, BOOT_LIMIT);
            said.unwrap_or_else(|error| panic!("{error}"));
            let left = BOOT_LIMIT.saturating_sub(started.elapsed());
            let enrolled = machine.wait_line(" enrolment done ", left);
            let enrolled = enrolled.unwrap_or_else(|error| panic!("{error}"));
            println!(
                "{} {}: kernel after {:.1} s, enrolled after {:.1} s",
                dhcp.as_str(),
                machine.spec().name,
                kernel.at.as_secs_f32(),
                enrolled.at.as_secs_f32()
            );
        }
        // Taken in by the machine's own account; and the lease is from whom it should be.
        let server = if dhcp == Dhcp::Full { net::SERVER } else { net::FOREIGN };
        for machine in &mut machines {
            let lease = machine.wait_line(&format!("by DHCP from {server}"), SERVICE_LIMIT);
            lease.unwrap_or_else(|error| panic!("{error}"));
        }
        for machine in &machines {
            let detail = Provisioner::page(&format!("/v1/machines/{}", machine.spec().mac));
            let detail = detail.unwrap_or_else(|error| panic!("{error}"));
            let wanted = match (self.accelerator, machine.spec().processor) {
                // The host's, whoever made it.
                (Accelerator::Kvm, Processor::Real) => "microcode-",
                (_, Processor::Real) => "microcode-amd.cpio",
                (_, _) => "microcode-intel.cpio",
            };
            assert!(detail.contains(wanted), "no {wanted}: {detail}");
        }
        if dhcp == Dhcp::Full {
            let operator = operator::Operator::new(&self.command, &folder, &url, &owner);
            operator.signs_in();
            let (one, other) = machines.split_at_mut(1);
            operator.has_drained(&other[0], || operator.works_with(&mut one[0]));
            let first: Vec<String> = machines.iter().map(|machine| root(machine, 0)).collect();
            let mark = machines[1].console().mark();
            operator.reimages(&machines[1]);
            let again = root(&machines[1], mark);
            println!("roots: {}; {}; again: {again}", first[0], first[1]);
            assert!(again.contains(" MB from 1 other machine"), "the other machine was not asked");
            operator.turns_off(&mut machines[1]);
            // Its firmware hears no power button.
            machines.truncate(1);
        }
        for machine in &mut machines {
            machine.press_power().unwrap_or_else(|error| panic!("{error}"));
        }
        for machine in &mut machines {
            let name = machine.spec().name.clone();
            assert!(machine.qemu().wait_ended(BOOT_LIMIT).is_some(), "{name} is still on");
        }
    }
}

/// From where a machine has its root, by its own word from `mark` on.
fn root(machine: &Machine, mark: usize) -> String {
    let done = |line: &str| line.contains(" root done ");
    let line = machine.console().wait_from(mark, done, BOOT_LIMIT);
    let line = line.unwrap_or_else(|error| panic!("{error:?}")).text;
    line.split_once(" root done ").map_or(line.clone(), |(_, how)| how.trim().to_owned())
}
