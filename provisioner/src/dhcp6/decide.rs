//! What we answer: a pure function of settings, what is known, and the request.

use super::{
    boot::{Boot, boot},
    lease::{DECLINED_SECONDS, Lease, LeaseChange, OFFER_SECONDS},
    packet::Request,
    reply::{Given, Reply},
    settings::Settings,
};
use crate::{
    dhcp::{
        classify::{Client, Platform, Way, architecture_name},
        decide::{Note, UKI_NOT_STARTED},
    },
    progress::{Asker, Mark},
    quirks::Quirks,
    timeline::{Kind, Sighting},
};
use dhcproto::v6::{MessageType, Status};
use std::net::{IpAddr, Ipv6Addr};

/// What is known when a request comes, besides settings.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Seconds since 1970.
    pub now: u64,
    /// What this client holds, or held last.
    pub lease: Option<Lease>,
    /// Whether somebody else holds the address that it wants.
    pub wanted_is_taken: bool,
    /// An address of the pool that it may have.
    pub free: Option<Ipv6Addr>,
    /// What this machine needs.
    pub quirks: Quirks,
    /// Whether it has loaded our iPXE in this boot.
    pub loaded_ipxe: bool,
    /// Whether it fetched the whole UKI in this boot and has not reported since.
    pub took_uki: bool,
}

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

impl Answer {
    fn silence() -> Self {
        Self { reply: None, lease: LeaseChange::Keep, note: None }
    }
}

/// Decides about one request.
pub fn decide(settings: &Settings, facts: &Facts, request: &Request, client: Client) -> Answer {
    let decision = Decision { settings, facts, request, client };
    match request.message {
        _ if !decision.is_for_us() => decision.another_servers(),
        MessageType::Solicit | MessageType::Request | MessageType::InformationRequest
            if matches!(client, Client::Unsupported(_)) =>
        {
            decision.unsupported()
        }
        MessageType::Solicit => decision.solicit(),
        MessageType::Request => decision.request(),
        MessageType::Renew | MessageType::Rebind => decision.extend(),
        MessageType::Confirm => decision.confirm(),
        MessageType::Release => decision.release(),
        MessageType::Decline => decision.decline(),
        MessageType::InformationRequest => decision.inform(),
        _ => Answer::silence(),
    }
}

struct Decision<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
    request: &'a Request,
    client: Client,
}

impl Decision<'_> {
    /// Whether the request names the server that it must (RFC 8415 section 16).
    fn is_for_us(&self) -> bool {
        let named = self.request.server.as_ref();
        let us = named == Some(&self.settings.duid);
        match self.request.message {
            MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => named.is_none(),
            MessageType::InformationRequest => {
                (us || named.is_none()) && self.request.associations.is_empty()
            }
            _ => us,
        }
    }

    /// A client's word to another server.
    fn another_servers(&self) -> Answer {
        let Some(server) = self.request.server.as_ref() else { return Answer::silence() };
        if self.request.message != MessageType::Request || *server == self.settings.duid {
            return Answer::silence();
        }
        let text = format!(
            "{} took the address of another DHCPv6 server, {}: there should be one on a network; \
             stop that one, or run this one with --dhcp6 off",
            self.client,
            hex::encode(server)
        );
        let silence = Answer { lease: LeaseChange::Release, ..Answer::silence() };
        self.note(Kind::Refused, text, vec![], silence)
    }

    /// What this client is told to boot; nothing for a running system.
    fn boot(&self) -> Option<Boot> {
        // Once in a boot: where ours cannot run, the ROM's goes on by itself.
        let replace = self.facts.quirks.replace_ipxe && !self.facts.loaded_ipxe;
        boot(self.settings, &self.facts.quirks, self.request.mac, self.client, replace)
    }

    fn unsupported(&self) -> Answer {
        let what = match self.client {
            Client::Unsupported(Some(arch)) => {
                format!("{} (architecture {arch})", architecture_name(arch))
            }
            _ => "an architecture that it does not name".into(),
        };
        let text = format!(
            "not served: firmware of {what} wants to boot, and there are images for x86-64 alone \
             (architectures 0, 7, 9 and 16); take it off this network or boot it otherwise"
        );
        self.note(Kind::Refused, text, vec![], Answer::silence())
    }

    fn solicit(&self) -> Answer {
        if self.request.association().is_none() {
            // It wants a prefix alone, or a temporary address.
            let mut reply = Reply::new(MessageType::Advertise);
            reply.refuse_others = true;
            return Answer { reply: Some(reply), ..Answer::silence() };
        }
        if let Some(refusal) = self.wrong_link() {
            return refusal;
        }
        let (facts, settings) = (self.facts, self.settings);
        let Some(address) = self.address() else {
            let text = format!(
                "not served: all {} addresses of the pool {} are taken; enlarge it or shorten leases",
                settings.pool.size(),
                settings.pool
            );
            let mut reply = Reply::new(MessageType::Advertise);
            let none = "no address is free";
            reply.status = Some((Status::NoAddrsAvail, none.into()));
            reply.association = Some(Given::Refused(Status::NoAddrsAvail, none.into()));
            let answer = Answer { reply: Some(reply), ..Answer::silence() };
            return self.note(Kind::Refused, text, vec![], answer);
        };
        let boot = self.boot();
        let rapid = self.request.rapid;
        let mut reply = Reply::new(if rapid { MessageType::Reply } else { MessageType::Advertise });
        reply.association = Some(Given::Address(address));
        reply.refuse_others = true;
        reply.rapid = rapid;
        let done = if rapid { "gave" } else { "offered" };
        let text = match &boot {
            Some(boot) => format!("SOLICIT from {}: {done} {address} and {boot}", self.client),
            None => format!("SOLICIT from {}: {done} {address}", self.client),
        };
        let mut marks = vec![];
        if boot.is_some() {
            marks.push(Mark::Asks(self.asker()));
            if rapid {
                marks.push(Mark::Answered(self.asker(), format!("has {address}")));
            }
        }
        reply.boot = boot;
        let seconds = if rapid { u64::from(settings.lease_seconds) } else { OFFER_SECONDS };
        // A lease that still runs is not cut short by a new offer of the same address.
        let until = (facts.now + seconds)
            .max(facts.lease.filter(|lease| lease.address == address).map_or(0, |l| l.expires));
        self.answer(reply, LeaseChange::Hold(address, until), text, marks)
    }

    fn request(&self) -> Answer {
        if let Some(refusal) = self.wrong_link() {
            return refusal;
        }
        if self.request.association().is_none() {
            return Answer::silence();
        }
        if let Some(wanted) = self.request.wanted().filter(|wanted| !self.is_on_link(*wanted)) {
            let why = format!("{wanted} belongs to another network");
            return self.refuse(Status::NotOnLink, &why);
        }
        match self.address() {
            Some(address) => self.give(address, self.boot()),
            None => self.refuse(Status::NoAddrsAvail, "no address is free"),
        }
    }

    /// RENEW and REBIND.
    fn extend(&self) -> Answer {
        if let Some(refusal) = self.wrong_link() {
            return refusal;
        }
        let Some(wanted) = self.request.wanted() else {
            return self.refuse(Status::NoBinding, "it names no address");
        };
        let held = self.facts.lease.is_some_and(|lease| lease.address == wanted);
        if !self.is_on_link(wanted) {
            // Not its any more where it is now (RFC 8415 section 18.3.4).
            let mut reply = Reply::new(MessageType::Reply);
            reply.association = Some(Given::Nothing);
            let text = format!("{} must ask anew: {wanted} is of another network", self.client);
            return self.answer(reply, LeaseChange::Keep, text, vec![]);
        }
        if self.facts.wanted_is_taken {
            return self.refuse(Status::NoBinding, &format!("{wanted} is another's"));
        }
        if !held && !self.is_ours(wanted) {
            let why = format!("{wanted} is not in the pool {}", self.settings.pool);
            return self.refuse(Status::NoBinding, &why);
        }
        self.give(wanted, None)
    }

    /// Whether a client that comes back to a link can go on with what it has.
    fn confirm(&self) -> Answer {
        let mut all = self.request.associations.iter().flat_map(|each| &each.addresses).peekable();
        // RFC 8415 section 18.3.3.
        if all.peek().is_none() {
            return Answer::silence();
        }
        let status = match all.all(|address| self.is_on_link(*address)) {
            true => (Status::Success, "these are addresses of this link".to_string()),
            false => (Status::NotOnLink, "these are addresses of another link".to_string()),
        };
        let mut reply = Reply::new(MessageType::Reply);
        reply.status = Some(status);
        Answer { reply: Some(reply), ..Answer::silence() }
    }

    fn inform(&self) -> Answer {
        let mut reply = Reply::new(MessageType::Reply);
        let Some(boot) = self.boot() else {
            return Answer { reply: Some(reply), ..Answer::silence() };
        };
        let text = format!("INFORMATION-REQUEST from {}: {boot}, no address", self.client);
        let asker = self.asker();
        let done = vec![Mark::Asks(asker), Mark::Answered(asker, format!("told {boot}"))];
        reply.boot = Some(boot);
        self.answer(reply, LeaseChange::Keep, text, done)
    }

    fn release(&self) -> Answer {
        match self.given_back() {
            Some(address) => {
                let text = format!("{} gave back {address}", self.client);
                let answer = Answer {
                    reply: Some(self.done()),
                    lease: LeaseChange::Release,
                    ..Answer::silence()
                };
                self.note(Kind::Dhcp, text, vec![], answer)
            }
            None => self.no_binding(),
        }
    }

    fn decline(&self) -> Answer {
        let Some(address) = self.given_back() else { return self.no_binding() };
        let until = self.facts.now + DECLINED_SECONDS;
        let answer = Answer {
            reply: Some(self.done()),
            lease: LeaseChange::Decline(address, until),
            ..Answer::silence()
        };
        let text = format!(
            "{address} was declined: some other machine uses it; it is left alone for \
             {DECLINED_SECONDS} s; find that machine, or take the address out of the pool"
        );
        self.note(Kind::Refused, text, vec![], answer)
    }

    /// The client's own address, where it names that one.
    fn given_back(&self) -> Option<Ipv6Addr> {
        let held = self.facts.lease.map(|lease| lease.address)?;
        self.request.association()?.addresses.contains(&held).then_some(held)
    }

    fn done(&self) -> Reply {
        let mut reply = Reply::new(MessageType::Reply);
        reply.status = Some((Status::Success, "done".into()));
        reply
    }

    /// RELEASE and DECLINE of what is not the client's: it is told so, and may forget it.
    fn no_binding(&self) -> Answer {
        let mut reply = self.done();
        reply.association = Some(Given::Refused(Status::NoBinding, "not yours here".into()));
        Answer { reply: Some(reply), ..Answer::silence() }
    }

    /// What it holds, else what it wants, else any.
    fn address(&self) -> Option<Ipv6Addr> {
        let facts = self.facts;
        let held = facts.lease.map(|lease| lease.address).filter(|&held| self.is_ours(held));
        let wanted = self.request.wanted();
        let wanted = wanted.filter(|&wanted| self.is_ours(wanted) && !facts.wanted_is_taken);
        held.or(wanted).or(facts.free)
    }

    fn give(&self, address: Ipv6Addr, boot: Option<Boot>) -> Answer {
        let mut reply = Reply::new(MessageType::Reply);
        reply.association = Some(Given::Address(address));
        let asks = self.request.message == MessageType::Request;
        reply.refuse_others = asks;
        let text = match (&boot, asks) {
            (Some(boot), _) => format!("{} has {address} and goes on with {boot}", self.client),
            (None, true) => format!("{} has {address}", self.client),
            (None, false) => format!("{} keeps {address}", self.client),
        };
        let marks = match &boot {
            Some(_) => vec![Mark::Answered(self.asker(), format!("has {address}"))],
            None => vec![],
        };
        reply.boot = boot;
        let until = self.facts.now + u64::from(self.settings.lease_seconds);
        self.answer(reply, LeaseChange::Hold(address, until), text, marks)
    }

    fn refuse(&self, status: Status, reason: &str) -> Answer {
        let mut reply = Reply::new(MessageType::Reply);
        reply.association = Some(Given::Refused(status, reason.into()));
        let text = format!("{} must ask anew: {reason}", self.client);
        self.answer(reply, LeaseChange::Keep, text, vec![])
    }

    /// A client on a link that we have no addresses for.
    fn wrong_link(&self) -> Option<Answer> {
        let pool = self.settings.pool.link();
        let text = match self.request.link() {
            Some(link) if pool.contains(link) => return None,
            Some(link) => format!(
                "not served: its relay's link has {link}, and the pool {} is of {pool}; name one \
                 of that link by --pool6",
                self.settings.pool
            ),
            None if pool.contains(self.settings.server()) => return None,
            None => format!(
                "not served: it is on our own link, {}, and the pool {} is of {pool}",
                self.settings.network, self.settings.pool
            ),
        };
        Some(self.note(Kind::Refused, text, vec![], Answer::silence()))
    }

    /// Whether an address is of the link that the client is on.
    fn is_on_link(&self, address: Ipv6Addr) -> bool {
        match self.request.link() {
            Some(_) => self.settings.pool.link().contains(address),
            None => self.settings.network.contains(address),
        }
    }

    fn is_ours(&self, address: Ipv6Addr) -> bool {
        let (settings, pool) = (self.settings, &self.settings.pool);
        let everybodys = address == pool.link().first();
        pool.contains(address) && address != settings.server() && !everybodys
    }

    fn asker(&self) -> Asker {
        if matches!(self.client, Client::Ipxe(..)) { Asker::Ipxe } else { Asker::Firmware }
    }

    fn answer(&self, reply: Reply, lease: LeaseChange, text: String, marks: Vec<Mark>) -> Answer {
        let answer = Answer { reply: Some(reply), lease, note: None };
        self.note(Kind::Dhcp, text, marks, answer)
    }

    fn note(&self, kind: Kind, text: String, marks: Vec<Mark>, answer: Answer) -> Answer {
        // Firmware that fetched all of the UKI and asks again did not start it, or what it
        // started died.
        let unstarted = self.facts.took_uki && matches!(self.client, Client::Firmware(..));
        let (kind, text, marks) = if unstarted {
            let failed = vec![Mark::Failed("uki", UKI_NOT_STARTED.into())];
            (Kind::Refused, format!("{text}; {UKI_NOT_STARTED}"), [failed, marks].concat())
        } else {
            (kind, text, marks)
        };
        let (platform, boot_mode) = match self.client {
            Client::Firmware(platform, Way::Pxe) => (Some(platform), Some("pxe")),
            Client::Firmware(platform, Way::Http) => (Some(platform), Some("http")),
            // Ours comes after firmware's own way; a ROM's is the way.
            Client::Ipxe(platform, _) if !self.facts.loaded_ipxe => (Some(platform), Some("ipxe")),
            Client::Ipxe(platform, _) => (Some(platform), None),
            Client::System | Client::Unsupported(_) => (None, None),
        };
        let given = match answer.reply.as_ref() {
            Some(Reply { message: MessageType::Reply, association, .. }) => association.as_ref(),
            _ => None,
        };
        let sighting = Sighting {
            boots: self.client != Client::System,
            // A DUID-UUID has one, but in which order of bytes its sender does not say.
            uuid: None,
            serial: None,
            firmware: platform.map(|platform| match platform {
                Platform::Bios => "bios",
                Platform::Uefi => "uefi",
            }),
            boot_mode,
            address: given.and_then(|given| match given {
                Given::Address(address) => Some(IpAddr::V6(*address)),
                Given::Nothing | Given::Refused(..) => None,
            }),
        };
        Answer { note: Some(Note { kind, text, marks, sighting }), ..answer }
    }
}
