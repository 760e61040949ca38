//! From a packet's bytes to the reply's, with the store behind the decision; no socket, no clock.

use super::{
    classify::classify,
    decide::{Facts, Port, decide},
    packet::{self, Refused, Request},
    settings::{Mode, Settings},
};
use crate::{
    quirks::Rules,
    store::{Store, StoreError},
    timeline::Record,
};
use std::{net::SocketAddrV4, sync::Arc};

/// What answers for one network.
pub struct Answerer {
    /// What does not change.
    pub settings: Settings,
    /// What single kinds of firmware, and single machines, need.
    pub rules: Rules,
    /// Leases, and how far boots have come.
    pub store: Arc<Store>,
}

/// What becomes of a packet.
#[derive(Debug, Default)]
pub struct Handled {
    /// The reply and where it goes.
    pub reply: Option<(Vec<u8>, SocketAddrV4)>,
    /// What is recorded, after the reply is sent.
    pub record: Option<Record>,
}

/// Why a packet gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It is no request: its sender's fault.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Answerer {
    /// Decides about one packet at `now` (seconds since 1970), and applies what the decision does
    /// to leases.
    pub fn handle(
        &self,
        bytes: &[u8],
        sender: SocketAddrV4,
        port: Port,
        now: u64,
    ) -> Result<Handled, Unanswered> {
        let request = packet::parse(bytes)?;
        tracing::debug!("from {sender}:\n{request}");
        Ok(self.answer(request, sender, port, now)?)
    }

    fn answer(
        &self,
        request: Request,
        sender: SocketAddrV4,
        port: Port,
        now: u64,
    ) -> Result<Handled, StoreError> {
        let settings = &self.settings;
        let quirks = self.rules.quirks(&request);
        let request = &quirks.corrected(request);
        let pool = (settings.mode == Mode::Full).then(|| (&settings.pool, settings.server()));
        let known = self.store.lease_facts(request.mac, request.wanted(), pool, now)?;
        let facts = Facts {
            now,
            lease: known.lease,
            wanted_is_taken: known.wanted_is_taken,
            free: known.free,
            quirks,
            loaded_ipxe: known.loaded_ipxe,
            took_uki: known.took_uki,
        };
        let answer = decide(settings, &facts, request, classify(request), port);
        if !self.store.change_lease(request.mac, answer.lease, now)? {
            return Ok(Handled::default());
        }
        let reply =
            answer.reply.map(|reply| (reply.bytes(settings, request), reply.to.address(sender)));
        let record = answer.note.map(|note| {
            Record::new(request.mac, note.kind, note.text).marks(note.marks).sighting(note.sighting)
        });
        Ok(Handled { reply, record })
    }
}
