//! `cargo xtask fleet`: simulated machines against a provisioner that the user names, or against one
//! of their own.

use crate::{build, workspace};
use anyhow::{Context, bail};
use clap::Args;
use fleet::{
    Plan, Summary, Target,
    boot::{Site, Way},
    dhcp::Wire,
    run::{self, Beats},
    sample::{self, Sizes},
    siege,
    site::{self, Own, Parts},
    target::Server,
};
use lab::sandbox;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::runtime::Runtime;

/// Simulated machines boot from a provisioner by the real protocols, to size a site.
///
/// Each has its own MAC address, UUID and node key, the same in every run, and goes the whole way:
/// DHCP as EDK2, TFTP, DHCP as iPXE, boot scripts, kernel, microcode, initramfs, DHCP as the running
/// system, time, release, root, TPM challenge, enrolment, events. Nobody is spoken to but the
/// provisioner that is named; without one, the fleet has a provisioner of its own, in namespaces.
#[derive(Args, Debug)]
#[command(after_help = "Try:
  cargo xtask fleet 100
  cargo xtask fleet 1000 --over 60
  cargo xtask fleet 20 --interface eth1
  cargo xtask fleet 20 --server http://10.0.0.1:8080 --no-dhcp

Machines of a fleet become known to the provisioner that is named, and are taken in where it takes \
in whoever comes (--approval automatic). Their MAC addresses begin with 02:f1:ee.")]
pub struct Flags {
    /// How many machines
    machines: u32,
    /// The provisioner, http://10.0.0.1:8080. With --interface it is spoken to by its wire; without,
    /// DHCP goes to it as through a relay at our address
    #[arg(long, value_name = "URL")]
    server: Option<Server>,
    /// The interface of the provisioner's network; DHCP is broadcast there. Needs root
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Begin at the boot script, without DHCP and TFTP
    #[arg(long, requires = "server")]
    no_dhcp: bool,
    /// Seconds over which they start; all at once without
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    over: f64,
    /// Seconds for which firmware collects offers; EDK2 does for 4
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    offer_wait: f64,
    /// Seconds for which machines go on reporting once they stand
    #[arg(long, value_name = "SECONDS")]
    hold: Option<f64>,
    /// Seconds between two of a machine's reports then
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    every: f64,
    /// The number of the first machine, where several fleets share a provisioner
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    first: u32,
    /// Machines fetch their root from each other too, as real ones do where the provisioner says so
    #[arg(long)]
    peers: bool,
    /// Do not digest what is fetched: on one host with the provisioner that takes its processors
    #[arg(long)]
    no_digest: bool,
    /// The provisioner's process, where it runs on this host: its CPU time and memory are told
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The image of the fleet's own provisioner [default: one of random bytes, as large as a real one]
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["server", "interface"])]
    image: Option<PathBuf>,
    /// Attack the fleet's own provisioner in all the ways known while machines boot, and tell what held
    /// (the count of machines is not looked at)
    #[arg(long, conflicts_with_all = ["server", "interface", "image"])]
    siege: bool,
    /// One JSON object, for scripts
    #[arg(long)]
    json: bool,
    /// Inside of the namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

/// Runs a fleet.
///
/// # Errors
/// Where it cannot begin, or not every machine came through.
pub fn run(flags: Flags) -> anyhow::Result<()> {
    if flags.inside && flags.siege {
        return besieged(&flags);
    }
    if flags.inside {
        return told(&flags, &inside(&flags)?);
    }
    if flags.server.is_some() || flags.interface.is_some() {
        return told(&flags, &Runtime::new()?.block_on(against(&flags))?);
    }
    build::programs_quietly()?;
    // The same words again, inside.
    let words = std::env::args_os().skip(1).chain(["--inside".into()]).collect::<Vec<_>>();
    let mut sandbox = sandbox::enter(sandbox::privilege()?, &words, Vec::new())?;
    let status = sandbox.wait()?;
    if !status.success() {
        bail!(
            "{}",
            if flags.siege { "not all of it held" } else { "not every machine came through" }
        );
    }
    Ok(())
}

/// The image of a provisioner that is attacked: a kernel that does not fit into a socket's buffers.
const BESIEGED: Sizes = Sizes { kernel: 12 << 20, ..Sizes::SMALL };

fn besieged(flags: &Flags) -> anyhow::Result<()> {
    site::network()?;
    let folder = tempfile::Builder::new().prefix("alia-siege-").tempdir()?;
    let (image, ipxe) = (folder.path().join("image"), folder.path().join("ipxe"));
    sample::image(&image, &BESIEGED)?;
    sample::boot_files(&ipxe)?;
    let parts = Parts { program: workspace::program("provisioner"), image, ipxe };
    let own = Own::start(&parts, &folder.path().join("provisioner"))?;
    let mut show = |row: &siege::report::Row| {
        if flags.json {
            println!("{}", serde_json::to_string(row).unwrap_or_default());
        } else {
            println!("{row}");
        }
    };
    let rows = Runtime::new()?.block_on(siege::run(&own, &mut show))?;
    match rows.iter().filter(|row| !row.held()).count() {
        0 => Ok(()),
        some => bail!("{some} of {} attacks did not hold", rows.len()),
    }
}

fn told(flags: &Flags, summary: &Summary) -> anyhow::Result<()> {
    if flags.json {
        println!("{}", serde_json::to_string(summary)?);
    } else {
        print!("{summary}");
    }
    if summary.failed > 0 {
        bail!("{} of {} machines did not come through", summary.failed, summary.machines);
    }
    Ok(())
}

fn plan(flags: &Flags, server: Option<u32>) -> Plan {
    let beats = flags.hold.map(|lasting| Beats { every: flags.every, lasting });
    Plan { machines: flags.machines, first: flags.first, over: flags.over, beats, server }
}

fn settings(flags: &Flags, mut site: Site) -> anyhow::Result<Arc<Site>> {
    site.offer_wait = Duration::try_from_secs_f64(flags.offer_wait).context("--offer-wait")?;
    site.digests = !flags.no_digest;
    site.sharing = flags.peers.then(Default::default);
    Ok(Arc::new(site))
}

/// Against a provisioner that was named.
async fn against(flags: &Flags) -> anyhow::Result<Summary> {
    let target = flags.server.map_or_else(Target::default, |server| Target::named(*server.0.ip()));
    let way = Way { firmware: !flags.no_dhcp, ..Way::WHOLE };
    let mut site = Site::new(target, way, site::salt());
    site.base = flags.server.map(|server| server.0);
    site.wire = match (&flags.interface, &flags.server) {
        _ if flags.no_dhcp => None,
        (Some(interface), _) => Some(Wire::on(interface)?),
        (None, Some(server)) => Some(Wire::relay(server.our_side()?, *server.0.ip())?),
        (None, None) => return Err(fleet::Error::NoTarget.into()),
    };
    Ok(run::run(settings(flags, site)?, plan(flags, flags.pid)).await?)
}

/// Against a provisioner of its own.
fn inside(flags: &Flags) -> anyhow::Result<Summary> {
    site::network()?;
    let folder = tempfile::Builder::new().prefix("alia-fleet-").tempdir()?;
    let image = match &flags.image {
        Some(image) => std::path::absolute(image)?,
        None => {
            let image = folder.path().join("image");
            sample::image(&image, &Sizes::REAL)?;
            image
        }
    };
    let ipxe = folder.path().join("ipxe");
    sample::boot_files(&ipxe)?;
    let parts = Parts { program: workspace::program("provisioner"), image, ipxe };
    let own = Own::start(&parts, &folder.path().join("provisioner"))?;
    let plan = plan(flags, Some(own.id()));
    let run = async { Ok(run::run(settings(flags, site::machines(Way::WHOLE)?)?, plan).await?) };
    Runtime::new()?.block_on(run)
}
