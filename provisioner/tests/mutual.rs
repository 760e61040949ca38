//! Nodes by mutual TLS: a node that was taken in gets a certificate and is known by it; one that is
//! revoked or superseded is turned away at its next request, on a connection that is open too.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use protocol::{
    ChainId, Digest, PublicKey, SecretKey, Signed,
    boot::{BootEvent, Enrol, StageState},
    certificate::{Alive, CertificateRequest, NodeCertificate},
    evidence::Held,
    fleet::MachineDetail,
    inventory::Inventory,
    node::Delegation,
};
use provisioner::{
    config::{Approval, Options, Part},
    life::Actor,
    machine::Mac,
    run::{self, Running},
    store::{Place, Revocation},
    timeline::unix_ms,
    tls::{ca::Ca, start},
};
use reqwest::{Client, StatusCode};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{fs, io, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const MAC: &str = "52:54:00:aa:00:01";
const OTHER: &str = "52:54:00:aa:00:02";
const BOOT: Digest = Digest([1; 32]);
const LATER: Digest = Digest([2; 32]);

fn chain() -> ChainId {
    "alia-test".parse().unwrap()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// The provisioner's.
fn pinned() -> PublicKey {
    key(8).public()
}

struct Site {
    folder: TempDir,
    running: Running,
}

async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let delegation = Signed::sign(&chain(), Delegation { delegate: pinned() }, &key(7));
    fs::write(place("delegation"), serde_json::to_vec(&delegation).unwrap()).unwrap();
    fs::write(place("key"), key(8).to_hex()).unwrap();
    let options = Options {
        interface: Some("lo".into()),
        dhcp: Some(Part::Off),
        http_port: Some(0),
        https_port: Some(0),
        database: Some(Place::File(place("p.sqlite"))),
        key: Some(place("key")),
        delegation: Some(place("delegation")),
        chain: Some(chain()),
        approval: Some(Approval::Automatic),
        ..Options::default()
    };
    let running = run::start(options).await.unwrap();
    Site { folder, running }
}

impl Site {
    async fn post<T: serde::Serialize>(&self, path: &str, body: &T) -> (StatusCode, String) {
        let url = format!("http://{}{path}", self.running.http);
        let client = Client::builder().no_proxy().build().unwrap();
        let response = client.post(url).json(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn enrol(&self, mac: &str, node: &SecretKey, boot_id: Digest) -> (StatusCode, String) {
        let enrol = Enrol {
            mac: mac.into(),
            boot_id,
            release: Digest([3; 32]),
            inventory: Inventory::default(),
            held: Held::Memory,
            evidence: None,
        };
        let enrol = Signed::sign(&chain(), enrol, node);
        self.post(&format!("/v1/machines/{mac}/enrol"), &enrol).await
    }

    async fn ask(&self, mac: &str, node: &SecretKey, boot_id: Digest) -> (StatusCode, String) {
        let request = CertificateRequest { mac: mac.into(), boot_id, nonce: Digest([9; 32]) };
        let request = Signed::sign(&chain(), request, node);
        self.post(&format!("/v1/machines/{mac}/certificate"), &request).await
    }

    /// A certificate as a node takes it: the provisioner signed the answer.
    async fn certificate(&self, node: &SecretKey, boot_id: Digest) -> CertificateDer<'static> {
        let (status, text) = self.ask(MAC, node, boot_id).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let answer: Signed<NodeCertificate> = serde_json::from_str(&text).unwrap();
        assert_eq!(answer.signer, pinned());
        let body = answer.verify(&chain()).unwrap();
        assert_eq!((body.node, body.nonce), (node.public(), Digest([9; 32])));
        assert_eq!((body.port, body.seconds), (self.running.https.port(), 86_400));
        body.certificate.clone().into()
    }

    async fn connect(
        &self,
        node: &SecretKey,
        certificate: CertificateDer<'static>,
        provisioner: PublicKey,
    ) -> io::Result<TlsStream<TcpStream>> {
        let config = mtls::client_showing(node, certificate, provisioner).unwrap();
        let name = ServerName::try_from("provisioner").unwrap();
        let stream = TcpStream::connect(self.running.https).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    fn mac() -> Mac {
        MAC.parse().unwrap()
    }

    fn ca(&self) -> Ca {
        let place = Place::File(self.folder.path().join("p.sqlite"));
        Ca::open(&start::folder(None, &place)).unwrap()
    }
}

/// One request of an open connection; the status and what was said.
async fn say<T: serde::Serialize>(
    stream: &mut TlsStream<TcpStream>,
    path: &str,
    body: &T,
) -> io::Result<(u16, String)> {
    let body = serde_json::to_string(body).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: \
         {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await?;
        answer.extend(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        if let Some(((_, body), status)) = text.split_once("\r\n\r\n").zip(status)
            && body.len() >= length
        {
            return Ok((status, body.into()));
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn alive(stream: &mut TlsStream<TcpStream>) -> (u16, String) {
    say(stream, &format!("/v1/machines/{MAC}/alive"), &Alive { boot_id: BOOT }).await.unwrap()
}

fn event() -> BootEvent {
    BootEvent {
        sequence: 1,
        boot_id: BOOT,
        stage: "network".into(),
        state: StageState::Done,
        at_ms: 1,
        detail: "by TLS".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_taken_in_is_known_by_its_certificate_and_by_nothing_else() {
    let site = site().await;
    let node = key(3);
    // Not before it was taken in.
    let (status, text) = site.ask(MAC, &node, BOOT).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let certificate = site.certificate(&node, BOOT).await;
    let mut stream = site.connect(&node, certificate.clone(), pinned()).await.unwrap();
    assert_eq!(alive(&mut stream).await.0, 204);
    let path = format!("/v1/machines/{MAC}/events");
    assert_eq!(say(&mut stream, &path, &[event()]).await.unwrap().0, 200);
    site.running.timeline.flush(Duration::from_secs(5));
    let url = format!("http://{}/v1/machines/{MAC}", site.running.http);
    let client = Client::builder().no_proxy().build().unwrap();
    let detail: MachineDetail = client.get(url).send().await.unwrap().json().await.unwrap();
    assert!(detail.timeline.iter().any(|event| event.text.contains("by TLS")));
    // Its certificate is for its own machine.
    let path = format!("/v1/machines/{OTHER}/events");
    let (status, text) = say(&mut stream, &path, &[event()]).await.unwrap();
    assert!(status == 403 && text.contains("for machine 52:54:00:aa:00:01"), "{status} {text}");

    // By plain HTTP nobody is alive.
    let path = format!("/v1/machines/{MAC}/alive");
    let (status, text) = site.post(&path, &Alive { boot_id: BOOT }).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("for nodes"), "{status} {text}");
    // A provisioner of another key is none.
    assert!(site.connect(&node, certificate.clone(), key(5).public()).await.is_err());
    // Whoever stole the certificate has not its key; the server hears of it after the client thinks
    // that all is well (TLS 1.3).
    for (shown, by) in [
        (certificate, key(4)),
        (mtls::certificate::of(&key(3)), key(3)),
        (site.ca().node(Site::mac(), &node.public(), &BOOT, 0).unwrap(), key(3)),
    ] {
        let mut stream = site.connect(&by, shown, pinned()).await.unwrap();
        let path = format!("/v1/machines/{MAC}/alive");
        let said = say(&mut stream, &path, &Alive { boot_id: BOOT }).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_acts_at_once_and_an_approval_ends_it() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let certificate = site.certificate(&node, BOOT).await;
    let mut stream = site.connect(&node, certificate.clone(), pinned()).await.unwrap();
    assert_eq!(alive(&mut stream).await.0, 204);

    let store = &site.running.store;
    assert_eq!(store.revoke(Site::mac(), 5).unwrap(), Revocation::Done(node.public()));
    let (status, text) = alive(&mut stream).await;
    assert!(status == 403 && text.contains("was revoked"), "{status} {text}");
    for (status, text) in [site.ask(MAC, &node, BOOT).await, site.enrol(MAC, &node, LATER).await] {
        assert!(status == StatusCode::FORBIDDEN && text.contains("was revoked"), "{text}");
    }
    let mut again = site.connect(&node, certificate, pinned()).await.unwrap();
    assert_eq!(alive(&mut again).await.0, 403, "nor on a new connection");

    let anna = Actor::Operator("anna".into());
    assert!(store.approve(Site::mac(), &node.public(), &anna, unix_ms()).unwrap());
    assert_eq!(alive(&mut stream).await.0, 204);
    assert_eq!(store.revoke(OTHER.parse().unwrap(), 5).unwrap(), Revocation::NoNode);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_or_another_key_in_its_place_ends_a_certificate() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let first = site.certificate(&node, BOOT).await;
    let mut stream = site.connect(&node, first, pinned()).await.unwrap();
    assert_eq!(alive(&mut stream).await.0, 204);
    assert_eq!(site.enrol(MAC, &node, LATER).await.0, StatusCode::OK);
    let (status, text) = alive(&mut stream).await;
    assert!(status == 403 && text.contains("another boot or key"), "{status} {text}");
    assert_eq!(site.ask(MAC, &node, BOOT).await.0, StatusCode::FORBIDDEN);
    let second = site.certificate(&node, LATER).await;
    let mut stream = site.connect(&node, second, pinned()).await.unwrap();
    let path = format!("/v1/machines/{MAC}/alive");
    assert_eq!(say(&mut stream, &path, &Alive { boot_id: LATER }).await.unwrap().0, 204);
    assert_eq!(site.enrol(MAC, &key(4), LATER).await.0, StatusCode::OK);
    assert_eq!(say(&mut stream, &path, &Alive { boot_id: LATER }).await.unwrap().0, 403);
}
