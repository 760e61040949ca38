//! From a packet's bytes to the reply's, with the store behind the decision; no socket, no clock.

use super::{
    classify::classify,
    decide::{Answer, Facts, Port, decide},
    lease::LeaseChange,
    offers::Offers,
    packet::{self, Refused, Request},
    settings::{Mode, Settings},
};
use crate::{
    metrics::Exchange,
    quirks::Rules,
    store::{Leases, Store, StoreError},
    timeline::Record,
};
use dhcproto::v4::MessageType;
use std::{
    net::SocketAddrV4,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What answers for one network.
pub struct Answerer {
    /// What does not change.
    pub settings: Settings,
    /// What single kinds of firmware, and single machines, need.
    pub rules: Rules,
    /// Leases, and how far boots have come.
    pub store: Arc<Store>,
    offers: Mutex<Offers>,
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
    /// With nothing on offer.
    pub fn new(settings: Settings, rules: Rules, store: Arc<Store>) -> Self {
        Self { settings, rules, store, offers: Mutex::default() }
    }

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
        let work = |leases: &mut Leases<'_>| {
            let each = |&(request, sender): &(&Request, _)| {
                tracing::debug!("from {sender}:\n{request}");
                self.answer(leases, request.clone(), sender, port, now)
            };
            requests.iter().map(each).collect::<Result<Vec<_>, _>>()
        };
        // Offers write nothing, and need not wait for who writes.
        let offers = |(request, _): &(&Request, _)| request.message == MessageType::Discover;
        let only_offers = !self.store.is_shared() && requests.iter().all(offers);
        let all = if only_offers { self.store.leases_seen(work) } else { self.store.leases(work) };
        match all {
            Ok(handled) => handled.into_iter().map(Ok).collect(),
            Err(error) if requests.len() == 1 => {
                let (request, sender) = requests[0];
                vec![self.unwritten(request.clone(), sender, port, now, error)]
            }
            Err(_) => requests.chunks(1).flat_map(|one| self.settle(one, port, now)).collect(),
        }
    }

    /// Where nothing can be written (a full disk, most likely) but still be read: who holds an
    /// address keeps it for what is left of its lease, which is written already. More is promised
    /// to nobody.
    fn unwritten(
        &self,
        request: Request,
        sender: SocketAddrV4,
        port: Port,
        now: u64,
        error: StoreError,
    ) -> Result<Handled, StoreError> {
        if !error.may_pass() {
            return Err(error);
        }
        let mac = request.mac;
        let read = self.store.leases_seen(|leases| self.decision(leases, request, now, port));
        // What keeps it from being read says no more than what kept it from being written.
        let Ok((request, facts, mut answer)) = read else { return Err(error) };
        let live = facts.lease.filter(|lease| lease.expires > now);
        let left = live.map_or(0, |lease| lease.expires - now);
        let theirs = match answer.lease {
            LeaseChange::Keep => true,
            LeaseChange::Hold(address, _) => live.is_some_and(|lease| lease.address == address),
            LeaseChange::Offer(..) | LeaseChange::Release | LeaseChange::Decline(..) => false,
        };
        if !theirs {
            return Err(error);
        }
        if matches!(answer.lease, LeaseChange::Hold(..)) {
            tracing::warn!(%mac, "its lease has {left} s to go and is not extended: {error}");
        }
        answer.lease = LeaseChange::Keep;
        let whole = self.settings.lease_seconds;
        let lease_seconds = u32::try_from(left).unwrap_or(whole).min(whole);
        let settings = Settings { lease_seconds, ..self.settings.clone() };
        Ok(handled(&settings, &request, answer, sender))
    }

    fn answer(
        &self,
        leases: &mut Leases<'_>,
        request: Request,
        sender: SocketAddrV4,
        port: Port,
        now: u64,
    ) -> Result<Handled, StoreError> {
        let mac = request.mac;
        let (request, _, answer) = self.decision(leases, request, now, port)?;
        match answer.lease {
            // Front-ends that share a store know of each other's offers by it alone.
            LeaseChange::Offer(address, until) if !self.store.is_shared() => {
                self.offers().add(address, mac, until, now);
            }
            change if !leases.change(mac, change, now)? => return Ok(Handled::default()),
            LeaseChange::Hold(address, _) => self.offers().end(address),
            _ => {}
        }
        Ok(handled(&self.settings, &request, answer, sender))
    }

    // A panic while it was held left a hint less, or one more.
    fn offers(&self) -> MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request as its machine's quirks correct it, what is known, and what is answered.
    fn decision(
        &self,
        leases: &mut Leases<'_>,
        request: Request,
        now: u64,
        port: Port,
    ) -> Result<(Request, Facts, Answer), StoreError> {
        let settings = &self.settings;
        let quirks = self.rules.quirks(&request);
        let request = quirks.corrected(request);
        let discovers = request.message == MessageType::Discover;
        let pool =
            (settings.mode == Mode::Full && discovers).then(|| (&settings.pool, settings.server()));
        let offers = self.offers();
        let offered = |address| offers.is_others(address, request.mac, now);
        let mut known = leases.facts(request.mac, request.wanted(), pool, &offered, now)?;
        known.wanted_is_taken |= request.wanted().is_some_and(offered);
        drop(offers);
        let facts = Facts {
            now,
            lease: known.lease,
            wanted_is_taken: known.wanted_is_taken,
            free: known.free,
            quirks,
            loaded_ipxe: known.loaded_ipxe,
            took_uki: known.took_uki,
        };
        let answer = decide(settings, &facts, &request, classify(&request), port);
        Ok((request, facts, answer))
    }
}

fn handled(
    settings: &Settings,
    request: &Request,
    answer: Answer,
    sender: SocketAddrV4,
) -> Handled {
    let reply =
        answer.reply.map(|reply| (reply.bytes(settings, request), reply.to.address(sender)));
    let record = answer.note.map(|note| {
        Record::new(request.mac, note.kind, note.text).marks(note.marks).sighting(note.sighting)
    });
    Handled { reply, record, unanswered: None }
}
