//! A provisioner of our own on a hostile network: each attack at its full rate while machines boot.
//!
//! | file | what |
//! |---|---|
//! | [`attack`] | what strangers do, from two hundred addresses |
//! | [`report`] | what of it held: machines, memory, tables |
//!
//! Only against a provisioner that this program started, in a network that ends with it.

pub mod attack;
pub mod report;

use crate::{
    bench::tls,
    boot::{Site, Stage, Way},
    error::Error,
    http::Connection,
    process,
    run::{self, Plan},
    site::{self, Own},
    summary::Summary,
    target::Target,
};
use attack::{ATTACKS, Attack, Field};
use report::{Fullest, Row};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Machines that boot while each attack lasts: as many known ones as new ones.
const EACH: u32 = 10;
/// They begin over so many seconds.
const OVER: f64 = 5.0;
/// Between two attacks: what the first one holds is given up.
const REST: Duration = Duration::from_secs(3);
/// How long a request by HTTPS may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Beside the image's folder; no answer may have it.
const SECRET: &str = "nobody outside of this host may read this";

/// Runs all attacks on `own`, one after the other; each row is shown as it is there.
///
/// # Errors
/// Where it cannot begin, or the provisioner is gone.
pub async fn run(own: &Own, show: &mut dyn FnMut(&Row)) -> Result<Vec<Row>, Error> {
    let secret = own.folder.join("secret.txt");
    fs::write(&secret, SECRET).map_err(|source| Error::File { path: secret, source })?;
    let site = site::machines(Way::WHOLE)?;
    let known = Plan { machines: EACH, first: 0, over: 0.0, beats: None, server: None };
    // They become known; then all is measured once in peace.
    boots(&another(&site), known).await?;
    let mut next = EACH;
    let mut rows = Vec::new();
    for attack in ATTACKS {
        let row = one(own, &another(&site), attack, &mut next).await?;
        show(&row);
        rows.push(row);
        sleep(REST).await;
    }
    Ok(rows)
}

/// The same site for other boots of the same machines.
fn another(site: &Site) -> Arc<Site> {
    let mut another = Site::new(Target::named(lab::net::SERVER), site.way, site::salt());
    another.base = site.base;
    another.own_addresses = site.own_addresses;
    another.wire = site.wire.clone();
    Arc::new(another)
}

async fn boots(site: &Arc<Site>, plan: Plan) -> Result<Summary, Error> {
    run::run(site.clone(), plan).await
}

async fn one(own: &Own, site: &Arc<Site>, attack: &Attack, next: &mut u32) -> Result<Row, Error> {
    let field = Field {
        secret: SECRET,
        folder: own.folder.clone(),
        sent: Arc::new(AtomicU64::new(0)),
        breach: Arc::default(),
    };
    let before = own.usage();
    let began = std::time::Instant::now();
    let attacking = tokio::spawn((attack.run)(field.clone()));
    sleep(attack.before).await;
    let plan = Plan { machines: EACH, first: 0, over: OVER, beats: None, server: None };
    let known = boots(site, plan);
    let plan = Plan { first: *next, ..plan };
    *next += EACH;
    let (known, new, fullest, https, rss) =
        tokio::join!(known, boots(site, plan), fullest(), https(), most_memory(own));
    let after = own.usage();
    let seconds = began.elapsed().as_secs_f64();
    attacking.abort();
    let _ = attacking.await;
    let (known, new) = (known?, new?);
    let p99 = |summary: &Summary| summary.stage(Stage::Boot).map(|boot| boot.p99);
    let reasons = known.failures.iter().chain(&new.failures);
    Ok(Row {
        name: attack.name.into(),
        what: attack.what.into(),
        sent: field.sent.load(Ordering::Relaxed),
        seconds,
        known: (known.finished, known.machines),
        new: (new.finished, new.machines),
        new_are_refused: attack.new_are_refused,
        p99: [p99(&known), p99(&new)].into_iter().flatten().fold(0.0, f64::max),
        failures: reasons.map(|why| format!("{}: {}", why.stage.name(), why.reason)).collect(),
        cores: (after.cpu_seconds - before.cpu_seconds) / seconds,
        memory: rss.max(after.rss),
        fullest,
        https,
        breach: field.breach.lock().map(|breach| breach.clone()).unwrap_or_default(),
    })
}

/// The most memory that it has while machines boot.
async fn most_memory(own: &Own) -> u64 {
    let mut most = 0;
    for _ in 0..(OVER as u32 * 4) {
        most = most.max(process::usage(own.id()).unwrap_or_default().rss);
        sleep(Duration::from_millis(250)).await;
    }
    most
}

/// The table that is fullest by the provisioner's own word, in the midst of it.
async fn fullest() -> Option<Fullest> {
    sleep(Duration::from_secs_f64(OVER / 2.0)).await;
    let mut connection = Connection::open(Ipv4Addr::UNSPECIFIED, site::base()).await.ok()?;
    report::fullest(&connection.text("/metrics").await.ok()?)
}

/// How long one request by HTTPS takes from its connection on, in the midst of it.
async fn https() -> Option<f64> {
    sleep(Duration::from_secs_f64(OVER / 2.0)).await;
    let connector = tls::connector().ok()?;
    let place = SocketAddrV4::new(lab::net::SERVER, attack::HTTPS_PORT);
    let began = std::time::Instant::now();
    let asked = async {
        let stream = TcpStream::connect(place).await.ok()?;
        let mut stream =
            connector.connect(std::net::IpAddr::from(*place.ip()).into(), stream).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.ok()?;
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.ok()?;
        (&answer == b"HTTP/1.1 200 OK").then(|| began.elapsed().as_secs_f64())
    };
    timeout(PATIENCE, asked).await.ok()?
}

/// Whether a text, or part of a file, is the secret.
pub(crate) fn is_secret(bytes: &[u8], secret: &str, folder: &Path) -> bool {
    let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    let key = fs::read(folder.join("provisioner.key")).unwrap_or_default();
    let key = key.trim_ascii();
    holds(secret.as_bytes()) || (key.len() >= 32 && holds(key))
}
