//! Ten thousand machines that run, and a provisioner that has nothing to do.

use super::{Bed, row::Row, runtime};
use crate::{
    boot::{Stage, Way},
    http::Connection,
    process,
    run::{self, Beats, Plan},
    sample::Sizes,
    site,
};
use anyhow::Context;
use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

/// As many as a provisioner keeps.
const MACHINES: u32 = 10_000;
/// Seconds between two reports of a machine.
const EVERY: f64 = 30.0;
/// Seconds that they are watched.
const LASTING: f64 = 30.0;
/// Seconds over which they come in before.
const COMING: f64 = 20.0;
const IDLE: Duration = Duration::from_secs(3);
const MEGABYTE: f64 = 1e6;
/// The page is fetched so often; the middle counts.
const LOOKS: usize = 7;

pub(super) fn run(bed: &Bed, keep: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let provisioner = bed.provisioner(&Sizes::SMALL)?;
    let runtime = runtime()?;
    sleep(IDLE);
    let idle = provisioner.usage();
    keep(
        Row::new("fleet", "idle memory (RSS)", "MB")
            .at_most(idle.rss as f64 / MEGABYTE, 50.0)
            .note(format!("PSS {:.1} MB", idle.pss as f64 / MEGABYTE)),
    );

    let go = |way: Way, over: f64, beats: Option<Beats>| {
        let plan =
            Plan { machines: MACHINES, first: 0, over, beats, server: Some(provisioner.id()) };
        runtime.block_on(async { run::run(site::shared_machines(way)?, plan).await })
    };
    let came = go(Way::NODE, COMING, None)?;
    let server = came.server.context("the provisioner is gone")?;
    keep(
        Row::new("fleet", format!("{MACHINES} machines taken in"), "1/s")
            .shown(came.finished as f64 / came.seconds)
            .note(format!(
                "{} of {}, CPU {:.2} ms a machine, at most {:.0} MB{}",
                came.finished,
                came.machines,
                server.cpu_seconds * 1e3 / came.machines as f64,
                server.max_rss as f64 / MEGABYTE,
                came.failures.first().map_or(String::new(), |failure| format!(
                    "; {} ended at {}: {}",
                    failure.machines,
                    failure.stage.name(),
                    failure.reason
                ))
            )),
    );

    let beats = Beats { every: EVERY, lasting: LASTING };
    let before = provisioner.usage();
    let began = Instant::now();
    let none = Way { firmware: false, image: false, node: false };
    let beaten = go(none, 0.0, Some(beats))?;
    let seconds = began.elapsed().as_secs_f64();
    let after = provisioner.usage();
    let beat = beaten.stage(Stage::Beat).context("no machine reported anything")?;
    keep(
        Row::new("fleet", format!("{MACHINES} machines, a report each {EVERY} s"), "cores")
            .at_most((after.cpu_seconds - before.cpu_seconds) / seconds, 1.0)
            .note(format!(
                "{:.0} reports a second, each on a connection of its own; p50 {:.1} ms, p99 {:.1} ms; \
                 {} did not get through",
                beat.count as f64 / seconds,
                beat.p50 * 1e3,
                beat.p99 * 1e3,
                beaten.failures.iter().map(|failure| failure.machines).sum::<u64>()
            )),
    );
    let now = process::usage(provisioner.id()).unwrap_or_default();
    keep(Row::new("fleet", "memory afterwards (RSS)", "MB").shown(now.rss as f64 / MEGABYTE));

    for (case, path) in [
        ("the page of 10,000 machines", "/".to_owned()),
        ("a machine's page", "/machines/02-f1-ee-00-00-01".to_owned()),
    ] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..LOOKS {
            let began = Instant::now();
            let fetched = runtime.block_on(async {
                let mut connection = Connection::open(Ipv4Addr::UNSPECIFIED, site::base()).await?;
                connection.file(&path, false).await
            });
            bytes = fetched.map_err(anyhow::Error::msg)?.bytes;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        keep(
            Row::new("fleet", case, "ms")
                .at_most(times[times.len() / 2], 100.0)
                .note(format!("{:.0} kB", bytes as f64 / 1e3)),
        );
    }
    Ok(())
}
