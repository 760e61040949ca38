//! The services and machines of one network, started inside.

use super::plan::Plan;
use crate::workspace::program;
use anyhow::Context;
use identity::keyfile;
use lab::{
    Accelerator, Machine, MachineSpec, Ready, Service, ServiceSpec,
    net::{self, SERVER},
    services::{Comet, Provisioner, foreign_dhcp},
};
use protocol::{ChainId, PublicKey, SecretKey, Signed, node::Delegation};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The chain's id.
pub const CHAIN: &str = "alia-lab";
/// CometBFT's RPC port.
pub const RPC_PORT: u16 = 26_657;
/// The parameter server's port.
pub const SERVER_PORT: u16 = 8_070;
/// The provisioner's port.
pub const PAGE_PORT: u16 = 8_080;

/// A service is ready within this time or something is wrong.
const READY: Duration = Duration::from_secs(60);
/// Machines leave this much processor time to others while they boot, and once they work: with
/// the whole of it left, a busy host would starve them.
const NICE_WORKING: u8 = 10;
/// What a machine prints when its boot is over.
const BOOTED_LINE: &str = " compute done ";

/// A machine of this network.
pub struct LabMachine {
    /// The machine.
    pub machine: Machine,
    /// When it was switched on.
    pub started: Instant,
    /// From then to its last boot stage done, by its console.
    pub booted: Option<Duration>,
}

/// Everything that runs.
pub struct Network {
    /// The owner of all of it, who also asks for the work.
    pub owner: SecretKey,
    /// The chain.
    pub chain: ChainId,
    /// The host's worker's node.
    pub host: Option<PublicKey>,
    /// The parameter server's node.
    pub server: PublicKey,
    /// The machines.
    pub machines: Vec<LabMachine>,
    services: Vec<Service>,
}

/// CometBFT's RPC address, inside.
pub fn ledger_url() -> String {
    format!("http://{SERVER}:{RPC_PORT}")
}

/// The parameter server's address, inside.
pub fn server_url() -> String {
    format!("http://{SERVER}:{SERVER_PORT}")
}

/// The provisioner's address, inside.
pub fn page_url() -> String {
    format!("http://{SERVER}:{PAGE_PORT}")
}

impl Network {
    /// Starts the ledger, the parameter server, the provisioner and the host's worker. `say` hears
    /// of each.
    pub fn start(plan: &Plan, owner: SecretKey, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let taps = plan.machines.iter().enumerate().map(|(at, _)| tap(at)).collect();
        net::make(&net::Plan { taps, foreign: plan.proxy })?;
        let chain: ChainId = CHAIN.parse()?;
        let folder = |name: &str| plan.folder.join(name);
        let mut services = Vec::new();
        let mut start = |spec: ServiceSpec| -> anyhow::Result<()> {
            say(&format!("starting {}", spec.name));
            services.push(Service::start_ready(spec, READY)?);
            Ok(())
        };

        // The socket lies where its path is short enough.
        let application = "unix:///run/abci.sock";
        start(
            ServiceSpec::new("abci-app", program("abci-app"), folder("abci-app"))
                .args(["--listen", application, "--home"])
                .arg(folder("abci-app"))
                .ready(Ready::Line("listens on".into())),
        )?;
        let comet = Comet {
            program: plan.comet.clone(),
            home: folder("cometbft"),
            chain: chain.clone(),
            rpc: SocketAddr::from(([0, 0, 0, 0], RPC_PORT)),
            p2p: SocketAddr::from(([127, 0, 0, 1], 26_656)),
            application: application.into(),
            commit_ms: 500,
            idle_seconds: 5,
        };
        comet.init()?;
        start(comet.service())?;

        let (server_key, spec) = parameter_server(&folder("paramserver"), &chain, &owner)?;
        start(spec)?;
        let provisioner = Provisioner {
            program: program("provisioner"),
            folder: folder("provisioner"),
            dhcp: plan.dhcp(),
            image: plan.image.clone(),
            ipxe: plan.ipxe.clone(),
            // iPXE's own drivers fetch ten times faster than firmware's under emulation.
            bios_file: Some("ipxe.pxe".into()),
            uki: None,
            chain: chain.clone(),
            owner: owner.clone(),
            ledgers: vec![ledger_url()],
            parameter_servers: vec![server_url()],
        };
        start(provisioner.service()?)?;
        if plan.proxy {
            start(foreign_dhcp(&folder("foreign-dhcp")))?;
        }
        let mut host = None;
        if plan.host_worker {
            host = Some(delegated(&folder("worker"), &chain, &owner)?.public());
            let mut spec = ServiceSpec::new("worker", program("compute"), folder("worker"))
                .args(["standalone", "--chain", CHAIN, "--ledger", &ledger_url()])
                .args(["--parameter-server", &server_url(), "--key"])
                .arg(folder("worker").join("node.key"))
                .arg("--delegation")
                .arg(folder("worker").join("delegation.json"))
                .ready(Ready::Line("registered on the ledger".into()));
            if let Some(isa) = &plan.isa {
                spec.environment.push(("ALIA_ISA".into(), isa.clone()));
            }
            start(spec)?;
        }
        let server = server_key.public();
        Ok(Self { owner, chain, host, server, machines: Vec::new(), services })
    }

    /// Switches the machines on.
    pub fn boot(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let accelerator =
            if plan.accelerator == "kvm" { Accelerator::Kvm } else { Accelerator::Tcg };
        for (at, kind) in plan.machines.iter().enumerate() {
            let number = at + 1;
            let firmware = plan.firmware(*kind);
            let spec = MachineSpec {
                name: format!("{}-{number}", firmware.name()),
                firmware,
                accelerator,
                memory: 1024,
                processors: 1,
                clock: None,
                processor: Default::default(),
                mac: format!("52:54:00:a1:1a:{number:02x}"),
                tap: tap(at),
                boots: lab::machine::BootsFrom::Network,
                uuid: format!("00000000-0000-4000-8000-{number:012}"),
                serial: format!("LAB{number}"),
                nice: 0,
                tpm: None,
                devices: Vec::new(),
                oem_string: None,
                folder: plan.folder.join("machines"),
            };
            let machine = Machine::start(spec)?;
            let started = Instant::now();
            self.machines.push(LabMachine { machine, started, booted: None });
        }
        Ok(())
    }

    /// Looks after what runs: an error when a service has ended; a booted machine steps back.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for service in &mut self.services {
            service.check()?;
        }
        for each in &mut self.machines {
            if each.booted.is_none() {
                let lines = each.machine.console().lines_from(0);
                let last = lines.iter().find(|line| line.text.contains(BOOTED_LINE));
                if let Some(line) = last {
                    each.booted = Some(line.at);
                    each.machine.qemu().renice(NICE_WORKING)?;
                }
            }
            let name = each.machine.spec().name.clone();
            each.machine.qemu().check().with_context(|| format!("machine {name}"))?;
        }
        Ok(())
    }
}

fn tap(at: usize) -> String {
    format!("tap{at}")
}

/// A parameter server of an owner's; gives its key and how it is started.
pub fn parameter_server(
    folder: &Path,
    chain: &ChainId,
    owner: &SecretKey,
) -> anyhow::Result<(SecretKey, ServiceSpec)> {
    let key = delegated(folder, chain, owner)?;
    let spec = ServiceSpec::new("paramserver", program("paramserver"), folder)
        .args(["--chain", CHAIN, "--ledger", &ledger_url(), "--data"])
        .arg(folder)
        .arg("--delegation")
        .arg(folder.join("delegation.json"))
        .args(["--listen", &format!("0.0.0.0:{SERVER_PORT}")])
        .ready(Ready::Http(SocketAddr::from((SERVER, SERVER_PORT)), "/healthz".into()));
    Ok((key, spec))
}

/// A node key in a folder, with the owner's delegation to it beside.
fn delegated(folder: &Path, chain: &ChainId, owner: &SecretKey) -> anyhow::Result<SecretKey> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let key = keyfile::read_or_create(&folder.join("node.key"))?;
    let delegation = Signed::sign(chain, Delegation { delegate: key.public() }, owner);
    let path: PathBuf = folder.join("delegation.json");
    fs::write(&path, serde_json::to_vec(&delegation)?)
        .with_context(|| path.display().to_string())?;
    Ok(key)
}
