//! Nodes by mutual TLS: a node that was taken in gets a certificate and is known by it; one that is
//! revoked or superseded is turned away at its next request, on a connection that is open too.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use protocol::{
    ChainId, Digest, PublicKey, SecretKey, Signed,
    boot::{BootEvent, CrashReport, Enrol, STAGE_POWER, STAGE_STANDS, StageState},
    certificate::{Alive, CardReading, CertificateRequest, NodeCertificate, Readings},
    console::{
        ConsoleBatch, ConsoleEntry, ConsoleLine, ConsolePage, ConsoleSource, MAX_CONSOLE_LINES,
    },
    evidence::Held,
    fleet::{MachineDetail, MachineState},
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
    say(
        stream,
        &format!("/v1/machines/{MAC}/alive"),
        &Alive { boot_id: BOOT, readings: None, drained: false },
    )
    .await
    .unwrap()
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
    assert_eq!(alive(&mut stream).await.0, 200);
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
    let (status, text) =
        site.post(&path, &Alive { boot_id: BOOT, readings: None, drained: false }).await;
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
        let said =
            say(&mut stream, &path, &Alive { boot_id: BOOT, readings: None, drained: false }).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_boot_that_was_taken_in_nothing_is_believed_without_its_certificate() {
    let site = site().await;
    let node = key(3);
    let machine = format!("/v1/machines/{MAC}");
    let state = async || site.json::<MachineDetail>(&machine).await.machine.life.state;
    let events = format!("/v1/machines/{MAC}/events");
    let crashes = format!("/v1/machines/{MAC}/crashes");
    let said = |sequence, stage: &str, state| {
        [BootEvent { sequence, stage: stage.into(), state, ..event() }]
    };
    let crash = |boot_id| CrashReport { boot_id, reason: "BUG".into(), text: "its end".into() };
    // Up to then a boot is told of by whoever knows its id.
    assert_eq!(site.post(&events, &said(1, "network", StageState::Done)).await.0, 200);
    assert_eq!(site.post(&crashes, &crash(BOOT)).await.0, 200);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let mut stream =
        site.connect(&node, site.certificate(&node, BOOT).await, pinned()).await.unwrap();
    // Everybody reads that id in its console, and it is of no use to him.
    let lines = format!("/v1/machines/{MAC}/lines");
    assert_eq!(say(&mut stream, &lines, &batch(BOOT, 0..1)).await.unwrap().0, 200);
    let shown = site.console("").await.boots[0].boot;
    for stage in [STAGE_STANDS, STAGE_POWER] {
        let lie = said(2, stage, StageState::Done).map(|e| BootEvent { boot_id: shown, ..e });
        let (status, text) = site.post(&events, &lie).await;
        assert!(status == 403 && text.contains("by TLS"), "{status} {text}");
    }
    assert_eq!(site.post(&crashes, &crash(shown)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(state().await, MachineState::Booting);

    let stands = said(2, STAGE_STANDS, StageState::Done);
    assert_eq!(say(&mut stream, &events, &stands).await.unwrap().0, 200);
    assert_eq!(state().await, MachineState::Ready);
    let ends = said(3, STAGE_POWER, StageState::Started);
    assert_eq!(site.post(&events, &ends).await.0, StatusCode::FORBIDDEN);
    let other = ends.clone().map(|event| BootEvent { boot_id: LATER, ..event });
    assert_eq!(say(&mut stream, &events, &other).await.unwrap().0, 400);
    assert_eq!(state().await, MachineState::Ready);
    // The death that it told of before is its own from when it says so again.
    let detail: MachineDetail = site.json(&machine).await;
    assert!(!detail.crashes[0].proven);
    assert_eq!(say(&mut stream, &crashes, &crash(BOOT)).await.unwrap().0, 200);
    let detail: MachineDetail = site.json(&machine).await;
    assert!(detail.crashes.len() == 1 && detail.crashes[0].proven);
    // A boot that is over stays one that was taken in.
    assert_eq!(site.enrol(MAC, &node, LATER).await.0, StatusCode::OK);
    assert_eq!(site.post(&events, &ends).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_acts_at_once_and_an_approval_ends_it() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let certificate = site.certificate(&node, BOOT).await;
    let mut stream = site.connect(&node, certificate.clone(), pinned()).await.unwrap();
    assert_eq!(alive(&mut stream).await.0, 200);

    let store = &site.running.store;
    assert_eq!(store.revoke(Site::mac(), None, 5).unwrap(), Revocation::Done(node.public()));
    let (status, text) = alive(&mut stream).await;
    assert!(status == 403 && text.contains("was revoked"), "{status} {text}");
    for (status, text) in [site.ask(MAC, &node, BOOT).await, site.enrol(MAC, &node, LATER).await] {
        assert!(status == StatusCode::FORBIDDEN && text.contains("was revoked"), "{text}");
    }
    let mut again = site.connect(&node, certificate, pinned()).await.unwrap();
    assert_eq!(alive(&mut again).await.0, 403, "nor on a new connection");

    let anna = Actor::Operator("anna".into());
    assert!(store.approve(Site::mac(), &node.public(), &anna, unix_ms()).unwrap());
    assert_eq!(alive(&mut stream).await.0, 200);
    assert_eq!(store.revoke(OTHER.parse().unwrap(), None, 5).unwrap(), Revocation::NoNode);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_or_another_key_in_its_place_ends_a_certificate() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let first = site.certificate(&node, BOOT).await;
    let mut stream = site.connect(&node, first, pinned()).await.unwrap();
    assert_eq!(alive(&mut stream).await.0, 200);
    assert_eq!(site.enrol(MAC, &node, LATER).await.0, StatusCode::OK);
    let (status, text) = alive(&mut stream).await;
    assert!(status == 403 && text.contains("another boot or key"), "{status} {text}");
    assert_eq!(site.ask(MAC, &node, BOOT).await.0, StatusCode::FORBIDDEN);
    let second = site.certificate(&node, LATER).await;
    let mut stream = site.connect(&node, second, pinned()).await.unwrap();
    let path = format!("/v1/machines/{MAC}/alive");
    assert_eq!(
        say(&mut stream, &path, &Alive { boot_id: LATER, readings: None, drained: false })
            .await
            .unwrap()
            .0,
        200
    );
    assert_eq!(site.enrol(MAC, &key(4), LATER).await.0, StatusCode::OK);
    assert_eq!(
        say(&mut stream, &path, &Alive { boot_id: LATER, readings: None, drained: false })
            .await
            .unwrap()
            .0,
        403
    );
}

impl Site {
    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let url = format!("http://{}{path}", self.running.http);
        let client = Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn console(&self, query: &str) -> ConsolePage {
        self.json(&format!("/v1/machines/{MAC}/console?{query}")).await
    }
}

fn plain() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn batch(boot_id: Digest, numbers: std::ops::Range<u64>) -> ConsoleBatch {
    let line = |sequence| ConsoleLine {
        source: ConsoleSource::Kernel,
        sequence,
        at_ms: sequence,
        level: Some(6),
        text: format!("line {sequence} \u{1b}[31m<b>red</b>\u{1b}[0m"),
    };
    ConsoleBatch { boot_id, lines: numbers.map(line).collect() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_console_is_taken_by_its_certificate_alone_kept_once_and_found() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let mut stream =
        site.connect(&node, site.certificate(&node, BOOT).await, pinned()).await.unwrap();
    let path = format!("/v1/machines/{MAC}/lines");
    let (status, text) = site.post(&path, &batch(BOOT, 0..3)).await;
    assert!(status == StatusCode::FORBIDDEN && text.contains("for nodes"), "{text}");
    for (wanted, path, batch) in [
        (200, path.clone(), batch(BOOT, 0..3)),
        // Its answer was lost, and it is sent again.
        (200, path.clone(), batch(BOOT, 0..3)),
        (200, path.clone(), batch(BOOT, 2..8)),
        (200, path.clone(), batch(BOOT, 18..20)),
        (403, format!("/v1/machines/{OTHER}/lines"), batch(BOOT, 0..1)),
        (400, path.clone(), batch(LATER, 0..1)),
        (413, path.clone(), batch(BOOT, 0..MAX_CONSOLE_LINES as u64 + 1)),
    ] {
        let (status, text) = say(&mut stream, &path, &batch).await.unwrap();
        assert_eq!(status, wanted, "{text}");
    }
    let page = site.console("").await;
    let told: Vec<(u64, u64)> = page.lines.iter().map(|l| (l.sequence, l.missing)).collect();
    let whole = (0..8).map(|n| (n, 0)).chain([(18, 10), (19, 0)]);
    assert_eq!(told, whole.collect::<Vec<_>>());
    assert_eq!(page.lines[0].text, "line 0 <b>red</b>", "no escape code is left");
    assert_eq!((page.boots.len(), page.boots[0].lines, page.gone), (1, 10, 0));
    assert_eq!(site.console("search=LINE%201").await.lines.len(), 3);
    assert_eq!(site.console("search=%1b").await.lines.len(), 0);
    assert_eq!(site.console(&format!("boot={LATER}")).await.lines.len(), 0);
    // As HTML it is text.
    let url = format!("http://{}/machines/{MAC}?search=line%202", site.running.http);
    let html = plain().get(url).send().await.unwrap().text().await.unwrap();
    assert!(html.contains("line 2 &lt;b&gt;red&lt;/b&gt;") && !html.contains("<b>red"), "{html}");
    // Page by page, forwards and backwards.
    for (first, relation, wanted) in
        [("limit=4", "next", 3), ("limit=4&before=9007199254740991", "prev", 3)]
    {
        let mut path = format!("/v1/machines/{MAC}/console?{first}");
        let (mut pages, mut seen) = (0, 0);
        loop {
            let url = format!("http://{}{path}", site.running.http);
            let answer = plain().get(url).send().await.unwrap();
            let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_string());
            let page: ConsolePage = answer.json().await.unwrap();
            (pages, seen) = (pages + 1, seen + page.lines.len());
            let Some(link) = link else { break };
            assert!(link.ends_with(&format!("rel=\"{relation}\"")), "{link}");
            path = link[1..link.find('>').unwrap()].to_string();
        }
        assert_eq!((pages, seen), (wanted, 10), "{first}");
    }
    for bad in ["limit=0", "limit=4001", "after=-1", "boot=x", "line=1", "search=%00"] {
        let url = format!("http://{}/v1/machines/{MAC}/console?{bad}", site.running.http);
        assert_eq!(
            plain().get(url).send().await.unwrap().status(),
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    let url = format!("http://{}/v1/machines/{OTHER}/console", site.running.http);
    assert_eq!(plain().get(url).send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_followed_live_from_the_last_line_that_was_had() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let mut stream =
        site.connect(&node, site.certificate(&node, BOOT).await, pinned()).await.unwrap();
    let path = format!("/v1/machines/{MAC}/lines");
    say(&mut stream, &path, &batch(BOOT, 0..3)).await.unwrap();
    let first = site.console("").await.lines[0].id;
    let url = format!("http://{}/v1/machines/{MAC}/console/live", site.running.http);
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client.get(url).header("last-event-id", first.to_string());
    let mut live = request.send().await.unwrap();
    say(&mut stream, &path, &batch(BOOT, 3..5)).await.unwrap();
    let mut text = String::new();
    while text.matches("data: ").count() < 4 {
        let chunk = tokio::time::timeout(Duration::from_secs(10), live.chunk()).await;
        text += &String::from_utf8_lossy(&chunk.unwrap().unwrap().unwrap());
    }
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let lines: Vec<ConsoleEntry> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(text.contains(&format!("id: {}", lines[3].id)) && text.contains("event: line"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_nodes_sensors_say_is_shown_and_kept_until_they_say_something_else() {
    let site = site().await;
    let node = key(3);
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let mut stream =
        site.connect(&node, site.certificate(&node, BOOT).await, pinned()).await.unwrap();
    let path = format!("/v1/machines/{MAC}/alive");
    let card = CardReading {
        address: "0000:01:00.0".into(),
        name: "NVIDIA <b>\u{1b}[2J".into(),
        milliwatts: Some(250_000),
        millidegrees: Some(61_400),
    };
    let readings = Readings {
        milliwatts: Some(312_500),
        cpu_millidegrees: Some(47_000),
        cards: vec![card; 40],
    };
    let said = Alive { boot_id: BOOT, readings: Some(readings), drained: false };
    for said in [said, Alive { boot_id: BOOT, readings: None, drained: false }] {
        assert_eq!(say(&mut stream, &path, &said).await.unwrap().0, 200);
    }
    let detail: MachineDetail = site.json(&format!("/v1/machines/{MAC}")).await;
    let read = detail.machine.readings.unwrap().said;
    assert_eq!((read.milliwatts, read.cards.len()), (Some(312_500), 32));
    assert!(!read.cards[0].name.contains(char::is_control));
    let status: protocol::fleet::ProvisionerStatus = site.json("/v1/status").await;
    assert_eq!((status.work.milliwatts, status.work.measured), (312_500, 1));
    let html = async |path: String| {
        let url = format!("http://{}{path}", site.running.http);
        plain().get(url).send().await.unwrap().text().await.unwrap()
    };
    let machine = html(format!("/machines/{MAC}")).await;
    for told in ["312 W", "47 °C", "61 °C", "NVIDIA &lt;b&gt;", "this provisioner asks no ledger"]
    {
        assert!(machine.contains(told), "{told}: {machine}");
    }
    assert!(html("/".into()).await.contains("of 1 machines that measure it"));
    let work: protocol::earnings::MachineWork =
        site.json(&format!("/v1/machines/{MAC}/work")).await;
    assert_eq!((work.ledger, work.node), (None, Some(node.public())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sends_its_console_from_before_it_was_taken_in() {
    struct Log(std::ops::Range<u64>);
    impl node_init::kernel::KernelLog for Log {
        fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
            let record = |n| format!("6,{n},{},-;kernel says {n} token=hush\n", n * 1_000);
            Ok(self.0.next().map(|n| record(n).into_bytes()))
        }
    }
    let site = site().await;
    let node = key(3);
    let ring = node_init::ring::Ring::default();
    (0..3).for_each(|n| ring.push(&format!("alia says {n}")));
    assert_eq!(site.enrol(MAC, &node, BOOT).await.0, StatusCode::OK);
    let certificate = site.certificate(&node, BOOT).await;
    let config = Arc::new(mtls::client_showing(&node, certificate, pinned()).unwrap());
    let port = site.running.https.port();
    let way = node_init::relay::Way {
        provisioner: format!("http://{}", site.running.http).parse().unwrap(),
        mac: node_init::mac::Mac(Site::mac().0),
        boot_id: BOOT,
    };
    let secured = move || Some(node_init::http::Secured { config: config.clone(), port });
    // The kernel's ring overtook its first records.
    let log: Box<dyn node_init::kernel::KernelLog> = Box::new(Log(5..9));
    let relay = tokio::spawn(node_init::relay::run(Some(log), ring.clone(), way, secured));
    let kept = async |lines: usize| {
        for _ in 0..200 {
            let page = site.console("").await;
            if page.lines.len() >= lines {
                return page.lines;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("they do not come");
    };
    let lines = kept(7).await;
    let of = |source| lines.iter().filter(move |line| line.source == source);
    let kernel: Vec<_> = of(ConsoleSource::Kernel).map(|l| (l.sequence, l.missing)).collect();
    assert_eq!(kernel, [(5, 5), (6, 0), (7, 0), (8, 0)], "those that are gone are told");
    assert_eq!(of(ConsoleSource::Init).map(|line| line.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(lines.iter().all(|line| !line.text.contains("hush")));
    ring.push("later");
    assert_eq!(kept(8).await[7].text, "later");
    relay.abort();
}
