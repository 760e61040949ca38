//! The node API's start, and carrying out what operators wish of the machine.

use super::{
    Machine,
    attempts::{Outcome, wanted},
};
use crate::{
    api::{Api, Facts, Wish, Wished, serve},
    kernel::End,
    net::Network,
    supervise,
};
use protocol::boot::{STAGE_STANDS, StageState};
use std::{rc::Rc, sync::Arc};

impl<N: Network> Machine<N> {
    /// The stage `api`: from here on the node answers its operators.
    pub(super) async fn open_api(self: Rc<Self>) -> Outcome {
        let (identity, facts) = {
            let facts = self.facts.borrow();
            let identity = wanted(&facts.identity, "the node's key")?;
            let facts = Facts {
                node: identity.node.public(),
                config: wanted(&facts.config, "the node's settings")?,
                inventory: facts.inventory.clone().unwrap_or_default(),
                release: wanted(&facts.arguments, "the command line")?.release,
                boot_id: self.boot_id,
            };
            (identity, facts)
        };
        let failed = |error: std::io::Error| {
            format!("port {} cannot be listened on: {error}", self.api_port)
        };
        let given = self.giving.borrow().as_ref().map(|door| {
            // One port for both: from here on the node API takes who wants pieces, too.
            door.serve.abort();
            (door.listener.clone(), door.giving.clone())
        });
        let (listener, giving) = match given {
            Some((listener, giving)) => (listener, Some(giving)),
            None => (Arc::new(serve::listen(self.api_port).await.map_err(failed)?), None),
        };
        let port = listener.local_addr()?.port();
        let (kernel, reporter) = (self.kernel.clone(), self.reporter.clone());
        let api = Api::new(kernel, reporter, facts, self.wishes.clone());
        let acceptor = serve::acceptor(&identity.node, api.access())?;
        let limits = serve::Limits::USUAL;
        let doors = serve::Doors { acceptor, giving };
        self.aside("api", async move { serve::serve(api, listener, doors, limits).await });
        Ok(format!("listens on port {port}"))
    }

    /// Carries a wish out; gives how the machine is to end, where that is what is wished.
    pub(super) fn fulfil(
        &self,
        wished: Wished,
        service: &mut supervise::State,
        rescue: bool,
    ) -> Option<End> {
        let (event, done) = match wished.wish {
            Wish::End(end) => {
                self.ends("an operator");
                return Some(end);
            }
            // Not asked for by anybody: such a boot counts as failed, and a rescue stays.
            Wish::Broken => {
                let then = if rescue { "stays as it is" } else { "restarts" };
                let told = format!("a part of PID 1 ended by a mistake: the machine {then}");
                self.say(STAGE_STANDS, StageState::Failed, &told);
                return (!rescue).then_some(End::Restart);
            }
            Wish::Drain => (
                supervise::Event::Drain,
                "the compute service finishes its work and \
                is not started again; undrain ends this",
            ),
            Wish::Undrain => (supervise::Event::Undrain, "the compute service works again"),
        };
        let drains = event == supervise::Event::Drain;
        let answer = match *service {
            supervise::State::Idle => {
                Err("the compute service was not started yet: try again in a moment".to_owned())
            }
            supervise::State::Ending { .. } | supervise::State::Ended => {
                Err("the machine is ending".to_owned())
            }
            _ if service.is_drained() == drains => {
                Ok(format!("nothing changes: it is {}drained", if drains { "" } else { "not " }))
            }
            _ => {
                self.supervise(service, event);
                Ok(done.to_owned())
            }
        };
        // Whoever asked may be gone.
        let _ = wished.answer.send(answer);
        None
    }
}
