//! The whole API over loopback with real TLS, and a kernel in memory.

use super::{
    processes::tests::STAT,
    serve::{Doors, Limits, acceptor, serve},
    *,
};
use crate::{
    console::{Console, tests::Screen},
    kernel::fake::Fake,
    outbox::Outbox,
    stages::enrolment::tests::{config, key},
};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use protocol::node_api::{
    ApiError, AuditRecord, Bundle, Health, LogLine, NodeIdentity, NodeMetrics, NodeProcesses,
    NodeStage, NodeStatus, Operator, OperatorRole,
};
use rustls::pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::{LocalSet, spawn_local},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The node is 9, its owner 2, an operator 4, a reader 5; nobody knows 6.
const NODE: u8 = 9;
const OWNER: u8 = 2;
const OPERATOR: u8 = 4;
const READER: u8 = 5;
const STRANGER: u8 = 6;

const SOON: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(20);

struct Bench {
    address: SocketAddr,
    reporter: Rc<Reporter>,
    screen: Screen,
    wished: Mutex<mpsc::Receiver<Wished>>,
}

/// Runs a test beside an API that serves.
async fn with_api(limits: Limits, test: impl AsyncFnOnce(&Bench)) {
    let kernel = Arc::new(Fake::new(&[
        ("/proc/sys/kernel/osrelease", "6.12\n"),
        ("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\n"),
        ("/proc/71/stat", STAT),
    ]));
    kernel.world().log = vec![b"6,1,1,-;first\n".to_vec(), b"4,2,5,-;second\n".to_vec()];
    let screen = Screen::default();
    let console = Console::start(screen.clone());
    let outbox = Outbox::new(Digest([7; 32]));
    let reporter = Rc::new(Reporter::new(kernel.clone(), console, outbox));
    let mut settings = config(key(NODE).public());
    let named = [(OPERATOR, OperatorRole::Operator), (READER, OperatorRole::Reader)];
    let operator = |(seed, role)| Operator { key: key(seed).public(), role };
    settings.operators = named.map(operator).to_vec();
    let facts = Facts {
        node: key(NODE).public(),
        config: settings,
        inventory: Inventory { memory_bytes: 5, ..Inventory::default() },
        release: Digest([3; 32]),
        boot_id: Digest([7; 32]),
    };
    let (wishes, wished) = mpsc::channel(4);
    let api = Api::new(kernel, reporter.clone(), facts, wishes);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = acceptor(&key(NODE), api.access()).unwrap();
    let wished = Mutex::new(wished);
    let bench = Bench { address, reporter, screen, wished };
    let local = LocalSet::new();
    let doors = Doors { acceptor, giving: None };
    local.spawn_local(async move { serve(api, Arc::new(listener), doors, limits).await });
    local.run_until(test(&bench)).await;
}

impl Bench {
    async fn connect(&self, seed: u8) -> io::Result<TlsStream<TcpStream>> {
        let config = mtls::client(&key(seed), key(NODE).public()).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("alia").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// One exchange on a connection of its own.
    async fn ask(&self, seed: u8, method: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = self.connect(seed).await.map_err(|error| text(&error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| text(&error))?;
        spawn_local(connection);
        let request = Request::builder().method(method).uri(path).header("host", "node");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| text(&error))?;
        Ok((status, body.to_bytes().to_vec()))
    }

    async fn get<T: DeserializeOwned>(&self, seed: u8, path: &str) -> T {
        let (status, body) = self.ask(seed, "GET", path).await.unwrap();
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    async fn refused(&self, seed: u8, method: &str, path: &str) -> (u16, String) {
        let (status, body) = self.ask(seed, method, path).await.unwrap();
        (status, serde_json::from_slice::<ApiError>(&body).unwrap().error)
    }
}

#[tokio::test]
async fn everything_that_can_be_seen_is_seen_by_a_reader() {
    with_api(Limits::USUAL, async |bench| {
        bench.reporter.console().line("compute: hello");
        {
            let mut status = bench.reporter.status();
            status.compute.restarts = 3;
            status.address = Some("10.0.0.3".into());
        }
        let identity: NodeIdentity = bench.get(READER, "/v1/identity").await;
        assert_eq!((identity.node, identity.name.as_str()), (key(NODE).public(), "bear"));
        let owner = identity.ownership.verify(&identity.chain, &identity.node).unwrap();
        assert_eq!(owner, key(OWNER).public());
        let you = Operator { key: key(READER).public(), role: OperatorRole::Reader };
        assert_eq!(identity.you, you);

        let status: NodeStatus = bench.get(READER, "/v1/status").await;
        assert_eq!((status.health, status.kernel.as_str()), (Health::Booting, "6.12"));
        assert_eq!((status.memory.total, status.compute.restarts), (1_024_000, 3));
        assert_eq!(status.address.as_deref(), Some("10.0.0.3"));
        let stages: Vec<NodeStage> = bench.get(READER, "/v1/stages").await;
        assert_eq!(stages[0].name, "audit");
        let logs: Vec<LogLine> = bench.get(READER, "/v1/logs?lines=9999").await;
        assert_eq!(logs[0].text, "compute: hello");
        assert!(logs[1].text.contains("GET /v1/identity: 200"), "{logs:?}");
        let inventory: Inventory = bench.get(READER, "/v1/inventory").await;
        assert_eq!(inventory.memory_bytes, 5);
        let metrics: NodeMetrics = bench.get(READER, "/v1/metrics").await;
        assert!(metrics.api.answered >= 4);
        let (_, text) = bench.ask(READER, "GET", "/metrics").await.unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("alia_compute_restarts_total 3\n"), "{text}");
        let processes: NodeProcesses = bench.get(READER, "/v1/processes").await;
        assert_eq!((processes.processes.len(), processes.processes[0].pid), (1, 71));
        let log: Vec<protocol::node_api::KernelLine> =
            bench.get(READER, "/v1/kernel-log?lines=1").await;
        assert_eq!(log[0].text, "second");
        let audit: Vec<AuditRecord> = bench.get(READER, "/v1/audit").await;
        assert_eq!((audit[0].call.as_str(), audit[0].status), ("GET /v1/identity", 200));
        assert_eq!((audit[0].key, audit[0].peer.as_str()), (key(READER).public(), "127.0.0.1"));
        let bundle: Bundle = bench.get(READER, "/v1/bundle").await;
        assert_eq!(bundle.kernel_log.unwrap().len(), 2);
        assert!(bundle.audit.len() > audit.len() && bundle.logs.len() > 1);
        let text = String::from_utf8(bench.ask(READER, "GET", "/v1/bundle").await.unwrap().1);
        let text = text.unwrap();
        assert!(!text.contains(&key(NODE).to_hex()), "the bundle holds the node's secret key");
    })
    .await;
}

#[tokio::test]
async fn a_reader_changes_nothing_and_is_told_what_is_needed() {
    with_api(Limits::USUAL, async |bench| {
        for path in ["/v1/reboot", "/v1/power-off", "/v1/drain", "/v1/undrain", "/v1/identify"] {
            let (status, why) = bench.refused(READER, "POST", path).await;
            assert_eq!(status, 403, "{path}");
            assert!(why.contains("the role operator"), "{why}");
        }
        assert!(bench.wished.lock().await.try_recv().is_err());
        assert_eq!(bench.refused(READER, "GET", "/v1/reboot").await.0, 405);
        assert_eq!(bench.refused(READER, "GET", "/v1/shell").await.0, 404);
        bench.reporter.console().flush(LONG);
        let text = bench.screen.text();
        let told = format!("audit done reader {} from 127.0.0.1: ", key(READER).public());
        assert!(text.contains(&format!("{told}POST /v1/reboot: 403")), "{text}");
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_wishes_reaches_the_machine_after_its_answer() {
    with_api(Limits::USUAL, async |bench| {
        for (seed, path, wish) in [
            (OPERATOR, "/v1/reboot", Wish::End(End::Restart)),
            (OWNER, "/v1/power-off", Wish::End(End::PowerOff)),
        ] {
            assert_eq!(bench.ask(seed, "POST", path).await.unwrap().0, 202, "{path}");
            let wished = timeout(LONG, async { bench.wished.lock().await.recv().await }).await;
            assert_eq!(wished.unwrap().unwrap().wish, wish);
        }
        // The machine's loop says what came of it.
        let drained = async {
            let wished = bench.wished.lock().await.recv().await.unwrap();
            assert_eq!(wished.wish, Wish::Drain);
            wished.answer.send(Ok("it finishes".into())).unwrap();
            let wished = bench.wished.lock().await.recv().await.unwrap();
            wished.answer.send(Err("not started yet".into())).unwrap();
        };
        let asked = async {
            let (status, body) = bench.ask(OPERATOR, "POST", "/v1/drain").await.unwrap();
            assert_eq!((status, &body[..]), (202, &b"{\"done\":\"it finishes\"}"[..]));
            let refused = bench.refused(OPERATOR, "POST", "/v1/undrain").await;
            assert_eq!(refused, (409, "not started yet".into()));
        };
        tokio::join!(drained, asked);
        let shown = bench.ask(OPERATOR, "POST", "/v1/identify?seconds=1").await.unwrap();
        assert_eq!(shown.0, 202);
        tokio::task::yield_now().await;
        bench.reporter.console().flush(LONG);
        assert!(bench.screen.text().contains("alia: this machine is bear"));
    })
    .await;
}

#[tokio::test]
async fn logs_are_followed_as_lines_are_said_by_a_bounded_number() {
    with_api(Limits::USUAL, async |bench| {
        bench.reporter.console().line("before");
        let mut stream = bench.connect(READER).await.unwrap();
        let request = b"GET /v1/logs?lines=1&follow HTTP/1.1\r\nhost: node\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut heard = String::new();
        for wanted in ["\"before\"", "\"after\""] {
            while !heard.contains(wanted) {
                let mut part = [0; 4096];
                let read = timeout(LONG, stream.read(&mut part)).await.unwrap().unwrap();
                assert!(read > 0, "{heard}");
                heard.push_str(&String::from_utf8_lossy(&part[..read]));
            }
            bench.reporter.console().line("after");
        }
        assert!(heard.contains("transfer-encoding: chunked"), "{heard}");
        let mut others = Vec::new();
        for _ in 0..7 {
            let mut other = bench.connect(READER).await.unwrap();
            other.write_all(request).await.unwrap();
            let mut part = [0; 12];
            timeout(LONG, other.read_exact(&mut part)).await.unwrap().unwrap();
            assert_eq!(&part, b"HTTP/1.1 200");
            others.push(other);
        }
        let (status, why) = bench.refused(READER, "GET", "/v1/logs?follow").await;
        assert_eq!(status, 503, "{why}");
        drop(stream);
        let again = async {
            while bench.connect(READER).await.is_err() {}
            loop {
                let mut other = bench.connect(READER).await.unwrap();
                other.write_all(request).await.unwrap();
                let mut part = [0; 12];
                other.read_exact(&mut part).await.unwrap();
                if &part == b"HTTP/1.1 200" {
                    return;
                }
                bench.reporter.console().line("somebody notices that it is gone");
            }
        };
        timeout(LONG, again).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_unknown_key_hears_not_a_byte_of_http() {
    with_api(Limits::USUAL, async |bench| {
        // TLS 1.3's client is done before the server judged it: the first read tells.
        let mut stream = bench.connect(STRANGER).await.unwrap();
        let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: node\r\n\r\n").await;
        let mut answer = Vec::new();
        let error = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("AccessDenied"), "{error}");
        assert!(answer.is_empty());
        // Plain HTTP, to a port that speaks TLS.
        let mut plain = TcpStream::connect(bench.address).await.unwrap();
        plain.write_all(b"GET /v1/status HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LONG, plain.read_to_end(&mut answer)).await.unwrap();
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
        let metrics: NodeMetrics = bench.get(OWNER, "/v1/metrics").await;
        assert_eq!(metrics.api.refused, 2);
        let audit: Vec<AuditRecord> = bench.get(OWNER, "/v1/audit").await;
        assert!(audit.iter().all(|record| record.key == key(OWNER).public()));
    })
    .await;
}

#[tokio::test]
async fn who_says_too_little_for_too_long_is_closed_and_keeps_nobody_out() {
    let limits = Limits { handshakes: 2, handshake: SOON, silence: SOON, ..Limits::USUAL };
    with_api(limits, async |bench| {
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(TcpStream::connect(bench.address).await.unwrap());
        }
        // Two of them hold both places, for a moment.
        let status = timeout(LONG, bench.get::<NodeStatus>(OWNER, "/v1/status")).await;
        assert!(status.is_ok());
        for mut stream in silent {
            let mut rest = Vec::new();
            let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        }
        // A known key that says half a head.
        let mut slow = bench.connect(OWNER).await.unwrap();
        slow.write_all(b"GET /v1/status HTTP/1.1\r\nho").await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LONG, slow.read_to_end(&mut rest)).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    })
    .await;
}

#[tokio::test]
async fn one_peer_has_its_share_of_connections_and_no_more() {
    let limits = Limits { of_one_peer: 2, ..Limits::USUAL };
    with_api(limits, async |bench| {
        let first = bench.connect(OWNER).await.unwrap();
        let _second = bench.connect(OWNER).await.unwrap();
        assert!(bench.ask(OWNER, "GET", "/v1/status").await.is_err());
        drop(first);
        let again = async {
            while bench.ask(OWNER, "GET", "/v1/status").await.is_err() {
                tokio::time::sleep(SOON / 10).await;
            }
        };
        timeout(LONG, again).await.unwrap();
    })
    .await;
    let limits = Limits { connections: 1, ..Limits::USUAL };
    with_api(limits, async |bench| {
        let first = bench.connect(OWNER).await.unwrap();
        assert!(bench.ask(OWNER, "GET", "/v1/status").await.is_err());
        drop(first);
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_a_body_is_not_read() {
    with_api(Limits::USUAL, async |bench| {
        let mut many = String::from("GET /v1/status HTTP/1.1\r\nhost: node\r\n");
        for number in 0..40 {
            many += &format!("x-{number}: 1\r\n");
        }
        let long = format!("GET /v1/status HTTP/1.1\r\nhost: node\r\nx: {}\r\n", "y".repeat(9_000));
        for head in [many, long] {
            let mut stream = bench.connect(OWNER).await.unwrap();
            let _ = stream.write_all(format!("{head}\r\n").as_bytes()).await;
            let mut answer = Vec::new();
            let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        }
        let mut stream = bench.connect(OWNER).await.unwrap();
        let head = b"POST /v1/identify?seconds=0 HTTP/1.1\r\nhost: node\r\ncontent-length: 99999999\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 202"));
    })
    .await;
}
