//! Twenty machines against a real provisioner, in namespaces.
//!
//! This program plays two parts: the test, and the program inside of the sandbox (`inside FOLDER`).
#![allow(clippy::unwrap_used, reason = "a panic is this test's failure")]

#[path = "namespace/sharing.rs"]
mod sharing;

use fleet::{
    Plan, Summary,
    boot::{Stage, Way},
    dhcp::Wire,
    sample::{self, Sizes},
    site::{self, Own, Parts},
    target::Target,
};
use lab::{net, sandbox};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

const MACHINES: u32 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("inside") {
        inside(Path::new(&arguments[2]));
        return ExitCode::SUCCESS;
    }
    // Tests that make namespaces run where `cargo xtask test` says so.
    if std::env::var_os("ALIA_BOOTS").is_none() {
        println!("skipped: ALIA_BOOTS is not set");
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let words = ["inside".into(), folder.path().into()];
    let mut sandbox = sandbox::enter(sandbox::privilege().unwrap(), &words, Vec::new()).unwrap();
    let status = sandbox.wait().unwrap();
    let word = if status.success() { "ok" } else { "FAILED" };
    println!("test twenty machines boot ... {word} ({:.1} s)", began.elapsed().as_secs_f32());
    let (passed, failed) = if status.success() { (1, 0) } else { (0, 1) };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Built by `cargo xtask test` before tests run.
fn program() -> PathBuf {
    std::env::var_os("ALIA_PROVISIONER").unwrap().into()
}

fn inside(folder: &Path) {
    site::network().unwrap();
    let parts =
        Parts { program: program(), image: folder.join("image"), ipxe: folder.join("ipxe") };
    let sizes = Sizes { kernel: 700_000, ..Sizes::SMALL };
    sample::image(&parts.image, &sizes).unwrap();
    sample::boot_files(&parts.ipxe).unwrap();
    if std::env::var_os("ALIA_ONLY_SHARING").is_some() {
        return sharing::run(&program(), &folder.join("sharing"));
    }
    let own = Own::start(&parts, &folder.join("provisioner")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plan =
        Plan { machines: MACHINES, first: 0, over: 0.0, beats: None, server: Some(own.id()) };

    let whole = runtime.block_on(async {
        let site = site::shared_machines(Way::WHOLE).unwrap();
        fleet::run(site, plan).await.unwrap()
    });
    println!("{whole}");
    all_came_through(&whole);
    let fetched = u64::from(MACHINES) * (sizes.total() + sample::BOOT_FILE);
    assert_eq!(whole.bytes, fetched, "every file of every machine, and not a byte more");
    assert_eq!(whole.shared_address, 0, "each spoke from its own address");
    assert!(whole.server.unwrap().max_rss > 1 << 20);

    // The provisioner says the same of them.
    let machines = lab::services::Provisioner::page("/v1/machines").unwrap();
    let machines: Vec<protocol::fleet::MachineStatus> = serde_json::from_str(&machines).unwrap();
    assert_eq!(machines.len(), MACHINES as usize);
    for machine in &machines {
        assert!(machine.node.is_some() && machine.problem.is_none(), "{machine:?}");
        let boot = machine.boot.as_ref().unwrap();
        for stage in ["dhcp", "tftp", "script", "kernel", "root"] {
            assert!(boot.stages.iter().any(|each| each.name == stage), "{stage}: {boot:?}");
        }
    }

    // The same machines, over a second, as through a relay.
    let relayed = runtime.block_on(async {
        let mut site = fleet::boot::Site::new(Target::named(net::SERVER), Way::WHOLE, site::salt());
        site.base = Some(site::base());
        site.wire = Some(Wire::relay(site::OURS, net::SERVER).unwrap());
        fleet::run(Arc::new(site), Plan { over: 1.0, ..plan }).await.unwrap()
    });
    all_came_through(&relayed);
    assert!(relayed.seconds > 0.9, "paced: {} s", relayed.seconds);

    // A server that was not named gets nothing, and the reason is told.
    let refused = runtime.block_on(async {
        let mut site = fleet::boot::Site::new(Target::named(site::OURS), Way::WHOLE, site::salt());
        site.wire = Some(Wire::on(site::INTERFACE).unwrap());
        fleet::run(Arc::new(site), Plan { machines: 2, ..plan }).await.unwrap()
    });
    assert_eq!((refused.finished, refused.failed), (0, 2));
    assert_eq!(refused.failures[0].stage, Stage::Tftp);
    assert!(refused.failures[0].reason.contains("was not named"), "{:?}", refused.failures);

    drop(own);
    sharing::run(&program(), &folder.join("sharing"));
}

fn all_came_through(summary: &Summary) {
    assert_eq!(summary.finished, u64::from(MACHINES), "{:?}", summary.failures);
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Beat) {
        let times = summary.stage(stage).unwrap_or_else(|| panic!("no {}", stage.name()));
        assert_eq!(times.count, u64::from(MACHINES), "{}", stage.name());
    }
}
