//! What node-init does once it has a network: asks the time, tells of its boot, is challenged, is
//! taken in, and goes on telling.

use crate::{http, machine::Machine};
use protocol::{
    ChainId, Digest, PublicKey, Signed,
    boot::{BootEvent, Enrol, NodeConfig, STAGE_STANDS, StageState},
    certificate::{CertificateRequest, NodeCertificate},
    evidence::{Challenge, Chip, Held},
    release::{TimeAnswer, TimeRequest},
};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Pauses of node-init between two tries: 1, 2, 4 s.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_TRIES: u32 = 4;

/// What a node is told by its kernel's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The provisioner.
    pub provisioner: SocketAddrV4,
    /// Its key.
    pub key: PublicKey,
    /// The chain.
    pub chain: ChainId,
    /// The image that booted.
    pub release: Digest,
}

/// A machine's node-init.
pub struct Node<'a> {
    machine: &'a Machine,
    network: &'a Network,
    from: Ipv4Addr,
    began: Instant,
    sequence: u32,
    /// How it speaks by TLS, and to which port, once it was taken in.
    secured: Option<(Arc<ClientConfig>, u16)>,
    /// Questions asked more than once.
    pub retries: u32,
}

/// Stages that a boot tells of, in the three reports that most boots make.
const STAGES: [&[&str]; 3] = [
    &["mounts", "hardening", "command-line", "modules", "clock", "firewall", "identity", "network"],
    &["release", "root", "drivers", "inventory"],
    &["enrolment", "api", "registration", "compute"],
];

impl<'a> Node<'a> {
    /// A node whose kernel starts now.
    pub fn new(machine: &'a Machine, network: &'a Network, from: Ipv4Addr) -> Self {
        let began = Instant::now();
        Self { machine, network, from, began, sequence: 0, secured: None, retries: 0 }
    }

    /// With events that count on from there: those before it were told by the boot itself.
    pub fn from_event(mut self, sequence: u32) -> Self {
        self.sequence = sequence;
        self
    }

    /// Asks the time, and believes it only of the provisioner that the command line names.
    ///
    /// # Errors
    /// The reason.
    pub async fn time(&mut self) -> Result<(), String> {
        let nonce = format!("{} {}", self.machine.boot_id, self.sequence);
        let request = TimeRequest {
            nonce: Digest::of_bytes(nonce.as_bytes()),
            mac: self.machine.mac.to_string(),
            boot_id: self.machine.boot_id,
            scripted: true,
        };
        let answer: Signed<TimeAnswer> = self.ask("/v1/time", &request).await?;
        let said = answer.verify(&self.network.chain).map_err(|error| error.to_string())?;
        if answer.signer != self.network.key || said.nonce != request.nonce {
            return Err("somebody else answers, or an old answer comes back".into());
        }
        Ok(())
    }

    /// Tells of a part of its boot: the first, second or third report.
    ///
    /// # Errors
    /// The reason.
    pub async fn report(&mut self, part: usize) -> Result<(), String> {
        let mut events = Vec::new();
        for stage in STAGES.get(part).copied().unwrap_or_default() {
            events.push(self.event(stage, StageState::Started));
            events.push(self.event(stage, StageState::Done));
        }
        if part + 1 == STAGES.len() {
            events.push(self.event(STAGE_STANDS, StageState::Done));
        }
        self.tell(&events).await
    }

    /// Tells one thing more, as nodes that run do now and then.
    ///
    /// # Errors
    /// The reason.
    pub async fn beat(&mut self) -> Result<(), String> {
        if self.secured.is_none() {
            self.certificate().await?;
        }
        let event = self.event("compute", StageState::Done);
        self.tell(&[event]).await
    }

    /// Has its TPM challenged, and leaves the challenge unanswered: there is no chip. The
    /// provisioner's part of it is all done.
    ///
    /// # Errors
    /// The reason.
    pub async fn challenge(&mut self) -> Result<(), String> {
        let path = format!("/v1/machines/{}/challenge", self.machine.mac);
        let _: Challenge = self.ask(&path, &chip()).await?;
        Ok(())
    }

    /// Asks to be taken in; checks that the settings are the provisioner's, for this boot of it.
    ///
    /// # Errors
    /// The reason.
    pub async fn enrol(&mut self) -> Result<(), String> {
        let (machine, network) = (self.machine, self.network);
        let key = machine.key();
        let enrol = Enrol {
            mac: machine.mac.to_string(),
            boot_id: machine.boot_id,
            release: network.release,
            inventory: machine.inventory(),
            held: Held::Memory,
            evidence: None,
        };
        let enrol = Signed::sign(&network.chain, enrol, &key);
        let path = format!("/v1/machines/{}/enrol", machine.mac);
        let answer: Signed<NodeConfig> = self.ask(&path, &enrol).await?;
        let config = answer.verify(&network.chain).map_err(|error| error.to_string())?;
        let node = key.public();
        if answer.signer != network.key || config.node != node || config.boot_id != machine.boot_id
        {
            return Err("the settings are not for this node in this boot".into());
        }
        config.ownership.verify(&network.chain, &node).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Fetches its certificate, and speaks by it from then on.
    ///
    /// # Errors
    /// The reason.
    pub async fn certificate(&mut self) -> Result<(), String> {
        let (machine, network) = (self.machine, self.network);
        let key = machine.key();
        let nonce = Digest::of_bytes(format!("{} certificate", machine.boot_id).as_bytes());
        let mac = machine.mac.to_string();
        let path = format!("/v1/machines/{mac}/certificate");
        let request = CertificateRequest { mac, boot_id: machine.boot_id, nonce };
        let request = Signed::sign(&network.chain, request, &key);
        let answer: Signed<NodeCertificate> = self.ask(&path, &request).await?;
        let made = answer.verify(&network.chain).map_err(|error| error.to_string())?;
        if answer.signer != network.key || made.node != key.public() || made.nonce != nonce {
            return Err("the certificate is not for this node".into());
        }
        let config = mtls::client_showing(&key, made.certificate.clone().into(), network.key)
            .map_err(|error| error.to_string())?;
        self.secured = Some((Arc::new(config), made.port));
        Ok(())
    }

    fn event(&mut self, stage: &str, state: StageState) -> BootEvent {
        let sequence = self.sequence;
        self.sequence += 1;
        BootEvent {
            sequence,
            boot_id: self.machine.boot_id,
            stage: stage.into(),
            state,
            at_ms: self.began.elapsed().as_millis() as u64,
            detail: "simulated".into(),
        }
    }

    async fn tell(&mut self, events: &[BootEvent]) -> Result<(), String> {
        let path = format!("/v1/machines/{}/events", self.machine.mac);
        let _: serde_json::Value = self.ask(&path, &events).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, String> {
        let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let mut host = self.network.provisioner;
            let tls = self.secured.as_ref().map(|(config, port)| {
                host.set_port(*port);
                config.clone()
            });
            match http::post(self.from, host, tls, path, body.clone()).await {
                Ok(answer) => {
                    return serde_json::from_slice(&answer)
                        .map_err(|error| format!("{path}: the answer: {error}"));
                }
                // What was refused is refused again.
                Err(reason) if tries == MAX_TRIES || reason.starts_with('4') => return Err(reason),
                Err(_) => sleep(pause).await,
            }
            tries += 1;
            pause *= 2;
            self.retries += 1;
        }
    }
}

/// The point that every implementation of P-256 knows: its generator (SEC 2, section 2.4.2).
const POINT: ([u8; 32], [u8; 32]) = (
    [
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
        0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98,
        0xc2, 0x96,
    ],
    [
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
        0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf,
        0x51, 0xf5,
    ],
);
/// TPMT_PUBLIC of an endorsement key before its point: template L-2 of the EK Credential Profile.
const ENDORSEMENT: [u8; 54] = [
    0x00, 0x23, 0x00, 0x0b, 0x00, 0x03, 0x00, 0xb2, 0x00, 0x20, 0x83, 0x71, 0x97, 0x67, 0x44, 0x84,
    0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
    0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43,
    0x00, 0x10, 0x00, 0x03, 0x00, 0x10,
];
/// Likewise of node-init's attestation key: restricted signing, ECDSA with SHA-256.
const ATTESTATION: [u8; 20] = [
    0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b,
    0x00, 0x03, 0x00, 0x10,
];

/// A chip's public keys, as the provisioner wants them. Nobody has their other halves.
pub fn chip() -> Chip {
    let (x, y) = POINT;
    let key = |head: &[u8]| [head, &[0, 32], &x, &[0, 32], &y].concat();
    Chip { endorsement_key: key(&ENDORSEMENT), attestation_key: key(&ATTESTATION) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provisioner_takes_the_chips_keys_for_those_of_node_init() {
        let (credential, secret) = tpm::verify::credential(&chip(), &Digest([1; 32])).unwrap();
        assert!(!credential.is_empty() && !secret.is_empty());
    }

    #[test]
    fn events_count_up_and_the_last_report_says_that_the_boot_stands() {
        let machine = Machine::new(1, 1);
        let network = Network {
            provisioner: "10.0.0.1:8080".parse().unwrap(),
            key: machine.key().public(),
            chain: "alia-test".parse().unwrap(),
            release: Digest::default(),
        };
        let mut node = Node::new(&machine, &network, Ipv4Addr::UNSPECIFIED);
        let first = node.event("a", StageState::Started);
        let second = node.event("a", StageState::Done);
        assert_eq!((first.sequence, second.sequence), (0, 1));
        assert_eq!(first.boot_id, machine.boot_id);
    }
}
