//! The edge: two sockets (67 and 4011), each with a thread that carries packets to `decide` and
//! replies back. One packet after the other: a decision and its lease take some tens of
//! microseconds, so there is nothing to gain from doing two at once.

use super::{
    classify::classify,
    decide::{Facts, Port, decide},
    packet::{self, MAX_LEN, Request},
    settings::{Mode, Quirks, Settings},
};
use crate::{
    counters::Counters,
    machine::Mac,
    store::{Store, StoreError},
    timeline::{Record, Timeline, unix_ms},
};
use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    sync::Arc,
    thread,
};

/// DHCP, ProxyDHCP and BINL for one network.
pub struct Server {
    /// What does not change.
    pub settings: Settings,
    /// Machines that need something of their own.
    pub quirks: BTreeMap<Mac, Quirks>,
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
    pub reply: Option<(Vec<u8>, SocketAddrV4)>,
    /// What is recorded, after the reply is sent.
    pub record: Option<Record>,
}

impl Server {
    /// Answers what comes to `socket` until the program ends.
    pub fn serve(self: Arc<Self>, socket: UdpSocket, port: Port) -> io::Result<()> {
        let name = match port {
            Port::Dhcp => "dhcp",
            Port::Binl => "binl",
        };
        thread::Builder::new().name(name.into()).spawn(move || {
            // One byte more than a request may have tells the long ones.
            let mut buffer = [0; MAX_LEN + 1];
            loop {
                let (length, sender) = match socket.recv_from(&mut buffer) {
                    Ok((length, SocketAddr::V4(sender))) => (length, sender),
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!("{name}: {error}");
                        continue;
                    }
                };
                let handled = self.handle(&buffer[..length], sender, port);
                if let Some((bytes, to)) = handled.reply
                    && let Err(error) = socket.send_to(&bytes, to)
                {
                    tracing::warn!("{name}: a reply to {to} could not be sent: {error}");
                }
                if let Some(record) = handled.record {
                    self.timeline.record(record);
                }
            }
        })?;
        Ok(())
    }

    /// Decides about one packet, and applies what the decision does to leases.
    pub fn handle(&self, bytes: &[u8], sender: SocketAddrV4, port: Port) -> Handled {
        let request = match packet::parse(bytes) {
            Ok(request) => request,
            Err(refused) => {
                if self.counters.count(refused.counter()) {
                    tracing::warn!("a packet from {sender} gets no answer: {refused}");
                }
                return Handled::default();
            }
        };
        tracing::debug!("from {sender}:\n{request}");
        self.answer(&request, sender, port).unwrap_or_else(|error| {
            // Silence: the client asks again, and by then the store may work.
            tracing::error!("{} gets no answer: {error}", request.mac);
            self.counters.count("store-errors");
            Handled::default()
        })
    }

    fn answer(
        &self,
        request: &Request,
        sender: SocketAddrV4,
        port: Port,
    ) -> Result<Handled, StoreError> {
        let now = unix_ms() / 1000;
        let settings = &self.settings;
        let pool = (settings.mode == Mode::Full).then(|| (&settings.pool, settings.server()));
        let known = self.store.lease_facts(request.mac, request.wanted(), pool, now)?;
        let facts = Facts {
            now,
            lease: known.lease,
            wanted_is_taken: known.wanted_is_taken,
            free: known.free,
            quirks: self.quirks.get(&request.mac).copied().unwrap_or_default(),
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
