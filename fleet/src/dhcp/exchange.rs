//! One exchange, DISCOVER to ACK, as a pure state machine:
//! `step(exchange, now, event) -> (exchange, action)`.

use super::{
    reply::{Kind, Reply},
    request::{self, Client, Terms},
};
use crate::machine::Machine;
use std::{net::Ipv4Addr, time::Duration};

/// Waits of EDK2 (`mPxeDhcpTimeout`) and of iPXE (`DHCP_DISC_PXE_…`) for an answer: the next try
/// comes after each but the last.
pub const WAITS: [Duration; 4] = [
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];
/// How often a client that is told NAK begins anew.
const MAX_NAKS: u32 = 3;

/// Something that comes.
#[derive(Clone, Debug)]
pub enum Event {
    /// An answer to this transaction.
    Reply(Reply),
    /// The deadline is over.
    Timer,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this, and wait.
    Send(Vec<u8>),
    /// Wait on.
    Wait,
    /// It is over.
    Done(Bound),
    /// It came to nothing.
    Failed(String),
}

/// What an exchange gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The address.
    pub address: Ipv4Addr,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// What to boot, and whose it is.
    pub boot: Option<(String, Ipv4Addr)>,
}

/// An exchange under way.
#[derive(Clone, Debug)]
pub struct Exchange {
    client: Client,
    machine: Machine,
    xid: u32,
    giaddr: Option<Ipv4Addr>,
    /// How long offers are collected before one is taken.
    offer_wait: Duration,
    began: Duration,
    deadline: Duration,
    tries: usize,
    naks: u32,
    address: Option<(Ipv4Addr, Ipv4Addr)>,
    boot: Option<(String, Ipv4Addr)>,
    requesting: bool,
    resent: u32,
}

impl Exchange {
    /// A client that begins at `now`, and its DISCOVER.
    pub fn start(
        client: Client,
        machine: &Machine,
        xid: u32,
        giaddr: Option<Ipv4Addr>,
        offer_wait: Duration,
        now: Duration,
    ) -> (Self, Action) {
        let exchange = Self {
            client,
            machine: machine.clone(),
            xid,
            giaddr,
            offer_wait,
            began: now,
            deadline: now,
            tries: 0,
            naks: 0,
            address: None,
            boot: None,
            requesting: false,
            resent: 0,
        };
        exchange.send(now)
    }

    /// When [`Event::Timer`] is due.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Requests sent more than once.
    pub fn resent(&self) -> u32 {
        self.resent
    }

    /// Goes on.
    pub fn step(self, now: Duration, event: Event) -> (Self, Action) {
        match event {
            Event::Timer => self.timer(now),
            Event::Reply(reply) if reply.xid != self.xid || reply.mac != self.machine.mac => {
                (self, Action::Wait)
            }
            Event::Reply(reply) => match (self.requesting, reply.kind) {
                (false, Kind::Offer) => self.offer(now, reply),
                (true, Kind::Ack) => self.ack(reply),
                (true, Kind::Nak) => self.nak(now, &reply),
                _ => (self, Action::Wait),
            },
        }
    }

    fn offer(mut self, now: Duration, reply: Reply) -> (Self, Action) {
        if let (Some(address), Some(server), None) = (reply.address, reply.server, self.address) {
            self.address = Some((server, address));
        }
        if self.boot.is_none() {
            self.boot = boot(&reply);
        }
        if !self.is_complete() {
            return (self, Action::Wait);
        }
        let earliest = self.began + self.offer_wait;
        if now < earliest {
            self.deadline = self.deadline.min(earliest);
            return (self, Action::Wait);
        }
        self.take(now)
    }

    /// A ProxyDHCP server's offer has what to boot and no address, a router's the other way round.
    fn is_complete(&self) -> bool {
        self.address.is_some() && (self.boot.is_some() || !self.client.boots())
    }

    fn take(mut self, now: Duration) -> (Self, Action) {
        self.requesting = true;
        self.tries = 0;
        self.send(now)
    }

    fn ack(mut self, reply: Reply) -> (Self, Action) {
        let Some((server, offered)) = self.address else { return (self, Action::Wait) };
        if reply.server.is_some_and(|other| other != server) {
            return (self, Action::Wait);
        }
        let boot = boot(&reply).or(self.boot.take());
        let address = reply.address.unwrap_or(offered);
        (self, Action::Done(Bound { address, server, boot }))
    }

    fn nak(mut self, now: Duration, reply: &Reply) -> (Self, Action) {
        self.naks += 1;
        if self.naks > MAX_NAKS {
            let why = reply.message.clone().unwrap_or_default();
            return (self, Action::Failed(format!("NAK after NAK: {why}")));
        }
        (self.requesting, self.address, self.boot, self.tries) = (false, None, None, 0);
        self.send(now)
    }

    fn timer(self, now: Duration) -> (Self, Action) {
        if now < self.deadline {
            return (self, Action::Wait);
        }
        if !self.requesting && self.is_complete() {
            return self.take(now);
        }
        if self.tries < WAITS.len() {
            return self.send(now);
        }
        let why = match (self.requesting, self.address) {
            (true, _) => "no ACK to its REQUEST",
            (false, None) => "no DHCP offer",
            (false, Some(_)) => "an address, but nobody says what to boot",
        };
        let waited: u64 = WAITS.iter().map(Duration::as_secs).sum();
        (self, Action::Failed(format!("{why} within {waited} s")))
    }

    fn send(mut self, now: Duration) -> (Self, Action) {
        let wait = WAITS[self.tries.min(WAITS.len() - 1)];
        if self.tries > 0 {
            self.resent += 1;
        }
        self.tries += 1;
        self.deadline = now + wait;
        let terms = Terms {
            xid: self.xid,
            seconds: u16::try_from((now - self.began).as_secs()).unwrap_or(u16::MAX),
            giaddr: self.giaddr,
            taken: self.address.filter(|_| self.requesting),
        };
        let bytes = request::bytes(self.client, &self.machine, &terms);
        (self, Action::Send(bytes))
    }
}

fn boot(reply: &Reply) -> Option<(String, Ipv4Addr)> {
    Some((reply.file.clone()?, reply.file_server.or(reply.server)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::reply::{parse, tests::answer};

    const XID: u32 = 77;
    const SERVER: [u8; 4] = [10, 0, 0, 1];
    const ADDRESS: [u8; 4] = [10, 0, 0, 50];

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn start(client: Client, wait: u64) -> Exchange {
        let machine = Machine::new(1, 1);
        Exchange::start(client, &machine, XID, None, seconds(wait), seconds(0)).0
    }

    fn reply(kind: u8, address: [u8; 4], file: &[u8]) -> Event {
        let mac = Machine::new(1, 1).mac;
        let options: [(u8, &[u8]); 3] = [(54, &SERVER), (66, b"10.0.0.1"), (67, file)];
        let options = if file.is_empty() { &options[..1] } else { &options[..] };
        Event::Reply(parse(&answer(kind, XID, mac, address, options)).unwrap())
    }

    #[test]
    fn an_offer_is_taken_and_the_ack_ends_it() {
        let (exchange, action) =
            start(Client::Edk2, 0).step(seconds(1), reply(2, ADDRESS, b"snponly.efi"));
        let Action::Send(bytes) = action else { panic!("{action:?}") };
        let request = provisioner::dhcp::parse(&bytes).unwrap();
        assert_eq!(request.requested, Some(ADDRESS.into()));
        let (_, action) = exchange.step(seconds(1), reply(5, ADDRESS, b"snponly.efi"));
        let boot = Some(("snponly.efi".to_owned(), SERVER.into()));
        let wanted = Bound { address: ADDRESS.into(), server: SERVER.into(), boot };
        assert_eq!(action, Action::Done(wanted));
    }

    #[test]
    fn silence_is_met_after_4_8_16_and_32_seconds_and_then_it_is_over() {
        let (mut exchange, mut now, mut sent) = (start(Client::Edk2, 0), seconds(0), vec![]);
        let reason = loop {
            now = exchange.deadline().max(now);
            let (next, action) = exchange.step(now, Event::Timer);
            exchange = next;
            match action {
                Action::Send(_) => sent.push(now.as_secs()),
                Action::Failed(reason) => break reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((sent, now.as_secs()), (vec![4, 12, 28], 60));
        assert_eq!((reason.as_str(), exchange.resent()), ("no DHCP offer within 60 s", 3));
    }

    #[test]
    fn beside_another_server_address_and_boot_file_come_from_two() {
        let exchange = start(Client::Ipxe, 0);
        let (exchange, action) = exchange.step(seconds(1), reply(2, ADDRESS, b""));
        assert_eq!(action, Action::Wait, "a router says nothing of booting");
        let proxied = exchange.clone().step(seconds(1), reply(2, [0; 4], b"http://10.0.0.1/x"));
        assert!(matches!(proxied.1, Action::Send(_)));
        let (_, action) = proxied.0.step(seconds(2), reply(5, ADDRESS, b""));
        let Action::Done(bound) = action else { panic!("{action:?}") };
        assert_eq!(bound.boot.unwrap().0, "http://10.0.0.1/x");
        // A running system wants an address alone.
        let system = start(Client::Linux, 0).step(seconds(1), reply(2, ADDRESS, b""));
        assert!(matches!(system.1, Action::Send(_)));
    }

    #[test]
    fn firmware_that_collects_offers_takes_one_when_its_time_is_over() {
        let (exchange, action) = start(Client::Edk2, 4).step(seconds(1), reply(2, ADDRESS, b"f"));
        assert_eq!((action, exchange.deadline()), (Action::Wait, seconds(4)));
        let (exchange, action) = exchange.step(seconds(4), Event::Timer);
        assert!(matches!(action, Action::Send(_)) && exchange.requesting);
    }

    #[test]
    fn a_nak_begins_anew_and_too_many_end_it() {
        let mut exchange = start(Client::Linux, 0);
        for _ in 0..MAX_NAKS {
            exchange = exchange.step(seconds(1), reply(2, ADDRESS, b"")).0;
            exchange = exchange.step(seconds(1), reply(6, [0; 4], b"")).0;
            assert!(!exchange.requesting);
        }
        exchange = exchange.step(seconds(1), reply(2, ADDRESS, b"")).0;
        assert!(matches!(exchange.step(seconds(1), reply(6, [0; 4], b"")).1, Action::Failed(_)));
    }

    #[test]
    fn what_is_for_another_is_not_looked_at() {
        let bytes = answer(2, XID + 1, Machine::new(1, 1).mac, ADDRESS, &[(54, &SERVER)]);
        let other = Event::Reply(parse(&bytes).unwrap());
        assert_eq!(start(Client::Linux, 0).step(seconds(1), other).1, Action::Wait);
        let bytes = answer(2, XID, Machine::new(2, 1).mac, ADDRESS, &[(54, &SERVER)]);
        let other = Event::Reply(parse(&bytes).unwrap());
        assert_eq!(start(Client::Linux, 0).step(seconds(1), other).1, Action::Wait);
    }
}
