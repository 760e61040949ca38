//! From power-on to a machine that is registered, against a bare netboot of the same kernel by the
//! same firmware: an initramfs with one program in it, which says that it runs and nothing more.

use super::{Line, Pair, Show};
use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
    up::{
        corpus::make_job,
        network::{page_url, parameter_server},
        plan::{Corpus, Size},
        watchers::Watcher,
    },
    workspace::{self, program},
};
use anyhow::{Context, bail};
use cli::submit::submit;
use image::{build::compressed, cpio};
use lab::{
    Accelerator, Machine, MachineSpec, Ready, Service, ServiceSpec, accel, console,
    machine::{BootsFrom, Firmware},
    net::{self, SERVER},
    sandbox,
    services::{Comet, Dhcp, Provisioner},
    tools::Purpose,
};
use protocol::{
    Digest, SecretKey,
    boot::{ImageFile, ImageManifest},
    node_api::NodeMetrics,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

const TURNS: usize = 2;
const READY: Duration = Duration::from_secs(60);
/// A boot under software emulation takes half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
const CHAIN: &str = "alia-lab";
const RPC_PORT: u16 = 26_657;
const TAP: &str = "tap0";
/// What PID 1 does by itself, from its first instruction; the other stages wait for somebody, and are
/// left out whole, with what they reckon themselves.
const OWN_STAGES: [&str; 12] = [
    INIT,
    "mounts",
    "hardening",
    "command-line",
    "clock",
    "identity",
    "modules",
    "firewall",
    "drivers",
    "inventory",
    "api",
    "compute",
];
/// PID 1 before the stages of its plan.
const INIT: &str = "init";
/// Cold boot to registered may take so many times the bare boot.
const GOAL_TIMES_BARE: f64 = 1.3;
/// Seconds of PID 1's own, where processors are emulated and where they are not.
const GOAL_OWN: (f64, f64) = (1.0, 0.3);

/// Seconds from the end of firmware to the first work that is taken.
const GOAL_RECEIPT: f64 = 5.0;
/// Between two looks for it.
const LOOK: Duration = Duration::from_millis(50);
/// Megabytes of an idle node.
const GOAL_MEMORY: f64 = 150.0;
/// Until a machine that is registered has nothing to do any more.
const SETTLES: Duration = Duration::from_secs(10);

/// What is to be booted, found before the network is left behind.
#[derive(Serialize, Deserialize)]
struct Plan {
    image: PathBuf,
    bare: PathBuf,
    ipxe: PathBuf,
    ovmf: (PathBuf, PathBuf),
    comet: PathBuf,
    kvm: bool,
    reason: String,
}

pub(super) fn run(sources: &Sources, kernel: KernelFrom, is_json: bool) -> anyhow::Result<()> {
    setup::install(kernel.purpose().max(Purpose::Up))?;
    build::programs_quietly()?;
    build::init()?;
    let packages = setup::packages(sources)?;
    let (files, comet) = setup::tools(&packages)?;
    let image = workspace::target().join("bench-image");
    build::image_into(&packages, kernel, build::CPU, &image)?;
    let bare = bare(&image, packages.cache())?;
    let Firmware::Ovmf { code, variables } = files.ovmf else { bail!("OVMF is wanted") };
    let choice = accel::probe(Some(&image));
    let plan = Plan {
        image,
        bare,
        ipxe: files.ipxe,
        ovmf: (code, variables),
        comet,
        kvm: choice.accelerator == Accelerator::Kvm,
        reason: choice.reason,
    };
    let path = workspace::target().join("bench-boot.json");
    fs::write(&path, serde_json::to_vec_pretty(&plan)?)?;
    let mut arguments = vec!["bench".into(), "--inside".into(), "--plan".into(), path.into()];
    arguments.extend(is_json.then(|| "--json".into()));
    let mut sandbox = sandbox::enter(sandbox::privilege()?, &arguments, Vec::new())?;
    let status = sandbox.wait()?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

/// An image with the same kernel, and nothing but PID 1 before it.
fn bare(image: &Path, cache: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace::target().join("bench-bare");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut tree = cpio::Tree::default();
    tree.put("/dev/console", cpio::Node::Device { major: 5, minor: 1 })?;
    tree.put("/proc", cpio::Node::Folder)?;
    tree.file("/init", fs::read(workspace::init())?, true)?;
    let initramfs = compressed(&tree.to_newc(), 19, cache)?;
    let manifest = fs::read(image.join("manifest.json"))?;
    let mut manifest: ImageManifest = serde_json::from_slice(&manifest)?;
    manifest.initramfs = ImageFile {
        file: "initramfs.zst".into(),
        digest: Digest::of_bytes(&initramfs),
        bytes: initramfs.len() as u64,
    };
    fs::write(folder.join("initramfs.zst"), initramfs)?;
    for file in fs::read_dir(image)? {
        let file = file?;
        // The release is another image's.
        let name = file.file_name();
        let left = ["initramfs.zst", "release.bundle"].iter().any(|left| name == *left);
        if file.file_type()?.is_file() && !left {
            fs::copy(file.path(), folder.join(file.file_name()))?;
        }
    }
    fs::write(folder.join("manifest.json"), serde_json::to_vec_pretty(&manifest)?)?;
    Ok(folder)
}

/// Seconds from power-on.
#[derive(Clone, Debug, Default)]
struct Times {
    /// To the network's boot loader: firmware is over.
    loader: f64,
    kernel: f64,
    init: f64,
    enrolled: f64,
    registered: f64,
    /// Of PID 1, where it waits for nobody: each stage's, some of them beside one another.
    stages: Vec<Span>,
    /// Megabytes in use, of a machine that waits for work.
    memory: f64,
}

pub(super) fn inside(plan: &Path, show: Show<'_>) -> anyhow::Result<()> {
    sandbox::inside()?;
    let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
    eprintln!("{}", plan.reason);
    net::make(&net::Plan { taps: vec![TAP.into()], foreign: false })?;
    let folder = tempfile::tempdir()?;
    let _chain = chain(&plan, folder.path())?;

    let (code, variables) = plan.ovmf.clone();
    for firmware in [Firmware::Ovmf { code, variables }, Firmware::SeaBios] {
        let name = firmware.name();
        let (mut best, mut times) = (Pair { ours: f64::INFINITY, theirs: f64::INFINITY }, None);
        for turn in 0..TURNS {
            let bed = folder.path().join(format!("{name}-{turn}"));
            let whole = whole(&plan, &firmware, &bed.join("whole"))?;
            best.theirs = best.theirs.min(bare_boot(&plan, &firmware, &bed.join("bare"))?);
            if whole.registered < best.ours {
                best.ours = whole.registered;
                times = Some(whole);
            }
        }
        let times = times.context("no boot was measured")?;
        let goal = format!("bare netboot x {GOAL_TIMES_BARE}");
        let of = Pair { ours: best.ours, theirs: best.theirs * GOAL_TIMES_BARE };
        show(Line::time("boot", format!("{name}: power-on to registered"), goal, "s", of));
        let stages = [
            ("firmware", times.loader),
            ("boot loader and download", times.kernel - times.loader),
            ("kernel", times.init - times.kernel),
            ("init to enrolled", times.enrolled - times.init),
            ("enrolled to registered in a block", times.registered - times.enrolled),
        ];
        for (stage, seconds) in stages {
            let of = Pair { ours: seconds, theirs: best.theirs };
            let case = format!("{name}: {stage}");
            show(Line::time("boot", case, "bare netboot, all of it".into(), "s", of));
        }
        let goal = if plan.kvm { GOAL_OWN.1 } else { GOAL_OWN.0 };
        let own = own(&times.stages);
        for Span { stage, from, to } in times.stages {
            let of = Pair { ours: to - from, theirs: own };
            let case = format!("{name}: init's stage {stage}");
            show(Line::time("boot", case, "init's own time, all of it".into(), "s", of));
        }
        let of = Pair { ours: own, theirs: goal };
        show(Line::time("boot", format!("{name}: init's own time"), "goal".into(), "s", of));
        let of = Pair { ours: times.memory, theirs: GOAL_MEMORY };
        let case = format!("{name}: memory of an idle node");
        show(Line::time("boot", case, "goal".into(), "MB", of));
        let bed = folder.path().join(format!("{name}-receipt"));
        let of = Pair { ours: first_receipt(&plan, &firmware, &bed)?, theirs: GOAL_RECEIPT };
        let emulated = if plan.kvm { "" } else { ", emulated" };
        let case = format!("{name}: end of firmware to first receipt{emulated}");
        show(Line::time("boot", case, "goal under KVM".into(), "s", of));
    }
    if !plan.kvm {
        eprintln!(
            "the goals from firmware to first receipt and of init's 0.3 s are for KVM, which does \
             not work here: unmeasured"
        );
    }
    Ok(())
}

/// The chain that machines register on.
fn chain(plan: &Plan, folder: &Path) -> anyhow::Result<[Service; 2]> {
    let application = "unix:///run/abci.sock";
    let home = folder.join("abci-app");
    let app = Service::start_ready(
        ServiceSpec::new("abci-app", program("abci-app"), &home)
            .args(["--listen", application, "--home"])
            .arg(&home)
            .ready(Ready::Line("listens on".into())),
        READY,
    )?;
    let comet = Comet {
        program: plan.comet.clone(),
        home: folder.join("cometbft"),
        chain: CHAIN.parse()?,
        rpc: SocketAddr::from(([0, 0, 0, 0], RPC_PORT)),
        p2p: SocketAddr::from(([127, 0, 0, 1], 26_656)),
        application: application.into(),
        commit_ms: 500,
        idle_seconds: 5,
    };
    comet.init()?;
    Ok([app, Service::start_ready(comet.service(), READY)?])
}

/// Boots a machine from what a provisioner serves, with more words on its kernel's command line,
/// until `until` shows.
fn boot(
    plan: &Plan,
    firmware: &Firmware,
    folder: &Path,
    image: &Path,
    words: &[&str],
    until: &str,
    is_idle: bool,
) -> anyhow::Result<(Vec<console::Line>, f64)> {
    let owner = SecretKey::generate()?;
    let (_provisioner, mut machine) = start(plan, firmware, folder, image, words, &owner)?;
    machine.wait_line(until, PATIENCE)?;
    let used = if is_idle { idle(&mut machine, folder, &owner)? } else { 0.0 };
    Ok((machine.console().lines_from(0), used))
}

/// Switches a machine on, and what serves it before that.
fn start(
    plan: &Plan,
    firmware: &Firmware,
    folder: &Path,
    image: &Path,
    words: &[&str],
    owner: &SecretKey,
) -> anyhow::Result<(Service, Machine)> {
    fs::create_dir_all(folder)?;
    let provisioner = Provisioner {
        program: program("provisioner"),
        folder: folder.into(),
        dhcp: Dhcp::Full,
        image: image.into(),
        ipxe: plan.ipxe.clone(),
        bios_file: Some("ipxe.pxe".into()),
        uki: None,
        chain: CHAIN.parse()?,
        owner: owner.clone(),
        ledgers: vec![format!("http://{SERVER}:{RPC_PORT}")],
        parameter_servers: vec![format!("http://{SERVER}:8070")],
    };
    let mut service = provisioner.service()?;
    for word in words {
        service = service.args(["--kernel-argument", word]);
    }
    let service = Service::start_ready(service, READY)?;
    let machine = Machine::start(MachineSpec {
        name: firmware.name().into(),
        firmware: firmware.clone(),
        accelerator: if plan.kvm { Accelerator::Kvm } else { Accelerator::Tcg },
        memory: 1024,
        processors: 1,
        clock: None,
        processor: Default::default(),
        mac: "52:54:00:a1:1a:01".into(),
        tap: TAP.into(),
        boots: BootsFrom::Network,
        uuid: "00000000-0000-4000-8000-000000000001".into(),
        serial: "LAB1".into(),
        tpm: None,
        devices: Vec::new(),
        oem_string: None,
        nice: 0,
        folder: folder.into(),
    })?;
    Ok((service, machine))
}

/// Seconds from the end of firmware until work of the machine's is taken, where work waits for it.
fn first_receipt(plan: &Plan, firmware: &Firmware, folder: &Path) -> anyhow::Result<f64> {
    let (owner, chain) = (SecretKey::generate()?, CHAIN.parse()?);
    let (_, spec) = parameter_server(&folder.join("paramserver"), &chain, &owner)?;
    let _server = Service::start_ready(spec, READY)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watcher = Watcher::new()?;
    let prepared = make_job(&Corpus::Grammar, Size::Small, owner.public())?;
    let order = prepared.order();
    let submitted = submit(&watcher.ledger, &watcher.server, &chain, &owner, &order, |_| {});
    runtime.block_on(submitted)?;
    let (_provisioner, machine) = start(plan, firmware, folder, &plan.image, &[], &owner)?;
    let begun = Instant::now();
    let taken = loop {
        let jobs = runtime.block_on(watcher.server.jobs())?;
        if jobs.iter().any(|job| job.job == prepared.id() && job.receipts > 0) {
            break begun.elapsed();
        }
        if begun.elapsed() > PATIENCE {
            bail!("no work was taken within {} s", PATIENCE.as_secs());
        }
        thread::sleep(LOOK);
    };
    Ok(taken.as_secs_f64() - at(&machine.console().lines_from(0), "iPXE")?)
}

/// Megabytes that a machine uses that waits for work, by its own account.
fn idle(machine: &mut Machine, folder: &Path, owner: &SecretKey) -> anyhow::Result<f64> {
    machine.wait_line(" compute done ", PATIENCE)?;
    thread::sleep(SETTLES);
    let key = folder.join("owner.key");
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&key)?;
    writeln!(file, "{}", owner.to_hex())?;
    let output = Command::new(program("alia"))
        .args(["--json", "node", "metrics", &machine.spec().mac])
        .args(["--provisioner", &page_url(), "--key"])
        .arg(&key)
        .output()?;
    if !output.status.success() {
        bail!("alia node metrics: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metrics: NodeMetrics = serde_json::from_slice(&output.stdout)?;
    Ok((metrics.memory.total - metrics.memory.available) as f64 / 1e6)
}

fn at(lines: &[console::Line], text: &str) -> anyhow::Result<f64> {
    let line = lines.iter().find(|line| line.text.contains(text));
    Ok(line.with_context(|| format!("no {text:?} on the console"))?.at.as_secs_f64())
}

fn whole(plan: &Plan, firmware: &Firmware, folder: &Path) -> anyhow::Result<Times> {
    let done = " registration done ";
    let (lines, memory) = boot(plan, firmware, folder, &plan.image, &[], done, true)?;
    let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let stages = spans(text.iter().copied());
    let before =
        stages.iter().find(|span| span.stage == INIT).context("PID 1 tells no beginning")?;
    let log = workspace::target().join(format!("bench-boot-{}.log", firmware.name()));
    fs::write(log, text.join("\n"))?;
    Ok(Times {
        memory,
        loader: at(&lines, "iPXE")?,
        kernel: at(&lines, "Linux version")?,
        init: at(&lines, " init done ")? - (before.to - before.from),
        enrolled: at(&lines, " enrolment done ")?,
        registered: at(&lines, " registration done ")?,
        stages,
    })
}

fn bare_boot(plan: &Plan, firmware: &Firmware, folder: &Path) -> anyhow::Result<f64> {
    let (words, done) = (["alia.probe"], accel::PROBE_LINE);
    let (lines, _) = boot(plan, firmware, folder, &plan.bare, &words, done, false)?;
    at(&lines, accel::PROBE_LINE)
}

/// A stage that waits for nobody, in seconds since the kernel's start.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    stage: String,
    from: f64,
    to: f64,
}

/// Reads those of [`OWN_STAGES`] off a console: `alia 3.214s modules done 0.412s …`.
fn spans<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Span> {
    let seconds = |word: &str| word.strip_suffix('s')?.parse::<f64>().ok();
    let span = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "alia").skip(1);
        let to = seconds(words.next()?)?;
        let (stage, state, took) = (words.next()?, words.next()?, seconds(words.next()?)?);
        let is_own = OWN_STAGES.contains(&stage) && state == "done";
        is_own.then(|| Span { stage: stage.into(), from: to - took, to })
    };
    lines.filter_map(span).collect()
}

/// Seconds in which one of them ran, counted once where several did.
fn own(spans: &[Span]) -> f64 {
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_by(|a, b| a.from.total_cmp(&b.from));
    let (mut all, mut until) = (0.0, f64::NEG_INFINITY);
    for Span { from, to, .. } in spans {
        all += (to - from.max(until)).max(0.0);
        until = until.max(*to);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_waits_for_is_not_its_own_time() {
        let lines = [
            "alia 8.236s mounts done 0.044s 6 file systems",
            "alia 8.614s modules done 0.378s 4 loaded: failover",
            "alia 8.500s identity done 0.200s node, beside it",
            "alia 8.617s network started",
            "alia 8.971s network done 0.357s eth0",
            "alia 9.1s compute retrying 0.100s why",
            "[    1.0] random: crng init done",
        ];
        let spans = spans(lines.into_iter());
        assert!((own(&spans) - 0.422).abs() < 1e-9, "{spans:?}");
    }
}
