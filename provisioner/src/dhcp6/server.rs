//! The edge: one socket (547) and its thread, which carries packets to `decide` and replies back.

use super::{
    classify::classify,
    decide::{Facts, decide},
    lease::{Key, LeaseChange},
    packet::{self, MAX_LEN, Request},
    reply,
    settings::Settings,
};
use crate::{
    counters::Counters,
    metrics::{Exchange, Port},
    quirks::Rules,
    store::{Store, StoreError},
    timeline::{Record, Timeline, unix_ms},
};
use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::Arc,
    thread,
};

/// Where clients and relays reach servers on a link (RFC 8415 section 7.1).
pub const ALL_RELAYS_AND_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Where relays reach servers of a site.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);

/// DHCPv6 for one network.
pub struct Server {
    /// What does not change.
    pub settings: Settings,
    /// What odd firmware needs.
    pub rules: Rules,
    /// Leases, and how far boots have come.
    pub store: Arc<Store>,
    /// Where exchanges are recorded.
    pub timeline: Timeline,
    /// Where packets that get no answer are counted.
    pub counters: Arc<Counters>,
}

/// What becomes of a packet.
#[derive(Debug, Default)]
pub struct Handled {
    /// The reply and where it goes.
    pub reply: Option<(Vec<u8>, SocketAddrV6)>,
    /// What is recorded, after the reply is sent.
    pub record: Option<Record>,
    /// Why it gets no answer, where that is anybody's fault.
    pub unanswered: Option<Exchange>,
}

impl Server {
    /// Answers what comes to `socket` until the program ends.
    pub fn serve(self, socket: UdpSocket) -> io::Result<()> {
        thread::Builder::new().name("dhcp6".into()).spawn(move || {
            // One byte more than a request may have tells the long ones.
            let mut buffer = [0; MAX_LEN + 1];
            let metrics = &self.counters.metrics;
            let _listening = metrics.listening.begins("dhcp6");
            loop {
                let (length, sender) = match socket.recv_from(&mut buffer) {
                    Ok((length, SocketAddr::V6(sender))) => (length, sender),
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!("dhcp6: {error}");
                        continue;
                    }
                };
                let handled = self.handle(&buffer[..length], sender);
                let silent = handled.unanswered.unwrap_or(Exchange::Silent);
                let (outcome, sent) = match &handled.reply {
                    None => (silent, 0),
                    Some((bytes, to)) => match socket.send_to(bytes, to) {
                        Ok(sent) => (Exchange::Answered, sent),
                        Err(error) => {
                            tracing::warn!("dhcp6: a reply to {to} could not be sent: {error}");
                            (Exchange::Unsent, 0)
                        }
                    },
                };
                metrics.dhcp(Port::Six, outcome, length, sent);
                if let Some(record) = handled.record {
                    self.timeline.record(record);
                }
            }
        })?;
        Ok(())
    }

    /// Decides about one packet, and applies what the decision does to leases.
    pub fn handle(&self, bytes: &[u8], sender: SocketAddrV6) -> Handled {
        let request = match packet::parse(bytes, *sender.ip()) {
            Ok(request) => request,
            Err(refused) => {
                if self.counters.count(refused.counter()) {
                    tracing::warn!("a packet from {sender} gets no answer: {refused}");
                }
                return Handled { unanswered: Some(Exchange::Refused), ..Handled::default() };
            }
        };
        tracing::debug!("from {sender}:\n{request}");
        tracing::trace!("as sent: {}", hex::encode(bytes));
        self.answer(&request, sender).unwrap_or_else(|error| {
            // Silence: the client asks again, and by then the store may work.
            tracing::error!(mac = %request.mac, "it gets no answer: {error}");
            self.counters.count("store-errors");
            Handled { unanswered: Some(Exchange::StoreFailed), ..Handled::default() }
        })
    }

    fn answer(&self, request: &Request, sender: SocketAddrV6) -> Result<Handled, StoreError> {
        let now = self.store.lease_time(unix_ms());
        let mut settings = &self.settings;
        let shorter;
        let key = request.client.clone().map(|duid| {
            let iaid = request.association().map_or(0, |association| association.iaid);
            Key { duid, iaid }
        });
        let known = self.store.lease6_facts(
            key.as_ref().filter(|_| request.association().is_some()),
            request.mac,
            request.wanted(),
            (&settings.pool, settings.server()),
            now,
        )?;
        let live = known.lease.filter(|lease| lease.expires > now);
        let facts = Facts {
            now,
            lease: known.lease,
            wanted_is_taken: known.wanted_is_taken,
            free: known.free,
            quirks: self.rules.quirks(request),
            loaded_ipxe: known.loaded_ipxe,
            took_uki: known.took_uki,
        };
        let answer = decide(settings, &facts, request, classify(request));
        if let Some(key) = &key {
            match self.store.change_lease6(key, request.mac, answer.lease, now) {
                Ok(true) => {}
                Ok(false) => return Ok(Handled::default()),
                Err(error) => {
                    // As by IPv4: what is written already is kept to, and no more is promised.
                    let held = live.filter(|lease| {
                        matches!(answer.lease, LeaseChange::Hold(address, _) if address == lease.address)
                    });
                    let Some(lease) = held.filter(|_| error.may_pass()) else { return Err(error) };
                    let left = lease.expires - now;
                    let mac = request.mac;
                    tracing::warn!(%mac, "its lease has {left} s to go and is not extended: {error}");
                    let whole = settings.lease_seconds;
                    let lease_seconds = u32::try_from(left).unwrap_or(whole).min(whole);
                    shorter = Settings { lease_seconds, ..settings.clone() };
                    settings = &shorter;
                }
            }
        }
        let reply =
            answer.reply.map(|reply| (reply.bytes(settings, request), reply::to(request, sender)));
        let record = answer.note.map(|note| {
            Record::new(request.mac, note.kind, note.text).marks(note.marks).sighting(note.sighting)
        });
        Ok(Handled { reply, record, unanswered: None })
    }
}
