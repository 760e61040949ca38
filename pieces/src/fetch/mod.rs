//! The fetching side: carries out what [`schedule`](crate::schedule) decides.

mod origin;
mod peer;

use crate::{
    held::Held,
    outline::{Outline, OutlineError},
    schedule::{Action, Event, Schedule, Source},
    shop::Shop,
};
use bytes::Bytes;
use protocol::{
    PublicKey,
    pieces::{MAX_GIVERS, Swarm},
};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
    time::{sleep_until, timeout},
};

/// How long the first answers may take before all is fetched as if there were no peers.
const FIRST: Duration = Duration::from_secs(5);
/// How long all of it may take: so long, and as long as a poor network takes for its bytes. Whoever gave a
/// piece now and then would make a machine wait for ever.
const LONGEST: Duration = Duration::from_secs(120);
const SLOWEST: u64 = 256 << 10;
/// Events that wait: whoever has one waits with it.
const QUEUE: usize = 64;

/// What is outside: the provisioner, sockets, and where pieces are kept.
pub trait Edge: Send + Sync + 'static {
    /// Asks the provisioner who has pieces; the answer's signature is checked.
    fn ask(&self, asked: Asked) -> impl Future<Output = Result<Swarm, String>> + Send;
    /// Fetches the file's outline from the provisioner.
    fn outline(&self) -> impl Future<Output = Result<Bytes, String>> + Send;
    /// Fetches a part of the file from the provisioner; each part goes to `parts` as it comes. Ends
    /// where nobody takes them any more.
    fn origin(
        &self,
        range: Range<u64>,
        parts: mpsc::Sender<Bytes>,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// Connects to a peer.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
    /// Keeps a verified piece that begins there.
    ///
    /// # Errors
    /// The system's: the fetch ends by it.
    fn keep(&self, at: u64, piece: &[u8]) -> io::Result<()>;
}

/// What is asked of the provisioner.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Counts up.
    pub number: u32,
    /// What is there.
    pub held: Held,
    /// Peers that are of no use.
    pub avoid: Vec<PublicKey>,
    /// How long no piece came.
    pub stuck: Duration,
}

/// What came from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes from the provisioner.
    pub origin: u64,
    /// Bytes from peers.
    pub peers: u64,
    /// Questions to the provisioner.
    pub questions: u32,
    /// Peers that gave something.
    pub givers: u32,
}

/// The file did not come by pieces.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// This machine shall fetch all of it from the provisioner.
    #[error("peers are off here")]
    Off,
    /// The provisioner does not say who has pieces.
    #[error("the provisioner does not say who has pieces: {0}")]
    Untold(String),
    /// What verifies pieces cannot be had.
    #[error("what verifies pieces is not right: {0}")]
    Outline(#[from] OutlineError),
    /// A piece cannot be kept.
    #[error("a piece cannot be kept: {0}")]
    Keep(io::Error),
    /// Nothing came for a minute.
    #[error("no piece came for a minute, from peers or from the provisioner")]
    Nothing,
    /// It took too long.
    #[error("pieces came too slowly: not all of them within {} s", .0.as_secs())]
    Late(Duration),
}

/// How long a file of so many bytes may take.
fn longest(bytes: u64) -> Duration {
    LONGEST + Duration::from_secs(bytes / SLOWEST)
}

impl FetchError {
    /// Whether the file may be had otherwise.
    pub fn leaves_a_download(&self) -> bool {
        !matches!(self, Self::Keep(_))
    }
}

/// What a task has to say, in which turn of its source.
enum Said {
    Piece { from: Source, turn: u64, piece: u32, content: Vec<u8> },
    Of { from: Source, turn: u64, event: Event },
    Swarm(Box<Result<Swarm, String>>),
}

/// Somebody who is asked.
struct Task {
    turn: u64,
    handle: AbortHandle,
    /// The next piece of a peer.
    wants: Option<mpsc::Sender<u32>>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// A fetch under way.
struct Fetch<E> {
    edge: Arc<E>,
    shop: Arc<Shop>,
    outline: Arc<Outline>,
    addresses: BTreeMap<PublicKey, SocketAddr>,
    tasks: BTreeMap<Source, Task>,
    says: mpsc::Sender<Said>,
    turn: u64,
    number: u32,
    fetched: Fetched,
    gave: std::collections::BTreeSet<PublicKey>,
}

/// Fetches all pieces that a shop has not got, and puts them there; `seed` is another number on each
/// machine.
///
/// # Errors
/// Where it did not come, and whether that leaves a download.
pub async fn run<E: Edge>(edge: Arc<E>, shop: Arc<Shop>, seed: u64) -> Result<Fetched, FetchError> {
    let late = |_| Err("no answer in time".to_owned());
    let held = shop.held();
    let first = Asked { number: 0, held: held.clone(), avoid: Vec::new(), stuck: Duration::ZERO };
    let (swarm, outline) =
        tokio::join!(async { timeout(FIRST, edge.ask(first)).await.unwrap_or_else(late) }, async {
            timeout(FIRST, edge.outline())
                .await
                .unwrap_or_else(|_| Err("no outline in time".into()))
        },);
    let swarm = swarm.map_err(FetchError::Untold)?;
    if swarm.site.is_none() {
        return Err(FetchError::Off);
    }
    let outline = outline.map_err(FetchError::Untold)?;
    let outline = Outline::check(shop.file(), shop.layout().bytes(), &outline)?;
    let (says, mut said) = mpsc::channel(QUEUE);
    let began = Instant::now();
    let most = longest(shop.layout().bytes());
    let mut fetch = Fetch {
        edge,
        shop,
        outline: Arc::new(outline),
        addresses: BTreeMap::new(),
        tasks: BTreeMap::new(),
        says,
        turn: 0,
        number: 0,
        fetched: Fetched { questions: 1, ..Fetched::default() },
        gave: Default::default(),
    };
    let mut schedule = Schedule::with(Duration::ZERO, held, seed);
    let mut event = Some(fetch.told(swarm));
    loop {
        if let Some(event) = event.take() {
            for action in schedule.step(began.elapsed(), event) {
                match action {
                    Action::Done => return Ok(fetch.over()),
                    Action::GiveUp => return Err(FetchError::Nothing),
                    action => fetch.act(action, &schedule),
                }
            }
        }
        if began.elapsed() >= most {
            return Err(FetchError::Late(most));
        }
        let wake = began + schedule.wake().unwrap_or(FIRST).min(most);
        tokio::select! {
            Some(said) = said.recv() => event = fetch.hear(said)?,
            () = sleep_until(wake.into()) => event = Some(Event::Tick),
        }
    }
}

impl<E: Edge> Fetch<E> {
    fn over(mut self) -> Fetched {
        self.fetched.givers = self.gave.len() as u32;
        self.fetched
    }

    /// What the provisioner said; it settles whom we give to, too.
    fn told(&mut self, swarm: Swarm) -> Event {
        self.shop.open(swarm.site, swarm.rate);
        let count = self.shop.layout().count();
        let mut givers = Vec::new();
        for giver in swarm.givers.into_iter().take(MAX_GIVERS) {
            self.addresses.insert(giver.key, giver.address);
            givers.push((giver.key, Held::read(count, &giver.held)));
        }
        let pieces = swarm
            .granted
            .iter()
            .flat_map(|run| run.first..run.first.saturating_add(run.count).min(count));
        let again = Duration::from_millis(swarm.again_ms.into());
        Event::Told { givers, granted: pieces.take(count as usize).collect(), again }
    }

    fn act(&mut self, action: Action, schedule: &Schedule) {
        match action {
            Action::Fetch { from, first, count } => self.fetch(from, first, count),
            Action::Cancel(from) => {
                self.tasks.remove(&from);
            }
            Action::Ask { avoid, stuck } => {
                self.number += 1;
                self.fetched.questions += 1;
                let held = schedule.held().clone();
                let asked = Asked { number: self.number, held, avoid, stuck };
                let (edge, says) = (self.edge.clone(), self.says.clone());
                tokio::spawn(async move {
                    let swarm = edge.ask(asked).await;
                    let _ = says.send(Said::Swarm(Box::new(swarm))).await;
                });
            }
            Action::Done | Action::GiveUp => {}
        }
    }

    fn fetch(&mut self, from: Source, first: u32, count: u32) {
        self.turn += 1;
        let turn = self.turn;
        let (edge, says) = (self.edge.clone(), self.says.clone());
        let outline = self.outline.clone();
        let task = match from {
            Source::Origin(_) => {
                let asked = origin::Asked { from, turn, first, count };
                let handle = tokio::spawn(origin::fetch(edge, outline, asked, says));
                Task { turn, handle: handle.abort_handle(), wants: None }
            }
            Source::Peer(key) => {
                // One whose connection stands goes on with it.
                if let Some(task) = self.tasks.get_mut(&from) {
                    let open = task.wants.as_ref().is_some_and(|to| to.try_send(first).is_ok());
                    if open {
                        return;
                    }
                }
                let Some(address) = self.addresses.get(&key).copied() else { return };
                let (wants, wanted) = mpsc::channel(1);
                let _ = wants.try_send(first);
                let peer = peer::Whom { key, address, turn };
                let handle = tokio::spawn(peer::fetch(edge, outline, peer, wanted, says));
                Task { turn, handle: handle.abort_handle(), wants: Some(wants) }
            }
        };
        self.tasks.insert(from, task);
    }

    /// What is to be stepped by; nothing where it is of a fetch that was ended.
    fn hear(&mut self, said: Said) -> Result<Option<Event>, FetchError> {
        let current = |tasks: &BTreeMap<Source, Task>, from: &Source, turn: u64| {
            tasks.get(from).is_some_and(|task| task.turn == turn)
        };
        Ok(match said {
            Said::Swarm(swarm) => Some(match *swarm {
                Ok(swarm) if swarm.site.is_some() => self.told(swarm),
                Ok(_) => {
                    self.shop.open(None, 0);
                    Event::Untold
                }
                Err(_) => Event::Untold,
            }),
            Said::Piece { from, turn, piece, content } => {
                if !current(&self.tasks, &from, turn) {
                    return Ok(None);
                }
                let at = self.shop.layout().range(piece).start;
                self.edge.keep(at, &content).map_err(FetchError::Keep)?;
                self.shop.put(piece);
                match from {
                    Source::Origin(_) => self.fetched.origin += content.len() as u64,
                    Source::Peer(key) => {
                        self.fetched.peers += content.len() as u64;
                        self.gave.insert(key);
                    }
                }
                Some(Event::Came { from, piece })
            }
            Said::Of { from, turn, event } => current(&self.tasks, &from, turn).then_some(event),
        })
    }
}
