//! The edge: carries out what the runner and the supervisor decide, one event after another.

mod api;
mod attempts;
mod cards;
mod known;
mod service;
mod settled;

use crate::{
    api::{Wish, Wished},
    hotplug, hurry,
    kernel::{End, Kernel, Uevents},
    net::Network,
    plan::{PLAN, Row, Stage},
    power,
    report::{Report, Reporter},
    rescue,
    runner::{Action, Event, Runner},
    supervise, watchdog,
    watchdog::Watchdogs,
};
use attempts::Facts;
use protocol::{
    Digest,
    boot::{STAGE_POWER, STAGE_STANDS, StageState},
    node_api::NODE_API_PORT,
    nvidia::Reading,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::{AbortHandle, spawn_local},
    time::{sleep, timeout},
};

/// How long the last events may take to reach the provisioner when the machine ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What is in the queue at any time: at most one end of an attempt for each stage, and one more
/// that was given up.
const QUEUE: usize = 4 * Stage::COUNT;
/// Wishes of operators that wait; each of them waits for its answer.
const WISHES: usize = 8;

/// A machine from mounts to its end.
pub struct Machine<N: Network> {
    kernel: Arc<dyn Kernel>,
    network: N,
    reporter: Rc<Reporter>,
    boot_id: Digest,
    facts: RefCell<Facts>,
    delivering: Cell<bool>,
    /// Whether its certificate is looked after.
    known: Cell<bool>,
    /// What operators wish, by the node API.
    wishes: mpsc::Sender<Wished>,
    wished: RefCell<Option<mpsc::Receiver<Wished>>>,
    api_port: u16,
    /// Opened before the first search for drivers, so that no device falls between the two.
    appearing: RefCell<Option<Box<dyn Uevents>>>,
    standing: RefCell<Option<settled::Standing>>,
    settled: Cell<bool>,
    /// What NVIDIA's library said of the cards last.
    readings: RefCell<Vec<Reading>>,
    /// The service's last sign of progress.
    sign: Rc<Cell<Duration>>,
    /// How often the kernel killed it for want of memory.
    memory_kills: Cell<u64>,
    /// Whether a medium with the node's key was looked for.
    sought: Cell<bool>,
    /// Which boot in a row this is that none before it came to stand, once the provisioner said so.
    boot_number: Cell<Option<u32>>,
    /// Where it gives pieces of its root, before the node API takes the port over.
    giving: RefCell<Option<attempts::Door>>,
}

impl<N: Network> Machine<N> {
    /// A machine whose kernel just started us.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        network: N,
        reporter: Rc<Reporter>,
        boot_id: Digest,
    ) -> Rc<Self> {
        Rc::new(Self::with_api_port(kernel, network, reporter, boot_id, NODE_API_PORT))
    }

    fn with_api_port(
        kernel: Arc<dyn Kernel>,
        network: N,
        reporter: Rc<Reporter>,
        boot_id: Digest,
        api_port: u16,
    ) -> Self {
        let (wishes, wished) = mpsc::channel(WISHES);
        Self {
            kernel,
            network,
            reporter,
            boot_id,
            facts: RefCell::default(),
            delivering: Cell::new(false),
            known: Cell::new(false),
            wishes,
            wished: RefCell::new(Some(wished)),
            api_port,
            appearing: RefCell::default(),
            standing: RefCell::default(),
            settled: Cell::new(false),
            readings: RefCell::default(),
            sign: Rc::default(),
            memory_kills: Cell::new(0),
            sought: Cell::default(),
            boot_number: Cell::default(),
            giving: RefCell::default(),
        }
    }

    /// Boots, works until somebody asks the machine to end, or it must restart; gives how it is to
    /// end. Power buttons ask by `requests` too. Runs in a [`tokio::task::LocalSet`].
    pub async fn run(
        self: Rc<Self>,
        requests: mpsc::Sender<power::Request>,
        mut requested: mpsc::Receiver<power::Request>,
    ) -> io::Result<End> {
        let (ends, mut ended) = mpsc::channel(QUEUE);
        let wished = self.wished.borrow_mut().take();
        let mut wished = wished.ok_or_else(|| io::Error::other("a machine runs once"))?;
        let mut children = signal(SignalKind::child())?;
        if let Err(error) = self.kernel.take_ctrl_alt_del() {
            let detail = format!("Ctrl-Alt-Del restarts the machine at once: {error}");
            self.say(STAGE_POWER, StageState::Failed, &detail);
        }

        let mut runner = Runner::new(&PLAN);
        let mut service = supervise::State::Idle;
        let mut attempts: BTreeMap<Stage, AbortHandle> = BTreeMap::new();
        let mut dogs = Watchdogs::default();
        let mut row: Option<rescue::State> = None;
        let mut event = Event::Tick;
        let end = 'working: loop {
            if let (None, Some(number)) = (row, self.boot_number.get()) {
                row = Some(self.begin_row(&mut runner, number));
            }
            for action in runner.step(self.kernel.since_start(), event) {
                match action {
                    Action::Begin { stage: Stage::Compute, attempt } => {
                        let result = self.first_start(&mut service).map_err(|e| e.to_string());
                        let done = Event::Ended { stage: Stage::Compute, attempt, result };
                        let _ = ends.try_send(done);
                    }
                    Action::Begin { stage, attempt } => {
                        let handle = self.clone().begin(stage, attempt, ends.clone());
                        attempts.insert(stage, handle);
                    }
                    Action::GiveUp { stage, .. } => {
                        attempts.remove(&stage).inspect(AbortHandle::abort);
                    }
                    Action::Report { stage, state, took, detail } => {
                        self.report(stage, state, took, &detail);
                        if matches!(stage, Stage::Modules | Stage::Drivers)
                            && state != StageState::Started
                        {
                            let last = (stage, state) == (Stage::Drivers, StageState::Done);
                            self.arm_watchdogs(&mut dogs, last);
                        }
                        if (stage, state) == (Stage::Compute, StageState::Done) {
                            let _ = hurry::end(self.kernel.as_ref());
                            self.row(&mut row, rescue::Event::Ready);
                        }
                        if stage == Stage::Modules && state != StageState::Started {
                            power::listen_to_buttons(self.kernel.as_ref(), &requests);
                            self.clone().watch_devices();
                        }
                    }
                    Action::Restart => break 'working End::Restart,
                }
            }
            event = 'waiting: loop {
                self.row(&mut row, rescue::Event::Tick);
                let stands = row.and_then(|row| row.wake());
                let due = [runner.wake(), service.wake(), stands].into_iter().flatten().min();
                self.feed(&mut dogs, due, &service);
                let wake = [due, dogs.wake()].into_iter().flatten().min();
                let now = self.kernel.since_start();
                let pause = wake.map_or(Duration::MAX, |wake| wake.saturating_sub(now));
                tokio::select! {
                    Some(done) = ended.recv() => break 'waiting done,
                    Some((end, whose)) = requested.recv() => {
                        self.ends(whose);
                        break 'working end;
                    }
                    Some(wish) = wished.recv() => {
                        let rescue = row == Some(rescue::State::Rescue);
                        if let Some(end) = self.fulfil(wish, &mut service, rescue) {
                            break 'working end;
                        }
                    }
                    _ = children.recv() => self.reap(&mut service),
                    () = sleep(pause) => {
                        self.look_after(&mut service);
                        break 'waiting Event::Tick;
                    }
                }
            };
        };
        self.end(service, &mut children).await;
        Ok(end)
    }

    /// Does something beside everything else, for as long as the machine runs. Where it panics the
    /// machine restarts: without its leases or its API it would be there, and nobody could tell why.
    fn aside(self: &Rc<Self>, name: &'static str, work: impl Future + 'static) -> AbortHandle {
        let task = spawn_local(async move { drop(work.await) });
        let handle = task.abort_handle();
        let machine = self.clone();
        spawn_local(async move {
            let Err(error) = task.await else { return };
            if error.is_panic() {
                machine.say(name, StageState::Failed, &internal(&error));
                machine.broken().await;
            }
        });
        handle
    }

    /// Has the machine restart, which cannot go on as it is.
    async fn broken(&self) {
        let (answer, _) = oneshot::channel();
        let _ = self.wishes.send(Wished { wish: Wish::Broken, answer }).await;
    }

    /// Loads drivers for devices that appear from now on.
    fn watch_devices(self: Rc<Self>) {
        let Some(uevents) = self.appearing.take() else { return };
        let machine = self.clone();
        self.aside("hotplug", async move {
            let report = |state, detail: String| machine.say("hotplug", state, &detail);
            hotplug::run(machine.kernel.clone(), uevents, report).await;
        });
    }

    /// Whether boots before this one failed; after too many this one is a rescue.
    fn begin_row(&self, runner: &mut Runner, number: u32) -> rescue::State {
        let (row, told) = rescue::State::new(number);
        if row == rescue::State::Rescue {
            runner.rescue(&[Stage::Registration, Stage::Compute]);
            let _ = hurry::end(self.kernel.as_ref());
        }
        if let Some((state, detail)) = told {
            self.say("rescue", state, &detail);
        }
        row
    }

    fn row(&self, row: &mut Option<rescue::State>, event: rescue::Event) {
        let now = self.kernel.since_start();
        if let Some(told) = row.as_mut().and_then(|row| row.step(now, event)) {
            self.say(STAGE_STANDS, StageState::Done, &told);
        }
    }

    /// The hardware's watchdogs, as far as their drivers are there; after the `last` none comes.
    fn arm_watchdogs(&self, dogs: &mut Watchdogs, last: bool) {
        for told in dogs.arm(self.kernel.as_ref()) {
            match told {
                Ok(detail) => self.say("watchdog", StageState::Done, &detail),
                Err(detail) => self.say("watchdog", StageState::Failed, &detail),
            }
        }
        if last && dogs.is_empty() {
            self.say("watchdog", StageState::Failed, "none; a machine that hangs is not reset");
        }
    }

    /// Feeds the watchdogs by the loop's progress.
    fn feed(&self, dogs: &mut Watchdogs, due: Option<Duration>, service: &supervise::State) {
        let progress = watchdog::Progress { due, unkillable: service.unkillable() };
        if let Some(reason) = dogs.look(self.kernel.since_start(), &progress) {
            self.say("watchdog", StageState::Failed, &reason);
        }
    }

    /// Somebody asked the machine to end.
    fn ends(&self, whose: &str) {
        self.say(STAGE_POWER, StageState::Started, &format!("asked by {whose}"));
    }

    fn say(&self, stage: &str, state: StageState, detail: &str) {
        self.reporter.say(&Report { stage, state, took: None, detail, shown: true });
    }

    fn report(&self, stage: Stage, state: StageState, took: Duration, detail: &str) {
        // The console hears of a beginning only where somebody else is waited for.
        let waits = PLAN.iter().any(|row: &Row| row.stage == stage && row.waits);
        let shown = state != StageState::Started || waits;
        let took = (state != StageState::Started).then_some(took);
        self.reporter.say(&Report { stage: stage.name(), state, took, detail, shown });
    }

    /// Begins an attempt; its end comes by `ends`, be it by a panic.
    fn begin(self: Rc<Self>, stage: Stage, attempt: u32, ends: mpsc::Sender<Event>) -> AbortHandle {
        let attempt_of = spawn_local(self.attempt(stage));
        let handle = attempt_of.abort_handle();
        spawn_local(async move {
            let result = match attempt_of.await {
                Ok(result) => result,
                Err(error) if error.is_cancelled() => return,
                Err(error) => Err(internal(&error)),
            };
            let _ = ends.send(Event::Ended { stage, attempt, result }).await;
        });
        handle
    }

    /// Collects every process that ended, the service's and orphans alike.
    fn reap(&self, service: &mut supervise::State) {
        while let Some((pid, exit)) = self.kernel.reap() {
            let exit = if service.pid() == Some(pid) { self.why(exit) } else { exit };
            self.supervise(service, supervise::Event::Exited(pid, exit));
        }
    }

    /// Ends the service, and gives the last events a moment.
    async fn end(&self, mut service: supervise::State, children: &mut tokio::signal::unix::Signal) {
        self.supervise(&mut service, supervise::Event::End);
        // Killed after its grace, and given that long again to be collected.
        let limit = self.kernel.since_start() + 2 * supervise::GRACE;
        while service != supervise::State::Ended && self.kernel.since_start() < limit {
            let now = self.kernel.since_start();
            let pause = service.wake().unwrap_or(limit).min(limit).saturating_sub(now);
            let _ = timeout(pause, children.recv()).await;
            self.reap(&mut service);
            self.supervise(&mut service, supervise::Event::Tick);
        }
        match service {
            supervise::State::Ended => self.say(STAGE_POWER, StageState::Done, "no service runs"),
            _ => self.say(STAGE_POWER, StageState::Failed, "the service did not end; it is left"),
        }
        if self.delivering.get() {
            let _ = timeout(LAST_WORDS, self.reporter.all_delivered()).await;
        }
    }
}

fn internal(error: &tokio::task::JoinError) -> String {
    format!("a mistake of ours ended it ({error}): report it with the lines above")
}

#[cfg(test)]
pub(crate) mod tests;
