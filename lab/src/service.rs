//! A child process with a log, a way to know that it is ready, and ways to end it.

use crate::{
    console::{Console, Line, NoLine},
    error::{At, Error},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    ffi::OsString,
    io::{Read, Write, pipe},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How often a service is asked whether it is ready, or has ended.
const POLL: Duration = Duration::from_millis(50);
/// How long one such question may take.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// How a service shows that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// By running.
    AtOnce,
    /// By taking a connection.
    Tcp(SocketAddr),
    /// By answering `GET path` with status 200.
    Http(SocketAddr, String),
    /// By printing a line that contains this.
    Line(String),
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name, and its log's.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment to add.
    pub environment: Vec<(String, String)>,
    /// The folder of its log, `NAME.log`, and its working directory; made when it is not there.
    pub folder: PathBuf,
    /// How to know that it is ready.
    pub ready: Ready,
    /// The network namespace to run in, by its name for `ip netns`; `None` for ours.
    pub namespace: Option<String>,
    /// How much processor time it leaves to others: 0 none, 19 nearly all.
    pub nice: u8,
}

impl ServiceSpec {
    /// A service that is ready at once.
    pub fn new(name: &str, program: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: folder.into(),
            ready: Ready::AtOnce,
            namespace: None,
            nice: 0,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Says how it shows that it is ready.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }

    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(namespace) = &self.namespace {
            words.push("nsenter".into());
            words.push(format!("--net=/run/netns/{namespace}").into());
            words.push("--".into());
        }
        if self.nice > 0 {
            words.extend(["nice".into(), "-n".into(), self.nice.to_string().into()]);
        }
        words.push(self.program.clone().into());
        // `nsenter` and `nice` become the program: one process, whose id is ours.
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A group of its own: Ctrl-C at the terminal is for the program that runs the bed.
        command.current_dir(&self.folder).process_group(0).stdin(Stdio::null());
        command
    }
}

/// A running child process. Dropping it kills it.
pub struct Service {
    spec: ServiceSpec,
    child: Child,
    console: Console,
    started: Instant,
    status: Option<ExitStatus>,
}

impl Service {
    /// Starts it; does not wait until it is ready.
    pub fn start(spec: ServiceSpec) -> Result<Self, Error> {
        std::fs::create_dir_all(&spec.folder).at(spec.folder.display())?;
        let console = Console::new(&spec.folder.join(format!("{}.log", spec.name)))?;
        let started = Instant::now();
        let child = spawn(&spec, &console, started)?;
        Ok(Self { spec, child, console, started, status: None })
    }

    /// Starts it and waits until it is ready.
    pub fn start_ready(spec: ServiceSpec, limit: Duration) -> Result<Self, Error> {
        let mut service = Self::start(spec)?;
        service.wait_ready(limit)?;
        Ok(service)
    }

    /// What it was started from.
    pub fn spec(&self) -> &ServiceSpec {
        &self.spec
    }

    /// What it prints.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// When it was first started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// An error if it has ended: for those who wait for something from it.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(self.ended_error(status.to_string())),
        }
    }

    fn ended_error(&self, status: String) -> Error {
        // Its last words may still be on their way through the pipe.
        let _ = self.console.wait_from(usize::MAX, |_| false, Duration::from_millis(500));
        Error::Ended {
            name: self.spec.name.clone(),
            status,
            log: self.console.log().into(),
            tail: self.console.tail(),
        }
    }

    fn too_late(&self, what: &str, limit: Duration) -> Error {
        Error::TooLate {
            name: self.spec.name.clone(),
            what: what.into(),
            limit,
            log: self.console.log().into(),
            tail: self.console.tail(),
        }
    }

    /// Waits until it is ready; an error once it has ended or the time is up.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), Error> {
        let end = Instant::now() + limit;
        let ready = self.spec.ready.clone();
        loop {
            self.check()?;
            let is_ready = match &ready {
                Ready::AtOnce => true,
                Ready::Tcp(address) => TcpStream::connect_timeout(address, ASK_LIMIT).is_ok(),
                Ready::Http(address, path) => http_get(*address, path).is_some_and(|s| s == 200),
                Ready::Line(text) => self.console.wait(text, POLL).is_ok(),
            };
            if is_ready {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.too_late("readiness", limit));
            }
            sleep(POLL);
        }
    }

    /// Waits for a line that contains `text`, from `mark` on.
    pub fn wait_line(&mut self, mark: usize, text: &str, limit: Duration) -> Result<Line, Error> {
        self.wait_for(mark, &format!("{text:?}"), |line| line.contains(text), limit)
    }

    /// Waits for a line that `wanted` accepts, which is shown each line from `mark` on once, as it
    /// comes. `what` names the line in an error.
    pub fn wait_for(
        &mut self,
        mark: usize,
        what: &str,
        wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<Line, Error> {
        match self.console.wait_from(mark, wanted, limit) {
            Ok(line) => Ok(line),
            Err(NoLine::TooLate) => Err(self.too_late(what, limit)),
            Err(NoLine::Closed) => {
                let status = match self.wait_ended(ASK_LIMIT) {
                    Some(status) => status.to_string(),
                    None => "it closed its output".into(),
                };
                Err(self.ended_error(status))
            }
        }
    }

    /// Waits until it has ended by itself.
    pub fn wait_ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            sleep(POLL.min(limit));
        }
    }

    /// Sends a signal to it and its children.
    pub fn signal(&mut self, signal: Signal) {
        // Once it was waited for its id may be another's.
        if self.ended().is_none()
            && let Ok(id) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
    }

    /// Asks it to end (SIGTERM); kills it when it has not within `grace`. Gives its exit status.
    pub fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        if self.wait_ended(grace).is_none() {
            self.kill();
        }
        self.status
    }

    /// Starts it again, after it has ended or been killed. Its console and log go on.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.kill();
        self.child = spawn(&self.spec, &self.console, self.started)?;
        self.status = None;
        Ok(())
    }

    /// Changes how much processor time it leaves to others, from now on. Only upwards, unless root.
    pub fn renice(&mut self, nice: u8) -> Result<(), Error> {
        self.spec.nice = nice;
        // By group: of a process alone only its first thread would be changed.
        let output = Command::new("renice")
            .args(["-n", &nice.to_string(), "-g", &self.child.id().to_string()])
            .output()
            .at("renice")?;
        if output.status.success() {
            return Ok(());
        }
        let detail = String::from_utf8_lossy(&output.stderr).trim().to_string();
        Err(Error::Tool { tool: "renice", detail })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(spec: &ServiceSpec, console: &Console, since: Instant) -> Result<Child, Error> {
    let (reader, writer) = pipe().at("a pipe")?;
    let errors = writer.try_clone().at("a pipe")?;
    let child = spec.command().stdout(writer).stderr(errors).spawn().map_err(|source| {
        Error::Spawn { name: spec.name.clone(), program: spec.program.clone(), source }
    })?;
    console.follow(reader, since)?;
    Ok(child)
}

/// The status of `GET path`, or `None` when there is no answer.
pub fn http_get(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ASK_LIMIT).ok()?;
    stream.set_read_timeout(Some(ASK_LIMIT)).ok()?;
    // At once: who answers and closes after the first piece would reset the rest.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    // "HTTP/1.1 200"
    std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(name: &str, script: &str) -> (tempfile::TempDir, ServiceSpec) {
        let folder = tempfile::tempdir().unwrap();
        let spec = ServiceSpec::new(name, "sh", folder.path()).args(["-c", script]);
        (folder, spec)
    }

    #[test]
    fn a_service_is_ready_by_its_line_and_its_log_survives_a_restart() {
        let (folder, spec) = shell("clock", "echo up $$; sleep 60");
        let mut service =
            Service::start_ready(spec.ready(Ready::Line("up".into())), LIMIT).unwrap();
        let first = service.id();
        let mark = service.console().mark();
        service.kill();
        assert!(service.check().unwrap_err().to_string().contains("clock.log"));
        service.restart().unwrap();
        service.wait_line(mark, "up", LIMIT).unwrap();
        assert_ne!(service.id(), first);
        assert_eq!(
            std::fs::read_to_string(folder.path().join("clock.log")).unwrap().lines().count(),
            2
        );
    }

    #[test]
    fn a_service_that_ends_is_an_error_with_its_last_words() {
        let (_folder, spec) = shell("broken", "echo no such chain >&2; exit 4");
        let error =
            Service::start_ready(spec.ready(Ready::Line("up".into())), LIMIT).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("no such chain") && text.contains("4"), "{text}");
    }

    #[test]
    fn a_service_that_does_not_end_when_asked_is_killed_with_its_children() {
        let (_folder, spec) = shell("stubborn", "trap '' TERM; echo up; sleep 60 & wait; sleep 60");
        let mut service =
            Service::start_ready(spec.ready(Ready::Line("up".into())), LIMIT).unwrap();
        let status = service.stop(Duration::from_millis(200)).unwrap();
        assert!(!status.success());
        // All that held the pipe is gone, so the console came to its end.
        assert_eq!(service.console().wait("never", LIMIT), Err(NoLine::Closed));
    }

    #[test]
    fn a_service_gives_way_to_others_from_the_start_and_later_on() {
        let (_folder, mut spec) = shell("polite", "echo up; sleep 60");
        spec.nice = 5;
        let mut service =
            Service::start_ready(spec.ready(Ready::Line("up".into())), LIMIT).unwrap();
        let nice = |service: &Service| -> i32 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.id())).unwrap();
            // proc(5): the 19th field; the second one, in brackets, has no space here.
            stat.split_whitespace().nth(18).unwrap().parse().unwrap()
        };
        let before = nice(&service);
        service.renice(15).unwrap();
        assert_eq!(nice(&service), 15);
        assert!(before >= 5);
    }

    #[test]
    fn a_service_that_is_not_ready_in_time_is_an_error() {
        let (_folder, spec) = shell("slow", "sleep 60");
        let spec = spec.ready(Ready::Tcp("127.0.0.1:9".parse().unwrap()));
        let error = Service::start_ready(spec, Duration::from_millis(200)).err().unwrap();
        assert!(matches!(error, Error::TooLate { .. }), "{error}");
    }

    #[test]
    fn an_http_status_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut request = [0; 256];
                let _ = client.read(&mut request);
                let _ = client.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
            }
        });
        assert_eq!(http_get(address, "/"), Some(404));
        assert_eq!(http_get("127.0.0.1:9".parse().unwrap(), "/"), None);
    }
}
