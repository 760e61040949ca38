//! An RPC server that lies: it passes questions on and alters the answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Alters the result of a question: its method, its parameters, the true result.
pub type Lie = Box<dyn FnMut(&str, &Value, &mut Value) + Send>;

/// Where it passes on to, and what it alters.
struct Shared {
    upstream: SocketAddr,
    lie: Lie,
}

#[derive(Clone)]
pub struct Proxy {
    pub address: String,
    shared: Arc<Mutex<Shared>>,
}

impl Proxy {
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { upstream, lie: Box::new(|_, _, _| {}) }));
        let proxy = Self { address, shared };
        let serving = proxy.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                thread::spawn(move || while serving.answer(stream.as_ref().unwrap()).is_some() {});
            }
        });
        proxy
    }

    pub fn lie(&self, lie: impl FnMut(&str, &Value, &mut Value) + Send + 'static) {
        self.shared.lock().unwrap().lie = Box::new(lie);
    }

    /// Tells the truth of another chain.
    pub fn pass_on_to(&self, upstream: SocketAddr) {
        self.shared.lock().unwrap().upstream = upstream;
    }

    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let question = body(&mut BufReader::new(stream))?;
        let mut shared = self.shared.lock().unwrap();
        let mut upstream = TcpStream::connect(shared.upstream).ok()?;
        upstream.write_all(&post(&question)).ok()?;
        let answer = body(&mut BufReader::new(&upstream))?;
        let question: Value = serde_json::from_slice(&question).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        if let Some(result) = answer.get_mut("result") {
            (shared.lie)(question["method"].as_str().unwrap(), &question["params"], result);
        }
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        (&*stream).write_all(head.as_bytes()).ok()?;
        (&*stream).write_all(answer.as_bytes()).ok()
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A message's body; none at the connection's end.
fn body(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse::<usize>().ok();
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => from.take(length as u64).read_to_end(&mut body).ok()?,
        // To HTTP/1.0, CometBFT sends a long answer without its length, and closes.
        None => from.read_to_end(&mut body).ok()?,
    };
    Some(body)
}

/// Edits bytes that JSON carries in base64.
pub fn edit_base64(field: &mut Value, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = STANDARD.decode(field.as_str().unwrap()).unwrap();
    edit(&mut bytes);
    *field = STANDARD.encode(bytes).into();
}
