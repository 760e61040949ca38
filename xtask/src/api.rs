//! The provisioner's API, tried by schemathesis: what its description allows is taken, what it does
//! not is refused, and no answer is another than it says.

use crate::{python, workspace};
use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Inputs of each operation, beside those that its schema's limits give.
const EXAMPLES: &str = "30";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A machine that is there to be asked for.
const MAC: &str = "52:54:00:aa:00:01";
/// Refusals that the description names, of requests that are well formed: somebody else's key, a state
/// that moved on. One machine is there, and nothing is known of any other.
const CONFIGURATION: &str = "\
[checks.positive_data_acceptance]
expected-statuses = [\"2xx\", \"3xx\", \"401\", \"403\", \"404\", \"409\", \"412\", \"422\"]

[[operations]]
include-path = \"/v1/machines/{mac}/state\"
parameters = { mac = \"52:54:00:aa:00:01\" }
";

/// The provisioner, which ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Installs it, where it is not there.
pub(crate) fn prepare() -> anyhow::Result<()> {
    python::environment("schemathesis", &[SCHEMATHESIS]).map(drop)
}

/// Tries every operation of the API.
pub(crate) fn run() -> anyhow::Result<()> {
    let python = python::environment("schemathesis", &[SCHEMATHESIS])?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let program = workspace::program("provisioner");
    let child = Command::new(&program)
        .args(["serve", "--interface", "lo", "--dhcp", "off", "--http-port", "0"])
        .args(["--https-port", "0", "--database"])
        .arg(folder.path().join("provisioner.sqlite"))
        .stdin(Stdio::null())
        .stdout(File::create(&log)?)
        .stderr(File::create(folder.path().join("errors"))?)
        .spawn()
        .with_context(|| program.display().to_string())?;
    let _server = Server(child);
    let told = started(&log)?;
    let word = |before: &str| {
        let rest = told.split_once(before).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_whitespace().next()).context("it does not say where it is")
    };
    let url = word("page and API")?;
    let token = word("shown this once:")?;
    appear(url)?;
    let configuration = folder.path().join("schemathesis.toml");
    fs::write(&configuration, CONFIGURATION)?;
    let status = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(&configuration)
        .args(["run", &format!("{url}/v1/openapi.json"), "--no-color", "--checks", "all"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // A stream without end; it has tests of its own.
        .args(["--exclude-path", "/v1/events"])
        .args(["--exclude-path", "/v1/machines/{mac}/console/live", "--continue-on-failure"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", EXAMPLES])
        .current_dir(folder.path())
        .status()
        .context("running schemathesis")?;
    if !status.success() {
        bail!("an answer is another than the API's description says");
    }
    Ok(())
}

fn started(log: &Path) -> anyhow::Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let text = fs::read_to_string(log)?;
        if text.contains("\nready") {
            return Ok(text);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the provisioner does not start: {}", fs::read_to_string(log)?)
}

/// Has a machine ask for its boot script, so that there is one.
fn appear(url: &str) -> anyhow::Result<()> {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    let path = format!("/boot/{MAC}.ipxe?arch=x86_64&platform=efi");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.read_to_string(&mut String::new())?;
    Ok(())
}
