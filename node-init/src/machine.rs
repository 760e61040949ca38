//! The edge: carries out what the runner and the supervisor decide, one event after another.

use crate::{
    http::Base,
    kernel::{End, Kernel, Pid, Started},
    lines::Lines,
    mac::Mac,
    net::{Network, WAITS},
    plan::{PLAN, Row, Stage},
    power,
    report::{Report, Reporter},
    runner::{Action, Event, Runner},
    stages::{
        clock, command_line::Arguments, compute, enrolment, identity::Identity, inventory, modules,
        mounts, network, registration,
    },
    supervise,
};
use protocol::{
    Digest,
    boot::{NodeConfig, StageState},
    inventory::Inventory,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    io,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::{AbortHandle, spawn_blocking, spawn_local},
    time::{sleep, timeout},
};

/// How long the last events may take to reach the provisioner when the machine ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// What is in the queue at any time: at most one end of an attempt for each stage, and one more
/// that was given up.
const QUEUE: usize = 4 * Stage::COUNT;

/// What the stages found out for one another.
#[derive(Default)]
struct Facts {
    arguments: Option<Arguments>,
    build_time: u64,
    identity: Option<Identity>,
    inventory: Option<Inventory>,
    mac: Option<Mac>,
    config: Option<NodeConfig>,
}

/// A machine from mounts to its end.
pub struct Machine<N: Network> {
    kernel: Arc<dyn Kernel>,
    network: N,
    reporter: Rc<Reporter>,
    boot_id: Digest,
    facts: RefCell<Facts>,
    delivering: Cell<bool>,
}

type Outcome = Result<String, Box<dyn Error>>;

/// A stage was begun before what it needs: a mistake in [`PLAN`].
fn wanted<T: Clone>(fact: &Option<T>, what: &str) -> Result<T, Box<dyn Error>> {
    let mistake = || format!("{what} is not known yet: a mistake of ours in the plan of stages");
    fact.clone().ok_or_else(|| mistake().into())
}

impl<N: Network> Machine<N> {
    /// A machine whose kernel just started us.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        network: N,
        reporter: Rc<Reporter>,
        boot_id: Digest,
    ) -> Rc<Self> {
        let (facts, delivering) = (RefCell::default(), Cell::new(false));
        Rc::new(Self { kernel, network, reporter, boot_id, facts, delivering })
    }

    /// Boots, works until somebody asks the machine to end, or it must restart; gives how it is to
    /// end. Power buttons ask by `requests` too. Runs in a [`tokio::task::LocalSet`].
    pub async fn run(
        self: Rc<Self>,
        requests: mpsc::Sender<power::Request>,
        mut requested: mpsc::Receiver<power::Request>,
    ) -> io::Result<End> {
        let (ends, mut ended) = mpsc::channel(QUEUE);
        let mut children = signal(SignalKind::child())?;
        if let Err(error) = self.kernel.take_ctrl_alt_del() {
            let detail = format!("Ctrl-Alt-Del restarts the machine at once: {error}");
            self.say("power", StageState::Failed, &detail);
        }

        let mut runner = Runner::new(&PLAN);
        let mut service = supervise::State::Idle;
        let mut attempts: BTreeMap<Stage, AbortHandle> = BTreeMap::new();
        let mut event = Event::Tick;
        let end = 'working: loop {
            for action in runner.step(self.kernel.since_start(), event) {
                match action {
                    Action::Begin { stage: Stage::Compute, attempt } => {
                        // Here and now: the service's end must find its supervisor waiting.
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
                        if stage == Stage::Modules && state != StageState::Started {
                            power::listen_to_buttons(self.kernel.as_ref(), &requests);
                        }
                    }
                    Action::Restart => break 'working End::Restart,
                }
            }
            event = 'waiting: loop {
                let wake = [runner.wake(), service.wake()].into_iter().flatten().min();
                let now = self.kernel.since_start();
                let pause = wake.map_or(Duration::MAX, |wake| wake.saturating_sub(now));
                tokio::select! {
                    Some(done) = ended.recv() => break 'waiting done,
                    Some((end, whose)) = requested.recv() => {
                        self.say("power", StageState::Started, &format!("asked by {whose}"));
                        break 'working end;
                    }
                    _ = children.recv() => self.reap(&mut service),
                    () = sleep(pause) => {
                        self.supervise(&mut service, supervise::Event::Tick);
                        break 'waiting Event::Tick;
                    }
                }
            };
        };
        self.end(service, &mut children).await;
        Ok(end)
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

    async fn attempt(self: Rc<Self>, stage: Stage) -> Result<String, String> {
        let result = match stage {
            Stage::Mounts => self.local(mounts::run).await,
            Stage::CommandLine => self.read_command_line(),
            Stage::Modules => self.local(|kernel| modules::run(kernel).map(|m| m.detail())).await,
            Stage::Clock => self.floor_clock(),
            Stage::Identity => self.make_identity().await,
            Stage::Network => self.clone().join_network().await,
            Stage::Inventory => self.take_inventory().await,
            Stage::Enrolment => self.enrol().await,
            Stage::Registration => self.register().await,
            Stage::Compute => Err("is begun elsewhere".into()),
        };
        result.map_err(|error| error.to_string())
    }

    /// Runs a stage whose kernel calls may take long on a thread of its own.
    async fn local<T, E>(
        &self,
        work: impl FnOnce(&dyn Kernel) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Box<dyn Error>>
    where
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        let kernel = self.kernel.clone();
        let done = spawn_blocking(move || work(kernel.as_ref())).await;
        Ok(done.map_err(|error| internal(&error))??)
    }

    fn read_command_line(&self) -> Outcome {
        let arguments = crate::stages::command_line::run(self.kernel.as_ref())?;
        let detail = format!(
            "provisioner {}, chain {}, release {}",
            arguments.provisioner,
            arguments.chain,
            arguments.release.short()
        );
        self.facts.borrow_mut().arguments = Some(arguments);
        Ok(detail)
    }

    fn floor_clock(&self) -> Outcome {
        let (build, detail) = clock::run(self.kernel.as_ref())?;
        self.facts.borrow_mut().build_time = build.unix_time;
        Ok(format!("{detail}; image {}", build.version))
    }

    async fn make_identity(&self) -> Outcome {
        let boot_id = self.boot_id;
        let make = move |kernel: &dyn Kernel| crate::stages::identity::run(kernel, boot_id);
        let identity = self.local(make).await?;
        let detail = format!("node {}", identity.node.public());
        self.facts.borrow_mut().identity = Some(identity);
        Ok(detail)
    }

    async fn take_inventory(&self) -> Outcome {
        let boot_nic = wanted(&self.facts.borrow().arguments, "the command line")?.boot_nic;
        let inventory = self
            .local(move |kernel| {
                Ok::<_, std::convert::Infallible>(inventory::run(kernel, boot_nic))
            })
            .await?;
        let detail = inventory::detail(&inventory);
        self.facts.borrow_mut().inventory = Some(inventory);
        Ok(detail)
    }

    async fn join_network(self: Rc<Self>) -> Outcome {
        let arguments = wanted(&self.facts.borrow().arguments, "the command line")?;
        let up = network::run(&self.kernel, &self.network, &WAITS, arguments.boot_nic).await?;
        let detail = up.detail();
        // The provisioner knows the machine by the NIC that booted it.
        let mac = arguments.boot_nic.unwrap_or(up.link.mac);
        self.facts.borrow_mut().mac = Some(mac);
        let machine = self.clone();
        spawn_local(async move {
            let report = |state, detail: String| machine.say("lease", state, &detail);
            network::keep(machine.kernel.clone(), &machine.network, &WAITS, up, report).await;
        });
        self.deliver_events(arguments.provisioner, mac);
        Ok(detail)
    }

    fn deliver_events(&self, provisioner: Base, mac: Mac) {
        if !self.delivering.replace(true) {
            let reporter = self.reporter.clone();
            spawn_local(async move { reporter.deliver(&provisioner, mac).await });
        }
    }

    async fn enrol(&self) -> Outcome {
        let (arguments, identity, mac, inventory) = {
            let facts = self.facts.borrow();
            (
                wanted(&facts.arguments, "the command line")?,
                wanted(&facts.identity, "the node's key")?,
                wanted(&facts.mac, "the NIC")?,
                // A machine that cannot describe itself may still work.
                facts.inventory.clone().unwrap_or_default(),
            )
        };
        let config = enrolment::run(&arguments, &identity, mac, &inventory).await?;
        let floor = self.facts.borrow().build_time;
        match clock::take(self.kernel.as_ref(), floor, config.unix_time) {
            Ok(None) => {}
            Ok(Some(set)) => self.say("time", StageState::Done, &set),
            Err(error) => self.say("time", StageState::Failed, &error.to_string()),
        }
        let detail = enrolment::detail(&config);
        self.facts.borrow_mut().config = Some(config);
        Ok(detail)
    }

    async fn register(&self) -> Outcome {
        let (config, transaction) = {
            let facts = self.facts.borrow();
            let config = wanted(&facts.config, "the node's settings")?;
            let identity = wanted(&facts.identity, "the node's key")?;
            let inventory = facts.inventory.clone().unwrap_or_default().digest();
            let release = wanted(&facts.arguments, "the command line")?.release;
            let transaction = registration::transaction(&config, &identity, inventory, release);
            (config, transaction)
        };
        Ok(registration::run(&config, &transaction).await?)
    }

    fn first_start(&self, service: &mut supervise::State) -> Outcome {
        let facts = self.facts.borrow();
        let config = wanted(&facts.config, "the node's settings")?;
        let identity = wanted(&facts.identity, "the node's key")?;
        let release = wanted(&facts.arguments, "the command line")?.release;
        compute::prepare(self.kernel.as_ref(), &config, &identity, release)?;
        let pid = self.start_service()?;
        self.supervise(service, supervise::Event::Started(pid));
        Ok(format!("process {pid} as user {}", compute::USER))
    }

    /// Gives the service's supervisor an event, and carries out what it decides.
    fn supervise(&self, state: &mut supervise::State, event: supervise::Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let (next, actions) = state.step(self.kernel.since_start(), event);
            *state = next;
            for action in actions {
                match action {
                    supervise::Action::Start => events.push(match self.start_service() {
                        Ok(pid) => supervise::Event::Started(pid),
                        Err(reason) => supervise::Event::NotStarted(reason),
                    }),
                    supervise::Action::Stop(pid, how) => {
                        // It may be gone already; that it ended comes as its own event.
                        let _ = self.kernel.stop(&compute::program(), pid, how);
                    }
                    supervise::Action::Report(state, detail) => {
                        self.say("service", state, &detail);
                    }
                }
            }
        }
    }

    fn start_service(&self) -> Result<Pid, String> {
        let program = compute::program();
        let file = program.path.display();
        let failed = |error| {
            format!(
                "{file} cannot be started: {error}; is it in the image, for its user to execute?"
            )
        };
        let Started { pid, output } = self.kernel.spawn(&program).map_err(failed)?;
        match pipe::Receiver::from_owned_fd(output) {
            Ok(output) => {
                spawn_local(show_output(self.kernel.clone(), self.reporter.clone(), output));
            }
            Err(error) => {
                let detail = format!("its output cannot be shown: {error}");
                self.say("service", StageState::Failed, &detail);
            }
        }
        Ok(pid)
    }

    /// Collects every process that ended, the service's and orphans alike.
    fn reap(&self, service: &mut supervise::State) {
        while let Some((pid, exit)) = self.kernel.reap() {
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
            supervise::State::Ended => self.say("power", StageState::Done, "the service ended"),
            _ => self.say("power", StageState::Failed, "the service did not end; it is left"),
        }
        if self.delivering.get() {
            let _ = timeout(LAST_WORDS, self.reporter.all_delivered()).await;
        }
    }
}

fn internal(error: &tokio::task::JoinError) -> String {
    format!("a mistake of ours ended it ({error}): report it with the lines above")
}

/// Shows what a service writes, line by line.
async fn show_output(kernel: Arc<dyn Kernel>, reporter: Rc<Reporter>, mut output: pipe::Receiver) {
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    loop {
        let shown = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => lines.push(kernel.since_start(), &buffer[..read]),
        };
        shown.iter().for_each(|line| reporter.console().line(&format!("compute: {line}")));
    }
    for line in lines.end(kernel.since_start()) {
        reporter.console().line(&format!("compute: {line}"));
    }
}

#[cfg(test)]
mod tests;
