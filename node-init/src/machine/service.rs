//! The compute service: its first start, and carrying out what its supervisor decides.

use super::{
    Machine,
    attempts::{Outcome, wanted},
};
use crate::{
    census,
    kernel::{Exit, Kernel, Pid, Started},
    lines::Lines,
    net::Network,
    report::Reporter,
    stages::compute,
    supervise,
};
use protocol::boot::StageState;
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};
use tokio::{io::AsyncReadExt, net::unix::pipe, task::spawn_local};

impl<N: Network> Machine<N> {
    /// The stage `compute`: settings and first start, at once, so that the service's end finds its
    /// supervisor waiting.
    pub(super) fn first_start(&self, service: &mut supervise::State) -> Outcome {
        let (config, identity, release, cards) = {
            let facts = self.facts.borrow();
            let cards = facts.cards.as_ref().map(|cards| cards.files.clone()).unwrap_or_default();
            let arguments = wanted(&facts.arguments, "the command line")?;
            let config = wanted(&facts.config, "the node's settings")?;
            (config, wanted(&facts.identity, "the node's key")?, arguments.release, cards)
        };
        let kernel = self.kernel.as_ref();
        let program = compute::program(kernel, &config, &cards)?;
        let user = program.cage.user;
        // A service that nothing holds is worse than none.
        if !self.facts.borrow().hardened {
            return Err(compute::UNHARDENED.into());
        }
        compute::limits(kernel)?;
        match compute::let_through(kernel, &config, user) {
            // Those that are named by address are reached.
            Err(error @ compute::LetThroughError::Unnumbered(_)) => {
                self.say("firewall", StageState::Failed, &error.to_string());
            }
            other => other?,
        }
        compute::prepare(kernel, &config, &identity, release, user)?;
        self.facts.borrow_mut().service = Some(program);
        let pid = self.start_service()?;
        self.supervise(service, supervise::Event::Started(pid));
        Ok(format!("process {pid} as user {user}; {}", census::take(self.kernel.as_ref())))
    }

    /// Gives the service's supervisor an event, and carries out what it decides.
    pub(super) fn supervise(&self, state: &mut supervise::State, event: supervise::Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let (next, actions) = state.step(self.kernel.since_start(), event);
            *state = next;
            {
                let mut status = self.reporter.status();
                (status.compute.pid, status.compute.drained) = (next.pid(), next.is_drained());
            }
            for action in actions {
                match action {
                    supervise::Action::Start => events.push(match self.start_service() {
                        Ok(pid) => {
                            self.reporter.status().compute.restarts += 1;
                            supervise::Event::Started(pid)
                        }
                        Err(reason) => supervise::Event::NotStarted(reason),
                    }),
                    supervise::Action::Stop(pid, how) => {
                        // It may be gone already; that it ended comes as its own event.
                        if let Some(program) = &self.facts.borrow().service {
                            let _ = self.kernel.stop(program, pid, how);
                        }
                    }
                    supervise::Action::Report(state, detail) => {
                        self.say("service", state, &detail);
                    }
                }
            }
        }
    }

    /// Looks whether the service hangs, and after its signs of progress.
    pub(super) fn look_after(&self, state: &mut supervise::State) {
        self.supervise(state, supervise::Event::Sign(self.sign.get()));
        self.supervise(state, supervise::Event::Tick);
    }

    /// How the service ended, told as what it was: the kernel kills what uses too much memory by
    /// the same signal as anybody else would.
    pub(super) fn why(&self, exit: Exit) -> Exit {
        let kills = compute::memory_kills(self.kernel.as_ref());
        let before = self.memory_kills.replace(kills);
        match (exit, compute::memory_limit(self.kernel.as_ref())) {
            (Exit::Signal(9), Some(limit)) if kills > before => Exit::OutOfMemory(limit),
            _ => exit,
        }
    }

    fn start_service(&self) -> Result<Pid, String> {
        let program = wanted(&self.facts.borrow().service, "the service's sandbox");
        let program = program.map_err(|error| error.to_string())?;
        let file = program.path.display();
        let failed = |error| {
            format!(
                "{file} cannot be started: {error}; is it in the image, for its user to execute?"
            )
        };
        let Started { pid, output } = self.kernel.spawn(&program).map_err(failed)?;
        match pipe::Receiver::from_owned_fd(output) {
            Ok(output) => {
                // A start is a sign too.
                self.sign.set(self.kernel.since_start());
                let sign = self.sign.clone();
                spawn_local(show_output(self.kernel.clone(), self.reporter.clone(), sign, output));
            }
            Err(error) => {
                let detail = format!("its output cannot be shown: {error}");
                self.say("service", StageState::Failed, &detail);
            }
        }
        Ok(pid)
    }
}

/// Shows what a service writes, line by line.
async fn show_output(
    kernel: Arc<dyn Kernel>,
    reporter: Rc<Reporter>,
    sign: Rc<Cell<Duration>>,
    mut output: pipe::Receiver,
) {
    let mut lines = Lines::default();
    let mut buffer = [0; 4096];
    loop {
        let shown = match output.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => lines.push(kernel.since_start(), &buffer[..read]),
        };
        if lines.sign() {
            sign.set(kernel.since_start());
        }
        shown.iter().for_each(|line| reporter.console().line(&format!("compute: {line}")));
    }
    for line in lines.end(kernel.since_start()) {
        reporter.console().line(&format!("compute: {line}"));
    }
}
