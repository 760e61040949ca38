//! A miner's machine at home: a stick made for its owner boots behind NAT, with no DHCP option of
//! ours, and the node that comes of it is the owner's and has receipts in blocks; so it is in the
//! second boot. A copy of the stick in another machine gets nowhere.
//!
//! Given by the environment, as for `boot`: ALIA_CACHE, ALIA_IMAGE, ALIA_PROVISIONER; and what `work`
//! wants. It runs with ALIA_LONG alone (`cargo xtask test --long home`).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

mod bed;
mod common;
mod stick;
mod work;

use bed::given;
use cli::medium;
use image::{bios::Loader, medium as image_medium};
use lab::{
    Accelerator, Machine, MachineSpec, Service, accel,
    machine::BootsFrom,
    net, sandbox,
    services::{Dhcp, Provisioner},
    tools,
};
use protocol::{
    PublicKey, SecretKey,
    medium::{TokenState, TokenStatus},
};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};
use work::{PARAMETER_SERVER, RPC, Work};

/// From power-on to enrolment; 40 s under software emulation on an idle machine of two cores.
const BOOT_LIMIT: Duration = Duration::from_secs(400);
const SERVICE_LIMIT: Duration = Duration::from_secs(30);
const URL: &str = "https://10.77.0.1:8443";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        sandbox::inside().unwrap();
        let bed = Bed::new();
        let all: &[(&str, &dyn Fn())] = &[(
            "a medium from its registration to receipts in blocks in two boots, and its copy nowhere",
            &|| bed.works(),
        )];
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
    tools::secure_boot_files(&bed::packages()).unwrap();
    tools::bios_loader(&bed::packages()).unwrap();
    bed::enter("")
}

struct Bed {
    folder: tempfile::TempDir,
    image: PathBuf,
    provisioner: PathBuf,
    boot: tools::BootFiles,
    stub: PathBuf,
    loader: Loader,
    accelerator: Accelerator,
    runtime: tokio::runtime::Runtime,
}

impl Bed {
    fn new() -> Self {
        let image = given("ALIA_IMAGE");
        let packages = bed::packages();
        let boot = tools::boot_files(&packages).unwrap_or_else(|error| panic!("{error}"));
        let files = tools::secure_boot_files(&packages).unwrap_or_else(|error| panic!("{error}"));
        let choice = accel::probe(Some(&image));
        println!("{}", choice.reason);
        net::make(&net::Plan { taps: Vec::new(), foreign: false }).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            provisioner: given("ALIA_PROVISIONER"),
            boot,
            stub: files.stub,
            loader: tools::bios_loader(&packages).unwrap_or_else(|error| panic!("{error}")).0,
            accelerator: choice.accelerator,
            runtime: runtime.unwrap(),
        }
    }

    fn served(&self) -> Provisioner {
        Provisioner {
            program: self.provisioner.clone(),
            folder: self.folder.path().join("provisioner"),
            dhcp: Dhcp::Off,
            image: self.image.clone(),
            ipxe: self.boot.ipxe.clone(),
            bios_file: None,
            uki: None,
            chain: "alia-lab".parse().unwrap(),
            owner: SecretKey::from_hex(&"11".repeat(32)).unwrap(),
            ledgers: vec![RPC.into()],
            parameter_servers: vec![PARAMETER_SERVER.into()],
        }
    }

    /// A provisioner that takes nobody in by itself, but for who comes by a medium of it.
    fn serve(&self, served: &Provisioner) -> Service {
        let uki = stick::uki(&self.image, &self.stub, served, URL);
        let nobodys = image_medium::owned(&uki, &self.loader).unwrap();
        let megabytes = nobodys.len() as f64 / 1e6;
        println!("  the medium has {megabytes:.1} MB");
        // What it may have at most, with the kernel from source.
        let manifest = fs::read_to_string(self.image.join("manifest.json")).unwrap();
        assert!(megabytes <= 20.0 || !manifest.contains("-alia\""), "{megabytes} MB");
        let path = self.folder.path().join("nobodys.img");
        fs::write(&path, nobodys).unwrap();
        let service = served.service_approving("by-hand").unwrap().arg("--medium").arg(path);
        Service::start_ready(service, SERVICE_LIMIT).unwrap()
    }

    fn machine(&self, number: u8, stick: PathBuf) -> Machine {
        Machine::start(MachineSpec {
            name: format!("m{number}"),
            firmware: self.boot.ovmf.clone(),
            accelerator: self.accelerator,
            memory: 1024,
            processors: 1,
            clock: None,
            processor: Default::default(),
            mac: format!("52:54:00:a1:1a:{number:02x}"),
            tap: String::new(),
            boots: BootsFrom::Stick(stick),
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            serial: format!("LAB{number}"),
            nice: 19,
            tpm: None,
            devices: Vec::new(),
            oem_string: None,
            folder: self.folder.path().join("machines"),
        })
        .unwrap()
    }

    fn works(&self) {
        let served = self.served();
        let work = Work::start(self.folder.path(), &served.chain, &served.owner, &self.runtime);
        let _provisioner = self.serve(&served);
        let server = medium::Provisioner::new(URL, served.key().unwrap()).unwrap();
        let miner = SecretKey::generate().unwrap();
        let address = miner.public().address();
        let stick = stick::get(&self.runtime, &served, &server, &miner, self.folder.path());

        let mut machine = self.machine(1, stick.clone());
        let first = self.boots(&mut machine, &address.to_string());
        let count = work.receipts(first, 0, &self.runtime);
        println!("  {count} receipts in blocks");
        machine.restart().unwrap();
        let before = work.receipts(first, 0, &self.runtime);
        let second = self.boots(&mut machine, &address.to_string());
        assert_eq!(first, second, "the second boot is another node");
        let listed: Vec<TokenStatus> =
            stick::ask(&self.runtime, medium::list(&server, miner.public().address()));
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].state, listed[0].node), (TokenState::Bound, Some(first)));
        self.copied(stick);
        let count = work.receipts(second, before, &self.runtime);
        println!("  {count} receipts in blocks, {before} of them before the second boot");
        drop(machine);
    }

    /// In another machine.
    fn copied(&self, stick: PathBuf) {
        let mut copy = self.machine(2, stick);
        let line = copy.wait_line("A medium is for one machine", BOOT_LIMIT);
        println!("  {}", line.unwrap_or_else(|error| panic!("{error}")).text.trim());
        let lines = copy.console().lines_from(0);
        assert!(!lines.iter().any(|line| line.text.contains(" enrolment done ")), "it came in");
    }

    /// Waits until the machine is taken in as its owner's; gives its node's key.
    fn boots(&self, machine: &mut Machine, owner: &str) -> PublicKey {
        let mut says = |text: &str| {
            let line = machine.wait_line(text, BOOT_LIMIT);
            let line = line.unwrap_or_else(|error| panic!("{error}"));
            println!("  {:>6.1} s  {}", line.at.as_secs_f32(), line.text.trim());
            line.text
        };
        says("Linux version");
        let command_line = says(" command-line done ");
        assert!(command_line.contains(&format!("it is {owner}'s")), "{command_line}");
        says(" root done ");
        let enrolled = says(" enrolment done ");
        assert!(enrolled.contains(&format!("owned by {owner}")), "{enrolled}");
        let mac = machine.spec().mac.clone();
        let detail = Provisioner::machine(&mac).unwrap();
        detail.machine.node.unwrap()
    }
}
