//! What a node's settings change about the machine, once it is taken in: time, scratch, network.

use super::Machine;
use crate::{
    http::{Base, HttpError},
    net::{Network, WAITS},
    stages::{
        network::{self, Up, Wanted, Whose},
        scratch,
    },
    time,
};
use protocol::boot::{NodeConfig, StageState};
use std::{rc::Rc, time::Duration};
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};

/// How long the provisioner may take to be reached by a network that the settings name.
const REACHED: Duration = Duration::from_secs(20);

/// The network that stands, and who keeps it.
pub(super) struct Standing {
    keeper: AbortHandle,
    undo: network::Undo,
    wanted: Wanted,
}

impl<N: Network> Machine<N> {
    /// Keeps the network as it is for as long as the machine runs.
    pub(super) fn keep_network(self: &Rc<Self>, up: Up<N::Dhcp>, wanted: Wanted) {
        let undo = up.undo();
        self.reporter.status().address = up.address().map(|address| address.to_string());
        let machine = self.clone();
        let keeper = self.aside("lease", async move {
            let report = |whose, state, detail: String| {
                let stage = match whose {
                    Whose::Link => "link",
                    Whose::Lease(address) => {
                        if let Some(address) = address {
                            machine.reporter.status().address = Some(address.to_string());
                        }
                        "lease"
                    }
                };
                machine.say(stage, state, &detail);
            };
            network::keep(machine.kernel.clone(), &machine.network, &WAITS, up, report).await;
        });
        *self.standing.borrow_mut() = Some(Standing { keeper, undo, wanted });
    }

    /// Does what the settings ask for, beside everything else; once a boot.
    pub(super) fn settle(self: &Rc<Self>, config: &NodeConfig, provisioner: Base) {
        if self.settled.replace(true) {
            return;
        }
        let machine = self.clone();
        let config = config.clone();
        self.aside("settings", async move {
            machine.join_other_network(&config, &provisioner).await;
            machine.make_scratch(&config).await;
            machine.keep_time(&config).await;
        });
    }

    async fn make_scratch(&self, config: &NodeConfig) {
        let wanted = config.scratch.clone();
        match self.local(move |kernel| scratch::run(kernel, &wanted)).await {
            Ok(None) => {}
            Ok(Some(detail)) => self.say("scratch", StageState::Done, &detail),
            Err(error) => self.say("scratch", StageState::Failed, &error.to_string()),
        }
    }

    async fn keep_time(&self, config: &NodeConfig) {
        let (floor, servers) = {
            let facts = self.facts.borrow();
            (facts.build_time, time::servers(&config.time_servers, &facts.time_servers))
        };
        if servers.is_empty() {
            return;
        }
        let report = |state, detail: String| self.say("time", state, &detail);
        time::keep(self.kernel.clone(), servers, floor, report).await;
    }

    /// Goes over to the network that the settings name, where it is another; back where the
    /// provisioner cannot be reached by it.
    async fn join_other_network(self: &Rc<Self>, config: &NodeConfig, provisioner: &Base) {
        let Some(named) = &config.network else { return };
        let Some(standing) = self.standing.take() else { return };
        if standing.wanted.config == *named {
            *self.standing.borrow_mut() = Some(standing);
            return;
        }
        let Standing { keeper, undo, wanted: before } = standing;
        keeper.abort();
        network::leave(&self.network, &undo).await;
        let wanted = Wanted { config: named.clone(), ..before.clone() };
        let failed = match network::run(&self.kernel, &self.network, &WAITS, &wanted).await {
            Ok(up) => match reach(provisioner).await {
                Ok(()) => {
                    let detail = format!("{}, as the settings say", up.detail());
                    self.keep_network(up, wanted);
                    self.say("lease", StageState::Done, &detail);
                    return;
                }
                Err(error) => {
                    network::leave(&self.network, &up.undo()).await;
                    error.to_string()
                }
            },
            Err(error) => error.to_string(),
        };
        let detail = format!(
            "the network of the settings ({named}) does not do: {failed}; back to the one before"
        );
        self.say("lease", StageState::Failed, &detail);
        // The machine was on it a moment ago; until it is again nothing else can be done.
        loop {
            match network::run(&self.kernel, &self.network, &WAITS, &before).await {
                Ok(up) => {
                    self.say("lease", StageState::Done, &up.detail());
                    return self.keep_network(up, before);
                }
                Err(error) => self.say("lease", StageState::Retrying, &error.to_string()),
            }
        }
    }
}

/// Whether a server takes connections.
async fn reach(server: &Base) -> Result<(), HttpError> {
    let unreachable = |reason| HttpError::Unreachable { server: server.clone(), reason };
    let end = tokio::time::Instant::now() + REACHED;
    loop {
        match timeout(REACHED, TcpStream::connect(server.place())).await {
            Ok(Ok(_)) => return Ok(()),
            // An IPv6 address may not be used at once (duplicate address detection).
            Ok(Err(reason)) if tokio::time::Instant::now() >= end => {
                return Err(unreachable(reason));
            }
            Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(_) => return Err(HttpError::Slow(server.clone())),
        }
    }
}
