//! The answers.

use super::{
    Api, Wish, Wished,
    access::may,
    audit::Asked,
    kernel_log, metrics, processes,
    route::{Call, Refusal, route},
};
use crate::{kernel::End, kernel::Kernel, kernel::text, plan::PLAN, ring, status::milliseconds};
use futures::stream::{self, Stream};
use http_body_util::{Either, Full, StreamBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use protocol::{
    PublicKey,
    node_api::{
        ApiError, Bundle, Done, LogLine, NodeIdentity, NodeMetrics, NodeProcesses, NodeStatus,
        Operator, OperatorRole,
    },
    version,
};
use serde::Serialize;
use std::{convert::Infallible, io, pin::Pin, rc::Rc, time::Duration};
use tokio::{sync::oneshot, task::spawn_blocking, task::spawn_local, time::sleep};

/// The most who follow the logs at a time: each holds a connection for as long as it likes.
const MAX_FOLLOWERS: usize = 8;
/// Lines that a follower is given at once.
const BATCH: usize = 256;
/// Kernel lines in a bundle.
const BUNDLE_LINES: usize = 4_096;
/// The time that an answer has to reach who asked before the machine ends.
const PARTING: Duration = Duration::from_millis(300);
/// Between two lines of a node that shows itself.
const BLINK: Duration = Duration::from_secs(1);

type Lines = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>>>>;
/// An answer: whole, or lines as they come.
pub(super) type Answer = Response<Either<Full<Bytes>, StreamBody<Lines>>>;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) key: PublicKey,
    pub(super) role: OperatorRole,
    pub(super) peer: String,
}

/// Answers, and writes down that it did.
pub(super) async fn answer(api: Rc<Api>, asker: Asker, request: Request<Incoming>) -> Answer {
    let (method, uri) = (request.method().as_str(), request.uri());
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let line = format!("{method} {}{query}", uri.path());
    let line = crate::outbox::cut(&line, 200).to_owned();
    let call = speaks(&request).and_then(|()| route(method, uri.path(), uri.query()));
    let done = match &call {
        Err(refusal) => Err(refusal.clone()),
        Ok(call) => match may(asker.role, call) {
            Err(refusal) => Err(refusal),
            Ok(()) => api.do_it(*call, &asker).await,
        },
    };
    let answer = done.unwrap_or_else(|refusal| {
        let body = ApiError { error: refusal.text };
        json(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST), &body)
    });
    let Asker { key, role, peer } = &asker;
    let asked = Asked {
        key: *key,
        role: *role,
        peer,
        call: call.ok(),
        line: &line,
        status: answer.status().as_u16(),
    };
    let (now, unix_time) = (api.kernel.since_start(), api.kernel.unix_time());
    let told = api.audit.borrow_mut().asked(now, unix_time, &asked);
    if let Some(told) = told {
        api.told(&told);
    }
    let mut counters = api.counters.get();
    counters.answered += 1;
    api.counters.set(counters);
    answer
}

/// Whether both sides understand each other; who says nothing speaks our version.
fn speaks(request: &Request<Incoming>) -> Result<(), Refusal> {
    let Some(offered) = request.headers().get(version::HEADER) else { return Ok(()) };
    let negotiated = version::negotiate(offered.to_str().unwrap_or_default());
    negotiated.map(drop).map_err(|error| Refusal { status: 400, text: error.to_string() })
}

fn whole(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Strings and numbers always have a JSON form.
    whole(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

fn ok(value: &impl Serialize) -> Result<Answer, Refusal> {
    Ok(json(StatusCode::OK, value))
}

fn broken(what: &str) -> impl Fn(io::Error) -> Refusal {
    move |error| Refusal { status: 500, text: format!("{what} cannot be read: {error}") }
}

impl Api {
    async fn do_it(self: &Rc<Self>, call: Call, asker: &Asker) -> Result<Answer, Refusal> {
        match call {
            Call::Identity => ok(&self.identity(asker)),
            Call::Status => ok(&self.status()),
            Call::Stages => ok(&self.status().stages),
            Call::Logs { lines, follow: false } => ok(&self.reporter.console().ring().last(lines)),
            Call::Logs { lines, follow: true } => self.follow(lines),
            Call::Inventory => ok(&self.facts.inventory),
            Call::Metrics => ok(&self.metrics().await?),
            Call::MetricsText => {
                let text = metrics::prometheus(&self.metrics().await?);
                Ok(whole(StatusCode::OK, "text/plain; version=0.0.4", text.into_bytes()))
            }
            Call::Processes => ok(&self.processes().await?),
            Call::KernelLog { lines } => {
                let log = self.read(move |kernel| kernel_log::last(kernel, lines)).await?;
                ok(&log.map_err(broken("the kernel's log"))?)
            }
            Call::Bundle => ok(&self.bundle(asker).await?),
            Call::Audit => ok(&self.audit.borrow().records()),
            Call::Reboot => self.end(End::Restart, "the machine restarts now"),
            Call::PowerOff => self.end(End::PowerOff, "the machine turns itself off now"),
            Call::Drain => self.wish(Wish::Drain).await,
            Call::Undrain => self.wish(Wish::Undrain).await,
            Call::Identify { seconds } => Ok(self.show(seconds)),
        }
    }

    /// Reads of the kernel on a thread of its own: the machine's loop does not wait for them.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Kernel) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let kernel = self.kernel.clone();
        let done = spawn_blocking(move || read(kernel.as_ref())).await;
        done.map_err(|error| broken("the kernel")(io::Error::other(error)))
    }

    fn identity(&self, asker: &Asker) -> NodeIdentity {
        let config = &self.facts.config;
        NodeIdentity {
            node: self.facts.node,
            name: config.name.clone(),
            chain: config.chain.clone(),
            ownership: config.ownership.clone(),
            you: Operator { key: asker.key, role: asker.role },
        }
    }

    fn status(&self) -> NodeStatus {
        let now = self.kernel.since_start();
        let kernel = text(self.kernel.as_ref(), "/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory = metrics::memory(self.kernel.as_ref());
        let status = self.reporter.status();
        NodeStatus {
            node: self.facts.node,
            name: self.facts.config.name.clone(),
            address: status.address.clone(),
            release: self.facts.release,
            version: status.version.clone().unwrap_or_default(),
            kernel,
            boot_id: self.facts.boot_id,
            health: status.health(PLAN.iter().map(|row| row.stage.name())),
            problem: status.problem().cloned(),
            unix_time: self.kernel.unix_time(),
            uptime_ms: milliseconds(now),
            memory,
            compute: status.compute,
            stages: status.stages(now),
        }
    }

    async fn metrics(&self) -> Result<NodeMetrics, Refusal> {
        let (compute, counters) = (self.reporter.status().compute, self.counters.get());
        self.read(move |kernel| metrics::measure(kernel, compute, counters)).await
    }

    async fn processes(&self) -> Result<NodeProcesses, Refusal> {
        self.read(processes::list).await
    }

    async fn bundle(&self, asker: &Asker) -> Result<Bundle, Refusal> {
        let log = self.read(|kernel| kernel_log::last(kernel, BUNDLE_LINES)).await?;
        Ok(Bundle {
            identity: self.identity(asker),
            status: self.status(),
            inventory: self.facts.inventory.clone(),
            metrics: self.metrics().await?,
            processes: self.processes().await?,
            logs: self.reporter.console().ring().last(ring::MAX_LINES),
            kernel_log: log.map_err(|error| error.to_string()),
            audit: self.audit.borrow().records(),
        })
    }

    /// Lines as they are said, one JSON value a line.
    fn follow(self: &Rc<Self>, lines: usize) -> Result<Answer, Refusal> {
        if self.followers.get() >= MAX_FOLLOWERS {
            let text = format!("{MAX_FOLLOWERS} follow the logs already; try again later");
            return Err(Refusal { status: 503, text });
        }
        let ring = self.reporter.console().ring().clone();
        let first = ring.last(lines);
        let next = first.last().map_or_else(|| ring.next(), |line| line.sequence + 1);
        let state = (Follower::new(self.clone()), ring, next, first);
        let lines = stream::unfold(state, |(follower, ring, mut next, first)| async move {
            let lines = match first.is_empty() {
                false => first,
                true => ring.after(next, BATCH).await,
            };
            next = lines.last().map_or(next, |line| line.sequence + 1);
            let bytes = lines.iter().flat_map(line_of).collect::<Vec<u8>>();
            let state = (follower, ring, next, Vec::new());
            Some((Ok(Frame::data(Bytes::from(bytes))), state))
        });
        let lines: Lines = Box::pin(lines);
        let mut answer = Response::new(Either::Right(StreamBody::new(lines)));
        let kind = HeaderValue::from_static("application/x-ndjson");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(answer)
    }

    /// The answer goes out first.
    fn end(self: &Rc<Self>, end: End, done: &str) -> Result<Answer, Refusal> {
        let wishes = self.wishes.clone();
        spawn_local(async move {
            sleep(PARTING).await;
            let (answer, _) = oneshot::channel();
            let _ = wishes.send(Wished { wish: Wish::End(end), answer }).await;
        });
        Ok(json(StatusCode::ACCEPTED, &Done { done: done.to_owned() }))
    }

    async fn wish(&self, wish: Wish) -> Result<Answer, Refusal> {
        let (answer, answered) = oneshot::channel();
        let sent = self.wishes.send(Wished { wish, answer }).await.is_ok();
        match answered.await {
            Ok(Ok(done)) if sent => Ok(json(StatusCode::ACCEPTED, &Done { done })),
            Ok(Err(text)) => Err(Refusal { status: 409, text }),
            _ => Err(Refusal { status: 503, text: "the machine is ending".to_owned() }),
        }
    }

    /// A line a second on the console, for whoever stands before a row of machines.
    fn show(self: &Rc<Self>, seconds: u64) -> Answer {
        let name = &self.facts.config.name;
        let (api, text) =
            (self.clone(), format!("alia: this machine is {name}, which you look for"));
        if !self.shown.replace(true) {
            spawn_local(async move {
                for _ in 0..seconds {
                    api.reporter.console().line(&text);
                    sleep(BLINK).await;
                }
                api.shown.set(false);
            });
        }
        let done = format!("{name} shows itself on its console for {seconds} s");
        json(StatusCode::ACCEPTED, &Done { done })
    }
}

fn line_of(line: &LogLine) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// A place among those who follow, given back when it is dropped.
struct Follower(Rc<Api>);

impl Follower {
    fn new(api: Rc<Api>) -> Self {
        api.followers.set(api.followers.get() + 1);
        Self(api)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.set(self.0.followers.get() - 1);
    }
}
