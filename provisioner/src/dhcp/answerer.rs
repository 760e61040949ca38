//! From a packet's bytes to the reply's, with the store behind the decision; no socket, no clock.

use super::{
    classify::classify,
    decide::{Facts, Port, decide},
    packet::{self, Refused, Request},
    settings::{Mode, Settings},
};
use crate::{
    metrics::Exchange,
    quirks::Rules,
    store::{Leases, Store, StoreError},
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
    /// Why it gets no answer, where that is anybody's fault.
    pub unanswered: Option<Exchange>,
}

impl Handled {
    /// What became of it, for the books.
    pub fn outcome(&self) -> Exchange {
        let answered = if self.reply.is_some() { Exchange::Answered } else { Exchange::Silent };
        self.unanswered.unwrap_or(answered)
    }
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

/// A packet that came.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it is from.
    pub sender: SocketAddrV4,
}

impl Answerer {
    /// Decides about packets that came to `port` at `now` (seconds since 1970), in their order and
    /// in one transaction: one commit for many.
    pub fn handle(
        &self,
        packets: &[Packet],
        port: Port,
        now: u64,
    ) -> Vec<Result<Handled, Unanswered>> {
        // What is no request takes no transaction's time.
        let parsed: Vec<Result<Request, Refused>> =
            packets.iter().map(|packet| packet::parse(&packet.bytes)).collect();
        let requests: Vec<(&Request, SocketAddrV4)> = parsed
            .iter()
            .zip(packets)
            .filter_map(|(request, packet)| Some((request.as_ref().ok()?, packet.sender)))
            .collect();
        let mut settled = self.settle(&requests, port, now).into_iter();
        let mut handled = Vec::with_capacity(packets.len());
        for request in parsed {
            handled.push(match request {
                Err(refused) => Err(refused.into()),
                Ok(_) => settled.next().unwrap_or(Ok(Handled::default())).map_err(Into::into),
            });
        }
        handled
    }

    /// All in one transaction; where that fails each in one of its own, so that what one breaks takes
    /// none of the others with it.
    fn settle(
        &self,
        requests: &[(&Request, SocketAddrV4)],
        port: Port,
        now: u64,
    ) -> Vec<Result<Handled, StoreError>> {
        if requests.is_empty() {
            return Vec::new();
        }
        let all = self.store.leases(|leases| {
            let each = |&(request, sender): &(&Request, _)| {
                tracing::debug!("from {sender}:\n{request}");
                self.answer(leases, request.clone(), sender, port, now)
            };
            requests.iter().map(each).collect::<Result<Vec<_>, _>>()
        });
        match all {
            Ok(handled) => handled.into_iter().map(Ok).collect(),
            Err(error) if requests.len() == 1 => vec![Err(error)],
            Err(_) => requests.chunks(1).flat_map(|one| self.settle(one, port, now)).collect(),
        }
    }

    fn answer(
        &self,
        leases: &mut Leases<'_>,
        request: Request,
        sender: SocketAddrV4,
        port: Port,
        now: u64,
    ) -> Result<Handled, StoreError> {
        let settings = &self.settings;
        let quirks = self.rules.quirks(&request);
        let request = &quirks.corrected(request);
        let pool = (settings.mode == Mode::Full).then(|| (&settings.pool, settings.server()));
        let known = leases.facts(request.mac, request.wanted(), pool, now)?;
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
        if !leases.change(request.mac, answer.lease, now)? {
            return Ok(Handled::default());
        }
        let reply =
            answer.reply.map(|reply| (reply.bytes(settings, request), reply.to.address(sender)));
        let record = answer.note.map(|note| {
            Record::new(request.mac, note.kind, note.text).marks(note.marks).sighting(note.sighting)
        });
        Ok(Handled { reply, record, unanswered: None })
    }
}
