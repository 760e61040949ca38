//! The node API: the only way into a node, `docs/node-api.md`.
//!
//! TLS 1.3 in which both sides show the keys that they are known by ([`mtls`]), HTTP/1.1 within,
//! JSON ([`protocol::node_api`]). Who may what comes with the node's signed settings.
//!
//! [`access`], [`route`], [`audit`] decide, purely; [`metrics`], [`processes`] and [`kernel_log`]
//! read what the kernel says; `answer` gives the answers, `serve` has the sockets.
//!
//! **Never** reads a request's body, says a word of HTTP to a key that it does not know, gives a
//! secret out, or lets whoever asks hold more of the machine than [`serve`]'s limits.

pub mod access;
mod answer;
pub mod audit;
pub mod kernel_log;
pub mod metrics;
pub mod processes;
pub mod route;
pub mod serve;

use crate::{kernel::End, kernel::Kernel, report::Report, report::Reporter};
use access::Access;
use audit::Audit;
use protocol::{
    Digest, PublicKey,
    boot::{NodeConfig, StageState},
    inventory::Inventory,
    node_api::ApiCounters,
};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// What an operator wants of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That it ends.
    End(End),
    /// That the compute service finishes its work and stays stopped.
    Drain,
    /// That it works again.
    Undrain,
    /// Nobody's: a part of PID 1 ended by a mistake.
    Broken,
}

/// A wish on its way to the machine's loop; what came of it goes back.
#[derive(Debug)]
pub struct Wished {
    /// What.
    pub wish: Wish,
    /// What happens now, or why nothing does.
    pub answer: oneshot::Sender<Result<String, String>>,
}

/// What the node says of itself that does not change while it is up.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The node.
    pub node: PublicKey,
    /// Its settings, as the provisioner signed them.
    pub config: NodeConfig,
    /// What it is made of.
    pub inventory: Inventory,
    /// The image that it booted.
    pub release: Digest,
    /// Random, once a boot.
    pub boot_id: Digest,
}

/// What connections share.
pub struct Api {
    kernel: Arc<dyn Kernel>,
    reporter: Rc<Reporter>,
    facts: Facts,
    access: Arc<Access>,
    wishes: mpsc::Sender<Wished>,
    audit: RefCell<Audit>,
    counters: Cell<ApiCounters>,
    /// Whether it shows itself on the console.
    shown: Cell<bool>,
    followers: Cell<usize>,
}

impl Api {
    /// An API of this node; `wishes` reach the machine's loop.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        reporter: Rc<Reporter>,
        facts: Facts,
        wishes: mpsc::Sender<Wished>,
    ) -> Rc<Self> {
        let access = Arc::new(Access::of(&facts.config));
        Rc::new(Self {
            kernel,
            reporter,
            facts,
            access,
            wishes,
            audit: RefCell::default(),
            counters: Cell::default(),
            shown: Cell::new(false),
            followers: Cell::new(0),
        })
    }

    /// Who may speak to the node.
    pub fn access(&self) -> Arc<Access> {
        self.access.clone()
    }

    /// Tells console and provisioner of a call or a stranger.
    fn told(&self, detail: &str) {
        let (stage, state) = ("audit", StageState::Done);
        self.reporter.say(&Report { stage, state, took: None, detail, shown: true });
    }

    /// Somebody did not get in.
    fn refused(&self, peer: SocketAddr, reason: &str) {
        let mut counters = self.counters.get();
        counters.refused += 1;
        self.counters.set(counters);
        let peer = peer.ip().to_canonical().to_string();
        let told = self.audit.borrow_mut().refused(self.kernel.since_start(), &peer, reason);
        if let Some(told) = told {
            self.told(&told);
        }
    }
}

#[cfg(test)]
mod tests;
