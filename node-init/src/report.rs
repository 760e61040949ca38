//! Says what happens: to the console at once, to the provisioner as soon and as often as it takes.

use crate::{
    console::Console,
    crash::Crash,
    http::{self, Base, HttpError, Secured},
    kernel::Kernel,
    mac::Mac,
    outbox::Outbox,
    runner::back_off,
    screen::{self, Screen},
    status::Status,
};
use protocol::{
    Digest,
    boot::{CrashReport, StageState},
};
use std::{
    cell::{Cell, RefCell, RefMut},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Pauses between attempts to deliver events.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// How long it is waited for a certificate to prove with what was said without: a key's approval takes
/// longer, all else does not.
const PROOF: Duration = Duration::from_secs(300);

/// Where everything that happens is told.
pub struct Reporter {
    kernel: Arc<dyn Kernel>,
    console: Console,
    outbox: RefCell<Outbox>,
    status: RefCell<Status>,
    screen: Option<Screen>,
    /// How the provisioner is spoken to, once it took the node in.
    secured: RefCell<Option<Secured>>,
    /// Something new is in the outbox.
    news: Notify,
    /// The outbox was emptied.
    delivered: Notify,
    /// Whether it knows of no TLS with nodes.
    plain: Cell<bool>,
    /// How it is spoken to has changed.
    known: Notify,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The stage, or another part of PID 1.
    pub stage: &'a str,
    /// What became of it.
    pub state: StageState,
    /// How long it took, where that means something.
    pub took: Option<Duration>,
    /// For people.
    pub detail: &'a str,
    /// Whether the console shows it too.
    pub shown: bool,
}

impl Reporter {
    /// A reporter for this boot.
    pub fn new(kernel: Arc<dyn Kernel>, console: Console, outbox: Outbox) -> Self {
        let (news, delivered, known) = (Notify::new(), Notify::new(), Notify::new());
        let (outbox, status) = (RefCell::new(outbox), RefCell::default());
        let (secured, plain) = (RefCell::default(), Cell::new(false));
        Self {
            kernel,
            console,
            outbox,
            status,
            screen: None,
            secured,
            plain,
            news,
            delivered,
            known,
        }
    }

    /// Tells a display too.
    pub fn with_screen(self, screen: Screen) -> Self {
        Self { screen: Some(screen), ..self }
    }

    /// Tells the display alone something of the machine.
    pub fn know(&self, change: impl FnOnce(&mut screen::Status)) {
        if let Some(screen) = &self.screen {
            screen.know(change);
        }
    }

    /// The console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// How the node is; not to be held across an await.
    pub fn status(&self) -> RefMut<'_, Status> {
        self.status.borrow_mut()
    }

    /// Tells people and the provisioner.
    pub fn say(&self, report: &Report<'_>) {
        let now = self.kernel.since_start();
        if report.shown {
            self.console.line(&line(now, report));
        }
        let Report { stage, state, took, detail, .. } = *report;
        self.status().reported(now, stage, state, took, detail);
        self.know(|status| status.saw(stage, state, detail));
        self.outbox.borrow_mut().push(report.stage, report.state, now, report.detail);
        self.news.notify_one();
    }

    /// Tells people alone.
    fn show(&self, state: StageState, detail: &str) {
        let report = Report { stage: "events", state, took: None, detail, shown: true };
        self.console.line(&line(self.kernel.since_start(), &report));
    }

    /// Has the provisioner spoken to by TLS from now on; or plainly, where it knows of nothing else.
    pub fn speak_by(&self, secured: Option<Secured>) {
        self.plain.set(secured.is_none());
        *self.secured.borrow_mut() = secured;
        self.known.notify_waiters();
    }

    /// Whether it is spoken to plainly only because there is no certificate yet.
    fn waits_for_tls(&self) -> bool {
        self.secured().is_none() && !self.plain.get()
    }

    /// Waits for a while, or until the provisioner is spoken to by TLS.
    async fn until_known(&self, most: Duration) {
        let known = self.known.notified();
        if self.waits_for_tls() {
            let _ = timeout(most, known).await;
        }
    }

    /// How the provisioner is spoken to by TLS, once it took the node in.
    pub fn secured(&self) -> Option<Secured> {
        self.secured.borrow().clone()
    }

    /// Posts to the provisioner as it is spoken to now.
    async fn post(&self, provisioner: &Base, path: &str, body: Vec<u8>) -> Result<(), HttpError> {
        http::post_by(provisioner, self.secured().as_ref(), path, body).await.map(drop)
    }

    /// Delivers events for as long as the machine runs.
    pub async fn deliver(&self, provisioner: &Base, mac: Mac) {
        let path = format!("/v1/machines/{mac}/events");
        let mut failures = 0;
        loop {
            let report = self.outbox.borrow().report();
            if report.is_empty() {
                self.delivered.notify_waiters();
                self.news.notified().await;
                continue;
            }
            let Ok(body) = serde_json::to_vec(&report) else {
                // Strings and numbers always have a JSON form; a bug must not stop the rest.
                self.outbox.borrow_mut().acknowledge(&report);
                continue;
            };
            let by_tls = self.secured().is_some();
            match self.post(provisioner, &path, body).await {
                Ok(_) => {
                    self.outbox.borrow_mut().acknowledge(&report);
                    if failures > 0 {
                        self.show(StageState::Done, &format!("{provisioner} takes events again"));
                    }
                    failures = 0;
                }
                Err(HttpError::Refused { status: 400 | 413 | 422, reason, .. }) => {
                    // The same report would be refused for ever, and all after it be held up.
                    self.outbox.borrow_mut().acknowledge(&report);
                    let count = report.len();
                    let detail = format!(
                        "{provisioner} refused {count} events as malformed ({reason}): dropped"
                    );
                    self.show(StageState::Failed, &detail);
                }
                // Once it took this boot in, it hears of it by our certificate alone.
                Err(HttpError::Refused { status: 403, .. }) if !by_tls && !self.plain.get() => {
                    self.until_known(MOST_PAUSE).await;
                }
                Err(error) => {
                    failures += 1;
                    let pause = back_off(FIRST_PAUSE, MOST_PAUSE, failures);
                    let detail = format!("{error}; sent again in {} s", pause.as_secs());
                    self.show(StageState::Retrying, &detail);
                    sleep(pause).await;
                }
            }
        }
    }

    /// Delivers the log of a kernel that died, however long it takes; says what became of it. An error
    /// is a provisioner that does not want it.
    ///
    /// Said plainly, anybody could have said it, and strangers' make room for it and take that room
    /// again. So it is said at once, for a machine that may die again soon, and once more by TLS: only
    /// where that does not come within five minutes the first will do.
    pub async fn deliver_crash(
        &self,
        provisioner: &Base,
        mac: Mac,
        boot_id: Digest,
        crash: &Crash,
    ) -> Result<String, String> {
        let path = format!("/v1/machines/{mac}/crashes");
        let report =
            CrashReport { boot_id, reason: crash.reason.clone(), text: crash.text.clone() };
        let bytes = report.text.len();
        // Strings always have a JSON form.
        let body = serde_json::to_vec(&report).unwrap_or_default();
        let (mut failures, mut waited) = (0, false);
        loop {
            let by_tls = self.secured().is_some();
            match self.post(provisioner, &path, body.clone()).await {
                Ok(_) if by_tls || waited => {
                    return Ok(format!("{provisioner} has its log of {bytes} bytes"));
                }
                Ok(_) => {
                    self.until_known(PROOF).await;
                    waited = true;
                    if self.secured().is_none() {
                        let told = "has its log, and nothing proves to it that it is ours";
                        return Ok(format!("{provisioner} {told}"));
                    }
                }
                Err(HttpError::Refused { status: 403, .. }) if !by_tls && !self.plain.get() => {
                    self.until_known(MOST_PAUSE).await;
                }
                Err(HttpError::Refused { status: 400 | 413 | 422, reason, .. }) => {
                    return Err(format!("{provisioner} refused its log ({reason}): kept here"));
                }
                Err(_) => {
                    // Events say that the provisioner is away.
                    failures += 1;
                    sleep(back_off(FIRST_PAUSE, MOST_PAUSE, failures)).await;
                }
            }
        }
    }

    /// Waits until all events are delivered.
    pub async fn all_delivered(&self) {
        loop {
            let delivered = self.delivered.notified();
            if self.outbox.borrow().is_empty() {
                return;
            }
            delivered.await;
        }
    }
}

/// `alia 3.214s network done 0.412s eth0 10.1.2.3/24 by DHCP from 10.1.2.1`.
fn line(now: Duration, report: &Report<'_>) -> String {
    let state = match report.state {
        StageState::Started => "started",
        StageState::Done => "done",
        StageState::Retrying => "retrying",
        StageState::Failed => "failed",
    };
    let took = report.took.map(|took| format!(" {:.3}s", took.as_secs_f64())).unwrap_or_default();
    let space = if report.detail.is_empty() { "" } else { " " };
    let at = now.as_secs_f64();
    format!("alia {at:.3}s {} {state}{took}{space}{}", report.stage, report.detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{console::tests::Screen, kernel::fake::Fake};
    use protocol::boot::BootEvent;
    use std::rc::Rc;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::LocalSet,
    };

    fn reporter() -> (Rc<Reporter>, Screen) {
        let screen = Screen::default();
        let kernel = Arc::new(Fake::new(&[]));
        let outbox = Outbox::new(Digest([1; 32]));
        let console = Console::start(screen.clone());
        (Rc::new(Reporter::new(kernel, console, outbox)), screen)
    }

    fn say(reporter: &Reporter, detail: &str) {
        let (stage, state) = ("network", StageState::Done);
        reporter.say(&Report { stage, state, took: None, detail, shown: true });
    }

    /// Takes one report, answers with a status, and gives the events in it.
    async fn take(listener: &TcpListener, status: &str) -> Vec<BootEvent> {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            request.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                assert!(head.starts_with("POST /v1/machines/02:02:02:02:02:02/events "), "{head}");
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                return serde_json::from_str(body).unwrap();
            }
        }
    }

    #[test]
    fn a_line_says_when_what_and_how_long() {
        let report = Report {
            stage: "network",
            state: StageState::Done,
            took: Some(Duration::from_millis(412)),
            detail: "eth0 10.1.2.3/24",
            shown: true,
        };
        let now = Duration::from_millis(3214);
        assert_eq!(line(now, &report), "alia 3.214s network done 0.412s eth0 10.1.2.3/24");
        let report = Report { took: None, detail: "", ..report };
        assert_eq!(line(now, &report), "alia 3.214s network done");
    }

    #[tokio::test]
    async fn events_are_sent_again_until_they_are_acknowledged() {
        let (reporter, screen) = reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        say(&reporter, "one");
        let local = LocalSet::new();
        let sender = reporter.clone();
        local.spawn_local(async move { sender.deliver(&base, Mac([2; 6])).await });
        local
            .run_until(async {
                let first = take(&listener, "503 Away").await;
                assert_eq!(first[0].detail, "one");
                say(&reporter, "two");
                let second = take(&listener, "204 No Content").await;
                let details: Vec<_> = second.iter().map(|event| event.detail.as_str()).collect();
                assert_eq!(details, ["one", "two"]);
                reporter.all_delivered().await;
                say(&reporter, "three");
                assert_eq!(take(&listener, "200 OK").await[0].sequence, 2);
                reporter.all_delivered().await;
            })
            .await;
        reporter.console.flush(Duration::from_secs(5));
        let text = screen.text();
        assert!(text.contains("events retrying") && text.contains("refused with 503"), "{text}");
        assert!(text.contains("takes events again"), "{text}");
    }

    #[tokio::test]
    async fn a_report_that_is_malformed_to_the_provisioner_holds_nothing_up() {
        let (reporter, _) = reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        say(&reporter, "one");
        let local = LocalSet::new();
        let sender = reporter.clone();
        local.spawn_local(async move { sender.deliver(&base, Mac([2; 6])).await });
        local
            .run_until(async {
                take(&listener, "422 No").await;
                reporter.all_delivered().await;
                say(&reporter, "two");
                assert_eq!(take(&listener, "200 OK").await[0].detail, "two");
            })
            .await;
    }

    #[tokio::test]
    async fn what_is_wanted_by_tls_alone_waits_for_the_certificate_and_goes_by_it_at_once() {
        let (reporter, screen) = reporter();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        say(&reporter, "one");
        let local = LocalSet::new();
        let sender = reporter.clone();
        local.spawn_local(async move { sender.deliver(&base, Mac([2; 6])).await });
        let known = reporter.clone();
        local
            .run_until(async {
                take(&listener, "403 Forbidden").await;
                let again = timeout(Duration::from_millis(1_500), listener.accept()).await;
                assert!(again.is_err(), "it asks no more without a certificate");
                let key = protocol::SecretKey::from_seed([3; 32]);
                let config = mtls::client_of_nobody(key.public()).unwrap();
                let port = listener.local_addr().unwrap().port();
                known.speak_by(Some(Secured { config: Arc::new(config), port }));
                let (mut stream, _) =
                    timeout(Duration::from_secs(5), listener.accept()).await.unwrap().unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), 22, "a handshake of TLS");
                assert!(!known.outbox.borrow().is_empty(), "nothing was dropped");
            })
            .await;
        reporter.console.flush(Duration::from_secs(5));
        assert!(!screen.text().contains("retrying"), "{}", screen.text());
    }
}
