//! The transport against real sockets, and the program against signals and what stands in its way.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's helpers fail by panicking")]

use abci_app::transport::{Address, Failure, FrameReader, FrameWriter, Server};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::{
    Request, RequestCheckTx, RequestEcho, RequestFlush, Response, ResponseCheckTx,
    request::Value as Asked, response::Value as Answer,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Echoes;

impl Application for Echoes {
    fn check_tx(&self, request: RequestCheckTx) -> ResponseCheckTx {
        assert!(request.tx != b"panic"[..], "the application cannot go on");
        ResponseCheckTx { data: request.tx, ..Default::default() }
    }
}

fn serve(address: &str) -> (Address, Receiver<Failure>) {
    let server = Server::bind(&address.parse().unwrap()).unwrap();
    let address = server.address().unwrap();
    let (failed, failure) = channel();
    thread::spawn(move || failed.send(server.serve(Echoes)));
    (address, failure)
}

fn tcp(address: &Address) -> TcpStream {
    let Address::Tcp(authority) = address else { panic!("{address}") };
    let stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn check(tx: &'static [u8]) -> Request {
    Request { value: Some(Asked::CheckTx(RequestCheckTx { tx: tx.into(), r#type: 0 })) }
}

fn flush() -> Request {
    Request { value: Some(Asked::Flush(RequestFlush {})) }
}

fn send(to: impl Write, requests: &[Request]) {
    let mut writer = FrameWriter::new(to);
    requests.iter().for_each(|request| writer.push(request).unwrap());
    writer.flush().unwrap();
}

fn answers(from: impl Read, count: usize) -> Vec<Answer> {
    let mut reader = FrameReader::new(from);
    let mut next = || reader.read::<Response>().unwrap().unwrap().value.unwrap();
    (0..count).map(|_| next()).collect()
}

fn check_answers(stream: impl Read, txs: &[&[u8]]) {
    for (answer, tx) in answers(stream, txs.len() + 1).into_iter().zip(txs) {
        assert!(matches!(answer, Answer::CheckTx(answer) if answer.data == *tx));
    }
}

#[test]
fn answers_come_in_order_over_tcp_and_over_a_unix_socket() {
    let (address, _) = serve("tcp://127.0.0.1:0");
    let stream = tcp(&address);
    send(&stream, &[check(b"one"), check(b"two"), flush()]);
    check_answers(&stream, &[b"one", b"two"]);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abci.sock");
    serve(&format!("unix://{}", path.display()));
    let stream = UnixStream::connect(&path).unwrap();
    send(&stream, &[check(b"three"), flush()]);
    check_answers(&stream, &[b"three"]);
}

#[test]
fn an_answer_does_not_wait_for_a_flush_when_nothing_else_comes() {
    let (address, _) = serve("tcp://127.0.0.1:0");
    let stream = tcp(&address);
    send(&stream, &[check(b"alone")]);
    assert_eq!(answers(&stream, 1).len(), 1);
}

#[test]
fn a_message_of_many_megabytes_passes_whole() {
    let (address, _) = serve("tcp://127.0.0.1:0");
    let stream = tcp(&address);
    let message = "x".repeat(64 << 20);
    let writing = stream.try_clone().unwrap();
    let sent = Request { value: Some(Asked::Echo(RequestEcho { message: message.clone() })) };
    let writer = thread::spawn(move || send(writing, &[sent]));
    let answer = answers(&stream, 1).remove(0);
    writer.join().unwrap();
    assert!(matches!(answer, Answer::Echo(echo) if echo.message == message));
}

#[test]
fn a_peer_that_leaves_may_come_again_and_garbage_ends_the_serving() {
    let (address, failure) = serve("tcp://127.0.0.1:0");
    drop(tcp(&address));
    let stream = tcp(&address);
    send(&stream, &[check(b"back"), flush()]);
    check_answers(&stream, &[b"back"]);
    assert!(failure.try_recv().is_err());
    tcp(&address).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let failure = failure.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(failure, Failure::Frame(_)), "{failure}");
}

#[test]
fn an_unknown_request_ends_the_serving() {
    let (address, failure) = serve("tcp://127.0.0.1:0");
    send(&tcp(&address), &[Request { value: None }]);
    let failure = failure.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(failure, Failure::Unknown(_)), "{failure}");
}

#[test]
fn a_panic_in_the_application_ends_the_serving_with_its_words() {
    let (address, failure) = serve("tcp://127.0.0.1:0");
    send(&tcp(&address), &[check(b"panic"), flush()]);
    let failure = failure.recv_timeout(PATIENCE).unwrap();
    assert!(failure.to_string().contains("cannot go on"), "{failure}");
}

#[test]
fn a_socket_left_by_a_killed_process_is_taken_over_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let address: Address =
        format!("unix://{}", folder.path().join("abci.sock").display()).parse().unwrap();
    let server = Server::bind(&address).unwrap();
    let error = Server::bind(&address).err().unwrap().to_string();
    assert!(error.contains("another process listens there"), "{error}");
    drop(server);
    Server::bind(&address).unwrap();
}

/// The program, started; its log's lines.
struct Program {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Program {
    fn start(home: &std::path::Path, listen: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_abci-app"))
            .arg("--home")
            .arg(home)
            .args(["--listen", listen])
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.log.read_line(&mut line).unwrap();
        line
    }

    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[test]
fn the_program_stops_in_order_on_sigterm_and_says_what_stands_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let (home, listen) = (folder.path().join("home"), "tcp://127.0.0.1:0");
    let mut program = Program::start(&home, listen);
    let line = program.line();
    assert!(line.contains("height 0") && line.contains("tcp://127.0.0.1:"), "{line}");
    let port = line.trim().rsplit("tcp://").next().unwrap().to_string();

    let (code, log) = Program::start(&home, listen).end();
    assert!(code == Some(1) && log.contains("another abci-app runs on it"), "{code:?} {log}");
    let elsewhere = folder.path().join("elsewhere");
    let (code, log) = Program::start(&elsewhere, &format!("tcp://{port}")).end();
    assert!(code == Some(1) && log.contains("another process listens there"), "{code:?} {log}");

    let killed = Command::new("kill").arg(program.child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let (code, log) = program.end();
    assert!(code == Some(0) && log.contains("stopped in order"), "{code:?} {log}");
}

#[test]
fn the_program_stops_where_its_peer_speaks_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), "tcp://127.0.0.1:0");
    let line = program.line();
    let port = line.trim().rsplit("tcp://").next().unwrap().to_string();
    TcpStream::connect(port).unwrap().write_all(&[0xff; 64]).unwrap();
    let (code, log) = program.end();
    assert!(code == Some(1) && log.contains("speaks another protocol"), "{code:?} {log}");
}
