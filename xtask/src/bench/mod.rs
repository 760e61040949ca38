//! `cargo xtask bench`: each case against the peer it names, in the same run, turn by turn, so
//! that a busy or a slow machine weighs on both.

mod boot;
mod check_tx;
mod matmul;
mod peer;
mod provisioner;
mod step;
mod tftp;

use crate::{
    build::{self, KernelFrom},
    setup::{self, Sources},
};
use anyhow::bail;
use lab::tools::Purpose;
use serde::Serialize;
use std::path::PathBuf;

/// Times what is ours against its peer.
///
/// One line a case; a ratio above 1 always means that ours is better.
#[derive(clap::Args, Debug)]
pub struct Flags {
    #[command(flatten)]
    sources: Sources,
    /// One object a line, for scripts.
    #[arg(long)]
    json: bool,
    /// The kernel that `boot` boots.
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelFrom,
    /// Only this one: matmul, step, tftp, check-tx, boot or provisioner. Without a name all but
    /// `step`, whose peer (PyTorch) is a download of gigabytes, and `provisioner`, which takes
    /// minutes of both processors.
    #[arg(value_name = "NAME")]
    only: Option<String>,
    /// Of `provisioner` only these works: http, tftp, dhcp, storm, fleet.
    #[arg(long, value_name = "NAME")]
    work: Vec<String>,
    /// Inside of the namespaces in which `tftp`, `boot` and `provisioner` run.
    #[arg(long, hide = true)]
    inside: bool,
    /// What `boot` boots and `provisioner` measures, there.
    #[arg(long, hide = true)]
    plan: Option<PathBuf>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Which bench.
    pub bench: &'static str,
    /// Which case of it.
    pub case: String,
    /// Our figure.
    pub ours: f64,
    /// Whom we are held against.
    pub peer: String,
    /// Its figure.
    pub theirs: f64,
    /// Of both figures.
    pub unit: &'static str,
    /// Above 1 ours is better.
    pub ratio: f64,
}

impl Line {
    /// Of which more is better.
    fn rate(bench: &'static str, case: String, peer: String, unit: &'static str, of: Pair) -> Self {
        let ratio = of.ours / of.theirs;
        Self { bench, case, ours: of.ours, peer, theirs: of.theirs, unit, ratio }
    }

    /// Of which less is better.
    fn time(bench: &'static str, case: String, peer: String, unit: &'static str, of: Pair) -> Self {
        let ratio = of.theirs / of.ours;
        Self { bench, case, ours: of.ours, peer, theirs: of.theirs, unit, ratio }
    }
}

/// Two figures of one unit.
#[derive(Clone, Copy, Debug)]
struct Pair {
    ours: f64,
    theirs: f64,
}

impl Pair {
    /// Measures turn by turn, and takes each side's best: what else the machine does only ever
    /// slows a turn down.
    fn fastest(
        turns: usize,
        mut ours: impl FnMut() -> anyhow::Result<f64>,
        mut theirs: impl FnMut() -> anyhow::Result<f64>,
    ) -> anyhow::Result<Self> {
        let mut best = Self { ours: f64::INFINITY, theirs: f64::INFINITY };
        for _ in 0..turns {
            best.ours = best.ours.min(ours()?);
            best.theirs = best.theirs.min(theirs()?);
        }
        Ok(best)
    }
}

/// Shows a case as it is done.
type Show<'a> = &'a mut dyn FnMut(Line);

/// Runs the benches.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    let is_json = flags.json;
    let mut show = |line: Line| {
        if is_json {
            println!("{}", serde_json::to_string(&line).unwrap_or_default());
        } else {
            println!(
                "{:<9} {:<46} ours {:>9.2} {:<8} {:<28} {:>9.2}  ratio {:.2}",
                line.bench, line.case, line.ours, line.unit, line.peer, line.theirs, line.ratio
            );
        }
    };
    if flags.inside {
        return match (&flags.plan, flags.only.as_deref()) {
            (Some(plan), Some("provisioner")) => provisioner::inside(plan, is_json),
            (Some(plan), _) => boot::inside(plan, &mut show),
            (None, _) => tftp::inside(&mut show),
        };
    }
    let names = ["matmul", "step", "tftp", "check-tx", "boot", "provisioner"];
    if let Some(name) = flags.only.as_deref().filter(|name| !names.contains(name)) {
        bail!("there is no bench {name:?}; there are {}", names.join(", "));
    }
    let is_wanted = |name: &str| match flags.only.as_deref() {
        Some(only) => only == name,
        None => !matches!(name, "step" | "provisioner"),
    };
    if !is_json {
        let more = ["by pip, for `bench step` alone: torch, gigabytes of it"];
        let more = if is_wanted("step") { &more[..] } else { &[] };
        let peers =
            ["nginx, dnsmasq-base, kea-dhcp4-server, tftpd-hpa: for `bench provisioner` alone"];
        let more = if is_wanted("provisioner") { &peers[..] } else { more };
        if !setup::announce(&flags.sources, Purpose::Bench, more)? {
            return Ok(());
        }
    }
    setup::install(Purpose::Bench)?;
    if is_wanted("matmul") {
        matmul::run(&mut show)?;
    }
    if is_wanted("step") {
        step::run(&mut show)?;
    }
    if is_wanted("tftp") {
        build::programs_quietly()?;
        tftp::run(is_json)?;
    }
    if is_wanted("check-tx") {
        check_tx::run(&mut show)?;
    }
    if is_wanted("boot") {
        boot::run(&flags.sources, flags.kernel, is_json)?;
    }
    if is_wanted("provisioner") {
        build::programs_quietly()?;
        provisioner::run(&flags.sources, flags.work, is_json)?;
    }
    Ok(())
}
