//! What we answer: a pure function of settings, what is known, and the request.

use super::{
    classify::{Able, Client, Platform, Way, refusal},
    lease::{DECLINED_SECONDS, Lease, LeaseChange, OFFER_SECONDS},
    packet::Request,
    reply::{Boot, Reply, To},
    settings::{BootMethod, HttpBoot, Mode, Settings},
};
use crate::{
    progress::{Asker, Mark},
    quirks::Quirks,
    timeline::{Kind, Sighting},
};
use dhcproto::v4::MessageType;
use std::net::{IpAddr, Ipv4Addr};

/// The port that a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 67.
    Dhcp,
    /// 4011, the boot server's (BINL).
    Binl,
}

/// What is known when a request comes, besides settings.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Seconds since 1970.
    pub now: u64,
    /// What this client holds, or held last.
    pub lease: Option<Lease>,
    /// Whether somebody else holds the address that it wants.
    pub wanted_is_taken: bool,
    /// An address of the pool that nobody holds.
    pub free: Option<Ipv4Addr>,
    /// What this machine needs.
    pub quirks: Quirks,
    /// Whether it has loaded our iPXE in this boot.
    pub loaded_ipxe: bool,
    /// Whether it fetched the whole UKI in this boot and has not reported since.
    pub took_uki: bool,
}

/// Of a machine that fetched the whole UKI, and then came nothing. Whether its firmware started it
/// nobody tells us.
pub const UKI_NOT_STARTED: &str = "it fetched the whole UKI and has not reported since: its \
     firmware may refuse the signature (its screen then says Access Denied or Security Violation; \
     enrol our key in it, or sign the UKI with a key that it has), or what it started died, or has \
     no network, before it could report";

/// What is done about a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Sent, where anything is.
    pub reply: Option<Reply>,
    /// Applied first.
    pub lease: LeaseChange,
    /// Recorded, where it is worth it.
    pub note: Option<Note>,
}

/// What is recorded of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The kind of event.
    pub kind: Kind,
    /// For people.
    pub text: String,
    /// How it moves the boot on: several steps, in order.
    pub marks: Vec<Mark>,
    /// What it tells of the machine.
    pub sighting: Sighting,
}

impl Answer {
    fn silence() -> Self {
        Self { reply: None, lease: LeaseChange::Keep, note: None }
    }
}

/// Decides about one request.
pub fn decide(
    settings: &Settings,
    facts: &Facts,
    request: &Request,
    client: Client,
    port: Port,
) -> Answer {
    let decision = Decision { settings, facts, request, client };
    match (port, settings.mode, request.message) {
        (_, _, MessageType::Discover | MessageType::Request | MessageType::Inform)
            if matches!(client, Client::Unsupported(_)) =>
        {
            decision.unsupported()
        }
        (Port::Binl, _, MessageType::Request | MessageType::Inform) => decision.boot_server(),
        (Port::Binl, ..) => Answer::silence(),
        (Port::Dhcp, Mode::Proxy, MessageType::Discover) => decision.proxy_offer(),
        (Port::Dhcp, Mode::Proxy, _) => Answer::silence(),
        (Port::Dhcp, Mode::Full, MessageType::Discover) => decision.discover(),
        (Port::Dhcp, Mode::Full, MessageType::Request) => decision.request(),
        (Port::Dhcp, Mode::Full, MessageType::Inform) => decision.inform(),
        (Port::Dhcp, Mode::Full, MessageType::Release) => decision.release(),
        (Port::Dhcp, Mode::Full, MessageType::Decline) => decision.decline(),
        (Port::Dhcp, Mode::Full, _) => Answer::silence(),
    }
}

struct Decision<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
    request: &'a Request,
    client: Client,
}

impl Decision<'_> {
    /// What this client is told to boot; nothing for a running system.
    fn boot(&self) -> Option<Boot> {
        let settings = self.settings;
        let file = |platform| match platform {
            Platform::Bios => &settings.bios_file,
            Platform::Uefi => &settings.uefi_file,
        };
        match self.client {
            Client::Firmware(platform, way) => {
                // Firmware verifies a UKI; iPXE is signed by nobody whom it knows.
                let uki = settings.uki.as_ref().filter(|_| platform == Platform::Uefi);
                Some(match (way, uki) {
                    (Way::Pxe, Some(uki)) => self.by_tftp(uki),
                    (Way::Pxe, None) => self.by_tftp(file(platform)),
                    (Way::Http, Some(uki)) => self.by_http("uki", uki),
                    (Way::Http, None) => self.by_http("ipxe", file(platform)),
                })
            }
            // Once in a boot: where ours cannot run, the ROM's goes on by itself.
            Client::Ipxe(platform, able)
                if (able == Able::No || self.facts.quirks.replace_ipxe)
                    && !self.facts.loaded_ipxe =>
            {
                Some(self.by_tftp(file(platform)))
            }
            Client::Ipxe(..) => Some(Boot::Script(format!("{}/boot.ipxe", settings.base_url))),
            Client::System | Client::Unsupported(_) => None,
        }
    }

    /// The machine's address in the name tells whose transfer it is, in proxy mode too, where we
    /// do not know its IP address.
    fn by_tftp(&self, file: &str) -> Boot {
        let quirks = &self.facts.quirks;
        let care = quirks.care.part().map(|part| format!("{part}/")).unwrap_or_default();
        Boot::File {
            name: format!("{}/{care}{file}", self.request.mac.hyphenated()),
            direct: quirks.method == BootMethod::File,
        }
    }

    fn by_http(&self, folder: &str, file: &str) -> Boot {
        let (settings, mac) = (self.settings, self.request.mac.hyphenated());
        let secure = settings.http_boot == HttpBoot::Https;
        let base = match self.facts.quirks.https.unwrap_or(secure) {
            true => &settings.https_url,
            false => &settings.base_url,
        };
        Boot::Url(format!("{base}/{folder}/{file}?mac={mac}"))
    }

    fn unsupported(&self) -> Answer {
        let arch = match self.client {
            Client::Unsupported(arch) => arch,
            _ => None,
        };
        let text = format!("not served: {}", refusal(arch));
        self.note(Kind::Refused, text, vec![], Answer::silence())
    }

    /// Proxy mode, port 67: no address, only what to boot.
    fn proxy_offer(&self) -> Answer {
        let Some(boot) = self.boot() else { return Answer::silence() };
        let mut reply = Reply::new(MessageType::Offer, To::client(self.request));
        reply.proxy = true;
        let text = format!("DISCOVER from {}: proposed {boot}, no address", self.client);
        let asker = self.asker();
        let done = vec![Mark::Asks(asker), Mark::Answered(asker, format!("proposed {boot}"))];
        reply.boot = Some(boot);
        self.answer(reply, LeaseChange::Keep, text, done)
    }

    /// Either mode, port 4011: what to boot, for a client that has its address.
    fn boot_server(&self) -> Answer {
        if self.request.server.is_some_and(|server| server != self.settings.server()) {
            return Answer::silence();
        }
        // The file itself, whatever the method was that led here.
        let boot = match self.boot() {
            None => return Answer::silence(),
            Some(Boot::File { name, .. }) => Boot::File { name, direct: true },
            Some(other) => other,
        };
        let mut reply = Reply::new(MessageType::Ack, To::Sender);
        reply.proxy = true;
        let text = format!("boot server request from {}: {boot}", self.client);
        let done = vec![Mark::Answered(self.asker(), format!("the boot server named {boot}"))];
        reply.boot = Some(boot);
        reply.echo_boot_item = true;
        self.answer(reply, LeaseChange::Keep, text, done)
    }

    fn discover(&self) -> Answer {
        if let Some(refusal) = self.wrong_link() {
            return refusal;
        }
        let (facts, settings) = (self.facts, self.settings);
        let held = facts.lease.map(|lease| lease.address).filter(|&held| self.is_ours(held));
        let wanted =
            self.request.requested.filter(|&wanted| self.is_ours(wanted) && !facts.wanted_is_taken);
        let Some(address) = held.or(wanted).or(facts.free) else {
            let text = format!(
                "not served: all {} addresses of the pool {} are taken; enlarge it or shorten leases",
                settings.pool.size(),
                settings.pool
            );
            return self.note(Kind::Refused, text, vec![], Answer::silence());
        };
        let boot = self.boot();
        let mut reply = Reply::new(MessageType::Offer, To::client(self.request));
        reply.address = Some(address);
        let text = match &boot {
            Some(boot) => format!("DISCOVER from {}: offered {address} and {boot}", self.client),
            None => format!("DISCOVER from {}: offered {address}", self.client),
        };
        let marks = if boot.is_some() { vec![Mark::Asks(self.asker())] } else { vec![] };
        reply.boot = boot;
        // A lease that still runs is neither cut short nor made longer by a new offer of its address.
        let runs = |lease: Lease| lease.address == address && lease.expires > facts.now;
        let lease = match facts.lease.is_some_and(runs) {
            true => LeaseChange::Keep,
            false => LeaseChange::Offer(address, facts.now + OFFER_SECONDS),
        };
        self.answer(reply, lease, text, marks)
    }

    fn request(&self) -> Answer {
        if let Some(server) = self.request.server.filter(|&s| s != self.settings.server()) {
            let text = format!(
                "{} took the offer of another DHCP server, {server}: there should be one on a \
                 network; stop that one, or run this one with --dhcp proxy",
                self.client
            );
            let silence = Answer { lease: LeaseChange::Release, ..Answer::silence() };
            return self.note(Kind::Refused, text, vec![], silence);
        }
        if let Some(refusal) = self.wrong_link() {
            return refusal;
        }
        let Some(wanted) = self.request.wanted() else {
            return self.nak("it names no address");
        };
        if !self.settings.link().contains(wanted) {
            return self.nak(&format!("{wanted} belongs to another network"));
        }
        let holds = self.facts.lease.is_some_and(|lease| lease.address == wanted);
        if self.facts.wanted_is_taken {
            return self.nak(&format!("{wanted} is another machine's"));
        }
        if !holds && !self.is_ours(wanted) {
            return self.nak(&format!("{wanted} is not in the pool {}", self.settings.pool));
        }
        let boot = self.boot();
        let renews = !self.request.ciaddr.is_unspecified();
        let to = if renews { To::Address(self.request.ciaddr) } else { To::client(self.request) };
        let mut reply = Reply::new(MessageType::Ack, to);
        reply.address = Some(wanted);
        let text = match (&boot, renews) {
            (Some(boot), _) => format!("{} has {wanted} and goes on with {boot}", self.client),
            (None, false) => format!("{} has {wanted}", self.client),
            (None, true) => format!("{} keeps {wanted}", self.client),
        };
        let marks = match &boot {
            Some(_) => vec![Mark::Answered(self.asker(), format!("has {wanted}"))],
            None => vec![],
        };
        reply.boot = boot;
        let until = self.facts.now + u64::from(self.settings.lease_seconds);
        self.answer(reply, LeaseChange::Hold(wanted, until), text, marks)
    }

    fn inform(&self) -> Answer {
        if self.request.ciaddr.is_unspecified() {
            return Answer::silence();
        }
        let reply = Reply::new(MessageType::Ack, To::Address(self.request.ciaddr));
        Answer { reply: Some(reply), ..Answer::silence() }
    }

    fn release(&self) -> Answer {
        let held = self.facts.lease.map(|lease| lease.address);
        if held.is_none() || held != self.request.wanted() {
            return Answer::silence();
        }
        let answer = Answer { lease: LeaseChange::Release, ..Answer::silence() };
        let text = format!("{} gave back {}", self.client, self.request.ciaddr);
        self.note(Kind::Dhcp, text, vec![], answer)
    }

    fn decline(&self) -> Answer {
        let held = self.facts.lease.map(|lease| lease.address);
        let Some(address) = self.request.requested.filter(|&address| held == Some(address)) else {
            return Answer::silence();
        };
        let until = self.facts.now + DECLINED_SECONDS;
        let answer = Answer { lease: LeaseChange::Decline(address, until), ..Answer::silence() };
        let text = format!(
            "{address} was declined: some other machine uses it; it is left alone for \
             {DECLINED_SECONDS} s; find that machine, or take the address out of the pool"
        );
        self.note(Kind::Refused, text, vec![], answer)
    }

    fn nak(&self, reason: &str) -> Answer {
        let mut reply = Reply::new(MessageType::Nak, To::nak(self.request));
        reply.message_text = Some(reason.into());
        let text = format!("{} must ask anew: {reason}", self.client);
        self.answer(reply, LeaseChange::Keep, text, vec![])
    }

    /// It is on a network that we have no addresses for: our own, where they are a relay's, or that
    /// of another relay.
    fn wrong_link(&self) -> Option<Answer> {
        let (relay, renewed) = (self.request.giaddr, self.request.ciaddr);
        let link = self.settings.link();
        let text = match relay.is_unspecified() {
            // Who renews asks us itself (RFC 2131, 4.3.6).
            true if link.contains(self.settings.server()) || link.contains(renewed) => return None,
            true => format!(
                "not served: it is on our own network, and the pool {} is of a relay's",
                self.settings.pool
            ),
            false if link.contains(relay) => return None,
            false => format!(
                "not served: relay {relay} is in a network that there is no pool for; \
                 name one by --pool FIRST-LAST/PREFIX, or run with --dhcp proxy beside that \
                 network's own server"
            ),
        };
        Some(self.note(Kind::Refused, text, vec![], Answer::silence()))
    }

    fn is_ours(&self, address: Ipv4Addr) -> bool {
        self.settings.pool.contains(address) && address != self.settings.server()
    }

    /// Firmware that fetched all of the UKI and asks again did not start it, or what it started
    /// died.
    fn unstarted(&self) -> Option<&'static str> {
        let again = self.facts.took_uki && matches!(self.client, Client::Firmware(..));
        again.then_some(UKI_NOT_STARTED)
    }

    fn asker(&self) -> Asker {
        if matches!(self.client, Client::Ipxe(..)) { Asker::Ipxe } else { Asker::Firmware }
    }

    fn answer(
        &self,
        mut reply: Reply,
        lease: LeaseChange,
        text: String,
        marks: Vec<Mark>,
    ) -> Answer {
        if reply.boot.is_some() {
            reply.add_options.clone_from(&self.facts.quirks.add_options);
            reply.drop_options.clone_from(&self.facts.quirks.drop_options);
        }
        let answer = Answer { reply: Some(reply), lease, note: None };
        self.note(Kind::Dhcp, text, marks, answer)
    }

    fn note(&self, kind: Kind, text: String, marks: Vec<Mark>, answer: Answer) -> Answer {
        let (kind, text, marks) = match self.unstarted() {
            Some(why) => {
                let marks = [vec![Mark::Failed("uki", why.into())], marks].concat();
                (Kind::Refused, format!("{text}; {why}"), marks)
            }
            None => (kind, text, marks),
        };
        let text = match self.facts.quirks.told() {
            Some(quirks) if self.client != Client::System => format!("{text}; {quirks}"),
            _ => text,
        };
        let (firmware, boot_mode) = match self.client {
            Client::Firmware(platform, way) => (Some(platform), Some(way)),
            Client::Ipxe(platform, _) => (Some(platform), None),
            Client::System | Client::Unsupported(_) => (None, None),
        };
        let boot_mode = match (self.client, boot_mode) {
            (_, Some(Way::Pxe)) => Some("pxe"),
            (_, Some(Way::Http)) => Some("http"),
            // Ours comes after firmware's own way; a ROM's is the way.
            (Client::Ipxe(..), _) if !self.facts.loaded_ipxe => Some("ipxe"),
            _ => None,
        };
        let address = answer.reply.as_ref().and_then(|reply| reply.address);
        let sighting = Sighting {
            boots: self.client != Client::System,
            uuid: self.request.uuid(),
            serial: None,
            firmware: firmware.map(|platform| match platform {
                Platform::Bios => "bios",
                Platform::Uefi => "uefi",
            }),
            boot_mode,
            address: address
                .filter(|_| self.request.message == MessageType::Request)
                .map(IpAddr::V4),
        };
        Answer { note: Some(Note { kind, text, marks, sighting }), ..answer }
    }
}
