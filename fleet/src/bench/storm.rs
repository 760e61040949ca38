//! A thousand machines that are switched on together, against one alone: the whole way, with an image
//! so small that its bytes take no time.

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
    keep(
        Row::new("storm", "images that leave us, with peers helping", "images")
            .not_yet("<= 2 a site", "machines do not fetch from each other"),
    );
    Ok(())
}
