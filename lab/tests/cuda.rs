//! A machine without a card boots the image for NVIDIA's cards, from UEFI over the network: the
//! driver is tried and finds no device, and the node works on its processor.
//!
//! `cargo xtask test --long cuda` gives the environment: the image (ALIA_CUDA_IMAGE), beside what
//! `boot.rs` is given.
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;

use bed::given;
use lab::{
    Machine, MachineSpec, Service, accel,
    machine::BootsFrom,
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::SecretKey;
use std::{process::ExitCode, time::Duration};

/// From power-on to the compute service's start; the root has some 70 MB.
const LIMIT: Duration = Duration::from_secs(600);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
const TAP: &str = "tap-uefi";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let filter = std::env::args().nth(2).unwrap_or_default();
        return common::run(&filter, &[("a node without a card works on its processor", &boots)]);
    }
    if !common::boots() {
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("ALIA_CUDA_IMAGE").is_none() {
        println!("skipped: ALIA_CUDA_IMAGE is not set (cargo xtask test --long cuda)");
        return ExitCode::SUCCESS;
    }
    // Inside there is no network to fetch them by.
    tools::boot_files(&bed::packages()).unwrap();
    bed::enter("")
}

fn boots() {
    let image = given("ALIA_CUDA_IMAGE");
    let files = tools::boot_files(&bed::packages()).unwrap();
    let choice = accel::probe(Some(&image));
    println!("{}", choice.reason);
    net::make(&net::Plan { taps: vec![TAP.into()], foreign: false }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let provisioner = Provisioner {
        program: given("ALIA_PROVISIONER"),
        folder: folder.path().into(),
        dhcp: Dhcp::Full,
        image,
        ipxe: files.ipxe.clone(),
        bios_file: None,
        uki: None,
        chain: "alia-lab".parse().unwrap(),
        owner: SecretKey::generate().unwrap(),
        ledgers: vec!["http://10.77.0.1:26657".into()],
        parameter_servers: vec!["http://10.77.0.1:7000".into()],
    };
    let _provisioner = Service::start_ready(provisioner.service().unwrap(), SERVICE_LIMIT).unwrap();
    let mut machine = Machine::start(MachineSpec {
        name: "uefi".into(),
        firmware: files.ovmf.clone(),
        accelerator: choice.accelerator,
        memory: 2048,
        processors: 1,
        mac: "52:54:00:a1:1a:01".into(),
        tap: TAP.into(),
        boots: BootsFrom::Network,
        uuid: "00000000-0000-4000-8000-000000000001".into(),
        serial: "LAB1".into(),
        clock: None,
        processor: Default::default(),
        devices: Vec::new(),
        oem_string: None,
        nice: 0,
        tpm: None,
        folder: folder.path().into(),
    })
    .unwrap();
    let mut wait =
        |text: &str| machine.wait_line(text, LIMIT).unwrap_or_else(|error| panic!("{error}")).text;
    let cards = wait(" cards ");
    println!("{cards}");
    for part in [
        "cards done",
        "no card of NVIDIA's",
        "works on its processor",
        "signature and version hold",
    ] {
        assert!(cards.contains(part), "{part:?} is wanted: {cards}");
    }
    println!("{}", wait(" inventory done "));
    println!("{}", wait(" enrolment done "));
    // Its compute service runs, in a sandbox that names cards which are not there.
    println!("{}", wait(" compute done "));
    machine.press_power().unwrap_or_else(|error| panic!("{error}"));
    assert!(machine.qemu().wait_ended(LIMIT).is_some(), "the machine is still on");
}
