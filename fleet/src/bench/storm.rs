//! A thousand machines that are switched on together, against one alone: the whole way, with an image
//! so small that its bytes take no time. And a thousand that fetch their root from each other.

use super::{
    Bed,
    row::{Better, Row},
    runtime,
};
use crate::{
    boot::{Stage, Way},
    run::{self, Plan},
    sample::Sizes,
    site,
    summary::Summary,
    swarm::Sharing,
};
use anyhow::Context;
use std::{sync::Arc, time::Duration};

const MACHINES: u32 = 1_000;
/// How often one boots alone.
const ALONE: u32 = 7;
/// EDK2 collects offers for its first wait, 4 s, before it takes one: nothing that a server does
/// makes that shorter, for one machine or for a thousand.
const EDK2_WAIT: Duration = Duration::from_secs(4);
/// The 99th percentile may be so many times one machine's time.
const GOAL: f64 = 0.5;
/// The root is as large as a real one; what firmware fetches comes from us alone, with or without peers.
const SHARED: Sizes = Sizes { root: 6 << 20, ..Sizes::SMALL };

pub(super) fn run(bed: &Bed, keep: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    for (name, wait) in
        [("no waits of firmware's", Duration::ZERO), ("EDK2's wait of 4 s", EDK2_WAIT)]
    {
        let provisioner = bed.provisioner(&Sizes::SMALL)?;
        let runtime = runtime()?;
        let mut first = 0;
        let mut go = |machines: u32| -> anyhow::Result<Summary> {
            let server = Some(provisioner.id());
            let plan = Plan { machines, first, over: 0.0, beats: None, server };
            first += machines;
            Ok(runtime.block_on(async {
                let mut site = site::machines(Way::WHOLE)?;
                site.offer_wait = wait;
                run::run(Arc::new(site), plan).await
            })?)
        };
        let mut alone = Vec::new();
        let turns = if wait.is_zero() { ALONE } else { 1 };
        for _ in 0..turns {
            let summary = go(1)?;
            let boot = summary.stage(Stage::Boot);
            alone.push(boot.with_context(|| format!("one alone does not boot: {summary}"))?.max);
        }
        alone.sort_by(f64::total_cmp);
        let one = alone[alone.len() / 2];
        let storm = go(MACHINES)?;
        let p99 = storm.stage(Stage::Boot).map_or(f64::INFINITY, |boot| boot.p99);
        let mut slowest: Vec<_> = storm
            .stages
            .iter()
            .filter(|stage| stage.stage != Stage::Boot)
            .map(|stage| (stage.p99, stage.stage.name()))
            .collect();
        slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
        let slowest: Vec<String> =
            slowest.iter().take(5).map(|(p99, name)| format!("{name} {p99:.2} s")).collect();
        let server = storm.server;
        let note = format!(
            "{} of {} came through in {:.2} s, {} asked or sent again; p99 of {}; CPU {:.2} s, memory {:.0} MB{}",
            storm.finished,
            storm.machines,
            storm.seconds,
            storm.retries,
            slowest.join(", "),
            server.map_or(0.0, |server| server.cpu_seconds),
            server.map_or(0.0, |server| server.max_rss as f64 / 1e6),
            storm.failures.first().map_or(String::new(), |failure| format!(
                "; {} ended at {}: {}",
                failure.machines,
                failure.stage.name(),
                failure.reason
            )),
        );
        let case = format!("{MACHINES} machines, p99, {name}");
        let mut row = Row::new("storm", case, "s")
            .against(p99, "one machine alone", Some(one), Better::Less, GOAL)
            .note(note);
        row.met = row.met.map(|met| met && storm.failed == 0);
        keep(row);
    }
    keep(sharing(bed)?);
    Ok(())
}

/// A thousand that fetch their root from each other: how often it leaves us.
fn sharing(bed: &Bed) -> anyhow::Result<Row> {
    let provisioner = bed.provisioner(&SHARED)?;
    let (machines, server) = (MACHINES, Some(provisioner.id()));
    let plan = Plan { machines, first: 0, over: 0.0, beats: None, server };
    let way = Way { firmware: false, ..Way::WHOLE };
    let summary = runtime()?.block_on(async {
        let mut site = site::machines(way)?;
        site.sharing = Some(Sharing::default());
        run::run(Arc::new(site), plan).await
    })?;
    let peers = summary.peers.clone().context("they did not share")?;
    let images = peers.origin as f64 / SHARED.root as f64;
    let root = summary.stage(Stage::Root);
    let server = summary.server;
    let note = format!(
        "roots of {:.1} MB to {} of {} machines in {:.2} s from their boot scripts on, all on this host's \
         processors; a root within {:.2} s (half of them), {:.2} s (99 of 100); {:.1} MB from us, {:.1} MB \
         from each other; {} fetched all from us{}; CPU of ours {:.2} s, memory {:.0} MB",
        SHARED.root as f64 / 1e6,
        summary.finished,
        summary.machines,
        summary.seconds,
        root.map_or(f64::NAN, |root| root.p50),
        root.map_or(f64::NAN, |root| root.p99),
        peers.origin as f64 / 1e6,
        peers.peers as f64 / 1e6,
        peers.plain,
        peers.why.map_or(String::new(), |why| format!(" ({why})")),
        server.map_or(0.0, |server| server.cpu_seconds),
        server.map_or(0.0, |server| server.max_rss as f64 / 1e6),
    );
    let case = format!("{MACHINES} machines with peers helping, roots that leave us");
    let mut row = Row::new("storm", case, "images").at_most(images, 2.0).note(note);
    row.met = row.met.map(|met| met && summary.failed == 0);
    Ok(row)
}
