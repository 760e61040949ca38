//! Goes through a capture's datagrams and answers each client's packet that is for such as us.

use super::{
    capture::Capture,
    compare,
    frame::Datagram,
    heard::Heard,
    report::{Report, Said, Step},
    scene::{Scene, ipv4, is_reply},
    tftp,
};
use crate::{
    dhcp::{
        answerer::{Answerer, Packet, Unanswered},
        classify,
        decide::Port,
        parse,
        settings::Mode,
    },
    machine::Mac,
    progress::{self, Mark},
    script,
    timeline::{Kind, Record},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

/// The most packets answered; more than that nobody reads.
pub const MAX_STEPS: usize = 20_000;

/// Answers a capture. `folder` has iPXE's files, where they are at hand.
pub fn walk(
    capture: &Capture<'_>,
    datagrams: &[Datagram<'_>],
    scene: &Scene,
    answerer: &Answerer,
    folder: Option<&Path>,
) -> Report {
    let mut walk = Walk {
        datagrams,
        index: Index::of(datagrams),
        answerer,
        folder,
        began: capture.frames.first().map_or(Duration::ZERO, |frame| frame.at),
        machines: BTreeMap::new(),
        steps: Vec::new(),
        ipv6: 0,
        failed: None,
    };
    let mut whole = true;
    for at in 0..datagrams.len() {
        if walk.steps.len() >= MAX_STEPS {
            whole = false;
            break;
        }
        walk.look(at);
    }
    let mut notes = Vec::new();
    notes.extend(capture.ended.map(|why| format!("reading ended: {why}")));
    if !whole {
        notes.push(format!("{MAX_STEPS} packets were answered; the rest was left out"));
    }
    if capture.foreign > 0 {
        notes.push(format!("{} packets are of links that are not read", capture.foreign));
    }
    if walk.ipv6 > 0 {
        notes.push(format!("{} packets of DHCPv6 are not answered here", walk.ipv6));
    }
    notes.extend(walk.failed.map(|error| format!("the database failed: {error}")));
    let (settings, network) = (&answerer.settings, &scene.network);
    let part = match scene.mode {
        Mode::Full => format!("the DHCP server, giving {}", settings.pool),
        Mode::Proxy => "a ProxyDHCP server".into(),
    };
    let place = scene.place.told();
    let prefix = network.mask.to_bits().leading_ones();
    let we = format!("{}/{prefix}, {place}: {part}", network.address);
    Report { we, steps: walk.steps, notes }
}

/// What followed on what, by position.
struct Index {
    /// DHCP of one transaction.
    transactions: BTreeMap<(u32, Mac), Vec<usize>>,
    /// Datagrams from or to a port that asked for a file.
    transfers: BTreeMap<SocketAddr, Vec<usize>>,
}

impl Index {
    fn of(datagrams: &[Datagram<'_>]) -> Self {
        let mut index = Self { transactions: BTreeMap::new(), transfers: BTreeMap::new() };
        for (at, datagram) in datagrams.iter().enumerate() {
            if let Some(key) = transaction(datagram) {
                index.transactions.entry(key).or_default().push(at);
            } else if datagram.destination.port() == 69 {
                index.transfers.entry(datagram.source).or_default().push(at);
            } else {
                for end in [datagram.source, datagram.destination] {
                    if let Some(transfer) = index.transfers.get_mut(&end) {
                        transfer.push(at);
                    }
                }
            }
        }
        index
    }

    /// What came after `at` in a list, before the client's next packet of the kind.
    fn after(list: Option<&Vec<usize>>, at: usize, ends: impl Fn(usize) -> bool) -> Vec<usize> {
        let list = list.map_or(&[][..], Vec::as_slice);
        let from = list.partition_point(|&position| position <= at);
        list[from..].iter().copied().take_while(|&position| !ends(position)).collect()
    }
}

/// The transaction that a DHCP packet, of either side, belongs to.
fn transaction(datagram: &Datagram<'_>) -> Option<(u32, Mac)> {
    let bytes = datagram.payload;
    let dhcp = is_reply(datagram) || matches!(datagram.destination.port(), 67 | 4011);
    if !dhcp || bytes.len() < 34 {
        return None;
    }
    let mut mac = Mac([0; 6]);
    mac.0.copy_from_slice(&bytes[28..34]);
    Some((u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), mac))
}

struct Walk<'a> {
    datagrams: &'a [Datagram<'a>],
    index: Index,
    answerer: &'a Answerer,
    folder: Option<&'a Path>,
    began: Duration,
    /// Whose an address is, as captured servers gave them.
    machines: BTreeMap<IpAddr, Mac>,
    steps: Vec<Step>,
    ipv6: usize,
    failed: Option<String>,
}

impl Walk<'_> {
    fn look(&mut self, at: usize) {
        let datagram = self.datagrams[at];
        let port = datagram.destination.port();
        match (datagram.destination, port) {
            (_, 67 | 68 | 4011) if is_reply(&datagram) => {
                if let Some(heard) = Heard::read(datagram.payload)
                    && heard.message == Some(5)
                    && let Some(address) = heard.address
                {
                    self.machines.insert(address.into(), heard.mac);
                }
            }
            (SocketAddr::V4(_), 67) => self.dhcp(at, Port::Dhcp),
            (SocketAddr::V4(_), 4011) => self.dhcp(at, Port::Binl),
            (_, 69) => self.transfer(at),
            // DHCPv6 (RFC 8415 section 7.2), from clients and relays alike.
            (SocketAddr::V6(_), 547) => self.ipv6 += 1,
            _ => {}
        }
    }

    fn step(&self, datagram: &Datagram<'_>, client: String, asks: String, ours: Said) -> Step {
        Step {
            packet: datagram.number,
            seconds: datagram.at.saturating_sub(self.began).as_secs_f64(),
            client,
            asks,
            ours,
            captured: vec![],
            differences: vec![],
        }
    }

    fn dhcp(&mut self, at: usize, port: Port) {
        let datagram = self.datagrams[at];
        let Some(sender) = ipv4(datagram.source) else { return };
        let now = datagram.at.as_secs();
        let request = parse(datagram.payload);
        let to = datagram.destination.port();
        let (client, asks) = match &request {
            Ok(request) => {
                let quirks = self.answerer.rules.quirks(request);
                let who = classify(&quirks.corrected(request.clone()));
                let message = format!("{:?}", request.message).to_uppercase();
                (request.mac.to_string(), format!("{message} to port {to} from {who}"))
            }
            Err(_) => (datagram.source.to_string(), format!("a packet to port {to}")),
        };
        let packet = Packet { bytes: datagram.payload.to_vec(), sender };
        let (reply, record, refused) = match self.answerer.handle(&[packet], port, now).pop() {
            None => (None, None, None),
            Some(Ok(handled)) => (handled.reply, handled.record, None),
            Some(Err(Unanswered::Refused(refused))) => (None, None, Some(refused.to_string())),
            Some(Err(Unanswered::Store(error))) => {
                self.failed = Some(error.to_string());
                (None, None, Some("our database failed".into()))
            }
        };
        let why = record.as_ref().map(|record| record.text.clone()).or(refused);
        let heard = reply.as_ref().and_then(|(bytes, _)| Heard::read(bytes));
        let says = match (&heard, &reply) {
            (Some(heard), Some((_, to))) => format!("{} to {to}", heard.says()),
            _ => "nothing".into(),
        };
        let unsaid = || "it is not for us to answer".to_string();
        let why = why.or_else(|| heard.is_none().then(unsaid));
        let fields = heard.as_ref().map(|heard| heard.fields.clone()).unwrap_or_default();
        let mut step = self.step(&datagram, client, asks, Said { from: None, says, why, fields });

        let captured = self.captured(at);
        let replies: Vec<Heard> = captured.iter().map(|(_, heard)| heard.clone()).collect();
        // A capture of a machine alone, or of our own side of a relay, has no answers to compare.
        if !replies.is_empty() {
            step.differences = compare::replies(heard.as_ref(), &replies);
        }
        step.captured = captured
            .into_iter()
            .map(|(from, heard)| Said {
                from: Some(from),
                says: heard.says(),
                why: None,
                fields: heard.fields,
            })
            .collect();
        self.steps.push(step);
        if let Some(record) = record {
            self.record(record, datagram.at);
        }
    }

    /// What servers answered to the packet at this position.
    fn captured(&self, at: usize) -> Vec<(String, Heard)> {
        let list =
            transaction(&self.datagrams[at]).and_then(|key| self.index.transactions.get(&key));
        let asks = |position: usize| !is_reply(&self.datagrams[position]);
        let answers = Index::after(list, at, asks).into_iter().map(|at| &self.datagrams[at]);
        // More than that from one network is a storm, not an answer.
        let answers = answers.take(8);
        answers
            .filter_map(|answer| {
                Some((answer.source.ip().to_string(), Heard::read(answer.payload)?))
            })
            .collect()
    }

    fn transfer(&mut self, at: usize) {
        let datagram = self.datagrams[at];
        let list = self.index.transfers.get(&datagram.source);
        let asks = |position: usize| self.datagrams[position].destination.port() == 69;
        // A request sent again opens nothing new; a transfer is told by its first packets.
        let after: Vec<Datagram<'_>> = Index::after(list, at, asks)
            .into_iter()
            .take(8)
            .map(|position| self.datagrams[position])
            .collect();
        let asked = tftp::asked(&datagram, &after, self.folder);
        let mac = asked.mac.or_else(|| self.machines.get(&datagram.source.ip()).copied());
        let client = mac.map_or_else(|| datagram.source.to_string(), |mac| mac.to_string());
        let mut step = self.step(&datagram, client, asked.asks, asked.ours);
        step.captured = asked.captured;
        step.differences = asked.differences;
        self.steps.push(step);
        if let (Some(mac), Some(path), true) = (mac, asked.path, asked.loads) {
            let stage = if path.ends_with(script::UKI_FILE) { progress::UKI } else { "tftp" };
            let record = Record::new(mac, Kind::Tftp, format!("{path}: loaded, as captured"));
            let record = record.marks([Mark::Began(stage), Mark::Done(stage, String::new())]);
            self.record(record, datagram.at);
        }
    }

    /// How far a machine's boot has come decides what its iPXE is told.
    fn record(&mut self, mut record: Record, at: Duration) {
        record.at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        if let Err(error) = self.answerer.store.record(&[record]) {
            self.failed = Some(error.to_string());
        }
    }
}
