//! Many machines at once, or over some time.

use crate::{
    boot::{self, Site, Stage},
    error::Error,
    machine::{MAX_MACHINES, Machine},
    node::Node,
    process::{self, Usage},
    summary::{Gathered, Summary},
    swarm::Sharing,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

/// Sockets that one machine has at a time: a transfer's or a connection's, and one being closed.
const SOCKETS_EACH: u64 = 2;
/// What else the program has open.
const OTHER_FILES: u64 = 64;
/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(250);

/// How many machines, and when.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How many.
    pub machines: u32,
    /// The number of the first one: two runs at a time, or on two hosts, must not share machines.
    pub first: u32,
    /// Seconds over which they start, evenly; 0 for all at once.
    pub over: f64,
    /// What they do once they stand.
    pub beats: Option<Beats>,
    /// The provisioner's process, where it runs on this host.
    pub server: Option<u32>,
}

/// Reports of nodes that run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beats {
    /// Seconds between two reports of one machine.
    pub every: f64,
    /// Seconds that they go on for.
    pub lasting: f64,
}

/// Runs of this process: machines that boot again boot under another id, as real ones do.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Runs a fleet; gives its summary.
///
/// # Errors
/// Where it cannot begin.
pub async fn run(site: Arc<Site>, plan: Plan) -> Result<Summary, Error> {
    if plan.machines == 0 || plan.machines.saturating_add(plan.first) > MAX_MACHINES {
        return Err(Error::Count(plan.machines));
    }
    let places = Arc::new(Semaphore::new(files()? as usize));
    let gathered = Arc::new(Mutex::new(Gathered::default()));
    let before = plan.server.and_then(process::usage_of_all);
    let most = Arc::new(AtomicU64::new(0));
    let watch = plan.server.map(|id| tokio::spawn(look(id, most.clone())));
    let began = Instant::now();
    let salt = site.salt ^ RUNS.fetch_add(1, Ordering::Relaxed) << 48;
    let mut tasks = JoinSet::new();
    for number in 0..plan.machines {
        let (site, places, gathered) = (site.clone(), places.clone(), gathered.clone());
        let start = began
            + Duration::from_secs_f64(plan.over.max(0.0))
                .mul_f64(f64::from(number) / f64::from(plan.machines));
        tasks.spawn(async move {
            tokio::time::sleep_until(start.into()).await;
            let place = places.acquire().await.ok();
            let machine = Machine::new(plan.first + number, salt);
            // On the heap, and let go before the machine stands: ten thousand wait then.
            let (record, from) = Box::pin(boot::boot(&site, &machine)).await;
            drop(place);
            let stands = record.failure.is_none();
            lock(&gathered).add(record);
            if let Some(beats) = plan.beats.filter(|_| stands) {
                Box::pin(beat(&site, &machine, from, beats, &gathered, &places)).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let seconds = began.elapsed().as_secs_f64();
    let shared = site.shared_address.load(Ordering::Relaxed);
    let mut summary = lock(&gathered).summary(seconds, shared);
    summary.peers = site.sharing.as_ref().map(Sharing::summary);
    if let Some(watch) = watch {
        watch.abort();
    }
    let after = plan.server.and_then(process::usage_of_all);
    Ok(match (before, after) {
        (Some(before), Some(after)) => {
            summary.with_server(before, after, most.load(Ordering::Relaxed))
        }
        _ => summary,
    })
}

async fn beat(
    site: &Site,
    machine: &Machine,
    from: std::net::Ipv4Addr,
    beats: Beats,
    gathered: &Mutex<Gathered>,
    places: &Semaphore,
) {
    let Some(base) = site.base else { return };
    let Ok(network) = site.network(base).await else { return };
    let every = Duration::from_secs_f64(beats.every.max(0.1));
    let end = Instant::now() + Duration::from_secs_f64(beats.lasting.max(0.0));
    // Machines do not beat together: each begins at its own time within the first round.
    let share = f64::from(machine.number.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
    let mut next = Instant::now() + every.mul_f64(share);
    let mut node = Node::new(machine, &network, from).from_event(1_000);
    while next < end {
        tokio::time::sleep_until(next.into()).await;
        let began = Instant::now();
        let place = places.acquire().await.ok();
        let told = node.beat().await;
        drop(place);
        match told {
            Ok(()) => lock(gathered).time(Stage::Beat, began.elapsed().as_secs_f64()),
            Err(why) => lock(gathered).reason(Stage::Beat, why),
        }
        next += every;
    }
}

/// As many machines at a time as this process may have sockets for.
fn files() -> Result<u64, Error> {
    let failed = |error: nix::Error| Error::System("the limit of open files", error.into());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    // Root may have more than the hard limit; others take what there is.
    let wanted = hard.max(65_536);
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted) {
        Ok(()) => wanted,
        Err(_) => {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
            hard
        }
    };
    Ok((limit.saturating_sub(OTHER_FILES) / SOCKETS_EACH).clamp(1, u64::from(MAX_MACHINES)))
}

async fn look(id: u32, most: Arc<AtomicU64>) {
    loop {
        let Usage { rss, .. } = process::usage_of_all(id).unwrap_or_default();
        most.fetch_max(rss, Ordering::Relaxed);
        sleep(LOOK).await;
    }
}

fn lock(gathered: &Mutex<Gathered>) -> std::sync::MutexGuard<'_, Gathered> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}
